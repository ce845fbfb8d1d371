//! `POST /v1/agent-auth/oauth-authorization-sessions`: start a user's consent (LangSmith 7.11).

use super::fields::Fields;
use super::problem::Problem;
use super::tool_server::{Kind, act_as};
use super::{Permission, admit, base};
use crate::http::{Request, Response, body, json};
use hawser_core::auth::credentials::Presented;
use hawser_core::domain::error::OauthSetup;
use hawser_core::domain::id::ServerId;
use hawser_core::operations::{consent, retry_on_contention, servers};
use hawser_core::{App, Error};
use lambda_http::Body;
use secrecy::ExposeSecret;
use serde_json::json;

struct Asked {
    connection: String,
    owner: String,
}

/// Returns 201 with the address of the page on which the user starts. Nobody is contacted for that.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let (who, asked) = admit(app, request, Permission::Invoke, parse(request)).await?;
    let base = base(app, request)?;
    let who = act_as(app, who, &asked.owner).await?;
    retry_on_contention(
        || attempt(app, who.clone(), &asked, &base),
        Problem::is_contended,
    )
    .await
    .map_err(Problem::without_409_and_422)
}

fn parse(request: &Request) -> Result<Asked, Problem> {
    let mut fields = Fields::read(body(request))?;
    for field in ["connection_id", "owner_type", "owner_id"] {
        fields.required(field);
    }
    let connection = fields.id("connection_id");
    let kind = fields.id("owner_type").filter(|kind| kind == "user");
    let owner = fields.id("owner_id");
    let asked = connection.zip(owner).filter(|_| kind.is_some());
    fields.into_result(asked.map(|(connection, owner)| Asked { connection, owner }))
}

async fn attempt(
    app: &App,
    who: Presented,
    asked: &Asked,
    base: &str,
) -> Result<Response<Body>, Problem> {
    let server = servers::find(app, who, ServerId::parse_uuid(&asked.connection))
        .await?
        .permit(|caller, _| Permission::Invoke.require(caller))?
        .existing()?;
    // Nobody starts what is another user's.
    if server.caller.subject().id() != asked.owner {
        return Err(Problem::Forbidden);
    }
    if Kind::of(&server.found) != Kind::Oauth {
        return Err(Error::Oauth(OauthSetup::NotEnabled).into());
    }
    let begun = consent::start_consent(app, &server, base, None, None).await?;
    let answer = json!({
        "id": consent::session_id(&begun.session),
        "connection_id": server.found.id.uuid(),
        "status": "PENDING",
        "verification_url": begun.url.expose_secret(),
    });
    Ok(json(201, &answer))
}
