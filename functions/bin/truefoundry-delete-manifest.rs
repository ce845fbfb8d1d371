//! The Lambda binary `truefoundry-delete-manifest`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::TRUEFOUNDRY_DELETE_MANIFEST.run()
}
