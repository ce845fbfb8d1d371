//! `DELETE /v1/logins/{loginId}`: ends a login, by its subject or by who manages the tenant.

use super::problem::Problem;
use super::{admit, idempotency_key, present};
use crate::http::{
    self, Request, Response, dry_run_response_with_logins, json, path_parameter, with_receipt,
};
use hawser_core::App;
use hawser_core::domain::id::Sortable;
use hawser_core::domain::idempotency::Keyed;
use hawser_core::domain::receipt::Receipt;
use hawser_core::operations::{idempotency, logins};
use lambda_http::Body;
use serde_json::json;

/// Returns 200 with the receipt; none of the login's tokens is accepted from then on. A login that the caller may not end does
/// not exist. A repeat with the same `Idempotency-Key` is answered as the first was. With `dryRun=true` nothing changes.
///
/// # Errors
/// [`Problem`].
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let (who, (dry_run, key)) = admit(app, request, parse(request)).await?;
    let id = Sortable::parse_ulid(&path_parameter(request, "loginId"));
    let id = id.unwrap_or(Sortable::first_of(app.now()));
    let found = logins::find(app, who, id).await?;
    let caller = found.caller();
    let asked = id.ulid();
    let once = key.map(|key| Keyed::new(caller.subject(), &key, &["end-login", &asked]));
    let once = once.as_ref().filter(|_| !dry_run);
    if let Some(receipt) = idempotency::earlier(app, &caller.tenant, once).await? {
        return Ok(ended(&receipt));
    }
    let found = found.permit(|caller, login| match login {
        Some(login) if logins::may_end(caller, login) => Ok(()),
        _ => Err(Problem::LoginNotFound),
    })?;
    let login = found.existing().map_err(|_| Problem::LoginNotFound)?;
    if dry_run {
        let preview = logins::preview_end(&login.found);
        let data = dry_run_response_with_logins(&preview);
        return Ok(json(200, &json!({"data": data})));
    }
    let receipt = logins::end(app, &login, once).await?;
    let receipt = receipt.ok_or(Problem::LoginNotFound)?;
    Ok(ended(&receipt))
}

fn parse(request: &Request) -> Result<(bool, Option<String>), Problem> {
    let dry_run = http::dry_run(request).ok_or(Problem::Invalid("dryRun"))?;
    Ok((dry_run, idempotency_key(request)?))
}

fn ended(receipt: &Receipt) -> Response<Body> {
    let response = json(200, &json!({"data": present(receipt)}));
    with_receipt(response, &receipt.id)
}
