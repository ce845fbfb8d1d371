//! The Lambda binary `truefoundry-get-cli-version`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::TRUEFOUNDRY_GET_CLI_VERSION.run()
}
