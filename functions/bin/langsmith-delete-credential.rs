//! The Lambda binary `langsmith-delete-credential`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::LANGSMITH_DELETE_CREDENTIAL.run()
}
