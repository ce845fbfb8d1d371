//! The Lambda binary `hawser-authorization-server`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::HAWSER_AUTHORIZATION_SERVER.run()
}
