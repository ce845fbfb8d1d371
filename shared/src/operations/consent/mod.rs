//! Consent: a subject is sent to the authorization server of an MCP server and comes back once with a code, which is exchanged
//! for a grant (MCP authorization 2, 3 and 5).
//!
//! Every consent starts at our own page (`/oauth/start`), which names who is to be connected to what. A session is written
//! before anyone is sent there; its URL carries where it is and 256 bits that are derived, so that whoever asks again while it is
//! open gets the same one. Opening the page changes nothing: its button does, once, and binds the browser. What goes to the
//! issuer as `state` is 256 random bits. Of both secrets the table has the hash. The first callback takes the session by a
//! conditional write; only then is the code exchanged, once. What comes back is
//! stored if server, session and the subject's items are still what they were, in one transaction that also completes the
//! session and turns a grant that is replaced into a revocation. If that cannot be, the fresh tokens become a revocation.
//!
//! Here is the page: what it shows, its button, and how a consent ends without a grant. `start.rs` comes before it, `finish.rs`
//! after it.

mod finish;
mod setup;
mod start;
mod ticket;

pub use finish::{Callback, ConsentOutcome, Finished, finish, status_after};
pub use start::{
    StartedConsent, create_server, prepare, start_anew, start_consent, start_provider_consent,
    start_required_consent,
};
pub use ticket::{START_PATH, parse_session_id, session_id, session_of};

use super::clients::{SelectedClient, Settings};
use super::servers::{data_key, open_with};
use crate::domain::consent_failure::{ConsentFailure, FailedConsent};
use crate::domain::credential::Records;
use crate::domain::event::{Action, Event, EventOutcome, Who};
use crate::domain::id::{Sortable, hash};
use crate::domain::issuance::ClientSource;
use crate::domain::server::{Secrets, Server};
use crate::domain::session::{Origin, Phase, Session};
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;
use crate::oauth::discovery::is_same_issuer;
use crate::state::app::App;
use crate::table::credentials::record_keys;
use crate::table::{servers as server_table, sessions, subjects};
use crate::{Error, Result};
use secrecy::SecretString;
use setup::ConsentRequest;
use start::{MAX_CONSENTS, recent};
use std::collections::BTreeMap;
use ticket::Ticket;
use tracing::warn;

/// What the page of an offered consent shows.
#[derive(Debug)]
pub struct Preview {
    /// The consent.
    pub session: Session,
    /// The server to be connected to.
    pub server: Server,
    /// Where the subject signs in, as far as that is known: the URL of a configured authorization endpoint, or of an issuer.
    pub sign_in: Option<String>,
    /// The scopes that are asked for; none: those that the server asks for by itself.
    pub scopes: Vec<String>,
}

/// Returns what the page of an offered consent shows. Changes nothing and contacts nobody.
///
/// # Errors
/// [`Error::SessionNotFound`] for an address that was never offered, was used, is over or void; [`Error::Unavailable`],
/// [`Error::Internal`].
pub async fn preview(app: &App, ticket: &str) -> Result<Preview> {
    let ticket = Ticket::parse(ticket).ok_or(Error::SessionNotFound)?;
    let (server, session, records) = find_ticket(app, &ticket, Phase::Offered).await?;
    // No secret is needed to know where the browser would go.
    let settings = Settings::without_secret(app, &server, &Secrets::default()).await;
    let settings = match settings {
        Err(Error::Oauth(_)) => Settings::default(),
        settings => settings?,
    };
    let mut sign_in = settings.sign_in();
    if sign_in.is_none() {
        let grant = records.grant;
        let grant = grant.filter(|grant| server.accepts_grant(grant.auth_revision));
        sign_in = grant.map(|grant| grant.issuance.issuer);
    }
    if sign_in.is_none() {
        let known = app
            .table
            .clients(&ticket.tenant, server.id, owner(&session))
            .await?;
        let mut known = known.into_iter().rev();
        let latest =
            known.find(|record| !record.rejected && server.accepts_grant(record.auth_revision));
        sign_in = latest.map(|record| record.issuer);
    }
    Ok(Preview {
        scopes: scopes_of(&session, &settings),
        session,
        server,
        sign_in,
    })
}

