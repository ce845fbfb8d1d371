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

mod finish;
mod setup;

pub use finish::{Callback, ConsentOutcome, Finished, finish, status_after};

use super::clients::{SelectedClient, Settings};
use super::credentials::ServerAndRecords;
use super::servers::{self, Draft, data_key, open_with};
use super::{Permitted, retry_on_contention};
use crate::domain::caller::Caller;
use crate::domain::consent_failure::{ConsentFailure, FailedConsent};
use crate::domain::credential::Records;
use crate::domain::event::{Action, Event, EventOutcome, Who};
use crate::domain::id::{ServerId, Sortable, TenantId, hash};
use crate::domain::issuance::ClientSource;
use crate::domain::server::{Auth, Secrets, Server};
use crate::domain::session::{ADDRESS_LIFETIME, Origin, Phase, SESSION_LIFETIME, Session};
use crate::domain::status::{Status, status};
use crate::domain::subject::Subject;
use crate::domain::time::{CONSENT_LIFETIME, Timestamp};
use crate::oauth::discovery::is_same_issuer;
use crate::operations::clients::CALLBACK_PATH;
use crate::seal::DataKey;
use crate::state::app::App;
use crate::table::credentials::{kept_reason_key, record_keys};
use crate::table::servers::Companions;
use crate::table::{servers as server_table, sessions, subjects};
use crate::{Error, Result};
use data_encoding::BASE64URL_NOPAD;
use secrecy::{ExposeSecret, SecretString};
use setup::{ConsentRequest, forget_client};
use std::collections::BTreeMap;
use tracing::warn;

/// The path of our own page that starts a consent.
pub const START_PATH: &str = "/oauth/start";

/// How many consents a subject may start at a server within the lifetime of one, and how many for different scopes may be
/// offered to its providers.
const MAX_CONSENTS: usize = 20;
/// Attempts at beginning a consent while other requests begin the same one.
const ATTEMPTS: usize = 3;

/// A consent that was started.
#[derive(Debug)]
pub struct StartedConsent {
    /// The session.
    pub session: Session,
    /// The address of our page for the subject. It is secret: whoever has it can connect an account of their own.
    pub url: SecretString,
}

/// The key of a session, and the hash of the secret that proves that the request was sent by us.
struct Ticket {
    tenant: TenantId,
    server: ServerId,
    session: String,
    secret_hash: String,
}

/// A ticket's text: the tenant, server and session that it leads to, and its secret; and the hash of that.
fn ticket(
    tenant: &TenantId,
    server: ServerId,
    session: &str,
    secret: &SecretString,
) -> (SecretString, String) {
    let secret = secret.expose_secret();
    let place = BASE64URL_NOPAD.encode(tenant.as_str().as_bytes());
    let text = format!("{place}.{}{session}.{secret}", server.ulid());
    (text.into(), hash(secret))
}

/// The address of our page for a session, and the hash of the secret in it. The same session has the same address each time.
fn address(key: &DataKey, session: &Session) -> (SecretString, String) {
    let (tenant, server) = (&session.tenant, session.server);
    let secret = key.address_secret(tenant, server, &session.id);
    let (ticket, secret_hash) = ticket(tenant, server, &session.id, &secret);
    let base = session.origin.base();
    let url = format!("{base}{START_PATH}?session={}", ticket.expose_secret());
    (url.into(), secret_hash)
}

impl Ticket {
    fn parse(text: &str) -> Option<Self> {
        let (place, rest) = text.split_once('.')?;
        let (ids, secret) = rest.split_once('.')?;
        let tenant = String::from_utf8(BASE64URL_NOPAD.decode(place.as_bytes()).ok()?).ok()?;
        let (server, session) = parse_session_id(ids)?;
        Some(Self {
            tenant: TenantId::parse(&tenant)?,
            server,
            session,
            secret_hash: hash(secret),
        })
    }
}

