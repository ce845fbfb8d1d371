//! `POST /oauth2/token`: a token for the OAuth client of a connection (Kambrium 13; RFC 6749 4.4). Errors are those of
//! RFC 6749 5.2.

use crate::http::{self, BODY_LIMIT, Code, Request, Response, header, json, with_header};
use hawser_core::App;
use hawser_core::auth::client_token::LIFETIME;
use hawser_core::domain::error::Error;
use hawser_core::operations::tokens::{self, Issued, Refusal};
use lambda_http::Body;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tracing::error;

/// Why there is no token.
#[derive(Debug)]
pub enum Problem {
    /// A parameter is missing, repeated or unreadable.
    InvalidRequest,
    /// The credentials are missing, or are not those of a client.
    InvalidClient,
    /// The connection does not have a scope that was asked for.
    InvalidScope,
    /// The grant type is not `client_credentials`.
    UnsupportedGrantType,
    /// The error of the operation.
    Domain(Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Domain(error)
    }
}

/// Returns 200 with a bearer token for the scopes asked for, or for all that the connection has.
///
/// # Errors
/// [`Problem`].
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    if http::body(request).len() > BODY_LIMIT {
        return Err(Problem::InvalidRequest);
    }
    let (client, secret) = client(request)?;
    let grant_type = parameter(request, "grant_type")?.ok_or(Problem::InvalidRequest)?;
    if grant_type != "client_credentials" {
        return Err(Problem::UnsupportedGrantType);
    }
    let scopes = parameter(request, "scope")?.unwrap_or_default();
    let scopes = scopes.split_whitespace().map(str::to_owned).collect();
    let issued = tokens::issue(app, &client, &secret, scopes).await?;
    let Issued { token, scopes } = issued.map_err(|refusal| match refusal {
        Refusal::InvalidClient => Problem::InvalidClient,
        Refusal::InvalidScope => Problem::InvalidScope,
    })?;
    Ok(json(
        200,
        &json!({
            "access_token": token.expose_secret(),
            "token_type": "Bearer",
            "expires_in": LIFETIME,
            "scope": scopes.into_iter().collect::<Vec<_>>().join(" "),
        }),
    ))
}

/// The client's id and secret, from the header or from the form, but not from both (RFC 6749 2.3). A `client_id` in the
/// form beside the header is allowed if it names the same client.
fn client(request: &Request) -> Result<(String, SecretString), Problem> {
    let sent_id = parameter(request, "client_id")?;
    let sent_secret = parameter(request, "client_secret")?;
    if http::authorization(request).is_none() {
        let sent = sent_id.zip(sent_secret.map(SecretString::from));
        return sent.ok_or(Problem::InvalidClient);
    }
    let header = header(request, "authorization").unwrap_or_default();
    let (id, secret) = http::basic_credentials(&header).ok_or(Problem::InvalidClient)?;
    if sent_secret.is_some() || sent_id.is_some_and(|sent| sent != id) {
        return Err(Problem::InvalidRequest);
    }
    Ok((id, secret))
}

/// A parameter of the form. An empty one counts as absent.
fn parameter(request: &Request, name: &str) -> Result<Option<String>, Problem> {
    let mut values = http::form(request)
        .into_iter()
        .filter(|(n, _)| n == name)
        .map(|(_, value)| value);
    match (values.next(), values.next()) {
        (value, None) => Ok(value.filter(|value| !value.is_empty())),
        _ => Err(Problem::InvalidRequest),
    }
}

impl From<Problem> for Response<Body> {
    fn from(problem: Problem) -> Self {
        let (status, word) = match &problem {
            Problem::InvalidRequest => (400, "invalid_request"),
            Problem::InvalidClient => (401, "invalid_client"),
            Problem::InvalidScope => (400, "invalid_scope"),
            Problem::UnsupportedGrantType => (400, "unsupported_grant_type"),
            Problem::Domain(cause) => {
                error!(%cause, "the request failed");
                match cause {
                    Error::Unavailable(_) => (503, "temporarily_unavailable"),
                    _ => (500, "server_error"),
                }
            }
        };
        let mut response = json(status, &json!({"error": word}));
        response.extensions_mut().insert(Code(word));
        if status == 401 {
            with_header(response, "www-authenticate", "Basic")
        } else {
            response
        }
    }
}
