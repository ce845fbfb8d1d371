//! The Lambda binary `kambrium-update-connection`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::KAMBRIUM_UPDATE_CONNECTION.run()
}
