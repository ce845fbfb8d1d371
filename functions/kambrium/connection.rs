//! The connection object (Kambrium 9). No secret is part of it.

use crate::http::LastFailedConsent;
use hawser_core::domain::credential::{Records, Source};
use hawser_core::domain::reason::Reason;
use hawser_core::domain::server::{AccessType, Auth, KeyCheck, Server};
use hawser_core::domain::status::{Status, status};
use hawser_core::domain::time::Timestamp;
use serde::Serialize;
use std::collections::BTreeSet;

/// A server, as this contract shows it.
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
    oauth_status: Option<OauthStatus>,
    /// An extension of the contract. Whoever may see a connection also manages it, so it hides nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_failed_consent: Option<LastFailedConsent<'a>>,
}

/// How far the owner's consent is.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum OauthStatus {
    Pending,
    Active,
    Failed,
}

impl<'a> Connection<'a> {
    /// The connection that a server is. `records` are those of its owner; they matter only where the owner connects by
    /// consent.
    pub fn of(server: &'a Server, records: &Records, now: Timestamp) -> Self {
        let own = &server.connection;
        let (auth_method, oauth_status, key_check) = match &server.auth {
            Auth::Oauth(_) => {
                let consent = OauthStatus::of(server, records, now);
                ("oauth", Some(consent), consent.key_check())
            }
            Auth::Headers { .. } => ("api_key", None, own.key_check),
            // The server needs no credential.
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
            last_failed_consent: server.last_failed_consent.as_ref().map(Into::into),
        }
    }
}

impl OauthStatus {
    fn of(server: &Server, records: &Records, now: Timestamp) -> Self {
        // An override that a sibling contract stored says nothing about the consent.
        let consent = Records {
            header_override: None,
            ..records.clone()
        };
        match status(server, &consent, now) {
            // With the client credentials grant nobody has to consent.
            Status::Authenticated(Source::Oauth) | Status::NotRequired(_) => Self::Active,
            Status::Required {
                reason: Reason::InvalidGrant,
                ..
            } => Self::Failed,
            Status::Required { source: None, .. } if server.consent_failed => Self::Failed,
            Status::Required { .. } | Status::Authenticated(Source::Override) => Self::Pending,
        }
    }

    const fn key_check(self) -> KeyCheck {
        match self {
            Self::Pending => KeyCheck::Pending,
            Self::Active => KeyCheck::Verified,
            Self::Failed => KeyCheck::Failed,
        }
    }
}
