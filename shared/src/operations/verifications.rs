//! Trying api keys: whether the server of a connection lets its tools be listed with the key that was stored (Kambrium
//! 3). Only the status that the connection shows depends on the result.

use super::credentials::ServerAndRecords;
use super::proxy::Refusal;
use super::retry_on_contention;
use super::tools::{self, CachePolicy, Failure};
use crate::domain::credential::Records;
use crate::domain::event::{Action, Event, EventOutcome, Worker};
use crate::domain::job::Verification;
use crate::domain::server::{KeyCheck, Server};
use crate::state::app::App;
use crate::table::verifications::keys_of;
use crate::{Error, Result};
use tracing::info;

/// The pauses before the key is tried again, in seconds.
const PAUSES: [i64; 5] = [5, 20, 60, 120, 240];
/// How long a server has to answer, in seconds.
const GIVE_UP_AFTER_SECONDS: i64 = 600;

/// Tries a key once more and records the result.
///
/// # Errors
/// [`Error::Contended`], [`Error::Unavailable`], [`Error::Internal`].
pub(super) async fn run(app: &App, found: &Verification) -> Result<()> {
    let Some((one, server)) = load_pending(app, found).await? else {
        return app.table.drop_verification(found).await;
    };
    let subject = server.created_by.subject.clone();
    // The key itself is tried, not what a subject has put in its place.
    let at = ServerAndRecords {
        server,
        subject,
        records: Records::default(),
    };
    let listed = tools::list(
        app,
        &one.tenant,
        &at,
        Worker::Verification,
        CachePolicy::Fresh,
    )
    .await;
    let now = app.now();
    let pause = PAUSES.get(one.attempts as usize);
    let over = now >= one.at.plus_seconds(GIVE_UP_AFTER_SECONDS);
    let outcome = match (listed, pause) {
        (Ok(_), _) => KeyCheck::Verified,
        (Err(Failure::Failed(error)), _) => return Err(error),
        (
            Err(Failure::Refused(Refusal::NotAccepted { .. } | Refusal::ScopeInsufficient { .. })),
            _,
        ) => KeyCheck::Failed,
        (Err(_), Some(pause)) if !over => {
            let due = now.plus_seconds(*pause);
            return app.table.continue_verification(&one, due).await.map(drop);
        }
        (Err(_), _) => KeyCheck::Failed,
    };
    info!(tenant = one.tenant.as_str(), server = ?one.server, attempts = one.attempts + 1, ?outcome, "tried an api key");
    retry_on_contention(
        || load_pending(app, &one),
        |pending| record(app, &one, pending, outcome),
    )
    .await
}

/// A verification that still is to be done, with the server whose record names it: another key has another verification.
async fn load_pending(app: &App, found: &Verification) -> Result<Option<(Verification, Server)>> {
    let read = app.table.read(keys_of(found)).await?;
    let Some(one) = read.verification(found)? else {
        return Ok(None);
    };
    let server = read.server(&one.tenant, one.server)?;
    let server = server.filter(|server| server.connection.verification.as_ref() == Some(&one.id));
    Ok(server.map(|server| (one, server)))
}

async fn record(
    app: &App,
    tried: &Verification,
    pending: Option<(Verification, Server)>,
    outcome: KeyCheck,
) -> Result<()> {
    let Some((one, before)) = pending else {
        return app.table.drop_verification(tried).await;
    };
    let mut after = before.clone();
    after.version += 1;
    after.connection.key_check = outcome;
    after.connection.verification = None;
    let (change, server) = ((before.version, &after), one.server);
    let event = Event::new(
        app.now(),
        &one.tenant,
        Worker::Verification,
        Action::ServerVerified,
    )?
    .at(server)
    .with(match outcome {
        KeyCheck::Verified => EventOutcome::Succeeded,
        _ => EventOutcome::Failed,
    });
    if app.table.finish_verification(&one, change, &event).await? {
        Ok(())
    } else {
        Err(Error::Contended)
    }
}
