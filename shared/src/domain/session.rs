//! Authorization sessions: consents in progress.

use super::credential::Stored;
use super::id::{ServerId, Sortable, TenantId};
use super::issuance::Issuance;
use super::secret;
use super::server::Server;
use super::subject::Subject;
use super::time::Timestamp;
use crate::domain::address::origin;
use crate::domain::sealed::Sealed;
use crate::domain::time::CONSENT_LIFETIME;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

/// How long one address may serve at most, however often it is asked for again, in seconds.
pub const ADDRESS_LIFETIME: i64 = 3600;
/// How long a session can be asked about, in seconds.
pub const SESSION_LIFETIME: i64 = 24 * 3600;

/// One consent in progress, or how it ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Session {
    /// [`Self::tag`] and a ULID.
    pub id: String,
    /// The tenant.
    pub tenant: TenantId,
    /// The server to be connected to.
    pub server: ServerId,
    /// Whose grant it is to become.
    #[serde(flatten)]
    pub subject: Subject,
    /// The server's auth revision when it was begun; void under any other.
    pub auth_revision: u64,
    /// When it was begun, or asked for again while it was open.
    pub at: Timestamp,
    /// How often the subject had been disconnected from the server until then; void at any other count.
    #[serde(default)]
    pub removals: u64,
    /// How often the subject had been offboarded until then; void at any other count.
    #[serde(default)]
    pub offboardings: u64,
    /// Who asked for it.
    pub origin: Origin,
    /// How far it is.
    pub phase: Phase,
    /// SHA-256 of the secret in its current URL, lower-case hexadecimal.
    pub secret_hash: String,
    /// SHA-256 of the cookie of the browser that it was begun in, where that was a page of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub browser: Option<String>,
    /// When the button of its page was pressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened_at: Option<Timestamp>,
    /// While the code is exchanged: until when the issuer's answer may come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy_until: Option<Timestamp>,
    /// What was asked of the issuer, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent: Option<Consent>,
    /// Housekeeping alone: DynamoDB removes it some time after this second.
    pub ttl: i64,
}

/// The contract by which a consent was begun, and what that contract wants to happen at its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// TrueFoundry: the browser goes on to this address, or to a closing page.
    Truefoundry {
        /// Where the browser ends.
        return_to: Option<String>,
        /// The base of our own addresses.
        base: String,
        /// Scopes to be asked for besides those that the server or its operator says: it has refused a grant for less.
        #[serde(default, rename = "besides", skip_serializing_if = "Option::is_none")]
        additional_scopes: Option<Vec<String>>,
    },
    /// LangSmith: the client asks for the session's state.
    Langsmith {
        /// The provider it belongs to.
        provider: Uuid,
        /// The base of our own addresses.
        #[serde(default)]
        base: String,
        /// The scopes to be asked for; none: those that the server or its operator says.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        scopes: Vec<String>,
    },
    /// Kambrium: the page tells its opener.
    Kambrium {
        /// The integration in the callback's path.
        integration: String,
        /// The base of our own addresses.
        #[serde(default)]
        base: String,
    },
}

impl Origin {
    /// The base of our own addresses.
    pub fn base(&self) -> &str {
        match self {
            Self::Truefoundry { base, .. }
            | Self::Langsmith { base, .. }
            | Self::Kambrium { base, .. } => base,
        }
    }

    /// What the requests have in common that share one open consent of a subject at a server. Where the browser ends and which
    /// further scopes are asked for may change while it is open; the address and what a client polls may not.
    pub(crate) fn slot(&self) -> String {
        match self {
            Self::Truefoundry { base, .. } => format!("truefoundry\n{base}"),
            Self::Langsmith {
                provider,
                base,
                scopes,
            } => format!("langsmith\n{base}\n{provider}\n{}", scopes.join(" ")),
            Self::Kambrium { integration, base } => format!("kambrium\n{base}\n{integration}"),
        }
    }

    /// This origin after the same consent was asked for once more: the latest return address counts, and scopes add up.
    #[must_use]
    pub(crate) fn asked_again(&self, again: &Self) -> Self {
        let mut merged = self.clone();
        if let (
            Self::Truefoundry {
                return_to,
                additional_scopes,
                ..
            },
            Self::Truefoundry {
                return_to: latest,
                additional_scopes: further,
                ..
            },
        ) = (&mut merged, again)
        {
            if latest.is_some() {
                return_to.clone_from(latest);
            }
            if let Some(further) = further {
                let all = additional_scopes.get_or_insert_default();
                for scope in further {
                    if !all.contains(scope) {
                        all.push(scope.clone());
                    }
                }
            }
        }
        merged
    }
}

