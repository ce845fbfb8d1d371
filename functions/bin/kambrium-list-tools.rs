//! The Lambda binary `kambrium-list-tools`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::KAMBRIUM_LIST_TOOLS.run()
}
