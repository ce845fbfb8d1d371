//! The Lambda binary `kambrium-list-connections`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::KAMBRIUM_LIST_CONNECTIONS.run()
}
