//! `GET /mcp-servers`: the caller's own connections (Kambrium 4).

use super::connection::Connection;
use super::problem::{Problem, Refusal};
use super::{Call, READ, admit, is_within_binding, success};
use crate::http::{Request, Response};
use hawser_core::App;
use hawser_core::domain::credential::Records;
use hawser_core::operations::{credentials, servers};
use lambda_http::Body;

const CALL: Call = Call {
    scope: READ,
    bound: true,
    purpose: "view connections",
    failure: "list MCP servers",
};

/// Returns 200 with the connections, sorted by id. Administrators also see only their own, because the object names no
/// owner.
///
/// # Errors
/// [`Problem`], in the contract's order.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    list(app, request)
        .await
        .map_err(|refusal| refusal.of(&CALL, request))
}

async fn list(app: &App, request: &Request) -> Result<Response<Body>, Refusal> {
    let (who, ()) = admit(app, request, &CALL, Ok(())).await?;
    let mut listed = servers::list(app, who)
        .await?
        .permit(|caller, _| CALL.permit(caller))?;
    let caller = &listed.caller;
    listed.found.retain(|server| {
        server.created_by.subject == *caller.subject() && is_within_binding(caller, server.number)
    });
    listed.found.sort_by_key(|server| server.number);
    let records = credentials::of_owners(app, &listed.caller.tenant, &listed.found).await?;
    let (none, now) = (Records::default(), app.now());
    let shown = listed.found.iter().map(|server| {
        let records = records.get(&server.id).unwrap_or(&none);
        Connection::of(server, records, now)
    });
    let all: Vec<_> = shown.collect();
    let message = format!("Found {} MCP server connections", all.len());
    Ok(success(200, all, &message))
}
