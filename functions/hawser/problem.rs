//! How Hawser's own endpoints say no: problem details (RFC 9457).

use crate::http::{Response, problem as details, with_header, with_scope_to_manage};
use hawser_core::Error;
use lambda_http::Body;
use tracing::error;

/// One refusal.
#[derive(Debug)]
pub enum Problem {
    /// This parameter does not have a value that it can have.
    Invalid(&'static str),
    /// The caller neither is the subject nor manages the tenant's servers.
    NotManager,
    /// The caller does not administer the tenant.
    NotAdmin,
    /// No such login, or none that the caller may end.
    LoginNotFound,
    /// No such receipt, or none that the caller may read.
    ReceiptNotFound,
    /// This deployment has no public https address.
    NoMetadata,
    /// Nobody signs in here.
    NoSignIn,
    /// The body's content coding is not taken.
    UnsupportedCoding,
    /// No such path.
    PathNotFound,
    /// The path takes other methods only; these.
    MethodNotAllowed(String),
    /// Whatever the operation said.
    Domain(Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Domain(error)
    }
}

impl From<Problem> for Response<Body> {
    fn from(problem: Problem) -> Self {
        let (status, code, detail) = match &problem {
            Problem::Invalid(parameter) => (
                400,
                "INVALID_REQUEST",
                format!("The value of {parameter} is not valid."),
            ),
            Problem::NotManager => (
                403,
                "PERMISSION_DENIED",
                "Acting for another subject needs the role of an admin or manager of the tenant."
                    .to_owned(),
            ),
            Problem::NotAdmin => (
                403,
                "PERMISSION_DENIED",
                "The audit log needs the role of an admin of the tenant.".to_owned(),
            ),
            Problem::LoginNotFound => {
                (404, "LOGIN_NOT_FOUND", "There is no such login.".to_owned())
            }
            Problem::ReceiptNotFound => (
                404,
                "RECEIPT_NOT_FOUND",
                "There is no such receipt.".to_owned(),
            ),
            Problem::NoMetadata => (
                404,
                "NO_CLIENT_METADATA",
                "This deployment has no public https address.".to_owned(),
            ),
            Problem::NoSignIn => (
                404,
                "NO_SIGN_IN",
                "Nobody signs in here: no identity provider is configured.".to_owned(),
            ),
            Problem::UnsupportedCoding => (
                415,
                "UNSUPPORTED_CONTENT_ENCODING",
                "The body must be sent as it is, or with gzip.".to_owned(),
            ),
            Problem::PathNotFound => (404, "NOT_FOUND", "There is no such path.".to_owned()),
            Problem::MethodNotAllowed(_) => (
                405,
                "METHOD_NOT_ALLOWED",
                "This path does not take this method.".to_owned(),
            ),
            Problem::Domain(Error::Unauthenticated(_)) => (
                401,
                "UNAUTHORIZED",
                "Valid credentials are required.".to_owned(),
            ),
            Problem::Domain(Error::ForCallsOnly) => (
                403,
                "PERMISSION_DENIED",
                "This token is for calls to MCP servers only.".to_owned(),
            ),
            Problem::Domain(Error::KeyReused) => (
                422,
                "IDEMPOTENCY_KEY_REUSED",
                "Another request had this Idempotency-Key.".to_owned(),
            ),
            Problem::Domain(cause @ Error::Unavailable(_)) => {
                error!(%cause, "the request failed");
                (
                    503,
                    "UNAVAILABLE",
                    "The service cannot answer now.".to_owned(),
                )
            }
            Problem::Domain(cause) => {
                error!(%cause, "the request failed");
                (500, "INTERNAL_ERROR", "Internal error.".to_owned())
            }
        };
        let response = details(status, code, &detail);
        match problem {
            Problem::Domain(Error::ForCallsOnly) => with_scope_to_manage(response),
            Problem::MethodNotAllowed(allow) => with_header(response, "allow", &allow),
            _ if status == 401 => with_header(response, "www-authenticate", "Bearer"),
            _ => response,
        }
    }
}
