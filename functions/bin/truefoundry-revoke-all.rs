//! The Lambda binary `truefoundry-revoke-all`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::TRUEFOUNDRY_REVOKE_ALL.run()
}
