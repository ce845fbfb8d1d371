//! Revocations in their server's partition, and in the index of due work until they are settled.

use super::due::due_item;
use super::{
    Condition, Found, Key, Table, Update, Write, WriteError, audit_log, keys, receipts, s, sessions,
};
use crate::Result;
use crate::domain::credential::{Grant, Source};
use crate::domain::event::Event;
use crate::domain::id::{ServerId, TenantId};
use crate::domain::job::Tombstone;
use crate::domain::receipt::PresentedToken;
use crate::domain::revocation::{Revocation, RevocationOutcome};
use crate::domain::session::{Phase, Session};
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;
use crate::table::guard;

const REVOCATION: &str = "revocation";

/// Keys of a revocation and of whatever holds its data key: the server, or its tombstone.
pub fn keys_of(one: &Revocation) -> Vec<Key> {
    vec![
        keys::revocation(&one.tenant, one.server, &one.id),
        keys::server(&one.tenant, one.server),
        keys::tombstone(&one.tenant, one.server),
    ]
}

/// Keys of a subject's grant and of the revocation that waits for what a refresh under this lease brings.
pub fn keys_of_lease(
    tenant: &TenantId,
    server: ServerId,
    subject: &Subject,
    lease: &str,
) -> Vec<Key> {
    vec![
        keys::credential(tenant, server, subject, Source::Oauth),
        keys::revocation(tenant, server, lease),
    ]
}

impl Found {
    /// A revocation that was read, if it still stands.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when the item is corrupt.
    pub fn revocation(&self, one: &Revocation) -> Result<Option<Revocation>> {
        self.get(&keys::revocation(&one.tenant, one.server, &one.id))
    }

    /// The revocation that waits for what a refresh under this lease brings, if it was read and exists.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when the item is corrupt.
    pub fn revocation_of_lease(
        &self,
        tenant: &TenantId,
        server: ServerId,
        lease: &str,
    ) -> Result<Option<Revocation>> {
        self.get(&keys::revocation(tenant, server, lease))
    }

    /// A server's tombstone, if it was read and stands.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when the item is corrupt.
    pub fn tombstone(&self, tenant: &TenantId, server: ServerId) -> Result<Option<Tombstone>> {
        self.get(&keys::tombstone(tenant, server))
    }
}

/// For a transaction that ends a grant.
pub(crate) fn put(one: &Revocation) -> Result<Write> {
    let key = keys::revocation(&one.tenant, one.server, &one.id);
    Ok(Write::Put(
        due_item(&key, REVOCATION, one, one.not_before.unwrap_or(one.at))?,
        Condition::Absent,
    ))
}

/// What became of tokens that may not be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discarded {
    /// They will be revoked.
    Done,
    /// They may be stored after all, or belong to a revocation that has appeared: this has to be looked at again.
    Moved,
    /// No data key is left that could ever open them: neither the server nor its tombstone is there.
    NoKey,
}

