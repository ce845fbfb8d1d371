//! `DELETE /v1/managed-tools/servers/{mcp_server_id}/credential`: disconnect the caller from a server (LangSmith 7.7).

use super::problem::Problem;
use super::tool_server::acting;
use super::{Permission, admit, dry_run, server_id};
use crate::http::{Request, Response, dry_run_response, empty, json, with_receipt};
use hawser_core::App;
use hawser_core::auth::credentials::Presented;
use hawser_core::domain::credential::Source;
use hawser_core::domain::id::ServerId;
use hawser_core::operations::{DeletionPreview, credentials, retry_on_contention};
use lambda_http::Body;

/// Returns 204 once whatever the caller had there is out of every read path, also if there was nothing. With `dryRun=true`
/// nothing changes, and the answer is 200 and counts what would go.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let parsed = server_id(request).and_then(|id| Ok((id, dry_run(request)?)));
    let (who, (id, dry_run)) = admit(app, request, Permission::Invoke, parsed).await?;
    let who = acting(app, request, who).await?;
    retry_on_contention(
        || attempt(app, who.clone(), id, dry_run),
        Problem::is_contended,
    )
    .await
    .map_err(Problem::without_409_and_422)
}

/// A grant and an override are two credentials with a receipt each; the answer names the last.
async fn attempt(
    app: &App,
    who: Presented,
    id: ServerId,
    dry_run: bool,
) -> Result<Response<Body>, Problem> {
    let at = credentials::find_own(app, who, Some(id))
        .await?
        .permit(|caller, _| Permission::Invoke.require(caller))?
        .existing()?;
    let mut preview = DeletionPreview::default();
    let mut receipt = None;
    for source in [Source::Oauth, Source::Override] {
        let Ok(credential) = at.found.credential(source) else {
            continue;
        };
        if dry_run {
            preview.add(&credential);
        } else {
            receipt = Some(credentials::disconnect(app, &at, source).await?);
        }
    }
    if dry_run {
        return Ok(json(200, &dry_run_response(&preview)));
    }
    let gone = empty(204);
    Ok(match receipt {
        Some(receipt) => with_receipt(gone, &receipt),
        None => gone,
    })
}
