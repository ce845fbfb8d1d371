//! The Lambda binary `langsmith-call-tool-server`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::LANGSMITH_CALL_TOOL_SERVER.run()
}
