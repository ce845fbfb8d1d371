//! The Lambda binary `kambrium-list-integrations`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::KAMBRIUM_LIST_INTEGRATIONS.run()
}
