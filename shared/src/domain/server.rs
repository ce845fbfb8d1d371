//! A registered MCP server: one record, seen by every contract in its own words.

use super::address::{REDACTED, redacted};
use super::consent_failure::FailedConsent;
use super::id::ServerId;
use super::json::Exact;
use super::subject::Actor;
use super::time::Timestamp;
use crate::domain::address::origin;
use crate::domain::endpoint_method::{ClientAuth, RevocationMethod};
use crate::domain::reason::Reason;
use crate::domain::sealed::{Sealed, SigningKey, WrappedKey};
use crate::domain::subject::Subject;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A server as the table holds it. Secret values are in `secrets` and nowhere else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// The id, the same under every contract.
    pub id: ServerId,
    /// The number that Kambrium knows the server by: from the tenant's counter, never given out again.
    pub number: u64,
    /// Unique in the tenant and never changed.
    pub name: String,
    /// The address, with the values of its query redacted; the whole address is then among the [`Secrets`]. A server
    /// that an older version registered has its whole address here until it is changed, so only [`Self::shown_url`] is
    /// shown.
    pub url: String,
    /// Text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// How calls to it are authenticated.
    pub auth: Auth,
    /// Names of further headers sent upstream; `None` if the field was never sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub additional_headers: Option<Vec<String>>,
    /// Manifest fields that only TrueFoundry knows, normalised.
    #[serde(with = "json_text")]
    pub manifest: serde_json::Map<String, serde_json::Value>,
    /// The manifest's tags. Servers of older versions have them in `manifest` until they are changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Exact>,
    /// Fields that only LangSmith knows.
    pub langsmith: LangsmithFields,
    /// Fields that only Kambrium knows.
    pub connection: Connection,
    /// Whether the owner's last consent through Kambrium failed.
    #[serde(default)]
    pub consent_failed: bool,
    /// The last consent that failed, under whatever contract.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failed_consent: Option<FailedConsent>,
    /// Who registered it: the owner, to Kambrium.
    pub created_by: Actor,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When its registration last changed.
    pub updated_at: Timestamp,
    /// Raised by every change of the outbound authentication and stamped into each credential.
    pub auth_revision: u64,
    /// Credentials stamped with an older revision than this do not exist, whether they have been removed yet or not.
    pub void_before: u64,
    /// Why those credentials are gone.
    #[serde(default = "server_changed")]
    pub void_reason: Reason,
    /// Rises with every write. A write over another version than the one that was read fails.
    pub version: u64,
    /// The data key of this server, wrapped by the tenant's key.
    pub data_key: WrappedKey,
    /// [`Secrets`], sealed by the data key.
    pub secrets: Sealed,
}

const fn server_changed() -> Reason {
    Reason::ServerChanged
}

/// How a server authenticates calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Auth {
    /// Calls carry no credential.
    None,
    /// With the caller's own token. Registered and shown, never invoked.
    Passthrough,
    /// With fixed headers, or with templates that each subject's override fills.
    Headers {
        /// Shared by all subjects, or filled per subject.
        level: AuthLevel,
        /// In the order they were sent.
        headers: Vec<HeaderSpec>,
    },
    /// With OAuth 2.
    Oauth(Box<OauthConfig>),
    /// LangSmith's `legacy_shared_provider`: kept and shown, called without a token.
    LegacyProvider {
        /// The provider named at registration.
        provider_id: Option<uuid::Uuid>,
    },
}

/// Who shares the value of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthLevel {
    /// One value for all callers.
    Global,
    /// Values hold `{{NAME}}`, filled from each subject's override.
    PerUser,
}

/// One configured header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderSpec {
    /// The name as sent; compared ignoring case.
    pub name: String,
    /// The value, if it holds a placeholder and therefore no secret. Any other value is among the [`Secrets`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
}

