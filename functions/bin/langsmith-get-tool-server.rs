//! The Lambda binary `langsmith-get-tool-server`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::LANGSMITH_GET_TOOL_SERVER.run()
}
