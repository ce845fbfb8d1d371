//! Shared by the endpoints for applications: reading a form, authenticating the application, and the errors of RFC 6749 5.2.

use crate::http::{
    self, BODY_LIMIT, Code, Request, Response, basic_credentials, header, json, with_header,
    with_retry,
};
use hawser_core::App;
use hawser_core::domain::error::Error;
use hawser_core::operations::applications;
use hawser_core::operations::logins::Refusal;
use lambda_http::Body;
use secrecy::SecretString;
use serde_json::json;
use tracing::error;

/// Why the request of an application is refused.
#[derive(Debug)]
pub enum OauthProblem {
    /// The request is malformed: a parameter is missing, repeated or unreadable; with a description.
    InvalidRequest(&'static str),
    /// The application is unknown, or did not authenticate in its registered way.
    InvalidClient,
    /// Neither a code nor a refresh token is presented.
    UnsupportedGrantType,
    /// The operation refuses.
    Refused(Refusal),
    /// The operation failed.
    Domain(Error),
}

impl From<Error> for OauthProblem {
    fn from(error: Error) -> Self {
        Self::Domain(error)
    }
}

impl From<OauthProblem> for Response<Body> {
    fn from(problem: OauthProblem) -> Self {
        let (status, word, text) = match &problem {
            OauthProblem::InvalidRequest(what) => (400, "invalid_request", *what),
            OauthProblem::InvalidClient => (
                401,
                "invalid_client",
                "There is no such client, or it authenticates in another way.",
            ),
            OauthProblem::UnsupportedGrantType => (
                400,
                "unsupported_grant_type",
                "grant_type must be authorization_code or refresh_token.",
            ),
            OauthProblem::Refused(Refusal::InvalidGrant) => (
                400,
                "invalid_grant",
                "The code or token is not valid, or no longer, or not for this client.",
            ),
            OauthProblem::Refused(Refusal::InvalidTarget) => (
                400,
                "invalid_target",
                "The user has not allowed this resource.",
            ),
            OauthProblem::Refused(Refusal::InvalidScope) => {
                (400, "invalid_scope", "The user has not allowed this scope.")
            }
            OauthProblem::Domain(cause) => {
                error!(%cause, "the request failed");
                match cause {
                    Error::Unavailable(_) | Error::Contended => (
                        503,
                        "temporarily_unavailable",
                        "The service cannot answer now.",
                    ),
                    _ => (500, "server_error", "Internal error."),
                }
            }
        };
        let mut response = json(status, &json!({"error": word, "error_description": text}));
        response.extensions_mut().insert(Code(word));
        match status {
            401 => with_header(response, "www-authenticate", "Basic realm=\"Hawser\""),
            _ => with_retry(response),
        }
    }
}

/// The form of a request, and the application that sends it.
pub struct Form {
    pairs: Vec<(String, String)>,
}

impl Form {
    /// Reads the body.
    ///
    /// # Errors
    /// [`OauthProblem::InvalidRequest`] when it is too large.
    pub fn read(request: &Request) -> Result<Self, OauthProblem> {
        if http::body(request).len() > BODY_LIMIT {
            return Err(OauthProblem::InvalidRequest("The body is too large."));
        }
        let pairs = http::form(request);
        Ok(Self { pairs })
    }

    /// All values of a parameter that may be there more than once.
    pub fn all(&self, name: &str) -> Vec<String> {
        let values = self.pairs.iter().filter(|(n, _)| n == name);
        let values = values.map(|(_, value)| value.clone());
        values.filter(|value| !value.is_empty()).collect()
    }

    /// The value of a parameter; an empty value counts as absent.
    ///
    /// # Errors
    /// [`OauthProblem::InvalidRequest`] when it is there more than once.
    pub fn one(&self, name: &str) -> Result<Option<String>, OauthProblem> {
        let sent = self.pairs.iter().filter(|(n, _)| n == name).count();
        if sent > 1 {
            let twice = "A parameter is there more than once.";
            return Err(OauthProblem::InvalidRequest(twice));
        }
        Ok(self.all(name).pop())
    }

    /// A parameter that must be there.
    ///
    /// # Errors
    /// [`OauthProblem::InvalidRequest`].
    pub fn required(
        &self,
        name: &'static str,
        missing: &'static str,
    ) -> Result<String, OauthProblem> {
        self.one(name)?.ok_or(OauthProblem::InvalidRequest(missing))
    }

    /// The `client_id` of the application, once it has authenticated in the one way that it is registered with (RFC 6749 2.3):
    /// by `Authorization: Basic`, by `client_secret` in the form, or not at all.
    ///
    /// # Errors
    /// [`OauthProblem`].
    pub async fn client(&self, app: &App, request: &Request) -> Result<String, OauthProblem> {
        let (named, secret) = (self.one("client_id")?, self.one("client_secret")?);
        let (client_id, secret) = match (header(request, "authorization"), named, secret) {
            (Some(_), _, Some(_)) => {
                let twice = "The client must authenticate in one way only.";
                return Err(OauthProblem::InvalidRequest(twice));
            }
            (Some(header), named, None) => {
                let (client_id, secret) =
                    basic_credentials(&header).ok_or(OauthProblem::InvalidClient)?;
                if named.is_some_and(|named| named != client_id) {
                    return Err(OauthProblem::InvalidClient);
                }
                (client_id, Some(secret))
            }
            (None, Some(client_id), secret) => (client_id, secret.map(SecretString::from)),
            (None, None, _) => {
                return Err(OauthProblem::InvalidRequest("client_id is missing."));
            }
        };
        match applications::authenticate(app, &client_id, secret.as_ref()).await? {
            true => Ok(client_id),
            false => Err(OauthProblem::InvalidClient),
        }
    }
}
