//! The Lambda binary `hawser-register-application`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::HAWSER_REGISTER_APPLICATION.run()
}
