//! The Lambda binary `hawser-issue-token`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::HAWSER_ISSUE_TOKEN.run()
}
