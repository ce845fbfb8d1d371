//! Hawser on one machine: the embedded DynamoDB-compatible store behind the real SDK, the keys of a data folder, the
//! routes of `template.yaml`, and the workers in the same process. The `hawser` binary and the tests use these parts.

pub mod aws;
pub mod identity;
pub mod limits;
pub mod server;
pub mod sign_in;
pub mod store;
pub mod template;

use hawser_core::auth::jwt::{KeySet, TokenConfig};
use hawser_core::egress::PrivateHosts;
use hawser_core::state::config::{Config, KeyServiceConfig};
use identity::Identity;
use std::io::Error;

/// The table's name in the embedded store.
pub const TABLE: &str = "hawser";

/// All permissions (LangSmith).
pub const ALL_PERMISSIONS: [&str; 5] = [
    "mcp-servers:create",
    "mcp-servers:read",
    "mcp-servers:update",
    "mcp-servers:delete",
    "mcp-servers:invoke",
];
/// All scopes (Kambrium).
pub const ALL_SCOPES: [&str; 3] = ["mgmt.read", "mgmt.write", "mgmt.admin"];

/// The built-in catalogue: the integrations of a local server until others are applied.
pub const CATALOGUE: &str = include_str!("../catalogue.json");

/// The configuration of a local server with these keys.
///
/// # Errors
/// The key set cannot be encoded.
pub fn config(identity: &Identity) -> Result<Config, Error> {
    Ok(Config {
        table: TABLE.to_owned(),
        key_service: KeyServiceConfig::Key(identity.master_key().clone()),
        tokens: vec![TokenConfig {
            issuer: identity::ISSUER.to_owned(),
            audiences: vec![identity::AUDIENCE.to_owned()],
            audience_by_client_id: false,
            keys: KeySet::Inline(serde_json::from_value(identity.key_set()).map_err(Error::other)?),
            claims: Default::default(),
            default_tenant: None,
        }],
        // Both are known only once the server listens.
        gateway_url: None,
        public_urls: Vec::new(),
        client_metadata_url: None,
        return_origins: Vec::new(),
        allowed_origins: Vec::new(),
        ui_origin: None,
        private_hosts: PrivateHosts::default(),
        secret_mapping: None,
        allowed_issuers: Default::default(),
        sign_in: Default::default(),
        allow_loopback_http: true,
    })
}
