//! The Lambda binary `workers-purge`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::workers::purge::run()
}
