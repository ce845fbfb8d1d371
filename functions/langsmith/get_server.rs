//! `GET /mcp-servers/{mcp_server_id}`: one server (LangSmith 2.3).

use super::mcp_server::McpServer;
use super::problem::Problem;
use super::{Permission, admit, server_id};
use crate::http::{Request, Response, json};
use hawser_core::App;
use hawser_core::operations::providers::{self, ServerAndProvider};
use lambda_http::Body;

/// Returns 200 with the server.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let (who, id) = admit(app, request, Permission::Read, server_id(request)).await?;
    let at = providers::find(app, who, id)
        .await?
        .permit(|caller, _| Permission::Read.require(caller))?
        .existing()?;
    let ServerAndProvider { server, provider } = &at.found;
    Ok(json(
        200,
        &McpServer::open(app, &at.caller, server, provider.as_ref()).await?,
    ))
}
