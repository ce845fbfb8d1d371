//! The integrations from which Kambrium connections are made: one JSON document of the operator's (Kambrium 10).

use crate::domain::issuance::{ClientAuth, RevocationMethod};
use crate::domain::server::{ApiKeyHeader, RevocationConfig};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use tracing::warn;
use url::{Host, Url};

/// The active and inactive integrations, by name.
#[derive(Clone, Debug, Default)]
pub struct Catalogue(BTreeMap<String, Integration>);

/// One integration.
#[derive(Clone, Debug)]
pub struct Integration {
    /// Name for people.
    pub display_name: String,
    /// Text for people.
    pub description: Option<String>,
    /// Where its MCP server is.
    pub mcp_url: String,
    /// Whether connections can be made from it.
    pub active: bool,
    /// As the operator states it; nobody is asked.
    pub number_of_tools: u64,
    /// Where an api key goes; `None` if keys are not supported.
    pub api_key: Option<ApiKeyHeader>,
    /// How subjects consent; `None` if OAuth is not supported.
    pub oauth: Option<IntegrationOauth>,
}

/// The OAuth settings of an integration. What is absent is discovered. docs/PROVIDERS.md says what each is for.
#[derive(Clone, Debug, Deserialize)]
#[expect(
    missing_docs,
    reason = "the contract's table and docs/PROVIDERS.md document each field under the same name"
)]
pub struct IntegrationOauth {
    pub authorization_endpoint: Option<String>,
    pub token_endpoint: Option<String>,
    pub revocation_endpoint: Option<String>,
    pub issuer: Option<String>,
    pub revocation: Option<RevocationConfig>,
    pub token_endpoint_auth_method: Option<ClientAuth>,
    pub revocation_endpoint_auth_method: Option<ClientAuth>,
    pub include_resource: Option<bool>,
    #[serde(default)]
    pub code_challenge_methods_supported: Vec<String>,
    pub client_id: Option<String>,
    pub client_secret: Option<SecretString>,
    #[serde(default)]
    pub scopes: Vec<String>,
    #[serde(default = "yes")]
    pub pkce: bool,
    #[serde(default)]
    pub authorize_params: BTreeMap<String, String>,
    #[serde(default)]
    pub revocation_scope: RevocationScope,
}

/// What revoking one token ends at a provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevocationScope {
    /// What was issued with it.
    #[default]
    Token,
    /// Everything the user has granted to the client.
    Grant,
}

impl IntegrationOauth {
    /// Endpoints come in a pair, over https, and a secret only with its client.
    fn is_sound(&self, loopback_http: bool) -> bool {
        let endpoints = [
            &self.authorization_endpoint,
            &self.token_endpoint,
            &self.revocation_endpoint,
            &self.issuer,
        ];
        let paired = self.authorization_endpoint.is_some() == self.token_endpoint.is_some();
        let client = self.client_id.is_some()
            || (self.client_secret.is_none() && self.token_endpoint.is_none());
        let method = self.revocation.map(|revocation| revocation.method);
        let can_revoke = method != Some(RevocationMethod::Github) || self.client_secret.is_some();
        paired
            && client
            && can_revoke
            && endpoints
                .into_iter()
                .flatten()
                .all(|url| is_plain_url(url, loopback_http))
    }
}

#[derive(Deserialize)]
struct Entry {
    display_name: String,
    description: Option<String>,
    mcp_url: String,
    #[serde(default = "yes")]
    active: bool,
    #[serde(default)]
    number_of_tools: u64,
    api_key: Option<KeyEntry>,
    oauth: Option<IntegrationOauth>,
}

#[derive(Deserialize)]
struct KeyEntry {
    #[serde(default = "authorization")]
    header: String,
    #[serde(default = "bearer")]
    template: String,
}

const fn yes() -> bool {
    true
}

fn authorization() -> String {
    "Authorization".to_owned()
}

fn bearer() -> String {
    "Bearer {api_key}".to_owned()
}

impl Catalogue {
    /// Reads the document. An entry that breaks a rule is left out, a document that does not parse counts as empty;
    /// both are logged by name, without content.
    ///
    /// With `loopback_http`, addresses may be `http` on loopback.
    pub fn parse(document: &str, loopback_http: bool) -> Self {
        let Ok(root) = serde_json::from_str::<Value>(document) else {
            warn!("the integration catalogue is not JSON and counts as empty");
            return Self::default();
        };
        let entries = root.get("integrations").and_then(Value::as_object);
        let read = entries.into_iter().flatten().filter_map(|(name, entry)| {
            let integration = is_name(name)
                .then(|| Integration::parse(entry, loopback_http))
                .flatten();
            if integration.is_none() {
                warn!(
                    integration = name.escape_debug().to_string(),
                    "left out of the catalogue: the entry breaks a rule"
                );
            }
            Some((name.clone(), integration?))
        });
        Self(read.collect())
    }

