//! `GET /mcp-servers/available`: the integrations that a connection can be made from (Kambrium 2).

use super::problem::{Problem, Refusal};
use super::{Call, READ, admit, success};
use crate::http::{Request, Response};
use hawser_core::App;
use hawser_core::operations::integrations;
use lambda_http::Body;
use serde_json::json;

const CALL: Call = Call {
    scope: READ,
    bound: true,
    purpose: "view available integrations",
    failure: "list available MCP servers",
};

/// Returns 200 with the active integrations, sorted by name, the same for every caller.
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
    CALL.permit(&app.identify(who).await?)?;
    let catalogue = integrations::all(app).await?;
    let active = catalogue.iter().filter(|(_, one)| one.active);
    let shown = active.map(|(name, integration)| {
        json!({
            "name": name,
            "description": integration.description,
            "number_of_tools": integration.number_of_tools,
        })
    });
    let all: Vec<_> = shown.collect();
    let message = format!("Found {} available MCP server integrations", all.len());
    Ok(success(200, all, &message))
}
