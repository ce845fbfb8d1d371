//! The Lambda binary `kambrium-finish-consent`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::KAMBRIUM_FINISH_CONSENT.run()
}
