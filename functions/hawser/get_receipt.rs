//! `GET /v1/receipts/{receiptId}`: one receipt, waited for if asked.

use super::problem::Problem;
use super::{admit, number, present};
use crate::http::{Request, Response, json, path_parameter};
use hawser_core::App;
use hawser_core::domain::id::Sortable;
use hawser_core::operations::receipts;
use lambda_http::Body;
use serde_json::json;
use std::time::Duration;

/// The longest wait, in seconds: a gateway ends requests after 30.
const WAIT_LIMIT: u64 = 25;

/// Returns 200 with the receipt. With `waitSeconds` (0 to 25, default 0) the answer to one in progress is held until it is
/// complete or the time is over. A receipt that the caller may not read does not exist.
///
/// # Errors
/// [`Problem`].
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let parsed = number(request, "waitSeconds", 0, WAIT_LIMIT, 0);
    let (who, wait) = admit(app, request, parsed).await?;
    let id = Sortable::parse_ulid(&path_parameter(request, "receiptId"))
        .map(Sortable::ulid)
        .unwrap_or_default();
    let found = receipts::find(app, who, &id, Duration::from_secs(wait)).await?;
    let receipt = found.permit(|caller, receipt| match receipt {
        Some(receipt) if receipts::may_read(caller, receipt) => Ok(()),
        _ => Err(Problem::ReceiptNotFound),
    })?;
    Ok(json(
        200,
        &json!({"data": receipt.found.as_ref().map(present)}),
    ))
}
