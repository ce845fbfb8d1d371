//! The Lambda binary `hawser-list-receipts`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::HAWSER_LIST_RECEIPTS.run()
}
