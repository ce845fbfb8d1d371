//! The Lambda binary `langsmith-resolve-principal`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::LANGSMITH_RESOLVE_PRINCIPAL.run()
}
