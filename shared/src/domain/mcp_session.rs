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
    /// The fingerprint of the call that opened the session; while it is pending, that of a call without a credential.
    /// Under another fingerprint the session is void.
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
    /// DynamoDB removes the item some time after this second. Nothing depends on when.
    pub ttl: i64,
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

impl McpPhase {
    /// The name in the table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Unnamed => "unnamed",
            Self::Pending => "pending",
        }
    }
}

impl McpSession {
    /// Whether this subject may use the session under this fingerprint. A pending session has the one without a
    /// credential.
    pub fn serves(&self, subject: &Subject, fingerprint: &str, now: Timestamp) -> bool {
        self.subject == *subject
            && self.fingerprint == fingerprint
            && now < self.at.plus_seconds(MCP_SESSION_LIFETIME)
    }
}
