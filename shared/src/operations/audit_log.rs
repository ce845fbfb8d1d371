//! The audit log: chaining events by hashes, listing them, and verifying that none was changed.
//!
//! A worker behind the stream chains events, so that requests do not contend for the head of a chain. The change or
//! removal of an event before it is chained, within seconds, cannot be detected.

use crate::domain::event::{AuditLogHead, Event, Link, Month};
use crate::domain::id::{Sortable, TenantId};
use crate::state::app::App;
use crate::table::audit_log::{MOST_AT_ONCE, Stray, shards};
use crate::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use tokio::time::Instant;
use tracing::{error, info};

pub use crate::table::audit_log::from_image;

/// Attempts at extending a chain while other workers extend it, too.
const ATTEMPTS: u32 = 10;
/// How many events the verification holds that come before their turn in the chain.
const MAX_EVENTS_AHEAD: usize = 10_000;
/// Seconds after which an event should be in its chain.
const CHAINING_DEADLINE_SECONDS: i64 = 3600;

/// Chains the events that wait for it, of all tenants, until there are none or the time is over.
///
/// # Errors
/// The first failure, after everything has been tried; what is not chained goes on waiting.
pub async fn chain_all(app: &App, until: Instant) -> Result<()> {
    let mut failure = None;
    for shard in shards() {
        let mut after = None;
        while Instant::now() < until {
            let (events, next) = app.table.unchained(shard, after).await?;
            if let Err(error) = chain(app, events).await {
                failure.get_or_insert(error);
            }
            after = next;
            if after.is_none() {
                break;
            }
        }
    }
    failure.map_or(Ok(()), Err)
}

/// Chains those of these events that are not yet.
///
/// # Errors
/// The first failure, after all chains have been tried.
pub async fn chain(app: &App, events: impl IntoIterator<Item = Event>) -> Result<()> {
    let events = events.into_iter().map(|event| ((), event));
    let failures = chain_each(app, events).await;
    failures
        .into_iter()
        .next()
        .map_or(Ok(()), |(_, cause)| Err(cause))
}

/// Chains these events and returns the record ids of those that failed: all events of a chain that could not be
/// extended.
pub async fn chain_batch<T>(app: &App, events: Vec<(T, Event)>) -> Vec<T> {
    let failures = chain_each(app, events).await;
    let record_ids = failures.into_iter().flat_map(|(record_ids, cause)| {
        error!(%cause, "chaining audit events from the stream failed");
        record_ids
    });
    record_ids.collect()
}

/// The events to append to one chain.
struct Waiting<T> {
    tenant: TenantId,
    ids: Vec<Sortable>,
    record_ids: Vec<T>,
}

/// Chains events, grouped by chain. Returns for each chain that failed the record ids and the error.
async fn chain_each<T>(
    app: &App,
    events: impl IntoIterator<Item = (T, Event)>,
) -> Vec<(Vec<T>, Error)> {
    let mut waiting: BTreeMap<(String, Month), Waiting<T>> = BTreeMap::new();
    for (record_id, event) in events {
        let place = (event.tenant.as_str().to_owned(), event.month());
        let one = waiting.entry(place).or_insert_with(|| Waiting {
            tenant: event.tenant.clone(),
            ids: Vec::new(),
            record_ids: Vec::new(),
        });
        one.ids.push(event.id);
        one.record_ids.push(record_id);
    }
    let mut failures = Vec::new();
    for ((_, month), one) in waiting {
        let Waiting {
            tenant,
            mut ids,
            record_ids,
        } = one;
        ids.sort_unstable();
        ids.dedup();
        let mut failure = None;
        for some in ids.chunks(MOST_AT_ONCE) {
            if let Err(error) = extend(app, &tenant, &month, some).await {
                failure.get_or_insert(error);
            }
        }
        failures.extend(failure.map(|cause| (record_ids, cause)));
    }
    failures
}

