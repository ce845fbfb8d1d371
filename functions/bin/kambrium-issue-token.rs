//! The Lambda binary `kambrium-issue-token`.

fn main() -> Result<(), lambda_http::Error> {
    hawser_functions::KAMBRIUM_ISSUE_TOKEN.run()
}
