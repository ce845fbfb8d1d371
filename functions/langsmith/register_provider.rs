//! `POST /mcp-servers/{mcp_server_id}/oauth-provider`: prepare a server for one user's consent (LangSmith 2.6).

use super::fields::Fields;
use super::problem::Problem;
use super::{Permission, acting_user, admit, base, server_id};
use crate::http::{Request, Response, body, json};
use hawser_core::App;
use hawser_core::auth::credentials::Presented;
use hawser_core::domain::id::ServerId;
use hawser_core::domain::server::Server;
use hawser_core::domain::subject::Subject;
use hawser_core::operations::{Permitted, providers, servers};
use lambda_http::Body;
use serde_json::json;

/// Returns 200 with the id of the user's provider, which never changes. Only the first call contacts the server and its
/// issuer.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let parsed = server_id(request).and_then(|id| Ok((id, user(request)?)));
    let (who, (id, user)) = admit(app, request, Permission::Invoke, parsed).await?;
    let base = base(app, request)?;
    let find = || find(app, who.clone(), id, user.as_deref());
    let provider = providers::ensure(app, find, &base)
        .await
        .map_err(Problem::without_409_and_422)?;
    Ok(json(200, &json!({"oauth_provider_id": provider})))
}

/// The user that a service key acts for, if the request names one.
fn user(request: &Request) -> Result<Option<String>, Problem> {
    let mut fields = Fields::read_optional(body(request))?;
    let user = fields.id("ls_user_id");
    fields.into_result(Some(user))
}

/// The server, for a caller who may prepare a consent there, and the user whose consent it is.
async fn find(
    app: &App,
    who: Presented,
    id: ServerId,
    user: Option<&str>,
) -> Result<(Permitted<Server>, Subject), Problem> {
    let server = servers::find(app, who, Some(id))
        .await?
        .permit(|caller, _| Permission::Invoke.require(caller))?;
    let subject = acting_user(&server.caller, user).ok_or(Problem::InvalidBody)?;
    Ok((server.existing()?, subject))
}
