//! Where a grant comes from: all that it takes to refresh and to revoke it when the server's metadata, the client's record
//! and the server itself are gone.

use super::id::ServerId;
use super::secret;
use super::server::Server;
use super::subject::Subject;
use super::time::Timestamp;
use crate::seal::Sealed;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

/// Who issued a grant, to which client, for what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issuance {
    /// The authorization server, byte for byte as its metadata names it.
    pub issuer: String,
    /// Where codes and refresh tokens are presented.
    pub token_endpoint: String,
    /// Where tokens are revoked (RFC 7009), if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation_endpoint: Option<String>,
    /// The client that the tokens were issued to.
    pub client: Client,
    /// The resource indicator (RFC 8707), byte for byte as the server publishes it; `None` where none is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
}

/// An OAuth client, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// `client_id`.
    pub id: String,
    /// How it authenticates, as registered.
    pub auth: ClientAuth,
    /// How it came about.
    pub source: ClientSource,
}

/// How a client authenticates at the token and revocation endpoints (RFC 7591 `token_endpoint_auth_method`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientAuth {
    /// With its id alone.
    #[serde(rename = "none")]
    None,
    /// With HTTP Basic.
    #[serde(rename = "client_secret_basic")]
    Basic,
    /// With the secret in the form.
    #[serde(rename = "client_secret_post")]
    Post,
}

impl ClientAuth {
    /// The registered name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Basic => "client_secret_basic",
            Self::Post => "client_secret_post",
        }
    }
}

/// How a client came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientSource {
    /// An operator registered it.
    PreRegistered,
    /// Its id is the address of the metadata document that this deployment serves.
    MetadataDocument,
    /// Hawser registered it (RFC 7591), under this id of its record.
    Dynamic(String),
}

/// A client as the table keeps it: one that Hawser registered, or the issuer that an operator's client belongs to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClientRecord {
    /// Sorts by time.
    pub id: String,
    /// The server it serves.
    pub server: ServerId,
    /// The one subject it serves; all of the server's if there is none.
    #[serde(flatten)]
    pub owner: Option<Subject>,
    /// The issuer it is known to, byte for byte.
    pub issuer: String,
    /// Itself.
    pub client: Client,
    /// Where it is answered to; registered exactly so.
    pub redirect_uri: String,
    /// What it was registered for; issuers may refuse it more.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// When its secret ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_expires_at: Option<Timestamp>,
    /// Whether the issuer has refused it: the next consent registers another one. What it obtained stays bound to it.
    pub rejected: bool,
    /// Where it is managed (RFC 7592).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub management_uri: Option<String>,
    /// When it was registered.
    pub at: Timestamp,
    /// [`ClientSecrets`], sealed.
    pub sealed: Sealed,
}

/// The secret part of a client.
#[derive(Debug, Default)]
pub struct ClientSecrets {
    /// `client_secret`.
    pub secret: Option<SecretString>,
    /// `registration_access_token` (RFC 7592).
    pub registration_token: Option<SecretString>,
}

impl ClientSecrets {
    pub(crate) fn to_json(&self) -> Option<Zeroizing<Vec<u8>>> {
        secret::encode(&[
            ("secret", self.secret.as_ref()),
            ("registration_token", self.registration_token.as_ref()),
        ])
    }

    pub(crate) fn from_json(json: &[u8]) -> Option<Self> {
        let mut fields = secret::decode(json)?;
        Some(Self {
            secret: fields.remove("secret"),
            registration_token: fields.remove("registration_token"),
        })
    }
}

/// What LangSmith calls a provider: that one subject may connect to one server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Provider {
    /// What clients know it by.
    pub id: Uuid,
    /// The server.
    pub server: ServerId,
    /// Whose it is.
    #[serde(flatten)]
    pub subject: Subject,
    /// The server's auth revision when it was made.
    pub auth_revision: u64,
}

impl Provider {
    /// Whether a server still has it; one that was made before the server moved is gone.
    pub fn stands_under(&self, server: &Server) -> bool {
        server.subjects_consent() && server.stands_behind_grant(self.auth_revision)
    }
}
