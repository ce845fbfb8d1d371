//! The Lambda binary `langsmith-get-server`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::LANGSMITH_GET_SERVER.run()
}
