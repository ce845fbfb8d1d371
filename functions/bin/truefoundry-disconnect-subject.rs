//! The Lambda binary `truefoundry-disconnect-subject`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::TRUEFOUNDRY_DISCONNECT_SUBJECT.run()
}
