//! The Lambda binary `hawser-protected-resource`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::HAWSER_PROTECTED_RESOURCE.run()
}
