//! The purge: durable work that follows a delete or a voiding change, continued until it is done. Every step may be
//! repeated, run by two workers at once, or be the last one before the process dies.

use super::{revocations, subjects, verifications};
use crate::app::App;
use crate::domain::credential::{KeptReason, Source};
use crate::domain::event::{Action, Event, Worker};
use crate::domain::revocation::{PATIENCE, Revocation};
use crate::domain::subject::Subject;
use crate::table::credentials::Outcome;
use crate::table::work::{OVERRIDES_AT_ONCE, Remaining, Remains, Sweep, Tombstone, Work};
use crate::table::{clients, servers};
use crate::{Error, Result};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tracing::warn;

/// Pieces of due work fetched at once.
const PAGE: usize = 20;
/// How often a sweep looks again for what was replaced meanwhile.
const PASSES: usize = 5;
/// How long work that failed is put off.
const PAUSE_SECONDS: i64 = 60;

/// Works off one piece.
///
/// # Errors
/// [`crate::Error::Unavailable`], [`crate::Error::Internal`]; what was done stays done.
pub async fn work_off(app: &App, work: &Work) -> Result<()> {
    match work {
        Work::Tombstone(tombstone) => purge(app, tombstone).await,
        Work::Sweep(sweep) => clear_voided(app, sweep).await,
        Work::Offboarding(offboarding) => subjects::carry_out(app, offboarding).await,
        Work::Revocation(revocation) => revocations::present(app, revocation).await,
        Work::Verification(verification) => verifications::carry_out(app, verification).await,
    }
}

/// Works off what is due, several pieces at once. Answers whether there was anything. What fails, or may take the process
/// with it, is put off, so that it never stands before the rest.
///
/// # Errors
/// The first failure, after everything has been tried.
pub async fn work_off_due(app: &App) -> Result<bool> {
    let due = app.table.due_work(app.now(), PAGE).await?;
    let mut pieces: FuturesUnordered<_> = due.iter().map(|work| one(app, work)).collect();
    let mut failure = None;
    while let Some(ended) = pieces.next().await {
        if let Err(error) = ended {
            failure.get_or_insert(error);
        }
    }
    failure.map_or(Ok(!due.is_empty()), Err)
}

/// Works off everything that is due now.
///
/// # Errors
/// The first failure, after everything has been tried; what failed stays due.
pub async fn work_off_all(app: &App) -> Result<()> {
    let mut failure = None;
    loop {
        match work_off_due(app).await {
            Ok(true) => {}
            Ok(false) => return failure.map_or(Ok(()), Err),
            Err(error) => {
                // A store that does not answer cannot be asked what is due, either.
                let passing = matches!(error, Error::Unavailable(_)) && failure.is_some();
                failure.get_or_insert(error);
                if passing {
                    return failure.map_or(Ok(()), Err);
                }
            }
        }
    }
}

async fn one(app: &App, work: &Work) -> Result<()> {
    // An issuer or a server may keep its answer until this process is gone.
    if matches!(work, Work::Revocation(_) | Work::Verification(_)) {
        put_off(app, work).await?;
    }
    let ended = work_off(app, work).await;
    if ended.is_err()
        && let Err(cause) = put_off(app, work).await
    {
        warn!(%cause, "work that failed could not be put off");
    }
    ended
}

async fn put_off(app: &App, work: &Work) -> Result<()> {
    let until = app.now().plus_seconds(PAUSE_SECONDS);
    app.table.put_off(work, until).await
}

/// Empties a deleted server's partition. Nothing but revocations can appear there meanwhile: everything else created under
/// a server is conditional on its item, and ids never come back.
///
/// Grants become revocations, each in one transaction. What an issuer may be answering just now - a refresh, an exchange -
/// is left until its lease is over. Clients are deregistered once no revocation needs them. The tombstone, and with it the
/// data key, goes last.
pub(super) async fn purge(app: &App, tombstone: &Tombstone) -> Result<()> {
    let Tombstone { tenant, server, .. } = tombstone;
    let tombstone = loop {
        match app.table.tombstone(tenant, *server).await? {
            None => return Ok(()),
            Some(counted) if counted.counts.is_some() => break counted,
            Some(_) => app.table.count_on_tombstone(tenant, *server).await?,
        }
    };
    let settled = clear(app, &tombstone).await? && deregister(app, &tombstone).await?;
    if settled {
        remove_bound_keys(app, &tombstone).await?;
        let event = Event::new(app.now(), tenant, Worker::Purge, Action::ServerPurged)?
            .at(*server)
            .under(Some(&tombstone.receipt));
        app.table.finish_purge(&tombstone, &event).await
    } else {
        // The last revocation to be settled comes back here at once; this is for what it does not see.
        put_off(app, &Work::Tombstone(tombstone)).await
    }
}

