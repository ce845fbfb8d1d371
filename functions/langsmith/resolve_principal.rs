//! `POST /v1/agent-auth/principals`: by which id a user is known here (LangSmith 7.9).

use super::fields::Fields;
use super::problem::Problem;
use super::{Permission, acting_user, admit};
use crate::http::{Request, Response, body, json};
use hawser_core::App;
use lambda_http::Body;
use serde_json::json;

/// Returns 200 with the id. Nothing is stored: a user is known by the id that the identity provider gives them.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let (who, named) = admit(app, request, Permission::Invoke, parse(request)).await?;
    let caller = app.identify(who).await?;
    Permission::Invoke.require(&caller)?;
    let subject = acting_user(&caller, Some(&named)).ok_or(Problem::InvalidBody)?;
    Ok(json(200, &json!({"principal": {"id": subject.id()}})))
}

fn parse(request: &Request) -> Result<String, Problem> {
    let mut fields = Fields::read(body(request))?;
    fields.required("provider");
    fields.required("subject");
    let provider = fields.id("provider");
    let subject = fields.id("subject");
    fields.id("issuer");
    fields.into_result(provider.and(subject))
}