/// How far a consent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Our own URL was handed out; nobody has pressed the button of its page yet.
    Offered,
    /// The issuer's URL was handed out.
    Pending,
    /// The issuer has answered and the code is being exchanged.
    Exchanging,
    /// A grant is stored.
    Completed,
    /// It ended without one.
    Failed,
}

impl Phase {
    /// As stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Offered => "offered",
            Self::Pending => "pending",
            Self::Exchanging => "exchanging",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

/// What was asked of an issuer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Consent {
    /// The issuer and the client.
    pub issuance: Issuance,
    /// Whether the issuer says that it names itself in its answers (RFC 9207).
    pub iss_advertised: bool,
    /// Where the browser was sent; told apart from the issuer's name only where nobody named one.
    #[serde(default)]
    pub authorization_endpoint: String,
    /// Where it answers to.
    pub redirect_uri: String,
    /// What was asked for.
    pub scopes: Vec<String>,
    /// The record of the client, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_record: Option<String>,
    /// [`ConsentSecrets`], sealed.
    pub sealed: Sealed,
}

impl Consent {
    /// Whether an answer that names its issuer so, or does not, may come from whom was asked (RFC 9207). Where nobody has named
    /// the issuer, its answers come from the host that has the browser's endpoint or the token's.
    pub fn is_answered_by(&self, iss: Option<&str>) -> bool {
        match iss {
            None => !self.iss_advertised,
            Some(iss) if self.issuance.names_issuer() => *iss == *self.issuance.issuer,
            Some(iss) => [&self.issuance.token_endpoint, &self.authorization_endpoint]
                .iter()
                .any(|endpoint| origin(endpoint) == origin(iss)),
        }
    }
}

/// The secret part of a consent.
#[derive(Debug)]
pub struct ConsentSecrets {
    /// The PKCE verifier.
    pub verifier: SecretString,
    /// The client's secret.
    pub client_secret: Option<SecretString>,
}

impl ConsentSecrets {
    pub(crate) fn to_json(&self) -> Option<Zeroizing<Vec<u8>>> {
        secret::encode(&[
            ("verifier", Some(&self.verifier)),
            ("client_secret", self.client_secret.as_ref()),
        ])
    }

    pub(crate) fn from_json(json: &[u8]) -> Option<Self> {
        let mut fields = secret::decode(json)?;
        Some(Self {
            verifier: fields.remove("verifier")?,
            client_secret: fields.remove("client_secret"),
        })
    }
}

impl Session {
    /// Length of [`Self::tag`].
    pub const TAG: usize = 16;

    /// What the ids of a subject's sessions begin with, so that they can be found together.
    pub fn tag(subject: &Subject) -> String {
        let whose = format!("{}#{}", subject.kind().as_str(), subject.id());
        let mut tag = super::id::hash(&whose);
        tag.truncate(Self::TAG);
        tag
    }

    /// The second part of its id.
    pub fn ulid(&self) -> Option<Sortable> {
        Sortable::parse_ulid(self.id.get(Self::TAG..)?)
    }

    /// Whether its URL may still be used.
    pub fn is_open(&self, now: Timestamp) -> bool {
        now < self.at.plus_seconds(CONSENT_LIFETIME)
    }

    /// Whether nothing may come of it any more: its server was changed, or its subject disconnected there or offboarded, since
    /// it was begun. Told by what is stored for the subject at the server, and how often the subject was offboarded.
    /// What is decided by it is written under the same conditions, for all of this may change after it was read.
    pub fn is_void(&self, server: &Server, stored: &Stored, offboardings: u64) -> bool {
        let void_before = stored.void_consents_before();
        self.auth_revision != server.auth_revision
            || self.removals != stored.removals()
            || void_before.is_some_and(|until| self.at <= until)
            || self.offboardings != offboardings
    }

    /// Whether an issuer's answer may be on its way.
    pub fn is_busy(&self, now: Timestamp) -> bool {
        self.phase == Phase::Exchanging && self.busy_until.is_some_and(|until| now < until)
    }
}