/// The session that a state or the secret of an address is about, whether it exists or not.
pub fn session_of(ticket: &str) -> Option<String> {
    Ticket::parse(ticket).map(|ticket| ticket.session)
}

/// The name of a session for clients: its server's ULID and its own.
pub fn session_id(session: &Session) -> String {
    format!("{}{}", session.server.ulid(), session.id)
}

/// Parses the output of [`session_id`].
pub fn parse_session_id(text: &str) -> Option<(ServerId, String)> {
    let (server, session) = text.split_at_checked(26)?;
    let (tag, ulid) = session.split_at_checked(Session::TAG)?;
    let server = ServerId::parse_ulid(server)?;
    let ulid = Sortable::parse_ulid(ulid)?.ulid();
    let is_tag = tag.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    is_tag.then(|| (server, format!("{tag}{ulid}")))
}

/// A consent that begins now. What comes after this read may make it void ([`Session::is_void`]).
async fn new_session(
    app: &App,
    tenant: &TenantId,
    server: &Server,
    subject: &Subject,
    origin: Origin,
) -> Result<Session> {
    let keys = vec![
        kept_reason_key(tenant, server.id, subject),
        subjects::key(tenant, subject),
    ];
    let found = app.table.read(keys).await?;
    let now = app.now();
    Ok(Session {
        removals: found.removals(tenant, server.id, subject)?,
        offboardings: found.offboardings(tenant, subject)?,
        id: format!("{}{}", Session::tag(subject), Sortable::new(now)?.ulid()),
        tenant: tenant.clone(),
        server: server.id,
        subject: subject.clone(),
        auth_revision: server.auth_revision,
        at: now,
        origin,
        phase: Phase::Offered,
        secret_hash: String::new(),
        browser: None,
        opened_at: None,
        busy_until: None,
        consent: None,
        ttl: now.plus_seconds(SESSION_LIFETIME).seconds(),
    })
}

/// Returns the open consent of a subject at a server, or creates one. The issuer is not contacted before the button of
/// the consent page is pressed.
async fn get_or_create_session(
    app: &App,
    caller: &Caller,
    server: &Server,
    subject: &Subject,
    origin: Origin,
) -> Result<StartedConsent> {
    let (tenant, table) = (&caller.tenant, &app.table);
    let key = data_key(app, tenant, server).await?;
    let open_key = sessions::open_key(tenant, server.id, subject, &origin);
    for _ in 0..ATTEMPTS {
        let found = table.read(vec![open_key.clone()]).await?;
        let open = found.open_consent(&open_key)?;
        if let Some(id) = &open
            && let Some(session) = reusable(app, server, tenant, subject, id).await?
        {
            let renewed = asked_again(app, &session, &origin);
            if renewed.origin != session.origin || renewed.at != session.at {
                let event = Event::of_session(app.now(), caller, &renewed, Action::SessionBegun)?;
                if !table.renew_session(&session, &renewed, &event).await? {
                    continue;
                }
            }
            let (url, _) = address(&key, &renewed);
            return Ok(StartedConsent {
                session: renewed,
                url,
            });
        }
        // Only the scopes of a provider's consent are the caller's to choose, so that there may be many at a time.
        if let Origin::Langsmith { .. } = origin
            && offered_to_providers(app, tenant, server.id, subject).await? >= MAX_CONSENTS
        {
            return Err(Error::TooManyConsents);
        }
        let mut session = new_session(app, tenant, server, subject, origin.clone()).await?;
        let (url, secret_hash) = address(&key, &session);
        session.secret_hash = secret_hash;
        let begun = Event::of_session(session.at, caller, &session, Action::SessionBegun)?;
        if table.add_session(&session, open.as_deref(), &begun).await? {
            return Ok(StartedConsent { session, url });
        }
    }
    Err(Error::Contended)
}

