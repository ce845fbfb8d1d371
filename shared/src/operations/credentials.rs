//! The credentials of one subject at one server: finding, installing and ending them.

use super::servers::data_key;
use super::{DeletionPreview, Permitted, Removal, Unchecked, retry_on_contention};
use crate::auth::credentials::Presented;
use crate::domain::caller::Caller;
use crate::domain::credential::{
    Credential, Override, OverrideValue, Records, Source, new_version,
};
use crate::domain::event::{Action, Event};
use crate::domain::id::{ServerId, Sortable, TenantId};
use crate::domain::reason::Reason;
use crate::domain::receipt::{Counts, Receipt, Removed};
use crate::domain::server::{Auth, Numbered, Server};
use crate::domain::subject::Subject;
use crate::seal::Kind;
use crate::state::app::App;
use crate::table::credentials::{WriteOutcome, record_keys};
use crate::table::reasons::StoredReason;
use crate::table::{Found, Key, Table, servers};
use crate::{Error, Result};
use std::collections::HashMap;

/// Servers whose records are read at once: three keys each, and a batch has at most a hundred.
const SERVERS_AT_ONCE: usize = 33;

/// A server and the records of one subject there.
#[derive(Debug)]
pub struct ServerAndRecords {
    /// The server.
    pub server: Server,
    /// The subject.
    pub subject: Subject,
    /// The subject's records there.
    pub records: Records,
}

impl AsRef<Server> for ServerAndRecords {
    fn as_ref(&self) -> &Server {
        &self.server
    }
}

impl ServerAndRecords {
    /// The keys of the server and the records.
    pub(super) fn keys(tenant: &TenantId, server: ServerId, subject: &Subject) -> Vec<Key> {
        let mut keys = Vec::from(record_keys(tenant, server, subject));
        keys.push(servers::key(tenant, server));
        keys
    }

    /// From what was read by [`ServerAndRecords::keys`], if the server exists.
    pub(super) fn from_found(
        found: &Found,
        tenant: &TenantId,
        server: ServerId,
        subject: &Subject,
    ) -> Result<Option<Self>> {
        let Some(server) = found.server(tenant, server)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            records: found.records(tenant, &server, subject)?,
            subject: subject.clone(),
            server,
        }))
    }

    /// Reads it in one round trip, if the server exists.
    pub(super) async fn load(
        table: &Table,
        tenant: &TenantId,
        server: ServerId,
        subject: &Subject,
    ) -> Result<Option<Self>> {
        let found = table.read(Self::keys(tenant, server, subject)).await?;
        Self::from_found(&found, tenant, server, subject)
    }

    /// The subject's credential of a source.
    fn credential(&self, source: Source) -> Result<Credential> {
        let credential = match source {
            Source::Override => self
                .records
                .header_override
                .clone()
                .map(|own| Credential::Override(Box::new(own))),
            Source::Oauth => {
                let grant = self.records.grant.clone();
                grant.map(|grant| Credential::Grant(Box::new(grant)))
            }
        };
        credential.ok_or(Error::CredentialNotFound)
    }
}

/// Reads a server with a subject's records there, in one round trip.
///
/// # Errors
/// [`Error::Unauthenticated`], [`Error::Unavailable`], [`Error::Internal`].
pub async fn find(
    app: &App,
    who: Presented,
    id: Option<ServerId>,
    subject: Subject,
) -> Result<Unchecked<Option<ServerAndRecords>>> {
    let tenant = who.tenant().clone();
    let keys = id.map_or_else(Vec::new, |id| ServerAndRecords::keys(&tenant, id, &subject));
    let (caller, found) = app.read_as(who, keys).await?;
    let at = match id {
        Some(id) => ServerAndRecords::from_found(&found, &tenant, id, &subject)?,
        None => None,
    };
    Ok(Unchecked::new(caller, at))
}

/// Reads a server with the caller's own records there.
///
/// # Errors
/// As [`find`].
pub async fn find_own(
    app: &App,
    who: Presented,
    id: Option<ServerId>,
) -> Result<Unchecked<Option<ServerAndRecords>>> {
    // Whom an API key speaks for is known only once its item has been read.
    let caller = app.identify(who).await?;
    let subject = caller.subject().clone();
    find(app, Presented::Caller(Box::new(caller)), id, subject).await
}

