//! Forwards calls to MCP servers: attaches the stored credential and interprets the response (MCP authorization 8).
//!
//! A call carries the first of these credentials that exists: the subject's override, its grant, the server's own
//! headers. The caller's own credentials are never forwarded. If the server refuses a token, the token is replaced once
//! and the call repeated once; nothing else is ever sent twice.

use super::call_limits::Place as CallPlace;
use super::clients::Settings;
use super::credentials::{AtServer, open_override};
use super::grants::{self, GrantAccess, TokenRequirement};
use super::servers::{data_key, open_with};
use super::{Permitted, Unchecked};
use crate::app::App;
use crate::caller::{Caller, Presented};
use crate::domain::address::without_query;
use crate::domain::credential::{Grant, OverrideValue, Records, RefreshOutcome};
use crate::domain::error::Unauthenticated;
use crate::domain::event::{Action, Event, Who};
use crate::domain::id::{ServerId, TenantId, hash, random};
use crate::domain::issuance::{Client, ClientAuth, ClientSource};
use crate::domain::mcp_session::{MCP_SESSION_LIFETIME, McpSession};
use crate::domain::server::{
    Auth, AuthLevel, GrantType, HeaderSpec, OauthConfig, Place, Secrets, Server, placeholder,
};
use crate::domain::status::{Reason, Status, status};
use crate::domain::subject::Subject;
use crate::domain::time::{Clock, Timestamp};
use crate::egress::coding::Decoder;
use crate::egress::{self, Failure, HOPS_HEADER, Outgoing, TOTAL_TIMEOUT};
use crate::mcp::SESSION_HEADER;
use crate::oauth::challenge;
use crate::oauth::token::{self, Class, Credentials, Endpoint};
use crate::seal::Kind;
use crate::table::{Table, mcp_sessions, servers as server_table};
use crate::{Error, Result};
use data_encoding::BASE64URL_NOPAD;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response};
use secrecy::{ExposeSecret, SecretString};
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;

/// The minimum age, in seconds, of a refreshed token that is replaced because a server refuses it. A server that
/// refuses one token likely refuses the next, too, and without this limit every call would ask the issuer.
const MIN_REFRESH_INTERVAL_SECONDS: i64 = 30;

/// The maximum number of entries of each in-memory cache.
const MAX_CACHE_ENTRIES: usize = 10_000;

/// How a call names its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// By its id, in either spelling.
    Id(ServerId),
    /// By its number.
    Number(u64),
    /// By its name.
    Name(String),
}

impl Target {
    /// Reads `mcp-<ULID>`, a UUID or a number; anything else is a name.
    pub fn parse(text: &str) -> Self {
        let id = ServerId::parse_prefixed(text).or_else(|| ServerId::parse_uuid(text));
        let digits = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
        let number = || text.parse().ok().filter(|_| digits).map(Self::Number);
        let name = || Self::Name(text.to_owned());
        id.map(Self::Id).or_else(number).unwrap_or_else(name)
    }
}

/// A server with what the caller has there, and the session that the call names.
#[derive(Debug)]
pub struct AtCall {
    /// The server and the caller's records.
    pub at: AtServer,
    /// The session of that id, whoever it belongs to.
    pub session: Option<McpSession>,
}

impl AtCall {
    /// The session, if the caller may go on with it.
    ///
    /// # Errors
    /// [`Error::Internal`].
    pub fn live_session(&self, now: Timestamp) -> Result<Option<&McpSession>> {
        let Some(session) = &self.session else {
            return Ok(None);
        };
        let fingerprint = fingerprint(&self.at.server, &self.at.records)?;
        Ok(Some(session).filter(|session| session.serves(&self.at.subject, &fingerprint, now)))
    }
}

/// In-memory caches of a process. They only save requests.
#[derive(Default)]
pub(crate) struct ProcessCache {
    /// The subjects of API keys. Only predicts which items to read: each request authenticates its key again.
    keys: Mutex<HashMap<(TenantId, String), Subject>>,
    /// Tokens of the client credentials grant, by server.
    tokens: Mutex<HashMap<(TenantId, ServerId), ClientCredentialsToken>>,
    /// Origins whose servers want sessions (MCP authorization row 43).
    pub(super) with_sessions: Mutex<HashMap<String, ()>>,
}

