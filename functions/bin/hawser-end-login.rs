//! The Lambda binary `hawser-end-login`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::HAWSER_END_LOGIN.run()
}
