//! `DELETE /mcp-servers/{mcp_server_id}`: a server and everything under it, for good (2.5).

use super::problem::Problem;
use super::{Permission, admit, server_id};
use crate::http::{Request, Response, empty, with_receipt};
use hawser_core::operations::servers;
use hawser_core::{App, Error};
use lambda_http::Body;

/// Answers 204 for every well-formed id: afterwards there is no such server, whether there was one before or not.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let (who, id) = admit(app, request, Permission::Delete, server_id(request)).await?;
    let server = servers::find(app, who, Some(id))
        .await?
        .permit(|caller, _| Permission::Delete.require(caller))?;
    if let Some(found) = &server.found {
        match servers::delete(app, &server.caller, &found.into()).await {
            Ok(receipt) => return Ok(with_receipt(empty(204), &receipt)),
            Err(Error::ServerNotFound) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(empty(204))
}
