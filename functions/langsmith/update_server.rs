//! `PATCH /mcp-servers/{mcp_server_id}`: change the URL or the auth fields (LangSmith 2.4).

use super::auth::{AuthFields, SentAuth, has_headers, hidden_key};
use super::fields::Fields;
use super::mcp_server::McpServer;
use super::problem::Problem;
use super::{Permission, admit, dry_run, restored, server_id};
use crate::http::{Request, Response, body, dry_run_response, json};
use hawser_core::App;
use hawser_core::auth::credentials::Presented;
use hawser_core::domain::address::origin;
use hawser_core::domain::id::ServerId;
use hawser_core::domain::server::{Auth, Place, Secrets, Server};
use hawser_core::operations::providers::{self, ServerAndProvider};
use hawser_core::operations::servers::{self, Change, Voiding};
use lambda_http::Body;

struct Patch {
    url: Option<String>,
    auth: SentAuth,
    dry_run: bool,
}

/// Returns 200 with the changed server. With `dryRun=true` nothing changes, and the answer counts what the change would
/// void.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let parsed = server_id(request).and_then(|id| Ok((id, parse(app, request)?)));
    let (who, (id, patch)) = admit(app, request, Permission::Update, parsed).await?;
    let read = || read(app, who.clone(), id, &patch);
    let plan = servers::change(app, read, patch.dry_run).await?;
    if patch.dry_run {
        let voided = plan.count_voided(app).await?;
        return Ok(json(200, &dry_run_response(&voided)));
    }
    let (caller, provider) = (&plan.at.caller, plan.at.found.provider.as_ref());
    let secrets = plan.secrets.unwrap_or_default();
    let server = McpServer::new(caller, &plan.after, &secrets, provider);
    Ok(json(200, &server))
}

fn parse(app: &App, request: &Request) -> Result<Patch, Problem> {
    let mut fields = Fields::read(body(request))?;
    let url = fields.url(app);
    let auth = fields.auth();
    let dry_run = dry_run(request)?;
    fields.into_result(Some(Patch { url, auth, dry_run }))
}

/// Reads the server, and says what the patch makes of it.
async fn read(
    app: &App,
    who: Presented,
    id: ServerId,
    patch: &Patch,
) -> Result<Change<ServerAndProvider>, Problem> {
    let at = providers::find(app, who, id)
        .await?
        .permit(|caller, _| Permission::Update.require(caller))?
        .existing()?;
    let before = &at.found.server;
    let stored = servers::open(app, &at.caller.tenant, before).await?;
    let mut after = before.clone();
    after.url = match &patch.url {
        Some(url) => restored(url, Some(stored.address(before)))?,
        None => stored.address(before).to_owned(),
    };
    let mut secrets = AuthFields::of(before, &stored)
        .with(patch.auth.clone())?
        .put_into(&mut after, &stored);
    if origin(&before.url) != origin(&after.url) {
        if patch.auth.headers.is_none() && has_headers(before) {
            Permission::Invoke.require(&at.caller)?;
        }
        forget_unreadable(&mut after, &mut secrets);
    }
    Ok(Change {
        at,
        after,
        secrets: Some(secrets),
        voiding: Voiding::AgreedForAnyAddress,
    })
}

/// Removes secrets of a sibling contract that would be sent to another host with the new URL: nobody can read them
/// through this contract, so nobody may choose where they are sent. Headers that this contract shows stay, for callers
/// who can see them.
fn forget_unreadable(server: &mut Server, secrets: &mut Secrets) {
    if let Some(key) = hidden_key(server).cloned() {
        secrets.remove(Place::Header(&key.name));
        if let Auth::Headers { headers, .. } = &mut server.auth {
            headers.retain(|spec| *spec != key);
            if headers.is_empty() {
                server.auth = Auth::None;
            }
        }
    }
    server.connection.api_key = None;
    for name in server.additional_headers.take().into_iter().flatten() {
        secrets.remove(Place::AdditionalHeader(&name));
    }
    if let Auth::Oauth(oauth) = &mut server.auth
        && oauth.token_url.is_none()
    {
        oauth.has_client_secret = false;
        secrets.remove(Place::ClientSecret);
        for name in oauth.token_params.take().into_iter().flatten() {
            secrets.remove(Place::TokenParam(&name));
        }
    }
}
