//! The Lambda binary `langsmith-register-provider`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::LANGSMITH_REGISTER_PROVIDER.run()
}
