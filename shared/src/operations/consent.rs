//! Consent: a subject is sent to the authorization server of a server, comes back once, and what it brings becomes a grant
//! (checklist 2, 3 and 5).
//!
//! A session is written before anyone is sent away. Its URL carries where it is and 256 random bits, of which the table has
//! the hash. The first callback takes it by a conditional write; only then is the code exchanged, once. What comes back is
//! stored if server, session and the subject's items are still what they were, in one transaction that also completes the
//! session and turns a grant that is replaced into a revocation. If that cannot be, the fresh tokens become a revocation.

use super::clients::{Search, Settings, Usable, integration_callback};
use super::servers::{self, Draft, data_key, open_with};
use super::{Permitted, clients, grants};
use crate::app::App;
use crate::caller::{Caller, hash};
use crate::catalogue::RevocationScope;
use crate::domain::credential::{Grant, KeptReason, Tokens, new_version};
use crate::domain::error::OauthSetup;
use crate::domain::id::{ServerId, Sortable, TenantId, random};
use crate::domain::issuance::{ClientRecord, ClientSource, Issuance};
use crate::domain::server::Server;
use crate::domain::session::{
    CONSENT_LIFETIME, Consent, ConsentSecrets, Origin, Phase, SESSION_LIFETIME, Session,
};
use crate::domain::status::{Reason, Status, status};
use crate::domain::subject::Subject;
use crate::oauth::discovery::{self, Issuer};
use crate::oauth::request::{Pkce, authorization_url};
use crate::oauth::token::{self, Class, Credentials, Endpoint};
use crate::seal::{DataKey, Kind};
use crate::table::credentials::{Granting, Outcome, record_keys};
use crate::table::servers::Companions;
use crate::table::{servers as server_table, sessions};
use crate::{Error, Result};
use data_encoding::BASE64URL_NOPAD;
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::timeout;
use tracing::{info, warn};

/// How long the exchange of a code may keep a session busy, in seconds: longer than the call and the write together.
const EXCHANGE: i64 = 60;
/// How long it may take to find an issuer and a client, all requests together: a gateway ends ours after 30 seconds.
const SETUP: Duration = Duration::from_secs(13);
/// How often an answer is tried to be stored while others write.
const ATTEMPTS: usize = 10;

/// What an operator's own parameters of the authorization request cannot be, set by us or not.
const RESERVED: [&str; 8] = [
    "response_type",
    "client_id",
    "redirect_uri",
    "state",
    "scope",
    "code_challenge",
    "code_challenge_method",
    "resource",
];

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

/// Everything that has to be known before a subject can be sent to an issuer.
struct Setup {
    issuance: Issuance,
    iss_advertised: bool,
    authorization_endpoint: String,
    scopes: Vec<String>,
    redirect_uri: String,
    client: Usable,
    settings: Settings,
}

/// For whom a consent is set up.
struct For<'a> {
    tenant: &'a TenantId,
    server: &'a Server,
    key: &'a DataKey,
    /// The one subject that a client registered for it serves; all of the server's if there is none.
    owner: Option<&'a Subject>,
    redirect_uri: String,
    /// What was asked for; nothing: what the server or its operator says.
    scopes: &'a [String],
    /// What to ask for besides.
    besides: &'a [String],
}

