//! `PUT /mcp`: create or update by name (TrueFoundry 3.1).

use super::manifest::{Manifest, Registration};
use super::permission::{Permission, require};
use super::problem::Problem;
use super::reader::{Faults, Reader};
use super::{Data, admit, dry_run};
use crate::http::{Request, Response, body, dry_run_response, json};
use hawser_core::App;
use hawser_core::auth::credentials::Presented;
use hawser_core::domain::caller::Caller;
use hawser_core::domain::json::raw;
use hawser_core::domain::server::{LangsmithFields, Server};
use hawser_core::operations::servers::{
    self, Change, Draft, DraftConnection, DraftName, PutOutcome, Voiding,
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
    let (who, put) = admit(app, request, parse(app, request)).await?;
    let read = || read(app, who.clone(), &put);
    let data = match servers::put(app, read, put.dry_run || put.counts).await? {
        PutOutcome::Created(..) if put.counts => {
            raw(&dry_run_response(&DeletionPreview::default()))
        }
        PutOutcome::Created(caller, Some(server)) => present(app, &caller, &server),
        PutOutcome::Created(caller, None) => {
            Registration::for_dry_run(&put.manifest, &caller.actor)
                .mcp_server(&caller.tenant, app.gateway_url.as_deref())
        }
        PutOutcome::Changed(plan) if put.counts => {
            raw(&dry_run_response(&plan.count_voided(app).await?))
        }
        PutOutcome::Changed(mut plan) => {
            // Whether a secret is the stored one is not to be found out by trying.
            if put.dry_run && put.manifest.sends_secrets() {
                plan.after.updated_at = app.now();
            }
            present(app, &plan.at.caller, &plan.after)
        }
    };
    Ok(json(200, &Data { data }))
}

fn parse(app: &App, request: &Request) -> Result<Put, Problem> {
    let counts = dry_run(request)?;
    let mut faults = Faults::default();
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

/// Looks the name up, and says what the manifest makes of what it leads to.
async fn read(app: &App, who: Presented, put: &Put) -> Result<servers::Put, Problem> {
    let named = servers::find_named(app, who, &put.manifest.name)
        .await?
        .permit(|caller, server| match server {
            Some(server) => require(caller, Some(server), Permission::Manage),
            None => require(caller, None, Permission::Create),
        })?;
    let Permitted { caller, found } = named;
    Ok(match found {
        None => servers::Put::Create(Box::new(caller), Box::new(draft(&put.manifest)?)),
        Some(found) => {
            let at = Permitted { caller, found };
            servers::Put::Change(Box::new(change(app, at, put).await?))
        }
    })
}

fn draft(manifest: &Manifest) -> Result<Draft, Problem> {
    let secrets = manifest.resolve(None)?;
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

async fn change(app: &App, at: Permitted<Server>, put: &Put) -> Result<Change<Server>, Problem> {
    let before = &at.found;
    let stored = servers::open(app, &at.caller.tenant, before).await?;
    let secrets = put.manifest.resolve(Some((before, &stored)))?;
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
