//! The errors of calls: JSON-RPC errors, with Kambrium's texts where that contract has them (Kambrium 15). None is a 400, since
//! clients conclude from a 400 which revision of the protocol a server speaks.

use super::rpc;
use crate::http::{Code, Response, Streamed, streamed, with_header, with_retry};
use hawser_core::domain::application::SCOPE;
use hawser_core::domain::error::{Error, Unauthenticated};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::borrow::Cow;
use tracing::error;

/// A call that is not forwarded.
#[derive(Debug)]
pub struct Refused {
    /// The reason.
    pub(super) problem: Problem,
    /// The id of the message, or null.
    pub(super) id: Value,
    /// Whether a client is told in the body of a 200, as far as the problem allows: clients of MCP take any other status for
    /// the end of the connection, and never show why (Inbound 3.6).
    pub(super) in_body: bool,
    /// Where the metadata of the resource is that was called, if that is known.
    pub(super) metadata: Option<String>,
}

impl Refused {
    /// The same of the resource whose metadata is there.
    #[must_use]
    pub(super) fn of_resource(self, metadata: Option<String>) -> Self {
        Self { metadata, ..self }
    }

    /// What the caller can do about it (RFC 6750 3, RFC 9728 5.1): sign in, sign in anew, or get more scopes.
    fn challenge(&self) -> Option<String> {
        let (error, scope) = match &self.problem {
            Problem::Domain(Error::Unauthenticated(Unauthenticated::Missing)) => (None, SCOPE),
            Problem::Domain(Error::Unauthenticated(_)) => (Some("invalid_token"), SCOPE),
            Problem::ScopeMissing(scope) => (Some("insufficient_scope"), *scope),
            Problem::PermissionMissing => (Some("insufficient_scope"), SCOPE),
            _ => return None,
        };
        let error = error.map(|word| format!("error=\"{word}\""));
        let metadata = self.metadata.as_ref();
        let metadata = metadata.map(|url| format!("resource_metadata=\"{url}\""));
        let scope = Some(format!("scope=\"{scope}\""));
        let all: Vec<String> = [error, metadata, scope].into_iter().flatten().collect();
        Some(format!("Bearer {}", all.join(", ")))
    }
}

/// Why a call is not forwarded, or why the server's response is not returned.
#[derive(Debug)]
pub(super) enum Problem {
    PathNotFound,
    /// The permissions that would suffice.
    MethodNotAllowed(&'static str),
    OriginNotAllowed,
    TooLarge,
    /// The session id that was sent.
    SessionNotFound(String),
    /// The connection's switch is off.
    Disabled,
    /// The connection does not offer the tool of this name, which is empty if the call names none that could be read.
    ToolNotOffered {
        name: String,
        /// What it offers, as far as that is known.
        offered: Vec<String>,
    },
    /// What the server answers to a request for its tools is not understood.
    ToolsUnreadable,
    /// Kambrium's scope is missing.
    ScopeMissing(&'static str),
    /// Every contract's permission is missing.
    PermissionMissing,
    Passthrough,
    NoCredential {
        reason: &'static str,
        consent_url: Option<SecretString>,
    },
    Unreachable,
    /// The server leads elsewhere, and this is where, for those who manage it.
    Redirected(Option<String>),
    /// The server speaks HTTP with SSE as it was until 2024-11-05.
    LegacySseTransport,
    /// The call has come through another Hawser, or this one, more than once.
    LoopDetected,
    /// The server does not answer a handshake as it should.
    SessionRefused,
    /// The parameters of an `initialize` are longer than what is kept.
    HandshakeTooLong,
    /// What a client brings back was made for another subject, server, consent or request, or is over.
    StateRefused,
    /// The person has refused to connect, or has put it off.
    NotConnected {
        declined: bool,
    },
    /// The operation failed.
    Domain(Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Domain(error)
    }
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self {
            problem,
            id: Value::Null,
            in_body: false,
            metadata: None,
        }
    }
}

/// HTTP status, the word for the log, JSON-RPC code, message, data.
type Parts = (u16, &'static str, i32, &'static str, Value);

impl Problem {
    /// Whether an authenticated caller is told in the body of a 200 (Inbound 3.6).
    fn fits_in_a_body(&self) -> bool {
        matches!(
            self,
            Self::Disabled
                | Self::ToolNotOffered { .. }
                | Self::Passthrough
                | Self::NoCredential { .. }
                | Self::HandshakeTooLong
                | Self::StateRefused
                | Self::NotConnected { .. }
                | Self::Domain(Error::ServerNotFound)
        )
    }

