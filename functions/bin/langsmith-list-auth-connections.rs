//! The Lambda binary `langsmith-list-auth-connections`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::LANGSMITH_LIST_AUTH_CONNECTIONS.run()
}
