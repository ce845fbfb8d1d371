//! The Lambda binary `hawser-get-receipt`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::HAWSER_GET_RECEIPT.run()
}
