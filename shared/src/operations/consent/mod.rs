//! Consent: a subject is sent to the authorization server of a server, comes back once, and what it brings becomes a grant
//! (checklist 2, 3 and 5).
//!
//! A session is written before anyone is sent away. Its URL carries where it is and 256 random bits, of which the table has
//! the hash. The first callback takes it by a conditional write; only then is the code exchanged, once. What comes back is
//! stored if server, session and the subject's items are still what they were, in one transaction that also completes the
//! session and turns a grant that is replaced into a revocation. If that cannot be, the fresh tokens become a revocation.

mod finish;
mod setup;

pub use finish::{Callback, Ended, Finished, finish, status_after};

use super::Permitted;
use super::clients::{Settings, integration_callback};
use super::servers::{self, Draft, data_key, open_with};
use crate::app::App;
use crate::caller::Caller;
use crate::domain::event::{self, Action, Event, Who};
use crate::domain::id::{ServerId, Sortable, TenantId, hash, random};
use crate::domain::server::Server;
use crate::domain::session::{CONSENT_LIFETIME, Origin, Phase, SESSION_LIFETIME, Session};
use crate::domain::subject::Subject;
use crate::table::credentials::{kept_reason_key, record_keys};
use crate::table::servers::Companions;
use crate::table::{servers as server_table, sessions, subjects};
use crate::{Error, Result};
use data_encoding::BASE64URL_NOPAD;
use secrecy::{ExposeSecret, SecretString};
use setup::{For, forget_client};

/// The path that issuers answer to.
pub const CALLBACK_PATH: &str = "/oauth/callback";
/// The path of our own page that starts a consent.
pub const START_PATH: &str = "/oauth/start";

/// A consent that has been begun.
#[derive(Debug)]
pub struct Begun {
    /// The session.
    pub session: Session,
    /// Where the subject is to go. Whoever has it can connect their account: a secret.
    pub url: SecretString,
}

/// Where a session is, and the proof that whoever asks was sent by us.
struct Ticket {
    tenant: TenantId,
    server: ServerId,
    session: String,
    secret_hash: String,
}

/// A ticket's text: the tenant, server and session that it leads to, and its secret.
fn new_ticket(
    tenant: &TenantId,
    server: ServerId,
    session: &str,
) -> Result<(SecretString, String)> {
    let secret = BASE64URL_NOPAD.encode(&random::<32>()?);
    let place = BASE64URL_NOPAD.encode(tenant.as_str().as_bytes());
    let text = format!("{place}.{}{session}.{secret}", server.ulid());
    Ok((text.into(), hash(&secret)))
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

/// The name of a session for clients: its server's ULID and its own.
pub fn session_id(session: &Session) -> String {
    format!("{}{}", session.server.ulid(), session.id)
}

/// Reads what [`session_id`] wrote.
pub fn parse_session_id(text: &str) -> Option<(ServerId, String)> {
    let (server, session) = text.split_at_checked(26)?;
    let (tag, ulid) = session.split_at_checked(Session::TAG)?;
    let server = ServerId::parse_ulid(server)?;
    let ulid = Sortable::parse_ulid(ulid)?.ulid();
    let is_tag = tag.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    is_tag.then(|| (server, format!("{tag}{ulid}")))
}

/// A consent that begins now: void as soon as the subject is disconnected or offboarded after this.
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
        busy_until: None,
        consent: None,
        ttl: now.plus_seconds(SESSION_LIFETIME).seconds(),
    })
}

/// Refuses a subject that has begun too many consents at a server within their lifetime.
async fn require_room(
    app: &App,
    tenant: &TenantId,
    server: ServerId,
    subject: &Subject,
) -> Result<()> {
    const MOST: usize = 20;
    let since = app.now().plus_seconds(-CONSENT_LIFETIME);
    let begun = app
        .table
        .sessions_since(tenant, server, subject, since, MOST)
        .await?;
    if begun < MOST {
        Ok(())
    } else {
        Err(Error::TooManyConsents)
    }
}

