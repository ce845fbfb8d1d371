//! `GET /.well-known/oauth-authorization-server`: the metadata of Hawser as an authorization server (RFC 8414; Inbound 2.1).

use super::Problem;
use super::protected_resource::public;
use crate::http::{Request, Response, public_base};
use hawser_core::App;
use hawser_core::domain::application::{ApplicationAuth, OFFLINE_ACCESS, SCOPE};
use lambda_http::Body;
use serde_json::json;

/// Returns 200 with the document.
///
/// # Errors
/// [`Problem::NoSignIn`] where people cannot sign in.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let base = public_base(app, request);
    let base = base
        .filter(|_| app.sign_in.is_offered())
        .ok_or(Problem::NoSignIn)?;
    let at = |path: &str| format!("{base}{path}");
    let mut document = json!({
        "issuer": base,
        "authorization_endpoint": at("/oauth/authorize"),
        "token_endpoint": at("/oauth/token"),
        "revocation_endpoint": at("/oauth/revoke"),
        "jwks_uri": at("/.well-known/jwks.json"),
        "scopes_supported": [SCOPE, OFFLINE_ACCESS],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_methods_supported": ApplicationAuth::NAMES,
        "revocation_endpoint_auth_methods_supported": ApplicationAuth::NAMES,
        "code_challenge_methods_supported": ["S256"],
        "client_id_metadata_document_supported": true,
        "authorization_response_iss_parameter_supported": true,
    });
    if app.sign_in.registration {
        document["registration_endpoint"] = at("/oauth/register").into();
    }
    Ok(public(&document))
}
