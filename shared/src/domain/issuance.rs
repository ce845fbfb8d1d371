//! Where a grant comes from: all that it takes to refresh and to revoke it, also when the server, its metadata and the
//! client's record are gone.

use super::id::ServerId;
use super::secret;
use super::server::Server;
use super::subject::Subject;
use super::time::Timestamp;
use crate::domain::endpoint_method::{ClientAuth, RevocationMethod};
use crate::domain::sealed::Sealed;
use crate::domain::time::CONSENT_LIFETIME;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

/// Who issued a grant, to which client, and for which resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issuance {
    /// The authorization server, byte for byte as its metadata or the operator names it; where neither does, its token
    /// endpoint. Grants of older versions have the origin of the token endpoint instead.
    pub issuer: String,
    /// Where codes and refresh tokens are presented.
    pub token_endpoint: String,
    /// Where tokens are revoked, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation_endpoint: Option<String>,
    /// How tokens are revoked there.
    #[serde(default, skip_serializing_if = "RevocationMethod::is_standard")]
    pub revocation_method: RevocationMethod,
    /// The methods that clients may authenticate by there, out of those that Hawser supports; empty if none are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revocation_auth: Vec<ClientAuth>,
    /// The client that the tokens were issued to.
    pub client: Client,
    /// The resource indicator (RFC 8707), byte for byte as the server publishes it; `None` where none is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
}

impl Issuance {
    /// Whether metadata or the operator names the issuer.
    pub fn names_issuer(&self) -> bool {
        self.issuer != self.token_endpoint
    }

    /// The methods to authenticate by at the revocation endpoint: the first to be tried, and the next after each
    /// refusal of the client. A client without a secret has only one.
    pub fn revocation_auths(&self, has_secret: bool) -> Vec<ClientAuth> {
        let own = self.client.auth;
        let secret = [ClientAuth::Basic, ClientAuth::Post];
        let mut all = match (&*self.revocation_auth, own) {
            (_, ClientAuth::None) if !has_secret => vec![own],
            ([], ClientAuth::None) => vec![own],
            ([], _) => secret.to_vec(),
            (said, _) => said.to_vec(),
        };
        if all.contains(&ClientAuth::Basic) {
            all.push(ClientAuth::BasicWithId);
        }
        let is_odd = |auth| matches!(auth, ClientAuth::None | ClientAuth::BasicWithId);
        all.sort_by_key(|auth| (*auth != own, is_odd(*auth)));
        all
    }

    /// The client with the method to authenticate by at the revocation endpoint this time. Each refusal leads to the next
    /// method, because what issuers say about them is not always true.
    pub fn revocation_client(&self, has_secret: bool, refusals: u32) -> Client {
        let ways = self.revocation_auths(has_secret);
        let turn = refusals as usize % ways.len().max(1);
        let client = &self.client;
        let auth = ways.get(turn).copied().unwrap_or(client.auth);
        Client::new(client.id.clone(), vec![auth], client.source.clone())
    }
}

/// An OAuth client, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// `client_id`.
    pub id: String,
    /// How it authenticates: as registered, or by the method that has worked since.
    pub auth: ClientAuth,
    /// The other methods that the issuer offers, to be tried in this order where it refuses the client.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<ClientAuth>,
    /// How Hawser got the client.
    pub source: ClientSource,
}

impl Client {
    /// A client that authenticates by the first of these methods, and by the others where the first is refused. Without
    /// any method it authenticates by its id alone.
    pub fn new(id: String, ways: Vec<ClientAuth>, source: ClientSource) -> Self {
        let mut ways = ways.into_iter();
        Self {
            id,
            auth: ways.next().unwrap_or(ClientAuth::None),
            others: ways.collect(),
            source,
        }
    }

    /// The same client, which authenticates by `auth` from now on.
    #[must_use]
    pub fn served_by(&self, auth: ClientAuth) -> Self {
        let mut ways = vec![self.auth];
        ways.extend(&self.others);
        ways.retain(|way| *way != auth);
        ways.insert(0, auth);
        Self::new(self.id.clone(), ways, self.source.clone())
    }
}

/// How Hawser got a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientSource {
    /// The operator registered the client.
    PreRegistered,
    /// The client's id is the address of the metadata document that this deployment serves.
    MetadataDocument,
    /// Hawser registered the client (RFC 7591). Holds the id of its [`ClientRecord`].
    Dynamic(String),
}

