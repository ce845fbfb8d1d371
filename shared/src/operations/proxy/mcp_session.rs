//! MCP sessions: the client gets an id of ours, and the table has the server's id, sealed.

use super::fingerprint::{fingerprint, pending_fingerprint};
use crate::domain::caller::Caller;
use crate::domain::event::{Action, Event};
use crate::domain::id::{hash, random};
use crate::domain::mcp_session::{Handshake, MCP_SESSION_LIFETIME, McpPhase, McpSession};
use crate::domain::session::Phase;
use crate::domain::time::Timestamp;
use crate::operations::Permitted;
use crate::operations::consent::parse_session_id;
use crate::operations::credentials::ServerAndRecords;
use crate::operations::servers::data_key;
use crate::seal::Kind;
use crate::state::app::App;
use crate::table::{mcp_sessions, servers as server_table, sessions};
use crate::{Error, Result, mcp};
use data_encoding::BASE64URL_NOPAD;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

/// The longest parameters of an `initialize` that are kept for a session, in bytes.
const MAX_CLIENT_BYTES: usize = 64 << 10;

/// A session at its server.
#[derive(Debug)]
pub struct Upstream {
    /// Its id, if the server gave one.
    pub id: Option<SecretString>,
    /// The revision that its messages name, where it may be another than their client's.
    pub version: Option<String>,
}

/// A new session.
enum NewSession<'a> {
    /// What the server calls it, and what its client said, if that is kept.
    Open(&'a str, Option<&'a str>),
    /// What its client said.
    Pending(&'a str),
}

/// Stores a session that the server has just opened and returns our own id for it. `client` is what its client said in the
/// handshake, if the session may be opened anew with another credential.
///
/// # Errors
/// [`Error::ServerNotFound`] when the server has just gone, [`Error::Contended`] when its authentication has just
/// changed; [`Error::Unavailable`], [`Error::Internal`].
pub async fn keep_session(
    app: &App,
    at: &Permitted<ServerAndRecords>,
    upstream: &str,
    client: Option<&Value>,
) -> Result<SecretString> {
    let said = client.and_then(said);
    let new = NewSession::Open(upstream, said.as_deref());
    add_session(app, at, new, client.unwrap_or(&Value::Null)).await
}

/// Stores a session whose handshake Hawser answers, with what its client said in it; returns our id for it. `None` if the
/// client said more than is kept.
///
/// # Errors
/// As [`keep_session`].
pub async fn begin_session(
    app: &App,
    at: &Permitted<ServerAndRecords>,
    client: &Value,
) -> Result<Option<SecretString>> {
    let Some(said) = said(client) else {
        return Ok(None);
    };
    let new = NewSession::Pending(&said);
    add_session(app, at, new, client).await.map(Some)
}

/// What is kept of what a client said in its handshake.
fn said(client: &Value) -> Option<String> {
    Some(client.to_string()).filter(|said| said.len() <= MAX_CLIENT_BYTES)
}

