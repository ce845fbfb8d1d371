//! Sessions with MCP servers of the session era (up to 2025-11-25), under names of our own.

use super::id::{ServerId, TenantId};
use super::subject::Subject;
use super::time::Timestamp;
use crate::domain::sealed::Sealed;
use serde::{Deserialize, Serialize};

/// How long a session may last, in seconds.
pub const MCP_SESSION_LIFETIME: i64 = 24 * 3600;

/// A session that an MCP server has opened for one subject.
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
    /// The fingerprint of the call that opened it; the session is void under another one.
    #[serde(rename = "fence")]
    pub fingerprint: String,
    /// When it was opened.
    pub at: Timestamp,
    /// The server's own id of it, sealed.
    pub sealed: Sealed,
    /// Housekeeping alone: DynamoDB removes it some time after this second.
    pub ttl: i64,
}

impl McpSession {
    /// Whether this subject may use it under this fingerprint.
    pub fn serves(&self, subject: &Subject, fingerprint: &str, now: Timestamp) -> bool {
        self.subject == *subject
            && self.fingerprint == fingerprint
            && now < self.at.plus_seconds(MCP_SESSION_LIFETIME)
    }
}
