//! `POST /v1/agent-auth/oauth-authorization-sessions`: start a user's consent (LangSmith 7.11).

use super::fields::Fields;
use super::problem::Problem;
use super::tool_server::{Kind, act_as};
use super::{Permission, admit, base};
use crate::http::{Request, Response, body, json};
use hawser_core::auth::credentials::Presented;
use hawser_core::domain::error::OauthSetup;
use hawser_core::domain::id::ServerId;
use hawser_core::domain::server::Server;
use hawser_core::operations::{Permitted, consent, servers};
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
    let (needed, invalid) = (Permission::Invoke, Problem::InvalidBody);
    let who = act_as(app, who, &asked.owner, needed, invalid).await?;
    let find = || find(app, who.clone(), &asked);
    let begun = consent::start_anew(app, find, &base)
        .await
        .map_err(Problem::without_409_and_422)?;
    let answer = json!({
        "id": consent::session_id(&begun.session),
        "connection_id": begun.session.server.uuid(),
        "status": "PENDING",
        "verification_url": begun.url.expose_secret(),
    });
    Ok(json(201, &answer))
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

/// The server, for a caller who is the user that is to connect to it.
async fn find(app: &App, who: Presented, asked: &Asked) -> Result<Permitted<Server>, Problem> {
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
    Ok(server)
}
