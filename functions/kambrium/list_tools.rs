//! `GET /mcp-servers/{server_id}/tools`: the tools that a connection offers, listed with its owner's credential
//! (Kambrium 8).

use super::fields::Faults;
use super::number::Number;
use super::problem::{Problem, Refusal};
use super::{Call, READ, admit, find, success};
use crate::http::{Request, Response};
use hawser_core::App;
use hawser_core::domain::error::Error;
use hawser_core::domain::tool::{self, Tool};
use hawser_core::operations::credentials;
use hawser_core::operations::tools::{self, CachePolicy, Failure};
use lambda_http::Body;
use serde::Serialize;

const CALL: Call = Call {
    scope: READ,
    bound: true,
    purpose: "access this connection",
    failure: "list MCP server tools",
};

/// The number of tools on one page: by default, and at most.
const PAGE: (u64, u64) = (50, 2000);

/// A page of the tools.
#[derive(Serialize)]
struct Page<'a> {
    tools: Vec<Shown<'a>>,
    total_count: usize,
    mcp_server_id: u64,
    limit: u64,
    offset: u64,
    has_more: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    id: u64,
    name: &'a str,
    description: &'a str,
    input_schema: tool::Shown<'a>,
    annotations: tool::Shown<'a>,
}

/// Returns 200 with one page of the tools, sorted by name.
///
/// # Errors
/// [`Problem`], in the contract's order.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    list(app, request)
        .await
        .map_err(|refusal| refusal.of(&CALL, request))
}

async fn list(app: &App, request: &Request) -> Result<Response<Body>, Refusal> {
    let (who, (number, limit, offset)) = admit(app, request, &CALL, parse(request)).await?;
    let found = find(app, who, &CALL, number).await.map_err(unnumbered)?;
    let at = credentials::load_of_owner(app, &found)
        .await
        .map_err(|error| unnumbered(error.into()))?;
    let caller = &found.caller;
    let listed = tools::list(app, &caller.tenant, &at, caller, CachePolicy::Cached).await;
    let listed = listed.map_err(|failure| match failure {
        Failure::Failed(error) => unnumbered(error.into()),
        Failure::Refused(_) | Failure::BadAnswer => Refusal::ToolsUnavailable,
        Failure::LegacySseTransport => Refusal::LegacySseTransport,
    })?;
    let mut tools = listed.all;
    tools.retain(|tool| at.server.connection.allows_tool(tool));
    tools.sort_by(|one, other| one.name.cmp(&other.name));
    let total = tools.len();
    let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
    let page = tools.iter().skip(skipped);
    let page: Vec<_> = page.take(limit as usize).map(Shown::of).collect();
    let message = format!(
        "Found {total} tools for MCP server connection (showing {} tools, page {})",
        page.len(),
        offset / limit + 1
    );
    let data = Page {
        has_more: skipped.saturating_add(page.len()) < total,
        tools: page,
        total_count: total,
        mcp_server_id: at.server.number,
        limit,
        offset,
    };
    Ok(success(200, data, &message))
}

fn parse(request: &Request) -> Result<(Number, u64, u64), Refusal> {
    let mut faults = Faults::default();
    let number = faults.number(request);
    let limit = faults.integer(request, "limit", PAGE.0, 1..=PAGE.1);
    let offset = faults.integer(request, "offset", 0, 0..=u64::MAX);
    let all = number.zip(limit).zip(offset);
    faults.into_result(all.map(|((number, limit), offset)| (number, limit, offset)))
}

/// The 404 of this endpoint does not name the connection (Kambrium 8).
fn unnumbered(refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::Domain(Error::ServerNotFound) => Refusal::ConnectionNotFound,
        other => other,
    }
}

impl<'a> Shown<'a> {
    fn of(tool: &'a Tool) -> Self {
        Self {
            id: tool.id(),
            name: &tool.name,
            description: tool.description.as_deref().unwrap_or_default(),
            input_schema: tool.schema(),
            annotations: tool.hints(),
        }
    }
}
