//! Where a grant comes from: all that it takes to refresh and to revoke it when the server's metadata, the client's record
//! and the server itself are gone.

use serde::{Deserialize, Serialize};

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
