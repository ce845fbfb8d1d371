//! The index of Hawser's functions: every endpoint by name, with its routes and its handler. Each is also a Lambda binary
//! of the same name in `bin/`, a function in `template.yaml`, a line of the router in `Cargo.toml`, and a sample event in
//! `tests/events`; a test holds the five against each other.

mod content;
mod cors;
pub mod gateway;
pub mod hawser;
mod http;
pub mod kambrium;
mod keep_alive;
pub mod langsmith;
mod page;
pub mod route;
pub mod runtime;
pub mod truefoundry;
pub mod workers;

pub use http::{Request, RequestId, Response, Streamed, dry_run_response, streamed};

/// The document of this API.
pub mod openapi {
    pub use crate::hawser::openapi::DOCUMENT;
}

/// What a sign-in page needs that is not one of the endpoints: that of the local server.
pub mod sign_in {
    pub use crate::hawser::sign_in::{Refusal, attempt, is_cross_site, once, signed_in, target_of};
    pub use crate::page::{Button, Question};
}

use hawser_core::App;
use lambda_http::Body;
use std::pin::Pin;

type Answering<'a, B> = Pin<Box<dyn Future<Output = Response<B>> + Send + 'a>>;

/// How an endpoint answers.
enum Handler {
    /// With a buffered response.
    Buffered(for<'a> fn(&'a App, &'a Request) -> Answering<'a, Body>),
    /// With a response whose body is streamed.
    Streaming(for<'a> fn(&'a App, &'a Request) -> Answering<'a, Streamed>),
}

/// The web pages that may read an endpoint's answers (Inbound 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Those of the origins that the operator lists: what answers to credentials. Not marked in the index.
    Listed,
    /// Any: documents that are public. `Public` in the index.
    Anyone,
    /// None: what browsers are sent to and show as a page of ours. `Page` in the index.
    Nobody,
}

macro_rules! readers {
    () => {
        Readers::Listed
    };
    (Public) => {
        Readers::Anyone
    };
    (Page) => {
        Readers::Nobody
    };
}

/// What is known of an endpoint wherever paths are matched. It does not name the handler: a binary that knows all routes is not
/// linked with all handlers.
#[derive(Clone, Copy, Debug)]
pub struct Routed {
    /// Method and path of each route, but for HEAD where that is answered as GET is.
    pub routes: &'static [(&'static str, &'static str)],
    /// The web pages that may read its answers.
    pub readers: Readers,
}

impl Routed {
    /// Method and path of each route.
    pub fn all_routes(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let heads = self.has_heads();
        let heads = self
            .routes
            .iter()
            .filter(move |(m, _)| heads && *m == "GET");
        let heads = heads.map(|(_, path)| ("HEAD", *path));
        self.routes.iter().copied().chain(heads)
    }

    /// Whether it answers HEAD as GET, without the body. Pages do not: to get one may end what it was for, and link scanners
    /// send HEAD.
    fn has_heads(self) -> bool {
        self.readers != Readers::Nobody && self.routes.iter().any(|(method, _)| *method == "GET")
    }
}

/// One function behind the gateway.
pub struct Endpoint {
    /// The same everywhere: binary, template, log.
    pub name: &'static str,
    /// Method and path of each route, but for HEAD where that is answered as GET is.
    pub routes: &'static [(&'static str, &'static str)],
    /// The web pages that may read its answers.
    pub readers: Readers,
    handle: Handler,
}

impl Endpoint {
    /// Method and path of each route.
    pub fn all_routes(&self) -> impl Iterator<Item = (&'static str, &'static str)> + use<> {
        self.routed().all_routes()
    }

    /// Whether it answers HEAD as GET, without the body.
    fn has_heads(&self) -> bool {
        self.routed().has_heads()
    }

    const fn routed(&self) -> Routed {
        Routed {
            routes: self.routes,
            readers: self.readers,
        }
    }

    /// Whether its answers may be streamed. Such a function is not behind the HTTP API, which would hold them back, but behind
    /// a REST API of its own.
    pub const fn streams(&self) -> bool {
        matches!(self.handle, Handler::Streaming(_))
    }
}

