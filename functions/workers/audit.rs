//! Checks the integrity of the table and of all audit logs, once a day. Repairs what can be repaired if the event asks
//! for it.

use hawser_core::App;
use hawser_core::operations::integrity::examine;
use lambda_http::Error;
use serde_json::{Value, json};
use tokio::time::Instant;

/// Runs as the Lambda function `workers-audit`.
///
/// # Errors
/// A configuration that cannot work; whatever the runtime reports.
pub fn run() -> Result<(), Error> {
    super::run(handle)
}

/// Runs the check and returns its figures. `"repair": true` in the event also repairs.
///
/// # Errors
/// The table cannot be read, or the check found orphaned items or an invalid audit log. The error triggers the alarm.
pub async fn handle(app: &App, event: Value, _until: Instant) -> Result<Value, Error> {
    let repair = event["repair"] == true;
    let report = examine(&app.table, Some(app), app.now(), repair).await?;
    if !report.is_sound() {
        return Err("integrity check failed: orphaned items or an invalid audit log".into());
    }
    Ok(json!({"items": report.items, "repaired": report.orphans.len()}))
}
