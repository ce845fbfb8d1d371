//! The Lambda binary `langsmith-create-tool-server`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::LANGSMITH_CREATE_TOOL_SERVER.run()
}