macro_rules! endpoints {
    ($($constant:ident $name:literal $kind:ident $contract:ident::$module:ident [$($method:ident $path:literal),*]
        $($readers:ident)?;)*) => {
        $(
            #[doc = concat!("`", $name, "`")]
            pub const $constant: Endpoint = Endpoint {
                name: $name,
                routes: &[$((stringify!($method), $path)),*],
                readers: readers!($($readers)?),
                handle: Handler::$kind(|app, request| {
                    Box::pin(async move { $contract::$module::handle(app, request).await.unwrap_or_else(Into::into) })
                }),
            };
        )*

        /// All of them.
        pub const ENDPOINTS: &[Endpoint] = &[$($constant),*];

        /// The routes of all of them.
        pub(crate) const ROUTED: &[Routed] = &[$(Routed {
            routes: &[$((stringify!($method), $path)),*],
            readers: readers!($($readers)?),
        }),*];
    };
}

endpoints! {
    TRUEFOUNDRY_PUT_SERVER "truefoundry-put-server" Buffered truefoundry::put_server [PUT "/api/svc/v1/mcp"];
    TRUEFOUNDRY_LIST_SERVERS "truefoundry-list-servers" Buffered truefoundry::list_servers [GET "/api/svc/v1/mcp"];
    TRUEFOUNDRY_GET_SERVER "truefoundry-get-server" Buffered truefoundry::get_server [GET "/api/svc/v1/mcp/{mcpServerId}"];
    TRUEFOUNDRY_DELETE_SERVER "truefoundry-delete-server" Buffered truefoundry::delete_server
        [DELETE "/api/svc/v1/mcp/{mcpServerId}"];
    TRUEFOUNDRY_PUT_OVERRIDE "truefoundry-put-override" Buffered truefoundry::put_override
        [PUT "/api/svc/v1/mcp/{mcpServerId}/auth"];
    TRUEFOUNDRY_LIST_OVERRIDES "truefoundry-list-overrides" Buffered truefoundry::list_overrides
        [GET "/api/svc/v1/mcp/{mcpServerId}/auth"];
    TRUEFOUNDRY_DISCONNECT_SUBJECT "truefoundry-disconnect-subject" Buffered truefoundry::disconnect_subject
        [DELETE "/api/svc/v1/mcp/{mcpServerId}/auth"];
    TRUEFOUNDRY_GET_AUTH_STATUS "truefoundry-get-auth-status" Buffered truefoundry::get_auth_status
        [GET "/api/svc/v1/mcp/{mcpServerId}/auth/status", GET "/api/svc/v1/mcp/{mcpServerId}/auth/state"];
    TRUEFOUNDRY_REVOKE_ALL "truefoundry-revoke-all" Buffered truefoundry::revoke_all
        [DELETE "/api/svc/v1/mcp/{mcpServerId}/auth/tokens"];
    TRUEFOUNDRY_AUTHORIZE "truefoundry-authorize" Buffered truefoundry::authorize
        [GET "/api/svc/v1/mcp/{mcpServerId}/authorize"];
    TRUEFOUNDRY_APPLY_MANIFEST "truefoundry-apply-manifest" Buffered truefoundry::apply_manifest
        [PUT "/api/svc/v1/apply"];
    TRUEFOUNDRY_DELETE_MANIFEST "truefoundry-delete-manifest" Buffered truefoundry::delete_manifest
        [POST "/api/svc/v1/delete"];
    TRUEFOUNDRY_GET_OVERRIDE_SCHEMA "truefoundry-get-override-schema" Buffered truefoundry::get_override_schema
        [GET "/api/svc/v1/mcp/{mcpServerId}/auth-override/uischema"];
    TRUEFOUNDRY_GET_CLI_VERSION "truefoundry-get-cli-version" Buffered truefoundry::get_cli_version
        [GET "/api/svc/v1/min-cli-version"] Public;
    TRUEFOUNDRY_GET_TENANT "truefoundry-get-tenant" Buffered truefoundry::get_tenant
        [GET "/api/svc/v1/tenant-id"] Public;
    LANGSMITH_CREATE_SERVER "langsmith-create-server" Buffered langsmith::create_server [POST "/v1/deepagents/mcp-servers"];
    LANGSMITH_LIST_SERVERS "langsmith-list-servers" Buffered langsmith::list_servers [GET "/v1/deepagents/mcp-servers"];
    LANGSMITH_GET_SERVER "langsmith-get-server" Buffered langsmith::get_server
        [GET "/v1/deepagents/mcp-servers/{mcp_server_id}"];
    LANGSMITH_UPDATE_SERVER "langsmith-update-server" Buffered langsmith::update_server
        [PATCH "/v1/deepagents/mcp-servers/{mcp_server_id}"];
    LANGSMITH_DELETE_SERVER "langsmith-delete-server" Buffered langsmith::delete_server
        [DELETE "/v1/deepagents/mcp-servers/{mcp_server_id}"];
    LANGSMITH_REGISTER_PROVIDER "langsmith-register-provider" Buffered langsmith::register_provider
        [POST "/v1/deepagents/mcp-servers/{mcp_server_id}/oauth-provider"];
    LANGSMITH_CREATE_AUTH_SESSION "langsmith-create-auth-session" Buffered langsmith::create_auth_session
        [POST "/v1/deepagents/auth-sessions"];
    LANGSMITH_GET_AUTH_SESSION "langsmith-get-auth-session" Buffered langsmith::get_auth_session
        [GET "/v1/deepagents/auth-sessions/{session_id}"];
    LANGSMITH_LIST_TOOLS "langsmith-list-tools" Buffered langsmith::list_tools [GET "/v1/deepagents/mcp/tools"];
    LANGSMITH_CREATE_TOOL_SERVER "langsmith-create-tool-server" Buffered langsmith::create_tool_server
        [POST "/v1/managed-tools/servers"];
    LANGSMITH_LIST_TOOL_SERVERS "langsmith-list-tool-servers" Buffered langsmith::list_tool_servers
        [GET "/v1/managed-tools/servers"];
    LANGSMITH_GET_TOOL_SERVER "langsmith-get-tool-server" Buffered langsmith::get_tool_server
        [GET "/v1/managed-tools/servers/{mcp_server_id}"];
    LANGSMITH_DELETE_TOOL_SERVER "langsmith-delete-tool-server" Buffered langsmith::delete_tool_server
        [DELETE "/v1/managed-tools/servers/{mcp_server_id}"];
    LANGSMITH_DELETE_CREDENTIAL "langsmith-delete-credential" Buffered langsmith::delete_credential
        [DELETE "/v1/managed-tools/servers/{mcp_server_id}/credential"];
    LANGSMITH_CALL_TOOL_SERVER "langsmith-call-tool-server" Buffered langsmith::call_tool_server
        [POST "/v1/managed-tools/servers/{mcp_server_id}/mcp", DELETE "/v1/managed-tools/servers/{mcp_server_id}/mcp"];
    LANGSMITH_RESOLVE_PRINCIPAL "langsmith-resolve-principal" Buffered langsmith::resolve_principal
        [POST "/v1/agent-auth/principals"];
    LANGSMITH_LIST_AUTH_CONNECTIONS "langsmith-list-auth-connections" Buffered langsmith::list_auth_connections
        [GET "/v1/agent-auth/connections"];
    LANGSMITH_START_AUTHORIZATION "langsmith-start-authorization" Buffered langsmith::start_authorization
        [POST "/v1/agent-auth/oauth-authorization-sessions"];
    KAMBRIUM_LIST_INTEGRATIONS "kambrium-list-integrations" Buffered kambrium::list_integrations
        [GET "/api/v1/mcp-servers/available"];
    KAMBRIUM_CREATE_CONNECTION "kambrium-create-connection" Buffered kambrium::create_connection [POST "/api/v1/mcp-servers"];
    KAMBRIUM_LIST_CONNECTIONS "kambrium-list-connections" Buffered kambrium::list_connections [GET "/api/v1/mcp-servers"];
    KAMBRIUM_GET_CONNECTION "kambrium-get-connection" Buffered kambrium::get_connection
        [GET "/api/v1/mcp-servers/{server_id}"];
    KAMBRIUM_UPDATE_CONNECTION "kambrium-update-connection" Buffered kambrium::update_connection
        [PUT "/api/v1/mcp-servers/{server_id}"];
    KAMBRIUM_DELETE_CONNECTION "kambrium-delete-connection" Buffered kambrium::delete_connection
        [DELETE "/api/v1/mcp-servers/{server_id}"];
    KAMBRIUM_LIST_TOOLS "kambrium-list-tools" Buffered kambrium::list_tools [GET "/api/v1/mcp-servers/{server_id}/tools"];
    KAMBRIUM_FINISH_CONSENT "kambrium-finish-consent" Buffered kambrium::finish_consent
        [GET "/api/mcp-servers/saas-oauth/{provider}/callback", GET "/api/mcp-servers/saas-oauth/{provider}/callback/",
         POST "/api/mcp-servers/saas-oauth/{provider}/callback", POST "/api/mcp-servers/saas-oauth/{provider}/callback/"] Page;
    KAMBRIUM_ISSUE_TOKEN "kambrium-issue-token" Buffered kambrium::issue_token [POST "/oauth2/token"];
    HAWSER_GET_RECEIPT "hawser-get-receipt" Buffered hawser::get_receipt [GET "/v1/receipts/{receiptId}"];
    HAWSER_LIST_RECEIPTS "hawser-list-receipts" Buffered hawser::list_receipts [GET "/v1/receipts"];
    HAWSER_OFFBOARD_SUBJECT "hawser-offboard-subject" Buffered hawser::offboard_subject
        [DELETE "/v1/subjects/{subjectType}/{subjectId}/credentials", POST "/v1/subjects/offboard"];
    HAWSER_LIST_LOGINS "hawser-list-logins" Buffered hawser::list_logins [GET "/v1/logins"];
    HAWSER_END_LOGIN "hawser-end-login" Buffered hawser::end_login [DELETE "/v1/logins/{loginId}"];
    HAWSER_ISSUE_TOKEN "hawser-issue-token" Buffered hawser::issue_token [POST "/oauth/token"];
    HAWSER_REVOKE_TOKEN "hawser-revoke-token" Buffered hawser::revoke_token [POST "/oauth/revoke"];
    HAWSER_LIST_TOKEN_KEYS "hawser-list-token-keys" Buffered hawser::list_token_keys [GET "/.well-known/jwks.json"] Public;
    HAWSER_LIST_EVENTS "hawser-list-events" Buffered hawser::list_events [GET "/v1/audit"];
    HAWSER_SHOW_CONSENT "hawser-show-consent" Buffered hawser::show_consent [GET "/oauth/start", HEAD "/oauth/start"] Page;
    HAWSER_START_CONSENT "hawser-start-consent" Buffered hawser::start_consent [POST "/oauth/start"] Page;
    HAWSER_FINISH_CONSENT "hawser-finish-consent" Buffered hawser::finish_consent [GET "/oauth/callback"] Page;
    HAWSER_CLIENT_METADATA "hawser-client-metadata" Buffered hawser::client_metadata [GET "/oauth/client-metadata.json"] Public;
    HAWSER_PROTECTED_RESOURCE "hawser-protected-resource" Buffered hawser::protected_resource
        [GET "/.well-known/oauth-protected-resource", GET "/.well-known/oauth-protected-resource/mcp/{server}",
         GET "/.well-known/oauth-protected-resource/mcp/v1/{name}/mcp"] Public;
    HAWSER_AUTHORIZATION_SERVER "hawser-authorization-server" Buffered hawser::authorization_server
        [GET "/.well-known/oauth-authorization-server"] Public;
    HAWSER_REGISTER_APPLICATION "hawser-register-application" Buffered hawser::register_application [POST "/oauth/register"] Public;
    HAWSER_AUTHORIZE "hawser-authorize" Buffered hawser::authorize [GET "/oauth/authorize"] Page;
    HAWSER_ALLOW_APPLICATION "hawser-allow-application" Buffered hawser::allow_application [POST "/oauth/authorize"] Page;
    HAWSER_FINISH_SIGN_IN "hawser-finish-sign-in" Buffered hawser::finish_sign_in [GET "/oauth/signed-in"] Page;
    HAWSER_INVOKE "hawser-invoke" Streaming hawser::invoke
        [POST "/mcp/{server}", GET "/mcp/{server}", DELETE "/mcp/{server}",
         POST "/mcp/v1/{name}/mcp", GET "/mcp/v1/{name}/mcp", DELETE "/mcp/v1/{name}/mcp",
         POST "/mcp", GET "/mcp", DELETE "/mcp",
         POST "/mcp/{integration}/mcp", GET "/mcp/{integration}/mcp", DELETE "/mcp/{integration}/mcp",
         POST "/{integration}/mcp", GET "/{integration}/mcp", DELETE "/{integration}/mcp"];
    HAWSER_OPENAPI "hawser-openapi" Buffered hawser::openapi
        [GET "/openapi.json", GET "/docs", GET "/docs/rapidoc-min.js"] Public;
    HAWSER_UNROUTED "hawser-unrouted" Buffered hawser::unrouted [];
}
