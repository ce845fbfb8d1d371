//! Work that outlives its request: the tombstone of a deleted server, the sweep after a change that voided credentials.
//! Each stays in the server's partition and in the index of due work until it is done.

use super::{
    Condition, DUE_INDEX, DUE_INDEX_NAME, Item, Key, PK, SK, Table, Write, WriteError, encode,
    failed, keys, n, s,
};
use crate::domain::id::{ServerId, TenantId};
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;
use crate::seal::WrappedKey;
use crate::table::receipts::{self, Counts, Receipt};
use crate::{Error, Result};
use aws_sdk_dynamodb::types::{AttributeValue, DeleteRequest, WriteRequest};
use serde::{Deserialize, Serialize};
use tracing::error;

/// Deletes in one BatchWriteItem, at most.
const BATCH: usize = 25;

/// What stays in a deleted server's partition until everything under it is gone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tombstone {
    /// The tenant, for the worker that finds this item in the index.
    pub tenant: TenantId,
    /// The server that was.
    pub server: ServerId,
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
    pub(crate) fn put(&self, tenant: &TenantId) -> Result<Write> {
        due(&keys::sweep(tenant, self.server), "sweep", self, self.at)
    }
}

fn due(key: &Key, entity: &str, value: &impl Serialize, at: Timestamp) -> Result<Write> {
    let mut item = encode(key, entity, value)?;
    item.insert(DUE_INDEX.0.to_owned(), s(keys::DUE));
    item.insert(DUE_INDEX.1.to_owned(), s(due_time(at)));
    Ok(Write::Put(item, Condition::Any))
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
        let key = match work {
            Work::Tombstone(tombstone) => keys::tombstone(&tombstone.tenant, tombstone.server),
            Work::Sweep(sweep) => keys::sweep(&sweep.tenant, sweep.server),
            Work::Offboarding(one) => keys::offboarding(&one.tenant, &one.receipt),
        };
        finished(
            self.write(vec![Write::Set(
                key,
                vec![(DUE_INDEX.1, s(due_time(until)))],
            )])
            .await,
        )
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
        finished(
            self.write(vec![Write::SetOnce(key, vec![("counts", map)])])
                .await,
        )
    }

    /// Deletes up to a few hundred items of a dead server's partition, never the tombstone. Answers whether it is empty
    /// but for that.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn clear_some(&self, tenant: &TenantId, server: ServerId) -> Result<bool> {
        let page = self
            .client
            .query()
            .table_name(&self.name)
            .consistent_read(true)
            .key_condition_expression("PK = :pk")
            .projection_expression("PK, SK")
            .expression_attribute_values(":pk", s(keys::server_partition(tenant, server)))
            .limit(200)
            .send()
            .await
            .map_err(failed)?;
        let complete = page.last_evaluated_key.is_none();
        let doomed: Vec<Item> = page
            .items
            .into_iter()
            .flatten()
            .filter(|item| item.get(SK) != Some(&s(keys::TOMBSTONE)))
            .collect();
        let nothing_left = complete && doomed.is_empty();
        for batch in doomed.chunks(BATCH) {
            self.delete_batch(batch).await?;
        }
        Ok(nothing_left)
    }

    async fn delete_batch(&self, keys: &[Item]) -> Result<()> {
        let mut rest = keys
            .iter()
            .map(|key| {
                let key = key
                    .iter()
                    .filter(|(name, _)| matches!(name.as_str(), PK | SK))
                    .map(|(k, v)| (k.clone(), v.clone()))
                    .collect();
                let delete = DeleteRequest::builder()
                    .set_key(Some(key))
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
    pub async fn finish_purge(&self, tombstone: &Tombstone, now: Timestamp) -> Result<()> {
        let counts = serde_dynamo::to_item(tombstone.counts.unwrap_or_default());
        let counts = AttributeValue::M(counts.map_err(Error::internal)?);
        let key = keys::tombstone(&tombstone.tenant, tombstone.server);
        let bury = Write::Delete(key, Condition::Exists);
        let complete = Write::Set(
            keys::receipt(&tombstone.tenant, &tombstone.receipt),
            vec![
                ("complete", AttributeValue::Bool(true)),
                ("completed_at", n(now.micros())),
                ("counts", counts),
            ],
        );
        self.end(bury, complete).await
    }

    /// Takes a piece of work away and completes its receipt.
    async fn end(&self, bury: Write, complete: Write) -> Result<()> {
        match self.write(vec![bury.clone(), complete]).await {
            // The receipt was taken away by hand, which is no reason to go on for ever.
            Err(WriteError::Refused(at)) if !at.contains(&0) => {
                finished(self.write(vec![bury]).await)
            }
            done => finished(done),
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
    ) -> Result<()> {
        let key = keys::offboarding(&offboarding.tenant, &offboarding.receipt);
        let writes = vec![
            receipts::put(&offboarding.tenant, receipt)?,
            due(&key, "offboarding", offboarding, offboarding.at)?,
        ];
        match self.write(writes).await {
            Ok(()) => Ok(()),
            Err(WriteError::Refused(_)) => Err(Error::internal("a fresh receipt id was in use")),
            Err(WriteError::Failed(error)) => Err(error),
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
        let complete = Write::Set(
            keys::receipt(tenant, receipt),
            vec![
                ("complete", AttributeValue::Bool(true)),
                ("completed_at", n(now.micros())),
            ],
        );
        self.end(bury, complete).await
    }

    /// Ends a sweep, unless a later change has asked for another one.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn finish_sweep(&self, sweep: &Sweep) -> Result<()> {
        let key = keys::sweep(&sweep.tenant, sweep.server);
        let unchanged = Condition::Has(vec![("auth_revision", n(sweep.auth_revision))]);
        finished(self.write(vec![Write::Delete(key, unchanged)]).await)
    }
}

fn finished(written: Result<(), WriteError>) -> Result<()> {
    match written {
        Ok(()) | Err(WriteError::Refused(_)) => Ok(()),
        Err(WriteError::Failed(error)) => Err(error),
    }
}
