//! `DELETE /v1/subjects/{subjectType}/{subjectId}/credentials`: everything one subject has, on every server.

use super::problem::Problem;
use super::{admit, present};
use crate::http::{Request, Response, dry_run, json, path_parameter, rehearsal};
use hawser_core::App;
use hawser_core::domain::subject::{Subject, SubjectType};
use hawser_core::operations::{Unchecked, subjects};
use lambda_http::Body;
use serde_json::json;

/// Answers 200 with the receipt; doing it again is 200 with a receipt of nothing. The subject need not exist anywhere
/// else. With `dryRun=true` nothing changes and the counts are what would go.
///
/// # Errors
/// [`Problem`].
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let (who, (subject, dry_run)) = admit(app, request, parse(request)).await?;
    let caller = app.identify(who).await?;
    let subject = Unchecked::new(caller, subject).permit(|caller, subject| {
        let allowed = caller.manages_tenant() || caller.subject() == subject;
        if allowed {
            Ok(())
        } else {
            Err(Problem::NotManager)
        }
    })?;
    if dry_run {
        let taking = subjects::rehearse(app, &subject).await?;
        return Ok(json(200, &json!({"data": rehearsal(&taking)})));
    }
    let receipt = subjects::offboard(app, &subject).await?;
    Ok(json(200, &json!({"data": present(&receipt)})))
}

fn parse(request: &Request) -> Result<(Subject, bool), Problem> {
    let kind = SubjectType::parse(&path_parameter(request, "subjectType"));
    let kind = kind
        .filter(|kind| *kind != SubjectType::ExternalIdentity)
        .ok_or(Problem::Invalid("subjectType"))?;
    let subject = Subject::new(kind, &path_parameter(request, "subjectId"))
        .ok_or(Problem::Invalid("subjectId"))?;
    let dry_run = dry_run(request).ok_or(Problem::Invalid("dryRun"))?;
    Ok((subject, dry_run))
}
