//! `DELETE /v1/managed-tools/servers/{mcp_server_id}/credential`: disconnect the caller from a server (LangSmith 7.7).

use super::problem::Problem;
use super::tool_server::{acting, find_own};
use super::{Permission, admit, dry_run, server_id};
use crate::http::{Request, Response, dry_run_response, empty, json, with_receipt};
use hawser_core::App;
use hawser_core::operations::{Removal, credentials};
use lambda_http::Body;

/// Returns 204 once whatever the caller had there is out of every read path, also if there was nothing. With `dryRun=true`
/// nothing changes, and the answer is 200 and counts what would go. A grant and an override are two credentials with a
/// receipt each; the answer names the last.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let parsed = server_id(request).and_then(|id| Ok((id, dry_run(request)?)));
    let (who, (id, dry_run)) = admit(app, request, Permission::Invoke, parsed).await?;
    let who = acting(app, request, who, Permission::Invoke).await?;
    let find = || find_own(app, who.clone(), id, Permission::Invoke);
    let removal = credentials::disconnect_all(app, find, dry_run)
        .await
        .map_err(Problem::without_409_and_422)?;
    Ok(match removal {
        Removal::Planned(preview) => json(200, &dry_run_response(&preview)),
        Removal::Done(Some(receipt)) => with_receipt(empty(204), &receipt),
        Removal::Done(None) => empty(204),
    })
}
