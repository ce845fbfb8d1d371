//! The configuration that an operator sets. Every variable is named here and nowhere else. A missing or wrong variable
//! stops the start with its name. No variable holds a secret.

use crate::auth::jwt::{ClaimNames, KeySet, TokenConfig};
use crate::domain::allowed_issuers::AllowedIssuers;
use crate::domain::application::is_usable_redirect;
use crate::domain::id::{TenantId, is_plain_text};
use crate::domain::integration::SecretReference;
use crate::domain::secret_mapping::SecretMapping;
use crate::egress::PrivateHosts;
use secrecy::SecretString;
use serde::Deserialize;
use std::fmt;
use url::Url;

/// The configuration of a function.
#[derive(Clone, Debug)]
pub struct Config {
    /// `HAWSER_TABLE`: the table's name.
    pub table: String,
    /// `HAWSER_KMS_KEY_ID` (key id, ARN or alias), or without KMS `HAWSER_KEY_FILE` (a file of 64 hexadecimal digits).
    /// Exactly one of them.
    pub key_service: KeyServiceConfig,
    /// `HAWSER_JWT_ISSUER` and `HAWSER_JWT_AUDIENCE`, both or neither. `HAWSER_JWKS_URL` (https) or, inline,
    /// `HAWSER_JWKS`, if the key set is not the one that the issuer's metadata names. Without an issuer only API keys
    /// are accepted. The environment names at most one issuer.
    pub tokens: Vec<TokenConfig>,
    /// `HAWSER_GATEWAY_URL`: the base URL under which servers are invoked (default: not shown).
    pub gateway_url: Option<String>,
    /// `HAWSER_PUBLIC_URL`: the base URLs under which this deployment is reached from outside, separated by commas.
    /// Consents return to the first (default: the gateway's own, as each request names it).
    pub public_urls: Vec<String>,
    /// `HAWSER_CLIENT_METADATA_URL`: the https address of the client id metadata document of this deployment (default:
    /// under the first public URL, if that is https).
    pub client_metadata_url: Option<String>,
    /// `HAWSER_RETURN_ORIGINS`: origins that a consent may send the browser on to, separated by commas (default: none).
    pub return_origins: Vec<String>,
    /// `HAWSER_ALLOWED_ORIGINS`: origins whose web pages may call this deployment and read its answers, separated by commas
    /// (default: none).
    pub allowed_origins: Vec<String>,
    /// `HAWSER_UI_ORIGIN`: the origin whose pages learn how a consent ended (default: none).
    pub ui_origin: Option<String>,
    /// `HAWSER_PRIVATE_HOSTS`: private hosts that may be reached as well as public ones, by name (`mcp.corp.example`,
    /// `*.corp.example`) or range of addresses (`10.20.0.0/16`), separated by commas. An entry with `http://` before it
    /// allows plain http, too (default: none).
    pub private_hosts: PrivateHosts,
    /// `HAWSER_ALLOWED_ISSUERS`: which issuers the servers of a tenant may use, as JSON (default: any).
    pub allowed_issuers: AllowedIssuers,
    /// `HAWSER_SECRET_REFERENCES`: where the secrets are that manifests refer to, such as `ssm:/hawser/{tenant}/{group}/{name}`
    /// (default: references are refused).
    pub secret_mapping: Option<SecretMapping>,
    /// How people and applications sign in here.
    pub sign_in: SignInConfig,
    /// Whether a server may be registered at `http` on loopback. Not a variable: only the local server sets it.
    pub allow_loopback_http: bool,
}

/// How people and applications sign in here (Inbound 2).
#[derive(Clone, Debug)]
pub struct SignInConfig {
    /// Where people sign in.
    pub place: SignInPlace,
    /// `HAWSER_AUTHORIZATION_SERVER`: another authorization server to name to MCP clients, which can do everything that
    /// they need (default: this deployment, if people can sign in).
    pub authorization_server: Option<String>,
    /// `HAWSER_APPLICATION_REGISTRATION` (`yes`): whether applications may register themselves.
    pub registration: bool,
    /// `HAWSER_APPLICATIONS`: applications that the operator lists, as JSON (default: none).
    pub applications: Vec<ListedApplication>,
}

