//! Chains the events of the audit log as the table's stream reports them. Events that are missed here stay in the index
//! of due work until `workers-sweep` chains them.

use super::failures;
use hawser_core::App;
use hawser_core::operations::audit_log::{self, from_image};
use lambda_http::Error;
use serde_json::Value;
use tokio::time::Instant;

/// Runs as the Lambda function `workers-chain`.
///
/// # Errors
/// A configuration that cannot work; whatever the runtime reports.
pub fn run() -> Result<(), Error> {
    super::run(handle)
}

/// Chains the events that are not chained yet. Records may come twice, late or out of order. Returns the records of the
/// chains that failed; the stream delivers again from the first of them. A failing chain of one tenant does not block
/// those of others.
///
/// # Errors
/// None: failures are reported record by record.
pub async fn handle(app: &App, event: Value, _until: Instant) -> Result<Value, Error> {
    let records = event["Records"].as_array().into_iter().flatten();
    let events = records.filter_map(|record| {
        let record = &record["dynamodb"];
        let event = from_image(&record["NewImage"])?;
        Some((record["SequenceNumber"].clone(), event))
    });
    Ok(failures(
        audit_log::chain_batch(app, events.collect()).await,
    ))
}
