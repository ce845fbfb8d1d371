//! The Lambda binary `hawser-offboard-subject`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::HAWSER_OFFBOARD_SUBJECT.run()
}