async fn add_session(
    app: &App,
    at: &Permitted<ServerAndRecords>,
    new: NewSession<'_>,
    client: &Value,
) -> Result<SecretString> {
    let (tenant, found) = (&at.caller.tenant, &at.found);
    let (server, subject) = (&found.server, &found.subject);
    let id = BASE64URL_NOPAD.encode(&random::<32>()?);
    let (id_hash, now) = (hash(&id), app.now());
    let key = data_key(app, tenant, server).await?;
    let seal = |kind, text: &str| key.seal(tenant, server.id, kind, text.as_bytes());
    let seal_said = |said| {
        Ok::<_, Error>(Handshake {
            fingerprint: pending_fingerprint(server)?,
            sealed: seal(Kind::McpClient(&id_hash, subject), said)?,
        })
    };
    let (phase, fingerprint, sealed, handshake) = match new {
        NewSession::Open(upstream, said) => (
            McpPhase::Open,
            fingerprint(server, &found.records)?,
            seal(Kind::McpSession(&id_hash, subject), upstream)?,
            said.map(seal_said).transpose()?,
        ),
        NewSession::Pending(said) => {
            let said = seal_said(said)?;
            (McpPhase::Pending, said.fingerprint, said.sealed, None)
        }
    };
    let session = McpSession {
        tenant: tenant.clone(),
        server: server.id,
        subject: subject.clone(),
        auth_revision: server.auth_revision,
        fingerprint,
        at: now,
        phase,
        opens_urls: mcp::opens_urls(&client["capabilities"]),
        version: None,
        elicitation: None,
        sealed,
        handshake,
        ttl: now.plus_seconds(MCP_SESSION_LIFETIME).seconds(),
        id_hash,
        reopened: false,
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

/// What the client of a pending session said in its handshake.
pub(in crate::operations) async fn client_said(
    app: &App,
    at: &Permitted<ServerAndRecords>,
    session: &McpSession,
) -> Result<Value> {
    let (tenant, server) = (&at.caller.tenant, &at.found.server);
    let kind = Kind::McpClient(&session.id_hash, &session.subject);
    let key = data_key(app, tenant, server).await?;
    let said = key.open(tenant, server.id, kind, &session.sealed)?;
    serde_json::from_slice(&said)
        .map_err(|_| Error::internal("what an MCP client said does not decode"))
}

/// Stores what a pending session is called at the server that has just opened it. Returns `false` if another request has
/// opened or closed it, or the server has just changed.
pub(in crate::operations) async fn keep_opened(
    app: &App,
    at: &Permitted<ServerAndRecords>,
    session: &McpSession,
    upstream: &Upstream,
) -> Result<bool> {
    let (tenant, server) = (&at.caller.tenant, &at.found.server);
    let id = upstream.id.as_ref().map(|id| id.expose_secret());
    let kind = Kind::McpSession(&session.id_hash, &session.subject);
    let key = data_key(app, tenant, server).await?;
    let secret = id.unwrap_or_default().as_bytes();
    let opened = McpSession {
        phase: match id {
            Some(_) => McpPhase::Open,
            None => McpPhase::Unnamed,
        },
        fingerprint: fingerprint(server, &at.found.records)?,
        version: upstream.version.clone(),
        sealed: key.seal(tenant, server.id, kind, secret)?,
        handshake: Some(Handshake {
            fingerprint: pending_fingerprint(server)?,
            sealed: session.sealed.clone(),
        }),
        ..session.clone()
    };
    let event = of_mcp_session(&at.caller, &opened, app.now(), Action::McpSessionOpened)?;
    let before = &session.fingerprint;
    app.table.open_mcp_session(before, &opened, &event).await
}

/// What a session is called at its server that was pending a moment ago, and that another request has opened.
pub(in crate::operations) async fn opened_by_another(
    app: &App,
    at: &Permitted<ServerAndRecords>,
    session: &McpSession,
) -> Result<Upstream> {
    let (tenant, server) = (&at.caller.tenant, &at.found.server);
    let key = mcp_sessions::key(tenant, server.id, &session.id_hash);
    let found = app.table.read(vec![key]).await?;
    let now = found.mcp_session(tenant, server.id, &session.id_hash)?;
    let expected = fingerprint(server, &at.found.records)?;
    match now.filter(|now| now.phase != McpPhase::Pending && now.fingerprint == expected) {
        Some(now) => upstream(app, at, &now).await,
        None => Err(Error::Contended),
    }
}

/// Notes the consent that a session's client was told of, so that an open stream of the session says when it is done.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn note_elicitation(app: &App, session: &McpSession, consent: &str) -> Result<()> {
    if session.elicitation.as_deref() == Some(consent) {
        return Ok(());
    }
    app.table.note_elicitation(session, consent).await
}

/// The consent that a session's client was told of, if it is done, for the stream that the client opens now: it was done while no
/// stream was open. It is told to one stream. Its client may have heard of it before, from the stream that was open.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn take_done_elicitation(
    app: &App,
    at: &Permitted<ServerAndRecords>,
    session: &McpSession,
) -> Result<Option<String>> {
    let Some(consent) = session.elicitation.clone() else {
        return Ok(None);
    };
    let Some((_, id)) = parse_session_id(&consent) else {
        return Ok(None);
    };
    let (tenant, server) = (&at.caller.tenant, at.found.server.id);
    let key = sessions::key(tenant, server, &id);
    let found = app.table.read(vec![key]).await?;
    let read = found.session(tenant, server, &id)?;
    let is_done = read.is_some_and(|one| one.phase == Phase::Completed);
    let taken = is_done && app.table.forget_elicitation(session, &consent).await?;
    Ok(taken.then_some(consent))
}

/// Deletes a session that its client has closed. Returns `false` if it was opened at the server since it was read: that has to be
/// closed first.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn close_session(app: &App, caller: &Caller, session: &McpSession) -> Result<bool> {
    let closed = of_mcp_session(caller, session, app.now(), Action::McpSessionClosed)?;
    if app.table.remove_mcp_session(session, &closed).await? {
        return Ok(true);
    }
    let (tenant, server, id_hash) = (&session.tenant, session.server, &session.id_hash);
    let key = mcp_sessions::key(tenant, server, id_hash);
    let found = app.table.read(vec![key]).await?;
    Ok(found.mcp_session(tenant, server, id_hash)?.is_none())
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

/// The id of a session that is open at its server.
pub(in crate::operations) async fn upstream(
    app: &App,
    at: &Permitted<ServerAndRecords>,
    session: &McpSession,
) -> Result<Upstream> {
    let (tenant, server) = (&at.caller.tenant, &at.found.server);
    let version = session.version.clone();
    if session.phase == McpPhase::Unnamed {
        return Ok(Upstream { id: None, version });
    }
    let kind = Kind::McpSession(&session.id_hash, &session.subject);
    let key = data_key(app, tenant, server).await?;
    let id = key.open(tenant, server.id, kind, &session.sealed)?;
    let id =
        std::str::from_utf8(&id).map_err(|_| Error::internal("an MCP session id is not UTF-8"))?;
    Ok(Upstream {
        id: Some(id.into()),
        version,
    })
}