/// A token from the client credentials grant of a server's own client.
#[derive(Clone)]
struct ClientCredentialsToken {
    /// The settings it was obtained with.
    fingerprint: String,
    token: SecretString,
    until: Option<Timestamp>,
    /// When it replaced one that was refused.
    replaced_at: Option<Timestamp>,
}

pub(super) fn locked<K, V>(map: &Mutex<HashMap<K, V>>) -> MutexGuard<'_, HashMap<K, V>> {
    let mut map = map.lock().unwrap_or_else(PoisonError::into_inner);
    if map.len() >= MAX_CACHE_ENTRIES {
        map.clear();
    }
    map
}

/// Reads all that a call needs, in one round trip; a number, a name and an API key that is new here cost one more.
///
/// # Errors
/// [`Error::Unauthenticated`], [`Error::Unavailable`], [`Error::Internal`].
pub async fn find(
    app: &App,
    who: Presented,
    target: &Target,
    session: Option<&str>,
) -> Result<Unchecked<Option<AtCall>>> {
    let tenant = who.tenant().clone();
    let (id, caller) = match target {
        Target::Id(id) => (Some(*id), None),
        Target::Number(number) => {
            let key = server_table::number_key(&tenant, *number);
            let (caller, found) = app.read_as(who.clone(), vec![key]).await?;
            let numbered = found.numbered(&tenant, *number)?;
            (numbered.map(|one| one.id), Some(caller))
        }
        Target::Name(name) => {
            let key = server_table::name_key(&tenant, name);
            let (caller, found) = app.read_as(who.clone(), vec![key]).await?;
            (found.named(&tenant, name)?, Some(caller))
        }
    };
    let Some(id) = id else {
        let caller = match caller {
            Some(caller) => caller,
            None => app.identify(who).await?,
        };
        refuse_unbound(app, &caller, None).await?;
        return Ok(Unchecked::new(caller, None));
    };
    let known = match (&caller, who.subject()) {
        (Some(caller), _) => Some(caller.subject().clone()),
        (None, Ok(subject)) => Some(subject.clone()),
        (None, Err(key)) => locked(&app.process_cache.keys)
            .get(&(tenant.clone(), key.to_owned()))
            .cloned(),
    };
    let subject = match known {
        Some(subject) => subject,
        None => app.identify(who.clone()).await?.subject().clone(),
    };
    let mut keys = AtServer::keys(&tenant, id, &subject);
    let session = session.map(hash);
    keys.extend(
        session
            .iter()
            .map(|hash| mcp_sessions::key(&tenant, id, hash)),
    );
    let (caller, found) = app.read_as(who.clone(), keys).await?;
    if *caller.subject() != subject {
        return Err(Error::internal("an API key now has another subject"));
    }
    if let Err(key) = who.subject() {
        locked(&app.process_cache.keys).insert((tenant.clone(), key.to_owned()), subject.clone());
    }
    let at = AtServer::from_found(&found, &tenant, id, &subject)?;
    refuse_unbound(app, &caller, at.as_ref().map(|at| &at.server)).await?;
    let Some(at) = at else {
        return Ok(Unchecked::new(caller, None));
    };
    let session = session
        .map(|hash| found.mcp_session(&tenant, id, &hash))
        .transpose()?
        .flatten();
    Ok(Unchecked::new(caller, Some(AtCall { at, session })))
}

/// Refuses a credential that is bound to a connection which is gone (Kambrium 15). `server` is what the call names.
async fn refuse_unbound(app: &App, caller: &Caller, server: Option<&Server>) -> Result<()> {
    let elsewhere = |number: &u64| server.is_none_or(|server| server.number != *number);
    let Some(number) = caller.bound_to.filter(elsewhere) else {
        return Ok(());
    };
    let key = server_table::number_key(&caller.tenant, number);
    let found = app.table.read(vec![key]).await?;
    match found.numbered(&caller.tenant, number)? {
        Some(_) => Ok(()),
        None => Err(Unauthenticated::InvalidToken.into()),
    }
}