impl Default for SignInConfig {
    fn default() -> Self {
        Self {
            place: SignInPlace::Nowhere,
            authorization_server: None,
            registration: true,
            applications: Vec::new(),
        }
    }
}

/// Where people sign in.
#[derive(Clone, Debug)]
pub enum SignInPlace {
    /// Nowhere: nobody can sign in.
    Nowhere,
    /// At the operator's OpenID provider.
    Provider(Box<ProviderConfig>),
    /// At the local server's page for development, which believes any name. Not a variable: only the local server sets
    /// it.
    Development,
}

/// The operator's OpenID provider, and the client that is registered there for this deployment.
#[derive(Clone, Debug)]
pub struct ProviderConfig {
    /// The issuer and audience of accepted ID tokens: `HAWSER_SIGN_IN_ISSUER` and `HAWSER_SIGN_IN_CLIENT_ID`. The same
    /// claims are read as in API tokens.
    pub tokens: TokenConfig,
    /// `HAWSER_SIGN_IN_CLIENT_ID`.
    pub client_id: String,
    /// The client's secret; `None` for a public client.
    pub secret: Option<ProviderSecret>,
    /// `HAWSER_SIGN_IN_SCOPES` (default: `openid profile email`).
    pub scopes: String,
}

/// Where the secret of the client at the provider is.
#[derive(Clone, Debug)]
pub enum ProviderSecret {
    /// `HAWSER_SIGN_IN_SECRET_ARN`: in Secrets Manager or Parameter Store.
    Reference(SecretReference),
    /// In the settings of the local server.
    Given(SecretString),
}

/// An application that the operator lists.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListedApplication {
    /// Its `client_id`.
    pub client_id: String,
    /// Its name for people.
    pub name: String,
    /// The application's redirect URIs.
    pub redirect_uris: Vec<String>,
    /// SHA-256 of the application's secret, lower-case hexadecimal; `None` for a public client.
    #[serde(default)]
    pub client_secret_sha256: Option<String>,
}

impl ListedApplication {
    /// Reads a JSON list of applications.
    ///
    /// # Errors
    /// What is wrong with the list, for the operator.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        let all: Vec<Self> = serde_json::from_str(text).map_err(|e| e.to_string())?;
        for one in &all {
            let id = &one.client_id;
            let secret = one.client_secret_sha256.as_deref();
            let is_hash = |text: &str| {
                text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            };
            if !is_plain_text(id, 255) || id.contains("://") {
                return Err("a client_id is empty, too long or an address".to_owned());
            }
            if let Some(uri) = one
                .redirect_uris
                .iter()
                .find(|uri| !is_usable_redirect(uri))
            {
                return Err(format!("{id}: {uri} is no redirect URI"));
            }
            if one.redirect_uris.is_empty() || secret.is_some_and(|text| !is_hash(text)) {
                return Err(format!(
                    "{id}: redirect_uris or client_secret_sha256 is wrong"
                ));
            }
        }
        Ok(all)
    }
}

/// What wraps tenant keys.
#[derive(Clone, Debug)]
pub enum KeyServiceConfig {
    /// This KMS key.
    Kms(String),
    /// The key with these hexadecimal digits.
    Key(SecretString),
}