/// The scopes that a consent asks for, as far as they are known without asking.
fn scopes_of(session: &Session, settings: &Settings) -> Vec<String> {
    let (asked, additional_scopes): (&[String], Option<&[String]>) = match &session.origin {
        Origin::Langsmith { scopes, .. } => (scopes, None),
        Origin::Truefoundry {
            additional_scopes, ..
        } => (&[], additional_scopes.as_deref()),
        Origin::Kambrium { .. } => (&[], None),
    };
    let scopes = if asked.is_empty() {
        &settings.scopes
    } else {
        asked
    };
    [scopes, additional_scopes.unwrap_or_default()].concat()
}

/// A consent whose button was pressed: where the browser goes next.
#[derive(Debug)]
pub struct Opened {
    /// The issuer's address.
    pub url: SecretString,
    /// The session as it is now.
    pub session: Session,
}

/// The outcome of pressing the button of a consent page.
#[derive(Debug)]
pub enum OpenOutcome {
    /// The browser is redirected to the issuer.
    Redirect(Box<Opened>),
    /// The request does not come from our page in the bound browser. Nothing has happened.
    UnboundBrowser,
    /// The subject has pressed too many such buttons. Nothing has happened.
    TooMany,
    /// The server now uses another sign-in than the page showed. Nothing has happened; the page has to show this one
    /// first.
    SignInChanged(Box<Preview>),
    /// There is no usable issuer; the consent has ended.
    Refused(Box<Session>, Box<Server>, ConsentFailure),
}

/// Opens an offered consent, once: finds the issuer and a client, and redirects the browser. `browser` returns the
/// secret of the browser binding, if the request comes from our page in that browser; `named` is the sign-in that the
/// page showed.
///
/// # Errors
/// [`Error::SessionNotFound`] for an address that was never offered, was used, is over or void; [`Error::Unavailable`],
/// [`Error::Internal`].
pub async fn open(
    app: &App,
    ticket: &str,
    named: Option<&str>,
    browser: impl Fn(&Session) -> Option<String>,
) -> Result<OpenOutcome> {
    let ticket = Ticket::parse(ticket).ok_or(Error::SessionNotFound)?;
    let (server, mut session, _) = find_ticket(app, &ticket, Phase::Offered).await?;
    let Some(cookie) = browser(&session) else {
        return Ok(OpenOutcome::UnboundBrowser);
    };
    let (tenant, table) = (&ticket.tenant, &app.table);
    let recent = recent(app, tenant, server.id, &session.subject).await?;
    let pressed = recent.iter().filter(|one| one.phase != Phase::Offered);
    if pressed.clone().count() >= MAX_CONSENTS {
        return Ok(OpenOutcome::TooMany);
    }
    let key = data_key(app, tenant, &server).await?;
    let secrets = open_with(&key, tenant, &server)?;
    let read = session.clone();
    let request = ConsentRequest::of(tenant, &server, &key, &read, abandoned_clients(pressed));
    let setup = match Settings::of(app, &server, &secrets).await {
        Ok(settings) => {
            let shown = (settings.sign_in(), scopes_of(&session, &settings));
            let setup = request.set_up(app, settings, true).await;
            setup.map(|setup| (setup, shown))
        }
        Err(error) => Err(error),
    };
    let (setup, (configured, scopes)) = match setup {
        Ok(setup) => setup,
        Err(error) => {
            let Some(failure) = ConsentFailure::of_setup(&error) else {
                return Err(error);
            };
            end(app, &session, Phase::Offered, failure).await?;
            record_outcome(app, &session, Some(failure)).await;
            return Ok(OpenOutcome::Refused(session.into(), server.into(), failure));
        }
    };
    request.keep_client(app, &setup).await?;
    let sign_in = configured.unwrap_or_else(|| setup.issuance.issuer.clone());
    if named.is_some_and(|named| !is_same_issuer(named, &sign_in)) {
        return Ok(OpenOutcome::SignInChanged(Box::new(Preview {
            session,
            server,
            sign_in: Some(sign_in),
            scopes,
        })));
    }
    let url = request.address(&setup, &mut session)?;
    session.browser = Some(hash(&cookie));
    session.opened_at = Some(app.now());
    let opened = Event::of_session(app.now(), Who::Browser, &session, Action::SessionOpened)?;
    if !table
        .open_session(&session, &read.secret_hash, &opened)
        .await?
    {
        return Err(Error::SessionNotFound);
    }
    record_client_sent(app, &session, &setup.client).await;
    Ok(OpenOutcome::Redirect(Box::new(Opened { url, session })))
}

