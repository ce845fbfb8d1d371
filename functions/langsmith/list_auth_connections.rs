//! `GET /v1/agent-auth/connections`: what a user can connect by consent (LangSmith 7.10).

use super::problem::Problem;
use super::tool_server::{Kind, Window};
use super::{Permission, admit};
use crate::http::{Request, Response, json};
use hawser_core::App;
use hawser_core::operations::servers;
use lambda_http::Body;
use serde_json::json;

/// Returns 200 with a page of the servers whose users consent.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let (who, window) = admit(app, request, Permission::Read, Window::read(request)).await?;
    let mut servers = servers::list(app, who)
        .await?
        .permit(|caller, _| Permission::Read.require(caller))?
        .found;
    servers.retain(|server| Kind::of(server) == Kind::Oauth);
    let (shown, next) = window.page(servers);
    let items: Vec<_> = shown
        .iter()
        .map(|server| {
            json!({
                "id": server.id.uuid(),
                "slug": server.name,
                "display_name": server.name,
                "owner_policy": "user",
                "kind": "oauth2",
                "credential": {"kind": "oauth2"},
            })
        })
        .collect();
    Ok(json(200, &json!({"items": items, "next_cursor": next})))
}
