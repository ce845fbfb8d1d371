//! The Lambda binary `langsmith-list-tools`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::LANGSMITH_LIST_TOOLS.run()
}
