//! The work after a deletion or a voiding change: a purge empties the partition of a deleted server, a sweep removes
//! the void credentials of an existing one. Both run page by page until a deadline and continue where they stopped.

use crate::domain::credential::Source;
use crate::domain::event::{Action, Event, Worker};
use crate::domain::job::{Remaining, Sweep, Tombstone, Work};
use crate::domain::revocation::{RETRY_WINDOW_SECONDS, Revocation};
use crate::domain::session::Phase;
use crate::domain::subject::Subject;
use crate::operations::defer;
use crate::state::app::App;
use crate::table::work::{GRANTS_AT_ONCE, OVERRIDES_AT_ONCE, RemainingItem, VOID_AT_ONCE};
use crate::table::{Key, clients, servers};
use crate::{Error, Result};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use std::slice;
use tokio::time::Instant;

/// Attempts of a sweep at a page whose credentials are replaced concurrently.
const PASSES: usize = 5;
/// Credentials in one page of a sweep.
const VOIDED_PAGE: i32 = 200;
/// Clients that are deregistered at once.
const CLIENTS_AT_ONCE: usize = 8;

/// The progress of a step of a purge.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Nothing is left.
    Done,
    /// Some items wait for an issuer or for the end of a lease.
    Waiting,
    /// The deadline was reached.
    Unfinished,
}

/// Empties a deleted server's partition. Nothing but revocations can appear there meanwhile: everything else created under
/// a server is conditional on its item, and ids never come back.
///
/// Grants become revocations. A session whose code is just being exchanged is left until that is over. Clients are deregistered once no revocation needs them. The tombstone, and with it the data key, goes last.
pub(super) async fn purge(app: &App, tombstone: &Tombstone, until: Instant) -> Result<()> {
    let Tombstone { tenant, server, .. } = tombstone;
    let tombstone = loop {
        match app.table.tombstone(tenant, *server).await? {
            None => return Ok(()),
            Some(counted) if counted.counts().is_some() => break counted,
            Some(found) => {
                app.table.count_on_tombstone(&found, until).await?;
                if Instant::now() >= until {
                    return Ok(());
                }
            }
        }
    };
    let cleared = clear(app, &tombstone, until).await;
    // Revocations, and more of this where the time was over.
    app.work_appeared.notify_one();
    let mut progress = cleared?;
    if progress == Progress::Done && app.table.has_revocations(tenant, *server).await? {
        progress = Progress::Waiting;
    }
    if progress == Progress::Done {
        progress = deregister(app, &tombstone, until).await?;
    }
    match progress {
        Progress::Done => {
            remove_bound_keys(app, &tombstone).await?;
            let event = Event::new(app.now(), tenant, Worker::Purge, Action::ServerPurged)?
                .at(*server)
                .under(Some(&tombstone.receipt));
            app.table.finish_purge(&tombstone, &event).await
        }
        // The last revocation to be settled comes back here at once; this is for what it does not see.
        Progress::Waiting => defer(app, &Work::Tombstone(tombstone)).await.map(drop),
        Progress::Unfinished => {
            let now = app.now();
            let again = Work::Tombstone(tombstone);
            app.table.defer(&again, now).await.map(drop)
        }
    }
}

/// Removes the personal access tokens that are bound to a deleted server. They have been refused since its deletion.
async fn remove_bound_keys(app: &App, tombstone: &Tombstone) -> Result<()> {
    let Tombstone { tenant, number, .. } = tombstone;
    let keys = app.table.api_keys(tenant).await?.into_iter();
    for key in keys.filter(|key| key.bound_to == Some(*number)) {
        let event = Event::new(app.now(), tenant, Worker::Purge, Action::KeyRemoved)?
            .at(tombstone.server)
            .of_key(&key.id);
        app.table.remove_api_key(tenant, &key.id, &event).await?;
    }
    Ok(())
}

