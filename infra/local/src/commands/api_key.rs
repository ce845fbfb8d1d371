//! `hawser api-key`: creating, listing and revoking API keys.

use super::Outcome;
use super::at::{At, record_holder, tenant_id};
use super::token::Holder;
use clap::Subcommand;
use hawser_core::auth::api_key::{mint_api_key, mint_personal};
use hawser_core::domain::api_key::ApiKey;
use hawser_core::domain::event::{Action, Event, Who};
use hawser_core::domain::id::TenantId;
use hawser_core::domain::subject::Subject;
use hawser_core::domain::time::{Clock, Timestamp};
use hawser_core::table::Table;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use std::io::Write;

#[derive(Subcommand)]
pub(crate) enum ApiKeyCommand {
    /// Make a key and print it, once
    Create {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        holder: Holder,
        /// The subject that the key acts as (default: none; a service key acts as itself)
        #[arg(long)]
        subject: Option<String>,
        /// A name for people
        #[arg(long)]
        label: Option<String>,
        /// Seconds until the key expires (default: never)
        #[arg(long)]
        expires_in: Option<i64>,
        /// Make a personal access token of the subject's instead, to be sent as a bearer token
        #[arg(long, requires = "subject")]
        personal: bool,
        /// The one connection that a personal access token is for, by its number
        #[arg(long, requires = "personal")]
        connection: Option<u64>,
    },
    /// List the keys of a tenant, one JSON object a line
    List {
        #[command(flatten)]
        at: At,
        /// The tenant
        #[arg(long)]
        tenant: String,
    },
    /// End a key at once
    Revoke {
        #[command(flatten)]
        at: At,
        /// The tenant
        #[arg(long)]
        tenant: String,
        /// The id that `list` shows
        id: String,
    },
}

pub(crate) async fn api_key(command: ApiKeyCommand) -> Outcome {
    match command {
        ApiKeyCommand::Create {
            at,
            holder,
            subject,
            label,
            expires_in,
            personal,
            connection,
        } => {
            let tenant = tenant_id(&holder.tenant)?;
            let subject = subject.as_deref().map(record_holder).transpose()?;
            let now = Clock::System.now();
            let end = expires_in.map(|seconds| now.plus_seconds(seconds));
            let (table, _store) = at.open().await?;
            let wanted = Wanted {
                owner: subject,
                label,
                expires_at: end,
                personal,
                bound_to: connection,
            };
            let key = add_key(&table, &tenant, &holder, wanted, now).await?;
            writeln!(std::io::stdout(), "{}", key.expose_secret())?;
        }
        ApiKeyCommand::List { at, tenant } => {
            let (table, _store) = at.open().await?;
            for key in table.api_keys(&tenant_id(&tenant)?).await? {
                let line = json!({
                    "id": key.id,
                    "subject": key.owner.map(|owner| format!("{}:{}", owner.kind().as_str(), owner.id())),
                    "label": key.label,
                    "roles": key.roles,
                    "permissions": key.permissions,
                    "scopes": key.scopes,
                    "personal": key.personal,
                    "connection": key.bound_to,
                    "createdAt": key.created_at.seconds_z(),
                    "expiresAt": key.expires_at.map(Timestamp::seconds_z),
                });
                writeln!(std::io::stdout(), "{line}")?;
            }
        }
        ApiKeyCommand::Revoke { at, tenant, id } => {
            let (table, _store) = at.open().await?;
            let tenant = tenant_id(&tenant)?;
            let removed = key_event(&tenant, Action::KeyRemoved, &id, Clock::System.now())?;
            if !table.remove_api_key(&tenant, &id, &removed).await? {
                return Err("no key has that id".into());
            }
        }
    }
    Ok(())
}

/// What two API keys of one subject may differ in.
#[derive(Default)]
pub(crate) struct Wanted {
    pub(crate) owner: Option<Subject>,
    pub(crate) label: Option<String>,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) personal: bool,
    pub(crate) bound_to: Option<u64>,
}

pub(crate) async fn add_key(
    table: &Table,
    tenant: &TenantId,
    holder: &Holder,
    wanted: Wanted,
    now: Timestamp,
) -> Outcome<SecretString> {
    let Wanted {
        owner,
        label,
        expires_at,
        personal,
        bound_to,
    } = wanted;
    let (id, text, secret_hash) = match personal {
        true => mint_personal(now)?,
        false => mint_api_key(tenant, now)?,
    };
    let key = ApiKey {
        id,
        secret_hash,
        owner,
        email: holder.email.clone(),
        label,
        roles: holder.roles(),
        teams: holder.teams.iter().cloned().collect(),
        permissions: holder.permissions(),
        scopes: holder.scopes(),
        personal,
        bound_to,
        created_at: now,
        expires_at,
    };
    let mut created = key_event(tenant, Action::KeyCreated, &key.id, now)?;
    created.subject.clone_from(&key.owner);
    table.add_api_key(tenant, &key, &created).await?;
    Ok(text)
}

pub(crate) fn key_event(
    tenant: &TenantId,
    action: Action,
    id: &str,
    now: Timestamp,
) -> Outcome<Event> {
    Ok(Event::new(now, tenant, Who::Operator, action)?.of_key(id))
}