/// The registered clients whose consents the subject left unfinished, and when it last did, by client record.
fn abandoned_clients<'a>(
    pressed: impl Iterator<Item = &'a Session>,
) -> BTreeMap<String, Timestamp> {
    let mut left = BTreeMap::new();
    for session in pressed.filter(|one| one.phase == Phase::Pending) {
        if let (Some(at), Some(consent)) = (session.opened_at, &session.consent)
            && let ClientSource::Dynamic(record) = &consent.issuance.client.source
        {
            let last = left.entry(record.clone()).or_insert(at);
            *last = at.max(*last);
        }
    }
    left
}

/// Records that a browser was redirected with a registered client, if it is the first since the client last succeeded.
/// A failure is only logged.
async fn record_client_sent(app: &App, session: &Session, client: &SelectedClient) {
    let Some(at) = session.opened_at.filter(|_| !client.is_awaited) else {
        return;
    };
    record_client_use(app, session, false, at).await;
}

async fn record_client_use(app: &App, session: &Session, succeeded: bool, at: Timestamp) {
    let Some(consent) = &session.consent else {
        return;
    };
    let ClientSource::Dynamic(record) = &consent.issuance.client.source else {
        return;
    };
    let (tenant, id) = (&session.tenant, session.server);
    let noted = app
        .table
        .record_client_use(tenant, id, owner(session), record, succeeded, at)
        .await;
    if let Err(cause) = noted {
        warn!(%cause, "the outcome of an OAuth client could not be recorded");
    }
}

/// The one subject that a client registered for this consent serves; all of the server's if there is none.
fn owner(session: &Session) -> Option<&Subject> {
    matches!(session.origin, Origin::Langsmith { .. }).then_some(&session.subject)
}

/// Records the outcome of a consent on its server, for those who manage it. A failure is only logged.
async fn record_outcome(app: &App, session: &Session, failure: Option<ConsentFailure>) {
    let failed = failure
        .zip(session.ulid())
        .map(|(reason, reference)| FailedConsent {
            reason,
            reference,
            at: app.now(),
            subject: session.subject.clone(),
        });
    let of_owner = matches!(session.origin, Origin::Kambrium { .. })
        .then(|| failure.is_some_and(|why| why != ConsentFailure::Void));
    let (tenant, id) = (&session.tenant, session.server);
    let noted = app
        .table
        .record_consent_outcome(tenant, id, of_owner, failed.as_ref())
        .await;
    if let Err(cause) = noted {
        warn!(%cause, "the outcome of a consent could not be recorded on its server");
    }
}

/// Ends a session without a grant, and says why: the session's ULID is the reference under which log, audit log, status and page
/// say the same.
async fn end(app: &App, session: &Session, from: Phase, failure: ConsentFailure) -> Result<()> {
    let ended = Event::of_session(app.now(), Who::Browser, session, Action::SessionEnded)?;
    let outcome = if failure == ConsentFailure::AccessDenied {
        EventOutcome::Refused
    } else {
        EventOutcome::Failed
    };
    log_end(session, failure);
    let ended = ended.with(outcome).because(failure);
    app.table.fail_session(session, from, &ended).await
}

fn log_end(session: &Session, failure: ConsentFailure) {
    let (tenant, server) = (session.tenant.as_str(), session.server);
    let session = session.ulid().map(Sortable::ulid).unwrap_or_default();
    warn!(
        tenant,
        ?server,
        session,
        reason = failure.as_str(),
        "a consent ended without a grant"
    );
}

async fn find_ticket(
    app: &App,
    ticket: &Ticket,
    phase: Phase,
) -> Result<(Server, Session, Records)> {
    let Ticket {
        tenant,
        server,
        session,
        secret_hash,
    } = ticket;
    let keys = vec![
        sessions::key(tenant, *server, session),
        server_table::key(tenant, *server),
    ];
    let found = app.table.read(keys).await?;
    let session = found.session(tenant, *server, session)?;
    let server = found.server(tenant, *server)?;
    let (server, session) = match (server, session) {
        (Some(server), Some(session))
            if session.phase == phase
                && session.secret_hash == *secret_hash
                && session.is_open(app.now()) =>
        {
            (server, session)
        }
        _ => return Err(Error::SessionNotFound),
    };
    let mut keys = Vec::from(record_keys(tenant, server.id, &session.subject));
    keys.push(subjects::key(tenant, &session.subject));
    let found = app.table.read(keys).await?;
    let offboardings = found.offboardings(tenant, &session.subject)?;
    let records = found.records(tenant, &server, &session.subject)?;
    if session.is_void(&server, &records.stored, offboardings) {
        return Err(Error::SessionNotFound);
    }
    Ok((server, session, records))
}
