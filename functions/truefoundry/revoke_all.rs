//! `DELETE /mcp/{mcpServerId}/auth/tokens`: every credential at a server that lives on (TrueFoundry 3.9).

use super::permission::require_tenant_admin;
use super::problem::Problem;
use super::{admit, dry_run, server_id};
use crate::http::{Request, Response, dry_run_response, json, with_receipt};
use hawser_core::App;
use hawser_core::auth::credentials::Presented;
use hawser_core::domain::id::ServerId;
use hawser_core::domain::server::Server;
use hawser_core::operations::{Permitted, Removal, servers};
use lambda_http::Body;
use serde_json::json;

/// Returns 200 with how many were there, and names the receipt in a header; a repeat counts none. With `dryRun=true` nothing
/// changes and the answer counts what would go.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let (who, dry_run) = admit(app, request, dry_run(request)).await?;
    let id = server_id(request);
    let find = || find(app, who.clone(), id);
    Ok(match servers::revoke_all(app, find, dry_run).await? {
        Removal::Planned(preview) => json(200, &json!({"data": dry_run_response(&preview)})),
        Removal::Done((counts, receipt)) => {
            let body = json!({"deletedCount": counts.oauth + counts.overrides});
            with_receipt(json(200, &body), &receipt)
        }
    })
}

/// The server, for a caller who manages the tenant.
async fn find(
    app: &App,
    who: Presented,
    id: Option<ServerId>,
) -> Result<Permitted<Server>, Problem> {
    let server = servers::find(app, who, id).await?.existing()?;
    server.permit(|caller, _| require_tenant_admin(caller))
}
