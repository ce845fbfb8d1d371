//! The error answers of this contract: `{"detail": ...}` with a sentence or, for 422, a list (Kambrium 1.1, 1.2). A
//! [`Refusal`] is what went wrong. A [`Problem`] also knows where, because some sentences name the endpoint or the
//! connection.

use super::Call;
use super::fault::Fault;
use super::number::shown_number;
use crate::http::{Code, Request, Response, json, with_header, with_scope_to_manage};
use hawser_core::Error;
use hawser_core::domain::error::Unauthenticated;
use lambda_http::Body;
use serde_json::{Value, json};
use tracing::error;

/// An error answer.
#[derive(Debug)]
pub enum Problem {
    /// The body's content coding is not taken.
    UnsupportedCoding,
    /// No such path.
    PathNotFound,
    /// The path supports these methods only.
    MethodNotAllowed(String),
    /// A call is refused.
    Refused(Refused),
}

/// A refusal of a call. `number` is that of the connection in the path, if there is one.
#[derive(Debug)]
pub struct Refused {
    call: &'static Call,
    number: String,
    refusal: Refusal,
}

/// Why a call is refused.
#[derive(Debug)]
pub enum Refusal {
    /// The caller lacks the scope.
    NotPermitted,
    /// The body is larger than the limit.
    BodyTooLarge,
    /// Faults of the path or the body.
    Malformed(Vec<Fault>),
    /// The request to create names no active integration, or no access type.
    InvalidServerOrAccessType,
    /// The request to update names no access type.
    InvalidAccessType,
    /// The integration does not offer the authentication method.
    AuthMethodNotSupported,
    /// The connection has no API key, or a sibling contract has removed the header for it.
    KeyNotChangeable,
    /// Only a connection with access type `individual` can have tools switched off one by one.
    ToolsNeedIndividual,
    /// There is no such connection. For the one call whose 404 does not name it.
    ConnectionNotFound,
    /// The connection's server does not list its tools.
    ToolsUnavailable,
    /// The connection's server speaks HTTP with SSE, the transport of 2024-11-05.
    LegacySseTransport,
    /// The error of the operation.
    Domain(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Domain(error)
    }
}

impl Refusal {
    /// The answer to `request`, which made this call.
    pub fn of(self, call: &'static Call, request: &Request) -> Problem {
        Problem::Refused(Refused {
            call,
            number: shown_number(request),
            refusal: self,
        })
    }
}

impl Problem {
    fn parts(self) -> (u16, &'static str, Value) {
        let said = |status, code, detail: &str| (status, code, detail.into());
        let Refused {
            call,
            number,
            refusal,
        } = match self {
            Self::UnsupportedCoding => {
                return said(415, "unsupported_coding", "Unsupported Media Type");
            }
            Self::PathNotFound => return said(404, "path_not_found", "Not Found"),
            Self::MethodNotAllowed(_) => {
                return said(405, "method_not_allowed", "Method Not Allowed");
            }
            Self::Refused(refused) => refused,
        };
        match refusal {
            Refusal::NotPermitted | Refusal::Domain(Error::ForCallsOnly) => said(
                403,
                "scope_missing",
                &format!("You do not have permission to {}.", call.purpose),
            ),
            Refusal::BodyTooLarge | Refusal::Domain(Error::TooLarge) => {
                said(413, "body_too_large", "Request body too large")
            }
            Refusal::Malformed(faults) => (422, "malformed", json!(faults)),
            Refusal::InvalidServerOrAccessType => said(
                400,
                "invalid_server_or_access_type",
                "Invalid MCP server or access type specified",
            ),
            Refusal::InvalidAccessType => {
                said(400, "invalid_access_type", "Invalid access type specified")
            }
            Refusal::AuthMethodNotSupported => said(
                400,
                "auth_method_not_supported",
                "Authentication method not supported by this integration",
            ),
            Refusal::KeyNotChangeable => said(
                400,
                "key_not_changeable",
                "api_key cannot be changed on this connection",
            ),
            Refusal::ToolsNeedIndividual => said(
                400,
                "tools_need_individual",
                "disabled_tools requires access type individual",
            ),
            Refusal::ConnectionNotFound => {
                said(404, "server_not_found", "MCP server connection not found")
            }
            Refusal::ToolsUnavailable => said(
                502,
                "tools_unavailable",
                "Failed to list tools: MCP server unavailable",
            ),
            Refusal::LegacySseTransport => said(
                502,
                "old_transport",
                "Failed to list tools: MCP server speaks HTTP+SSE of 2024-11-05, which is not supported",
            ),
            Refusal::Domain(Error::UnusableAddress(_)) => said(
                400,
                "address_not_allowed",
                "The address of this MCP server is not allowed here: it is not public, and the operator has not allowed it",
            ),
            Refusal::Domain(Error::LimitReached) => {
                said(400, "limit_reached", "Connection limit reached")
            }
            Refusal::Domain(Error::Unauthenticated(Unauthenticated::Missing)) => said(
                401,
                "unauthenticated",
                "Authentication credentials were not provided.",
            ),
            Refusal::Domain(Error::Unauthenticated(_)) => {
                said(401, "invalid_credentials", "Token validation failed")
            }
            Refusal::Domain(Error::ServerNotFound) => said(
                404,
                "server_not_found",
                &format!("MCP server {number} not found or not accessible"),
            ),
            Refusal::Domain(Error::Oauth(_) | Error::UpstreamUnavailable) => said(
                502,
                "authorization_server_unavailable",
                &format!(
                    "Failed to {}: authorization server unavailable",
                    call.failure
                ),
            ),
            // The sentence is the same whatever the cause (Kambrium 1.1).
            Refusal::Domain(
                Error::CredentialNotFound
                | Error::SessionNotFound
                | Error::TooManyConsents
                | Error::NameTaken
                | Error::Contended
                | Error::KeyReused
                | Error::WouldVoidCredentials { .. }
                | Error::Unavailable(_)
                | Error::Internal(_),
            ) => said(
                500,
                "failed",
                &format!("Failed to {}: database error", call.failure),
            ),
        }
    }
}

impl From<Problem> for Response<Body> {
    fn from(problem: Problem) -> Self {
        if let Problem::Refused(Refused {
            refusal: Refusal::Domain(cause @ (Error::Internal(_) | Error::Unavailable(_))),
            ..
        }) = &problem
        {
            error!(%cause, "the request failed");
        }
        let allow = if let Problem::MethodNotAllowed(allow) = &problem {
            Some(allow.clone())
        } else {
            None
        };
        let for_calls = matches!(
            &problem,
            Problem::Refused(Refused {
                refusal: Refusal::Domain(Error::ForCallsOnly),
                ..
            })
        );
        let (status, code, detail) = problem.parts();
        let mut response = json(status, &json!({"detail": detail}));
        response.extensions_mut().insert(Code(code));
        match (status, allow) {
            (401, _) => with_header(response, "www-authenticate", "Bearer"),
            (403, _) if for_calls => with_scope_to_manage(response),
            (_, Some(allow)) => with_header(response, "allow", &allow),
            _ => response,
        }
    }
}
