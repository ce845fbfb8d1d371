//! `GET /v1/managed-tools/servers`: the servers of the tool gateway, and whether the caller is connected (LangSmith 7.5).

use super::problem::Problem;
use super::tool_server::{Window, acting, tool_server};
use super::{Permission, admit};
use crate::http::{Request, Response, json};
use hawser_core::App;
use hawser_core::operations::{credentials, servers};
use lambda_http::Body;
use serde_json::json;

/// Returns 200 with a page, oldest first.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let (who, window) = admit(app, request, Permission::Read, Window::read(request)).await?;
    let who = acting(app, request, who, Permission::Read).await?;
    let listed = servers::list(app, who)
        .await?
        .permit(|caller, _| Permission::Read.require(caller))?;
    let caller = listed.caller;
    let (shown, next) = window.page(listed.found);
    let records = credentials::of_subject(app, &caller.tenant, caller.subject(), &shown).await?;
    let none = Default::default();
    let items: Vec<_> = shown
        .iter()
        .map(|server| tool_server(app, server, records.get(&server.id).unwrap_or(&none)))
        .collect();
    Ok(json(200, &json!({"items": items, "next_cursor": next})))
}
