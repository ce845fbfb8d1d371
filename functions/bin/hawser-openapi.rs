//! The Lambda binary `hawser-openapi`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::HAWSER_OPENAPI.run()
}