/// A hash of everything that a subject's calls to a server depend on. It changes when their target or their credential
/// changes, or when the server was switched off.
fn fingerprint(server: &Server, records: &Records) -> Result<String> {
    let off = server.connection.times_off;
    Ok(hash(&format!(
        "{off} {}",
        outbound_fingerprint(server, records)?
    )))
}

/// A hash of the target and the credential of a subject's calls to a server. It changes with the server's address, its
/// authentication, any of its secrets and the subject's credential, but not when a grant is refreshed.
pub(super) fn outbound_fingerprint(server: &Server, records: &Records) -> Result<String> {
    let credential = match (&records.header_override, &records.grant) {
        (Some(own), _) => own.version.as_str(),
        (None, Some(grant)) => grant.session.as_str(),
        (None, None) => "",
    };
    let all = (
        server.auth_revision,
        &server.url,
        &server.auth,
        &server.additional_headers,
        &server.secrets,
        credential,
    );
    serde_json::to_string(&all)
        .map(|text| hash(&text))
        .map_err(|_| Error::internal("a server could not be serialized"))
}

/// A call to forward.
pub struct Call {
    /// The caller, for the audit events of the call.
    pub who: Who,
    /// Its method.
    pub method: Method,
    /// Its headers: those that may pass.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
    /// The server's id of the session that it belongs to.
    pub session: Option<SecretString>,
    /// How many Hawsers it has come through before this one.
    pub hops: u8,
    /// Whether to detect that the server requires a session: some report this with the status of missing credentials.
    pub probes: bool,
    /// The deadline for the start of the response; none for tools.
    pub end: Option<Instant>,
}