impl For<'_> {
    async fn set_up(&self, app: &App, settings: Settings, known: bool) -> Result<Setup> {
        timeout(SETUP, self.ask(app, settings, known))
            .await
            .unwrap_or(Err(Error::UpstreamUnavailable))
    }

    async fn ask(&self, app: &App, settings: Settings, known: bool) -> Result<Setup> {
        let known = if known {
            let (table, id) = (&app.table, self.server.id);
            let mut known = table.clients(self.tenant, id, self.owner).await?;
            if self.owner.is_some() {
                // Where the operator's client belongs is one answer for all.
                known.extend(table.clients(self.tenant, id, None).await?);
            }
            known
        } else {
            Vec::new()
        };
        let (issuer, resource, advised) = find_issuer(app, self.server, &settings).await?;
        let mut scopes = if self.scopes.is_empty() {
            settings.scopes.clone()
        } else {
            self.scopes.to_vec()
        };
        if scopes.is_empty() {
            scopes = advised;
        }
        for scope in self.besides {
            if !scopes.contains(scope) {
                scopes.push(scope.clone());
            }
        }
        let offline = "offline_access";
        let offered = issuer.scopes_supported.iter().flatten();
        // Alone it would narrow the issuer's default to nothing else.
        if !scopes.is_empty()
            && !scopes.iter().any(|scope| scope == offline)
            && offered.into_iter().any(|scope| scope == offline)
        {
            scopes.push(offline.to_owned());
        }
        let search = Search {
            tenant: self.tenant,
            server: self.server,
            key: self.key,
            owner: self.owner,
            redirect_uri: &self.redirect_uri,
            settings: &settings,
            known: &known,
        };
        let client = search.at(app, &issuer, &scopes).await?;
        Ok(Setup {
            issuance: Issuance {
                issuer: issuer.issuer,
                token_endpoint: issuer.token_endpoint,
                revocation_endpoint: issuer.revocation_endpoint,
                client: client.client.clone(),
                resource,
            },
            iss_advertised: issuer.iss_advertised,
            authorization_endpoint: issuer.authorization_endpoint,
            scopes,
            redirect_uri: self.redirect_uri.clone(),
            client,
            settings,
        })
    }

    /// Turns a session into one whose issuer is known, and makes the address that the subject is sent to.
    fn address(&self, setup: &Setup, session: &mut Session) -> Result<SecretString> {
        let (state, secret_hash) = new_ticket(self.tenant, self.server.id, &session.id)?;
        let pkce = Pkce::new()?;
        let scope = setup.scopes.join(" ");
        let own = setup.settings.authorize_params.iter();
        let mut parameters: Vec<(&str, &str)> = own
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .filter(|(name, _)| !RESERVED.contains(name))
            .collect();
        let mut set = |name, value| parameters.push((name, value));
        set("response_type", "code");
        set("client_id", &setup.issuance.client.id);
        set("redirect_uri", &setup.redirect_uri);
        set("state", state.expose_secret());
        if !scope.is_empty() {
            set("scope", &scope);
        }
        if setup.settings.pkce {
            set("code_challenge", &pkce.challenge);
            set("code_challenge_method", "S256");
        }
        if let Some(resource) = &setup.issuance.resource {
            set("resource", resource);
        }
        let url = authorization_url(&setup.authorization_endpoint, &parameters)
            .ok_or(Error::Oauth(OauthSetup::MetadataUnusable))?;
        let secrets = ConsentSecrets {
            verifier: pkce.verifier,
            client_secret: setup.client.secret.clone(),
        };
        let json = secrets
            .to_json()
            .ok_or_else(|| Error::internal("a consent does not encode"))?;
        let kind = Kind::Consent(&session.id, &session.subject, &setup.issuance);
        session.consent = Some(Consent {
            issuance: setup.issuance.clone(),
            iss_advertised: setup.iss_advertised,
            redirect_uri: setup.redirect_uri.clone(),
            scopes: setup.scopes.clone(),
            sealed: self.key.seal(self.tenant, self.server.id, kind, &json)?,
        });
        session.phase = Phase::Pending;
        session.secret_hash = secret_hash;
        Ok(url.into())
    }
}