/// The server of a number that its caller may use, with the owner's records there, in one round trip.
///
/// # Errors
/// [`Error::ServerNotFound`] when it has just been deleted; [`Error::Unavailable`], [`Error::Internal`].
pub async fn load_of_owner(app: &App, numbered: &Permitted<Numbered>) -> Result<ServerAndRecords> {
    let Numbered { id, owner, .. } = &numbered.found;
    load(app, &numbered.caller.tenant, *id, owner).await
}

/// A server with a subject's records there, in one round trip.
///
/// # Errors
/// [`Error::ServerNotFound`], [`Error::Unavailable`], [`Error::Internal`].
pub async fn load(
    app: &App,
    tenant: &TenantId,
    server: ServerId,
    subject: &Subject,
) -> Result<ServerAndRecords> {
    ServerAndRecords::load(&app.table, tenant, server, subject)
        .await?
        .ok_or(Error::ServerNotFound)
}

/// The records of the owners of servers, for servers with OAuth consent.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn of_owners(
    app: &App,
    tenant: &TenantId,
    servers: &[Server],
) -> Result<HashMap<ServerId, Records>> {
    let by_consent = servers
        .iter()
        .filter(|server| matches!(server.auth, Auth::Oauth(_)));
    let held = by_consent.map(|server| (server, &server.created_by.subject));
    records_of(app, tenant, &held.collect::<Vec<_>>()).await
}

/// The records of one subject at servers, for those that want a credential of each subject.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn of_subject(
    app: &App,
    tenant: &TenantId,
    subject: &Subject,
    servers: &[Server],
) -> Result<HashMap<ServerId, Records>> {
    let wanting = servers
        .iter()
        .filter(|server| matches!(server.auth, Auth::Oauth(_) | Auth::Headers { .. }));
    let held = wanting.map(|server| (server, subject));
    records_of(app, tenant, &held.collect::<Vec<_>>()).await
}

/// The records of one subject at each of these servers.
async fn records_of(
    app: &App,
    tenant: &TenantId,
    held: &[(&Server, &Subject)],
) -> Result<HashMap<ServerId, Records>> {
    let mut all = HashMap::new();
    for some in held.chunks(SERVERS_AT_ONCE) {
        let keys = some
            .iter()
            .flat_map(|(server, subject)| record_keys(tenant, server.id, subject));
        let found = app.table.read(keys.collect()).await?;
        for (server, subject) in some {
            all.insert(server.id, found.records(tenant, server, subject)?);
        }
    }
    Ok(all)
}

/// Ends one credential of a subject: it is out of every read path when this returns. `read` finds the subject's records
/// for a caller who may do this. Returns the receipt's id.
///
/// A grant's tokens move into a revocation in the same transaction, and consents begun until now are void.
///
/// # Errors
/// Those of `read`; [`Error::CredentialNotFound`], [`Error::ServerNotFound`] when it has just been deleted,
/// [`Error::Contended`] when the record keeps being replaced; [`Error::Unavailable`], [`Error::Internal`].
pub async fn disconnect<E, F>(
    app: &App,
    read: impl FnMut() -> F,
    source: Source,
    dry_run: bool,
) -> Result<Removal<String>, E>
where
    E: From<Error>,
    F: Future<Output = Result<Permitted<ServerAndRecords>, E>>,
{
    retry_on_contention(read, async |at| {
        let credential = at.found.credential(source)?;
        if dry_run {
            let mut preview = DeletionPreview::default();
            preview.add(&credential);
            return Ok(Removal::Planned(preview));
        }
        remove(app, &at, &credential).await.map(Removal::Done)
    })
    .await
}

/// Ends whatever credentials a subject has at a server, one by one, as [`disconnect`] does. Returns the receipt's id of
/// the last one, or none where there was nothing to end.
///
/// # Errors
/// Those of [`disconnect`] but for [`Error::CredentialNotFound`].
pub async fn disconnect_all<E, F>(
    app: &App,
    read: impl FnMut() -> F,
    dry_run: bool,
) -> Result<Removal<Option<String>>, E>
where
    E: From<Error>,
    F: Future<Output = Result<Permitted<ServerAndRecords>, E>>,
{
    retry_on_contention(read, async |at| {
        let sources = [Source::Oauth, Source::Override].into_iter();
        let credentials = sources.filter_map(|source| at.found.credential(source).ok());
        if dry_run {
            let mut preview = DeletionPreview::default();
            credentials.for_each(|credential| preview.add(&credential));
            return Ok(Removal::Planned(preview));
        }
        let mut receipt = None;
        for credential in credentials {
            receipt = Some(remove(app, &at, &credential).await?);
        }
        Ok(Removal::Done(receipt))
    })
    .await
}

