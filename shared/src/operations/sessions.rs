//! The state of a consent, for clients that poll it.

use super::Unchecked;
use super::credentials::ServerAndRecords;
use crate::auth::credentials::Presented;
use crate::domain::credential::Records;
use crate::domain::id::ServerId;
use crate::domain::reason::Reason;
use crate::domain::server::Server;
use crate::domain::session::{Phase, SESSION_LIFETIME, Session};
use crate::domain::status::{Status, status};
use crate::domain::time::Timestamp;
use crate::state::app::App;
use crate::table::{servers, sessions, subjects};
use crate::{Error, Result};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The pause between two reads of a session that a caller waits for.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The state of a consent (LangSmith 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsentState {
    /// It is still open.
    Open,
    /// Its subject has a grant that is valid, or may be after a refresh.
    Connected,
    /// Its subject has a grant that is over.
    Expired,
    /// It ended without a grant, or the grant has been removed since.
    Unconnected,
}

/// Finds a consent, at most a day after it was begun, if its server exists.
///
/// # Errors
/// [`Error::Unauthenticated`], [`Error::Unavailable`], [`Error::Internal`].
pub async fn find(
    app: &App,
    who: Presented,
    id: Option<(ServerId, String)>,
) -> Result<Unchecked<Option<Session>>> {
    let tenant = who.tenant().clone();
    let keys = id.iter().flat_map(|(server, session)| {
        [
            servers::key(&tenant, *server),
            sessions::key(&tenant, *server, session),
        ]
    });
    let (caller, found) = app.read_as(who, keys.collect()).await?;
    let mut session = None;
    if let Some((server, own)) = &id
        && found.server(&tenant, *server)?.is_some()
    {
        let end = |one: &Session| one.at.plus_seconds(SESSION_LIFETIME);
        session = found
            .session(&tenant, *server, own)?
            .filter(|one| app.now() < end(one));
    }
    Ok(Unchecked::new(caller, session))
}

/// The state of a consent; polls while it is open, for at most `wait`.
///
/// # Errors
/// [`Error::SessionNotFound`] when its server is deleted meanwhile; [`Error::Unavailable`], [`Error::Internal`].
pub async fn await_end(app: &App, session: &Session, wait: Duration) -> Result<ConsentState> {
    let end = Instant::now() + wait;
    loop {
        let consent_state = look(app, session).await?;
        let left = end.saturating_duration_since(Instant::now());
        if consent_state != ConsentState::Open || left.is_zero() {
            return Ok(consent_state);
        }
        sleep(LOOK_AGAIN.min(left)).await;
    }
}

async fn look(app: &App, session: &Session) -> Result<ConsentState> {
    let (tenant, id) = (&session.tenant, session.server);
    let mut keys = ServerAndRecords::keys(tenant, id, &session.subject);
    keys.push(sessions::key(tenant, id, &session.id));
    keys.push(subjects::key(tenant, &session.subject));
    let found = app.table.read(keys).await?;
    let ServerAndRecords {
        server,
        mut records,
        ..
    } = ServerAndRecords::from_found(&found, tenant, id, &session.subject)?
        .ok_or(Error::SessionNotFound)?;
    let session = found
        .session(tenant, id, &session.id)?
        .ok_or(Error::SessionNotFound)?;
    // An override comes first where there is one, but says nothing of the grant.
    records.header_override = None;
    let offboardings = found.offboardings(tenant, &session.subject)?;
    Ok(consent_state(
        &server,
        &session,
        &records,
        offboardings,
        app.now(),
    ))
}

fn consent_state(
    server: &Server,
    session: &Session,
    records: &Records,
    offboardings: u64,
    now: Timestamp,
) -> ConsentState {
    let may_end = match session.phase {
        Phase::Offered | Phase::Pending => session.is_open(now),
        Phase::Exchanging => session.is_busy(now),
        Phase::Failed => false,
        Phase::Completed => return connection(server, session, records, now),
    };
    if may_end && !session.is_void(server, &records.stored, offboardings) {
        ConsentState::Open
    } else {
        ConsentState::Unconnected
    }
}

fn connection(
    server: &Server,
    session: &Session,
    records: &Records,
    now: Timestamp,
) -> ConsentState {
    if !server.accepts_grant(session.auth_revision) {
        return ConsentState::Unconnected;
    }
    match status(server, records, now) {
        Status::Authenticated(_) => ConsentState::Connected,
        Status::Required { source: None, .. } | Status::NotRequired(_) => ConsentState::Unconnected,
        Status::Required { reason, .. } => match reason {
            // The refresh token itself was not refused.
            Reason::RefreshFailed | Reason::InvalidClient => ConsentState::Connected,
            Reason::Expired | Reason::InvalidGrant => ConsentState::Expired,
            _ => ConsentState::Unconnected,
        },
    }
}
