//! The Lambda binary `workers-sweep`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::workers::sweep::run()
}
