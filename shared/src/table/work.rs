//! Work that outlives its request: the tombstone of a deleted server, the sweep after a change that voided credentials, an
//! offboarding, the revocations of all of these, the try of an api key.
//! Each stays in the server's partition and in the index of due work until it is done.

use super::{
    Condition, DUE_INDEX, DUE_INDEX_NAME, Item, Key, SK, Table, Update, Write, WriteError, encode,
    failed, keys, n, revocations, s, trail,
};
use crate::domain::credential::{Grant, Override, Source};
use crate::domain::event::Event;
use crate::domain::id::{ServerId, TenantId};
use crate::domain::issuance::{ClientRecord, Provider};
use crate::domain::revocation::Revocation;
use crate::domain::server::Server;
use crate::domain::session::Session;
use crate::domain::status::Reason;
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;
use crate::seal::WrappedKey;
use crate::table::credentials::Credential;
use crate::table::receipts::{self, Counts, Receipt};
use crate::table::verifications::{self, Verification};
use crate::{Error, Result};
use aws_sdk_dynamodb::types::{AttributeValue, DeleteRequest, WriteRequest};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use tracing::error;

/// Deletes in one BatchWriteItem, at most.
const BATCH: usize = 25;
/// Overrides and their events in one transaction, at most.
pub const OVERRIDES_AT_ONCE: usize = 50;

/// What stays in a deleted server's partition until everything under it is gone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tombstone {
    /// The tenant, for the worker that finds this item in the index.
    pub tenant: TenantId,
    /// The server that was.
    pub server: ServerId,
    /// The number that it had.
    pub number: u64,
    /// The receipt to complete.
    pub receipt: String,
    /// When the server was deleted.
    pub at: Timestamp,
    /// What its secrets were sealed with; goes at the very end.
    pub data_key: WrappedKey,
    /// How many credentials it had; counted before the first of them is removed, so that the receipt is right however
    /// often the purge is interrupted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
    /// Another one whenever a revocation is added to the partition after the server's deletion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub touched: Option<String>,
}

/// Credentials of a living server that a change of its outbound authentication voided, to be cleared away.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sweep {
    /// The tenant.
    pub tenant: TenantId,
    /// The server.
    pub server: ServerId,
    /// The server's auth revision after the change.
    pub auth_revision: u64,
    /// Auth revisions of the overrides that the change voided. What was void before is another sweep's to take away and
    /// to count, and so is what was stored since.
    pub overrides: Range<u64>,
    /// Auth revisions of the grants that it voided.
    pub grants: Range<u64>,
    /// What subjects are told.
    pub reason: Reason,
    /// The receipt that counts what goes, if the call has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
    /// When the change happened.
    pub at: Timestamp,
}

/// A subject whose credentials are being taken away on every server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Offboarding {
    /// The tenant.
    pub tenant: TenantId,
    /// Whose credentials go.
    #[serde(flatten)]
    pub subject: Subject,
    /// The receipt that counts them.
    pub receipt: String,
    /// When it was asked for.
    pub at: Timestamp,
}

/// An item in a dead server's partition.
#[derive(Debug)]
pub struct Remains {
    /// Where it is.
    pub key: Key,
    /// What it is.
    pub item: Remaining,
}

/// What an item in a dead server's partition is, as far as that matters to its end.
#[derive(Debug, Deserialize)]
#[serde(tag = "entity", rename_all = "kebab-case")]
pub enum Remaining {
    /// To become a revocation.
    Grant(Box<Grant>),
    /// To go, with an event of its own.
    Override(Box<Override>),
    /// To be settled before the data key goes.
    Revocation(Box<Revocation>),
    /// To be deregistered after that.
    Client(Box<ClientRecord>),
    /// To go, unless an issuer's answer is on its way.
    Session(Box<Session>),
    /// To go, with its receipt closed.
    Sweep(Sweep),
    /// To go with the item that leads to it.
    Provider(Provider),
    /// To go last.
    Tombstone,
    /// To go.
    #[serde(other)]
    Other,
}

/// One piece of due work.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "entity", rename_all = "kebab-case")]
pub enum Work {
    /// Empty the partition.
    Tombstone(Tombstone),
    /// Clear away what is void.
    Sweep(Sweep),
    /// Take a subject's credentials away.
    Offboarding(Offboarding),
    /// Tell an issuer that a grant is over.
    Revocation(Box<Revocation>),
    /// Try an api key.
    Verification(Verification),
}

