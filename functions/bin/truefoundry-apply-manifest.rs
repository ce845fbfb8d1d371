//! The Lambda binary `truefoundry-apply-manifest`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::TRUEFOUNDRY_APPLY_MANIFEST.run()
}