/// A client's item in the table: a client that Hawser registered, or the issuer that an operator's client belongs to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClientRecord {
    /// The id of the record; sorts by time.
    pub id: String,
    /// The server that the client is for.
    pub server: ServerId,
    /// The one subject that the client is for; `None` for all subjects of the server.
    #[serde(flatten)]
    pub owner: Option<Subject>,
    /// The issuer that knows the client, byte for byte.
    pub issuer: String,
    /// The client.
    pub client: Client,
    /// The client's redirect URI, byte for byte as registered.
    pub redirect_uri: String,
    /// The scopes that the client was registered for. The issuer may refuse others.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// When the client's secret expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_expires_at: Option<Timestamp>,
    /// Whether the issuer has refused the client. The next consent then registers another one; grants of this one keep
    /// it.
    pub rejected: bool,
    /// The server's auth revision when the client was registered. A revoke-all retires the clients from before it, too.
    #[serde(default)]
    pub auth_revision: u64,
    /// When a browser was first sent to the issuer as this client, since the last success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_since: Option<Timestamp>,
    /// When a consent with this client last succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded_at: Option<Timestamp>,
    /// The client configuration endpoint (RFC 7592).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub management_uri: Option<String>,
    /// When the client was registered.
    pub at: Timestamp,
    /// [`ClientSecrets`], sealed.
    pub sealed: Sealed,
}

impl ClientRecord {
    /// [`Self::waiting_since`], unless a consent with this client has succeeded since.
    pub fn unanswered_since(&self) -> Option<Timestamp> {
        self.waiting_since
            .filter(|since| self.succeeded_at.is_none_or(|success| success < *since))
    }

    /// Whether the issuer may have forgotten this client: a browser was sent there and did not come back, and no
    /// consent has succeeded since. `abandoned_at` is when the asking subject last left a consent with this client
    /// unfinished. A client that was registered within the lifetime of a consent and never succeeded is not doubted: a
    /// new one would be no better.
    pub fn is_doubtful(&self, abandoned_at: Option<Timestamp>, now: Timestamp) -> bool {
        let Some(since) = self.unanswered_since() else {
            return false;
        };
        let is_untried =
            self.succeeded_at.is_none() && now < self.at.plus_seconds(CONSENT_LIFETIME);
        let is_over = since.plus_seconds(CONSENT_LIFETIME) <= now;
        !is_untried && (is_over || abandoned_at.is_some_and(|at| since <= at))
    }
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
    /// The id that LangSmith's clients use.
    pub id: Uuid,
    /// The server.
    pub server: ServerId,
    /// The subject.
    #[serde(flatten)]
    pub subject: Subject,
    /// The server's auth revision when the provider was made.
    pub auth_revision: u64,
}

impl Provider {
    /// Whether the provider is valid at this server. A change of the outbound authentication voids those made before
    /// it.
    pub fn is_valid_under(&self, server: &Server) -> bool {
        server.subjects_consent() && server.accepts_grant(self.auth_revision)
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

    #[test]
    fn each_endpoint_is_authenticated_at_as_it_says() {
        use ClientAuth::{Basic, BasicWithId, None, Post};
        for (own, said, expected) in [
            // A secret that the token endpoint does not take.
            (None, &[Basic][..], &[Basic, BasicWithId][..]),
            (None, &[Basic, None], &[None, Basic, BasicWithId]),
            (None, &[], &[None]),
            (Basic, &[], &[Basic, Post, BasicWithId]),
            (Post, &[], &[Post, Basic, BasicWithId]),
            (BasicWithId, &[], &[BasicWithId, Basic, Post]),
            (BasicWithId, &[Basic], &[BasicWithId, Basic]),
            (Post, &[Basic], &[Basic, BasicWithId]),
            (Basic, &[Post], &[Post]),
            (Basic, &[Post, Basic], &[Basic, Post, BasicWithId]),
            (Basic, &[None, Post], &[Post, None]),
            (Basic, &[None], &[None]),
        ] {
            let issuance = Issuance {
                issuer: "https://as.example/token".to_owned(),
                token_endpoint: "https://as.example/token".to_owned(),
                revocation_endpoint: Option::None,
                revocation_method: RevocationMethod::Rfc7009,
                revocation_auth: said.to_vec(),
                client: Client::new("c".to_owned(), vec![own], ClientSource::PreRegistered),
                resource: Option::None,
            };
            let auths = issuance.revocation_auths(true);
            assert_eq!(auths, expected, "{own:?} {said:?}");
            if own == None {
                assert_eq!(issuance.revocation_auths(false), [None]);
            }
            assert!(!issuance.names_issuer());
        }
        for name in ClientAuth::NAMES {
            assert_eq!(ClientAuth::parse(name).unwrap().as_str(), name);
        }
        for name in RevocationMethod::NAMES {
            let method = RevocationMethod::parse(name).unwrap();
            assert_eq!(serde_json::to_value(method).unwrap(), name);
        }
    }

    #[test]
    fn what_was_stored_before_methods_had_names_still_reads() {
        let old = r#"{"issuer":"https://as.example","token_endpoint":"https://as.example/t",
            "client":{"id":"c","auth":"client_secret_basic","source":"pre_registered"}}"#;
        let issuance: Issuance = serde_json::from_str(old).unwrap();
        assert_eq!(issuance.revocation_method, RevocationMethod::Rfc7009);
        assert!(issuance.revocation_auth.is_empty() && issuance.names_issuer());
    }
}
