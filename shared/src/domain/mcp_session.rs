//! Sessions with MCP servers of the session era (up to 2025-11-25), under ids of Hawser's own.

use super::id::{ServerId, TenantId};
use super::subject::Subject;
use super::time::Timestamp;
use crate::domain::sealed::Sealed;
use serde::{Deserialize, Serialize};

/// How long a session may last, in seconds.
pub const MCP_SESSION_LIFETIME: i64 = 24 * 3600;

/// A session of one subject with an MCP server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct McpSession {
    /// SHA-256 of the session id that the client was given, lower-case hexadecimal.
    pub id_hash: String,
    /// The tenant.
    pub tenant: TenantId,
    /// The server.
    pub server: ServerId,
    /// The subject whose session it is.
    #[serde(flatten)]
    pub subject: Subject,
    /// The server's auth revision when the session was opened.
    pub auth_revision: u64,
    /// The fingerprint of the call that opened the session; while it is pending, that of pending sessions. Under another
    /// fingerprint nothing of it at the server is used.
    #[serde(rename = "fence")]
    pub fingerprint: String,
    /// When the session was opened.
    pub at: Timestamp,
    /// How far it is.
    #[serde(default)]
    pub phase: McpPhase,
    /// Whether the client supports elicitation by URL, so that it can open an address for its person.
    #[serde(default)]
    pub opens_urls: bool,
    /// The revision that the server agreed on, if the session was opened there after the client's handshake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The consent that the client was last told of, by its session's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elicitation: Option<String>,
    /// What [`McpPhase`] says, sealed.
    pub sealed: Sealed,
    /// What the session is opened anew with when its subject has another credential, unless its client said too much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshake: Option<Handshake>,
    /// Whether the session was open at the server before, with another credential. Ids of events and of requests that the
    /// client has from then mean nothing to the server now, or something else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reopened: bool,
    /// DynamoDB removes the item some time after this second. Nothing depends on when.
    pub ttl: i64,
}

/// The handshake of a session that is open at its server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Handshake {
    /// The fingerprint of pending sessions when the server was asked; a server that has changed since is not opened anew.
    #[serde(rename = "fence")]
    pub fingerprint: String,
    /// What the client said, sealed.
    pub sealed: Sealed,
}

/// How far a session is, and what [`McpSession::sealed`] holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum McpPhase {
    /// Open at the server. Sealed is the server's own session id.
    #[default]
    Open,
    /// Open at the server, which gave no session id. Nothing is sealed.
    Unnamed,
    /// Hawser answered the handshake, because the subject had no usable credential. Sealed is what the client said in
    /// it.
    Pending,
}

impl McpSession {
    /// As this subject may go on with it, if at all. `pending` is the fingerprint of pending sessions, `open` that of calls.
    /// One that was opened with another credential is pending again: nothing of it at the server is used any more.
    pub fn resumed(
        self,
        subject: &Subject,
        pending: &str,
        open: &str,
        now: Timestamp,
    ) -> Option<Self> {
        if self.subject != *subject || now >= self.at.plus_seconds(MCP_SESSION_LIFETIME) {
            return None;
        }
        let expected = match self.phase {
            McpPhase::Pending => pending,
            McpPhase::Open | McpPhase::Unnamed => open,
        };
        if self.fingerprint == expected {
            return Some(self);
        }
        let handshake = self.handshake?;
        (handshake.fingerprint == pending).then_some(Self {
            phase: McpPhase::Pending,
            sealed: handshake.sealed,
            handshake: None,
            reopened: true,
            ..self
        })
    }
}
