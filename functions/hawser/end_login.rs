//! `DELETE /v1/logins/{loginId}`: ends a login, by its subject or by who manages the tenant.

use super::problem::Problem;
use super::{admit, present};
use crate::http::{
    self, Request, Response, dry_run_response_with_logins, json, path_parameter, with_receipt,
};
use hawser_core::App;
use hawser_core::domain::id::Sortable;
use hawser_core::operations::logins;
use lambda_http::Body;
use serde_json::json;

/// Returns 200 with the receipt; none of the login's tokens is accepted from then on. A login that the caller may not end does
/// not exist. With `dryRun=true` nothing changes.
///
/// # Errors
/// [`Problem`].
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let parsed = http::dry_run(request).ok_or(Problem::Invalid("dryRun"));
    let (who, dry_run) = admit(app, request, parsed).await?;
    let id = Sortable::parse_ulid(&path_parameter(request, "loginId"));
    let id = id.unwrap_or(Sortable::first_of(app.now()));
    let found = logins::find(app, who, id).await?;
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
    let receipt = logins::end(app, &login).await?;
    let receipt = receipt.ok_or(Problem::LoginNotFound)?;
    let response = json(200, &json!({"data": present(&receipt)}));
    Ok(with_receipt(response, &receipt.id))
}
