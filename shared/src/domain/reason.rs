//! Why a credential is required (TrueFoundry 7.3).

use serde::{Deserialize, Serialize};

/// Why a credential is required. A closed list (TrueFoundry 7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "the contract's table documents each under the same name"
)]
pub enum Reason {
    NeverConnected,
    ConsentDenied,
    Revoked,
    ServerChanged,
    Expired,
    RefreshFailed,
    InvalidGrant,
    InvalidClient,
    ScopeInsufficient,
}

impl Reason {
    /// The wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NeverConnected => "never_connected",
            Self::ConsentDenied => "consent_denied",
            Self::Revoked => "revoked",
            Self::ServerChanged => "server_changed",
            Self::Expired => "expired",
            Self::RefreshFailed => "refresh_failed",
            Self::InvalidGrant => "invalid_grant",
            Self::InvalidClient => "invalid_client",
            Self::ScopeInsufficient => "scope_insufficient",
        }
    }
}
