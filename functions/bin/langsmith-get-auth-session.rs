//! The Lambda binary `langsmith-get-auth-session`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::LANGSMITH_GET_AUTH_SESSION.run()
}
