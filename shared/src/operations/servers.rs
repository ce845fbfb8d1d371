//! Registering, finding, changing and deleting servers.

use super::{DeletionPreview, Permitted, Unchecked};
use crate::auth::client_token::client_id;
use crate::auth::credentials::Presented;
use crate::domain::caller::Caller;
use crate::domain::credential::new_version;
use crate::domain::error::UnusableAddress;
use crate::domain::event::{Action, Event};
use crate::domain::id::{ServerId, Sortable, TenantId};
use crate::domain::job::Verification;
use crate::domain::job::{Sweep, Tombstone};
use crate::domain::json::Exact;
use crate::domain::reason::Reason;
use crate::domain::receipt::{Counts, Outcomes, Receipt, Removed};
use crate::domain::server::Numbered;
use crate::domain::server::{
    AccessType, ApiKeyHeader, Auth, Connection, KeyCheck, LangsmithFields, Place, Secrets, Server,
};
use crate::domain::time::Timestamp;
use crate::egress::{NotAllowed, is_loopback};
use crate::seal::{DataKey, Kind};
use crate::state::app::App;
use crate::table::servers::{self, Companions, Inserted};
use crate::{Error, Result};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;
use url::Url;

/// The most bytes that the secrets of one server may have together.
pub const SECRETS_LIMIT: usize = 256 * 1024;

/// How long a revoke-all counts before it acts: it must not be kept from acting.
const COUNTING: Duration = Duration::from_secs(5);

/// The most bytes of a stored record; DynamoDB's own limit is 400 KiB with all attribute names.
const RECORD_LIMIT: usize = 380 * 1024;

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

/// Whether a change may void credentials that subjects have stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voiding {
    /// Refuse the change if there are any.
    Refused,
    /// They go.
    Agreed,
    /// They go, and so they do if the address changes by a byte (LangSmith 2.4).
    AgreedForAnyAddress,
}

/// The server with this id.
///
/// # Errors
/// [`Error::Unauthenticated`], [`Error::Unavailable`], [`Error::Internal`].
pub async fn find(
    app: &App,
    who: Presented,
    id: Option<ServerId>,
) -> Result<Unchecked<Option<Server>>> {
    let tenant = who.tenant().clone();
    let (caller, found) = app
        .read_as(
            who,
            id.map(|id| servers::key(&tenant, id)).into_iter().collect(),
        )
        .await?;
    let server = id
        .map(|id| found.server(&tenant, id))
        .transpose()?
        .flatten();
    Ok(Unchecked::new(caller, server))
}

/// The server with this name.
///
/// # Errors
/// As [`find`].
pub async fn find_named(
    app: &App,
    who: Presented,
    name: &str,
) -> Result<Unchecked<Option<Server>>> {
    let tenant = who.tenant().clone();
    let (caller, found) = app
        .read_as(who, vec![servers::name_key(&tenant, name)])
        .await?;
    let server = match found.named(&tenant, name)? {
        None => None,
        Some(id) => app
            .table
            .read(vec![servers::key(&tenant, id)])
            .await?
            .server(&tenant, id)?,
    };
    Ok(Unchecked::new(caller, server))
}

/// The pointer item of a number, without the server itself.
///
/// # Errors
/// As [`find`].
pub async fn find_number(
    app: &App,
    who: Presented,
    number: Option<u64>,
) -> Result<Unchecked<Option<Numbered>>> {
    let tenant = who.tenant().clone();
    let (caller, found) = app
        .read_as(
            who,
            number
                .map(|number| servers::number_key(&tenant, number))
                .into_iter()
                .collect(),
        )
        .await?;
    let numbered = number
        .map(|number| found.numbered(&tenant, number))
        .transpose()?
        .flatten();
    Ok(Unchecked::new(caller, numbered))
}

/// The whole server behind a number that its caller may use.
///
/// # Errors
/// [`Error::ServerNotFound`] when it has just been deleted; [`Error::Unavailable`], [`Error::Internal`].
pub async fn load(app: &App, numbered: &Permitted<Numbered>) -> Result<Server> {
    let tenant = &numbered.caller.tenant;
    let found = app
        .table
        .read(vec![servers::key(tenant, numbered.found.id)])
        .await?;
    found
        .server(tenant, numbered.found.id)?
        .ok_or(Error::ServerNotFound)
}