/// The issuer of a server, the resource indicator to send, and the scopes that the server asks for. What the operator
/// configured is not discovered.
async fn find_issuer(
    app: &App,
    server: &Server,
    settings: &Settings,
) -> Result<(Issuer, Option<String>, Vec<String>)> {
    if let (Some(authorization), Some(token)) =
        (&settings.authorization_endpoint, &settings.token_endpoint)
    {
        let issuer = Issuer {
            issuer: crate::domain::server::origin(token),
            authorization_endpoint: authorization.clone(),
            token_endpoint: token.clone(),
            registration_endpoint: None,
            revocation_endpoint: settings.revocation_endpoint.clone(),
            scopes_supported: None,
            token_auth_methods: None,
            iss_advertised: false,
            takes_metadata_documents: false,
        };
        // An integration's server may publish none; nobody is asked. TrueFoundry's servers are named by their address.
        let sent = server.connection.integration.is_none() && settings.send_resource != Some(false);
        return Ok((issuer, sent.then(|| server.url.clone()), Vec::new()));
    }
    let refuse = |failure| match failure {
        discovery::Failure::NotFound => Error::Oauth(OauthSetup::NoAuthorizationServer),
        discovery::Failure::Unusable => Error::Oauth(OauthSetup::MetadataUnusable),
        discovery::Failure::TryLater => Error::UpstreamUnavailable,
    };
    let protected = discovery::protected_resource(&app.egress, &server.url)
        .await
        .map_err(refuse)?;
    let first = protected
        .issuers
        .first()
        .ok_or(Error::Oauth(OauthSetup::NoAuthorizationServer))?;
    let issuer = discovery::issuer(&app.egress, first)
        .await
        .map_err(refuse)?;
    // One configured endpoint beside discovered ones would let the server choose who else sees the client's secret.
    let configured = [
        (
            &settings.authorization_endpoint,
            &issuer.authorization_endpoint,
        ),
        (&settings.token_endpoint, &issuer.token_endpoint),
    ];
    if configured
        .into_iter()
        .any(|(own, found)| own.as_ref().is_some_and(|own| own != found))
    {
        return Err(Error::Oauth(OauthSetup::OtherIssuer));
    }
    let resource = (settings.send_resource != Some(false)).then_some(protected.resource);
    Ok((issuer, resource, protected.scopes.unwrap_or_default()))
}

