//! `POST /oauth/token`: tokens for an application, by an authorization code or by a refresh token (RFC 6749 4.1.3 and 6).

use super::oauth_client::{Form, OauthProblem};
use crate::http::{Request, Response, json};
use hawser_core::App;
use hawser_core::operations::logins::{self, Redemption, Refresh, Tokens};
use lambda_http::Body;
use secrecy::ExposeSecret;
use serde_json::json;

/// Returns 200 with an access token and the next refresh token.
///
/// # Errors
/// [`OauthProblem`].
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, OauthProblem> {
    let form = Form::read(request)?;
    let grant_type = form.required("grant_type", "grant_type is missing.")?;
    if !matches!(grant_type.as_str(), "authorization_code" | "refresh_token") {
        return Err(OauthProblem::UnsupportedGrantType);
    }
    let client_id = form.client(app, request).await?;
    let resources = form.all("resource");
    let issued = if grant_type == "authorization_code" {
        let redemption = Redemption {
            client_id,
            code: form.required("code", "code is missing.")?.into(),
            redirect_uri: form.one("redirect_uri")?,
            code_verifier: form.one("code_verifier")?.map(Into::into),
            resources,
        };
        logins::redeem(app, redemption).await?
    } else {
        let scopes = form.one("scope")?.unwrap_or_default();
        let token = form.required("refresh_token", "refresh_token is missing.")?;
        let refresh = Refresh {
            client_id,
            token: token.into(),
            resources,
            scopes: scopes.split_whitespace().map(str::to_owned).collect(),
        };
        logins::refresh(app, refresh).await?
    };
    let tokens = issued.map_err(OauthProblem::Refused)?;
    Ok(json(200, &present(tokens)))
}

fn present(tokens: Tokens) -> serde_json::Value {
    let scopes: Vec<String> = tokens.scopes.into_iter().collect();
    json!({
        "access_token": tokens.access.expose_secret(),
        "token_type": "Bearer",
        "expires_in": tokens.expires_in,
        "refresh_token": tokens.refresh.expose_secret(),
        "scope": scopes.join(" "),
    })
}
