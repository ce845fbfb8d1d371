//! The Lambda binary `truefoundry-put-server`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::TRUEFOUNDRY_PUT_SERVER.run()
}
