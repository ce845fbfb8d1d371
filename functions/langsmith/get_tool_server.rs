//! `GET /v1/managed-tools/servers/{mcp_server_id}`: one server of the tool gateway (LangSmith 7.5).

use super::problem::Problem;
use super::tool_server::{acting, find_own, tool_server};
use super::{Permission, admit, server_id};
use crate::http::{Request, Response, json};
use hawser_core::App;
use lambda_http::Body;

/// Returns 200 with the server.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let (who, id) = admit(app, request, Permission::Read, server_id(request)).await?;
    let who = acting(app, request, who, Permission::Read).await?;
    let at = find_own(app, who, id, Permission::Read).await?.found;
    Ok(json(200, &tool_server(app, &at.server, &at.records)))
}
