//! The audit log: events in a partition for each tenant and month, the head of each month's hash chain in the tenant's
//! partition. Events that are not chained yet are in the secondary index, too.

use super::{
    Condition, DUE_INDEX, DUE_INDEX_NAME, Item, Key, SK, Table, Write, decode, encode, failed,
    key_of, keys, n, s,
};
use crate::Result;
use crate::domain::event::{AuditLogHead, Event, Month};
use crate::domain::id::{Sortable, TenantId};
use serde::Deserialize;
use tracing::error;

/// The entity of an event's item.
pub(super) const EVENT: &str = "event";

/// The most events that one transaction can chain: DynamoDB's hundred, less the head.
pub const MOST_AT_ONCE: usize = 99;

/// The sort key of an item in an audit log that is not an event, or an event under another event's key.
#[derive(Clone, Debug)]
pub struct Stray(pub String);

/// Decodes an event and checks that it is stored under its own key.
fn decode_event(item: &Item) -> Result<Event, Stray> {
    let stray = || {
        let key = item.get(SK).and_then(|sk| sk.as_s().ok());
        Stray(key.cloned().unwrap_or_default())
    };
    let event: Event = decode(item).map_err(|_| stray())?;
    let place = keys::event(&event.tenant, &event.month(), event.id);
    if key_of(item) == Some(place) {
        Ok(event)
    } else {
        Err(stray())
    }
}

/// The event of a stream record's new image, in DynamoDB's JSON, if it is one.
pub fn from_image(image: &serde_json::Value) -> Option<Event> {
    let image = serde_dynamo::Item::deserialize(image).ok()?;
    serde_dynamo::from_item(image).ok()
}

/// For a transaction that makes the change.
pub(crate) fn put(event: &Event) -> Result<Write> {
    let key = keys::event(&event.tenant, &event.month(), event.id);
    let mut item = encode(&key, EVENT, event)?;
    let at = format!("{:020}", event.id.at().micros());
    item.insert(DUE_INDEX.0.to_owned(), s(keys::unchained_of(&event.tenant)));
    item.insert(DUE_INDEX.1.to_owned(), s(at));
    Ok(Write::Put(item, Condition::Absent))
}

impl Table {
    /// Writes an event that belongs to no other write.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn record_event(&self, event: &Event) -> Result<()> {
        self.write_if(vec![put(event)?]).await.map(drop)
    }

    /// Some of what is in a month's audit log, oldest first, from `after` on, and where the rest starts.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn events(
        &self,
        tenant: &TenantId,
        month: &Month,
        after: Option<Key>,
    ) -> Result<(Vec<Result<Event, Stray>>, Option<Key>)> {
        let partition = keys::events(tenant, month);
        let (items, next) = self.query_page(partition, "", after, 1000).await?;
        Ok((items.iter().map(decode_event).collect(), next))
    }

    /// Some of a month's events that are older than `before`, newest first, from `after` on, and where the rest starts.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn events_before(
        &self,
        tenant: &TenantId,
        month: &Month,
        before: Option<Sortable>,
        after: Option<Key>,
    ) -> Result<(Vec<Event>, Option<Key>)> {
        // No ULID begins with `~`.
        let end = before.map_or_else(|| "~".to_owned(), Sortable::ulid);
        let page = self
            .client
            .query()
            .table_name(&self.name)
            .consistent_read(true)
            .scan_index_forward(false)
            .key_condition_expression("PK = :pk AND #sk < :end")
            .expression_attribute_names("#sk", SK)
            .expression_attribute_values(":pk", s(keys::events(tenant, month)))
            .expression_attribute_values(":end", s(end))
            .set_exclusive_start_key(after.as_ref().map(super::primary))
            .limit(200)
            .send()
            .await
            .map_err(failed)?;
        let next = page.last_evaluated_key.as_ref().and_then(key_of);
        // Invalid items are reported by the verification.
        let events = page
            .items
            .iter()
            .flatten()
            .filter_map(|item| decode_event(item).ok());
        Ok((events.collect(), next))
    }

    /// The chain heads of a tenant, oldest month first.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn audit_log_heads(&self, tenant: &TenantId) -> Result<Vec<AuditLogHead>> {
        self.query(keys::tenant_partition(tenant), keys::AUDIT_LOG_HEADS)
            .await
    }

    /// A month's chain head, and those of these distinct events that exist and are not chained yet.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn unchained_among(
        &self,
        tenant: &TenantId,
        month: &Month,
        ids: &[Sortable],
    ) -> Result<(Option<AuditLogHead>, Vec<Event>)> {
        let head = keys::audit_log_head(tenant, month);
        let events = ids.iter().map(|id| keys::event(tenant, month, *id));
        let events: Vec<Key> = events.collect();
        let found = self
            .read(events.iter().cloned().chain([head.clone()]).collect())
            .await?;
        let events = events.iter().filter_map(|key| found.item(key));
        let mut unchained = known(events);
        unchained.retain(|event| event.chain.is_none());
        Ok((found.get(&head)?, unchained))
    }

    /// Events of all tenants that are not chained yet, oldest first, from `after` on in one of [`shards`], and where the
    /// rest starts. The index may lag behind by moments, both ways.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn unchained(
        &self,
        shard: u8,
        after: Option<Item>,
    ) -> Result<(Vec<Event>, Option<Item>)> {
        let page = self
            .client
            .query()
            .table_name(&self.name)
            .index_name(DUE_INDEX_NAME)
            .key_condition_expression("GSI2PK = :waiting")
            .expression_attribute_values(":waiting", s(keys::unchained(shard)))
            .set_exclusive_start_key(after)
            .limit(1000)
            .send()
            .await
            .map_err(failed)?;
        let events = known(page.items.iter().flatten());
        Ok((events, page.last_evaluated_key))
    }

    /// Stores these chained events, at most [`MOST_AT_ONCE`], with their new head. Returns `false` if the head has
    /// changed since it was read, or one of the events is already chained or gone.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn chain(
        &self,
        read: Option<&AuditLogHead>,
        new_head: &AuditLogHead,
        events: &[Event],
    ) -> Result<bool> {
        let (tenant, month) = (&new_head.tenant, &new_head.month);
        let head = encode(&keys::audit_log_head(tenant, month), "trail", new_head)?;
        let unmoved = read.map_or(Condition::Absent, |read| {
            Condition::Has(vec![("seq", n(read.seq))])
        });
        let mut writes = vec![Write::Put(head, unmoved)];
        for event in events {
            let item = encode(&keys::event(tenant, month, event.id), EVENT, event)?;
            writes.push(Write::Put(item, Condition::Lacks("chain")));
        }
        self.write_if(writes).await
    }
}

/// The events among items. An event that this version cannot decode is logged and skipped.
fn known<'a>(items: impl IntoIterator<Item = &'a Item>) -> Vec<Event> {
    let event = |item| match decode_event(item) {
        Ok(event) => Some(event),
        Err(Stray(key)) => {
            error!(key, "audit log item is not a valid event");
            None
        }
    };
    items.into_iter().filter_map(event).collect()
}

/// The shards of the index of unchained events.
pub fn shards() -> impl Iterator<Item = u8> {
    0..keys::UNCHAINED
}
