//! Works off whatever is due at once - tombstones, sweeps, offboardings, revocations, verifications - as the table's stream
//! reports them. Deliveries may come twice, late or out of order: each only says that there is work, and what there is to do
//! is read from the table.

use futures_util::future::join_all;
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

/// Works off a whole batch at once, so that no record waits for what another's issuer or server takes its time with. Answers
/// with the first that could not be worked off; the stream delivers from there again.
///
/// # Errors
/// None: failures are reported record by record.
pub async fn handle(app: &App, event: Value) -> Result<Value, Error> {
    let records = event["Records"].as_array().into_iter().flatten();
    let worked_off = records.map(|record| async move {
        let work = Work::from_image(&record["dynamodb"]["NewImage"])?;
        let cause = work_off(app, &work).await.err()?;
        error!(%cause, "work from the stream is unfinished");
        Some(json!({"itemIdentifier": record["dynamodb"]["SequenceNumber"]}))
    });
    let failures = join_all(worked_off).await;
    let first: Vec<_> = failures.into_iter().flatten().take(1).collect();
    Ok(json!({"batchItemFailures": first}))
}
