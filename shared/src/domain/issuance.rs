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
    /// How it authenticates: as registered, or in the other way that has served since.
    pub auth: ClientAuth,
    /// What else the issuer offers, to be tried in this order where it refuses the client.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<ClientAuth>,
    /// How it came about.
    pub source: ClientSource,
}

impl Client {
    /// A client that authenticates in the first of these ways, and in the others where that one is refused; with none of them
    /// by its id alone.
    pub fn new(id: String, ways: Vec<ClientAuth>, source: ClientSource) -> Self {
        let mut ways = ways.into_iter();
        Self {
            id,
            auth: ways.next().unwrap_or(ClientAuth::None),
            others: ways.collect(),
            source,
        }
    }

    /// The same client, which from now on authenticates in the way that served.
    #[must_use]
    pub fn served_by(&self, auth: ClientAuth) -> Self {
        let mut ways = vec![self.auth];
        ways.extend(&self.others);
        ways.retain(|way| *way != auth);
        ways.insert(0, auth);
        Self::new(self.id.clone(), ways, self.source.clone())
    }
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
    /// With HTTP Basic, and its id in the form besides: not what RFC 6749 2.3.1 means, but some servers miss the id there.
    #[serde(rename = "client_secret_basic_with_id")]
    BasicWithId,
    /// With the secret in the form.
    #[serde(rename = "client_secret_post")]
    Post,
}

impl ClientAuth {
    /// The registered name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Basic | Self::BasicWithId => "client_secret_basic",
            Self::Post => "client_secret_post",
        }
    }

    /// The ways of a client with a secret at an issuer that lists these methods, first the one that most servers read. Who
    /// lists nothing takes HTTP Basic (RFC 8414 2); what else is not known.
    pub fn ways(listed: Option<&[String]>) -> Vec<Self> {
        let Some(listed) = listed else {
            return vec![Self::Basic, Self::Post, Self::BasicWithId];
        };
        let lists = |method: Self| listed.iter().any(|name| name == method.as_str());
        match (lists(Self::Post), lists(Self::Basic)) {
            (true, true) => vec![Self::Post, Self::Basic, Self::BasicWithId],
            (false, true) => vec![Self::Basic, Self::BasicWithId],
            (_, false) => vec![Self::Post],
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_that_served_comes_first() {
        use ClientAuth::{Basic, BasicWithId, Post};
        let ways = |listed: &[&str]| {
            let listed: Vec<String> = listed.iter().map(ToString::to_string).collect();
            ClientAuth::ways(Some(&listed))
        };
        assert_eq!(ClientAuth::ways(None)[..2], [Basic, Post]);
        let both = ways(&["none", "client_secret_basic", "client_secret_post"]);
        assert_eq!(both, [Post, Basic, BasicWithId]);
        assert_eq!(ways(&["client_secret_basic"]), [Basic, BasicWithId]);
        assert_eq!(ways(&["client_secret_post"]), [Post]);
        assert_eq!(ways(&["private_key_jwt"]), [Post]);
        let client = Client::new("c".to_owned(), both, ClientSource::PreRegistered);
        let client = client.served_by(Basic);
        assert_eq!(
            (client.auth, &*client.others),
            (Basic, &[Post, BasicWithId][..])
        );
        let json = serde_json::to_value(&client).unwrap();
        assert_eq!(serde_json::from_value::<Client>(json).unwrap(), client);
        let old = r#"{"id":"c","auth":"client_secret_basic","source":"pre_registered"}"#;
        assert!(
            serde_json::from_str::<Client>(old)
                .unwrap()
                .others
                .is_empty()
        );
    }
}
