//! The Lambda binary `truefoundry-authorize`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::TRUEFOUNDRY_AUTHORIZE.run()
}
