//! Forwards calls to MCP servers: attaches the stored credential and interprets the response (MCP authorization 8).
//!
//! A call carries the first of these credentials that exists: the subject's override, its grant, the server's own
//! headers. The caller's own credentials are never forwarded. If the server refuses a token, the token is replaced once
//! and the call repeated once; nothing else is ever sent twice.

mod client_credentials;
mod credential;
mod fingerprint;
mod headers;
mod mcp_session;
mod request_state;
mod target;
mod watch;

pub(super) use fingerprint::outbound_fingerprint;
pub use mcp_session::{
    Upstream, begin_session, close_session, keep_session, note_elicitation, take_done_elicitation,
};
pub(super) use mcp_session::{client_said, keep_opened, opened_by_another, upstream};
pub use request_state::{REQUEST_STATE_PREFIX, RequestState};
pub use target::{AtCall, Target, find};
pub use watch::{Ending, PermissionWatcher};

use super::credentials::ServerAndRecords;
use super::grants;
use crate::Result;
use crate::domain::credential::Grant;
use crate::domain::event::Who;
use crate::domain::id::{ServerId, TenantId};
use crate::domain::reason::Reason;
use crate::domain::time::Timestamp;
use crate::egress::coding::Decoder;
use crate::egress::{self, Failure, Outgoing, TOTAL_TIMEOUT};
use crate::oauth::challenge;
use crate::state::app::App;
use credential::{CredentialSource, PreparedCall, attach_credential};
use fingerprint::is_unchanged;
use headers::outgoing;
use reqwest::header::HeaderMap;
use reqwest::{Method, Response};
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

/// The minimum age, in seconds, of a refreshed token that is replaced because a server refuses it. A server that
/// refuses one token likely refuses the next, too, and without this limit every call would ask the issuer.
const MIN_REFRESH_INTERVAL_SECONDS: i64 = 30;

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
    /// How many Hawser deployments it has passed before this one.
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
    /// The server wants the caller's own token, which is never forwarded.
    Passthrough,
    /// There is no credential that could be used.
    NoCredential(Reason),
    /// The server has refused what the call carried.
    NotAccepted {
        /// Whether a new consent may help.
        consent_helps: bool,
    },
    /// The server wants a token with more scopes.
    ScopeInsufficient {
        /// The additional scopes that a new consent has to ask for, if one may help.
        additional_scopes: Option<Vec<String>>,
    },
    /// The server cannot be reached, or must not be, or does not answer in time.
    Unreachable,
    /// The server redirects to this address, which is shown without what may be secret in it.
    Redirected(Option<String>),
    /// The server requires a session; only for calls with `probes`.
    WantsSession,
}

/// Forwards a call with the caller's stored credential; returns as soon as the response has begun.
///
/// # Errors
/// [`crate::Error::ServerNotFound`] when the server has just gone; [`crate::Error::Unavailable`], [`crate::Error::Internal`].
pub async fn forward(
    app: &App,
    tenant: &TenantId,
    at: &ServerAndRecords,
    call: Call,
) -> Result<Result<Response, Refusal>> {
    let mut refused = None;
    loop {
        let prepared = match attach_credential(app, tenant, at, refused.as_ref(), &call).await? {
            Ok(prepared) => prepared,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let PreparedCall {
            address,
            headers,
            from,
            replaced_at,
        } = prepared;
        let Ok(answer) = send(app, &call, &address, headers).await else {
            return Ok(Err(Refusal::Unreachable));
        };
        let consent_helps = matches!(from, CredentialSource::Grant(_));
        let lately = |at: Timestamp| app.now() < at.plus_seconds(MIN_REFRESH_INTERVAL_SECONDS);
        let replaceable = !matches!(from, CredentialSource::Fixed)
            && !replaced_at.is_some_and(lately)
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
                return Ok(Err(redirected(tenant, at.server.id, &answer)));
            }
            _ => return Ok(Ok(answer)),
        }
    }
}

/// Sends a call once, within its time.
async fn send(
    app: &App,
    call: &Call,
    address: &SecretString,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let answer = app.egress.open(Outgoing {
        method: call.method.clone(),
        url: address.expose_secret(),
        headers: outgoing(call, headers),
        body: call.body.clone(),
    });
    match call.end {
        Some(end) => timeout_at(end, answer)
            .await
            .unwrap_or(Err(Failure::Unreachable)),
        None => answer.await,
    }
}

fn redirected(tenant: &TenantId, server: ServerId, answer: &Response) -> Refusal {
    let to = egress::leads_to(answer);
    warn!(
        tenant = tenant.as_str(),
        server = ?server,
        status = answer.status().as_u16(),
        to,
        "MCP server answered a call with a redirect"
    );
    Refusal::Redirected(to)
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