/// All servers of the caller's tenant, oldest first. The caller is authenticated before anything is listed: a made-up API key
/// must not make anyone's whole partition be read.
///
/// # Errors
/// As [`find`].
pub async fn list(app: &App, who: Presented) -> Result<Unchecked<Vec<Server>>> {
    let caller = app.identify(who).await?;
    let mut servers = app.table.servers(&caller.tenant).await?;
    servers.sort_by_key(|server| (server.created_at, server.id));
    Ok(Unchecked::new(caller, servers))
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

/// A server that is not stored yet.
pub(super) struct Prepared {
    pub(super) server: Server,
    pub(super) data_key: DataKey,
    may_be_renamed: bool,
}

/// Gives a draft its id, number and keys.
pub(super) async fn prepare(app: &App, caller: &Caller, draft: Draft) -> Result<Prepared> {
    require_usable(app, &draft.url)?;
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
pub(super) async fn insert(
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

/// Refuses an address that no call may reach. Names are not resolved, since that would reveal internal names to those
/// who register servers.
///
/// # Errors
/// [`Error::UnusableAddress`].
pub fn require_usable(app: &App, address: &str) -> Result<()> {
    let why = match app.egress.judge(address) {
        Ok(url) if !leads_here(app, &url) => return Ok(()),
        Ok(_) => UnusableAddress::Own,
        Err(NotAllowed::Malformed) => UnusableAddress::Malformed,
        Err(NotAllowed::Scheme) => UnusableAddress::Scheme,
        Err(NotAllowed::Host) => UnusableAddress::Host,
    };
    Err(Error::UnusableAddress(why))
}

/// Whether an address is one of this deployment's own. On one machine all names of loopback are the same.
fn leads_here(app: &App, url: &Url) -> bool {
    let bases = app.public_urls.iter().chain(&app.gateway_url);
    bases.filter_map(|base| Url::parse(base).ok()).any(|base| {
        let here = is_loopback(&base) && is_loopback(url);
        base.origin() == url.origin()
            || here && base.port_or_known_default() == url.port_or_known_default()
    })
}

/// The address of `after`, which is the stored one if it reads the same.
fn address_of<'a>(before: &'a Server, stored: &'a Secrets, after: &'a Server) -> &'a str {
    if after.url == before.url {
        stored.address(before)
    } else {
        &after.url
    }
}

/// Replaces `before` by `after`, and its secrets by `secrets` where they are given, as they have to be for another address. If
/// nothing differs nothing is written. A change of the outbound authentication raises the auth revision; with `voiding` agreed, the credentials
/// stored until then are gone in the same step.
///
/// # Errors
/// [`Error::Contended`] when `before` is no longer what is stored; [`Error::WouldVoidCredentials`],
/// [`Error::UnusableAddress`], [`Error::TooLarge`], [`Error::Unavailable`], [`Error::Internal`].
pub async fn change(
    app: &App,
    caller: &Caller,
    before: &Server,
    mut after: Server,
    secrets: Option<&Secrets>,
    voiding: Voiding,
) -> Result<Server> {
    let (tenant, now) = (&caller.tenant, app.now());
    let mut moved_to = None;
    if let Some(secrets) = secrets {
        let key = data_key(app, tenant, before).await?;
        let stored = open_with(&key, tenant, before)?;
        let address = address_of(before, &stored, &after).to_owned();
        let mut secrets = secrets.clone();
        after.url = secrets.keep_address(&address);
        moved_to = Some(address).filter(|address| address != stored.address(before));
        if stored != secrets {
            after.secrets = seal(&key, tenant, before.id, &secrets)?;
        }
        if api_key(&after, &secrets) != api_key(before, &stored) {
            after.connection.key_check = KeyCheck::Pending;
            after.connection.verification = None;
        }
    }
    // A new api key, or the same one once more, is tried anew.
    if after.connection.verification.is_none()
        && after.connection.api_key.is_some()
        && after.connection.key_check == KeyCheck::Pending
    {
        after.connection.verification = Some(new_version(now)?);
    }
    if after == *before {
        return Ok(after);
    }
    let verification = verification(tenant, &after, now)
        .filter(|one| before.connection.verification.as_ref() != Some(&one.id));
    after.version = before.version + 1;
    after.updated_at = now;
    let mut sweep = None;
    let moved = moved_to.is_some();
    if after.outbound_auth_differs(before, moved) {
        // From now on it goes by its own settings: the integration's client and secret are for the integration's server.
        after.connection.integration = None;
    }
    let voids = voids(before, &after, moved, voiding);
    if voids {
        reject_voiding_change(app, tenant, before, voiding).await?;
    }
    if let Some(address) = &moved_to {
        require_usable(app, address)?;
    }
    if voids {
        after.auth_revision = before.auth_revision + 1;
        if voiding != Voiding::Refused {
            after.void_before = after.auth_revision;
            after.void_reason = Reason::ServerChanged;
        }
        // Even where none is to be voided, one may be stored between the count and the write.
        sweep = Some(Sweep {
            reason: Reason::ServerChanged,
            ..Sweep::of(tenant, before, &after, after.updated_at)
        });
    }
    fits(&after)?;
    let action = match sweep {
        Some(_) => Action::ServerMoved,
        None => Action::ServerChanged,
    };
    let event = Event::new(after.updated_at, tenant, caller, action)?.at(after.id);
    let change = (before.version, &after);
    if !app
        .table
        .replace_server(
            tenant,
            change,
            sweep.as_ref(),
            None,
            verification.as_ref(),
            &event,
        )
        .await?
    {
        return Err(Error::Contended);
    }
    if sweep.is_some() || verification.is_some() {
        app.work_appeared.notify_one();
    }
    Ok(after)
}

/// Whether a change voids the stored credentials; `moved` says whether the whole address differs.
fn voids(before: &Server, after: &Server, moved: bool, voiding: Voiding) -> bool {
    (moved && voiding == Voiding::AgreedForAnyAddress) || after.outbound_auth_differs(before, moved)
}

/// Validates a change without making it. Returns whether the address differs.
///
/// # Errors
/// [`Error::UnusableAddress`], [`Error::TooLarge`], [`Error::Internal`].
fn validate_change(
    app: &App,
    (before, stored): (&Server, &Secrets),
    after: &Server,
) -> Result<bool> {
    let address = address_of(before, stored, after);
    let moved = address != stored.address(before);
    if moved {
        require_usable(app, address)?;
    }
    fits(after)?;
    Ok(moved)
}

/// The credentials that a change would void; for a dry run.
///
/// # Errors
/// [`Error::UnusableAddress`], [`Error::TooLarge`], [`Error::Unavailable`], [`Error::Internal`].
pub async fn preview_voided_credentials(
    app: &App,
    tenant: &TenantId,
    before: (&Server, &Secrets),
    after: &Server,
    voiding: Voiding,
) -> Result<DeletionPreview> {
    let moved = validate_change(app, before, after)?;
    if voids(before.0, after, moved, voiding) {
        preview_deletion(app, tenant, before.0).await
    } else {
        Ok(DeletionPreview::default())
    }
}

/// The header that carries the api key of a connection.
fn api_key<'a>(server: &Server, secrets: &'a Secrets) -> Option<&'a str> {
    let place = server.connection.api_key.as_ref()?;
    secrets.get(Place::Header(&place.header))
}