/// Removes everything but clients, revocations and the tombstone.
async fn clear(app: &App, tombstone: &Tombstone, until: Instant) -> Result<Progress> {
    let Tombstone {
        tenant,
        server,
        receipt,
        ..
    } = tombstone;
    let removed = |subject: &Subject, source| {
        let event = Event::new(app.now(), tenant, Worker::Purge, Action::CredentialRemoved)?;
        let event = event.at(*server).of(subject).from(source);
        Ok::<_, Error>(event.under(Some(receipt)))
    };
    let mut settled = true;
    let mut failure = None;
    let mut after = None;
    loop {
        let (some, next) = app.table.remains(tenant, *server, after).await?;
        let (mut to_delete, mut grants, mut overrides) = (Vec::new(), Vec::new(), Vec::new());
        let now = app.now();
        for RemainingItem { key, item } in some {
            match item {
                Remaining::Tombstone => {}
                Remaining::Grant(grant) => {
                    let revocation = Revocation::of(tenant, &grant, Some(receipt), now)?;
                    let event = removed(&grant.subject, Source::Oauth)?;
                    grants.push((grant, revocation, event));
                }
                Remaining::Override(own) => {
                    let event = removed(&own.subject, Source::Override)?;
                    overrides.push((own, event));
                }
                Remaining::Session { phase, busy_until }
                    if phase == Phase::Exchanging.as_str()
                        && busy_until.is_some_and(|end| now < end) =>
                {
                    settled = false;
                }
                Remaining::Unreadable => {
                    failure
                        .get_or_insert(Error::internal("a purge is blocked by an unreadable item"));
                }
                Remaining::Provider(provider) => {
                    to_delete.extend([clients::pointer_key(tenant, provider.id), key]);
                }
                // Its server is gone, and the tombstone counts what it would have.
                Remaining::Sweep(sweep) => app.table.finish_sweep(&sweep, now).await?,
                Remaining::Session { .. } | Remaining::Other => to_delete.push(key),
            }
        }
        let end = |group| app.table.end_remaining_grants(group).boxed();
        match in_groups(&grants, GRANTS_AT_ONCE, end).await {
            Ok(ended) => settled &= ended,
            Err(error @ Error::Unavailable(_)) => return Err(error),
            // One that cannot be ended keeps none of the others.
            Err(error) => {
                failure.get_or_insert(error);
            }
        }
        // One that is not there any more was another worker's.
        let end = |group| app.table.end_remaining_overrides(tenant, group).boxed();
        in_groups(&overrides, OVERRIDES_AT_ONCE, end).await?;
        app.table.clear(&to_delete).await?;
        // A page on which everything waits does not count, so that later pages are reached.
        let worked = !(grants.is_empty() && overrides.is_empty() && to_delete.is_empty());
        after = next;
        let progress = match after {
            Some(_) if worked && Instant::now() >= until => Progress::Unfinished,
            Some(_) => continue,
            None if settled => Progress::Done,
            None => Progress::Waiting,
        };
        return failure.map_or(Ok(progress), Err);
    }
}

/// Deregisters the clients that were registered for a deleted server (RFC 7592), for a day at most.
async fn deregister(app: &App, tombstone: &Tombstone, until: Instant) -> Result<Progress> {
    let Tombstone { tenant, server, .. } = tombstone;
    let is_retrying = app.now() < tombstone.at.plus_seconds(RETRY_WINDOW_SECONDS);
    let mut progress = Progress::Done;
    let mut asked = false;
    let mut after = None;
    loop {
        let (some, next) = app.table.remaining_clients(tenant, *server, after).await?;
        if !some.is_empty() {
            if !asked {
                // As with revocations.
                defer(app, &Work::Tombstone(tombstone.clone())).await?;
                asked = true;
            }
            let data_key = &app.data_key(tenant, *server, &tombstone.data_key).await?;
            let asking = some.iter().map(|(key, record)| async move {
                let gone = match record {
                    Some(record) => {
                        super::clients::deregister(app, tenant, data_key, record).await?
                    }
                    None => false,
                };
                Ok::<_, Error>((gone || !is_retrying).then(|| key.clone()))
            });
            let asking: Vec<_> = asking.collect();
            let ended: Vec<_> = stream::iter(asking)
                .buffer_unordered(CLIENTS_AT_ONCE)
                .try_collect()
                .await?;
            let gone: Vec<_> = ended.into_iter().flatten().collect();
            if gone.len() < some.len() {
                progress = Progress::Waiting;
            }
            app.table.clear(&gone).await?;
        }
        after = next;
        if after.is_none() {
            return Ok(progress);
        }
        if Instant::now() >= until {
            return Ok(Progress::Unfinished);
        }
    }
}