/// A variable that is missing or wrong.
#[derive(Debug)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// A configuration that suffices for tools that work on the table itself.
    pub fn bare(table: &str, key_service: KeyServiceConfig) -> Self {
        Self {
            table: table.to_owned(),
            key_service,
            tokens: Vec::new(),
            gateway_url: None,
            public_urls: Vec::new(),
            client_metadata_url: None,
            return_origins: Vec::new(),
            allowed_origins: Vec::new(),
            ui_origin: None,
            private_hosts: PrivateHosts::default(),
            allowed_issuers: AllowedIssuers::default(),
            secret_mapping: None,
            sign_in: SignInConfig::default(),
            allow_loopback_http: false,
        }
    }

    /// Reads the environment.
    ///
    /// # Errors
    /// The missing or wrong variable, by name.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let optional = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let list = |name: &str| -> Vec<String> {
            let text = optional(name).unwrap_or_default();
            let parts = text
                .split(',')
                .map(|part| part.trim().trim_end_matches('/'));
            parts
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let switch = |name: &str, default: bool| match optional(name).as_deref() {
            None => Ok(default),
            Some("no") => Ok(false),
            Some("yes") => Ok(true),
            Some(_) => Err(ConfigError(format!("{name} must be yes or no"))),
        };
        let required =
            |name: &str| optional(name).ok_or_else(|| ConfigError(format!("{name} is not set")));
        let key_service = match (optional("HAWSER_KMS_KEY_ID"), optional("HAWSER_KEY_FILE")) {
            (Some(id), None) => KeyServiceConfig::Kms(id),
            (None, Some(path)) => {
                let digits = std::fs::read_to_string(&path)
                    .map_err(|e| ConfigError(format!("HAWSER_KEY_FILE cannot be read: {e}")))?;
                KeyServiceConfig::Key(digits.into())
            }
            _ => {
                return Err(ConfigError(
                    "set exactly one of HAWSER_KMS_KEY_ID and HAWSER_KEY_FILE".to_owned(),
                ));
            }
        };
        let tokens = match optional("HAWSER_JWT_ISSUER") {
            None => Vec::new(),
            Some(issuer) => vec![TokenConfig {
                audiences: list_of(&required("HAWSER_JWT_AUDIENCE")?),
                audience_by_client_id: switch("HAWSER_AUDIENCE_BY_CLIENT_ID", false)?,
                keys: match (optional("HAWSER_JWKS_URL"), optional("HAWSER_JWKS")) {
                    (Some(url), None) if url.starts_with("https://") => KeySet::Url(url),
                    (None, Some(text)) => {
                        KeySet::Inline(serde_json::from_str(&text).map_err(|e| {
                            ConfigError(format!("HAWSER_JWKS is not a key set: {e}"))
                        })?)
                    }
                    (None, None) if issuer.starts_with("https://") => KeySet::Discovered,
                    (None, None) => {
                        return Err(ConfigError(
                            "HAWSER_JWT_ISSUER must be https, or HAWSER_JWKS_URL set".to_owned(),
                        ));
                    }
                    (Some(_), None) => {
                        return Err(ConfigError("HAWSER_JWKS_URL must be https".to_owned()));
                    }
                    (Some(_), Some(_)) => {
                        return Err(ConfigError(
                            "set only one of HAWSER_JWKS_URL and HAWSER_JWKS".to_owned(),
                        ));
                    }
                },
                claims: claims(optional),
                default_tenant: default_tenant(optional)?,
                issuer,
            }],
        };
        Ok(Self {
            table: required("HAWSER_TABLE")?,
            key_service,
            tokens,
            gateway_url: optional("HAWSER_GATEWAY_URL"),
            public_urls: list("HAWSER_PUBLIC_URL"),
            client_metadata_url: optional("HAWSER_CLIENT_METADATA_URL"),
            return_origins: list("HAWSER_RETURN_ORIGINS"),
            allowed_origins: origins(list("HAWSER_ALLOWED_ORIGINS"))?,
            ui_origin: optional("HAWSER_UI_ORIGIN"),
            private_hosts: PrivateHosts::parse(
                list("HAWSER_PRIVATE_HOSTS").iter().map(String::as_str),
            )
            .map_err(|e| ConfigError(format!("HAWSER_PRIVATE_HOSTS: {e}")))?,
            allowed_issuers: match optional("HAWSER_ALLOWED_ISSUERS") {
                None => AllowedIssuers::default(),
                Some(text) => AllowedIssuers::parse(&text).ok_or_else(|| {
                    let wrong = "HAWSER_ALLOWED_ISSUERS is not a JSON object of tenants, each with an array of issuers";
                    ConfigError(wrong.to_owned())
                })?,
            },
            secret_mapping: optional("HAWSER_SECRET_REFERENCES")
                .map(|text| SecretMapping::parse(&text))
                .transpose()
                .map_err(|why| ConfigError(format!("HAWSER_SECRET_REFERENCES: {why}")))?,
            sign_in: sign_in(&optional, switch)?,
            allow_loopback_http: false,
        })
    }
}

