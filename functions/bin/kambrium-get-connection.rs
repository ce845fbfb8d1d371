//! The Lambda binary `kambrium-get-connection`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::KAMBRIUM_GET_CONNECTION.run()
}