    /// The message, with the address of a consent where there is one: clients show nothing else.
    fn message(&self, plain: &'static str) -> Cow<'static, str> {
        match self {
            Self::NoCredential {
                consent_url: Some(url),
                ..
            } => format!(
                "This MCP server needs a credential: open {} to connect, then try again",
                url.expose_secret()
            )
            .into(),
            _ => plain.into(),
        }
    }

    fn parts(&self) -> Parts {
        let none = Value::Null;
        match self {
            Self::PathNotFound => (404, "path_not_found", -32600, "There is no such path", none),
            Self::MethodNotAllowed(_) => (
                405,
                "method_not_allowed",
                -32600,
                "Method not allowed",
                none,
            ),
            Self::OriginNotAllowed => (
                403,
                "origin_not_allowed",
                -32600,
                "Origin not allowed",
                none,
            ),
            Self::TooLarge => (
                413,
                "body_too_large",
                -32600,
                "The request body is larger than 4 MiB",
                none,
            ),
            Self::SessionNotFound(id) => (
                404,
                "session_not_found",
                -32000,
                "Authentication failed",
                json!({"error": "Invalid session ID", "session_id": id, "reinitialize_required": true}),
            ),
            Self::Disabled => (
                403,
                "connection_disabled",
                -32001,
                "Access denied",
                json!({"error": "Connection disabled"}),
            ),
            Self::ToolNotOffered { name, offered } => (
                403,
                "tool_not_offered",
                -32002,
                "Tool not available",
                json!({"tool_name": name, "available_tools": offered,
                       "suggestion": "Use one of available_tools, or ask the owner of the connection to enable it."}),
            ),
            Self::ToolsUnreadable => (
                502,
                "tools_unreadable",
                -32603,
                "The MCP server does not list its tools as it should",
                none,
            ),
            Self::ScopeMissing(scope) => (
                403,
                "scope_missing",
                -32000,
                "Permission denied",
                json!({"required_scope": scope}),
            ),
            Self::PermissionMissing => (
                403,
                "permission_missing",
                -32000,
                "Permission denied",
                json!({"required_permission": "mcp-servers:invoke"}),
            ),
            Self::Passthrough => (
                403,
                "passthrough",
                -32001,
                "This MCP server wants the caller's own token, which is never passed on",
                json!({"reason": "passthrough_not_supported"}),
            ),
            Self::NoCredential {
                reason,
                consent_url,
            } => {
                let mut data = json!({"reason": reason});
                if let Some(url) = consent_url {
                    data["consentUrl"] = url.expose_secret().into();
                }
                let message = "This MCP server needs a credential that is not stored here";
                (403, reason, -32001, message, data)
            }
            Self::SessionRefused => (
                502,
                "session_refused",
                -32603,
                "The MCP server does not open a session as it should",
                none,
            ),
            Self::HandshakeTooLong => (
                403,
                "handshake_too_long",
                -32602,
                "The parameters of initialize are longer than 64 KiB",
                none,
            ),
            Self::StateRefused => (
                403,
                "request_state_refused",
                -32602,
                "The requestState is over, or is not this request's",
                none,
            ),
            Self::NotConnected { declined: true } => (
                403,
                "consent_declined",
                -32001,
                "Connecting to this MCP server was declined",
                json!({"reason": "consent_declined"}),
            ),
            Self::NotConnected { declined: false } => (
                403,
                "consent_cancelled",
                -32001,
                "Connecting to this MCP server was cancelled",
                json!({"reason": "consent_cancelled"}),
            ),
            Self::Unreachable => (
                502,
                "upstream_unreachable",
                -32603,
                "The MCP server cannot be reached",
                none,
            ),
            Self::Redirected(to) => (
                502,
                "upstream_redirected",
                -32603,
                "The MCP server cannot be reached",
                to.as_ref().map_or(none, |to| json!({"redirectedTo": to})),
            ),
            Self::LegacySseTransport => (
                502,
                "old_transport",
                -32603,
                "This MCP server speaks HTTP+SSE of 2024-11-05, which is not supported: register its Streamable HTTP address",
                none,
            ),
            Self::LoopDetected => (
                508,
                "loop_detected",
                -32603,
                "This call has come through Hawser before: its MCP server leads back here",
                none,
            ),
            Self::Domain(Error::Unauthenticated(Unauthenticated::Missing)) => (
                401,
                "unauthenticated",
                -32600,
                "Invalid Request",
                "Authentication required".into(),
            ),
            Self::Domain(Error::Unauthenticated(Unauthenticated::Expired(end))) => (
                401,
                "token_expired",
                -32000,
                "Authentication failed",
                json!({"error": "Token expired", "expires_at": end.seconds_z(), "refresh_required": true}),
            ),
            Self::Domain(Error::Unauthenticated(_)) => (
                401,
                "invalid_credentials",
                -32000,
                "Authentication failed",
                json!({"error": "Invalid token"}),
            ),
            Self::Domain(Error::ServerNotFound) => (
                404,
                "server_not_found",
                -32001,
                "MCP server not found or not accessible",
                none,
            ),
            Self::Domain(Error::Unavailable(_) | Error::Contended) => (
                503,
                "unavailable",
                -32603,
                "The service cannot answer now",
                none,
            ),
            Self::Domain(_) => (500, "internal_error", -32603, "Internal error", none),
        }
    }
}

impl From<Refused> for Response<Streamed> {
    fn from(refused: Refused) -> Self {
        let challenge = refused.challenge();
        let Refused {
            problem,
            id,
            in_body,
            ..
        } = refused;
        let (status, word, code, message, data) = problem.parts();
        if let Problem::Domain(cause) = &problem
            && status >= 500
        {
            error!(%cause, "the request failed");
        }
        // Whoever is unknown learns nothing of what was sent.
        let id = if status == 401 { Value::Null } else { id };
        let in_body = in_body && !id.is_null() && problem.fits_in_a_body();
        let status = if in_body { 200 } else { status };
        let mut response = rpc::error(status, &id, code, &problem.message(message), data);
        response.extensions_mut().insert(Code(word));
        streamed(match problem {
            Problem::MethodNotAllowed(allow) => with_header(response, "allow", allow),
            _ => match challenge {
                Some(challenge) => with_header(response, "www-authenticate", &challenge),
                None => with_retry(response),
            },
        })
    }
}
