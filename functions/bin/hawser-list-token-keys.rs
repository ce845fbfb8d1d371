//! The Lambda binary `hawser-list-token-keys`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::HAWSER_LIST_TOKEN_KEYS.run()
}
