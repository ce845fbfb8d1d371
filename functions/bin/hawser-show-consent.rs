//! The Lambda binary `hawser-show-consent`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::HAWSER_SHOW_CONSENT.run()
}
