//! The Lambda binary `langsmith-delete-tool-server`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::LANGSMITH_DELETE_TOOL_SERVER.run()
}
