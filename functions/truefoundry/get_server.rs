//! `GET /mcp/{mcpServerId}`: one server (TrueFoundry 3.3).

use super::manifest::Registration;
use super::permission::{Permission, require};
use super::problem::Problem;
use super::{Data, admit, query, server_id};
use crate::http::{Request, Response, json};
use hawser_core::App;
use hawser_core::operations::servers;
use lambda_http::Body;
use serde_json::Value;

/// Returns 200 with the server.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let (who, ()) = admit(app, request, parse(request)).await?;
    let server = servers::find(app, who, server_id(request))
        .await?
        .existing()?;
    let server = server.permit(|caller, server| require(caller, Some(server), Permission::Read))?;
    let data = Registration::from(&server.found)
        .mcp_server(&server.caller.tenant, app.gateway_url.as_deref());
    Ok(json(200, &Data { data }))
}

/// `resolveTools` concerns only kinds of servers that are refused here, so it changes nothing.
fn parse(request: &Request) -> Result<(), Problem> {
    match query(request)?.get("resolveTools").and_then(Value::as_str) {
        None | Some("true" | "false") => Ok(()),
        Some(_) => Err(Problem::fault("resolveTools", "must be true or false")),
    }
}
