//! An integration of the operator's catalogue, from which Kambrium connections are made (Kambrium 10).

use crate::domain::endpoint_method::ClientAuth;
use crate::domain::sealed::SealedSecret;
use crate::domain::server::{ApiKeyHeader, RevocationConfig};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One integration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Integration {
    /// Name for people.
    pub display_name: String,
    /// Text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The address of its MCP server, each value of its query redacted.
    pub mcp_url: String,
    /// The whole address, sealed, where its query has values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<SealedSecret>,
    /// Whether connections can be made from it.
    pub active: bool,
    /// How many tools it has, as the operator states; no server is asked.
    pub number_of_tools: u64,
    /// Where an API key goes; `None` if keys are not supported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<ApiKeyHeader>,
    /// How subjects consent; `None` if OAuth is not supported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth: Option<IntegrationOauth>,
}

/// The OAuth settings of an integration. What is absent is discovered. docs/PROVIDERS.md says what each is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the contract's table and docs/PROVIDERS.md document each field under the same name"
)]
pub struct IntegrationOauth {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_endpoint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_endpoint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation_endpoint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation: Option<RevocationConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_endpoint_auth_method: Option<ClientAuth>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation_endpoint_auth_method: Option<ClientAuth>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_resource: Option<bool>,
    #[serde(default)]
    pub code_challenge_methods_supported: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<ClientSecret>,
    #[serde(default)]
    pub scopes: Vec<String>,
    pub pkce: bool,
    #[serde(default)]
    pub authorize_params: BTreeMap<String, String>,
    #[serde(default)]
    pub revocation_scope: RevocationScope,
}

/// Where the client secret of an integration is. Holds no secret in the clear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientSecret {
    /// In the table, sealed.
    Sealed(SealedSecret),
    /// In a store of secrets, from which it is read when needed.
    Reference(SecretReference),
}

/// A secret in a store of secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretReference {
    /// The store.
    pub store: SecretStore,
    /// The id under which the store has the secret.
    pub id: String,
    /// The member to take, where the stored text is a JSON object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json_key: Option<String>,
}

impl SecretReference {
    /// Reads the ARN of a Secrets Manager secret or a Parameter Store parameter. `#` and a name may follow: the member
    /// to take of the JSON object that is stored there.
    pub fn parse_arn(text: &str) -> Option<Self> {
        let (arn, member) = match text.split_once('#') {
            Some((arn, member)) => (arn, Some(member)),
            None => (text, None),
        };
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        let &["arn", _, service, _, _, resource] = parts.as_slice() else {
            return None;
        };
        let store = match service {
            "secretsmanager" if resource.starts_with("secret:") => SecretStore::Secretsmanager,
            "ssm" if resource.starts_with("parameter/") => SecretStore::Ssm,
            _ => return None,
        };
        Some(Self {
            store,
            id: arn.to_owned(),
            json_key: member.map(str::to_owned),
        })
    }
}

/// The stores that a secret may be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretStore {
    /// AWS Secrets Manager; known by ARN.
    Secretsmanager,
    /// Parameter Store of AWS Systems Manager; known by name or ARN.
    Ssm,
}

impl SecretStore {
    /// The member of the operator's file that names a secret of this store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Secretsmanager => "secretsmanager",
            Self::Ssm => "ssm",
        }
    }
}

/// What revoking one token ends at a provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevocationScope {
    /// What was issued with the token.
    #[default]
    Token,
    /// Everything the user has granted to the client.
    Grant,
}
