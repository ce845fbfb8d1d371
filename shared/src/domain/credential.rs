//! What one subject uses at one server: an OAuth grant, an override installed for it, or both.

use super::id::{ServerId, Sortable};
use super::server::Server;
use super::status::Reason;
use super::subject::{Actor, Subject};
use super::time::Timestamp;
use crate::Result;
use crate::seal::Sealed;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Where a subject's credential at a server comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Source {
    #[serde(rename = "oauth")]
    Oauth,
    #[serde(rename = "auth-override")]
    Override,
}

impl Source {
    /// The wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Oauth => "oauth",
            Self::Override => "auth-override",
        }
    }
}

/// The header, a part of one, or parameters that replace a server's own for one subject.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Override {
    /// The server it is for.
    pub server: ServerId,
    /// Whose it is.
    #[serde(flatten)]
    pub subject: Subject,
    /// Names of the values; the values are sealed.
    pub shape: OverrideShape,
    /// The server's auth revision when it was installed.
    pub auth_revision: u64,
    /// Another one after every write.
    pub version: String,
    /// Last installed when.
    pub updated_at: Timestamp,
    /// Last installed by whom.
    pub updated_by: Actor,
    /// [`OverrideValue`], sealed.
    pub sealed: Sealed,
}

/// What an override consists of, without the values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverrideShape {
    /// One header value.
    Header,
    /// A value for each parameter of the server's templates.
    KeyValue(BTreeSet<String>),
}

/// The values of an override.
#[derive(Clone, Debug)]
pub enum OverrideValue {
    /// One header value.
    Header(SecretString),
    /// A value for each parameter.
    KeyValue(BTreeMap<String, SecretString>),
}

impl OverrideValue {
    /// The same without the values.
    pub fn shape(&self) -> OverrideShape {
        match self {
            Self::Header(_) => OverrideShape::Header,
            Self::KeyValue(values) => OverrideShape::KeyValue(values.keys().cloned().collect()),
        }
    }

    pub(crate) fn to_json(&self) -> serde_json::Result<zeroize::Zeroizing<Vec<u8>>> {
        let json = match self {
            Self::Header(value) => serde_json::to_vec(value.expose_secret()),
            Self::KeyValue(values) => serde_json::to_vec(
                &values
                    .iter()
                    .map(|(k, v)| (k, v.expose_secret()))
                    .collect::<BTreeMap<_, _>>(),
            ),
        };
        json.map(zeroize::Zeroizing::new)
    }

    pub(crate) fn from_json(shape: &OverrideShape, json: &[u8]) -> serde_json::Result<Self> {
        match shape {
            OverrideShape::Header => {
                serde_json::from_slice::<String>(json).map(|v| Self::Header(v.into()))
            }
            OverrideShape::KeyValue(_) => {
                let values: BTreeMap<String, String> = serde_json::from_slice(json)?;
                Ok(Self::KeyValue(
                    values.into_iter().map(|(k, v)| (k, v.into())).collect(),
                ))
            }
        }
    }
}

/// An OAuth grant, as far as its status needs it; the tokens are sealed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Grant {
    /// The server it is for.
    pub server: ServerId,
    /// Whose it is.
    #[serde(flatten)]
    pub subject: Subject,
    /// The server's auth revision at consent.
    pub auth_revision: u64,
    /// Another one after every write.
    pub version: String,
    /// Scopes asked for or granted at consent.
    pub scopes: BTreeSet<String>,
    /// When the access token ends; `None` if the issuer did not say.
    pub expires_at: Option<Timestamp>,
    /// Whether a refresh token is stored.
    pub refreshable: bool,
    /// How the last refresh ended; `None` before the first.
    pub last_refresh: Option<RefreshOutcome>,
    /// The tokens, sealed.
    pub sealed: Sealed,
}

/// How a refresh ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefreshOutcome {
    /// New tokens came.
    Succeeded,
    /// The issuer ended the grant.
    InvalidGrant,
    /// The issuer did not accept the client.
    InvalidClient,
    /// Anything else; may pass.
    Failed,
}

/// The last thing that ended a subject's connection, kept after the record is gone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeptReason {
    /// Whose.
    #[serde(flatten)]
    pub subject: Subject,
    /// Why.
    pub reason: Reason,
    /// Since when.
    pub at: Timestamp,
}

/// All that is stored for one subject at one server, beside the server itself. Voided records are not in it.
#[derive(Clone, Debug, Default)]
pub struct Records {
    /// The override, if one is installed.
    pub own: Option<Override>,
    /// The OAuth grant, dead or alive.
    pub grant: Option<Grant>,
    /// Why there is none, if that is known.
    pub kept_reason: Option<Reason>,
}

impl Records {
    /// Believes of what was read only what the server's revision still stands behind.
    pub fn under(
        server: &Server,
        own: Option<Override>,
        grant: Option<Grant>,
        kept: Option<KeptReason>,
    ) -> Self {
        let own_stands = |o: &Override| server.stands_behind_override(o.auth_revision);
        let grant_stands = |g: &Grant| server.stands_behind_grant(g.auth_revision);
        let voided = own.as_ref().is_some_and(|o| !own_stands(o))
            || grant.as_ref().is_some_and(|g| !grant_stands(g));
        Self {
            own: own.filter(own_stands),
            grant: grant.filter(grant_stands),
            kept_reason: if voided {
                Some(Reason::ServerChanged)
            } else {
                kept.map(|k| k.reason)
            },
        }
    }
}

/// A new version for a record about to be written.
///
/// # Errors
/// [`crate::Error::Internal`] when the random generator fails.
pub fn new_version(now: Timestamp) -> Result<String> {
    Ok(Sortable::new(now)?.ulid())
}