/// Clears everything but clients, revocations and the tombstone. Answers whether nothing is left that these must wait for.
async fn clear(app: &App, tombstone: &Tombstone) -> Result<bool> {
    let Tombstone {
        tenant,
        server,
        receipt,
        ..
    } = tombstone;
    let removed = |subject: &Subject, source| {
        let event = Event::new(app.now(), tenant, Worker::Purge, Action::CredentialRemoved)?;
        Ok::<_, Error>(
            event
                .at(*server)
                .of(subject)
                .from(source)
                .under(Some(receipt)),
        )
    };
    let mut settled = true;
    let mut failure = None;
    let mut after = None;
    loop {
        let (some, next) = app.table.remains(tenant, *server, after).await?;
        let (mut doomed, mut overrides) = (Vec::new(), Vec::new());
        for Remains { key, item } in some {
            let now = app.now();
            match item {
                Remaining::Tombstone | Remaining::Client(_) => {}
                Remaining::Revocation(_) => settled = false,
                Remaining::Grant(grant) => {
                    settled = false;
                    if !grant.is_leased(now) {
                        let revocation = Revocation::of(tenant, &grant, Some(receipt), now)?;
                        let event = removed(&grant.subject, Source::Oauth)?;
                        let ended = app
                            .table
                            .end_remaining_grant(&grant, &revocation, &event)
                            .await;
                        app.work_appeared.notify_one();
                        // One that cannot be ended keeps none of the others.
                        if let Err(error) = ended {
                            failure.get_or_insert(error);
                        }
                    }
                }
                Remaining::Override(own) => overrides.push(own),
                Remaining::Session(session) if session.is_busy(now) => settled = false,
                Remaining::Provider(provider) => {
                    doomed.extend([clients::lead_key(tenant, provider.id), key]);
                }
                // Its server is gone, and the tombstone counts what it would have.
                Remaining::Sweep(sweep) => app.table.finish_sweep(&sweep, now).await?,
                Remaining::Session(_) | Remaining::Other => doomed.push(key),
            }
        }
        for some in overrides.chunks(OVERRIDES_AT_ONCE) {
            let events = some
                .iter()
                .map(|own| removed(&own.subject, Source::Override))
                .collect::<Result<Vec<_>>>()?;
            let table = &app.table;
            if !table.end_remaining_overrides(tenant, some, &events).await? {
                // Another worker is at it; what it has left goes one by one.
                for (own, event) in some.chunks(1).zip(events.chunks(1)) {
                    table.end_remaining_overrides(tenant, own, event).await?;
                }
            }
        }
        app.table.clear(&doomed).await?;
        after = next;
        if after.is_none() {
            return failure.map_or(Ok(settled), Err);
        }
    }
}

/// Removes the personal access tokens that were for a dead server alone. They have opened nothing since it died.
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

/// Deregisters the clients that were registered for a dead server (RFC 7592). Answers whether none is left. One whose
/// issuer does not answer for a day is given up.
async fn deregister(app: &App, tombstone: &Tombstone) -> Result<bool> {
    let Tombstone { tenant, server, .. } = tombstone;
    let patient = app.now() < tombstone.at.plus_seconds(PATIENCE);
    let mut settled = true;
    let mut asked = false;
    let mut after = None;
    loop {
        let (some, next) = app.table.remains(tenant, *server, after).await?;
        for Remains { key, item } in some {
            if let Remaining::Client(record) = item {
                if !asked {
                    // As with revocations.
                    put_off(app, &Work::Tombstone(tombstone.clone())).await?;
                    asked = true;
                }
                let key_of_data = app.data_key(tenant, *server, &tombstone.data_key).await?;
                if super::clients::deregister(app, tenant, &key_of_data, &record).await? || !patient
                {
                    app.table.clear(&[key]).await?;
                } else {
                    settled = false;
                }
            }
        }
        after = next;
        if after.is_none() {
            return Ok(settled);
        }
    }
}

/// Takes away what a change voided at a living server, and keeps the reason why. If the server is deleted meanwhile, its
/// tombstone takes care of the rest.
async fn clear_voided(app: &App, sweep: &Sweep) -> Result<()> {
    let Sweep {
        tenant, server, at, ..
    } = sweep;
    for _ in 0..PASSES {
        let read = app.table.read(vec![servers::key(tenant, *server)]).await?;
        let Some(current) = read.server(tenant, *server)? else {
            return app.table.finish_sweep(sweep, app.now()).await;
        };
        let mut moved = false;
        let mut after = None;
        loop {
            let (some, next) = app.table.credentials(tenant, *server, after).await?;
            for credential in some.iter().filter(|one| sweep.takes(one)) {
                let kept = KeptReason::removed(credential.subject(), sweep.reason, *at);
                let receipt = sweep.receipt.as_deref();
                let event =
                    Event::new(app.now(), tenant, Worker::Sweep, Action::CredentialRemoved)?
                        .at(*server)
                        .of(credential.subject())
                        .from(credential.source())
                        .under(receipt);
                let ended = app
                    .table
                    .sweep_credential(tenant, &current, credential, &kept, receipt, &event)
                    .await?;
                moved |= ended != Outcome::Done;
                app.work_appeared.notify_one();
            }
            after = next;
            if after.is_none() {
                break;
            }
        }
        if !moved {
            return app.table.finish_sweep(sweep, app.now()).await;
        }
    }
    // Refreshed or replaced as fast as this looks. It stays due.
    Err(Error::Contended)
}