    /// The active integrations, by name, ascending.
    pub fn active(&self) -> impl Iterator<Item = (&str, &Integration)> {
        self.0
            .iter()
            .filter(|(_, i)| i.active)
            .map(|(name, i)| (name.as_str(), i))
    }

    /// One active integration.
    pub fn get(&self, name: &str) -> Option<&Integration> {
        self.0.get(name).filter(|i| i.active)
    }

    /// One integration, whether connections can still be made from it or not: those that were go on.
    pub fn of_connection(&self, name: &str) -> Option<&Integration> {
        self.0.get(name)
    }
}

impl Integration {
    fn parse(entry: &Value, loopback_http: bool) -> Option<Self> {
        let entry = Entry::deserialize(entry).ok()?;
        let plain = is_plain_url(&entry.mcp_url, loopback_http)
            && entry
                .oauth
                .as_ref()
                .is_none_or(|oauth| oauth.is_sound(loopback_http));
        let named = (1..=200).contains(&entry.display_name.chars().count());
        let api_key = match entry.api_key {
            None => None,
            Some(key) => Some(ApiKeyHeader {
                header: key.header,
                template: key.template,
            })
            .filter(is_usable)
            .map(Some)?,
        };
        (plain && named).then_some(Self {
            display_name: entry.display_name,
            description: entry.description,
            mcp_url: entry.mcp_url,
            active: entry.active,
            number_of_tools: entry.number_of_tools,
            api_key,
            oauth: entry.oauth,
        })
    }
}

fn is_plain_url(text: &str, loopback_http: bool) -> bool {
    Url::parse(text).is_ok_and(|url| {
        let local = match url.host() {
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => false,
        };
        let scheme = url.scheme() == "https" || (loopback_http && local && url.scheme() == "http");
        scheme && url.username().is_empty() && url.password().is_none() && url.fragment().is_none()
    })
}

fn is_name(name: &str) -> bool {
    let tail = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    name.len() <= 40
        && name.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
        && name.bytes().all(tail)
}

fn is_usable(key: &ApiKeyHeader) -> bool {
    const REFUSED: [&str; 8] = [
        "connection",
        "host",
        "keep-alive",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let name = key.header.to_ascii_lowercase();
    let legal = crate::domain::header::is_token(&name)
        && !REFUSED.contains(&name.as_str())
        && !name.starts_with("content-")
        && !name.starts_with("mcp-");
    legal
        && key.template.bytes().all(|b| (0x20..=0x7e).contains(&b))
        && key.template.matches("{api_key}").count() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_out_what_breaks_a_rule() {
        let catalogue = Catalogue::parse(
            r#"{"integrations": {
                "good": {"display_name": "Good", "mcp_url": "https://x.example/mcp", "api_key": {}},
                "off": {"display_name": "Off", "mcp_url": "https://x.example/mcp", "active": false},
                "Bad-Name": {"display_name": "B", "mcp_url": "https://x.example/mcp"},
                "http": {"display_name": "H", "mcp_url": "http://x.example/mcp"},
                "host": {"display_name": "H", "mcp_url": "https://x.example/mcp", "api_key": {"header": "Host"}},
                "halved": {"display_name": "H", "mcp_url": "https://x.example/mcp", "oauth": {"token_endpoint": "https://x.example/t"}},
                "plain": {"display_name": "P", "mcp_url": "https://x.example/mcp",
                          "oauth": {"client_id": "c", "authorization_endpoint": "https://x.example/a", "token_endpoint": "http://127.0.0.1/t"}},
                "odd-method": {"display_name": "O", "mcp_url": "https://x.example/mcp", "oauth": {"revocation": {"method": "fax"}}},
                "odd-auth": {"display_name": "O", "mcp_url": "https://x.example/mcp", "oauth": {"token_endpoint_auth_method": "private_key_jwt"}},
                "issuer": {"display_name": "I", "mcp_url": "https://x.example/mcp", "oauth": {"issuer": "http://as.example"}},
                "no-secret": {"display_name": "N", "mcp_url": "https://x.example/mcp", "oauth": {"client_id": "c", "revocation": {"method": "github"}}},
                "twice": {"display_name": "T", "mcp_url": "https://x.example/mcp", "api_key": {"template": "{api_key}{api_key}"}}
            }}"#,
            false,
        );
        assert_eq!(
            catalogue.active().map(|(name, _)| name).collect::<Vec<_>>(),
            ["good"]
        );
        assert_eq!(
            catalogue
                .get("good")
                .unwrap()
                .api_key
                .as_ref()
                .unwrap()
                .template,
            "Bearer {api_key}"
        );
        assert!(catalogue.get("off").is_none());
        assert!(catalogue.of_connection("off").is_some());
        assert_eq!(Catalogue::parse("nonsense", false).active().count(), 0);
    }
}