impl Call {
    /// How long a call may wait for a refresh by another caller. Its own refresh is never cancelled, so it must not
    /// start one that might not complete in time.
    fn max_refresh_wait(&self) -> Duration {
        self.end.map_or(grants::MAX_REFRESH_WAIT, |end| {
            let left = end.saturating_duration_since(Instant::now());
            left.saturating_sub(TOTAL_TIMEOUT)
        })
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

/// Why a call got no response from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The server wants the caller's own token, which goes nowhere.
    Passthrough,
    /// There is no credential that could be used.
    NoCredential(Reason),
    /// The server has refused what the call carried.
    NotAccepted {
        /// Whether a new consent may help.
        consent_helps: bool,
    },
    /// The server wants a token for more.
    ScopeInsufficient {
        /// The additional scopes that a new consent has to ask for, if one may help.
        additional_scopes: Option<Vec<String>>,
    },
    /// The server cannot be reached, or must not be, or does not answer in time.
    Unreachable,
    /// The server does not answer itself, but names another address: without what may be secret there.
    Redirected(Option<String>),
    /// The server requires a session; only for calls with `probes`.
    WantsSession,
}

/// The credential of a call, and its source.
struct PreparedCall {
    /// The server's whole address, which may hold secrets.
    address: SecretString,
    headers: HeaderMap,
    from: CredentialSource,
    /// When its token was last replaced, not counting consents.
    replaced_at: Option<Timestamp>,
}

#[derive(Clone, Debug)]
enum CredentialSource {
    /// An override or static headers: only their owner can replace them.
    Fixed,
    /// The grant of this version.
    Grant(String),
    /// The server's own client.
    Client,
}

/// Forwards a call with the caller's stored credential; returns as soon as the response has begun.
///
/// # Errors
/// [`Error::ServerNotFound`] when the server has just gone; [`Error::Unavailable`], [`Error::Internal`].
pub async fn forward(
    app: &App,
    tenant: &TenantId,
    at: &AtServer,
    call: Call,
) -> Result<Result<Response, Refusal>> {
    let mut refused = None;
    loop {
        let prepared = match attach_credential(app, tenant, at, refused.as_ref(), &call).await? {
            Ok(prepared) => prepared,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let request = Outgoing {
            method: call.method.clone(),
            url: prepared.address.expose_secret(),
            headers: outgoing(&call, prepared.headers),
            body: call.body.clone(),
        };
        let answer = app.egress.open(request);
        let answer = match call.end {
            Some(end) => timeout_at(end, answer)
                .await
                .unwrap_or(Err(Failure::Unreachable)),
            None => answer.await,
        };
        let Ok(answer) = answer else {
            return Ok(Err(Refusal::Unreachable));
        };
        let from = prepared.from;
        let consent_helps = matches!(from, CredentialSource::Grant(_));
        let lately = |at: Timestamp| app.now() < at.plus_seconds(MIN_REFRESH_INTERVAL_SECONDS);
        let replaceable = !matches!(from, CredentialSource::Fixed)
            && !prepared.replaced_at.is_some_and(lately)
            && !call.max_refresh_wait().is_zero();
        let status = answer.status().as_u16();
        let answer = match status {
            401 | 403 if call.probes => match session_wanted(answer, call.end).await {
                Ok(()) => return Ok(Err(Refusal::WantsSession)),
                Err(answer) => answer,
            },
            _ => answer,
        };
        match status {
            // The answer may have taken its time.
            401 if refused.is_none() && replaceable && is_unchanged(app, tenant, at).await? => {
                refused = Some(from);
            }
            401 => return Ok(Err(Refusal::NotAccepted { consent_helps })),
            403 => {
                let Some(wanted) = wants_more(answer.headers()) else {
                    return Ok(Ok(answer));
                };
                let grant = at.records.grant.as_ref().filter(|_| consent_helps);
                let additional_scopes = grant.and_then(|grant| step_up(grant, wanted));
                return Ok(Err(Refusal::ScopeInsufficient { additional_scopes }));
            }
            // What the call carries belongs to nowhere else.
            100..=199 | 300..=399 => {
                let to = egress::leads_to(&answer);
                warn!(
                    tenant = tenant.as_str(),
                    server = ?at.server.id,
                    status,
                    to,
                    "MCP server answered a call with a redirect"
                );
                return Ok(Err(Refusal::Redirected(to)));
            }
            _ => return Ok(Ok(answer)),
        }
    }
}

/// Whether a refusal is about a missing session: there is no challenge, and its body mentions a session. Otherwise
/// returns the response, with the rest of its body.
async fn session_wanted(mut answer: Response, end: Option<Instant>) -> Result<(), Response> {
    const MAX_INSPECTED_BYTES: usize = 16 << 10;
    let end = end.unwrap_or_else(|| Instant::now() + TOTAL_TIMEOUT);
    if challenge::bearer(answer.headers()).is_some() {
        return Err(answer);
    }
    let mut decoder = Decoder::of(answer.headers()).unwrap_or_default();
    let mut body = Vec::new();
    while let Ok(Ok(Some(mut piece))) = timeout_at(end, answer.chunk()).await {
        if let Some(decoder) = &mut decoder {
            match decoder.push(piece, MAX_INSPECTED_BYTES) {
                Ok(decoded) => piece = decoded,
                Err(_) => break,
            }
        }
        body.extend_from_slice(&piece);
        if body.len() > MAX_INSPECTED_BYTES {
            break;
        }
    }
    let text = String::from_utf8_lossy(&body).to_ascii_lowercase();
    if text.contains("session") {
        Ok(())
    } else {
        Err(answer)
    }
}

/// Whether the fingerprint of a call is still the same.
async fn is_unchanged(app: &App, tenant: &TenantId, at: &AtServer) -> Result<bool> {
    match AtServer::load(&app.table, tenant, at.server.id, &at.subject).await? {
        Some(now) => {
            Ok(fingerprint(&now.server, &now.records)? == fingerprint(&at.server, &at.records)?)
        }
        None => Ok(false),
    }
}

/// The scopes that a server wants, possibly unnamed, if it refuses for want of them.
fn wants_more(headers: &HeaderMap) -> Option<Vec<String>> {
    let challenge = challenge::bearer(headers)?;
    let insufficient = challenge.error.as_deref() == Some("insufficient_scope");
    insufficient.then(|| challenge.scopes.unwrap_or_default())
}

/// The union of what a grant was asked for and what is wanted (MCP authorization row 18). Nothing if that has been asked for
/// already, because the grant before this one was refused: another consent would end like the last.
fn step_up(grant: &Grant, wanted: Vec<String>) -> Option<Vec<String>> {
    let is_new = wanted.iter().any(|scope| !grant.scopes.contains(scope));
    let held = grant.scopes.iter().cloned();
    let union: BTreeSet<String> = held.chain(wanted).collect();
    (is_new || !grant.stepped_up).then(|| union.into_iter().collect())
}

/// The headers of a call with those it carries: these replace any of the same name, but what the transport sets itself
/// stays (LangSmith 1.5).
fn outgoing(call: &Call, prepared: HeaderMap) -> HeaderMap {
    let mut headers = call.headers.clone();
    headers.remove(SESSION_HEADER);
    for (name, value) in prepared.iter() {
        let text = name.as_str();
        let of_transport = matches!(
            text,
            "accept"
                | "content-type"
                | "last-event-id"
                | "mcp-method"
                | "mcp-name"
                | "mcp-protocol-version"
                | "mcp-session-id"
        );
        let of_connection = text.starts_with("proxy-")
            || matches!(
                text,
                "host"
                    | "content-length"
                    | "connection"
                    | "keep-alive"
                    | "te"
                    | "trailer"
                    | "transfer-encoding"
                    | "upgrade"
            )
            || *name == HOPS_HEADER;
        let taken = of_transport && (headers.contains_key(name) || *name == SESSION_HEADER);
        if !taken && !of_connection {
            headers.insert(name.clone(), value.clone());
        }
    }
    let hops = call.hops.saturating_add(1);
    headers.insert(HOPS_HEADER, HeaderValue::from(u16::from(hops)));
    let session = call.session.as_ref().map(|id| id.expose_secret());
    if let Some(Ok(mut id)) = session.map(HeaderValue::from_str) {
        id.set_sensitive(true);
        headers.insert(SESSION_HEADER, id);
    }
    headers
}

/// Attaches the credential of a call. `refused` is the one that the server has just refused; it is replaced if
/// possible.
async fn attach_credential(
    app: &App,
    tenant: &TenantId,
    at: &AtServer,
    refused: Option<&CredentialSource>,
    call: &Call,
) -> Result<Result<PreparedCall, Refusal>> {
    let server = &at.server;
    if server.auth == Auth::Passthrough {
        return Ok(Err(Refusal::Passthrough));
    }
    let key = data_key(app, tenant, server).await?;
    let secrets = open_with(&key, tenant, server)?;
    let mut headers = HeaderMap::new();
    for name in server.additional_headers.iter().flatten() {
        if let Some(value) = secrets.get(Place::AdditionalHeader(name)) {
            insert_header(&mut headers, name, value)?;
        }
    }
    let own = match &at.records.header_override {
        Some(own) => Some(open_override(app, tenant, server, own).await?),
        None => None,
    };
    let (mut from, mut replaced_at) = (CredentialSource::Fixed, None);
    let refusal = match &server.auth {
        Auth::None | Auth::LegacyProvider { .. } | Auth::Passthrough => None,
        Auth::Headers {
            level,
            headers: specs,
        } => insert_server_headers(&mut headers, *level, specs, &secrets, own.as_ref())?
            .then(|| missing_override_reason(app, at)),
        Auth::Oauth(oauth) => {
            let value = match (&own, oauth.grant_type) {
                (Some(OverrideValue::Header(value)), _) => Ok(value.clone()),
                (Some(OverrideValue::KeyValue(_)), _) => {
                    return Err(Error::internal(
                        "an override does not match its server's authentication",
                    ));
                }
                (None, GrantType::ClientCredentials) => {
                    from = CredentialSource::Client;
                    client_credentials_token(
                        app,
                        tenant,
                        server,
                        oauth,
                        &secrets,
                        refused.is_some(),
                    )
                    .await?
                    .map(|own| {
                        replaced_at = own.replaced_at;
                        bearer(own.token)
                    })
                }
                (None, GrantType::AuthorizationCode) => {
                    match grant(app, tenant, at, refused, call).await? {
                        GrantAccess::Token { token, grant } => {
                            let refreshed = grant.last_refresh == Some(RefreshOutcome::Succeeded);
                            replaced_at = refreshed.then_some(grant.obtained_at);
                            from = CredentialSource::Grant(grant.version);
                            Ok(bearer(token))
                        }
                        GrantAccess::Unavailable(reason) => Err(reason),
                    }
                }
            };
            match value {
                Ok(value) => {
                    insert_header(&mut headers, AUTHORIZATION.as_str(), value.expose_secret())?;
                    None
                }
                Err(reason) => Some(reason),
            }
        }
    };
    Ok(match refusal {
        None => Ok(PreparedCall {
            address: secrets.address(server).into(),
            headers,
            from,
            replaced_at,
        }),
        Some(reason) => Err(Refusal::NoCredential(reason)),
    })
}

/// The reason for a missing override.
fn missing_override_reason(app: &App, at: &AtServer) -> Reason {
    match status(&at.server, &at.records, app.now()) {
        Status::Required { reason, .. } => reason,
        _ => Reason::NeverConnected,
    }
}

fn bearer(token: SecretString) -> SecretString {
    format!("Bearer {}", token.expose_secret()).into()
}

/// Adds a stored header; it replaces one of the same name. Outer blanks are not part of a value on the wire.
fn insert_header(headers: &mut HeaderMap, name: &str, value: &str) -> Result<()> {
    let unusable = || Error::internal("a stored header is invalid");
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unusable())?;
    let mut value =
        HeaderValue::from_str(value.trim_matches([' ', '\t'])).map_err(|_| unusable())?;
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(())
}

/// Adds a server's headers, unless a subject's override replaces them (TrueFoundry 6.2). Returns whether a required
/// override is missing.
fn insert_server_headers(
    headers: &mut HeaderMap,
    level: AuthLevel,
    specs: &[HeaderSpec],
    secrets: &Secrets,
    own: Option<&OverrideValue>,
) -> Result<bool> {
    if level == AuthLevel::PerUser && own.is_none() {
        return Ok(true);
    }
    for spec in specs {
        let filled = spec.template.as_deref().map(|text| fill(text, own));
        match (filled, secrets.get(Place::Header(&spec.name))) {
            (Some(value), _) => insert_header(headers, &spec.name, value?.expose_secret())?,
            (None, Some(value)) => insert_header(headers, &spec.name, value)?,
            (None, None) => return Err(Error::internal("a header has no value")),
        }
    }
    if let (AuthLevel::Global, Some(own)) = (level, own) {
        let OverrideValue::Header(value) = own else {
            return Err(Error::internal(
                "an override does not match its server's authentication",
            ));
        };
        let name = match specs {
            [only] => only.name.as_str(),
            _ => AUTHORIZATION.as_str(),
        };
        insert_header(headers, name, value.expose_secret())?;
    }
    Ok(false)
}

/// A template with the override's value in the place of its parameter.
fn fill(template: &str, own: Option<&OverrideValue>) -> Result<SecretString> {
    let unfit = || Error::internal("an override does not match its server's authentication");
    let (before, name, after) = placeholder(template).ok_or_else(unfit)?;
    let value = match own.ok_or_else(unfit)? {
        OverrideValue::Header(value) => value,
        OverrideValue::KeyValue(values) => values.get(name).ok_or_else(unfit)?,
    };
    Ok(format!("{before}{}{after}", value.expose_secret()).into())
}

/// The access token of the caller's grant. A valid one that was just read is used without reading it again.
async fn grant(
    app: &App,
    tenant: &TenantId,
    at: &AtServer,
    refused: Option<&CredentialSource>,
    call: &Call,
) -> Result<GrantAccess> {
    let AtServer {
        server,
        subject,
        records,
    } = at;
    let requirement = match refused {
        Some(CredentialSource::Grant(version)) => TokenRequirement::OtherThan(version),
        _ => {
            let now = app.now();
            match (status(server, records, now), &records.grant) {
                (Status::Required { reason, .. }, None) => {
                    return Ok(GrantAccess::Unavailable(reason));
                }
                (Status::Authenticated(_), Some(grant))
                    if !grant.is_expired(now) && !grant.due_for_refresh(now) =>
                {
                    return grants::token_of(app, tenant, server, Box::new(grant.clone())).await;
                }
                _ => TokenRequirement::Valid,
            }
        }
    };
    let (id, max_refresh_wait) = (server.id, call.max_refresh_wait());
    let usable = grants::access(
        app,
        tenant,
        &call.who,
        id,
        subject,
        requirement,
        max_refresh_wait,
    )
    .await?;
    // Meanwhile the server may have moved and the subject consented anew: that token is for another address than the one
    // that this call goes to.
    let is_ours = |new: &Grant| {
        records.grant.as_ref().is_some_and(|read| {
            read.session == new.session
                && read.auth_revision == new.auth_revision
                && read.issuance == new.issuance
        })
    };
    Ok(match usable {
        GrantAccess::Token { grant, .. } if !is_ours(&grant) => {
            GrantAccess::Unavailable(Reason::ServerChanged)
        }
        usable => usable,
    })
}

/// The token of a server's own client, from the cache unless it has expired or was refused.
async fn client_credentials_token(
    app: &App,
    tenant: &TenantId,
    server: &Server,
    oauth: &OauthConfig,
    secrets: &Secrets,
    refused: bool,
) -> Result<Result<ClientCredentialsToken, Reason>> {
    const MARGIN: i64 = 60;
    let (place, fingerprint) = (
        (tenant.clone(), server.id),
        fingerprint(server, &Records::default())?,
    );
    if !refused {
        let known = locked(&app.process_cache.tokens).get(&place).cloned();
        let good = |one: &ClientCredentialsToken| {
            one.fingerprint == fingerprint && one.until.is_none_or(|until| app.now() < until)
        };
        if let Some(one) = known.filter(good) {
            return Ok(Ok(one));
        }
    }
    let (Some(url), Some(id)) = (&oauth.token_url, &oauth.client_id) else {
        return Err(Error::internal("client credentials without a client"));
    };
    let settings = Settings::configured(oauth, secrets);
    if settings.require_allowed_at(app, tenant, url).is_err() {
        return Ok(Err(Reason::RefreshFailed));
    }
    let ways = vec![settings.token_auth.unwrap_or(ClientAuth::Basic)];
    let client = Client::new(id.clone(), ways, ClientSource::PreRegistered);
    let endpoint = Endpoint {
        url,
        credentials: Credentials {
            client: &client,
            secret: settings.client_secret.as_ref(),
        },
        resource: (oauth.include_resource != Some(false)).then_some(without_query(&server.url)),
        extra: &settings.token_params,
    };
    let scopes = oauth.scopes.as_deref().unwrap_or_default();
    match token::client_credentials(&app.egress, &endpoint, scopes).await {
        Ok(tokens) => {
            let until = tokens.expires_in.map(|life| {
                let margin = MARGIN.min(life / 3);
                app.now().plus_seconds(life - margin)
            });
            let one = ClientCredentialsToken {
                fingerprint,
                token: tokens.access,
                until,
                replaced_at: refused.then(|| app.now()),
            };
            locked(&app.process_cache.tokens).insert(place, one.clone());
            Ok(Ok(one))
        }
        Err(failure) => {
            locked(&app.process_cache.tokens).remove(&place);
            warn!(
                tenant = tenant.as_str(),
                server = ?server.id,
                status = failure.status,
                error = failure.word,
                "client credentials token request failed"
            );
            Ok(Err(match failure.class {
                Class::InvalidClient => Reason::InvalidClient,
                _ => Reason::RefreshFailed,
            }))
        }
    }
}

/// Stores a session that the server has just opened and returns our own id for it.
///
/// # Errors
/// [`Error::ServerNotFound`] when the server has just gone, [`Error::Contended`] when its authentication has just
/// changed; [`Error::Unavailable`], [`Error::Internal`].
pub async fn keep_session(
    app: &App,
    at: &Permitted<AtServer>,
    upstream: &str,
) -> Result<SecretString> {
    let (
        tenant,
        AtServer {
            server,
            subject,
            records,
        },
    ) = (&at.caller.tenant, &at.found);
    let id = BASE64URL_NOPAD.encode(&random::<32>()?);
    let (id_hash, now) = (hash(&id), app.now());
    let kind = Kind::McpSession(&id_hash, subject);
    let key = data_key(app, tenant, server).await?;
    let session = McpSession {
        tenant: tenant.clone(),
        server: server.id,
        subject: subject.clone(),
        auth_revision: server.auth_revision,
        fingerprint: fingerprint(server, records)?,
        at: now,
        sealed: key.seal(tenant, server.id, kind, upstream.as_bytes())?,
        ttl: now.plus_seconds(MCP_SESSION_LIFETIME).seconds(),
        id_hash,
    };
    let opened = of_mcp_session(&at.caller, &session, now, Action::McpSessionOpened)?;
    if app.table.add_mcp_session(&session, &opened).await? {
        return Ok(id.into());
    }
    let found = app
        .table
        .read(vec![server_table::key(tenant, server.id)])
        .await?;
    match found.server(tenant, server.id)? {
        None => Err(Error::ServerNotFound),
        Some(_) => Err(Error::Contended),
    }
}

/// Deletes a session that its client has closed.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn close_session(app: &App, caller: &Caller, session: &McpSession) -> Result<()> {
    let closed = of_mcp_session(caller, session, app.now(), Action::McpSessionClosed)?;
    app.table.remove_mcp_session(session, &closed).await
}