impl Table {
    /// Writes down a revocation of what a refresh under a lease brought, unless the grant is `next`, which it would
    /// have become, or may still become that: while the lease is held, a write that was sent may yet happen.
    /// `no_pending_write` says that no such write is pending. `waiting` is the revocation of that lease as it was read,
    /// which has its late tokens already.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn discard_refreshed(
        &self,
        one: &Revocation,
        next: &Grant,
        lease: &str,
        waiting: Option<&Revocation>,
        no_pending_write: bool,
        event: &Event,
    ) -> Result<Discarded> {
        let (tenant, server) = (&one.tenant, one.server);
        let grant = keys::credential(tenant, server, &one.subject, Source::Oauth);
        let mut stored = vec![("version", s(&next.version))];
        if !no_pending_write {
            stored.push(("lease_id", s(lease)));
        }
        let guards = vec![
            Write::Check(grant, Condition::Unless(stored)),
            Write::Check(
                keys::revocation(tenant, server, lease),
                waiting.map_or(Condition::Absent, |one| Condition::version(&one.version)),
            ),
        ];
        self.add_revocation(one, guards, &[event]).await
    }

    /// Writes down a revocation of what an exchange brought, and ends the consent in the same step; unless that is completed.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn discard_exchanged(
        &self,
        one: &Revocation,
        session: &Session,
        discarded: &Event,
        ended: &Event,
    ) -> Result<Discarded> {
        let end = sessions::step(session, Phase::Exchanging, Phase::Failed);
        match self
            .add_revocation(one, vec![end], &[discarded, ended])
            .await?
        {
            Discarded::Moved => {}
            done => return Ok(done),
        }
        // Something else has ended it, or it is gone.
        let open = [Phase::Exchanging, Phase::Completed].map(|phase| ("phase", s(phase.as_str())));
        let ended = Write::Check(
            sessions::key(&session.tenant, session.server, &session.id),
            Condition::Unless(open.to_vec()),
        );
        self.add_revocation(one, vec![ended], &[discarded]).await
    }

    /// Writes down a revocation of what was recovered for one that has ended meanwhile.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn discard_recovered(&self, one: &Revocation, event: &Event) -> Result<Discarded> {
        self.add_revocation(one, Vec::new(), &[event]).await
    }

    async fn add_revocation(
        &self,
        one: &Revocation,
        guards: Vec<Write>,
        events: &[&Event],
    ) -> Result<Discarded> {
        let guarded = 2..2 + guards.len();
        let holders = [
            guard::require_server(&one.tenant, one.server, None),
            Update::set(
                keys::tombstone(&one.tenant, one.server),
                vec![("touched", s(&one.id))],
                Condition::Exists,
            ),
        ];
        for holder in holders {
            let mut writes = vec![put(one)?, holder];
            writes.extend(guards.iter().cloned());
            for event in events {
                writes.push(audit_log::put(event)?);
            }
            match self.write(writes).await {
                Ok(()) => return Ok(Discarded::Done),
                // An earlier try has happened, and the revocation has been worked on since.
                Err(WriteError::Refused(at)) if at.contains(&0) => return Ok(Discarded::Done),
                Err(WriteError::Refused(at)) if at.iter().any(|at| guarded.contains(at)) => {
                    return Ok(Discarded::Moved);
                }
                Err(WriteError::Refused(_)) => {}
                Err(WriteError::Failed(error)) => return Err(error),
            }
        }
        Ok(Discarded::NoKey)
    }

    /// Adds tokens that came late to the revocation that waits for them. Returns `false` if it is not the one that was read
    /// any more.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn join_revocation(
        &self,
        read: &str,
        joined: &Revocation,
        due: Timestamp,
        event: &Event,
    ) -> Result<bool> {
        let key = keys::revocation(&joined.tenant, joined.server, &joined.id);
        let item = due_item(&key, REVOCATION, joined, due)?;
        let put = Write::Put(item, Condition::version(read));
        self.write_if(vec![put, audit_log::put(event)?]).await
    }

    /// Replaces a revocation that still has version `read`, due again at `due`. Returns `false` if it was moved.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn continue_revocation(
        &self,
        read: &str,
        one: &Revocation,
        due: Timestamp,
    ) -> Result<bool> {
        let key = keys::revocation(&one.tenant, one.server, &one.id);
        let item = due_item(&key, REVOCATION, one, due)?;
        self.write_if(vec![Write::Put(item, Condition::version(read))])
            .await
    }

    /// Ends a revocation: it goes, with the sealed tokens, and its receipt counts the outcome, exactly once.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn finish_revocation(
        &self,
        read: &str,
        one: &Revocation,
        outcome: RevocationOutcome,
        presented: Option<&[PresentedToken]>,
        event: &Event,
    ) -> Result<()> {
        let key = keys::revocation(&one.tenant, one.server, &one.id);
        let delete = Write::Delete(key, Condition::version(read));
        let note = one.receipt.as_ref().map(|receipt| {
            receipts::record_outcome(&one.tenant, receipt, outcome, presented, event.id.at())
        });
        self.end(delete, Some(event), note.transpose()?).await
    }

    /// Whether any revocation is left in a server's partition.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn has_revocations(&self, tenant: &TenantId, server: ServerId) -> Result<bool> {
        let partition = keys::server_partition(tenant, server);
        let (items, _) = self
            .query_page(partition, keys::REVOCATIONS, None, 1)
            .await?;
        Ok(!items.is_empty())
    }
}
