//! Opens sessions at their servers whose handshake Hawser itself has answered. The first request with a credential opens the
//! session, with the parameters that the client sent in its handshake.

use super::Permitted;
use super::credentials::ServerAndRecords;
use super::proxy::{self, Upstream};
use super::tools::Failure;
use super::tools::mcp_client::McpClient;
use crate::domain::mcp_session::{McpPhase, McpSession};
use crate::state::app::App;

/// The id of a session at its server. A pending session is opened there first.
///
/// # Errors
/// [`Failure`]; in [`Failure::Failed`] [`crate::Error::Contended`] when the session or its server has just changed,
/// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
pub async fn at_upstream(
    app: &App,
    at: &Permitted<ServerAndRecords>,
    session: &McpSession,
) -> Result<Upstream, Failure> {
    if session.phase != McpPhase::Pending {
        return Ok(proxy::upstream(app, at, session).await?);
    }
    let said = proxy::client_said(app, at, session).await?;
    let who = (&at.caller).into();
    let mut client = McpClient::new(app, &at.caller.tenant, &at.found, who);
    let opened = client.open_session(said).await?;
    let upstream = Upstream {
        id: opened.id.clone(),
        version: Some(opened.version.clone()),
    };
    let kept = proxy::keep_opened(app, at, session, &upstream).await;
    if kept.as_ref().is_ok_and(|kept| *kept) {
        return Ok(upstream);
    }
    // Nobody uses it: what another request has opened is the session, or none is known to be stored.
    client.close(opened).await;
    kept?;
    Ok(proxy::opened_by_another(app, at, session).await?)
}
