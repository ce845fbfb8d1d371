//! `DELETE /mcp-servers/{mcp_server_id}`: a server and everything under it, for good (LangSmith 2.5).

use super::problem::Problem;
use super::{Permission, admit, dry_run, server_id};
use crate::http::{Request, Response, dry_run_response, empty, json, with_receipt};
use hawser_core::operations::servers;
use hawser_core::{App, Error};
use lambda_http::Body;

/// Returns 204 for every well-formed id, whether the server existed or not. With `dryRun=true` nothing changes, and the
/// answer is 200 and counts what would be removed.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let parsed = server_id(request).and_then(|id| Ok((id, dry_run(request)?)));
    let (who, (id, dry_run)) = admit(app, request, Permission::Delete, parsed).await?;
    let server = servers::find(app, who, Some(id))
        .await?
        .permit(|caller, _| Permission::Delete.require(caller))?;
    if dry_run {
        let preview = match &server.found {
            Some(found) => servers::preview_deletion(app, &server.caller.tenant, found).await?,
            None => Default::default(),
        };
        return Ok(json(200, &dry_run_response(&preview)));
    }
    if let Some(found) = &server.found {
        match servers::delete(app, &server.caller, &found.into()).await {
            Ok(receipt) => return Ok(with_receipt(empty(204), &receipt)),
            Err(Error::ServerNotFound) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(empty(204))
}