fn of_mcp_session(
    caller: &Caller,
    session: &McpSession,
    now: Timestamp,
    action: Action,
) -> Result<Event> {
    let event = Event::new(now, &session.tenant, caller, action)?;
    Ok(event.at(session.server).of(&session.subject))
}

/// The server's own id of a session.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn upstream_session(
    app: &App,
    at: &Permitted<AtServer>,
    session: &McpSession,
) -> Result<SecretString> {
    let (tenant, server) = (&at.caller.tenant, &at.found.server);
    let kind = Kind::McpSession(&session.id_hash, &session.subject);
    let key = data_key(app, tenant, server).await?;
    let id = key.open(tenant, server.id, kind, &session.sealed)?;
    std::str::from_utf8(&id)
        .map(SecretString::from)
        .map_err(|_| Error::internal("an MCP session id is not UTF-8"))
}

/// Watches that a call stays permitted, from before it is sent until its response has ended.
#[derive(Debug)]
pub struct Watch {
    table: Table,
    clock: Clock,
    every: Duration,
    who: Presented,
    server: ServerId,
    subject: Subject,
    fingerprint: String,
    _turn: OwnedSemaphorePermit,
    _place: CallPlace,
}

impl Watch {
    /// Watches a call that was made with these credentials.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when too many are under way, of this tenant, at this server or in all; [`Error::Internal`].
    pub fn new(app: &App, who: Presented, at: &AtServer) -> Result<Self> {
        let too_many = || Error::Unavailable("too many calls are open".to_owned());
        let place = app.call_limits.take(who.tenant(), at.server.id);
        let turn = app.calls.clone().try_acquire_owned();
        Ok(Self {
            _place: place.ok_or_else(too_many)?,
            _turn: turn.map_err(|_| too_many())?,
            table: app.table.clone(),
            clock: app.clock.clone(),
            every: app.stream_check,
            who,
            server: at.server.id,
            subject: at.subject.clone(),
            fingerprint: fingerprint(&at.server, &at.records)?,
        })
    }

    /// Resolves when the call is no longer permitted.
    pub async fn until_revoked(self) {
        loop {
            sleep(self.every).await;
            // While the store is unavailable, nobody can be disconnected either.
            if let Ok(None) = self.revalidate().await {
                return;
            }
        }
    }

    /// The current server, if the caller, the server and the credential are still valid and unchanged.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn revalidate(&self) -> Result<Option<Server>> {
        let tenant = self.who.tenant();
        let mut keys = AtServer::keys(tenant, self.server, &self.subject);
        self.who.required_keys(&mut keys);
        let found = self.table.read(keys).await?;
        match self.who.clone().authenticate(&found, self.clock.now()) {
            Err(Error::Unauthenticated(_)) => return Ok(None),
            authenticated => authenticated?,
        };
        match AtServer::from_found(&found, tenant, self.server, &self.subject)? {
            Some(at) if fingerprint(&at.server, &at.records)? == self.fingerprint => {
                Ok(Some(at.server))
            }
            _ => Ok(None),
        }
    }
}
