//! Reading receipts.

use super::Unchecked;
use crate::Result;
use crate::auth::credentials::Presented;
use crate::domain::caller::Caller;
use crate::domain::receipt::{Receipt, Removed};
use crate::state::app::App;
use crate::table::receipts::key;
use std::time::Duration;

/// The pause between two reads of a receipt that a caller waits for.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The receipt with this id; while it is not complete, looked at again until `wait` is over.
///
/// # Errors
/// [`crate::Error::Unauthenticated`], [`crate::Error::Unavailable`], [`crate::Error::Internal`].
pub async fn find(
    app: &App,
    who: Presented,
    id: &str,
    wait: Duration,
) -> Result<Unchecked<Option<Receipt>>> {
    let tenant = who.tenant().clone();
    let (caller, found) = app.read_as(who, vec![key(&tenant, id)]).await?;
    let mut receipt = found.receipt(&tenant, id)?;
    let end = tokio::time::Instant::now() + wait;
    while receipt
        .as_ref()
        .is_some_and(|r| !r.is_complete() && may_read(&caller, r))
        && tokio::time::Instant::now() < end
    {
        tokio::time::sleep(LOOK_AGAIN.min(end - tokio::time::Instant::now())).await;
        receipt = app
            .table
            .read(vec![key(&tenant, id)])
            .await?
            .receipt(&tenant, id)?;
    }
    Ok(Unchecked::new(caller, receipt))
}

/// A page of the receipts that the caller may read and that `wanted` picks, newest first, and where the next one starts.
/// A page may be short, even empty, with more behind it: how many are looked at for one is bounded.
///
/// # Errors
/// As [`find`].
pub async fn list(
    app: &App,
    caller: &Caller,
    before: Option<&str>,
    limit: usize,
    wanted: impl Fn(&Receipt) -> bool,
) -> Result<(Vec<Receipt>, Option<String>)> {
    const AT_ONCE: i32 = 100;
    const QUERIES: usize = 10;
    let mut page = Vec::new();
    let mut before = before.map(str::to_owned);
    for _ in 0..QUERIES {
        let some = app
            .table
            .receipts(&caller.tenant, before.as_deref(), AT_ONCE)
            .await?;
        if some.is_empty() {
            return Ok((page, None));
        }
        for receipt in some {
            before = Some(receipt.id.clone());
            if may_read(caller, &receipt) && wanted(&receipt) {
                page.push(receipt);
                if page.len() == limit {
                    return Ok((page, before));
                }
            }
        }
    }
    Ok((page, before))
}

/// Managers of the tenant may read all receipts, others those of which they are the actor or the subject.
pub fn may_read(caller: &Caller, receipt: &Receipt) -> bool {
    let concerned = match &receipt.removed {
        Removed::Credential { subject, .. }
        | Removed::Subject { subject }
        | Removed::Login { subject, .. } => subject == caller.subject(),
        Removed::Server { .. } | Removed::All { .. } => false,
    };
    caller.manages_tenant() || receipt.actor.subject == *caller.subject() || concerned
}
