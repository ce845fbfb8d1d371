//! The Lambda binary `hawser-client-metadata`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::HAWSER_CLIENT_METADATA.run()
}
