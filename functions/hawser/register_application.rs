//! `POST /oauth/register`: an application registers itself (RFC 7591; Inbound 2.2).

use crate::http::{BODY_LIMIT, Code, Request, Response, body, json, with_header};
use hawser_core::domain::application::{ApplicationAuth, OFFLINE_ACCESS, SCOPE};
use hawser_core::operations::applications::{NotRegistered, read_registration, register};
use hawser_core::{App, Error};
use lambda_http::Body;
use secrecy::ExposeSecret;
use serde_json::json;
use tracing::error;

/// Why an application is not registered.
#[derive(Debug)]
pub struct Refused(NotRegistered);

/// Returns 201 with the registration. It is stored nowhere, so an application may register as often as it likes.
///
/// # Errors
/// [`Refused`].
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Refused> {
    // Nobody can sign in with it.
    if !app.sign_in.is_offered() {
        return Err(Refused(NotRegistered::TurnedOff));
    }
    let sent = body(request);
    if sent.len() > BODY_LIMIT {
        return Err(Refused(NotRegistered::Metadata("the body is too large")));
    }
    let asked = read_registration(sent).map_err(Refused)?;
    let registered = register(app, asked).await.map_err(Refused)?;
    let application = &registered.application;
    let mut answer = json!({
        "client_id": application.client_id,
        "client_id_issued_at": registered.at,
        "redirect_uris": application.redirect_uris,
        "token_endpoint_auth_method": application.auth.as_str(),
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "scope": format!("{SCOPE} {OFFLINE_ACCESS}"),
    });
    if let Some(name) = &application.name {
        answer["client_name"] = name.as_str().into();
    }
    if let Some(secret) = registered
        .secret
        .filter(|_| application.auth != ApplicationAuth::None)
    {
        answer["client_secret"] = secret.expose_secret().into();
        answer["client_secret_expires_at"] = 0.into();
    }
    let answer = with_header(json(201, &answer), "pragma", "no-cache");
    Ok(answer)
}

impl From<Refused> for Response<Body> {
    fn from(Refused(why): Refused) -> Self {
        let (status, code, text) = match &why {
            NotRegistered::TurnedOff => (
                403,
                "access_denied",
                "Applications do not register themselves here. Ask the operator.",
            ),
            NotRegistered::RedirectUri => (
                400,
                "invalid_redirect_uri",
                "redirect_uris must be one to ten addresses: https, http on loopback, or the scheme of an application.",
            ),
            NotRegistered::Metadata(why) => (400, "invalid_client_metadata", *why),
            NotRegistered::Failed(cause @ Error::Unavailable(_)) => {
                error!(%cause, "an application could not be registered");
                (503, "temporarily_unavailable", "Try again later.")
            }
            NotRegistered::Failed(cause) => {
                error!(%cause, "an application could not be registered");
                (500, "server_error", "Something went wrong.")
            }
        };
        let mut response = json(status, &json!({"error": code, "error_description": text}));
        response.extensions_mut().insert(Code(code));
        response
    }
}
