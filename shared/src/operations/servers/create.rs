//! Registering a server.

use super::{fits, require_usable, seal, verification};
use crate::auth::client_token::client_id;
use crate::domain::caller::Caller;
use crate::domain::credential::new_version;
use crate::domain::event::{Action, Event};
use crate::domain::id::ServerId;
use crate::domain::json::Exact;
use crate::domain::reason::Reason;
use crate::domain::server::{
    AccessType, ApiKeyHeader, Auth, Connection, KeyCheck, LangsmithFields, Secrets, Server,
};
use crate::seal::DataKey;
use crate::state::app::App;
use crate::table::servers::{Companions, Inserted};
use crate::{Error, Result};
use std::collections::BTreeSet;

/// A server to register, independent of the contract.
#[derive(Debug)]
pub struct Draft {
    /// Its name, or the integration that it is named after.
    pub name: DraftName,
    /// As sent, with whatever is secret in it.
    pub url: String,
    /// Text for people.
    pub description: Option<String>,
    /// How it authenticates calls.
    pub auth: Auth,
    /// Names of further headers.
    pub additional_headers: Option<Vec<String>>,
    /// TrueFoundry's own fields.
    pub manifest: serde_json::Map<String, serde_json::Value>,
    /// The manifest's tags.
    pub tags: Option<Exact>,
    /// LangSmith's own fields.
    pub langsmith: LangsmithFields,
    /// Kambrium's own fields.
    pub connection: DraftConnection,
    /// The secret values.
    pub secrets: Secrets,
}

/// The name of a new server.
#[derive(Debug)]
pub enum DraftName {
    /// It was given one, which must be free.
    Given(String),
    /// `<integration>-<number>`, with `-2`, `-3` ... appended while that is taken (Kambrium 10).
    After(String),
}

/// What Kambrium decides about a new server.
#[derive(Debug)]
pub struct DraftConnection {
    /// The integration's name for people; a sibling's server shows its own.
    pub display_name: Option<String>,
    /// The integration that it is made from.
    pub integration: Option<String>,
    /// Where its api key goes.
    pub api_key: Option<ApiKeyHeader>,
    /// What agents may do.
    pub access_type: AccessType,
    /// Tools switched off.
    pub disabled_tools: BTreeSet<u64>,
    /// The on/off switch.
    pub agent_enabled: bool,
    /// Hash of the OAuth client's secret.
    pub client_secret_hash: Option<String>,
}

impl Default for DraftConnection {
    /// What a server registered through a sibling contract looks like to Kambrium (Kambrium 9).
    fn default() -> Self {
        Self {
            display_name: None,
            integration: None,
            api_key: None,
            access_type: AccessType::Write,
            disabled_tools: BTreeSet::new(),
            agent_enabled: true,
            client_secret_hash: None,
        }
    }
}

/// Registers a server: record, name and number in one transaction.
///
/// # Errors
/// [`Error::NameTaken`], [`Error::TooLarge`], [`Error::Unavailable`], [`Error::Internal`].
pub async fn create(app: &App, caller: &Caller, draft: Draft) -> Result<Server> {
    let prepared = prepare(app, caller, draft).await?;
    let verification = verification(&caller.tenant, &prepared.server, prepared.server.created_at);
    let companions = Companions {
        verification: verification.as_ref(),
        ..Companions::default()
    };
    let server = insert(app, caller, &prepared, &companions).await?;
    if verification.is_some() {
        app.work_appeared.notify_one();
    }
    Ok(server)
}

/// Refuses a draft that no server can be made of; all that a dry run can say about one.
pub(super) fn require_creatable(app: &App, draft: &Draft) -> Result<()> {
    require_usable(app, &draft.url)
}

/// A server that is not stored yet.
pub(in crate::operations) struct Prepared {
    pub(in crate::operations) server: Server,
    pub(in crate::operations) data_key: DataKey,
    may_be_renamed: bool,
}

/// Gives a draft its id, number and keys.
pub(in crate::operations) async fn prepare(
    app: &App,
    caller: &Caller,
    draft: Draft,
) -> Result<Prepared> {
    require_creatable(app, &draft)?;
    let tenant = &caller.tenant;
    let now = app.now();
    let number = app.table.next_number(tenant).await?;
    let id = ServerId::new(now)?;
    let (data_key, wrapped) = app
        .current_tenant_key(tenant)
        .await?
        .new_data_key(tenant, id)?;
    let (base, may_be_renamed) = match draft.name {
        DraftName::Given(name) => (name, false),
        DraftName::After(integration) => (format!("{integration}-{number}"), true),
    };
    let by_key = draft.connection.api_key.is_some();
    let mut secrets = draft.secrets;
    let server = Server {
        id,
        number,
        name: base.clone(),
        url: secrets.keep_address(&draft.url),
        description: draft.description,
        auth: draft.auth,
        additional_headers: draft.additional_headers,
        manifest: draft.manifest,
        tags: draft.tags,
        langsmith: draft.langsmith,
        connection: Connection {
            display_name: draft
                .connection
                .display_name
                .unwrap_or_else(|| base.clone()),
            api_key: draft.connection.api_key,
            access_type: draft.connection.access_type,
            disabled_tools: draft.connection.disabled_tools,
            agent_enabled: draft.connection.agent_enabled,
            times_off: 0,
            key_check: KeyCheck::Pending,
            verification: by_key.then(|| new_version(now)).transpose()?,
            integration: draft.connection.integration,
            client_id: client_id(tenant, id),
            signing_key: match draft.connection.client_secret_hash {
                Some(_) => Some(data_key.new_signing_key(tenant, id)?),
                None => None,
            },
            client_secret_hash: draft.connection.client_secret_hash,
        },
        consent_failed: false,
        last_failed_consent: None,
        created_by: caller.actor.clone(),
        created_at: now,
        updated_at: now,
        auth_revision: 1,
        void_before: 1,
        void_reason: Reason::ServerChanged,
        version: 1,
        data_key: wrapped,
        secrets: seal(&data_key, tenant, id, &secrets)?,
    };
    fits(&server)?;
    Ok(Prepared {
        server,
        data_key,
        may_be_renamed,
    })
}

/// Stores a prepared server with its companion items in one transaction.
pub(in crate::operations) async fn insert(
    app: &App,
    caller: &Caller,
    prepared: &Prepared,
    companions: &Companions<'_>,
) -> Result<Server> {
    let mut server = prepared.server.clone();
    let now = app.now();
    let created = Event::new(now, &caller.tenant, caller, Action::ServerCreated)?.at(server.id);
    let mut events = vec![created];
    if let Some(session) = companions.session {
        events.push(Event::of_session(
            now,
            caller,
            session,
            Action::SessionBegun,
        )?);
    }
    let base = server.name.clone();
    for suffix in 2.. {
        match app
            .table
            .insert_server(&caller.tenant, &server, companions, &events)
            .await?
        {
            Inserted::Done => break,
            Inserted::NameTaken if prepared.may_be_renamed => {
                server.name = format!("{base}-{suffix}");
            }
            Inserted::NameTaken => return Err(Error::NameTaken),
        }
    }
    Ok(server)
}
