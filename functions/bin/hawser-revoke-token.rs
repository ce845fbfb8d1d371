//! The Lambda binary `hawser-revoke-token`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::HAWSER_REVOKE_TOKEN.run()
}