/// How people and applications sign in.
fn sign_in(
    optional: &impl Fn(&str) -> Option<String>,
    switch: impl Fn(&str, bool) -> Result<bool, ConfigError>,
) -> Result<SignInConfig, ConfigError> {
    let wrong = |text: &str| ConfigError(text.to_owned());
    let place = match optional("HAWSER_SIGN_IN_ISSUER") {
        None => SignInPlace::Nowhere,
        Some(issuer) if !issuer.starts_with("https://") => {
            return Err(wrong("HAWSER_SIGN_IN_ISSUER must be https"));
        }
        Some(issuer) => {
            let client_id = optional("HAWSER_SIGN_IN_CLIENT_ID")
                .ok_or_else(|| wrong("HAWSER_SIGN_IN_CLIENT_ID is not set"))?;
            let secret = match optional("HAWSER_SIGN_IN_SECRET_ARN") {
                None => None,
                Some(arn) => Some(ProviderSecret::Reference(
                    SecretReference::parse_arn(&arn).ok_or_else(|| {
                        wrong("HAWSER_SIGN_IN_SECRET_ARN is no ARN of a secret or a parameter")
                    })?,
                )),
            };
            let tokens = TokenConfig {
                issuer,
                audiences: vec![client_id.clone()],
                audience_by_client_id: false,
                keys: KeySet::Discovered,
                claims: claims(optional),
                default_tenant: default_tenant(optional)?,
            };
            SignInPlace::Provider(Box::new(ProviderConfig {
                tokens,
                client_id,
                secret,
                scopes: optional("HAWSER_SIGN_IN_SCOPES")
                    .unwrap_or_else(|| DEFAULT_SCOPES.to_owned()),
            }))
        }
    };
    Ok(SignInConfig {
        place,
        authorization_server: optional("HAWSER_AUTHORIZATION_SERVER"),
        registration: switch("HAWSER_APPLICATION_REGISTRATION", true)?,
        applications: match optional("HAWSER_APPLICATIONS") {
            None => Vec::new(),
            Some(text) => ListedApplication::parse_list(&text)
                .map_err(|why| ConfigError(format!("HAWSER_APPLICATIONS: {why}")))?,
        },
    })
}

/// The scopes that a provider is asked for by default.
pub const DEFAULT_SCOPES: &str = "openid profile email";

fn default_tenant(
    optional: impl Fn(&str) -> Option<String>,
) -> Result<Option<TenantId>, ConfigError> {
    let Some(name) = optional("HAWSER_DEFAULT_TENANT") else {
        return Ok(None);
    };
    let tenant = TenantId::parse(&name);
    let wrong = || ConfigError("HAWSER_DEFAULT_TENANT must have 1 to 255 characters".to_owned());
    tenant.map(Some).ok_or_else(wrong)
}

/// A list of origins, each spelled as browsers send it. An origin that no browser would send is a mistake.
fn origins(list: Vec<String>) -> Result<Vec<String>, ConfigError> {
    let is_origin = |text: &str| {
        let url = Url::parse(text).ok();
        url.is_some_and(|url| url.origin().ascii_serialization() == text)
    };
    match list.iter().find(|one| !is_origin(one)) {
        None => Ok(list),
        Some(wrong) => Err(ConfigError(format!(
            "HAWSER_ALLOWED_ORIGINS: {wrong} is no origin, such as https://app.example"
        ))),
    }
}

/// The names of claims: those that are set, and defaults for the rest.
fn claims(optional: impl Fn(&str) -> Option<String>) -> ClaimNames {
    let mut claims = ClaimNames::default();
    for (variable, name) in [
        ("HAWSER_CLAIM_TENANT", "tenant"),
        ("HAWSER_CLAIM_SUBJECT", "subject"),
        ("HAWSER_CLAIM_SUBJECT_TYPE", "subject_type"),
        ("HAWSER_CLAIM_ROLES", "roles"),
        ("HAWSER_CLAIM_TEAMS", "teams"),
        ("HAWSER_CLAIM_PERMISSIONS", "permissions"),
        ("HAWSER_CLAIM_SCOPES", "scopes"),
        ("HAWSER_CLAIM_EMAIL", "email"),
        ("HAWSER_CLAIM_USERNAME", "username"),
        ("HAWSER_CLAIM_NAME", "name"),
    ] {
        if let (Some(claim), Some(place)) = (optional(variable), claims.named(name)) {
            *place = claim;
        }
    }
    claims
}

