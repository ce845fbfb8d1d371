//! `GET /mcp/{mcpServerId}/auth/status`, and its alias `/auth/state`: what one subject needs (3.8).

use super::permission::require_self_or_manager;
use super::problem::Problem;
use super::reader::{Faults, Reader};
use super::{admit, auth_status, query, read_subject, server_id};
use crate::http::{Request, Response, json};
use hawser_core::App;
use hawser_core::domain::status::status;
use hawser_core::domain::subject::{Subject, SubjectType};
use hawser_core::operations::credentials;
use lambda_http::Body;

const ASKED_ABOUT: [SubjectType; 3] = [
    SubjectType::User,
    SubjectType::VirtualAccount,
    SubjectType::ExternalIdentity,
];

/// Answers 200 with one of three bare objects. Contacts nobody and changes nothing.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let (who, subject) = admit(app, request, parse(request)).await?;
    let at = credentials::find(app, who, server_id(request), subject.clone())
        .await?
        .existing()?;
    let at = at
        .permit(|caller, at| require_self_or_manager(caller, &at.server, &subject))?
        .found;
    Ok(json(
        200,
        &auth_status(status(&at.server, &at.records, app.now())),
    ))
}

fn parse(request: &Request) -> Result<Subject, Problem> {
    let parameters = query(request)?;
    let mut faults = Faults::default();
    let subject = read_subject(&mut Reader::new(&parameters, "", &mut faults), &ASKED_ABOUT);
    faults.settle(subject)
}