/// Removes one credential of a subject. Returns the receipt's id.
async fn remove(
    app: &App,
    at: &Permitted<ServerAndRecords>,
    credential: &Credential,
) -> Result<String> {
    let ServerAndRecords {
        server, subject, ..
    } = &at.found;
    let source = credential.source();
    let now = app.now();
    let (id, actor) = (Sortable::new(now)?.ulid(), at.caller.actor.clone());
    let removed = Removed::Credential {
        subject: subject.clone(),
        source,
    };
    let receipt = Receipt {
        server: Some(server.id),
        closed: true,
        changed_at: Some(now),
        counts: Some(Counts::one(source)),
        ..Receipt::open(id, removed, actor, now)
    };
    let kept = StoredReason {
        subject,
        reason: Reason::Revoked,
        at: now,
        auth_revision: server.auth_revision,
    };
    let tenant = &at.caller.tenant;
    let event = Event::new(now, tenant, &at.caller, Action::CredentialRemoved)?
        .at(server.id)
        .of(subject)
        .from(source)
        .under(Some(&receipt.id));
    match app
        .table
        .remove_credential(tenant, server.id, credential, &kept, &receipt, &event)
        .await?
    {
        WriteOutcome::Done => {
            app.work_appeared.notify_one();
            Ok(receipt.id)
        }
        WriteOutcome::ServerMoved => Err(Error::ServerNotFound),
        WriteOutcome::RecordMoved | WriteOutcome::ReceiptClosed => Err(Error::Contended),
    }
}

/// An override to install for a subject at the server that was read.
#[derive(Debug)]
pub struct NewOverride {
    /// The server, and the subject's records there.
    pub at: Permitted<ServerAndRecords>,
    /// The values.
    pub value: OverrideValue,
    /// Whether some of them are those of the stored override, which must not be another one by then.
    pub keeps_stored: bool,
}

/// Installs or replaces a subject's override. `read` finds the subject's records for a caller who may do this, and makes
/// the override of them.
///
/// # Errors
/// Those of `read`; [`Error::Contended`] when server or override keep changing; [`Error::Unavailable`],
/// [`Error::Internal`].
pub async fn install_override<E, F>(app: &App, read: impl FnMut() -> F) -> Result<Override, E>
where
    E: From<Error>,
    F: Future<Output = Result<NewOverride, E>>,
{
    retry_on_contention(read, async |new| store_override(app, &new).await).await
}

async fn store_override(app: &App, new: &NewOverride) -> Result<Override> {
    let Permitted { caller, found } = &new.at;
    let ServerAndRecords {
        server,
        subject,
        records,
    } = found;
    let value = &new.value;
    let now = app.now();
    let json = value
        .to_json()
        .map_err(|_| Error::internal("an override does not encode"))?;
    let own = Override {
        server: server.id,
        subject: subject.clone(),
        shape: value.shape(),
        auth_revision: server.auth_revision,
        version: new_version(now)?,
        updated_at: now,
        updated_by: caller.actor.clone(),
        sealed: data_key(app, &caller.tenant, server).await?.seal(
            &caller.tenant,
            server.id,
            Kind::Override(subject),
            &json,
        )?,
    };
    let event = Event::new(now, &caller.tenant, caller, Action::CredentialInstalled)?
        .at(server.id)
        .of(subject)
        .from(Source::Override);
    let stored = records.header_override.as_ref();
    let kept = stored.filter(|_| new.keeps_stored);
    let replacing = kept.map(|kept| kept.version.as_str());
    match app
        .table
        .put_override(&caller.tenant, &own, replacing, &event)
        .await?
    {
        WriteOutcome::Done => Ok(own),
        _ => Err(Error::Contended),
    }
}

/// The values of an override.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn open_override(
    app: &App,
    tenant: &TenantId,
    server: &Server,
    own: &Override,
) -> Result<OverrideValue> {
    let key = data_key(app, tenant, server).await?;
    let json = key.open(tenant, server.id, Kind::Override(&own.subject), &own.sealed)?;
    OverrideValue::from_json(&own.shape, &json)
        .map_err(|_| Error::internal("an override does not decode"))
}

/// The valid overrides at a server, ordered by subject.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn list_overrides(app: &App, caller: &Caller, server: &Server) -> Result<Vec<Override>> {
    let mut all = app.table.overrides(&caller.tenant, server.id).await?;
    all.retain(|own| server.accepts_override(own.auth_revision));
    all.sort_by(|a, b| a.subject.cmp(&b.subject));
    Ok(all)
}
