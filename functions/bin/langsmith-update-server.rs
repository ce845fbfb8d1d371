//! The Lambda binary `langsmith-update-server`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::LANGSMITH_UPDATE_SERVER.run()
}
