//! The Lambda binary `truefoundry-get-server`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::TRUEFOUNDRY_GET_SERVER.run()
}
