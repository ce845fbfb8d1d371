//! The audit trail: events in a partition for each tenant and month, the head of each month's chain in the tenant's
//! partition. Events that are not chained yet are in the second index too, until they are.

use super::{
    Condition, DUE_INDEX, DUE_INDEX_NAME, Item, Key, SK, Table, Write, decode, encode, failed,
    key_of, keys, n, s,
};
use crate::Result;
use crate::domain::event::{Event, Link, Month};
use crate::domain::id::{Sortable, TenantId};
use crate::seal::Mark;
use serde::{Deserialize, Serialize};
use tracing::error;

/// The entity of an event's item.
pub(super) const EVENT: &str = "event";

/// The most events that one transaction can chain: DynamoDB's hundred, less the head.
pub const MOST_AT_ONCE: usize = 99;

/// How far a month's chain goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trail {
    /// The tenant.
    pub tenant: TenantId,
    /// The month.
    pub month: Month,
    /// How many events are in it.
    pub seq: u64,
    /// The link of the last of them.
    pub link: String,
    /// The month with events before this one, and how many it had when this one began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<(Month, u64)>,
    /// The tenant's mark on all this. Whoever can only write to the table cannot make another chain in its place.
    pub mark: Mark,
}

impl Trail {
    /// The place of its last event.
    pub fn last(&self) -> Link {
        Link {
            seq: self.seq,
            link: self.link.clone(),
        }
    }
}

/// An item in a trail that is no event, or not one that belongs where it is; its sort key.
#[derive(Clone, Debug)]
pub struct Stray(pub String);

/// The event that an item is, if it lies where it belongs.
fn placed(item: &Item) -> Result<Event, Stray> {
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
    /// Writes an event of something that changes nothing else here.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn tell(&self, event: &Event) -> Result<()> {
        self.write_if(vec![put(event)?]).await.map(drop)
    }

    /// Some of what is in a month's trail, oldest first, from `after` on, and where the rest starts.
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
        Ok((items.iter().map(placed).collect(), next))
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
        // What is no event is the verification's to tell of.
        let events = page
            .items
            .iter()
            .flatten()
            .filter_map(|item| placed(item).ok());
        Ok((events.collect(), next))
    }

    /// How far the chains of a tenant go, oldest month first.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn trails(&self, tenant: &TenantId) -> Result<Vec<Trail>> {
        self.query(keys::tenant_partition(tenant), keys::TRAILS)
            .await
    }

    /// How far a month's chain goes, and those of these events, all different, that are there and not in it.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn unchained_among(
        &self,
        tenant: &TenantId,
        month: &Month,
        ids: &[Sortable],
    ) -> Result<(Option<Trail>, Vec<Event>)> {
        let head = keys::trail(tenant, month);
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

    /// Chains these events, at most [`MOST_AT_ONCE`], and with them moves the head. Answers `false` if the head is not the
    /// one that was read, or one of the events is chained or gone.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn chain(
        &self,
        read: Option<&Trail>,
        trail: &Trail,
        events: &[Event],
    ) -> Result<bool> {
        let (tenant, month) = (&trail.tenant, &trail.month);
        let head = encode(&keys::trail(tenant, month), "trail", trail)?;
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

/// The events among items. One that this version does not know must not keep the others.
fn known<'a>(items: impl IntoIterator<Item = &'a Item>) -> Vec<Event> {
    let event = |item| match placed(item) {
        Ok(event) => Some(event),
        Err(Stray(key)) => {
            error!(
                key,
                "an item in an audit trail is no event that belongs there"
            );
            None
        }
    };
    items.into_iter().filter_map(event).collect()
}

/// The parts that the events which wait to be chained are divided into.
pub fn shards() -> impl Iterator<Item = u8> {
    0..keys::UNCHAINED
}
