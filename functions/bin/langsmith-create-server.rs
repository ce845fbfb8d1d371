//! The Lambda binary `langsmith-create-server`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::LANGSMITH_CREATE_SERVER.run()
}
