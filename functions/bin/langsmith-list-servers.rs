//! The Lambda binary `langsmith-list-servers`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::LANGSMITH_LIST_SERVERS.run()
}
