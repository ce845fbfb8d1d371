//! The audit trail: chaining what transactions have written, reading it, and proving that nothing was changed.
//!
//! Events are chained by a worker behind the stream, so that no caller's transaction contends for a head. One that is removed
//! before the worker has met it, within seconds, does not show.

use crate::app::App;
use crate::caller::Caller;
use crate::domain::event::{Event, Link, Month};
use crate::domain::id::{Sortable, TenantId};
use crate::table::trail::{MOST_AT_ONCE, Trail, shards};
use crate::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use tracing::info;

/// How often a chain is extended anew when another worker was first.
const ATTEMPTS: u32 = 10;
/// How many events may be met before their turn in a chain.
const FARTHEST_AHEAD: usize = 10_000;
/// Seconds after which an event should be in its chain.
const PATIENCE: i64 = 3600;

/// Events by the chain that they belong to.
type Waiting = BTreeMap<(String, Month), (TenantId, Vec<Sortable>)>;

fn sort(events: impl IntoIterator<Item = Event>) -> Waiting {
    let mut waiting = Waiting::new();
    for event in events {
        let place = (event.tenant.as_str().to_owned(), event.month());
        let (_, ids) = waiting
            .entry(place)
            .or_insert_with(|| (event.tenant.clone(), Vec::new()));
        ids.push(event.id);
    }
    waiting
}

/// Chains every event that waits for it, of all tenants.
///
/// # Errors
/// The first failure, after everything has been tried; what is not chained goes on waiting.
pub async fn chain_all(app: &App) -> Result<()> {
    let mut failure = None;
    for shard in shards() {
        let mut after = None;
        loop {
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
    let mut failure = None;
    for ((_, month), (tenant, mut ids)) in sort(events) {
        ids.sort_unstable();
        for some in ids.chunks(MOST_AT_ONCE) {
            if let Err(error) = extend(app, &tenant, &month, some).await {
                failure.get_or_insert(error);
            }
        }
    }
    failure.map_or(Ok(()), Err)
}

/// Extends one chain.
async fn extend(app: &App, tenant: &TenantId, month: &Month, ids: &[Sortable]) -> Result<()> {
    for _ in 0..ATTEMPTS {
        let (head, mut events) = app.table.unchained_among(tenant, month, ids).await?;
        if events.is_empty() {
            return Ok(());
        }
        let mut last = head.as_ref().map(Trail::last);
        for event in &mut events {
            let link = Link::after(last.as_ref(), tenant, month, &event.line()?);
            last = Some(link.clone());
            event.chain = Some(link);
        }
        let Some(last) = last else {
            return Ok(());
        };
        let key = app.current_tenant_key(tenant).await?;
        let trail = Trail {
            tenant: tenant.clone(),
            month: month.clone(),
            mark: key.mark(tenant, month, &last)?,
            seq: last.seq,
            link: last.link,
        };
        if app.table.chain(head.as_ref(), &trail, &events).await? {
            // Whoever rolls the head back in the table still has to change the log.
            let (tenant, month) = (tenant.as_str(), month.as_str());
            let Trail { seq, link, .. } = trail;
            info!(tenant, month, seq, link, "the audit trail grew");
            return Ok(());
        }
    }
    Err(Error::Contended)
}

/// A page of the caller's tenant's events that `wanted` picks, newest first, and where the next one starts. A page may be
/// short, even empty, with more behind it: how many are looked at for one is bounded.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn list(
    app: &App,
    caller: &Caller,
    before: Option<Sortable>,
    limit: usize,
    wanted: impl Fn(&Event) -> bool,
) -> Result<(Vec<Event>, Option<Sortable>)> {
    const AT_ONCE: i32 = 200;
    const QUERIES: usize = 10;
    let tenant = &caller.tenant;
    let current = Month::of(before.map_or(app.now(), Sortable::at));
    // What has happened since the turn of a month may have no chain yet, nor may anything at all.
    let mut months: Vec<Month> = app
        .table
        .trails(tenant)
        .await?
        .into_iter()
        .map(|one| one.month)
        .collect();
    months.extend([Month::of(app.now()), current.clone()]);
    months.retain(|month| *month <= current);
    months.sort();
    months.dedup();
    let (mut page, mut before, mut queries) = (Vec::new(), before, 0);
    for month in months.iter().rev() {
        loop {
            if queries == QUERIES {
                return Ok((page, before));
            }
            queries += 1;
            let some = app
                .table
                .events_before(tenant, month, before, AT_ONCE)
                .await?;
            let exhausted = some.len() < AT_ONCE as usize;
            for event in some {
                before = Some(event.id);
                if wanted(&event) {
                    page.push(event);
                    if page.len() == limit {
                        return Ok((page, before));
                    }
                }
            }
            if exhausted {
                break;
            }
        }
    }
    Ok((page, None))
}

/// What is wrong with a month's trail.
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
    /// The chain does not lead to its head, or the head does not have the tenant's mark.
    HeadMoved,
    /// An event has waited for long to be chained.
    NeverChained {
        /// Its id.
        id: Sortable,
    },
}

