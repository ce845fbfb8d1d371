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
use hawser_core::operations::servers::{
    self, Change, ChangePlan, Draft, DraftConnection, DraftName, PutOutcome, Voiding,
};
use hawser_core::operations::{DeletionPreview, Permitted};
use lambda_http::Body;
use serde_json::value::RawValue;

struct Put {
    manifest: Manifest,
    dry_run: bool,
    force: bool,
    /// Whether only to count what an update would void if it were forced: the query's `dryRun`, which is ours, and not the
    /// contract's own in the body.
    counts: bool,
}

/// Returns 200 with the server, created or updated. With `dryRun=true` in the query nothing changes, and the answer counts
/// what the update would void if it were forced.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let Applied { data, .. } = apply(app, request).await?;
    Ok(json(200, &Data { data }))
}

/// What a manifest was applied to, and what came of it.
pub(super) struct Applied {
    /// The manifest from before, as it is shown; `None` if no server had that name.
    pub(super) existing: Option<Box<RawValue>>,
    /// The server, or what a dry run counted.
    pub(super) data: Box<RawValue>,
}

/// Creates or updates the server that the request's manifest names.
pub(super) async fn apply(app: &App, request: &Request) -> Result<Applied, Problem> {
    let (who, put) = admit(app, request, parse(app, request)).await?;
    let read = || read(app, who.clone(), &put);
    Ok(
        match servers::put(app, read, put.dry_run || put.counts).await? {
            PutOutcome::Created(caller, server) => Applied {
                existing: None,
                data: created(app, &put, &caller, server.as_deref()),
            },
            PutOutcome::Changed(plan) => Applied {
                existing: Some(raw(&Registration::from(&plan.at.found).manifest())),
                data: changed(app, &put, *plan).await?,
            },
        },
    )
}

fn created(app: &App, put: &Put, caller: &Caller, server: Option<&Server>) -> Box<RawValue> {
    match server {
        _ if put.counts => raw(&dry_run_response(&DeletionPreview::default())),
        Some(server) => present(app, caller, server),
        None => Registration::for_dry_run(&put.manifest, &caller.actor)
            .mcp_server(&caller.tenant, app.gateway_url.as_deref()),
    }
}

async fn changed(
    app: &App,
    put: &Put,
    mut plan: ChangePlan<Server>,
) -> Result<Box<RawValue>, Problem> {
    if put.counts {
        return Ok(raw(&dry_run_response(&plan.count_voided(app).await?)));
    }
    // Whether a secret is the stored one is not to be found out by trying.
    if put.dry_run && put.manifest.sends_secrets() {
        plan.after.updated_at = app.now();
    }
    Ok(present(app, &plan.at.caller, &plan.after))
}

fn parse(app: &App, request: &Request) -> Result<Put, Problem> {
    let counts = dry_run(request)?;
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
            counts,
        })
    });
    faults.into_result(put)
}

/// Looks the name up, follows the references to secrets, and says what the manifest makes of what the name leads to.
async fn read(app: &App, who: Presented, put: &Put) -> Result<servers::Put, Problem> {
    let named = servers::find_named(app, who, &put.manifest.name)
        .await?
        .permit(|caller, server| match server {
            Some(server) => require(caller, Some(server), Permission::Manage),
            None => require(caller, None, Permission::Create),
        })?;
    let Permitted { caller, found } = named;
    let referred = put.manifest.follow_references(app, &caller).await?;
    Ok(match found {
        None => {
            let draft = draft(&put.manifest, &referred)?;
            servers::Put::Create(Box::new(caller), Box::new(draft))
        }
        Some(found) => {
            let at = Permitted { caller, found };
            servers::Put::Change(Box::new(change(app, at, put, &referred).await?))
        }
    })
}

fn draft(manifest: &Manifest, referred: &Resolved) -> Result<Draft, Problem> {
    let secrets = manifest.resolve(referred, None)?;
    Ok(Draft {
        name: DraftName::Given(manifest.name.clone()),
        url: manifest.address(None)?,
        description: Some(manifest.description.clone()),
        auth: manifest.auth.clone(),
        additional_headers: manifest.additional_headers.clone(),
        manifest: manifest.rest.clone(),
        tags: manifest.tags.clone(),
        langsmith: LangsmithFields::default(),
        connection: DraftConnection::default(),
        secrets,
    })
}

async fn change(
    app: &App,
    at: Permitted<Server>,
    put: &Put,
    referred: &Resolved,
) -> Result<Change<Server>, Problem> {
    let before = &at.found;
    let stored = servers::open(app, &at.caller.tenant, before).await?;
    let secrets = put.manifest.resolve(referred, Some((before, &stored)))?;
    let address = put.manifest.address(Some((before, &stored)))?;
    Ok(Change {
        after: put.manifest.applied_to(before, address),
        at,
        secrets: Some(secrets),
        voiding: if put.force || put.counts {
            Voiding::Agreed
        } else {
            Voiding::Refused
        },
    })
}

fn present(app: &App, caller: &Caller, server: &Server) -> Box<RawValue> {
    Registration::from(server).mcp_server(&caller.tenant, app.gateway_url.as_deref())
}
