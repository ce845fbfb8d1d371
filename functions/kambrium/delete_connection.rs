//! `DELETE /mcp-servers/{server_id}`: a connection and everything attached to it, for good (Kambrium 7, 12).

use super::fields::Faults;
use super::problem::{Problem, Refusal};
use super::{Call, WRITE, admit, find, success};
use crate::http::{Request, Response, dry_run_response, with_receipt};
use hawser_core::App;
use hawser_core::operations::servers;
use lambda_http::Body;

const CALL: Call = Call {
    scope: WRITE,
    bound: true,
    purpose: "delete this connection",
    failure: "delete MCP server",
};

/// Returns 200 with `data` null; a second call is 404. Makes two round trips to the store: the first reads the number,
/// the owner and the API key's item, the second is the commit. With `dryRun=true` nothing changes and `data` counts
/// what would be removed.
///
/// # Errors
/// [`Problem`], in the contract's order.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    delete(app, request)
        .await
        .map_err(|refusal| refusal.of(&CALL, request))
}

async fn delete(app: &App, request: &Request) -> Result<Response<Body>, Refusal> {
    let mut faults = Faults::default();
    let number = faults.number(request);
    let dry_run = faults.dry_run(request);
    let parsed = faults.into_result(number.zip(dry_run));
    let (who, (number, dry_run)) = admit(app, request, &CALL, parsed).await?;
    let found = find(app, who, &CALL, number).await?;
    if dry_run {
        let server = servers::load(app, &found).await?;
        let preview = servers::preview_deletion(app, &found.caller.tenant, &server).await?;
        return Ok(success(
            200,
            dry_run_response(&preview),
            "Dry run: nothing was deleted",
        ));
    }
    let receipt = servers::delete(app, &found.caller, &found.found).await?;
    let deleted = success(200, (), "MCP server connection deleted successfully");
    Ok(with_receipt(deleted, &receipt))
}
