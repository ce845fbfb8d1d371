//! The Lambda binary `truefoundry-delete-server`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::TRUEFOUNDRY_DELETE_SERVER.run()
}
