//! Sessions of MCP: the client knows an id of ours, the table has the server's own, sealed.

use super::fingerprint::fingerprint;
use crate::domain::caller::Caller;
use crate::domain::event::{Action, Event};
use crate::domain::id::{hash, random};
use crate::domain::mcp_session::{MCP_SESSION_LIFETIME, McpSession};
use crate::domain::time::Timestamp;
use crate::operations::Permitted;
use crate::operations::credentials::AtServer;
use crate::operations::servers::data_key;
use crate::seal::Kind;
use crate::state::app::App;
use crate::table::servers as server_table;
use crate::{Error, Result};
use data_encoding::BASE64URL_NOPAD;
use secrecy::SecretString;

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
