//! The Lambda binary `hawser-finish-sign-in`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::HAWSER_FINISH_SIGN_IN.run()
}
