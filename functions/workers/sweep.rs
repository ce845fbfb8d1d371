//! Processes due work on a schedule: what the stream's worker did not finish or did not receive.

use hawser_core::App;
use hawser_core::operations::audit_log::chain_all;
use hawser_core::operations::scheduler::process_all;
use lambda_http::Error;
use serde_json::{Value, json};
use tokio::time::Instant;

/// Runs as the Lambda function `workers-sweep`.
///
/// # Errors
/// A configuration that cannot work; whatever the runtime reports.
pub fn run() -> Result<(), Error> {
    super::run(handle)
}

/// Works until nothing is due and no event waits to be chained, or until the deadline.
///
/// # Errors
/// The first failure. The rest stays due.
pub async fn handle(app: &App, _event: Value, until: Instant) -> Result<Value, Error> {
    let (worked, chained) = tokio::join!(process_all(app, until), chain_all(app, until));
    worked?;
    chained?;
    Ok(json!({}))
}
