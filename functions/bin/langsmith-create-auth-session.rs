//! The Lambda binary `langsmith-create-auth-session`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::LANGSMITH_CREATE_AUTH_SESSION.run()
}
