//! Looks at the whole table, once a day, for anything that dangles, and at every audit trail; puts right what can be if the event
//! says so.

use hawser_core::App;
use hawser_core::operations::auditor::examine;
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

/// Answers with the figures; `"repair": true` in the event repairs.
///
/// # Errors
/// The table cannot be read, something dangles, or a trail is not sound, so that an alarm rings.
pub async fn handle(app: &App, event: Value, _until: Instant) -> Result<Value, Error> {
    let repair = event["repair"] == true;
    let report = examine(&app.table, Some(app), app.now(), repair).await?;
    if !report.is_sound() {
        return Err("something dangles, or an audit trail is not sound".into());
    }
    Ok(json!({"items": report.items, "repaired": report.orphans.len()}))
}