/// OAuth settings without their secrets, in TrueFoundry's words (TrueFoundry 5.3). Those from `issuer` to
/// `additional_authorization_params` are our own and documented in docs/API.md.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the contract's table documents each field under the same name"
)]
pub struct OauthConfig {
    pub grant_type: GrantType,
    pub provider: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registration_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub introspection_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_authentication: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_resource: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code_challenge_methods_supported: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt_source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_organization: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer_uri: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_organization: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revocation_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revocation: Option<RevocationConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_endpoint_auth_method: Option<ClientAuth>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revocation_endpoint_auth_method: Option<ClientAuth>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub additional_authorization_params: Option<BTreeMap<String, String>>,
    /// Whether a client secret is among the [`Secrets`].
    #[serde(default)]
    pub has_client_secret: bool,
    /// Names of `additional_token_params`; the values are among the [`Secrets`]. Absent if the field was not sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_params: Option<Vec<String>>,
}

/// How an issuer revokes tokens, as the operator says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationConfig {
    /// The method.
    pub method: RevocationMethod,
}

/// The grants Hawser can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantType {
    /// One grant per subject, by consent.
    AuthorizationCode,
    /// The server's own; no per-subject record.
    ClientCredentials,
}

impl OauthConfig {
    /// Per-user OAuth with everything left to discovery.
    pub fn discovered() -> Self {
        Self {
            grant_type: GrantType::AuthorizationCode,
            provider: "custom".to_owned(),
            authorization_url: None,
            token_url: None,
            registration_url: None,
            introspection_url: None,
            client_id: None,
            client_authentication: None,
            include_resource: None,
            code_challenge_methods_supported: None,
            scopes: None,
            jwt_source: None,
            default_organization: None,
            audience: None,
            issuer_uri: None,
            use_organization: None,
            issuer: None,
            revocation_url: None,
            revocation: None,
            token_endpoint_auth_method: None,
            revocation_endpoint_auth_method: None,
            additional_authorization_params: None,
            has_client_secret: false,
            token_params: None,
        }
    }
}

/// What only LangSmith knows of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the contract's table documents each field under the same name"
)]
pub struct LangsmithFields {
    /// `auth_type` was sent as `headers` rather than left unset; the two act alike.
    pub says_headers: bool,
    pub vendor_id: Option<String>,
    pub external_system_id: Option<String>,
}

/// What only Kambrium knows of a server (Kambrium 9).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// The display name of the integration, or the server's name.
    pub display_name: String,
    /// Where the API key goes, for a connection made from an integration that takes one.
    pub api_key: Option<ApiKeyHeader>,
    /// What agents may do through it.
    pub access_type: AccessType,
    /// The ids of the tools that are switched off.
    pub disabled_tools: BTreeSet<u64>,
    /// Whether the connection is switched on.
    pub agent_enabled: bool,
    /// How often it has been switched off. Sessions from before are over, also once it is switched on again.
    #[serde(default)]
    pub times_off: u64,
    /// What is known of the API key.
    pub key_check: KeyCheck,
    /// The verification that checks the API key, by its id, until it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<String>,
    /// The integration it was made from; its OAuth settings are looked up there at each use, until a sibling contract
    /// gives it other outbound authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integration: Option<String>,
    /// The connection's own OAuth client.
    pub client_id: String,
    /// SHA-256 of the client's secret, lower-case hex; sibling contracts make clients without one.
    pub client_secret_hash: Option<String>,
    /// The key pair that signs the client's tokens, where the client has a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_key: Option<SigningKey>,
}

impl Connection {
    /// Switches the connection on or off.
    pub const fn switch(&mut self, on: bool) {
        if self.agent_enabled && !on {
            self.times_off += 1;
        }
        self.agent_enabled = on;
    }
}

/// A header that carries an API key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKeyHeader {
    /// Header name.
    pub header: String,
    /// Holds `{api_key}` exactly once.
    pub template: String,
}

/// What agents may do through a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the contract's words")]
pub enum AccessType {
    Read,
    Write,
    Individual,
}

impl AccessType {
    /// Reads the wire name.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "read" => Some(Self::Read),
            "write" => Some(Self::Write),
            "individual" => Some(Self::Individual),
            _ => None,
        }
    }

    /// The scopes of the connection's OAuth client (Kambrium 3).
    pub const fn scopes(self) -> &'static [&'static str] {
        match self {
            Self::Read => &["mcp.read"],
            Self::Write | Self::Individual => &["mcp.read", "mcp.write"],
        }
    }
}

