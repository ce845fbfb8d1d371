//! Revoking everything at a server, and deleting it.

use crate::domain::caller::Caller;
use crate::domain::event::{Action, Event};
use crate::domain::id::{Sortable, TenantId};
use crate::domain::job::{Sweep, Tombstone};
use crate::domain::reason::Reason;
use crate::domain::receipt::{Counts, Receipt, Removed};
use crate::domain::server::{Numbered, Server};
use crate::operations::{DeletionPreview, Permitted, Removal, retry_on_contention};
use crate::state::app::App;
use crate::{Error, Result};
use std::time::Duration;
use tokio::time::Instant;

/// How long a revoke-all counts before it acts: it must not be kept from acting.
const COUNTING: Duration = Duration::from_secs(5);

/// Removes every credential at a server, which stays registered, and voids its pending consents: raises the auth
/// revision and leaves the rest to a sweep. `read` finds the server for a caller who may do this. Returns how many there
/// were, as far as they could be counted in a few seconds, and the receipt's id: the receipt counts them all.
///
/// # Errors
/// Those of `read`; [`Error::Contended`] when the server keeps changing; [`Error::Unavailable`], [`Error::Internal`].
pub async fn revoke_all<E, F>(
    app: &App,
    read: impl FnMut() -> F,
    dry_run: bool,
) -> Result<Removal<(Counts, String)>, E>
where
    E: From<Error>,
    F: Future<Output = Result<Permitted<Server>, E>>,
{
    retry_on_contention(read, async |server| {
        let until = (!dry_run).then(|| Instant::now() + COUNTING);
        let preview =
            preview_deletion_until(app, &server.caller.tenant, &server.found, until).await?;
        if dry_run {
            return Ok(Removal::Planned(preview));
        }
        let receipt = void_all(app, &server).await?;
        Ok(Removal::Done((preview.counts, receipt)))
    })
    .await
}

/// Voids every credential at a server. Returns the receipt's id.
async fn void_all(app: &App, server: &Permitted<Server>) -> Result<String> {
    let (tenant, before) = (&server.caller.tenant, &server.found);
    let now = app.now();
    let mut after = before.clone();
    after.version += 1;
    after.auth_revision += 1;
    after.void_before = after.auth_revision;
    after.void_reason = Reason::Revoked;
    let (id, actor) = (Sortable::new(now)?.ulid(), server.caller.actor.clone());
    let removed = Removed::All {
        name: before.name.clone(),
    };
    let receipt = Receipt {
        server: Some(before.id),
        ..Receipt::open(id, removed, actor, now)
    };
    let sweep = Sweep {
        receipt: Some(receipt.id.clone()),
        ..Sweep::of(tenant, before, &after, now)
    };
    let event = Event::new(now, tenant, &server.caller, Action::ServerDisconnected)?
        .at(before.id)
        .under(Some(&receipt.id));
    let change = (before.version, &after);
    if !app
        .table
        .replace_server(tenant, change, Some(&sweep), Some(&receipt), None, &event)
        .await?
    {
        return Err(Error::Contended);
    }
    app.work_appeared.notify_one();
    Ok(receipt.id)
}

/// The valid credentials at a server, which its deletion would remove.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn preview_deletion(
    app: &App,
    tenant: &TenantId,
    server: &Server,
) -> Result<DeletionPreview> {
    preview_deletion_until(app, tenant, server, None).await
}

/// The same, counted until a deadline.
async fn preview_deletion_until(
    app: &App,
    tenant: &TenantId,
    server: &Server,
    until: Option<Instant>,
) -> Result<DeletionPreview> {
    let mut preview = DeletionPreview::default();
    let mut after = None;
    loop {
        let page = app.table.credentials(tenant, server.id, after, 1000);
        let page = page.await?;
        let some = page.credentials.iter();
        for credential in some.filter(|one| !one.is_void_under(server)) {
            preview.add(credential);
        }
        // What cannot be read is there all the same.
        for source in page.unreadable {
            preview.counts.add(source);
            preview.subjects += 1;
        }
        after = page.next;
        if after.is_none() || until.is_some_and(|until| Instant::now() >= until) {
            return Ok(preview);
        }
    }
}

/// Deletes a server. From the moment this returns no read path of any contract finds it or anything under it; its
/// partition is emptied by the purge. Returns the receipt's id.
///
/// # Errors
/// [`Error::ServerNotFound`] when someone else has just deleted it; [`Error::Unavailable`], [`Error::Internal`].
pub async fn delete(app: &App, caller: &Caller, server: &Numbered) -> Result<String> {
    let now = app.now();
    let (id, actor) = (Sortable::new(now)?.ulid(), caller.actor.clone());
    let removed = Removed::Server {
        name: server.name.clone(),
        number: server.number,
    };
    let receipt = Receipt {
        server: Some(server.id),
        counts: None,
        ..Receipt::open(id, removed, actor, now)
    };
    let tombstone = Tombstone {
        tenant: caller.tenant.clone(),
        server: server.id,
        number: server.number,
        receipt: receipt.id.clone(),
        at: now,
        data_key: server.data_key.clone(),
        count: None,
        touched: None,
    };
    let event = Event::new(now, &caller.tenant, caller, Action::ServerDeleted)?
        .at(server.id)
        .under(Some(&receipt.id));
    if !app
        .table
        .delete_server(&caller.tenant, server, &tombstone, &receipt, &event)
        .await?
    {
        return Err(Error::ServerNotFound);
    }
    app.work_appeared.notify_one();
    Ok(receipt.id)
}