/// Goes through a month's trail and says what is wrong with it.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn verify(app: &App, tenant: &TenantId, month: &Month) -> Result<Vec<Flaw>> {
    let overdue = app.now().plus_seconds(-PATIENCE);
    // What is chained while this reads lies beyond the head that it goes by.
    let head = head(app, tenant, month).await?;
    let mut reading = Reading {
        tenant,
        month,
        head: head.as_ref().map_or(0, |head| head.seq),
        at_head: None,
        last: None,
        ahead: BTreeMap::new(),
        flaws: Vec::new(),
    };
    let mut after = None;
    loop {
        let some = app.table.events(tenant, month, after, 1000).await?;
        let Some(end) = some.last() else { break };
        after = Some(end.id);
        for event in some {
            if event.chain.is_some() {
                reading.meet(event);
            } else if event.id.at() < overdue {
                reading.flaws.push(Flaw::NeverChained { id: event.id });
            }
        }
        reading.follow(FARTHEST_AHEAD)?;
    }
    reading.follow(0)?;
    let Reading {
        last,
        at_head,
        mut flaws,
        ..
    } = reading;
    let sound = match head {
        None => last.is_none() || self::head(app, tenant, month).await?.is_some(),
        Some(head) => {
            let key = app.tenant_key(tenant, head.mark.tenant_key).await;
            let marked =
                key.is_ok_and(|key| key.has_marked(tenant, month, &head.last(), &head.mark));
            marked && at_head.as_ref() == Some(&head.link)
        }
    };
    if !sound {
        flaws.push(Flaw::HeadMoved);
    }
    Ok(flaws)
}

async fn head(app: &App, tenant: &TenantId, month: &Month) -> Result<Option<Trail>> {
    let (head, _) = app.table.unchained_among(tenant, month, &[]).await?;
    Ok(head)
}

/// A walk along a chain, whose events come by time, nearly as they are chained.
struct Reading<'a> {
    tenant: &'a TenantId,
    month: &'a Month,
    /// The place of the head, and the link that was found there.
    head: u64,
    at_head: Option<String>,
    last: Option<Link>,
    /// What was met before its turn.
    ahead: BTreeMap<u64, Event>,
    flaws: Vec<Flaw>,
}

impl Reading<'_> {
    fn next(&self) -> u64 {
        self.last.as_ref().map_or(1, |link| link.seq + 1)
    }

    fn meet(&mut self, event: Event) {
        let (seq, id) = (event.chain.as_ref().map_or(0, |link| link.seq), event.id);
        let taken = seq < self.next() || self.ahead.insert(seq, event).is_some();
        if taken {
            self.flaws.push(Flaw::Broken { seq, id });
        }
    }

    /// Goes on as far as there are events; over a gap if so many wait behind it that nothing more will come to fill it.
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