/// Extends one chain if the MAC of its head is valid: a forged head must not be extended with a valid one.
async fn extend(app: &App, tenant: &TenantId, month: &Month, ids: &[Sortable]) -> Result<()> {
    for _ in 0..ATTEMPTS {
        let (head, mut events) = app.table.unchained_among(tenant, month, ids).await?;
        if events.is_empty() {
            return Ok(());
        }
        let previous = match &head {
            Some(head) if !has_valid_mac(app, head).await? => {
                let (tenant, month) = (tenant.as_str(), month.as_str());
                error!(tenant, month, "the audit log head has an invalid MAC");
                return Err(Error::internal("the audit log head has an invalid MAC"));
            }
            Some(head) => head.previous.clone(),
            None => {
                let earlier = app.table.audit_log_heads(tenant).await?.into_iter().rev();
                let mut earlier = earlier.filter(|one| one.month < *month);
                earlier.next().map(|one| (one.month, one.seq))
            }
        };
        let mut last = head.as_ref().map(AuditLogHead::last);
        for event in &mut events {
            let link = Link::after(last.as_ref(), tenant, month, &event.line()?);
            last = Some(link.clone());
            event.chain = Some(link);
        }
        let Some(last) = last else {
            return Ok(());
        };
        let key = app.current_tenant_key(tenant).await?;
        let new_head = AuditLogHead {
            tenant: tenant.clone(),
            month: month.clone(),
            mac: key.mac(&mac_input(tenant, month, &last, previous.as_ref()))?,
            seq: last.seq,
            link: last.link,
            previous,
        };
        if app.table.chain(head.as_ref(), &new_head, &events).await? {
            // Logged so that a rollback of the head in the table can be detected.
            let (tenant, month) = (tenant.as_str(), month.as_str());
            let AuditLogHead { seq, link, .. } = new_head;
            info!(tenant, month, seq, link, "audit log chain extended");
            return Ok(());
        }
    }
    Err(Error::Contended)
}

/// The text that the MAC of a head covers.
fn mac_input(
    tenant: &TenantId,
    month: &Month,
    last: &Link,
    previous: Option<&(Month, u64)>,
) -> String {
    let (tenant, month, Link { seq, link }) = (tenant.as_str(), month.as_str(), last);
    let previous = previous.map_or_else(String::new, |(month, seq)| {
        format!("{}\n{seq}", month.as_str())
    });
    format!("trail\n{tenant}\n{month}\n{seq}\n{link}\n{previous}")
}

async fn has_valid_mac(app: &App, head: &AuditLogHead) -> Result<bool> {
    let key = match app.tenant_key(&head.tenant, head.mac.tenant_key).await {
        Ok(key) => key,
        Err(error @ Error::Unavailable(_)) => return Err(error),
        Err(_) => return Ok(false),
    };
    let previous = head.previous.as_ref();
    let mac_input = mac_input(&head.tenant, &head.month, &head.last(), previous);
    Ok(key.verify_mac(&mac_input, &head.mac))
}

/// A page of a tenant's events that `wanted` picks, newest first, and where the next one starts. A page may be
/// short, even empty, with more behind it: how many are looked at for one is bounded.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn list(
    app: &App,
    tenant: &TenantId,
    before: Option<Sortable>,
    limit: usize,
    wanted: impl Fn(&Event) -> bool,
) -> Result<(Vec<Event>, Option<Sortable>)> {
    const LOOKED_AT: usize = 2000;
    let now = app.now();
    let mut before = before.filter(|id| id.at() <= now);
    let mut month = Month::of(before.map_or(now, Sortable::at));
    let heads = app.table.audit_log_heads(tenant).await?;
    // Before the first head there can only be what was not chained when the month turned, and what has lost its head.
    let oldest = heads.first().map_or(&month, |head| {
        head.previous
            .as_ref()
            .map_or(&head.month, |(month, _)| month)
    });
    let oldest = oldest.before();
    let (mut page, mut looked_at) = (Vec::new(), 0);
    while month >= oldest {
        let mut after = None;
        loop {
            let read = app.table.events_before(tenant, &month, before, after);
            let (some, next) = read.await?;
            looked_at += some.len();
            let last = some.last().map(|event| event.id);
            for event in some.into_iter().filter(&wanted) {
                let id = event.id;
                page.push(event);
                if page.len() == limit {
                    return Ok((page, Some(id)));
                }
            }
            if looked_at >= LOOKED_AT
                && let Some(last) = last
            {
                return Ok((page, Some(last)));
            }
            after = next;
            if after.is_none() {
                break;
            }
        }
        before = None;
        month = month.before();
    }
    Ok((page, None))
}

/// A flaw that the verification of a month's audit log found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "flaw", rename_all = "kebab-case")]
pub enum Flaw {
    /// The events of these places are not there.
    Missing {
        /// The first place.
        from: u64,
        /// The last place.
        to: u64,
    },
    /// An event does not follow from the one before it: one of the two was changed, or slipped in.
    Broken {
        /// Its place.
        seq: u64,
        /// Its id.
        id: Sortable,
    },
    /// The last event of the chain does not match its head, or the MAC of the head is invalid.
    HeadMoved,
    /// A month that this one followed is gone, or shorter than it was then.
    MonthCut {
        /// That month.
        month: Month,
    },
    /// An event has waited for long to be chained.
    NeverChained {
        /// Its id.
        id: Sortable,
    },
    /// An item that is no event, or belongs elsewhere.
    Stray {
        /// Its sort key.
        key: String,
    },
}

