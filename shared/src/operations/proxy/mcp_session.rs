//! Sessions of MCP: the client knows an id of ours, the table has the server's own, sealed.

use super::fingerprint::{fingerprint, without_credential};
use crate::domain::caller::Caller;
use crate::domain::event::{Action, Event};
use crate::domain::id::{hash, random};
use crate::domain::mcp_session::{MCP_SESSION_LIFETIME, McpPhase, McpSession};
use crate::domain::time::Timestamp;
use crate::mcp;
use crate::operations::Permitted;
use crate::operations::credentials::AtServer;
use crate::operations::servers::data_key;
use crate::operations::tools::Failure;
use crate::operations::tools::mcp_client::McpClient;
use crate::seal::Kind;
use crate::state::app::App;
use crate::table::{mcp_sessions, servers as server_table};
use crate::{Error, Result};
use data_encoding::BASE64URL_NOPAD;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

/// The longest parameters of an `initialize` that are kept for a session, in bytes.
const MAX_CLIENT_BYTES: usize = 64 << 10;

/// What a session is called at its server.
#[derive(Debug)]
pub struct Upstream {
    /// Its id, if the server gave one.
    pub id: Option<SecretString>,
    /// The revision that its messages name, where it may be another than their client's.
    pub version: Option<String>,
}

/// What is stored of a new session.
struct NewSession<'a> {
    phase: McpPhase,
    opens_urls: bool,
    secret: &'a [u8],
}

/// Stores a session that the server has just opened and returns our own id for it. `opens_urls` says whether its client
/// opens addresses for people.
///
/// # Errors
/// [`Error::ServerNotFound`] when the server has just gone, [`Error::Contended`] when its authentication has just
/// changed; [`Error::Unavailable`], [`Error::Internal`].
pub async fn keep_session(
    app: &App,
    at: &Permitted<AtServer>,
    upstream: &str,
    opens_urls: bool,
) -> Result<SecretString> {
    let new = NewSession {
        phase: McpPhase::Open,
        opens_urls,
        secret: upstream.as_bytes(),
    };
    add_session(app, at, new).await
}

/// Stores a session whose handshake Hawser answers, with what its client said in it; returns our id for it. `None` if the
/// client said more than is kept.
///
/// # Errors
/// As [`keep_session`].
pub async fn begin_session(
    app: &App,
    at: &Permitted<AtServer>,
    client: &Value,
) -> Result<Option<SecretString>> {
    let said = client.to_string();
    if said.len() > MAX_CLIENT_BYTES {
        return Ok(None);
    }
    let new = NewSession {
        phase: McpPhase::Pending,
        opens_urls: mcp::opens_urls(&client["capabilities"]),
        secret: said.as_bytes(),
    };
    add_session(app, at, new).await.map(Some)
}

async fn add_session(
    app: &App,
    at: &Permitted<AtServer>,
    new: NewSession<'_>,
) -> Result<SecretString> {
    let (tenant, found) = (&at.caller.tenant, &at.found);
    let (server, subject) = (&found.server, &found.subject);
    let id = BASE64URL_NOPAD.encode(&random::<32>()?);
    let (id_hash, now) = (hash(&id), app.now());
    let (kind, fingerprint) = match new.phase {
        McpPhase::Pending => (
            Kind::McpClient(&id_hash, subject),
            without_credential(server)?,
        ),
        McpPhase::Open | McpPhase::Unnamed => (
            Kind::McpSession(&id_hash, subject),
            fingerprint(server, &found.records)?,
        ),
    };
    let key = data_key(app, tenant, server).await?;
    let session = McpSession {
        tenant: tenant.clone(),
        server: server.id,
        subject: subject.clone(),
        auth_revision: server.auth_revision,
        fingerprint,
        at: now,
        phase: new.phase,
        opens_urls: new.opens_urls,
        version: None,
        elicitation: None,
        sealed: key.seal(tenant, server.id, kind, new.secret)?,
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

/// What a session is called at its server. One that is still pending is opened there first, with what its client said in its
/// handshake.
///
/// # Errors
/// [`Failure`]; in [`Failure::Failed`] [`Error::Contended`] when the session or its server has just changed,
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn at_upstream(
    app: &App,
    at: &Permitted<AtServer>,
    session: &McpSession,
) -> Result<Upstream, Failure> {
    if session.phase != McpPhase::Pending {
        return Ok(upstream(app, at, session).await?);
    }
    let (tenant, server) = (&at.caller.tenant, &at.found.server);
    let (id_hash, subject) = (&session.id_hash, &session.subject);
    let key = data_key(app, tenant, server).await?;
    let kind = Kind::McpClient(id_hash, subject);
    let said = key.open(tenant, server.id, kind, &session.sealed)?;
    let said = serde_json::from_slice(&said)
        .map_err(|_| Error::internal("what an MCP client said does not decode"))?;
    let mut client = McpClient::new(app, tenant, &at.found, (&at.caller).into());
    let opened = client.open_session(said).await?;
    let id = opened.id.as_ref().map_or("", |id| id.expose_secret());
    let phase = match opened.id {
        Some(_) => McpPhase::Open,
        None => McpPhase::Unnamed,
    };
    let kind = Kind::McpSession(id_hash, subject);
    let record = McpSession {
        phase,
        fingerprint: fingerprint(server, &at.found.records)?,
        version: Some(opened.version.clone()),
        sealed: key.seal(tenant, server.id, kind, id.as_bytes())?,
        ..session.clone()
    };
    let event = of_mcp_session(&at.caller, &record, app.now(), Action::McpSessionOpened)?;
    if app.table.open_mcp_session(&record, &event).await? {
        return Ok(Upstream {
            id: opened.id,
            version: Some(opened.version),
        });
    }
    client.close(opened).await;
    // Another request of the session may have been first.
    let key = mcp_sessions::key(tenant, server.id, id_hash);
    let found = app.table.read(vec![key]).await?;
    match found.mcp_session(tenant, server.id, id_hash)? {
        Some(now) if now.phase != McpPhase::Pending && now.fingerprint == record.fingerprint => {
            Ok(upstream(app, at, &now).await?)
        }
        _ => Err(Error::Contended.into()),
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

/// What a session that is open at its server is called there.
async fn upstream(app: &App, at: &Permitted<AtServer>, session: &McpSession) -> Result<Upstream> {
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
