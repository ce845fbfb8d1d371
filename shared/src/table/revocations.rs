//! Revocations in their server's partition, and in the index of due work until they are settled.

use super::receipts::{self, PresentedToken};
use super::work::{Tombstone, due_item};
use super::{Condition, Found, Key, Table, Update, Write, keys, s, servers, trail};
use crate::Result;
use crate::domain::event::Event;
use crate::domain::id::{ServerId, TenantId};
use crate::domain::revocation::{Outcome, Revocation};
use crate::domain::time::Timestamp;

const REVOCATION: &str = "revocation";

/// Keys of a revocation and of whatever holds its data key: the server, or its tombstone.
pub fn keys_of(one: &Revocation) -> Vec<Key> {
    vec![
        keys::revocation(&one.tenant, one.server, &one.id),
        keys::server(&one.tenant, one.server),
        keys::tombstone(&one.tenant, one.server),
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
        due_item(&key, REVOCATION, one, one.at)?,
        Condition::Absent,
    ))
}

impl Table {
    /// Writes down a revocation of tokens that never became a grant. Answers `false` where no data key is left that could
    /// ever open them: neither the server nor its tombstone is there.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn add_revocation(&self, one: &Revocation, event: &Event) -> Result<bool> {
        let holders = [
            servers::stands(&one.tenant, one.server, None),
            Update::set(
                keys::tombstone(&one.tenant, one.server),
                vec![("touched", s(&one.id))],
                Condition::Exists,
            ),
        ];
        for holder in holders {
            if self
                .write_if(vec![put(one)?, holder, trail::put(event)?])
                .await?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Replaces a revocation that still has version `read`, due again at `due`. Answers `false` if it was moved.
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
        outcome: Outcome,
        presented: Option<&[PresentedToken]>,
        event: &Event,
    ) -> Result<()> {
        let key = keys::revocation(&one.tenant, one.server, &one.id);
        let bury = Write::Delete(key, Condition::version(read));
        let note = one.receipt.as_ref().map(|receipt| {
            receipts::settle(&one.tenant, receipt, outcome, presented, event.id.at())
        });
        self.end(bury, Some(event), note.transpose()?).await
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
