//! The address of the page that starts a consent: where its session is, and the secret that proves that the address was given by
//! us. And the name of a session for clients, without that secret.

use crate::domain::id::{ServerId, Sortable, TenantId, hash};
use crate::domain::session::Session;
use crate::seal::DataKey;
use data_encoding::BASE64URL_NOPAD;
use secrecy::{ExposeSecret, SecretString};

/// The path of our own page that starts a consent.
pub const START_PATH: &str = "/oauth/start";

/// The key of a session, and the hash of the secret that proves that the request was sent by us.
pub(super) struct Ticket {
    pub(super) tenant: TenantId,
    pub(super) server: ServerId,
    pub(super) session: String,
    pub(super) secret_hash: String,
}

/// A ticket's text: the tenant, server and session that it leads to, and its secret; and the hash of that.
pub(super) fn ticket(
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
pub(super) fn address(key: &DataKey, session: &Session) -> (SecretString, String) {
    let (tenant, server) = (&session.tenant, session.server);
    let secret = key.address_secret(tenant, server, &session.id);
    let (ticket, secret_hash) = ticket(tenant, server, &session.id, &secret);
    let base = session.origin.base();
    let url = format!("{base}{START_PATH}?session={}", ticket.expose_secret());
    (url.into(), secret_hash)
}

impl Ticket {
    pub(super) fn parse(text: &str) -> Option<Self> {
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
