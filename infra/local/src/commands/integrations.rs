//! `hawser integrations`: the catalogue that connections can be made from.

use super::Outcome;
use super::at::At;
use clap::Subcommand;
use hawser_core::catalogue::{self, Offer};
use hawser_core::domain::id::TenantId;
use hawser_core::domain::integration::{ClientSecret, Integration};
use hawser_core::operations::audit_log;
use hawser_core::operations::integrations::{self, Kind};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub(crate) enum IntegrationsCommand {
    /// Make the catalogue equal to a file: one JSON object a line for each change, then the figures. A file with a mistake
    /// changes nothing
    Apply {
        #[command(flatten)]
        at: At,
        /// With --table: the KMS key that the tenants' keys are wrapped by; needed if the file holds secrets
        #[arg(long, requires = "table")]
        kms_key_id: Option<String>,
        /// Change nothing, and print what would be changed
        #[arg(long)]
        dry_run: bool,
        /// The file, as JSON; - for standard input
        file: PathBuf,
    },
    /// List the integrations, one JSON object a line
    List {
        #[command(flatten)]
        at: At,
    },
    /// Take one integration out of the catalogue
    Remove {
        #[command(flatten)]
        at: At,
        /// The name of the integration
        name: String,
    },
    /// Print the events of the catalogue, newest first, one JSON object a line
    Events {
        #[command(flatten)]
        at: At,
    },
}

pub(crate) async fn integrations_of(command: IntegrationsCommand) -> Outcome {
    let mut out = std::io::stdout().lock();
    match command {
        IntegrationsCommand::Apply {
            at,
            kms_key_id,
            dry_run,
            file,
        } => {
            let offers = offers(&file, at.table.is_none())?;
            let holds_secrets = offers.values().any(Offer::holds_secrets);
            if at.table.is_some() && kms_key_id.is_none() && holds_secrets {
                return Err("the file holds secrets: --kms-key-id must name the key".into());
            }
            let (_, store) = at.open().await?;
            let app = at.app(
                Some(kms_key_id.as_deref().unwrap_or("none")),
                store.as_ref(),
            );
            let app = app.await?.ok_or("there is no store")?;
            let changes = integrations::apply(&app, &offers, dry_run).await?;
            for change in &changes {
                writeln!(out, "{}", json!(change))?;
            }
            let count = |kind| changes.iter().filter(|one| one.change == kind).count();
            let [added, changed, removed] = [Kind::Added, Kind::Changed, Kind::Removed].map(count);
            let unchanged = offers.len() - added - changed;
            let figures = json!({"added": added, "changed": changed, "removed": removed, "unchanged": unchanged});
            writeln!(out, "{figures}")?;
        }
        IntegrationsCommand::List { at } => {
            let (table, _store) = at.open().await?;
            for (name, stored) in table.integrations().await? {
                let line = match stored {
                    Some(stored) => shown(&name, &stored.integration),
                    None => json!({"integration": name, "unreadable": true}),
                };
                writeln!(out, "{line}")?;
            }
        }
        IntegrationsCommand::Remove { at, name } => {
            let (_, store) = at.open().await?;
            let app = at.app(Some("none"), store.as_ref()).await?;
            let app = app.ok_or("there is no store")?;
            if !integrations::remove(&app, &name).await? {
                return Err("no integration has that name".into());
            }
        }
        IntegrationsCommand::Events { at } => {
            let (_, store) = at.open().await?;
            let app = at.app(Some("none"), store.as_ref()).await?;
            let app = app.ok_or("there is no store")?;
            let (operator, mut before) = (TenantId::operator(), None);
            loop {
                let page = audit_log::list(&app, &operator, before, 1000, |_| true);
                let (events, next) = page.await?;
                for event in &events {
                    writeln!(out, "{}", event.chained_line()?)?;
                }
                before = next;
                if before.is_none() {
                    break;
                }
            }
        }
    }
    Ok(())
}

/// The integrations of a file. For a store on this machine they may be at http on loopback.
pub(crate) fn offers(file: &Path, loopback_http: bool) -> Outcome<BTreeMap<String, Offer>> {
    let document: SecretString = match file.to_str() {
        Some("-") => std::io::read_to_string(std::io::stdin())?.into(),
        _ => std::fs::read_to_string(file)
            .map_err(|error| format!("{}: {error}", file.display()))?
            .into(),
    };
    Ok(catalogue::read(document.expose_secret(), loopback_http)?)
}

/// An integration for people, with the place of its client secret.
fn shown(name: &str, integration: &Integration) -> Value {
    let oauth = integration.oauth.as_ref();
    let secret = oauth.and_then(|oauth| oauth.client_secret.as_ref());
    json!({
        "integration": name,
        "displayName": integration.display_name,
        "mcpUrl": integration.mcp_url,
        "active": integration.active,
        "apiKey": integration.api_key.is_some(),
        "oauth": oauth.is_some(),
        "clientId": oauth.and_then(|oauth| oauth.client_id.as_ref()),
        "clientSecret": secret.map(|secret| match secret {
            ClientSecret::Sealed(_) => json!("sealed"),
            ClientSecret::Reference(reference) => json!({
                (reference.store.as_str()): reference.id,
                "jsonKey": reference.json_key,
            }),
        }),
    })
}
