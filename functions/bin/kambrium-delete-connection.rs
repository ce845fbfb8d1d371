//! The Lambda binary `kambrium-delete-connection`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::KAMBRIUM_DELETE_CONNECTION.run()
}
