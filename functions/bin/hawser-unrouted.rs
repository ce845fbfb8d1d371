//! The Lambda binary `hawser-unrouted`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::HAWSER_UNROUTED.run()
}
