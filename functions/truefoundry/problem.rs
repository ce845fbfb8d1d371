//! How this contract says no: `HttpError`, whatever the status (TrueFoundry 1.4).

use crate::http::{Code, Response, json, with_header, with_scope_to_manage};
use hawser_core::Error;
use hawser_core::domain::error::UnusableAddress;
use lambda_http::Body;
use serde::Serialize;
use serde_json::{Value, json};
use tracing::error;

/// One refusal.
#[derive(Debug)]
pub enum Problem {
    /// Faults of the query or the body.
    Invalid(Vec<Fault>),
    /// A kind of configuration that is refused.
    Unsupported(Vec<Fault>),
    /// References to secrets that are not followed.
    SecretReference(Vec<Fault>),
    /// `<REDACTED>` where nothing is stored that it could stand for.
    RedactedValueUnknown(Vec<Fault>),
    /// The server takes no override.
    OverrideNotSupported,
    /// The override does not fit the server.
    OverrideMismatch(Vec<Fault>),
    /// The caller is no manager of this server and names another subject.
    NotManager,
    /// The caller lacks this permission.
    PermissionDenied(&'static str),
    /// The call is for admins of the tenant.
    TenantAdminRequired,
    /// The body is larger than the limit.
    BodyTooLarge,
    /// The body's content coding is not taken.
    UnsupportedCoding,
    /// No such path.
    PathNotFound,
    /// The path takes other methods only; these.
    MethodNotAllowed(String),
    /// Whatever the operation said.
    Domain(Error),
}

/// One fault of a request, without the value that was sent.
#[derive(Debug, Serialize)]
pub struct Fault {
    /// Where, such as `manifest.url`.
    pub path: String,
    /// What is wrong.
    pub message: &'static str,
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Domain(error)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HttpError {
    status_code: u16,
    message: String,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Value>,
}

impl Problem {
    /// A single fault.
    pub fn fault(path: impl Into<String>, message: &'static str) -> Self {
        Self::Invalid(vec![Fault {
            path: path.into(),
            message,
        }])
    }

