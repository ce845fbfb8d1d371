//! The Lambda binary `truefoundry-list-servers`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::TRUEFOUNDRY_LIST_SERVERS.run()
}
