//! The purge: durable work that follows a delete or a voiding change, continued until it is done. Every step may be
//! repeated, run by two workers at once, or be the last one before the process dies.

use crate::Result;
use crate::app::App;
use crate::domain::credential::KeptReason;
use crate::domain::status::Reason;
use crate::table::servers;
use crate::table::work::{Sweep, Tombstone, Work};

/// Pieces of due work fetched at once.
const PAGE: i32 = 20;

/// Works off one piece.
///
/// # Errors
/// [`crate::Error::Unavailable`], [`crate::Error::Internal`]; what was done stays done.
pub async fn work_off(app: &App, work: &Work) -> Result<()> {
    match work {
        Work::Tombstone(tombstone) => purge(app, tombstone).await,
        Work::Sweep(sweep) => clear_voided(app, sweep).await,
    }
}

/// Works off what is due. Answers whether there was anything.
///
/// # Errors
/// As [`work_off`]; the rest stays due.
pub async fn work_off_due(app: &App) -> Result<bool> {
    let due = app.table.due_work(PAGE).await?;
    for work in &due {
        work_off(app, work).await?;
    }
    Ok(!due.is_empty())
}

/// Empties a deleted server's partition. Nothing can appear there meanwhile: everything created under a server is
/// conditional on its item, and ids never come back.
async fn purge(app: &App, tombstone: &Tombstone) -> Result<()> {
    let Tombstone { tenant, server, .. } = tombstone;
    if !app.table.has_tombstone(tenant, *server).await? {
        return Ok(());
    }
    while !app.table.clear_some(tenant, *server).await? {}
    app.table.finish_purge(tombstone, app.now()).await
}

/// Replaces voided credentials of a living server by the reason why they are gone. If the server is deleted meanwhile,
/// its tombstone takes care of the rest.
async fn clear_voided(app: &App, sweep: &Sweep) -> Result<()> {
    let Sweep {
        tenant,
        server,
        void_before,
        at,
    } = sweep;
    if app
        .table
        .read(vec![servers::key(tenant, *server)])
        .await?
        .server(tenant, *server)?
        .is_none()
    {
        return Ok(());
    }
    for stored in app.table.stored(tenant, *server).await? {
        if stored
            .auth_revision
            .is_some_and(|revision| revision < *void_before)
        {
            let kept = KeptReason {
                subject: stored.subject.clone(),
                reason: Reason::ServerChanged,
                at: *at,
            };
            app.table
                .sweep_credential(tenant, *server, &stored, &kept)
                .await?;
        }
    }
    app.table.finish_sweep(sweep).await
}
