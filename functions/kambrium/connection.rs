//! The connection object (9). No secret is part of it.

use hawser_core::domain::server::{AccessType, Auth, KeyCheck, Server};
use serde::Serialize;
use std::collections::BTreeSet;

/// A server in this contract's words.
#[derive(Debug, Serialize)]
pub struct Connection<'a> {
    id: u64,
    mcp_server_name: &'a str,
    api_key_verification_status: KeyCheck,
    oauth2_client_id: &'a str,
    oauth2_scopes: &'static [&'static str],
    agent_enabled: bool,
    disabled_tools: &'a BTreeSet<u64>,
    created_at: String,
    access_type: AccessType,
    auth_method: &'static str,
    oauth_status: Option<&'static str>,
}

impl<'a> From<&'a Server> for Connection<'a> {
    fn from(server: &'a Server) -> Self {
        let own = &server.connection;
        let (auth_method, oauth_status, key_check) = match &server.auth {
            // Nobody can have consented to an OAuth connection yet.
            Auth::Oauth(_) => ("oauth", Some("pending"), KeyCheck::Pending),
            Auth::Headers { .. } => ("api_key", None, own.key_check),
            // It needs no credential.
            Auth::None | Auth::Passthrough | Auth::LegacyProvider { .. } => {
                ("api_key", None, KeyCheck::Verified)
            }
        };
        Self {
            id: server.number,
            mcp_server_name: &own.display_name,
            api_key_verification_status: key_check,
            oauth2_client_id: &own.client_id,
            oauth2_scopes: own.access_type.scopes(),
            agent_enabled: own.agent_enabled,
            disabled_tools: &own.disabled_tools,
            created_at: server.created_at.seconds_z(),
            access_type: own.access_type,
            auth_method,
            oauth_status,
        }
    }
}
