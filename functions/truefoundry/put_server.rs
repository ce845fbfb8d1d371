//! `PUT /mcp`: create or update by name (TrueFoundry 3.1).

use super::manifest::{Manifest, Registration};
use super::permission::{Permission, require};
use super::problem::Problem;
use super::reader::{Faults, Reader};
use super::secret_reference::Resolved;
use super::{Data, admit, dry_run};
use crate::http::{Request, Response, body, dry_run_response, json};
use hawser_core::App;
use hawser_core::auth::credentials::Presented;
use hawser_core::domain::caller::Caller;
use hawser_core::domain::json::raw;
use hawser_core::domain::server::{LangsmithFields, Server};
use hawser_core::operations::servers::{self, Draft, DraftConnection, DraftName, Voiding};
use hawser_core::operations::{DeletionPreview, retry_on_contention};
use lambda_http::Body;
use serde_json::value::RawValue;

struct Put {
    manifest: Manifest,
    dry_run: bool,
    force: bool,
    /// The query's `dryRun`, which is ours, and not the contract's own in the body.
    query_dry_run: bool,
}

/// Returns 200 with the server, created or updated. With `dryRun=true` in the query nothing changes, and the answer counts
/// what the update would void if it were forced.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let Applied { data, .. } = apply(app, request).await?;
    Ok(json(200, &Data { data }))
}

/// What a manifest was applied to, and what came of it.
pub(super) struct Applied {
    /// The manifest from before, as it is shown; `None` where there was no server of that name.
    pub(super) existing: Option<Box<RawValue>>,
    /// The server, or what a dry run has to say.
    pub(super) data: Box<RawValue>,
}

/// Creates or updates the server that the request's manifest names.
pub(super) async fn apply(app: &App, request: &Request) -> Result<Applied, Problem> {
    let (who, put) = admit(app, request, parse(app, request)).await?;
    retry_on_contention(|| attempt(app, who.clone(), &put), Problem::is_contended).await
}

fn parse(app: &App, request: &Request) -> Result<Put, Problem> {
    let query_dry_run = dry_run(request)?;
    let mut faults = Faults::of(app);
    let put = Reader::body(body(request), &mut faults).and_then(|object| {
        let mut reader = Reader::new(&object, "", &mut faults);
        let manifest = Manifest::read(&mut reader, "manifest", app.allow_loopback_http);
        let dry_run = reader.boolean("dryRun").unwrap_or(false);
        let force = reader.boolean("force").unwrap_or(false);
        let force_delete = reader.boolean("forceDelete").unwrap_or(false);
        Some(Put {
            manifest: manifest?.with_tags(body(request)),
            dry_run,
            force: force || force_delete,
            query_dry_run,
        })
    });
    faults.into_result(put)
}

async fn attempt(app: &App, who: Presented, put: &Put) -> Result<Applied, Problem> {
    let named = servers::find_named(app, who, &put.manifest.name)
        .await?
        .permit(|caller, server| match server {
            Some(server) => require(caller, Some(server), Permission::Manage),
            None => require(caller, None, Permission::Create),
        })?;
    let caller = &named.caller;
    let referred = put.manifest.follow_references(app, caller).await?;
    let data = match &named.found {
        Some(before) => update(app, caller, before, (put, &referred)).await?,
        None => create(app, caller, (put, &referred)).await?,
    };
    let before = named.found.as_ref().map(Registration::from);
    Ok(Applied {
        existing: before.map(|before| raw(&before.manifest())),
        data,
    })
}

async fn create(
    app: &App,
    caller: &Caller,
    (put, referred): (&Put, &Resolved),
) -> Result<Box<RawValue>, Problem> {
    let manifest = &put.manifest;
    let secrets = manifest.resolve(referred, None)?;
    let address = manifest.address(None)?;
    servers::require_usable(app, &address)?;
    if put.query_dry_run {
        return Ok(raw(&dry_run_response(&DeletionPreview::default())));
    }
    if put.dry_run {
        let registration = Registration::for_dry_run(manifest, &caller.actor);
        return Ok(registration.mcp_server(&caller.tenant, app.gateway_url.as_deref()));
    }
    let draft = Draft {
        name: DraftName::Given(manifest.name.clone()),
        url: address,
        description: Some(manifest.description.clone()),
        auth: manifest.auth.clone(),
        additional_headers: manifest.additional_headers.clone(),
        manifest: manifest.rest.clone(),
        tags: manifest.tags.clone(),
        langsmith: LangsmithFields::default(),
        connection: DraftConnection::default(),
        secrets,
    };
    Ok(present(
        app,
        caller,
        &servers::create(app, caller, draft).await?,
    ))
}

async fn update(
    app: &App,
    caller: &Caller,
    before: &Server,
    (put, referred): (&Put, &Resolved),
) -> Result<Box<RawValue>, Problem> {
    let stored = servers::open(app, &caller.tenant, before).await?;
    let secrets = put.manifest.resolve(referred, Some((before, &stored)))?;
    let address = put.manifest.address(Some((before, &stored)))?;
    let mut after = put.manifest.applied_to(before, address);
    let voiding = if put.force {
        Voiding::Agreed
    } else {
        Voiding::Refused
    };
    if put.query_dry_run {
        let agreed = Voiding::Agreed;
        let before = (before, &stored);
        let voided =
            servers::preview_voided_credentials(app, &caller.tenant, before, &after, agreed)
                .await?;
        return Ok(raw(&dry_run_response(&voided)));
    }
    if put.dry_run {
        servers::preview_change(app, &caller.tenant, (before, &stored), &after, voiding).await?;
        // Whether a secret is the stored one is not to be found out by trying.
        if after != *before || put.manifest.sends_secrets() {
            after.updated_at = app.now();
        }
        return Ok(present(app, caller, &after));
    }
    let after = servers::change(app, caller, before, after, Some(&secrets), voiding).await?;
    Ok(present(app, caller, &after))
}

fn present(app: &App, caller: &Caller, server: &Server) -> Box<RawValue> {
    Registration::from(server).mcp_server(&caller.tenant, app.gateway_url.as_deref())
}
