//! Works off whatever is due at once - tombstones, sweeps, offboardings, revocations - as the table's stream reports them. Deliveries may come twice, late or out of order:
//! each only says that there is work, and what there is to do is read from the table.

use hawser_core::App;
use hawser_core::operations::work::work_off;
use hawser_core::table::work::Work;
use lambda_http::Error;
use serde_json::{Value, json};
use tracing::error;

/// Runs as the Lambda function `workers-purge`.
///
/// # Errors
/// A configuration that cannot work; whatever the runtime reports.
pub fn run() -> Result<(), Error> {
    super::run(handle)
}

/// Answers with the first record that could not be worked off; the stream delivers from there again.
///
/// # Errors
/// None: failures are reported record by record.
pub async fn handle(app: &App, event: Value) -> Result<Value, Error> {
    for record in event["Records"].as_array().into_iter().flatten() {
        let Some(work) = Work::from_image(&record["dynamodb"]["NewImage"]) else {
            continue;
        };
        if let Err(cause) = work_off(app, &work).await {
            error!(%cause, "work from the stream is unfinished");
            let at = &record["dynamodb"]["SequenceNumber"];
            return Ok(json!({"batchItemFailures": [{"itemIdentifier": at}]}));
        }
    }
    Ok(json!({"batchItemFailures": []}))
}
