//! The purge: durable work that follows a delete or a voiding change, continued until it is done. Every step may be
//! repeated, run by two workers at once, or be the last one before the process dies.

use super::subjects;
use crate::Result;
use crate::app::App;
use crate::domain::credential::KeptReason;
use crate::domain::status::Reason;
use crate::table::servers;
use crate::table::work::{Sweep, Tombstone, Work};
use tracing::warn;

/// Pieces of due work fetched at once.
const PAGE: usize = 20;
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
    }
}

/// Works off what is due. Answers whether there was anything. What fails is put off, so that it never stands before the
/// rest.
///
/// # Errors
/// The first failure, after everything has been tried.
pub async fn work_off_due(app: &App) -> Result<bool> {
    let due = app.table.due_work(app.now(), PAGE).await?;
    let mut failure = None;
    for work in &due {
        if let Err(error) = work_off(app, work).await {
            failure.get_or_insert(error);
            let until = app.now().plus_seconds(PAUSE_SECONDS);
            if let Err(cause) = app.table.put_off(work, until).await {
                warn!(%cause, "work that failed could not be put off");
            }
        }
    }
    failure.map_or(Ok(!due.is_empty()), Err)
}

/// Empties a deleted server's partition. Nothing can appear there meanwhile: everything created under a server is
/// conditional on its item, and ids never come back.
async fn purge(app: &App, tombstone: &Tombstone) -> Result<()> {
    let Tombstone { tenant, server, .. } = tombstone;
    let tombstone = loop {
        match app.table.tombstone(tenant, *server).await? {
            None => return Ok(()),
            Some(counted) if counted.counts.is_some() => break counted,
            Some(_) => app.table.count_on_tombstone(tenant, *server).await?,
        }
    };
    while !app.table.clear_some(tenant, *server).await? {}
    app.table.finish_purge(&tombstone, app.now()).await
}

/// Replaces voided credentials of a living server by the reason why they are gone. If the server is deleted meanwhile,
/// its tombstone takes care of the rest.
async fn clear_voided(app: &App, sweep: &Sweep) -> Result<()> {
    let Sweep {
        tenant, server, at, ..
    } = sweep;
    let read = app.table.read(vec![servers::key(tenant, *server)]).await?;
    if let Some(current) = read.server(tenant, *server)? {
        for stored in app.table.stored(tenant, *server).await? {
            if stored.is_void_under(&current) {
                let kept = KeptReason {
                    subject: stored.subject.clone(),
                    reason: Reason::ServerChanged,
                    at: *at,
                };
                app.table
                    .sweep_credential(tenant, &current, &stored, &kept)
                    .await?;
            }
        }
    }
    app.table.finish_sweep(sweep).await
}
