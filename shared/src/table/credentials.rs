//! Credentials in their server's partition: overrides, grants, and the kept reason why there is none.

use super::{
    Condition, Found, Item, Key, Table, Write, WriteError, audit_log, encode, keys, n, readable,
    receipts, revocations, s, sessions,
};
use crate::Result;
use crate::domain::credential::{Credential, Grant, KeptReason, Override, Records, Source, Stored};
use crate::domain::event::Event;
use crate::domain::id::{ServerId, TenantId};
use crate::domain::job::Sweep;
use crate::domain::receipt::{Counts, Receipt};
use crate::domain::revocation::Revocation;
use crate::domain::server::Server;
use crate::domain::session::{Phase, Session};
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;
use crate::table::guard;
use crate::table::reasons::{AUTH_REVISION, REMOVALS, StoredReason};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The keys of all that may be stored for a subject at a server.
pub fn record_keys(tenant: &TenantId, server: ServerId, subject: &Subject) -> [Key; 3] {
    [
        keys::credential(tenant, server, subject, Source::Override),
        keys::credential(tenant, server, subject, Source::Oauth),
        keys::kept_reason(tenant, server, subject),
    ]
}

/// The key of a subject's kept reason at a server.
pub fn kept_reason_key(tenant: &TenantId, server: ServerId, subject: &Subject) -> Key {
    keys::kept_reason(tenant, server, subject)
}

impl Found {
    /// How often a subject was disconnected from a server, if its kept reason was read.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when the item is corrupt.
    pub fn removals(&self, tenant: &TenantId, server: ServerId, subject: &Subject) -> Result<u64> {
        let kept: Option<KeptReason> = self.get(&keys::kept_reason(tenant, server, subject))?;
        Ok(kept.map_or(0, |kept| kept.removals))
    }

    /// The records of a subject, as far as `server` stands behind them.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when an item is corrupt.
    pub fn records(
        &self,
        tenant: &TenantId,
        server: &Server,
        subject: &Subject,
    ) -> Result<Records> {
        let [own, grant, kept] = record_keys(tenant, server.id, subject);
        Ok(Records::under(
            server,
            self.get::<Override>(&own)?,
            self.get::<Grant>(&grant)?,
            self.get::<KeptReason>(&kept)?,
        ))
    }

    /// A subject's grant at a server, if it was read and exists, void or not.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when the item is corrupt.
    pub fn grant(
        &self,
        tenant: &TenantId,
        server: ServerId,
        subject: &Subject,
    ) -> Result<Option<Grant>> {
        self.get(&keys::credential(tenant, server, subject, Source::Oauth))
    }
}

/// What ends it: it goes if it still is the one that was read, and of a grant the revocation stays.
fn end(
    credential: &Credential,
    tenant: &TenantId,
    server: ServerId,
    receipt: Option<&str>,
    itemised: bool,
    now: Timestamp,
) -> Result<Vec<Write>> {
    let (condition, revocation) = match credential {
        Credential::Override(own) => (Condition::version(&own.version), None),
        Credential::Grant(grant) => (
            as_read(grant),
            Some(Revocation::of(tenant, grant, receipt, now)?),
        ),
    };
    let revocation = revocation.map(|one| Revocation { itemised, ..one });
    let key = keys::credential(tenant, server, credential.subject(), credential.source());
    let mut writes = vec![Write::Delete(key, condition)];
    if let Some(revocation) = revocation {
        writes.push(revocations::put(&revocation)?);
    }
    Ok(writes)
}

/// An item among a server's credentials.
#[derive(Deserialize)]
#[serde(tag = "entity", rename_all = "kebab-case")]
enum Any {
    Override(Box<Override>),
    Grant(Box<Grant>),
    #[serde(other)]
    Other,
}

/// Some of a server's credentials.
#[derive(Debug, Default)]
pub struct Page {
    /// Those that can be read.
    pub credentials: Vec<Credential>,
    /// Of which kind each of those is that cannot.
    pub unreadable: Vec<Source>,
    /// Where the rest starts, if there may be one.
    pub next: Option<Key>,
}

/// A grant about to be stored.
#[derive(Debug)]
pub struct Granting<'a> {
    /// The grant.
    pub grant: &'a Grant,
    /// What is stored for the subject at present; the write happens only if that is still so.
    pub replacing: &'a Stored,
    /// The revocation of the grant that it replaces, if that is revoked at the issuer.
    pub revocation: Option<&'a Revocation>,
    /// The consent that it came from.
    pub session: &'a Session,
}

/// What a write on a credential ran into.
#[derive(Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// Done.
    Done,
    /// The server is gone or has another auth revision.
    ServerMoved,
    /// The record is not the one that was read.
    RecordMoved,
    /// The receipt that should count it is complete, or gone.
    ReceiptClosed,
}

