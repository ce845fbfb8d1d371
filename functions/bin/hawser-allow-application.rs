//! The Lambda binary `hawser-allow-application`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::HAWSER_ALLOW_APPLICATION.run()
}
