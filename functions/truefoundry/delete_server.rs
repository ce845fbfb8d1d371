//! `DELETE /mcp/{mcpServerId}`: a server and everything under it, for good (TrueFoundry 3.4).

use super::permission::{Permission, require};
use super::problem::Problem;
use super::{admit, dry_run, server_id};
use crate::http::{Request, Response, dry_run_response, json, with_receipt};
use hawser_core::App;
use hawser_core::domain::server::Server;
use hawser_core::operations::{Unchecked, servers};
use lambda_http::Body;
use serde_json::json;

/// Returns 200 with `{}`; a second call is 404. With `dryRun=true` nothing changes and the answer counts what would go.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let (who, dry_run) = admit(app, request, dry_run(request)).await?;
    let found = servers::find(app, who, server_id(request)).await?;
    delete(app, found, dry_run).await
}

/// Deletes what was found, if the caller may.
pub(super) async fn delete(
    app: &App,
    found: Unchecked<Option<Server>>,
    dry_run: bool,
) -> Result<Response<Body>, Problem> {
    let server = found
        .existing()?
        .permit(|caller, server| require(caller, Some(server), Permission::Delete))?;
    if dry_run {
        let preview = servers::preview_deletion(app, &server.caller.tenant, &server.found).await?;
        return Ok(json(200, &json!({"data": dry_run_response(&preview)})));
    }
    let receipt = servers::delete(app, &server.caller, &(&server.found).into()).await?;
    Ok(with_receipt(json(200, &json!({})), &receipt))
}
