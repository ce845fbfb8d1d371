//! The Lambda binary `truefoundry-get-tenant`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::TRUEFOUNDRY_GET_TENANT.run()
}