/// The verification that a server's record names.
fn verification(tenant: &TenantId, server: &Server, now: Timestamp) -> Option<Verification> {
    Some(Verification {
        id: server.connection.verification.clone()?,
        tenant: tenant.clone(),
        server: server.id,
        at: now,
        attempts: 0,
    })
}

/// Removes every credential at a server, which stays registered, and voids its pending consents: raises the auth
/// revision and leaves the rest to a sweep. Returns how many were there, as far as they could be counted in a few
/// seconds, and the receipt's id: the receipt counts them all.
///
/// # Errors
/// [`Error::Contended`] when the server is no longer what was read; [`Error::Unavailable`], [`Error::Internal`].
pub async fn revoke_all(app: &App, server: &Permitted<Server>) -> Result<(Counts, String)> {
    let (tenant, before) = (&server.caller.tenant, &server.found);
    let until = Some(Instant::now() + COUNTING);
    let counts = preview_deletion_until(app, tenant, before, until)
        .await?
        .counts;
    let now = app.now();
    let mut after = before.clone();
    after.version += 1;
    after.auth_revision += 1;
    after.void_before = after.auth_revision;
    after.void_reason = Reason::Revoked;
    let receipt = Receipt {
        id: Sortable::new(now)?.ulid(),
        removed: Removed::All {
            name: before.name.clone(),
        },
        server: Some(before.id),
        actor: server.caller.actor.clone(),
        at: now,
        closed: false,
        changed_at: None,
        counts: Some(Counts::default()),
        outcomes: Outcomes::default(),
        presented: Vec::new(),
    };
    let sweep = Sweep {
        receipt: Some(receipt.id.clone()),
        ..Sweep::of(tenant, before, &after, now)
    };
    let event = Event::new(now, tenant, &server.caller, Action::ServerDisconnected)?
        .at(before.id)
        .under(Some(&receipt.id));
    let change = (before.version, &after);
    if !app
        .table
        .replace_server(tenant, change, Some(&sweep), Some(&receipt), None, &event)
        .await?
    {
        return Err(Error::Contended);
    }
    app.work_appeared.notify_one();
    Ok((counts, receipt.id))
}

/// Checks whether a change would be refused; for a dry run.
///
/// # Errors
/// [`Error::WouldVoidCredentials`], [`Error::UnusableAddress`], [`Error::TooLarge`], [`Error::Unavailable`],
/// [`Error::Internal`].
pub async fn preview_change(
    app: &App,
    tenant: &TenantId,
    before: (&Server, &Secrets),
    after: &Server,
    voiding: Voiding,
) -> Result<()> {
    let moved = address_of(before.0, before.1, after) != before.1.address(before.0);
    if after.outbound_auth_differs(before.0, moved) {
        reject_voiding_change(app, tenant, before.0, voiding).await?;
    }
    validate_change(app, before, after).map(drop)
}

