//! The Lambda binary `hawser-list-events`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::HAWSER_LIST_EVENTS.run()
}
