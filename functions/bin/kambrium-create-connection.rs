//! The Lambda binary `kambrium-create-connection`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::KAMBRIUM_CREATE_CONNECTION.run()
}
