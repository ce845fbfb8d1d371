//! The Lambda binary `hawser-finish-consent`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::HAWSER_FINISH_CONSENT.run()
}