impl Work {
    fn key(&self) -> Key {
        match self {
            Self::Tombstone(one) => keys::tombstone(&one.tenant, one.server),
            Self::Sweep(one) => keys::sweep(&one.tenant, one.server, one.auth_revision),
            Self::Offboarding(one) => keys::offboarding(&one.tenant, &one.receipt),
            Self::Revocation(one) => keys::revocation(&one.tenant, one.server, &one.id),
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
    /// That of a change from one state of a server to another.
    pub fn of(tenant: &TenantId, before: &Server, after: &Server, at: Timestamp) -> Self {
        Self {
            tenant: tenant.clone(),
            server: after.id,
            auth_revision: after.auth_revision,
            overrides: before.auth_revision..after.auth_revision,
            grants: before.void_before..after.void_before,
            reason: after.void_reason,
            receipt: None,
            at,
        }
    }

    /// Whether this is what takes a credential away.
    pub fn takes(&self, credential: &Credential) -> bool {
        match credential {
            Credential::Override(own) => self.overrides.contains(&own.auth_revision),
            Credential::Grant(grant) => self.grants.contains(&grant.auth_revision),
        }
    }

    pub(crate) fn put(&self, tenant: &TenantId) -> Result<Write> {
        let key = keys::sweep(tenant, self.server, self.auth_revision);
        due(&key, "sweep", self, self.at)
    }
}

fn due(key: &Key, entity: &str, value: &impl Serialize, at: Timestamp) -> Result<Write> {
    Ok(Write::Put(
        due_item(key, entity, value, at)?,
        Condition::Any,
    ))
}

pub(crate) fn due_item(
    key: &Key,
    entity: &str,
    value: &impl Serialize,
    at: Timestamp,
) -> Result<Item> {
    let mut item = encode(key, entity, value)?;
    item.insert(DUE_INDEX.0.to_owned(), s(keys::DUE));
    item.insert(DUE_INDEX.1.to_owned(), s(due_time(at)));
    Ok(item)
}

fn due_time(at: Timestamp) -> String {
    format!("{:020}", at.micros())
}

impl Work {
    /// Reads a stream record's new image, in DynamoDB's JSON, if it is one of work.
    pub fn from_image(image: &serde_json::Value) -> Option<Self> {
        let image = serde_dynamo::Item::deserialize(image).ok()?;
        serde_dynamo::from_item(image).ok()
    }
}

impl Table {
    /// Work that is due at `now`, oldest first, at most `limit`. The index may lag behind by moments; nothing is lost by
    /// that. An item that does not decode is logged and left.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn due_work(&self, now: Timestamp, limit: usize) -> Result<Vec<Work>> {
        let mut items = self
            .client
            .query()
            .table_name(&self.name)
            .index_name(DUE_INDEX_NAME)
            .key_condition_expression("GSI2PK = :due AND GSI2SK <= :now")
            .expression_attribute_values(":due", s(keys::DUE))
            .expression_attribute_values(":now", s(due_time(now)))
            .into_paginator()
            .items()
            .send();
        let mut due = Vec::new();
        while due.len() < limit
            && let Some(item) = items.next().await
        {
            match super::decode(&item.map_err(failed)?) {
                Ok(work) => due.push(work),
                Err(cause) => error!(%cause, "due work cannot be read"),
            }
        }
        Ok(due)
    }

    /// Makes work due later, if it still is to be done.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn put_off(&self, work: &Work, until: Timestamp) -> Result<()> {
        let later = Update::set(
            work.key(),
            vec![(DUE_INDEX.1, s(due_time(until)))],
            Condition::Exists,
        );
        self.write_if(vec![later]).await.map(drop)
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

    /// Counts the credentials in a dead server's partition and writes the result on its tombstone, once: the first
    /// count is from before anything was removed, a later one may not be.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn count_on_tombstone(&self, tenant: &TenantId, server: ServerId) -> Result<()> {
        let mut pages = self
            .client
            .query()
            .table_name(&self.name)
            .consistent_read(true)
            .key_condition_expression("PK = :pk AND begins_with(SK, :credentials)")
            .projection_expression("SK")
            .expression_attribute_values(":pk", s(keys::server_partition(tenant, server)))
            .expression_attribute_values(":credentials", s(keys::CREDENTIALS))
            .into_paginator()
            .items()
            .send();
        let mut counts = Counts::default();
        while let Some(item) = pages.next().await {
            let item = item.map_err(failed)?;
            let sk = item.get(SK).and_then(|sk| sk.as_s().ok());
            if let Some(source) = sk.and_then(|sk| keys::credential_source(sk)) {
                counts.add(source);
            }
        }
        let map = AttributeValue::M(serde_dynamo::to_item(counts).map_err(Error::internal)?);
        let key = keys::tombstone(tenant, server);
        let count = Update::set(key, vec![("counts", map)], Condition::Lacks("counts"));
        self.write_if(vec![count]).await.map(drop)
    }

