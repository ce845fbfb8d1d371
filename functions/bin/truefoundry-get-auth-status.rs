//! The Lambda binary `truefoundry-get-auth-status`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::TRUEFOUNDRY_GET_AUTH_STATUS.run()
}