impl Table {
    /// The overrides at a server, voided ones too, in no order.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn overrides(&self, tenant: &TenantId, server: ServerId) -> Result<Vec<Override>> {
        let all: Vec<Any> = self
            .query(keys::server_partition(tenant, server), keys::CREDENTIALS)
            .await?;
        let overrides = all.into_iter().filter_map(|one| match one {
            Any::Override(own) => Some(*own),
            Any::Grant(_) | Any::Other => None,
        });
        Ok(overrides.collect())
    }

    /// Up to `limit` of the credentials at a server, voided ones too, from `after` on.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn credentials(
        &self,
        tenant: &TenantId,
        server: ServerId,
        after: Option<Key>,
        limit: i32,
    ) -> Result<Page> {
        let partition = keys::server_partition(tenant, server);
        let (items, next) = self
            .query_page(partition, keys::CREDENTIALS, after, limit)
            .await?;
        let mut page = Page {
            next,
            ..Page::default()
        };
        for item in &items {
            match readable(item) {
                Some(Any::Override(own)) => page.credentials.push(Credential::Override(own)),
                Some(Any::Grant(grant)) => page.credentials.push(Credential::Grant(grant)),
                Some(Any::Other) => {}
                None => {
                    let key = super::key_of(item);
                    let source = key.and_then(|key| keys::credential_source(&key.sk));
                    page.unreadable.extend(source);
                }
            }
        }
        Ok(page)
    }

    /// Installs an override. With `replacing`, only over exactly that version.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn put_override(
        &self,
        tenant: &TenantId,
        own: &Override,
        replacing: Option<&str>,
        event: &Event,
    ) -> Result<WriteOutcome> {
        let condition = replacing.map_or(Condition::Any, Condition::version);
        let item = credential_item(tenant, own.server, &own.subject, Source::Override, own)?;
        // The kept reason stays, for its count, and nobody is shown it while there is an override.
        let writes = vec![
            Write::Put(item, condition),
            guard::require_server(tenant, own.server, Some(own.auth_revision)),
            audit_log::put(event)?,
        ];
        to_outcome(self.write(writes).await, 1)
    }

    /// Stores a grant and completes its consent, if the subject has not been disconnected or offboarded since that was begun;
    /// a grant that it replaces becomes a revocation. The kept reason stays, for its count; nobody is shown it while there is
    /// a grant.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn put_grant(&self, granting: &Granting<'_>, event: &Event) -> Result<WriteOutcome> {
        let Granting {
            grant,
            replacing,
            revocation,
            session,
        } = granting;
        let tenant = &session.tenant;
        let item = credential_item(tenant, grant.server, &grant.subject, Source::Oauth, grant)?;
        let condition = replacing.grant.as_ref().map_or(Condition::Absent, as_read);
        let reason = keys::kept_reason(tenant, grant.server, &grant.subject);
        let mut writes = vec![
            Write::Put(item, condition),
            guard::require_server(tenant, grant.server, Some(grant.auth_revision)),
            Write::Check(reason, Condition::Counts(REMOVALS, session.removals)),
            guard::require_subject(tenant, &grant.subject, session.offboardings),
            sessions::step(session, Phase::Exchanging, Phase::Completed),
            audit_log::put(event)?,
        ];
        if let Some(revocation) = revocation {
            writes.push(revocations::put(revocation)?);
        }
        to_outcome(self.write(writes).await, 1)
    }

    /// Takes the lease on a grant, in the place of the lease that was read, if there was one. Returns whether.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn lease_grant(
        &self,
        tenant: &TenantId,
        grant: &Grant,
        lease: &str,
        until: Timestamp,
    ) -> Result<bool> {
        let key = keys::credential(tenant, grant.server, &grant.subject, Source::Oauth);
        let lease = vec![("lease_id", s(lease)), ("lease_until", n(until.micros()))];
        self.update(key, lease, as_read(grant)).await
    }

    /// Replaces a leased grant by its next state, if it still has the version that was read and the lease is still held; with a
    /// revocation, where the next state has lost a token. An update, never an insert: a grant that has ended meanwhile
    /// stays ended.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn continue_grant(
        &self,
        tenant: &TenantId,
        leased: &Grant,
        next: &Grant,
        revocation: Option<&Revocation>,
        event: &Event,
    ) -> Result<bool> {
        let item = credential_item(tenant, next.server, &next.subject, Source::Oauth, next)?;
        let mut writes = vec![Write::Put(item, as_read(leased)), audit_log::put(event)?];
        if let Some(revocation) = revocation {
            writes.push(revocations::put(revocation)?);
        }
        self.write_if(writes).await
    }

    /// Takes one credential away, if it still is the one that was read, and keeps the reason and the receipt. Consents begun
    /// before are void by it.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn remove_credential(
        &self,
        tenant: &TenantId,
        server: ServerId,
        credential: &Credential,
        kept: &StoredReason<'_>,
        receipt: &Receipt,
        event: &Event,
    ) -> Result<WriteOutcome> {
        let mut writes = vec![
            receipts::put(tenant, receipt)?,
            guard::require_server(tenant, server, None),
            kept.write(tenant, server, &[REMOVALS], Condition::Any)?,
            audit_log::put(event)?,
        ];
        writes.extend(end(
            credential,
            tenant,
            server,
            Some(&receipt.id),
            true,
            kept.at,
        )?);
        to_outcome(self.write(writes).await, 1)
    }

    /// Takes one credential away, if it still is the one that was read, and counts it on a receipt that is open.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn offboard_credential(
        &self,
        tenant: &TenantId,
        server: ServerId,
        credential: &Credential,
        kept: &StoredReason<'_>,
        receipt: &str,
        event: &Event,
    ) -> Result<WriteOutcome> {
        let mut writes = vec![
            receipts::count(tenant, receipt, Counts::one(credential.source())),
            guard::require_server(tenant, server, None),
            kept.write(tenant, server, &[], Condition::Any)?,
            audit_log::put(event)?,
        ];
        writes.extend(end(
            credential,
            tenant,
            server,
            Some(receipt),
            false,
            event.id.at(),
        )?);
        match self.write(writes).await {
            Err(WriteError::Refused(at)) if at.contains(&0) => Ok(WriteOutcome::ReceiptClosed),
            done => to_outcome(done, 1),
        }
    }

    /// Takes away credentials that a sweep is for and keeps the reason why, if the server and all of them still are those
    /// that were read; counted on the receipt if the sweep has one. Returns `false` otherwise.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn sweep_credentials(
        &self,
        sweep: &Sweep,
        server: &Server,
        group: &[(Credential, Event)],
    ) -> Result<bool> {
        let (tenant, receipt) = (&sweep.tenant, sweep.receipt.as_deref());
        let revision = Some(server.auth_revision);
        let mut writes = vec![guard::require_server(tenant, server.id, revision)];
        let mut counts = Counts::default();
        for (credential, event) in group {
            writes.push(audit_log::put(event)?);
            writes.extend(end(
                credential,
                tenant,
                server.id,
                receipt,
                false,
                event.id.at(),
            )?);
            counts.add(credential.source());
        }
        writes.extend(receipt.map(|id| receipts::count(tenant, id, counts)));
        let without_reasons = writes.clone();
        // A subject may have one of each kind, and a transaction takes an item once.
        let subjects: BTreeSet<_> = group.iter().map(|(one, _)| one.subject()).collect();
        for subject in subjects {
            let kept = StoredReason {
                subject,
                reason: sweep.reason,
                at: sweep.at,
                auth_revision: sweep.auth_revision,
            };
            // What has happened to a subject since the change says more.
            let older = Condition::Below(AUTH_REVISION, sweep.auth_revision);
            writes.push(kept.write(tenant, server.id, &[], older)?);
        }
        match self.write(writes).await {
            Ok(()) => Ok(true),
            Err(WriteError::Refused(at))
                if group.len() == 1 && at.iter().all(|at| *at >= without_reasons.len()) =>
            {
                self.write_if(without_reasons).await
            }
            Err(WriteError::Refused(_)) => Ok(false),
            Err(WriteError::Failed(error)) => Err(error),
        }
    }
}

/// That a grant is the one that was read, and that nobody has begun to refresh it since.
pub(crate) fn as_read(grant: &Grant) -> Condition {
    let mut same = vec![("version", s(&grant.version))];
    match &grant.lease_id {
        Some(lease) => {
            same.push(("lease_id", s(lease)));
            Condition::Has(same)
        }
        None => Condition::HasWithout(same, "lease_id"),
    }
}

fn credential_item(
    tenant: &TenantId,
    server: ServerId,
    subject: &Subject,
    source: Source,
    value: &impl Serialize,
) -> Result<Item> {
    let entity = match source {
        Source::Override => "override",
        Source::Oauth => "grant",
    };
    encode(
        &keys::credential(tenant, server, subject, source),
        entity,
        value,
    )
}

fn to_outcome(written: Result<(), WriteError>, server_check: usize) -> Result<WriteOutcome> {
    match written {
        Ok(()) => Ok(WriteOutcome::Done),
        Err(WriteError::Refused(at)) if at.contains(&server_check) => Ok(WriteOutcome::ServerMoved),
        Err(WriteError::Refused(_)) => Ok(WriteOutcome::RecordMoved),
        Err(WriteError::Failed(error)) => Err(error),
    }
}
