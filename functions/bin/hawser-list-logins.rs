//! The Lambda binary `hawser-list-logins`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::HAWSER_LIST_LOGINS.run()
}