/// What is known of a connection's API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the contract's words")]
pub enum KeyCheck {
    Pending,
    Verified,
    Failed,
}

impl AsRef<Self> for Server {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl Server {
    /// Placeholder names of the header templates, ascending and distinct.
    pub fn parameters(&self) -> BTreeSet<String> {
        match &self.auth {
            Auth::Headers { headers, .. } => headers
                .iter()
                .filter_map(|h| placeholder(h.template.as_deref()?))
                .map(|(_, name, _)| name.to_owned())
                .collect(),
            _ => BTreeSet::new(),
        }
    }

    /// Whether subjects may store an override for the server (TrueFoundry 6.2).
    pub fn takes_override(&self) -> bool {
        matches!(self.auth, Auth::Headers { .. } | Auth::Oauth(_))
    }

    /// Whether each subject connects to the server by a consent of its own.
    pub fn subjects_consent(&self) -> bool {
        matches!(&self.auth, Auth::Oauth(o) if o.grant_type == GrantType::AuthorizationCode)
    }

    /// Whether an override that was stored under this revision is valid. One that raced a change of the outbound
    /// authentication is void, like those that the change was allowed to void.
    pub fn accepts_override(&self, auth_revision: u64) -> bool {
        auth_revision >= self.auth_revision
    }

    /// Whether a grant that was given under this revision exists. One that raced a change exists, but does not serve.
    pub fn accepts_grant(&self, auth_revision: u64) -> bool {
        auth_revision >= self.void_before
    }

    /// The address without the values of its query.
    pub fn shown_url(&self) -> String {
        redacted(&self.url)
    }

    /// Whether values of the address are among the secrets.
    pub fn hides_values(&self) -> bool {
        self.url.contains(REDACTED)
    }