/// The items of a comma-separated list.
fn list_of(text: &str) -> Vec<String> {
    let parts = text.split(',').map(str::trim);
    parts
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_variable_that_is_missing_or_wrong() {
        let with = |vars: &[(&str, &str)]| {
            let vars: Vec<(String, String)> = vars
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect();
            Config::from_lookup(|name| vars.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()))
        };
        let message = |vars: &[(&str, &str)]| with(vars).unwrap_err().to_string();
        assert!(message(&[]).contains("HAWSER_KMS_KEY_ID"));
        assert!(message(&[("HAWSER_KMS_KEY_ID", "k")]).contains("HAWSER_TABLE"));
        assert!(
            message(&[("HAWSER_KMS_KEY_ID", "k"), ("HAWSER_JWT_ISSUER", "i")])
                .contains("HAWSER_JWT_AUDIENCE")
        );
        let tokens = [
            ("HAWSER_KMS_KEY_ID", "k"),
            ("HAWSER_JWT_ISSUER", "i"),
            ("HAWSER_JWT_AUDIENCE", "a"),
        ];
        assert!(message(&tokens).contains("HAWSER_JWKS_URL"));
        assert!(
            message(&[&tokens[..], &[("HAWSER_JWKS_URL", "http://x")]].concat()).contains("https")
        );
        let named = [
            ("HAWSER_KMS_KEY_ID", "k"),
            ("HAWSER_TABLE", "t"),
            ("HAWSER_JWT_ISSUER", "https://i"),
            ("HAWSER_JWT_AUDIENCE", "a, b"),
        ];
        let more = |name, value| [&named[..], &[(name, value)]].concat();
        assert!(message(&more("HAWSER_AUDIENCE_BY_CLIENT_ID", "true")).contains("CLIENT_ID"));
        assert!(message(&more("HAWSER_DEFAULT_TENANT", "a\u{7}")).contains("DEFAULT_TENANT"));
        let config = with(&more("HAWSER_CLAIM_ROLES", "cognito:groups")).unwrap();
        let tokens = &config.tokens[0];
        assert_eq!(
            (&tokens.audiences[..], tokens.audience_by_client_id),
            (&["a".to_owned(), "b".to_owned()][..], false)
        );
        assert_eq!(
            (tokens.claims.roles.as_str(), tokens.claims.subject.as_str()),
            ("cognito:groups", "sub")
        );
        assert!(matches!(tokens.keys, KeySet::Discovered));
        let whole = [("HAWSER_KMS_KEY_ID", "k"), ("HAWSER_TABLE", "t")];
        assert!(with(&whole).is_ok());
        let hosts = |list| [&whole[..], &[("HAWSER_PRIVATE_HOSTS", list)]].concat();
        assert!(with(&hosts("a.corp, http://10.0.0.0/8,")).is_ok());
        let wrong = message(&hosts("a.corp,10.0.0.0/33"));
        assert!(wrong.contains("HAWSER_PRIVATE_HOSTS") && wrong.contains("10.0.0.0/33"));
        let origins = |list| [&whole[..], &[("HAWSER_ALLOWED_ORIGINS", list)]].concat();
        let listed = with(&origins("https://a.example, http://localhost:3000/")).unwrap();
        assert_eq!(
            listed.allowed_origins,
            ["https://a.example", "http://localhost:3000"]
        );
        for wrong in [
            "*",
            "null",
            "a.example",
            "https://A.example",
            "https://a.example/x",
        ] {
            assert!(
                message(&origins(wrong)).contains("HAWSER_ALLOWED_ORIGINS"),
                "{wrong}"
            );
        }
        let references = [("HAWSER_SECRET_REFERENCES", "ssm:/{group}/{name}")];
        assert!(message(&[&whole[..], &references].concat()).contains("HAWSER_SECRET_REFERENCES"));
        let issuers = [("HAWSER_ALLOWED_ISSUERS", r#"{"acme":"x"}"#)];
        assert!(message(&[&whole[..], &issuers].concat()).contains("HAWSER_ALLOWED_ISSUERS"));
    }
}
