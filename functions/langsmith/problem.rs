//! The error answers of this contract: one error object (LangSmith 1.3) with the codes of a closed table (LangSmith 3),
//! and the older bodies of authentication errors (LangSmith 1.1), which have none of its fields.

use super::Permission;
use crate::http::{Code, Response, empty, json, with_header, with_scope_to_manage};
use hawser_core::Error;
use hawser_core::domain::error::{OauthSetup, Unauthenticated, UnusableAddress};
use lambda_http::Body;
use serde::Serialize;
use serde_json::json;
use tracing::error;

/// An error answer.
#[derive(Debug)]
pub enum Problem {
    /// The credentials are not for this tenant.
    Forbidden,
    /// The caller lacks this permission.
    PermissionMissing(Permission),
    /// The body is larger than the limit.
    BodyTooLarge,
    /// The id in the path is not a UUID.
    InvalidPathParameter,
    /// The query parameter (first) has no valid value; it must be as described (second).
    InvalidQuery(&'static str, &'static str),
    /// The body is not a JSON object, or a field has the wrong type.
    InvalidBody,
    /// A required field has no value.
    FieldMissing {
        /// The path of the field, such as `headers[0].key`.
        field: String,
        /// What the field must hold.
        expected: &'static str,
    },
    /// Why the URL cannot be registered.
    InvalidUrl(&'static str),
    /// The index of the header that cannot be sent, and why it cannot.
    InvalidHeader(usize, &'static str),
    /// The field has a value that is not allowed.
    InvalidValue(&'static str),
    /// The auth fields contradict each other.
    ConflictingAuth,
    /// Another server of the tenant has this name.
    NameConflict(String),
    /// The caller has no provider with this id.
    UnknownProvider,
    /// The acting user has no provider with this id at a server of that URL.
    ProviderNotFound,
    /// The acting user has no credential for the server.
    ConnectionRequired,
    /// The server refused the credential.
    UpstreamAuthFailed,
    /// The server did not answer, or must not be called.
    UpstreamUnreachable,
    /// The server's answer is malformed.
    BadUpstreamAnswer,
    /// The server speaks HTTP with SSE, the transport of 2024-11-05.
    LegacySseTransport,
    /// The body's content coding is not taken.
    UnsupportedCoding,
    /// No such path.
    PathNotFound,
    /// The path supports these methods only.
    MethodNotAllowed(String),
    /// The error of the operation.
    Domain(Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Domain(error)
    }
}

/// The error object (LangSmith 1.3).
#[derive(Serialize)]
struct ErrorBody {
    r#type: String,
    code: &'static str,
    detail: String,
    status: u16,
}

impl Problem {
    /// The same problem on routes that have neither a 409 nor a 422 (LangSmith 1.2, 2.6 to 2.9). A contended server
    /// becomes one that is unavailable, and an invalid value an invalid body.
    pub fn without_409_and_422(self) -> Self {
        match self {
            Self::Domain(Error::Contended) => {
                Error::Unavailable("the server was changed again and again".to_owned()).into()
            }
            Self::InvalidValue(_) => Self::InvalidBody,
            other => other,
        }
    }

    /// Status, code and detail (LangSmith 3).
    fn parts(&self) -> (u16, &'static str, String) {
        let said = |status, code, detail: &str| (status, code, detail.to_owned());
        match self {
            Self::Forbidden => said(403, "forbidden", "Forbidden"),
            Self::PermissionMissing(permission) => (
                403,
                "missing_permission",
                format!("missing permission {}", permission.name()),
            ),
            Self::BodyTooLarge => said(
                413,
                "request_body_too_large",
                "Send at most 262144 bytes: the request body is too large",
            ),
            Self::InvalidPathParameter => said(
                400,
                "invalid_path_parameter",
                "Set 'mcp_server_id' to a UUID: the given value is not one",
            ),
            Self::InvalidQuery(name, expected) => (
                400,
                "invalid_query_parameter",
                format!("Set '{name}' to {expected}: the given value is not valid"),
            ),
            Self::InvalidBody => said(
                400,
                "invalid_request_body",
                "Provide a valid JSON request body matching the documented schema",
            ),
            Self::FieldMissing { field, expected } => (
                400,
                "missing_required_field",
                format!("Set '{field}' to {expected}: '{field}' is required"),
            ),
            Self::InvalidUrl(why) => (
                422,
                "invalid_url",
                format!("Set 'url' to a valid https URL: {why}"),
            ),
            Self::InvalidHeader(at, why) => (
                422,
                "invalid_header",
                format!("Correct 'headers[{at}]': {why}"),
            ),
            Self::InvalidValue(field) => (
                422,
                "invalid_field_value",
                format!("Correct '{field}': the given value is not allowed"),
            ),
            Self::ConflictingAuth => said(
                422,
                "conflicting_auth_fields",
                "Use either headers or OAuth: the auth fields contradict each other",
            ),
            Self::NameConflict(name) => (
                409,
                "mcp_server_name_conflict",
                format!("Choose another name: an MCP server named '{name}' already exists"),
            ),
            Self::UnknownProvider => said(
                400,
                "invalid_oauth_provider",
                "Register the provider first: 'provider_id' is not known for this caller",
            ),
            Self::ProviderNotFound => said(
                404,
                "oauth_provider_not_found",
                "Verify 'oauth_provider_id': it is not a provider of this caller for this server",
            ),
            Self::ConnectionRequired => said(
                400,
                "oauth_connection_required",
                "Connect to this server first: the caller has no usable token",
            ),
            Self::UpstreamAuthFailed => said(
                502,
                "upstream_auth_failed",
                "Check the stored credentials or connect again: the MCP server rejected the request",
            ),
            Self::UpstreamUnreachable => said(
                502,
                "mcp_server_unreachable",
                "Check the MCP server: it could not be reached",
            ),
            Self::BadUpstreamAnswer => said(
                502,
                "mcp_server_bad_response",
                "Check the MCP server: its answer is not a valid MCP response",
            ),
            Self::LegacySseTransport => said(
                502,
                "mcp_server_bad_response",
                "Register the server's Streamable HTTP address: it speaks HTTP+SSE of 2024-11-05, which is not supported",
            ),
            Self::UnsupportedCoding => said(
                415,
                "unsupported_content_encoding",
                "Send the body as it is, or with gzip: its content coding is not supported",
            ),
            Self::PathNotFound => said(404, "route_not_found", "Verify the path: no such route"),
            Self::MethodNotAllowed(methods) => (
                405,
                "method_not_allowed",
                format!("Use {methods}: the method is not allowed here"),
            ),
            Self::Domain(error) => domain(error),
        }
    }
}

fn domain(error: &Error) -> (u16, &'static str, String) {
    let (status, code, detail) = match error {
        Error::Unauthenticated(
            Unauthenticated::Missing | Unauthenticated::InvalidToken | Unauthenticated::Expired(_),
        ) => (401, "unauthorized", "Unauthorized"),
        Error::Unauthenticated(Unauthenticated::NoTenant | Unauthenticated::InvalidKey)
        | Error::ForCallsOnly => (403, "forbidden", "Forbidden"),
        Error::ServerNotFound => (
            404,
            "mcp_server_not_found",
            "Verify the MCP server and that the calling identity has access: MCP server not found",
        ),
        Error::SessionNotFound => (
            404,
            "auth_session_not_found",
            "Start a new session: auth session not found",
        ),
        Error::Oauth(OauthSetup::NotEnabled) => (
            400,
            "oauth_not_enabled",
            "Set 'auth_type' to 'oauth' and 'oauth_mode' to 'per_user_dynamic_client': the server does not use per-user OAuth",
        ),
        Error::Oauth(OauthSetup::NoAuthorizationServer) => (
            400,
            "oauth_discovery_failed",
            "Check the OAuth support of the MCP server: no authorization server was found",
        ),
        Error::Oauth(
            OauthSetup::MetadataUnusable
            | OauthSetup::ResourceMismatch
            | OauthSetup::IssuerMismatch
            | OauthSetup::NoS256,
        ) => (
            400,
            "oauth_discovery_failed",
            "Check the OAuth support of the MCP server: its metadata is not usable",
        ),
        Error::Oauth(
            OauthSetup::RegistrationRefused | OauthSetup::NoClient | OauthSetup::OtherIssuer,
        ) => (
            400,
            "oauth_discovery_failed",
            "Check the OAuth support of the MCP server: it refused the client registration",
        ),
        Error::Oauth(OauthSetup::IssuerNotAllowed) => (
            400,
            "oauth_discovery_failed",
            "Ask the operator to allow the authorization server of the MCP server: it is none that this workspace may use",
        ),
        Error::TooManyConsents => (
            503,
            "service_unavailable",
            "Try again later: too many sessions were started",
        ),
        Error::UpstreamUnavailable => (
            503,
            "upstream_unavailable",
            "Try again later: the MCP server or its authorization server did not answer",
        ),
        Error::UnusableAddress(why) => {
            let why = match why {
                UnusableAddress::Malformed => "not a URL",
                UnusableAddress::Scheme => "scheme not allowed",
                UnusableAddress::Host => "private or local address not allowed",
                UnusableAddress::Own => "address of this deployment not allowed",
            };
            return Problem::InvalidUrl(why).parts();
        }
        Error::Contended => (
            409,
            "mcp_server_update_conflict",
            "Repeat the request: the MCP server was changed at the same time",
        ),
        // Only headers can make a record larger than the store accepts.
        Error::TooLarge => (422, "invalid_header", "Correct 'headers[0]': too long"),
        Error::Unavailable(_) => (
            503,
            "service_unavailable",
            "Try again later: a dependent service is unavailable",
        ),
        Error::CredentialNotFound
        | Error::NameTaken
        | Error::WouldVoidCredentials { .. }
        | Error::LimitReached
        | Error::KeyReused
        | Error::Internal(_) => (500, "internal_error", "Try again later: internal error"),
    };
    (status, code, detail.to_owned())
}

impl From<Problem> for Response<Body> {
    fn from(problem: Problem) -> Self {
        if let Problem::Domain(cause @ (Error::Internal(_) | Error::Unavailable(_))) = &problem {
            error!(%cause, "the request failed");
        }
        let (status, code, detail) = problem.parts();
        let mut response = match (&problem, status) {
            (Problem::PermissionMissing(_), _) => plain(status, detail),
            (_, 401) => with_header(
                json(status, &json!({"error": detail})),
                "www-authenticate",
                "Bearer",
            ),
            (_, 403) => json(status, &json!({"error": detail})),
            _ => json(
                status,
                &ErrorBody {
                    r#type: format!("https://docs.langchain.com/errors/{code}"),
                    code,
                    detail,
                    status,
                },
            ),
        };
        response = match &problem {
            Problem::MethodNotAllowed(methods) => with_header(response, "allow", methods),
            Problem::Domain(Error::ForCallsOnly) => with_scope_to_manage(response),
            _ => response,
        };
        response.extensions_mut().insert(Code(code));
        response
    }
}

fn plain(status: u16, text: String) -> Response<Body> {
    let mut response = with_header(empty(status), "content-type", "text/plain; charset=utf-8");
    *response.body_mut() = Body::Text(text);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_that_no_request_can_bring_about_at_will() {
        let answer = |problem: Problem| {
            let response = Response::from(problem);
            let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
            (
                response.status().as_u16(),
                body["status"].clone(),
                body["type"].clone(),
                body["detail"].clone(),
            )
        };
        for (error, status, code, detail) in [
            (
                Error::Contended,
                409,
                "mcp_server_update_conflict",
                "Repeat the request: the MCP server was changed at the same time",
            ),
            (
                Error::TooLarge,
                422,
                "invalid_header",
                "Correct 'headers[0]': too long",
            ),
            (
                Error::internal("the cause, for the log"),
                500,
                "internal_error",
                "Try again later: internal error",
            ),
        ] {
            let prefixed = format!("https://docs.langchain.com/errors/{code}");
            assert_eq!(
                answer(error.into()),
                (status, status.into(), prefixed.into(), detail.into())
            );
        }
    }
}