fn new_session(
    app: &App,
    tenant: &TenantId,
    server: &Server,
    subject: &Subject,
    origin: Origin,
) -> Result<Session> {
    let now = app.now();
    Ok(Session {
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
    let mut session = new_session(app, tenant, &server.found, subject, origin)?;
    let (ticket, secret_hash) = new_ticket(tenant, server.found.id, &session.id)?;
    session.secret_hash = secret_hash;
    let url = format!("{base}{START_PATH}?session={}", ticket.expose_secret()).into();
    if app.table.add_session(&session).await? {
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
            app.table.fail_session(&session, Phase::Offered).await?;
            return Ok(Opening::Refused(Box::new(session), error));
        }
        Err(error) => return Err(error),
    };
    keep_client(app, &ticket.tenant, &key, &setup).await?;
    let offered = session.secret_hash.clone();
    let cookie = BASE64URL_NOPAD.encode(&random::<32>()?);
    let url = whom.address(&setup, &mut session)?;
    session.browser = Some(hash(&cookie));
    if !app.table.open_session(&session, &offered).await? {
        return Err(Error::SessionNotFound);
    }
    Ok(Opening::Go(Opened {
        url,
        base,
        session: session.id,
        cookie: cookie.into(),
    }))
}

async fn keep_client(app: &App, tenant: &TenantId, key: &DataKey, setup: &Setup) -> Result<()> {
    let Some(record) = &setup.client.new else {
        return Ok(());
    };
    let kept = match app.table.add_client(tenant, record).await {
        Ok(true) => return Ok(()),
        Ok(false) => Err(Error::ServerNotFound),
        Err(error) => Err(error),
    };
    forget_client(app, tenant, key, record).await;
    kept
}

/// Begins a consent with the issuer's own address, for a provider of LangSmith's.
///
/// # Errors
/// [`Error::Oauth`], [`Error::UpstreamUnavailable`]; [`Error::Contended`] when the server has just changed;
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn begin(
    app: &App,
    tenant: &TenantId,
    server: &Server,
    subject: &Subject,
    provider: uuid::Uuid,
    base: &str,
    scopes: &[String],
) -> Result<Begun> {
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
    keep_client(app, tenant, &key, &setup).await?;
    let origin = Origin::Langsmith { provider };
    let mut session = new_session(app, tenant, server, subject, origin)?;
    let url = whom.address(&setup, &mut session)?;
    if app.table.add_session(&session).await? {
        Ok(Begun { session, url })
    } else {
        Err(Error::Contended)
    }
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
    keep_client(app, tenant, &key, &setup).await
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
    let mut session = new_session(app, tenant, server, caller.subject(), origin)?;
    let begun = whom
        .address(&setup, &mut session)
        .map(|url| Begun { session, url });
    let inserted = match begun {
        Ok(begun) => {
            let companions = Companions {
                client: setup.client.new.as_ref(),
                session: Some(&begun.session),
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

/// Removes a client at its issuer whose server could not be stored, so that none is left that nobody knows of. Tried once:
/// there is nothing durable that a later try could go by.
async fn forget_client(app: &App, tenant: &TenantId, key: &DataKey, client: &ClientRecord) {
    // The transaction may have happened after all. Where that cannot be known, a client too many is the lesser evil.
    let owner = client.owner.as_ref();
    let known = app.table.clients(tenant, client.server, owner).await;
    let stored = known.map_or(true, |known| known.iter().any(|one| one.id == client.id));
    if !stored
        && !clients::deregister(app, tenant, key, client)
            .await
            .unwrap_or(false)
    {
        warn!(
            tenant = tenant.as_str(),
            issuer = clients::host(&client.issuer),
            "a client is left at its issuer without a server"
        );
    }
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
    let keys = record_keys(tenant, server.id, &session.subject);
    let found = app.table.read(keys.into()).await?;
    let records = found.records(tenant, &server, &session.subject)?;
    if records.stored.is_fenced(session.at) {
        return Err(Error::SessionNotFound);
    }
    Ok((server, session))
}

/// What an issuer sent the browser back with.
pub struct Callback {
    /// `state`.
    pub state: String,
    /// `code`.
    pub code: Option<SecretString>,
    /// `error`.
    pub error: Option<String>,
    /// `iss` (RFC 9207).
    pub iss: Option<String>,
}

/// How a consent ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// A grant is stored.
    Connected,
    /// The subject, or the issuer, said no with this code. Foreign text, not to be shown as it is.
    Refused(String),
    /// The answer cannot be trusted, or the code was not exchanged.
    Failed,
    /// Meanwhile the server changed or the subject was disconnected: what came back is being revoked.
    Void,
}

/// A consent that is over.
#[derive(Debug)]
pub struct Finished {
    /// What it was.
    pub session: Session,
    /// How it ended.
    pub ended: Ended,
    /// The server, as it was when the browser came back.
    pub server: Server,
}

/// Takes an issuer's answer. `cookie` is asked for the value of the cookie of a session; `fits` says whether the answer came
/// the way that the session's origin expects.
///
/// # Errors
/// [`Error::SessionNotFound`] for an answer to nothing that was asked, or that was answered before; nothing has happened
/// then. [`Error::Unavailable`], [`Error::Internal`].
pub async fn finish(
    app: &App,
    callback: Callback,
    cookie: impl Fn(&Session) -> Option<String>,
    fits: impl Fn(&Origin) -> bool,
) -> Result<Finished> {
    let ticket = Ticket::parse(&callback.state).ok_or(Error::SessionNotFound)?;
    let (server, session) = find_ticket(app, &ticket, Phase::Pending).await?;
    let bound = session
        .browser
        .as_ref()
        .is_none_or(|expected| cookie(&session).is_some_and(|sent| hash(&sent) == *expected));
    if !bound || !fits(&session.origin) {
        return Err(Error::SessionNotFound);
    }
    let until = app.now().plus_seconds(EXCHANGE);
    if !app.table.claim_session(&session, until).await? {
        return Err(Error::SessionNotFound);
    }
    let ended = match answer(app, &server, &session, callback).await {
        Ok(ended) => ended,
        Err(error) => {
            // Whatever failed, this state is used up.
            fail(app, &session).await;
            return Err(error);
        }
    };
    let (tenant, id) = (session.tenant.as_str(), session.server);
    info!(tenant, server = ?id, connected = ended == Ended::Connected, "a consent ended");
    if matches!(session.origin, Origin::Kambrium { .. }) {
        let failed = matches!(ended, Ended::Refused(_) | Ended::Failed);
        // The consent itself is over either way.
        if let Err(cause) = app
            .table
            .note_consent(&session.tenant, server.id, failed)
            .await
        {
            warn!(%cause, "how a consent ended was not noted on its server");
        }
    }
    Ok(Finished {
        session,
        ended,
        server,
    })
}

/// What the subject of a consent needs, now that it is over.
///
/// # Errors
/// [`Error::ServerNotFound`] when the server is gone; [`Error::Unavailable`], [`Error::Internal`].
pub async fn status_after(app: &App, session: &Session) -> Result<Status> {
    let (tenant, id) = (&session.tenant, session.server);
    let mut keys = Vec::from(record_keys(tenant, id, &session.subject));
    keys.push(server_table::key(tenant, id));
    let found = app.table.read(keys).await?;
    let server = found.server(tenant, id)?.ok_or(Error::ServerNotFound)?;
    let records = found.records(tenant, &server, &session.subject)?;
    Ok(status(&server, &records, app.now()))
}

async fn fail(app: &App, session: &Session) {
    if let Err(cause) = app.table.fail_session(session, Phase::Exchanging).await {
        warn!(%cause, "a consent that failed could not be marked");
    }
}

async fn answer(
    app: &App,
    server: &Server,
    session: &Session,
    callback: Callback,
) -> Result<Ended> {
    let consent = session
        .consent
        .as_ref()
        .ok_or_else(|| Error::internal("a pending session without its consent"))?;
    // Before the code goes anywhere, and before an error is believed (checklist rows 20 and 21).
    let trusted = match &callback.iss {
        Some(iss) => *iss == consent.issuance.issuer,
        None => !consent.iss_advertised,
    };
    if !trusted {
        app.table.fail_session(session, Phase::Exchanging).await?;
        return Ok(Ended::Failed);
    }
    if let Some(code) = callback.error {
        if code == "access_denied" {
            deny(app, session).await?;
        } else {
            app.table.fail_session(session, Phase::Exchanging).await?;
        }
        return Ok(Ended::Refused(code));
    }
    let Some(code) = callback.code else {
        app.table.fail_session(session, Phase::Exchanging).await?;
        return Ok(Ended::Failed);
    };
    let key = data_key(app, &session.tenant, server).await?;
    let kind = Kind::Consent(&session.id, &session.subject, &consent.issuance);
    let json = key.open(&session.tenant, server.id, kind, &consent.sealed)?;
    let secrets = ConsentSecrets::from_json(&json)
        .ok_or_else(|| Error::internal("a consent does not decode"))?;
    let settings = Settings::of(app, server, &open_with(&key, &session.tenant, server)?)?;
    let at = Endpoint {
        url: &consent.issuance.token_endpoint,
        credentials: Credentials {
            client: &consent.issuance.client,
            secret: secrets.client_secret.as_ref(),
        },
        resource: consent.issuance.resource.as_deref(),
        extra: &settings.token_params,
    };
    let exchanged = token::exchange(
        &app.egress,
        &at,
        &code,
        &secrets.verifier,
        &consent.redirect_uri,
    )
    .await;
    let tokens = match exchanged {
        Ok(tokens) => tokens,
        Err(failure) => {
            warn!(
                tenant = session.tenant.as_str(),
                server = ?session.server,
                issuer = clients::host(&consent.issuance.issuer),
                status = failure.status,
                error = failure.word,
                "a code was not exchanged"
            );
            if failure.class == Class::InvalidClient {
                reject_client(app, session, consent).await?;
            }
            app.table.fail_session(session, Phase::Exchanging).await?;
            return Ok(Ended::Failed);
        }
    };
    let secret = secrets.client_secret;
    let revoking = settings.revocation_scope == RevocationScope::Token;
    store(app, &key, session, consent, tokens, secret, revoking).await
}

/// The issuer does not know the client any more: the next consent registers another.
async fn reject_client(app: &App, session: &Session, consent: &Consent) -> Result<()> {
    if let ClientSource::Dynamic(record) = &consent.issuance.client.source {
        let owner = matches!(session.origin, Origin::Langsmith { .. }).then_some(&session.subject);
        app.table
            .reject_client(&session.tenant, session.server, owner, record)
            .await?;
    }
    Ok(())
}

/// The subject refused. A record that is stored stays as it is (TrueFoundry 7.3).
async fn deny(app: &App, session: &Session) -> Result<()> {
    let (tenant, id) = (&session.tenant, session.server);
    for _ in 0..ATTEMPTS {
        let mut keys = Vec::from(record_keys(tenant, id, &session.subject));
        keys.push(server_table::key(tenant, id));
        let found = app.table.read(keys).await?;
        let Some(server) = found.server(tenant, id)? else {
            break;
        };
        let records = found.records(tenant, &server, &session.subject)?;
        if records.grant.is_some() || server.auth_revision != session.auth_revision {
            break;
        }
        let read = records.stored.reason.as_ref();
        let kept = KeptReason {
            subject: session.subject.clone(),
            reason: Reason::ConsentDenied,
            at: app.now(),
            fence: read.and_then(|reason| reason.fence),
        };
        if app.table.deny_session(session, &kept, read).await? {
            return Ok(());
        }
    }
    app.table.fail_session(session, Phase::Exchanging).await
}

/// Stores what was exchanged, or has it revoked.
async fn store(
    app: &App,
    key: &DataKey,
    session: &Session,
    consent: &Consent,
    tokens: token::Tokens,
    client_secret: Option<SecretString>,
    revoking: bool,
) -> Result<Ended> {
    let (tenant, id) = (&session.tenant, session.server);
    let now = app.now();
    let refreshable = tokens.refresh.is_some();
    let granted = tokens.scopes.unwrap_or_default();
    let secret = Tokens {
        access: tokens.access,
        refresh: tokens.refresh,
        client_secret,
    };
    let mut grant = Grant {
        server: id,
        subject: session.subject.clone(),
        auth_revision: session.auth_revision,
        version: new_version(now)?,
        session: session.id.clone(),
        issuance: consent.issuance.clone(),
        scopes: consent
            .scopes
            .iter()
            .cloned()
            .chain(granted)
            .collect::<BTreeSet<_>>(),
        stepped_up: matches!(
            session.origin,
            Origin::Truefoundry {
                besides: Some(_),
                ..
            }
        ),
        obtained_at: now,
        lifetime: tokens.expires_in,
        expires_at: tokens.expires_in.map(|life| now.plus_seconds(life)),
        refreshable,
        last_refresh: None,
        retry_at: None,
        fence: None,
        lease_id: None,
        lease_until: None,
        sealed: grants::seal(
            key,
            tenant,
            id,
            &session.subject,
            &consent.issuance,
            &secret,
        )?,
    };
    let placed = place(app, session, &mut grant, revoking).await;
    if let Ok(true) = placed {
        app.work_appeared.notify_one();
        return Ok(Ended::Connected);
    }
    // Whatever went wrong: what was exchanged is in nobody's hands but ours.
    grants::give_up(app, tenant, &grant, &secret).await;
    placed?;
    fail(app, session).await;
    Ok(Ended::Void)
}

/// Stores a grant as long as its consent stands. Answers whether it is stored.
async fn place(app: &App, session: &Session, grant: &mut Grant, revoking: bool) -> Result<bool> {
    let (tenant, id) = (&session.tenant, session.server);
    let mut outage = None;
    for _ in 0..ATTEMPTS {
        let mut keys = Vec::from(record_keys(tenant, id, &session.subject));
        keys.extend([
            server_table::key(tenant, id),
            sessions::key(tenant, id, &session.id),
        ]);
        let found = match app.table.read(keys).await {
            Ok(found) => found,
            Err(error) => {
                outage = Some(error);
                continue;
            }
        };
        let Some(server) = found.server(tenant, id)? else {
            return Ok(false);
        };
        let records = found.records(tenant, &server, &session.subject)?;
        let stored = &records.stored;
        let own = stored.grant.as_ref();
        if own.is_some_and(|own| own.version == grant.version) {
            // The answer to our own write was lost.
            return Ok(true);
        }
        // An offboarding may have ended the session under us.
        let phase = found.session(tenant, id, &session.id)?.map(|s| s.phase);
        let stands = server.auth_revision == session.auth_revision
            && phase == Some(Phase::Exchanging)
            && !stored.is_fenced(session.at);
        if !stands {
            return Ok(false);
        }
        let fences = [
            stored.reason.as_ref().and_then(|reason| reason.fence),
            own.and_then(|old| old.fence),
        ];
        grant.fence = fences.into_iter().flatten().max();
        let granting = Granting {
            grant,
            replacing: stored,
            revoking,
            session,
        };
        match app.table.put_grant(&granting, app.now()).await {
            Ok(Outcome::Done) => return Ok(true),
            Ok(_) => {}
            Err(error @ Error::Unavailable(_)) => outage = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(outage.unwrap_or(Error::Contended))
}