    /// Some of what is in a dead server's partition, from `after` on, and where the rest starts.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn remains(
        &self,
        tenant: &TenantId,
        server: ServerId,
        after: Option<Key>,
    ) -> Result<(Vec<Remains>, Option<Key>)> {
        let (items, next) = self
            .query_page(keys::server_partition(tenant, server), "", after, 200)
            .await?;
        let remains = items.into_iter().map(|item| {
            let key =
                super::key_of(&item).ok_or_else(|| Error::internal("an item without a key"))?;
            let item = match super::decode(&item) {
                // Nothing is owed to an override but to go.
                Err(_) if keys::credential_source(&key.sk) == Some(Source::Override) => {
                    Remaining::Other
                }
                read => read?,
            };
            Ok(Remains { key, item })
        });
        Ok((remains.collect::<Result<_>>()?, next))
    }

    /// Deletes items that nothing has to be done about any more.
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

    /// Turns a dead server's grant into its revocation, if it still is the one that was read and nobody refreshes
    /// it. Answers `false` otherwise.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn end_remaining_grant(
        &self,
        grant: &Grant,
        revocation: &Revocation,
        event: &Event,
    ) -> Result<bool> {
        let tenant = &revocation.tenant;
        let key = keys::credential(tenant, grant.server, &grant.subject, Source::Oauth);
        let writes = vec![
            revocations::put(revocation)?,
            Write::Delete(
                key,
                Condition::HasBefore(
                    vec![("version", s(&grant.version))],
                    ("lease_until", n(revocation.at.micros())),
                ),
            ),
            trail::put(event)?,
        ];
        self.write_if(writes).await
    }

    /// Takes overrides of a dead server away, at most [`OVERRIDES_AT_ONCE`], each with its event. Answers `false` if one of
    /// them is gone already.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn end_remaining_overrides(
        &self,
        tenant: &TenantId,
        overrides: &[Box<Override>],
        events: &[Event],
    ) -> Result<bool> {
        let mut writes = Vec::new();
        for own in overrides {
            let key = keys::credential(tenant, own.server, &own.subject, Source::Override);
            writes.push(Write::Delete(key, Condition::Exists));
        }
        for event in events {
            writes.push(trail::put(event)?);
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
        let counts = Some(tombstone.counts.unwrap_or_default());
        let close = receipts::close(&tombstone.tenant, &tombstone.receipt, counts, event.id.at())?;
        // A revocation that was written down since it was read needs its key.
        let unchanged = match &tombstone.touched {
            Some(touch) => Condition::Has(vec![("touched", s(touch))]),
            None => Condition::Lacks("touched"),
        };
        self.end(Write::Delete(key, unchanged), Some(event), Some(close))
            .await
    }

    /// Takes a piece of work away and says so on its receipt, if it has one.
    pub(super) async fn end(
        &self,
        bury: Write,
        event: Option<&Event>,
        note: Option<Write>,
    ) -> Result<()> {
        let mut writes = vec![bury];
        writes.extend(event.map(trail::put).transpose()?);
        let without_note = writes.clone();
        writes.extend(note);
        match self.write(writes).await {
            // The receipt was taken away by hand, which is no reason to go on for ever.
            Err(WriteError::Refused(at)) if !at.contains(&0) => {
                self.write_if(without_note).await.map(drop)
            }
            Ok(()) | Err(WriteError::Refused(_)) => Ok(()),
            Err(WriteError::Failed(error)) => Err(error),
        }
    }

    /// Writes an offboarding down, with its receipt.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn begin_offboarding(
        &self,
        offboarding: &Offboarding,
        receipt: &Receipt,
        event: &Event,
    ) -> Result<()> {
        let key = keys::offboarding(&offboarding.tenant, &offboarding.receipt);
        let writes = vec![
            receipts::put(&offboarding.tenant, receipt)?,
            due(&key, "offboarding", offboarding, offboarding.at)?,
            trail::put(event)?,
        ];
        if self.write_if(writes).await? {
            Ok(())
        } else {
            Err(Error::internal("a fresh receipt id was in use"))
        }
    }

    /// Whether an offboarding still is to be done.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn has_offboarding(&self, offboarding: &Offboarding) -> Result<bool> {
        let key = keys::offboarding(&offboarding.tenant, &offboarding.receipt);
        Ok(self
            .read(vec![key.clone()])
            .await?
            .get::<Offboarding>(&key)?
            .is_some())
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
        let bury = Write::Delete(keys::offboarding(tenant, receipt), Condition::Exists);
        let close = receipts::close(tenant, receipt, None, now)?;
        self.end(bury, None, Some(close)).await
    }

    /// Ends a sweep.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn finish_sweep(&self, sweep: &Sweep, now: Timestamp) -> Result<()> {
        let key = keys::sweep(&sweep.tenant, sweep.server, sweep.auth_revision);
        let bury = Write::Delete(key, Condition::Exists);
        let receipt = sweep.receipt.as_ref();
        let close = receipt.map(|receipt| receipts::close(&sweep.tenant, receipt, None, now));
        self.end(bury, None, close.transpose()?).await
    }
}
