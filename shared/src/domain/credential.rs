//! What one subject uses at one server: an OAuth grant, an override installed for it, or both.

use super::id::{ServerId, Sortable};
use super::issuance::Issuance;
use super::secret;
use super::server::Server;
use super::subject::{Actor, Subject};
use super::time::Timestamp;
use crate::Result;
use crate::domain::reason::Reason;
use crate::domain::sealed::Sealed;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use zeroize::Zeroizing;

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

/// A header value, or parameter values, stored for one subject in place of the server's own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Override {
    /// The server it is for.
    pub server: ServerId,
    /// The subject that it is for.
    #[serde(flatten)]
    pub subject: Subject,
    /// Names of the values; the values are sealed.
    pub shape: OverrideShape,
    /// The server's auth revision when it was installed.
    pub auth_revision: u64,
    /// Replaced at every write.
    pub version: String,
    /// When it was last stored.
    pub updated_at: Timestamp,
    /// Who last stored it.
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
    /// The shape of these values.
    pub fn shape(&self) -> OverrideShape {
        match self {
            Self::Header(_) => OverrideShape::Header,
            Self::KeyValue(values) => OverrideShape::KeyValue(values.keys().cloned().collect()),
        }
    }

    pub(crate) fn to_json(&self) -> serde_json::Result<Zeroizing<Vec<u8>>> {
        let json = match self {
            Self::Header(value) => serde_json::to_vec(value.expose_secret()),
            Self::KeyValue(values) => serde_json::to_vec(
                &values
                    .iter()
                    .map(|(k, v)| (k, v.expose_secret()))
                    .collect::<BTreeMap<_, _>>(),
            ),
        };
        json.map(Zeroizing::new)
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

/// How long a refresh may take, in seconds: longer than the call to the issuer and the write together.
pub const LEASE: i64 = 20;

/// An OAuth grant; its tokens are sealed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Grant {
    /// The server it is for.
    pub server: ServerId,
    /// The subject whose grant it is.
    #[serde(flatten)]
    pub subject: Subject,
    /// The server's auth revision at consent.
    pub auth_revision: u64,
    /// Replaced at every write.
    pub version: String,
    /// The id of the consent's session. A refresh does not change it.
    #[serde(default)]
    pub session: String,
    /// The issuer, the client, and the resource that the tokens are for.
    pub issuance: Issuance,
    /// Scopes asked for or granted.
    pub scopes: BTreeSet<String>,
    /// Whether the consent was for more scopes, after the server had refused a grant (MCP authorization row 18).
    #[serde(default)]
    pub stepped_up: bool,
    /// When the access token was obtained.
    pub obtained_at: Timestamp,
    /// Lifetime of the access token in seconds. Where an answer does not state it, that of the answer before.
    pub lifetime: Option<i64>,
    /// When the access token ends; `None` if the issuer never said.
    pub expires_at: Option<Timestamp>,
    /// Whether a refresh token is stored.
    pub refreshable: bool,
    /// How the last refresh ended; `None` before the first.
    pub last_refresh: Option<RefreshOutcome>,
    /// After a failed refresh: when the next one may be tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
    /// The subject's count of offboardings when the consent was begun.
    #[serde(default)]
    pub offboardings: u64,
    /// Consents begun before this must not replace the grant. Only older versions wrote it; it is kept.
    #[serde(default, rename = "fence", skip_serializing_if = "Option::is_none")]
    pub void_consents_before: Option<Timestamp>,
    /// Whether the answer to a refresh was lost, so that the issuer may have given out tokens that are not stored here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_doubt: bool,
    /// The lease of the process that refreshes the grant. It stays if that process dies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_id: Option<String>,
    /// When the lease ends by the clock of its process. For people to read; no process relies on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_until: Option<Timestamp>,
    /// [`Tokens`], sealed.
    pub sealed: Sealed,
}

impl Grant {
    /// Whether the issuer may have given out tokens that are not stored here: an answer is on its way, or was lost.
    pub const fn is_in_doubt(&self) -> bool {
        self.in_doubt || self.lease_id.is_some()
    }

    /// When the access token should be replaced: 60 seconds or a third of its life before it ends, whichever is less, so
    /// that short-lived tokens are not refreshed at every use.
    pub fn due_for_refresh(&self, now: Timestamp) -> bool {
        const MARGIN: i64 = 60;
        self.expires_at.is_some_and(|end| {
            let margin = self.lifetime.map_or(MARGIN, |life| MARGIN.min(life / 3));
            now >= end.plus_seconds(-margin)
        })
    }

    /// Whether the access token has expired.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| now >= end)
    }
}

/// The secret part of a grant.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// The access token, which calls carry.
    pub access: SecretString,
    /// The refresh token.
    pub refresh: Option<SecretString>,
    /// The secret of the client that got the tokens. It is kept here because its record may be gone when they are
    /// revoked.
    pub client_secret: Option<SecretString>,
}

