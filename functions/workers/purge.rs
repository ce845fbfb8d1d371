//! Processes durable work (tombstones, sweeps, offboardings, revocations, verifications) as the table's stream reports
//! it. Records may come twice, late or out of order: each says only that there is work, and what is to be done is read
//! from the table.

use super::failures;
use hawser_core::App;
use hawser_core::domain::job::Work;
use hawser_core::operations::scheduler::process_batch;
use lambda_http::Error;
use serde_json::Value;
use tokio::time::Instant;

/// Runs as the Lambda function `workers-purge`.
///
/// # Errors
/// A configuration that cannot work; whatever the runtime reports.
pub fn run() -> Result<(), Error> {
    super::run(handle)
}

/// Processes the records together until the deadline. The schedule finds what is left. Returns the records that failed;
/// the stream delivers again from the first of them.
///
/// # Errors
/// None: failures are reported record by record.
pub async fn handle(app: &App, event: Value, until: Instant) -> Result<Value, Error> {
    let records = event["Records"].as_array().into_iter().flatten();
    let pieces = records.filter_map(|record| {
        let record = &record["dynamodb"];
        let work = Work::from_image(&record["NewImage"])?;
        Some((record["SequenceNumber"].clone(), work))
    });
    Ok(failures(process_batch(app, pieces.collect(), until).await))
}
