//! The Lambda binary `hawser-authorize`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::HAWSER_AUTHORIZE.run()
}