/// A session that is still offered, if its address may be given again.
async fn reusable(
    app: &App,
    server: &Server,
    tenant: &TenantId,
    subject: &Subject,
    id: &str,
) -> Result<Option<Session>> {
    let mut keys = Vec::from(record_keys(tenant, server.id, subject));
    keys.push(sessions::key(tenant, server.id, id));
    keys.push(subjects::key(tenant, subject));
    let found = app.table.read(keys).await?;
    let offboardings = found.offboardings(tenant, subject)?;
    let records = found.records(tenant, server, subject)?;
    let session = found.session(tenant, server.id, id)?;
    Ok(session.filter(|session| {
        session.phase == Phase::Offered
            && session.subject == *subject
            && session.is_open(app.now())
            && !session.is_void(server, &records.stored, offboardings)
    }))
}

/// A session after another request for it. When half of its time is over, its time begins again, within the lifetime of its
/// address, so that the subject has enough time.
fn asked_again(app: &App, session: &Session, origin: &Origin) -> Session {
    let now = app.now();
    let mut renewed = session.clone();
    renewed.origin = session.origin.asked_again(origin);
    let born = session.ulid().map_or(session.at, Sortable::at);
    if session.at.plus_seconds(CONSENT_LIFETIME / 2) <= now
        && now < born.plus_seconds(ADDRESS_LIFETIME - CONSENT_LIFETIME)
    {
        renewed.at = now;
        renewed.ttl = now.plus_seconds(SESSION_LIFETIME).seconds();
    }
    renewed
}

/// The sessions that a subject has begun at a server within the lifetime of one.
async fn recent(
    app: &App,
    tenant: &TenantId,
    server: ServerId,
    subject: &Subject,
) -> Result<Vec<Session>> {
    // Twice the two limits, so that neither hides the other.
    const READ: i32 = 80;
    let since = app.now().plus_seconds(-CONSENT_LIFETIME);
    app.table
        .sessions_since(tenant, server, subject, since, READ)
        .await
}

/// How many consents for other scopes are offered to a subject's providers at a server.
async fn offered_to_providers(
    app: &App,
    tenant: &TenantId,
    server: ServerId,
    subject: &Subject,
) -> Result<usize> {
    let recent = recent(app, tenant, server, subject).await?;
    let offered = recent.iter().filter(|one| {
        one.phase == Phase::Offered && matches!(one.origin, Origin::Langsmith { .. })
    });
    Ok(offered.count())
}

/// Starts a consent. The issuer is not contacted before the button of the consent page is pressed. `base` is our public
/// base URL; `additional_scopes` are requested in addition to the server's.
///
/// # Errors
/// [`Error::Contended`] when the server has just changed; [`Error::TooManyConsents`]; [`Error::Unavailable`],
/// [`Error::Internal`].
pub async fn start_consent(
    app: &App,
    server: &Permitted<Server>,
    base: &str,
    return_to: Option<String>,
    additional_scopes: Option<Vec<String>>,
) -> Result<StartedConsent> {
    let origin = Origin::Truefoundry {
        return_to,
        base: base.to_owned(),
        additional_scopes,
    };
    let caller = &server.caller;
    get_or_create_session(app, caller, &server.found, caller.subject(), origin).await
}

/// Returns the status of a subject at a server, with a consent if that is what the subject needs. `read` finds the caller's
/// own records.
///
/// # Errors
/// Those of `read` and of [`start_consent`]; [`Error::Internal`] when a consent is needed and `base` is unknown.
pub async fn start_required_consent<E, F>(
    app: &App,
    read: impl FnMut() -> F,
    base: Option<&str>,
    return_to: Option<&str>,
) -> Result<(Status, Option<StartedConsent>), E>
where
    E: From<Error>,
    F: Future<Output = Result<Permitted<ServerAndRecords>, E>>,
{
    retry_on_contention(read, async |Permitted { caller, found }| {
        let status = status(&found.server, &found.records, app.now());
        let consents = matches!(found.server.auth, Auth::Oauth(_));
        if !consents || !matches!(status, Status::Required { .. }) {
            return Ok((status, None));
        }
        let base = base
            .ok_or_else(|| Error::internal("no consent can start: HAWSER_PUBLIC_URL is not set"))?;
        let server = Permitted {
            caller,
            found: found.server,
        };
        let return_to = return_to.map(str::to_owned);
        let begun = start_consent(app, &server, base, return_to, None).await?;
        Ok((status, Some(begun)))
    })
    .await
}

