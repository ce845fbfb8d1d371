//! The Lambda binary `langsmith-list-tool-servers`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::LANGSMITH_LIST_TOOL_SERVERS.run()
}
