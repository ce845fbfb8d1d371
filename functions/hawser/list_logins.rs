//! `GET /v1/logins`: the logins of the caller; for those who manage the tenant all of them, of one subject if asked.

use super::problem::Problem;
use super::{admit, before, number, subject};
use crate::http::{Request, Response, json};
use hawser_core::App;
use hawser_core::domain::id::Sortable;
use hawser_core::domain::login::Login;
use hawser_core::domain::subject::Subject;
use hawser_core::operations::{Unchecked, logins};
use lambda_http::Body;
use serde_json::{Value, json};

struct Asked {
    subject: Option<Subject>,
    limit: u64,
    before: Option<Sortable>,
}

/// Returns 200 with a page of at most `limit` (1 to 1000, default 100), newest first, and in `next` what to send as `before` for
/// the next one: null when there are no more. A page may be shorter and still have a next one.
///
/// # Errors
/// [`Problem`].
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let (who, asked) = admit(app, request, parse(request)).await?;
    let caller = app.identify(who).await?;
    let asked = Unchecked::new(caller, asked).permit(|caller, asked| {
        let others = asked.subject.as_ref();
        let others = others.is_some_and(|subject| subject != caller.subject());
        match others && !caller.manages_tenant() {
            true => Err(Problem::NotManager),
            false => Ok(()),
        }
    })?;
    let (caller, asked) = (asked.caller, asked.found);
    let own = || (!caller.manages_tenant()).then(|| caller.subject().clone());
    let subject = asked.subject.or_else(own);
    let limit = usize::try_from(asked.limit).unwrap_or(usize::MAX);
    let (tenant, subject) = (&caller.tenant, subject.as_ref());
    let page = logins::list(app, tenant, subject, asked.before, limit);
    let (page, next) = page.await?;
    let data: Vec<Value> = page.iter().map(present).collect();
    Ok(json(200, &json!({"data": data, "next": next})))
}

fn parse(request: &Request) -> Result<Asked, Problem> {
    Ok(Asked {
        subject: subject(request)?,
        limit: number(request, "limit", 1, 1000, 100)?,
        before: before(request)?,
    })
}

/// The login object.
fn present(login: &Login) -> Value {
    let approval = &login.approval;
    let application = &approval.application;
    json!({
        "id": login.id,
        "subjectType": login.subject().kind().as_str(),
        "subjectId": login.subject().id(),
        "clientId": application.client_id,
        "clientName": application.name,
        "redirectHost": application.redirect_host,
        "resources": approval.resources,
        "scopes": approval.scopes,
        "createdAt": login.created_at.millis_z(),
        "refreshedAt": login.refreshed_at.millis_z(),
        "vouchedAt": approval.vouched_at.millis_z(),
        "endsAt": login.ends_at().millis_z(),
    })
}
