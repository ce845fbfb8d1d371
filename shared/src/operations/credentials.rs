//! The credentials of one subject at one server: finding, installing and ending them.

use super::servers::data_key;
use super::{Permitted, Unchecked};
use crate::auth::credentials::Presented;
use crate::domain::caller::Caller;
use crate::domain::credential::{
    Credential, Override, OverrideValue, Records, Source, new_version,
};
use crate::domain::event::{Action, Event};
use crate::domain::id::{ServerId, Sortable, TenantId};
use crate::domain::reason::Reason;
use crate::domain::receipt::{Counts, Outcomes, Receipt, Removed};
use crate::domain::server::{Auth, Numbered, Server};
use crate::domain::subject::Subject;
use crate::seal::Kind;
use crate::state::app::App;
use crate::table::credentials::{Outcome, record_keys};
use crate::table::reasons::StoredReason;
use crate::table::{Found, Key, Table, servers};
use crate::{Error, Result};
use std::collections::HashMap;

/// Servers whose records are read at once: three keys each, and a batch holds a hundred.
const SERVERS_AT_ONCE: usize = 33;

/// A server and the records of one subject there.
#[derive(Debug)]
pub struct ServerAndRecords {
    /// The server.
    pub server: Server,
    /// Whose records.
    pub subject: Subject,
    /// The records.
    pub records: Records,
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
    ///
    /// # Errors
    /// [`Error::CredentialNotFound`] when there is none.
    pub fn credential(&self, source: Source) -> Result<Credential> {
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

/// The same for the caller's own records.
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
    let by_consent: Vec<&Server> = by_consent.collect();
    let mut all = HashMap::new();
    for some in by_consent.chunks(SERVERS_AT_ONCE) {
        let keys = some
            .iter()
            .flat_map(|server| record_keys(tenant, server.id, &server.created_by.subject));
        let found = app.table.read(keys.collect()).await?;
        for server in some {
            let records = found.records(tenant, server, &server.created_by.subject)?;
            all.insert(server.id, records);
        }
    }
    Ok(all)
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
    let wanting: Vec<&Server> = wanting.collect();
    let mut all = HashMap::new();
    for some in wanting.chunks(SERVERS_AT_ONCE) {
        let keys = some
            .iter()
            .flat_map(|server| record_keys(tenant, server.id, subject));
        let found = app.table.read(keys.collect()).await?;
        for server in some {
            let records = found.records(tenant, server, subject)?;
            all.insert(server.id, records);
        }
    }
    Ok(all)
}

/// Ends one credential of a subject: it is out of every read path when this returns. Returns the receipt's id.
///
/// A grant's tokens move into a revocation in the same transaction, and consents begun until now are void.
///
/// # Errors
/// [`Error::CredentialNotFound`], [`Error::ServerNotFound`] when it has just been deleted, [`Error::Contended`] when
/// the record is being replaced; [`Error::Unavailable`], [`Error::Internal`].
pub async fn disconnect(
    app: &App,
    at: &Permitted<ServerAndRecords>,
    source: Source,
) -> Result<String> {
    let ServerAndRecords {
        server, subject, ..
    } = &at.found;
    let credential = at.found.credential(source)?;
    let now = app.now();
    let receipt = Receipt {
        id: Sortable::new(now)?.ulid(),
        removed: Removed::Credential {
            subject: subject.clone(),
            source,
        },
        server: Some(server.id),
        actor: at.caller.actor.clone(),
        at: now,
        closed: true,
        changed_at: Some(now),
        counts: Some(Counts::one(source)),
        outcomes: Outcomes::default(),
        presented: Vec::new(),
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
        .remove_credential(tenant, server.id, &credential, &kept, &receipt, &event)
        .await?
    {
        Outcome::Done => {
            app.work_appeared.notify_one();
            Ok(receipt.id)
        }
        Outcome::ServerMoved => Err(Error::ServerNotFound),
        Outcome::RecordMoved | Outcome::ReceiptClosed => Err(Error::Contended),
    }
}

/// Installs or replaces a subject's override. `keeping` is the stored override some of whose values `value` repeats;
/// if that one is replaced meanwhile, the caller must look again.
///
/// # Errors
/// [`Error::Contended`] when server or override are not those that were read; [`Error::Unavailable`],
/// [`Error::Internal`].
pub async fn install_override(
    app: &App,
    caller: &Caller,
    server: &Server,
    subject: &Subject,
    value: &OverrideValue,
    keeping: Option<&Override>,
) -> Result<Override> {
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
    let replacing = keeping.map(|kept| kept.version.as_str());
    match app
        .table
        .put_override(&caller.tenant, &own, replacing, &event)
        .await?
    {
        Outcome::Done => Ok(own),
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

/// The overrides at a server that still stand, ordered by subject.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn list_overrides(app: &App, caller: &Caller, server: &Server) -> Result<Vec<Override>> {
    let mut all = app.table.overrides(&caller.tenant, server.id).await?;
    all.retain(|own| server.accepts_override(own.auth_revision));
    all.sort_by(|a, b| a.subject.cmp(&b.subject));
    Ok(all)
}