    /// Whether outbound authentication differs between two states of a server, so that credentials of one must not
    /// serve the other (TrueFoundry 9). `moved` says whether the whole address differs.
    pub fn outbound_auth_differs(&self, other: &Self, moved: bool) -> bool {
        let whole_url = [self, other]
            .into_iter()
            .any(|s| matches!(&s.auth, Auth::Oauth(o) if o.include_resource == Some(true)));
        origin(&self.url) != origin(&other.url)
            || (whole_url && moved)
            || !same_auth(&self.auth, &other.auth)
    }
}

fn same_auth(a: &Auth, b: &Auth) -> bool {
    match (a, b) {
        (
            Auth::Headers {
                level: la,
                headers: ha,
            },
            Auth::Headers {
                level: lb,
                headers: hb,
            },
        ) => {
            let names = |h: &[HeaderSpec]| {
                h.iter()
                    .map(|s| s.name.to_ascii_lowercase())
                    .collect::<BTreeSet<_>>()
            };
            let parameters = |h: &[HeaderSpec]| {
                h.iter()
                    .filter_map(|s| Some(placeholder(s.template.as_deref()?)?.1.to_owned()))
                    .collect::<BTreeSet<_>>()
            };
            la == lb && names(ha) == names(hb) && parameters(ha) == parameters(hb)
        }
        (Auth::Oauth(a), Auth::Oauth(b)) => {
            a.grant_type == b.grant_type
                && a.authorization_url == b.authorization_url
                && a.token_url == b.token_url
                && a.registration_url == b.registration_url
                && a.client_id == b.client_id
                && a.include_resource == b.include_resource
                // Beside a token endpoint, the issuer only says whose endpoint that is.
                && (a.token_url.is_some() || a.issuer == b.issuer)
        }
        _ => std::mem::discriminant(a) == std::mem::discriminant(b),
    }
}

/// Splits `Bearer {{NAME}}` into what is before the placeholder, its name, and what is after; `None` if there is no
/// `{{`, or no well-formed placeholder behind the first one.
pub fn placeholder(value: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = value.split_once("{{")?;
    let (name, after) = rest.split_once("}}")?;
    let head = name
        .chars()
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    let tail = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    (head && tail && name.len() <= 64).then_some((before, name, after))
}

/// The secret values of one server, each under the place it belongs to.
#[derive(Clone, Default)]
pub struct Secrets(BTreeMap<String, SecretString>);

/// Where a secret value of a server belongs. Header names are compared ignoring case.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// The value of a configured header.
    Header(&'a str),
    /// The value of an additional header.
    AdditionalHeader(&'a str),
    /// The OAuth client secret.
    ClientSecret,
    /// The value of an additional token parameter.
    TokenParam(&'a str),
    /// The whole address, where its query has values.
    Url,
}

impl Place<'_> {
    fn key(self) -> String {
        match self {
            Self::Header(name) => format!("header:{}", name.to_ascii_lowercase()),
            Self::AdditionalHeader(name) => {
                format!("additional_header:{}", name.to_ascii_lowercase())
            }
            Self::ClientSecret => "client_secret".to_owned(),
            Self::TokenParam(name) => format!("token_param:{name}"),
            Self::Url => "url".to_owned(),
        }
    }
}

impl Secrets {
    /// Puts a value at its place.
    pub fn set(&mut self, place: Place<'_>, value: impl Into<SecretString>) {
        self.0.insert(place.key(), value.into());
    }

    /// Forgets the value at a place.
    pub fn remove(&mut self, place: Place<'_>) {
        self.0.remove(&place.key());
    }

    /// The value at a place.
    pub fn get(&self, place: Place<'_>) -> Option<&str> {
        self.0.get(&place.key()).map(ExposeSecret::expose_secret)
    }

    /// The whole address of the server that has these secrets.
    pub fn address<'a>(&'a self, server: &'a Server) -> &'a str {
        self.get(Place::Url).unwrap_or(&server.url)
    }

    /// Stores the whole address if its query has values. Returns the address that may be shown.
    pub fn keep_address(&mut self, address: &str) -> String {
        let shown = redacted(address);
        if shown == address {
            self.remove(Place::Url);
        } else {
            self.set(Place::Url, address);
        }
        shown
    }

    /// Bytes of all values together.
    pub fn len_bytes(&self) -> usize {
        self.0.values().map(|v| v.expose_secret().len()).sum()
    }

    /// The JSON that is sealed.
    pub(crate) fn to_json(&self) -> serde_json::Result<zeroize::Zeroizing<Vec<u8>>> {
        let plain: BTreeMap<&str, &str> = self
            .0
            .iter()
            .map(|(k, v)| (k.as_str(), v.expose_secret()))
            .collect();
        serde_json::to_vec(&plain).map(zeroize::Zeroizing::new)
    }

    pub(crate) fn from_json(json: &[u8]) -> serde_json::Result<Self> {
        let plain: BTreeMap<String, String> = serde_json::from_slice(json)?;
        Ok(Self(
            plain.into_iter().map(|(k, v)| (k, v.into())).collect(),
        ))
    }
}

impl PartialEq for Secrets {
    fn eq(&self, other: &Self) -> bool {
        let plain = |s: &Self| {
            s.0.iter()
                .map(|(k, v)| (k.clone(), v.expose_secret().to_owned()))
                .collect::<Vec<_>>()
        };
        plain(self) == plain(other)
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A JSON object kept as one string attribute: deep nesting and many small values would grow in DynamoDB's own types.
mod json_text {
    use serde::{Deserialize, Deserializer, Serializer, de, ser};
    use serde_json::{Map, Value};

    pub fn serialize<S: Serializer>(
        map: &Map<String, Value>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&serde_json::to_string(map).map_err(ser::Error::custom)?)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Map<String, Value>, D::Error> {
        serde_json::from_str(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// The pointer item of a number, with enough of the server to delete it without reading it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Numbered {
    /// The server.
    pub id: ServerId,
    /// Its number.
    pub number: u64,
    /// Its name, which never changes.
    pub name: String,
    /// Its owner, who never changes.
    #[serde(flatten)]
    pub owner: Subject,
    /// The server's data key, for the tombstone.
    pub data_key: WrappedKey,
}

impl From<&Server> for Numbered {
    fn from(server: &Server) -> Self {
        Self {
            id: server.id,
            number: server.number,
            name: server.name.clone(),
            owner: server.created_by.subject.clone(),
            data_key: server.data_key.clone(),
        }
    }
}
