//! The Lambda binary `workers-chain`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::workers::chain::run()
}
