//! `GET /mcp-servers/{server_id}`: one connection (Kambrium 5).

use super::connection::Connection;
use super::problem::{Problem, Refusal};
use super::{Call, READ, admit, find, number, success};
use crate::http::{Request, Response};
use hawser_core::App;
use hawser_core::operations::credentials;
use lambda_http::Body;

const CALL: Call = Call {
    scope: READ,
    bound: true,
    purpose: "access this connection",
    failure: "get MCP server details",
};

/// Returns 200 with the connection.
///
/// # Errors
/// [`Problem`], in the contract's order.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    get(app, request)
        .await
        .map_err(|refusal| refusal.of(&CALL, request))
}

async fn get(app: &App, request: &Request) -> Result<Response<Body>, Refusal> {
    let (who, number) = admit(app, request, &CALL, number(request)).await?;
    let found = find(app, who, &CALL, number).await?;
    let at = credentials::load_of_owner(app, &found).await?;
    Ok(success(
        200,
        Connection::of(&at.server, &at.records, app.now()),
        "MCP server details retrieved successfully",
    ))
}