    fn parts(self) -> (u16, &'static str, String, Option<Value>) {
        let said = |status, code, message: &str| (status, code, message.to_owned(), None);
        let faulty = |status, code, message: &str, faults: Vec<Fault>| {
            (
                status,
                code,
                message.to_owned(),
                Some(json!(faults)).filter(|_| !faults.is_empty()),
            )
        };
        match self {
            Self::Invalid(faults) => faulty(400, "INVALID_REQUEST", "The request is not valid.", faults),
            Self::Unsupported(faults) => {
                faulty(422, "UNSUPPORTED", "This kind of configuration is not supported here.", faults)
            }
            // Clients show the message alone.
            Self::SecretReference(faults) => {
                let first = faults.first();
                let first = first.map(|one| format!("{} {}", one.path, one.message));
                let message = format!("A secret reference is not followed: {}.", first.unwrap_or_default());
                faulty(422, "UNSUPPORTED", &message, faults)
            }
            Self::RedactedValueUnknown(faults) => faulty(
                400,
                "REDACTED_VALUE_UNKNOWN",
                "A redacted value was sent but no stored secret can stand in for it.",
                faults,
            ),
            Self::OverrideNotSupported => {
                said(400, "AUTH_OVERRIDE_NOT_SUPPORTED", "This MCP server takes no auth override.")
            }
            Self::OverrideMismatch(faults) => {
                faulty(400, "AUTH_OVERRIDE_MISMATCH", "The auth override does not fit this MCP server.", faults)
            }
            Self::NotManager => said(
                403,
                "NOT_MCP_MANAGER",
                "Acting for another subject needs MANAGE_MCP_SERVER on this MCP server.",
            ),
            Self::PermissionDenied(name) => {
                (403, "PERMISSION_DENIED", format!("This call needs the permission {name}."), None)
            }
            Self::TenantAdminRequired => {
                said(403, "TENANT_ADMIN_REQUIRED", "This call is for tenant admins only.")
            }
            Self::BodyTooLarge => said(413, "BODY_TOO_LARGE", "The request body is larger than 256 KiB."),
            Self::UnsupportedCoding => said(
                415,
                "UNSUPPORTED_CONTENT_ENCODING",
                "The body must be sent as it is, or with gzip.",
            ),
            Self::PathNotFound => said(404, "NOT_FOUND", "There is no such path."),
            Self::MethodNotAllowed(_) => said(405, "METHOD_NOT_ALLOWED", "This path does not take this method."),
            Self::Domain(Error::Unauthenticated(_)) => {
                said(401, "UNAUTHORIZED", "Valid credentials are required.")
            }
            Self::Domain(Error::ForCallsOnly) => {
                said(403, "PERMISSION_DENIED", "This token is for calls to MCP servers only.")
            }
            Self::Domain(Error::ServerNotFound) => said(404, "MCP_SERVER_NOT_FOUND", "There is no such MCP server."),
            Self::Domain(Error::CredentialNotFound) => {
                said(404, "AUTH_RECORD_NOT_FOUND", "This subject has no such auth record.")
            }
            Self::Domain(Error::WouldVoidCredentials { oauth, overrides }) => (
                417,
                "AUTH_RECORDS_WOULD_BE_DELETED",
                "This update would delete stored auth records; send it again with force set to true.".to_owned(),
                Some(json!([{"oauthRecords": oauth, "overrides": overrides}])),
            ),
            Self::Domain(Error::TooLarge) => faulty(
                400,
                "INVALID_REQUEST",
                "The request is not valid.",
                vec![Fault { path: "manifest".to_owned(), message: "too large to be stored" }],
            ),
            Self::Domain(Error::UnusableAddress(why)) => {
                let message = match why {
                    UnusableAddress::Malformed => "is not a URL",
                    UnusableAddress::Scheme => "must be an https URL",
                    UnusableAddress::Host => "leads to a private or local address that the operator has not allowed",
                    UnusableAddress::Own => "leads back to this deployment",
                };
                faulty(
                    400,
                    "INVALID_REQUEST",
                    "The request is not valid.",
                    vec![Fault { path: "manifest.url".to_owned(), message }],
                )
            }
            Self::Domain(Error::TooManyConsents) => said(429, "RATE_LIMITED", "Too many requests."),
            Self::Domain(
                Error::Unavailable(_)
                | Error::Contended
                | Error::NameTaken
                | Error::UpstreamUnavailable,
            ) => {
                said(503, "UNAVAILABLE", "The service cannot answer now.")
            }
            Self::Domain(
                Error::Internal(_)
                | Error::KeyReused
                | Error::LimitReached
                | Error::SessionNotFound
                | Error::Oauth(_),
            ) => said(500, "INTERNAL_ERROR", "Internal error."),
        }
    }
}

impl From<Problem> for Response<Body> {
    fn from(problem: Problem) -> Self {
        if let Problem::Domain(cause @ (Error::Internal(_) | Error::Unavailable(_))) = &problem {
            error!(%cause, "the request failed");
        }
        let allow = if let Problem::MethodNotAllowed(allow) = &problem {
            Some(allow.clone())
        } else {
            None
        };
        let for_calls = matches!(problem, Problem::Domain(Error::ForCallsOnly));
        let (status_code, code, message, details) = problem.parts();
        let mut response = json(
            status_code,
            &HttpError {
                status_code,
                message,
                code,
                details,
            },
        );
        response.extensions_mut().insert(Code(code));
        match (status_code, allow) {
            (401, _) => with_header(response, "www-authenticate", "Bearer"),
            (403, _) if for_calls => with_scope_to_manage(response),
            (429, _) => with_header(response, "retry-after", "60"),
            (_, Some(allow)) => with_header(response, "allow", &allow),
            _ => response,
        }
    }
}