impl Tokens {
    pub(crate) fn to_json(&self) -> Option<Zeroizing<Vec<u8>>> {
        secret::encode(&[
            ("access", Some(&self.access)),
            ("refresh", self.refresh.as_ref()),
            ("client_secret", self.client_secret.as_ref()),
        ])
    }

    pub(crate) fn from_json(json: &[u8]) -> Option<Self> {
        let mut fields = secret::decode(json)?;
        Some(Self {
            access: fields.remove("access")?,
            refresh: fields.remove("refresh"),
            client_secret: fields.remove("client_secret"),
        })
    }
}

/// How a refresh ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefreshOutcome {
    /// The issuer gave new tokens.
    Succeeded,
    /// The issuer ended the grant.
    InvalidGrant,
    /// The issuer did not accept the client.
    InvalidClient,
    /// Any other failure. It may pass.
    Failed,
}

/// Why a subject's credential at a server is gone, and how often the subject was disconnected there. Once written, the
/// item stays as long as the server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeptReason {
    /// The subject whose credential ended.
    #[serde(flatten)]
    pub subject: Subject,
    /// Why the credential ended.
    pub reason: Reason,
    /// When the credential ended.
    pub at: Timestamp,
    /// How often the subject was disconnected from the server. A consent that was begun at another count is void,
    /// however late it returns. The table decides the order, and no clock does.
    #[serde(default)]
    pub removals: u64,
    /// Consents begun before this are void. Only older versions wrote it.
    #[serde(default, rename = "fence", skip_serializing_if = "Option::is_none")]
    pub void_consents_before: Option<Timestamp>,
}

/// The credentials of one subject at one server, as far as they are valid, and what was read of them.
#[derive(Clone, Debug, Default)]
pub struct Records {
    /// The override, if one is installed.
    pub header_override: Option<Override>,
    /// The OAuth grant, whether it still serves or not.
    pub grant: Option<Grant>,
    /// Why there is no credential, if that is known.
    pub kept_reason: Option<Reason>,
    /// The items as they were read, void or not: a write requires them unchanged.
    pub stored: Stored,
}

/// A subject's items at a server as they were read, void or not.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// The grant.
    pub grant: Option<Grant>,
    /// The kept reason.
    pub reason: Option<KeptReason>,
}

impl Stored {
    /// How often the subject was disconnected from the server.
    pub fn removals(&self) -> u64 {
        self.reason.as_ref().map_or(0, |reason| reason.removals)
    }

    /// The latest instant before which consents are void, where an older version wrote one.
    pub fn void_consents_before(&self) -> Option<Timestamp> {
        let all = [
            self.reason
                .as_ref()
                .and_then(|one| one.void_consents_before),
            self.grant.as_ref().and_then(|one| one.void_consents_before),
        ];
        all.into_iter().flatten().max()
    }
}

impl Records {
    /// The records that are valid at the server's auth revision, out of those that are stored.
    pub fn under(
        server: &Server,
        own: Option<Override>,
        grant: Option<Grant>,
        kept: Option<KeptReason>,
    ) -> Self {
        let override_is_valid = |o: &Override| server.accepts_override(o.auth_revision);
        let grant_is_valid = |g: &Grant| server.accepts_grant(g.auth_revision);
        let voided = own.as_ref().is_some_and(|o| !override_is_valid(o))
            || grant.as_ref().is_some_and(|g| !grant_is_valid(g));
        Self {
            header_override: own.filter(override_is_valid),
            grant: grant.clone().filter(grant_is_valid),
            kept_reason: if voided {
                Some(server.void_reason)
            } else {
                kept.as_ref().map(|k| k.reason)
            },
            stored: Stored {
                grant,
                reason: kept,
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

/// A credential as it was read, about to be ended.
#[derive(Clone, Debug)]
pub enum Credential {
    /// An override.
    Override(Box<Override>),
    /// A grant.
    Grant(Box<Grant>),
}

impl Credential {
    /// Which kind of credential it is.
    pub const fn source(&self) -> Source {
        match self {
            Self::Override(_) => Source::Override,
            Self::Grant(_) => Source::Oauth,
        }
    }

    /// The subject whose credential it is.
    pub const fn subject(&self) -> &Subject {
        match self {
            Self::Override(own) => &own.subject,
            Self::Grant(grant) => &grant.subject,
        }
    }

    /// Whether the credential is void at this server.
    pub fn is_void_under(&self, server: &Server) -> bool {
        match self {
            Self::Override(own) => !server.accepts_override(own.auth_revision),
            Self::Grant(grant) => !server.accepts_grant(grant.auth_revision),
        }
    }
}