/// Offers a consent by a URL of our own; nobody is contacted until it is opened. `base` is our public base URL; `besides` are
/// scopes that are asked for whatever the server says.
///
/// # Errors
/// [`Error::Contended`] when the server has just changed; [`Error::Unavailable`], [`Error::Internal`].
pub async fn offer(
    app: &App,
    server: &Permitted<Server>,
    base: &str,
    return_to: Option<String>,
    besides: Option<Vec<String>>,
) -> Result<Begun> {
    let tenant = &server.caller.tenant;
    let origin = Origin::Truefoundry {
        return_to,
        base: base.to_owned(),
        besides,
    };
    let subject = server.caller.subject();
    require_room(app, tenant, server.found.id, subject).await?;
    let mut session = new_session(app, tenant, &server.found, subject, origin).await?;
    let (ticket, secret_hash) = new_ticket(tenant, server.found.id, &session.id)?;
    session.secret_hash = secret_hash;
    let url = format!("{base}{START_PATH}?session={}", ticket.expose_secret()).into();
    let caller = &server.caller;
    let begun = Event::of_session(session.at, caller, &session, Action::SessionBegun)?;
    if app.table.add_session(&session, &begun).await? {
        Ok(Begun { session, url })
    } else {
        Err(Error::Contended)
    }
}

/// A consent whose URL was opened: where the browser goes next, and the cookie that binds it.
#[derive(Debug)]
pub struct Opened {
    /// The issuer's address.
    pub url: SecretString,
    /// Our public base, which decides how the cookie is protected.
    pub base: String,
    /// The session's own id, for the cookie's name.
    pub session: String,
    /// The cookie's value.
    pub cookie: SecretString,
}

/// What became of a URL that was opened.
#[derive(Debug)]
pub enum Opening {
    /// The browser goes on to the issuer.
    Go(Opened),
    /// There is nobody to go on to.
    Refused(Box<Session>, Error),
}

/// Opens an offered consent, once: finds the issuer and a client, and sends the browser there.
///
/// # Errors
/// [`Error::SessionNotFound`] for a URL that was never offered, was used, is over or void; [`Error::Unavailable`],
/// [`Error::Internal`].
pub async fn open(app: &App, ticket: &str) -> Result<Opening> {
    let ticket = Ticket::parse(ticket).ok_or(Error::SessionNotFound)?;
    let (server, mut session) = find_ticket(app, &ticket, Phase::Offered).await?;
    let key = data_key(app, &ticket.tenant, &server).await?;
    let secrets = open_with(&key, &ticket.tenant, &server)?;
    let Origin::Truefoundry { base, besides, .. } = session.origin.clone() else {
        return Err(Error::SessionNotFound);
    };
    let whom = For {
        tenant: &ticket.tenant,
        server: &server,
        key: &key,
        owner: None,
        redirect_uri: format!("{base}{CALLBACK_PATH}"),
        scopes: &[],
        besides: besides.as_deref().unwrap_or_default(),
    };
    let setup = match Settings::of(app, &server, &secrets) {
        Ok(settings) => whom.set_up(app, settings, true).await,
        Err(error) => Err(error),
    };
    let setup = match setup {
        Ok(setup) => setup,
        Err(error @ (Error::Oauth(_) | Error::UpstreamUnavailable)) => {
            let failed = event::Outcome::Failed;
            end(app, &session, Phase::Offered, failed).await?;
            return Ok(Opening::Refused(Box::new(session), error));
        }
        Err(error) => return Err(error),
    };
    whom.keep_client(app, &setup).await?;
    let offered = session.secret_hash.clone();
    let cookie = BASE64URL_NOPAD.encode(&random::<32>()?);
    let url = whom.address(&setup, &mut session)?;
    session.browser = Some(hash(&cookie));
    let opened = Event::of_session(app.now(), Who::Browser, &session, Action::SessionOpened)?;
    let table = &app.table;
    if !table.open_session(&session, &offered, &opened).await? {
        return Err(Error::SessionNotFound);
    }
    Ok(Opening::Go(Opened {
        url,
        base,
        session: session.id,
        cookie: cookie.into(),
    }))
}

