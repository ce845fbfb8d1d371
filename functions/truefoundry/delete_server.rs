//! `DELETE /mcp/{mcpServerId}`: a server and everything under it, for good (3.4).

use super::permission::{Permission, require};
use super::problem::Problem;
use super::{admit, server_id};
use crate::http::{Request, Response, json, with_receipt};
use hawser_core::App;
use hawser_core::operations::servers;
use lambda_http::Body;
use serde_json::json;

/// Answers 200 with `{}`; a second call is 404.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let (who, ()) = admit(app, request, Ok(())).await?;
    let server = servers::find(app, who, server_id(request))
        .await?
        .existing()?;
    let server =
        server.permit(|caller, server| require(caller, Some(server), Permission::Delete))?;
    let receipt = servers::delete(app, &server.caller, &(&server.found).into()).await?;
    Ok(with_receipt(json(200, &json!({})), &receipt))
}
