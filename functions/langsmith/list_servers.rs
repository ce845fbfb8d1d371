//! `GET /mcp-servers`: all servers of the tenant (LangSmith 2.2).

use super::mcp_server::McpServer;
use super::problem::Problem;
use super::{Permission, admit};
use crate::http::{Request, Response, json};
use hawser_core::App;
use hawser_core::operations::{providers, servers};
use lambda_http::Body;

/// Returns 200 with a bare array, oldest first, without pages.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let (who, ()) = admit(app, request, Permission::Read, Ok(())).await?;
    let listed = servers::list(app, who)
        .await?
        .permit(|caller, _| Permission::Read.require(caller))?;
    let (tenant, subject) = (&listed.caller.tenant, listed.caller.subject());
    let providers = providers::all(app, tenant, subject, &listed.found).await?;
    let mut shown = Vec::with_capacity(listed.found.len());
    for server in &listed.found {
        let provider = providers.get(&server.id);
        shown.push(McpServer::open(app, &listed.caller, server, provider).await?);
    }
    Ok(json(200, &shown))
}
