//! `DELETE /mcp-servers/{server_id}`: a connection and everything attached to it, for good (7, 12).

use super::problem::{Problem, Refusal};
use super::{Call, WRITE, admit, find, number, success};
use crate::http::{Request, Response, with_receipt};
use hawser_core::App;
use hawser_core::operations::servers;
use lambda_http::Body;

const CALL: Call = Call {
    scope: WRITE,
    bound: true,
    purpose: "delete this connection",
    failure: "delete MCP server",
};

/// Answers 200 with `data` null; a second call is 404. Two round trips to the store: one finds the number, the owner and
/// what an API key needs, the other is the commit.
///
/// # Errors
/// [`Problem`], in the contract's order.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    delete(app, request)
        .await
        .map_err(|refusal| refusal.of(&CALL, request))
}

async fn delete(app: &App, request: &Request) -> Result<Response<Body>, Refusal> {
    let (who, number) = admit(app, request, &CALL, number(request)).await?;
    let found = find(app, who, &CALL, number).await?;
    let receipt = servers::delete(app, &found.caller, &found.found).await?;
    let deleted = success(200, (), "MCP server connection deleted successfully");
    Ok(with_receipt(deleted, &receipt))
}
