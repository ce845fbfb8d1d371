//! The Lambda binary `hawser-start-consent`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::HAWSER_START_CONSENT.run()
}
