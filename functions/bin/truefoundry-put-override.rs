//! The Lambda binary `truefoundry-put-override`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::TRUEFOUNDRY_PUT_OVERRIDE.run()
}
