//! The Lambda binary `langsmith-delete-server`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::LANGSMITH_DELETE_SERVER.run()
}