/// Removes the credentials that a change of an existing server voided, and stores the reason. If the server is deleted
/// meanwhile, its purge removes the rest.
pub(super) async fn clear_voided(app: &App, sweep: &Sweep, until: Instant) -> Result<()> {
    let mut place = sweep.place();
    let mut unreadable = false;
    loop {
        let cleared = clear_voided_page(app, sweep, place, &mut unreadable).await;
        app.work_appeared.notify_one();
        let next = cleared?;
        let over = next.is_none() || Instant::now() >= until;
        if over && unreadable {
            // All others are gone. What cannot be read is looked for again, so no place is noted that lies behind it.
            return Err(Error::internal("a sweep is blocked by an unreadable item"));
        }
        let Some(next) = next else {
            return app.table.finish_sweep(sweep, app.now()).await;
        };
        if over {
            return app.table.continue_sweep(sweep, &next).await;
        }
        place = Some(next);
    }
}

/// Sweeps one page of credentials. Returns where the next page starts, if there is one.
async fn clear_voided_page(
    app: &App,
    sweep: &Sweep,
    place: Option<Key>,
    unreadable: &mut bool,
) -> Result<Option<Key>> {
    let Sweep { tenant, server, .. } = sweep;
    for _ in 0..PASSES {
        let read = app.table.read(vec![servers::key(tenant, *server)]).await?;
        let Some(current) = read.server(tenant, *server)? else {
            return Ok(None);
        };
        let page = app
            .table
            .credentials(tenant, *server, place.clone(), VOIDED_PAGE);
        let page = page.await?;
        *unreadable |= !page.unreadable.is_empty();
        let mut void = Vec::new();
        for one in page.credentials.into_iter().filter(|one| sweep.takes(one)) {
            let event = Event::new(app.now(), tenant, Worker::Sweep, Action::CredentialRemoved)?
                .at(*server)
                .of(one.subject())
                .from(one.source())
                .under(sweep.receipt.as_deref());
            void.push((one, event));
        }
        let end = |group| {
            let table = &app.table;
            table.sweep_credentials(sweep, &current, group).boxed()
        };
        if in_groups(&void, VOID_AT_ONCE, end).await? {
            return Ok(page.next);
        }
    }
    // Refreshed or replaced as fast as this looks. It stays due.
    Err(Error::Contended)
}

/// Ends items in groups, each in one transaction. The items of a transaction that fails are ended one by one, so that a
/// changed or unreadable one does not block the others. Returns whether all are ended.
///
/// # Errors
/// The first failure, after everything has been tried; at once if the store does not answer.
async fn in_groups<'a, T>(
    all: &'a [T],
    at_once: usize,
    end: impl Fn(&'a [T]) -> BoxFuture<'a, Result<bool>>,
) -> Result<bool> {
    let (mut ended, mut failure) = (true, None);
    for group in all.chunks(at_once) {
        let whole = end(group).await;
        let rest = match &whole {
            Ok(true) => &[],
            Ok(false) | Err(_) => group,
        };
        if let Err(error @ Error::Unavailable(_)) = whole {
            return Err(error);
        }
        for one in rest {
            match end(slice::from_ref(one)).await {
                Ok(done) => ended &= done,
                Err(error @ Error::Unavailable(_)) => return Err(error),
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
    }
    failure.map_or(Ok(ended), Err)
}
