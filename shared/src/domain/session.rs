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

/// How long one address is valid at most, however often it is asked for again, in seconds.
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
    /// The server to connect to.
    pub server: ServerId,
    /// The subject that the grant is for.
    #[serde(flatten)]
    pub subject: Subject,
    /// The server's auth revision when the consent was begun. Under another revision the session is void.
    pub auth_revision: u64,
    /// When the consent was begun, or asked for again while it was open.
    pub at: Timestamp,
    /// The subject's count of disconnects from the server at that time. At another count the session is void.
    #[serde(default)]
    pub removals: u64,
    /// The subject's count of offboardings at that time. At another count the session is void.
    #[serde(default)]
    pub offboardings: u64,
    /// The contract that asked for the consent, and what it wants at the end.
    pub origin: Origin,
    /// How far it is.
    pub phase: Phase,
    /// SHA-256 of the secret in its current URL, lower-case hexadecimal.
    pub secret_hash: String,
    /// SHA-256 of the cookie of the browser that began the consent, where it began on a page of Hawser's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub browser: Option<String>,
    /// When the button of its page was pressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened_at: Option<Timestamp>,
    /// While the code is being exchanged: until when the issuer's answer may come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy_until: Option<Timestamp>,
    /// The authorization request, once it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent: Option<Consent>,
    /// DynamoDB removes the item some time after this second. Nothing depends on when.
    pub ttl: i64,
}

/// The contract by which a consent was begun, and what that contract wants to happen at its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// TrueFoundry: the browser goes on to this address, or to a closing page.
    Truefoundry {
        /// The address that the browser ends at.
        return_to: Option<String>,
        /// The deployment's base URL.
        base: String,
        /// Scopes to ask for besides those of the server or its operator, because the server has refused a grant with
        /// fewer.
        #[serde(default, rename = "besides", skip_serializing_if = "Option::is_none")]
        additional_scopes: Option<Vec<String>>,
    },
    /// LangSmith: the client asks for the session's state.
    Langsmith {
        /// The provider that the session belongs to.
        provider: Uuid,
        /// The deployment's base URL.
        #[serde(default)]
        base: String,
        /// The scopes to ask for; if empty, those of the server or its operator.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        scopes: Vec<String>,
    },
    /// Kambrium: the closing page tells the page that opened it.
    Kambrium {
        /// The integration in the callback's path.
        integration: String,
        /// The deployment's base URL.
        #[serde(default)]
        base: String,
    },
}

impl Origin {
    /// The deployment's base URL.
    pub fn base(&self) -> &str {
        match self {
            Self::Truefoundry { base, .. }
            | Self::Langsmith { base, .. }
            | Self::Kambrium { base, .. } => base,
        }
    }

    /// What requests must have in common to share one open consent of a subject at a server. The address that the
    /// browser ends at and further scopes may change while the consent is open; the rest may not.
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
    /// Hawser's own URL was handed out, and nobody has pressed the button of its page yet.
    Offered,
    /// The issuer's URL was handed out.
    Pending,
    /// The issuer has answered and the code is being exchanged.
    Exchanging,
    /// A grant is stored.
    Completed,
    /// The consent ended without a grant.
    Failed,
}

impl Phase {
    /// The name in the table.
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

/// An authorization request to an issuer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Consent {
    /// The issuer, the client and the resource.
    pub issuance: Issuance,
    /// Whether the issuer says that it names itself in its answers (RFC 9207).
    pub iss_advertised: bool,
    /// The endpoint that the browser was sent to. It identifies the issuer only where nobody names one.
    #[serde(default)]
    pub authorization_endpoint: String,
    /// The redirect URI of the request.
    pub redirect_uri: String,
    /// The scopes that were asked for.
    pub scopes: Vec<String>,
    /// The id of the client's record, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_record: Option<String>,
    /// [`ConsentSecrets`], sealed.
    pub sealed: Sealed,
}

impl Consent {
    /// Whether an answer with this `iss`, or with none, may come from the issuer that was asked (RFC 9207). Where
    /// nobody has named the issuer, `iss` must have the origin of its authorization or its token endpoint.
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

    /// The first characters of the ids of a subject's sessions, by which they are found together.
    pub fn tag(subject: &Subject) -> String {
        let whose = format!("{}#{}", subject.kind().as_str(), subject.id());
        let mut tag = super::id::hash(&whose);
        tag.truncate(Self::TAG);
        tag
    }

    /// The ULID in the session's id.
    pub fn ulid(&self) -> Option<Sortable> {
        Sortable::parse_ulid(self.id.get(Self::TAG..)?)
    }

    /// Whether the session's URL may still be used.
    pub fn is_open(&self, now: Timestamp) -> bool {
        now < self.at.plus_seconds(CONSENT_LIFETIME)
    }

    /// Whether nothing may come of it any more: its server was changed, or its subject disconnected there or offboarded, since
    /// it was begun. Told by what is stored for the subject at the server, and how often the subject was offboarded.
    /// All of this may change after it was read. So a grant, and the reason of a refusal, are written under the same
    /// conditions. The steps before may go on with a void consent: what an issuer gives out for it is revoked.
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
