//! Sessions with MCP servers of the session era (up to 2025-11-25), under names of our own.

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
    /// SHA-256 of the id that the subject was given, lower-case hexadecimal.
    pub id_hash: String,
    /// The tenant.
    pub tenant: TenantId,
    /// The server.
    pub server: ServerId,
    /// Whose it is.
    #[serde(flatten)]
    pub subject: Subject,
    /// The server's auth revision when it was opened.
    pub auth_revision: u64,
    /// The fingerprint of the call that opened it, or that of pending ones. Under another one it is not what it is at the
    /// server any more.
    #[serde(rename = "fence")]
    pub fingerprint: String,
    /// When it was opened.
    pub at: Timestamp,
    /// How far it is.
    #[serde(default)]
    pub phase: McpPhase,
    /// Whether its client opens addresses for people.
    #[serde(default)]
    pub opens_urls: bool,
    /// The revision that the server agreed on, if the session was opened there after the client's handshake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The consent that its client was last told of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elicitation: Option<String>,
    /// What its phase says, sealed.
    pub sealed: Sealed,
    /// What it is opened anew with when its subject has another credential, unless its client said too much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshake: Option<Handshake>,
    /// Housekeeping alone: DynamoDB removes it some time after this second.
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

/// How far a session is, and what of it is sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum McpPhase {
    /// Open at the server: the server's own id of it.
    #[default]
    Open,
    /// Open at the server, which gave it no id: nothing.
    Unnamed,
    /// Hawser has answered the handshake, because the subject had no usable credential: what the client said in it.
    Pending,
}

impl McpPhase {
    /// As stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Unnamed => "unnamed",
            Self::Pending => "pending",
        }
    }
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
        (handshake.fingerprint == pending).then(|| Self {
            phase: McpPhase::Pending,
            sealed: handshake.sealed,
            handshake: None,
            ..self
        })
    }
}
