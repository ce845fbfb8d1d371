//! API keys: what each may do, and the hash of its secret.

use crate::domain::id::TenantId;
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// An API key as the table holds it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ApiKey {
    /// The public part of the key.
    pub id: String,
    /// SHA-256 of the secret part, lower-case hex.
    pub secret_hash: String,
    /// The subject that the key acts as; `None` for a service key, which acts as itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Subject>,
    /// The owner's e-mail address, for collaborators that are listed by e-mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// TrueFoundry tenant roles.
    #[serde(default)]
    pub roles: BTreeSet<String>,
    /// TrueFoundry teams.
    #[serde(default)]
    pub teams: BTreeSet<String>,
    /// LangSmith permissions.
    #[serde(default)]
    pub permissions: BTreeSet<String>,
    /// Kambrium scopes.
    #[serde(default)]
    pub scopes: BTreeSet<String>,
    /// Whether the key is a personal access token (Kambrium 13).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub personal: bool,
    /// The number of the one connection that the key may be used for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_to: Option<u64>,
    /// When the key was made.
    pub created_at: Timestamp,
    /// When the key expires; `None` for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// The pointer item of a personal access token: what the token's hash leads to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PersonalTokenPointer {
    /// The tenant of the key.
    pub tenant: TenantId,
    /// The id of the key.
    pub id: String,
    /// The number of the one connection that the key may be used for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_to: Option<u64>,
}
