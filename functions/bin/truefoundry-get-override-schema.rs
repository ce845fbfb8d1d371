//! The Lambda binary `truefoundry-get-override-schema`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::TRUEFOUNDRY_GET_OVERRIDE_SCHEMA.run()
}
