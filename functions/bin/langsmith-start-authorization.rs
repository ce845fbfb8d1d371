//! The Lambda binary `langsmith-start-authorization`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::LANGSMITH_START_AUTHORIZATION.run()
}
