//! Chains the events of the audit trail as the table's stream reports them. What is missed here waits in the index of due work
//! until `workers-sweep` comes by.

use hawser_core::App;
use hawser_core::operations::trail;
use hawser_core::table::trail::from_image;
use lambda_http::Error;
use serde_json::{Value, json};
use tokio::time::Instant;

/// Runs as the Lambda function `workers-chain`.
///
/// # Errors
/// A configuration that cannot work; whatever the runtime reports.
pub fn run() -> Result<(), Error> {
    super::run(handle)
}

/// Chains what is not chained yet; deliveries may come twice, late or out of order.
///
/// # Errors
/// The first failure, after all chains have been tried; the stream delivers the batch again.
pub async fn handle(app: &App, event: Value, _until: Instant) -> Result<Value, Error> {
    let records = event["Records"].as_array().into_iter().flatten();
    let events = records.filter_map(|record| from_image(&record["dynamodb"]["NewImage"]));
    trail::chain(app, events).await?;
    Ok(json!({}))
}