/// Begins a consent with the issuer's own address, for a provider of LangSmith's.
///
/// # Errors
/// [`Error::Oauth`], [`Error::UpstreamUnavailable`]; [`Error::Contended`] when the server has just changed;
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn begin(
    app: &App,
    caller: &Caller,
    server: &Server,
    subject: &Subject,
    provider: uuid::Uuid,
    base: &str,
    scopes: &[String],
) -> Result<Begun> {
    let tenant = &caller.tenant;
    require_room(app, tenant, server.id, subject).await?;
    let key = data_key(app, tenant, server).await?;
    let secrets = open_with(&key, tenant, server)?;
    let whom = For {
        tenant,
        server,
        key: &key,
        owner: Some(subject),
        redirect_uri: format!("{base}{CALLBACK_PATH}"),
        scopes,
        besides: &[],
    };
    let settings = Settings::of(app, server, &secrets)?;
    let setup = whom.set_up(app, settings, true).await?;
    whom.keep_client(app, &setup).await?;
    let origin = Origin::Langsmith { provider };
    let mut session = new_session(app, tenant, server, subject, origin).await?;
    let url = whom.address(&setup, &mut session)?;
    let begun = Event::of_session(session.at, caller, &session, Action::SessionBegun)?;
    if app.table.add_session(&session, &begun).await? {
        Ok(Begun { session, url })
    } else {
        Err(Error::Contended)
    }
}

/// Ends a session without a grant.
async fn end(app: &App, session: &Session, from: Phase, outcome: event::Outcome) -> Result<()> {
    let ended = Event::of_session(app.now(), Who::Browser, session, Action::SessionEnded)?;
    let ended = ended.with(outcome);
    app.table.fail_session(session, from, &ended).await
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
    let whom = For {
        tenant,
        server,
        key: &key,
        owner: Some(subject),
        redirect_uri: format!("{base}{CALLBACK_PATH}"),
        scopes: &[],
        besides: &[],
    };
    let settings = Settings::of(app, server, &secrets)?;
    let setup = whom.set_up(app, settings, true).await?;
    whom.keep_client(app, &setup).await
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
) -> Result<(Server, Begun)> {
    let tenant = &caller.tenant;
    let secrets = draft.secrets.clone();
    let prepared = servers::prepare(app, caller, draft).await?;
    let server = &prepared.server;
    let whom = For {
        tenant,
        server,
        key: &prepared.data_key,
        owner: None,
        redirect_uri: format!("{base}{}", integration_callback(integration)),
        scopes: &[],
        besides: &[],
    };
    let settings = Settings::of(app, server, &secrets)?;
    let setup = whom.set_up(app, settings, false).await?;
    let origin = Origin::Kambrium {
        integration: integration.to_owned(),
    };
    let mut session = new_session(app, tenant, server, caller.subject(), origin).await?;
    let begun = whom
        .address(&setup, &mut session)
        .map(|url| Begun { session, url });
    let inserted = match begun {
        Ok(begun) => {
            let companions = Companions {
                client: setup.client.new.as_ref(),
                session: Some(&begun.session),
                verification: None,
            };
            servers::insert(app, caller, &prepared, &companions)
                .await
                .map(|server| (server, begun))
        }
        Err(error) => Err(error),
    };
    if let (Err(_), Some(client)) = (&inserted, &setup.client.new) {
        forget_client(app, tenant, &prepared.data_key, client).await;
    }
    inserted
}

async fn find_ticket(app: &App, ticket: &Ticket, phase: Phase) -> Result<(Server, Session)> {
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
                && session.is_open(app.now())
                && session.auth_revision == server.auth_revision =>
        {
            (server, session)
        }
        _ => return Err(Error::SessionNotFound),
    };
    let mut keys = Vec::from(record_keys(tenant, server.id, &session.subject));
    keys.push(subjects::key(tenant, &session.subject));
    let found = app.table.read(keys).await?;
    let offboarded = found.offboardings(tenant, &session.subject)? != session.offboardings;
    let records = found.records(tenant, &server, &session.subject)?;
    if offboarded || records.stored.voids(&session) {
        return Err(Error::SessionNotFound);
    }
    Ok((server, session))
}