/// Starts a consent whether or not the caller needs one. `read` finds the server for a caller who may do this.
///
/// # Errors
/// Those of `read` and of [`start_consent`].
pub async fn start_anew<E, F>(
    app: &App,
    read: impl FnMut() -> F,
    base: &str,
) -> Result<StartedConsent, E>
where
    E: From<Error>,
    F: Future<Output = Result<Permitted<Server>, E>>,
{
    retry_on_contention(read, async |server| {
        start_consent(app, &server, base, None, None).await
    })
    .await
}

/// Starts a consent for a LangSmith provider.
///
/// # Errors
/// As [`start_consent`].
pub async fn start_provider_consent(
    app: &App,
    caller: &Caller,
    server: &Server,
    subject: &Subject,
    provider: uuid::Uuid,
    base: &str,
    scopes: &[String],
) -> Result<StartedConsent> {
    let origin = Origin::Langsmith {
        provider,
        base: base.to_owned(),
        scopes: scopes.to_vec(),
    };
    get_or_create_session(app, caller, server, subject, origin).await
}

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

/// Finds a server's issuer and makes sure that there is a client for a subject.
///
/// # Errors
/// [`Error::Oauth`], [`Error::UpstreamUnavailable`], [`Error::ServerNotFound`]; [`Error::Unavailable`],
/// [`Error::Internal`].
pub async fn prepare(
    app: &App,
    tenant: &TenantId,
    server: &Server,
    subject: &Subject,
    base: &str,
) -> Result<()> {
    let key = data_key(app, tenant, server).await?;
    let secrets = open_with(&key, tenant, server)?;
    let request = ConsentRequest {
        tenant,
        server,
        key: &key,
        owner: Some(subject),
        redirect_uri: format!("{base}{CALLBACK_PATH}"),
        scopes: &[],
        additional_scopes: &[],
        abandoned_clients: BTreeMap::new(),
    };
    let settings = Settings::of(app, server, &secrets).await?;
    let setup = request.set_up(app, settings, true).await?;
    request.keep_client(app, &setup).await
}

/// Registers a server together with the consent that its creator is sent to, in one transaction (Kambrium 3). Nothing is
/// stored if its issuer cannot be asked.
///
/// # Errors
/// [`Error::Oauth`], [`Error::UpstreamUnavailable`], and those of [`servers::create`].
pub async fn create_server(
    app: &App,
    caller: &Caller,
    draft: Draft,
    integration: &str,
    base: &str,
) -> Result<(Server, StartedConsent)> {
    let tenant = &caller.tenant;
    let secrets = draft.secrets.clone();
    let prepared = servers::prepare(app, caller, draft).await?;
    let server = &prepared.server;
    let origin = Origin::Kambrium {
        integration: integration.to_owned(),
        base: base.to_owned(),
    };
    let mut session = new_session(app, tenant, server, caller.subject(), origin).await?;
    let (url, secret_hash) = address(&prepared.data_key, &session);
    session.secret_hash = secret_hash;
    let request = ConsentRequest::of(
        tenant,
        server,
        &prepared.data_key,
        &session,
        BTreeMap::new(),
    );
    let settings = Settings::of(app, server, &secrets).await?;
    let setup = request.set_up(app, settings, false).await?;
    let companions = Companions {
        client: setup.client.new.as_ref(),
        session: Some(&session),
        verification: None,
    };
    let inserted = servers::insert(app, caller, &prepared, &companions).await;
    if let (Err(_), Some(client)) = (&inserted, &setup.client.new) {
        forget_client(app, tenant, &prepared.data_key, client).await;
    }
    inserted.map(|server| (server, StartedConsent { session, url }))
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
