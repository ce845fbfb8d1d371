//! `DELETE /v1/subjects/{subjectType}/{subjectId}/credentials` and `POST /v1/subjects/offboard`: everything one subject has, on every
//! server. The second names the subject in its body, for a gateway carries no `/` in a part of a path.

use super::problem::Problem;
use super::{admit, idempotency_key, present};
use crate::http::{self, Request, Response, dry_run_response_with_logins, json, path_parameter};
use hawser_core::App;
use hawser_core::domain::idempotency::Keyed;
use hawser_core::domain::subject::{Subject, SubjectType};
use hawser_core::operations::{Removal, Unchecked, subjects};
use lambda_http::Body;
use lambda_http::http::Method;
use serde::Deserialize;
use serde_json::json;

/// The body of the POST. A field that is not known is refused: it might be a misspelt `dryRun`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Asked {
    subject_type: String,
    subject_id: String,
    /// As in the query; one of the two is enough.
    #[serde(default)]
    dry_run: bool,
}

/// Returns 200 with the receipt once no credential of the subject can be read any more, and 202 while some still may be. A repeat
/// returns 200 with a receipt that counts nothing, but with the same `Idempotency-Key` the receipt of the first. The subject need
/// not be known elsewhere. With `dryRun=true` nothing changes, and the response counts what would be removed.
///
/// # Errors
/// [`Problem`].
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let (who, (subject, dry_run, key)) = admit(app, request, parse(request)).await?;
    let caller = app.identify(who).await?;
    let subject = Unchecked::new(caller, subject).permit(|caller, subject| {
        let allowed = caller.manages_tenant() || caller.subject() == subject;
        if allowed {
            Ok(())
        } else {
            Err(Problem::NotManager)
        }
    })?;
    let asked = [
        "offboard",
        subject.found.kind().as_str(),
        subject.found.id(),
    ];
    let once = key.map(|key| Keyed::new(subject.caller.subject(), &key, &asked));
    let removal = subjects::offboard(app, &subject, dry_run, once.as_ref()).await?;
    Ok(match removal {
        Removal::Planned(preview) => {
            let near = subjects::near_matches(app, &subject.caller.tenant, &subject.found).await?;
            let mut data = dry_run_response_with_logins(&preview);
            data["subjectType"] = subject.found.kind().as_str().into();
            data["subjectId"] = subject.found.id().into();
            data["nearMatches"] = near.into_iter().collect();
            json(200, &json!({"data": data}))
        }
        Removal::Done(receipt) => {
            let status = if receipt.is_removing() { 202 } else { 200 };
            json(status, &json!({"data": present(&receipt)}))
        }
    })
}

fn parse(request: &Request) -> Result<(Subject, bool, Option<String>), Problem> {
    let asked = if *request.method() == Method::POST {
        serde_json::from_slice(http::body(request)).map_err(|_| Problem::Invalid("body"))?
    } else {
        Asked {
            subject_type: path_parameter(request, "subjectType"),
            subject_id: path_parameter(request, "subjectId"),
            dry_run: false,
        }
    };
    let kind = SubjectType::parse(&asked.subject_type)
        .filter(|kind| *kind != SubjectType::ExternalIdentity)
        .ok_or(Problem::Invalid("subjectType"))?;
    let subject = Subject::new(kind, &asked.subject_id).ok_or(Problem::Invalid("subjectId"))?;
    let dry_run = http::dry_run(request).ok_or(Problem::Invalid("dryRun"))?;
    Ok((subject, dry_run || asked.dry_run, idempotency_key(request)?))
}
