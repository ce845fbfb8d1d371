//! `GET /mcp/{mcpServerId}/auth/status`, and its alias `/auth/state`: what one subject needs (TrueFoundry 3.8).

use super::permission::{Permission, has, require_self_or_manager};
use super::problem::Problem;
use super::reader::{Faults, Reader};
use super::{admit, auth_status, query, read_subject, server_id};
use crate::http::{self, Request, Response};
use hawser_core::App;
use hawser_core::domain::status::status;
use hawser_core::domain::subject::{Subject, SubjectType};
use hawser_core::operations::{Permitted, credentials};
use lambda_http::Body;
use serde_json::json;

const ASKED_ABOUT: [SubjectType; 3] = [
    SubjectType::User,
    SubjectType::VirtualAccount,
    SubjectType::ExternalIdentity,
];

/// Returns 200 with one of three bare objects. Contacts nobody and changes nothing.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let (who, subject) = admit(app, request, parse(request)).await?;
    let at = credentials::find(app, who, server_id(request), subject.clone())
        .await?
        .existing()?;
    let Permitted { caller, found: at } =
        at.permit(|caller, at| require_self_or_manager(caller, &at.server, &subject))?;
    let mut object = auth_status(status(&at.server, &at.records, app.now()));
    // An extension for those who can do something about it; whoever does not know it reads past it.
    if let Some(failed) = &at.server.last_failed_consent
        && has(&caller, Some(&at.server), Permission::Manage)
    {
        object["lastFailedConsent"] = json!({
            "reason": failed.reason.as_str(),
            "reference": failed.reference.ulid(),
            "at": failed.at.millis_z(),
            "subjectType": failed.subject.kind().as_str(),
            "subjectId": failed.subject.id(),
        });
    }
    Ok(http::json(200, &object))
}

fn parse(request: &Request) -> Result<Subject, Problem> {
    let parameters = query(request)?;
    let mut faults = Faults::default();
    let subject = read_subject(&mut Reader::new(&parameters, "", &mut faults), &ASKED_ABOUT);
    faults.into_result(subject)
}
