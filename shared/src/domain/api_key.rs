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
    /// Whom it acts as; a service key without an owner acts as itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Subject>,
    /// The owner's e-mail address, for collaborators of that form.
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
    /// Whether it is a personal access token (Kambrium 13).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub personal: bool,
    /// The one connection that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_to: Option<u64>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// The pointer item of a personal access token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PersonalTokenPointer {
    /// The tenant.
    pub tenant: TenantId,
    /// The id of the key.
    pub id: String,
    /// The one connection that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_to: Option<u64>,
}
