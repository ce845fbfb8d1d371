//! The `McpServer` object of answers (LangSmith 1.4), and who sees the headers in it (LangSmith 5).

use super::Permission;
use super::auth::{self, AuthFields, Header};
use crate::http::LastFailedConsent;
use hawser_core::domain::caller::Caller;
use hawser_core::domain::issuance::Provider;
use hawser_core::domain::server::{Secrets, Server};
use hawser_core::operations::servers;
use hawser_core::{App, Result};
use serde::Serialize;
use uuid::Uuid;

/// Whether callers who may invoke the server see the values in its address, as they see those of its headers. The
/// values of an integration belong to the operator, and are not shown.
fn may_show_address(server: &Server) -> bool {
    server.connection.client_secret_hash.is_none()
}

/// A server, as its caller sees it.
#[derive(Serialize)]
pub struct McpServer<'a> {
    id: Uuid,
    tenant_id: Uuid,
    name: &'a str,
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<Vec<Header>>,
    auth_type: &'static str,
    /// Present for OAuth only, where it may be null.
    #[serde(skip_serializing_if = "Option::is_none")]
    oauth_provider_id: Option<Option<Uuid>>,
    oauth_mode: &'static str,
    created_at: String,
    updated_at: String,
    mcp_vendor_id: Option<Uuid>,
    vendor_id: Option<&'a str>,
    external_system_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    can_invoke: Option<bool>,
    /// An extension of the contract, for callers who may change the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_failed_consent: Option<LastFailedConsent<'a>>,
}

impl<'a> McpServer<'a> {
    /// The object, with secrets that were opened already. `provider` is the caller's own provider at the server.
    pub fn new(
        caller: &Caller,
        server: &'a Server,
        secrets: &Secrets,
        provider: Option<&Provider>,
    ) -> Self {
        let fields = AuthFields::of(server, secrets);
        let own = provider
            .filter(|provider| provider.is_valid_under(server))
            .map(|provider| provider.id);
        let may_invoke = Permission::Invoke.is_of(caller);
        Self {
            id: server.id.uuid(),
            tenant_id: caller.tenant.uuid(),
            name: &server.name,
            url: if may_invoke && may_show_address(server) {
                secrets.address(server).to_owned()
            } else {
                server.shown_url()
            },
            auth_type: fields.auth_type.as_str(),
            oauth_provider_id: fields
                .is_oauth()
                .then_some(own.or(fields.oauth_provider_id)),
            oauth_mode: fields.oauth_mode.map_or("", auth::OauthMode::as_str),
            created_at: server.created_at.micros_offset(),
            updated_at: server.updated_at.micros_offset(),
            mcp_vendor_id: None,
            vendor_id: server.langsmith.vendor_id.as_deref(),
            external_system_id: server.langsmith.external_system_id.as_deref(),
            headers: may_invoke.then_some(fields.headers),
            can_invoke: (!may_invoke).then_some(false),
            last_failed_consent: server
                .last_failed_consent
                .as_ref()
                .filter(|_| Permission::Update.is_of(caller))
                .map(Into::into),
        }
    }

    /// The object. The server's secrets are opened only if there are any, and only for a caller who may see them.
    ///
    /// # Errors
    /// [`hawser_core::Error::Unavailable`], [`hawser_core::Error::Internal`].
    pub async fn open(
        app: &App,
        caller: &Caller,
        server: &'a Server,
        provider: Option<&Provider>,
    ) -> Result<Self> {
        let hidden = auth::has_headers(server) || server.hides_values() && may_show_address(server);
        let secrets = if Permission::Invoke.is_of(caller) && hidden {
            servers::open(app, &caller.tenant, server).await?
        } else {
            Secrets::default()
        };
        Ok(Self::new(caller, server, &secrets, provider))
    }
}
