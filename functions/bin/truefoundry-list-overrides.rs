//! The Lambda binary `truefoundry-list-overrides`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::TRUEFOUNDRY_LIST_OVERRIDES.run()
}