async fn reject_voiding_change(
    app: &App,
    tenant: &TenantId,
    before: &Server,
    voiding: Voiding,
) -> Result<()> {
    if voiding != Voiding::Refused {
        return Ok(());
    }
    match preview_deletion(app, tenant, before).await?.counts {
        Counts {
            oauth: 0,
            overrides: 0,
            ..
        } => Ok(()),
        Counts {
            oauth, overrides, ..
        } => Err(Error::WouldVoidCredentials { oauth, overrides }),
    }
}

/// The valid credentials at a server, which its deletion would remove.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn preview_deletion(
    app: &App,
    tenant: &TenantId,
    server: &Server,
) -> Result<DeletionPreview> {
    preview_deletion_until(app, tenant, server, None).await
}

/// The same, counted until a deadline.
async fn preview_deletion_until(
    app: &App,
    tenant: &TenantId,
    server: &Server,
    until: Option<Instant>,
) -> Result<DeletionPreview> {
    let mut preview = DeletionPreview::default();
    let mut after = None;
    loop {
        let page = app.table.credentials(tenant, server.id, after, 1000);
        let page = page.await?;
        let some = page.credentials.iter();
        for credential in some.filter(|one| !one.is_void_under(server)) {
            preview.add(credential);
        }
        // What cannot be read is there all the same.
        for source in page.unreadable {
            preview.counts.add(source);
            preview.subjects += 1;
        }
        after = page.next;
        if after.is_none() || until.is_some_and(|until| Instant::now() >= until) {
            return Ok(preview);
        }
    }
}

/// Deletes a server. From the moment this returns no read path of any contract finds it or anything under it; its
/// partition is emptied by the purge. Returns the receipt's id.
///
/// # Errors
/// [`Error::ServerNotFound`] when someone else has just deleted it; [`Error::Unavailable`], [`Error::Internal`].
pub async fn delete(app: &App, caller: &Caller, server: &Numbered) -> Result<String> {
    let now = app.now();
    let receipt = Receipt {
        id: Sortable::new(now)?.ulid(),
        removed: Removed::Server {
            name: server.name.clone(),
            number: server.number,
        },
        server: Some(server.id),
        actor: caller.actor.clone(),
        at: now,
        closed: false,
        changed_at: None,
        counts: None,
        outcomes: Outcomes::default(),
        presented: Vec::new(),
    };
    let tombstone = Tombstone {
        tenant: caller.tenant.clone(),
        server: server.id,
        number: server.number,
        receipt: receipt.id.clone(),
        at: now,
        data_key: server.data_key.clone(),
        count: None,
        touched: None,
    };
    let event = Event::new(now, &caller.tenant, caller, Action::ServerDeleted)?
        .at(server.id)
        .under(Some(&receipt.id));
    if !app
        .table
        .delete_server(&caller.tenant, server, &tombstone, &receipt, &event)
        .await?
    {
        return Err(Error::ServerNotFound);
    }
    app.work_appeared.notify_one();
    Ok(receipt.id)
}

/// The secret values of a server.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn open(app: &App, tenant: &TenantId, server: &Server) -> Result<Secrets> {
    open_with(&data_key(app, tenant, server).await?, tenant, server)
}

/// The data key of a server.
pub(super) async fn data_key(app: &App, tenant: &TenantId, server: &Server) -> Result<DataKey> {
    app.data_key(tenant, server.id, &server.data_key).await
}

pub(super) fn open_with(key: &DataKey, tenant: &TenantId, server: &Server) -> Result<Secrets> {
    let json = key.open(tenant, server.id, Kind::ServerSecrets, &server.secrets)?;
    Secrets::from_json(&json).map_err(|_| Error::internal("a server's secrets do not decode"))
}

fn seal(
    key: &DataKey,
    tenant: &TenantId,
    id: ServerId,
    secrets: &Secrets,
) -> Result<crate::domain::sealed::Sealed> {
    if secrets.len_bytes() > SECRETS_LIMIT {
        return Err(Error::TooLarge);
    }
    let json = secrets
        .to_json()
        .map_err(|_| Error::internal("a server's secrets do not encode"))?;
    key.seal(tenant, id, Kind::ServerSecrets, &json)
}

/// Whether the record fits into one item: bad input may not turn into a refusal of the store.
fn fits(server: &Server) -> Result<()> {
    let json =
        serde_json::to_vec(server).map_err(|_| Error::internal("a server does not encode"))?;
    if json.len() > RECORD_LIMIT {
        Err(Error::TooLarge)
    } else {
        Ok(())
    }
}
