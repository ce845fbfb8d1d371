//! Work that outlives its request: the tombstone of a deleted server, the sweep after a change that voided credentials, an
//! offboarding, the revocations of all of these, the try of an api key.
//! Each stays in the server's partition and in the index of due work until it is done.

use super::{
    Condition, DUE_INDEX, DUE_INDEX_NAME, Item, Key, Table, Update, Write, WriteError, audit_log,
    failed, keys, remembered_applications, revocations, s, subjects,
};
use crate::domain::credential::{Grant, Override, Source};
use crate::domain::event::Event;
use crate::domain::id::{ServerId, TenantId};
use crate::domain::idempotency::Keyed;
use crate::domain::issuance::ClientRecord;
use crate::domain::job::{Count, Offboarding, Remaining, Sweep, Tombstone, Work};
use crate::domain::receipt::Receipt;
use crate::domain::revocation::Revocation;
use crate::domain::time::Timestamp;
use crate::table::credentials::as_read;
use crate::table::due::{due_item, due_time};
use crate::table::{idempotency, login_revocations, receipts, verifications};
use crate::{Error, Result};
use aws_sdk_dynamodb::types::{AttributeValue, DeleteRequest, WriteRequest};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing::error;

/// Deletes in one BatchWriteItem, at most.
const BATCH: usize = 25;
/// Items that are read at once.
const PAGE: i32 = 200;
/// Clients that are read at once: for each of them an issuer is asked.
const CLIENTS_PAGE: i32 = 8;
/// Overrides of a dead server that one transaction ends, at most, each by two of its hundred actions.
pub const OVERRIDES_AT_ONCE: usize = 50;
/// Grants of a dead server that one transaction ends, at most, each by three actions.
pub const GRANTS_AT_ONCE: usize = 33;
/// Credentials that one transaction of a sweep ends, at most, each by four actions, beside two for them all.
pub const VOID_AT_ONCE: usize = 24;

/// An item in a deleted server's partition.
#[derive(Debug)]
pub struct RemainingItem {
    /// Where it is.
    pub key: Key,
    /// What it is.
    pub item: Remaining,
}

/// Where a page of due work ends.
#[derive(Debug)]
pub struct DuePlace(Item);

impl Work {
    pub(crate) fn key(&self) -> Key {
        match self {
            Self::Tombstone(one) => keys::tombstone(&one.tenant, one.server),
            Self::Sweep(one) => keys::sweep(&one.tenant, one.server, one.auth_revision),
            Self::Offboarding(one) => keys::offboarding(&one.tenant, &one.receipt),
            Self::Revocation(one) => keys::revocation(&one.tenant, one.server, &one.id),
            Self::LoginRevocation(one) => login_revocations::key(one),
            Self::Verification(one) => verifications::key_of(one),
        }
    }
}

impl Tombstone {
    pub(crate) fn put(&self, tenant: &TenantId) -> Result<Write> {
        due(
            &keys::tombstone(tenant, self.server),
            "tombstone",
            self,
            self.at,
        )
    }
}

impl Sweep {
    /// Where it goes on among the credentials; `None` for the start.
    pub(crate) fn place(&self) -> Option<Key> {
        let sk = self.after.clone()?;
        let pk = keys::server_partition(&self.tenant, self.server);
        Some(Key { pk, sk })
    }

    pub(crate) fn put(&self, tenant: &TenantId) -> Result<Write> {
        let key = keys::sweep(tenant, self.server, self.auth_revision);
        due(&key, "sweep", self, self.at)
    }

    /// A new sweep that must not replace an existing one.
    pub(crate) fn put_anew(&self) -> Result<Write> {
        let key = keys::sweep(&self.tenant, self.server, self.auth_revision);
        let item = due_item(&key, "sweep", self, self.at)?;
        Ok(Write::Put(item, Condition::Absent))
    }
}

fn due(key: &Key, entity: &str, value: &impl Serialize, at: Timestamp) -> Result<Write> {
    Ok(Write::Put(
        due_item(key, entity, value, at)?,
        Condition::Any,
    ))
}

impl Work {
    /// Reads a stream record's new image, in DynamoDB's JSON, if it is one of work.
    pub fn from_image(image: &serde_json::Value) -> Option<Self> {
        let image = serde_dynamo::Item::deserialize(image).ok()?;
        serde_dynamo::from_item(image).ok()
    }
}

