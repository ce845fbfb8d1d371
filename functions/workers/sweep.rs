//! Works off whatever is due, on a schedule: what the stream's worker could not finish, or was never told of.

use hawser_core::App;
use hawser_core::operations::trail;
use hawser_core::operations::work::work_off_all;
use lambda_http::Error;
use serde_json::{Value, json};

/// Runs as the Lambda function `workers-sweep`.
///
/// # Errors
/// A configuration that cannot work; whatever the runtime reports.
pub fn run() -> Result<(), Error> {
    super::run(handle)
}

/// Goes on until nothing is due and no event waits to be chained.
///
/// # Errors
/// The first failure; the rest stays due.
pub async fn handle(app: &App, _event: Value) -> Result<Value, Error> {
    // Issuers may take what time there is.
    let chained = trail::chain_all(app).await;
    work_off_all(app).await?;
    chained?;
    Ok(json!({}))
}
