//! The Lambda binary `hawser-invoke`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::HAWSER_INVOKE.run()
}