impl Table {
    /// A page of the work that is due at `now`, oldest first, from `after` on, and where the rest starts. The index may lag
    /// behind by moments; nothing is lost by that. An item that does not decode is logged and left.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn due_work(
        &self,
        now: Timestamp,
        after: Option<DuePlace>,
    ) -> Result<(Vec<Work>, Option<DuePlace>)> {
        let page = self
            .client
            .query()
            .table_name(&self.name)
            .index_name(DUE_INDEX_NAME)
            .key_condition_expression("GSI2PK = :due AND GSI2SK <= :now")
            .expression_attribute_values(":due", s(keys::DUE))
            .expression_attribute_values(":now", s(due_time(now)))
            .set_exclusive_start_key(after.map(|place| place.0))
            .limit(PAGE)
            .send()
            .await
            .map_err(failed)?;
        let mut due = Vec::new();
        for item in page.items() {
            match super::decode(item) {
                Ok(work) => due.push(work),
                Err(cause) => error!(%cause, "due work cannot be read"),
            }
        }
        Ok((due, page.last_evaluated_key.map(DuePlace)))
    }

    /// Defers work: makes it due at `until`. Returns `false` if it no longer exists.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn defer(&self, work: &Work, until: Timestamp) -> Result<bool> {
        let later = Update::set(
            work.key(),
            vec![(DUE_INDEX.1, s(due_time(until)))],
            Condition::Exists,
        );
        self.write_if(vec![later]).await
    }

    /// A server's tombstone, as long as it stands.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn tombstone(
        &self,
        tenant: &TenantId,
        server: ServerId,
    ) -> Result<Option<Tombstone>> {
        let key = keys::tombstone(tenant, server);
        self.read(vec![key.clone()]).await?.get(&key)
    }

    /// Counts the credentials in a dead server's partition, from where an earlier count has stopped: a page of them, and more
    /// until the time is over. The result is written on the tombstone unless another worker has gone on meanwhile: nothing
    /// is removed before the count is done, and what it says then stands.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn count_on_tombstone(&self, tombstone: &Tombstone, until: Instant) -> Result<()> {
        let partition = keys::server_partition(&tombstone.tenant, tombstone.server);
        let mut count = tombstone.count.clone().unwrap_or_default();
        loop {
            let after = count.after.take().map(|sk| Key {
                pk: partition.clone(),
                sk,
            });
            let (items, next) = self
                .query_page(partition.clone(), keys::CREDENTIALS, after, PAGE)
                .await?;
            for key in items.iter().filter_map(super::key_of) {
                if let Some(source) = keys::credential_source(&key.sk) {
                    count.found.add(source);
                }
            }
            count.after = next.map(|next| next.sk);
            if count.after.is_none() || Instant::now() >= until {
                break;
            }
        }
        let map = |count: &Count| {
            let map = serde_dynamo::to_item(count).map_err(Error::internal)?;
            Ok::<_, Error>(AttributeValue::M(map))
        };
        let unchanged = match &tombstone.count {
            Some(read) => Condition::Has(vec![("count", map(read)?)]),
            None => Condition::Lacks("count"),
        };
        let key = keys::tombstone(&tombstone.tenant, tombstone.server);
        let note = Update::set(key, vec![("count", map(&count)?)], unchanged);
        self.write_if(vec![note]).await.map(drop)
    }

    /// Some of what is in a dead server's partition besides revocations and clients, from `after` on, and where the rest starts.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn remains(
        &self,
        tenant: &TenantId,
        server: ServerId,
        after: Option<Key>,
    ) -> Result<(Vec<RemainingItem>, Option<Key>)> {
        let partition = keys::server_partition(tenant, server);
        let (items, mut next) = self.query_page(partition.clone(), "", after, PAGE).await?;
        let mut remains = Vec::new();
        for item in items {
            let key =
                super::key_of(&item).ok_or_else(|| Error::internal("an item without a key"))?;
            let mut waits = [keys::CLIENTS, keys::REVOCATIONS].into_iter();
            if let Some(prefix) = waits.find(|prefix| key.sk.starts_with(prefix)) {
                // There may be as many as there were grants.
                let sk = keys::behind(prefix);
                next = Some(Key { pk: partition, sk });
                break;
            }
            let item = match super::decode(&item) {
                Ok(item) => item,
                // A revocation is owed to a grant, an end of its receipt to a sweep; nothing to anything else but to go.
                Err(cause) => {
                    let grant = keys::credential_source(&key.sk) == Some(Source::Oauth);
                    let owed = (grant && key.sk.starts_with(keys::CREDENTIALS))
                        || key.sk.starts_with(keys::SWEEPS);
                    error!(%cause, owed, "an item of a deleted server cannot be read");
                    match owed {
                        true => Remaining::Unreadable,
                        false => Remaining::Other,
                    }
                }
            };
            remains.push(RemainingItem { key, item });
        }
        Ok((remains, next))
    }

    /// Some of the clients in a dead server's partition, as far as they can be read, from `after` on, and where the rest starts.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn remaining_clients(
        &self,
        tenant: &TenantId,
        server: ServerId,
        after: Option<Key>,
    ) -> Result<(Vec<(Key, Option<ClientRecord>)>, Option<Key>)> {
        let partition = keys::server_partition(tenant, server);
        let (items, next) = self
            .query_page(partition, keys::CLIENTS, after, CLIENTS_PAGE)
            .await?;
        let clients = items.iter().map(|item| {
            let key =
                super::key_of(item).ok_or_else(|| Error::internal("an item without a key"))?;
            Ok((key, super::readable(item)))
        });
        Ok((clients.collect::<Result<_>>()?, next))
    }

    /// Deletes items in batches.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn clear(&self, keys: &[Key]) -> Result<()> {
        let items: Vec<Item> = keys.iter().map(super::primary).collect();
        for batch in items.chunks(BATCH) {
            self.delete_batch(batch).await?;
        }
        Ok(())
    }

    /// Turns grants of a dead server into their revocations, at most [`GRANTS_AT_ONCE`], if all of them still are those that
    /// were read. Returns `false` otherwise.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn end_remaining_grants(
        &self,
        group: &[(Box<Grant>, Revocation, Event)],
    ) -> Result<bool> {
        let mut writes = Vec::new();
        for (grant, revocation, event) in group {
            let (tenant, subject) = (&revocation.tenant, &grant.subject);
            let key = keys::credential(tenant, grant.server, subject, Source::Oauth);
            writes.push(revocations::put(revocation)?);
            writes.push(Write::Delete(key, as_read(grant)));
            writes.push(audit_log::put(event)?);
        }
        self.write_if(writes).await
    }

    /// Takes overrides of a dead server away, at most [`OVERRIDES_AT_ONCE`], each with its event. Returns `false` if one of
    /// them is gone already.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn end_remaining_overrides(
        &self,
        tenant: &TenantId,
        group: &[(Box<Override>, Event)],
    ) -> Result<bool> {
        let mut writes = Vec::new();
        for (own, event) in group {
            let key = keys::credential(tenant, own.server, &own.subject, Source::Override);
            writes.push(Write::Delete(key, Condition::Exists));
            writes.push(audit_log::put(event)?);
        }
        self.write_if(writes).await
    }

    async fn delete_batch(&self, keys: &[Item]) -> Result<()> {
        let mut rest = keys
            .iter()
            .map(|key| {
                let delete = DeleteRequest::builder()
                    .set_key(Some(key.clone()))
                    .build()
                    .map_err(Error::internal)?;
                Ok(WriteRequest::builder().delete_request(delete).build())
            })
            .collect::<Result<Vec<_>>>()?;
        for attempt in 0..super::ATTEMPTS {
            super::pause(attempt).await;
            let answer = self
                .client
                .batch_write_item()
                .request_items(&self.name, rest)
                .send()
                .await
                .map_err(failed)?;
            rest = answer
                .unprocessed_items
                .into_iter()
                .flatten()
                .flat_map(|(_, requests)| requests)
                .collect();
            if rest.is_empty() {
                return Ok(());
            }
        }
        Err(Error::Unavailable(
            "the store serves batches in part only".to_owned(),
        ))
    }

    /// Ends a purge: the tombstone goes, with it the wrapped data key, and the receipt is complete. Done twice, the
    /// second time finds nothing to do.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn finish_purge(&self, tombstone: &Tombstone, event: &Event) -> Result<()> {
        let key = keys::tombstone(&tombstone.tenant, tombstone.server);
        let counts = tombstone.counts();
        let close = receipts::close(&tombstone.tenant, &tombstone.receipt, counts, event.id.at())?;
        // A revocation that was written down since it was read needs its key.
        let unchanged = match &tombstone.touched {
            Some(touch) => Condition::Has(vec![("touched", s(touch))]),
            None => Condition::Lacks("touched"),
        };
        self.end(Write::Delete(key, unchanged), Some(event), Some(close))
            .await
    }

    /// Deletes a work item and updates its receipt, if it has one.
    pub(super) async fn end(
        &self,
        delete: Write,
        event: Option<&Event>,
        note: Option<Write>,
    ) -> Result<()> {
        let mut writes = vec![delete];
        writes.extend(event.map(audit_log::put).transpose()?);
        let without_note = writes.clone();
        writes.extend(note);
        match self.write(writes).await {
            // The receipt was deleted by hand: end the work without it.
            Err(WriteError::Refused(at)) if !at.contains(&0) => {
                self.write_if(without_note).await.map(drop)
            }
            Ok(()) | Err(WriteError::Refused(_)) => Ok(()),
            Err(WriteError::Failed(error)) => Err(error),
        }
    }

    /// Writes an offboarding down, with its receipt. All consents of the subject that were begun before are void by it. Returns
    /// `false` if another one was first, of the subject or of the request.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn begin_offboarding(
        &self,
        offboarding: &Offboarding,
        receipt: &Receipt,
        event: &Event,
        request: Option<&Keyed>,
    ) -> Result<bool> {
        let (tenant, subject) = (&offboarding.tenant, &offboarding.subject);
        let key = keys::offboarding(tenant, &offboarding.receipt);
        let mut writes = vec![
            receipts::put(&offboarding.tenant, receipt)?,
            due(&key, "offboarding", offboarding, offboarding.at)?,
            audit_log::put(event)?,
            subjects::count(
                tenant,
                subject,
                offboarding.number.saturating_sub(1),
                offboarding.at,
            ),
            remembered_applications::forget(tenant, subject),
        ];
        let led_to = request.map(|request| idempotency::put(tenant, request, receipt));
        writes.extend(led_to.transpose()?);
        self.write_if(writes).await
    }

    /// An offboarding as it stands, if it still is to be done.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn offboarding(&self, begun: &Offboarding) -> Result<Option<Offboarding>> {
        let key = keys::offboarding(&begun.tenant, &begun.receipt);
        self.read(vec![key.clone()]).await?.get(&key)
    }

    /// Notes how far an offboarding has come, if it still is to be done.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn continue_offboarding(&self, begun: &Offboarding, after: ServerId) -> Result<()> {
        let key = keys::offboarding(&begun.tenant, &begun.receipt);
        let after = serde_dynamo::to_attribute_value(after).map_err(Error::internal)?;
        let note = Update::set(key, vec![("after", after)], Condition::Exists);
        self.write_if(vec![note]).await.map(drop)
    }

    /// Ends an offboarding and completes its receipt.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn finish_offboarding(
        &self,
        offboarding: &Offboarding,
        now: Timestamp,
    ) -> Result<()> {
        let Offboarding {
            tenant, receipt, ..
        } = offboarding;
        let delete = Write::Delete(keys::offboarding(tenant, receipt), Condition::Exists);
        let close = receipts::close(tenant, receipt, None, now)?;
        self.end(delete, None, Some(close)).await
    }

    /// Notes how far a sweep has come, if it still is to be done.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn continue_sweep(&self, sweep: &Sweep, after: &Key) -> Result<()> {
        let key = keys::sweep(&sweep.tenant, sweep.server, sweep.auth_revision);
        let note = Update::set(key, vec![("after", s(&after.sk))], Condition::Exists);
        self.write_if(vec![note]).await.map(drop)
    }

    /// Ends a sweep.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn finish_sweep(&self, sweep: &Sweep, now: Timestamp) -> Result<()> {
        let key = keys::sweep(&sweep.tenant, sweep.server, sweep.auth_revision);
        let delete = Write::Delete(key, Condition::Exists);
        let receipt = sweep.receipt.as_ref();
        let close = receipt.map(|receipt| receipts::close(&sweep.tenant, receipt, None, now));
        self.end(delete, None, close.transpose()?).await
    }
}
