//! The Lambda binary `workers-audit`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::workers::audit::run()
}