/// Verifies a month's audit log and returns its flaws.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn verify(app: &App, tenant: &TenantId, month: &Month) -> Result<Vec<Flaw>> {
    let overdue = app.now().plus_seconds(-CHAINING_DEADLINE_SECONDS);
    let head = head(app, tenant, month).await?;
    let mut verifier = ChainVerifier {
        tenant,
        month,
        head: head.as_ref().map_or(0, |head| head.seq),
        at_head: None,
        last: None,
        ahead: BTreeMap::new(),
        flaws: Vec::new(),
    };
    // Events that are chained during the verification: the head must cover them in the end.
    let mut beyond: Option<(u64, Sortable)> = None;
    let mut after = None;
    loop {
        let (some, next) = app.table.events(tenant, month, after).await?;
        for item in some {
            match item {
                Err(Stray(key)) => verifier.flaws.push(Flaw::Stray { key }),
                Ok(event) => match event.chain.as_ref().map(|link| link.seq) {
                    Some(seq) if seq > verifier.head => beyond = beyond.max(Some((seq, event.id))),
                    Some(seq) => verifier.meet(seq, event),
                    None if event.id.at() < overdue => {
                        verifier.flaws.push(Flaw::NeverChained { id: event.id });
                    }
                    None => {}
                },
            }
        }
        verifier.follow(MAX_EVENTS_AHEAD)?;
        after = next;
        if after.is_none() {
            break;
        }
    }
    verifier.follow(0)?;
    let (next, end) = (verifier.next(), verifier.head);
    let ChainVerifier {
        at_head, mut flaws, ..
    } = verifier;
    if next <= end {
        flaws.push(Flaw::Missing {
            from: next,
            to: end,
        });
    }
    if let Some(head) = &head {
        let leads_there = next <= end || at_head.as_ref() == Some(&head.link);
        if !leads_there || !has_valid_mac(app, head).await? {
            flaws.push(Flaw::HeadMoved);
        }
        if let Some((previous, seq)) = &head.previous {
            let current = self::head(app, tenant, previous).await?;
            if current.is_none_or(|current| current.seq < *seq) {
                let month = previous.clone();
                flaws.push(Flaw::MonthCut { month });
            }
        }
    }
    if let Some((seq, id)) = beyond {
        let now = self::head(app, tenant, month).await?;
        if now.is_none_or(|now| now.seq < seq) {
            flaws.push(Flaw::Broken { seq, id });
        }
    }
    Ok(flaws)
}

async fn head(app: &App, tenant: &TenantId, month: &Month) -> Result<Option<AuditLogHead>> {
    let (head, _) = app.table.unchained_among(tenant, month, &[]).await?;
    Ok(head)
}

/// Walks along a chain. Events come by time, which is nearly the order of the chain.
struct ChainVerifier<'a> {
    tenant: &'a TenantId,
    month: &'a Month,
    /// The place of the head, and the link that was found there.
    head: u64,
    at_head: Option<String>,
    last: Option<Link>,
    /// Events that were read before their turn.
    ahead: BTreeMap<u64, Event>,
    flaws: Vec<Flaw>,
}

impl ChainVerifier<'_> {
    fn next(&self) -> u64 {
        self.last.as_ref().map_or(1, |link| link.seq + 1)
    }

    fn meet(&mut self, seq: u64, event: Event) {
        let id = event.id;
        let taken = seq < self.next() || self.ahead.insert(seq, event).is_some();
        if taken {
            self.flaws.push(Flaw::Broken { seq, id });
        }
    }

    /// Follows the chain as far as events are there; skips a gap once more than `farthest` events wait behind it.
    fn follow(&mut self, farthest: usize) -> Result<()> {
        while let Some((&seq, _)) = self.ahead.first_key_value() {
            let next = self.next();
            if seq > next && self.ahead.len() <= farthest {
                break;
            }
            let Some((_, event)) = self.ahead.pop_first() else {
                break;
            };
            if seq > next {
                self.flaws.push(Flaw::Missing {
                    from: next,
                    to: seq - 1,
                });
            } else {
                let due = Link::after(self.last.as_ref(), self.tenant, self.month, &event.line()?);
                if event.chain.as_ref() != Some(&due) {
                    self.flaws.push(Flaw::Broken { seq, id: event.id });
                }
            }
            self.last = event.chain;
            if seq == self.head {
                self.at_head = self.last.as_ref().map(|last| last.link.clone());
            }
        }
        Ok(())
    }
}
