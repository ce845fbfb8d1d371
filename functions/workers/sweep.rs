//! Works off whatever is due, on a schedule: what the stream's worker could not finish, or was never told of.

use hawser_core::App;
use hawser_core::operations::trail::chain_all;
use hawser_core::operations::work::work_off_all;
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

/// Goes on until nothing is due and no event waits to be chained, or the time is over.
///
/// # Errors
/// The first failure; the rest stays due.
pub async fn handle(app: &App, _event: Value, until: Instant) -> Result<Value, Error> {
    let (worked, chained) = tokio::join!(work_off_all(app, until), chain_all(app, until));
    worked?;
    chained?;
    Ok(json!({}))
}
