//! `GET /.well-known/jwks.json`: the public keys that access tokens are signed with (RFC 7517).

use super::Problem;
use crate::http::{Request, Response, json, with_header};
use hawser_core::App;
use hawser_core::operations::logins;
use lambda_http::Body;
use serde_json::{Value, json};

/// Returns 200 with the set. It is empty, and not to be kept, until the first token is issued.
///
/// # Errors
/// [`Problem`].
pub async fn handle(app: &App, _request: &Request) -> Result<Response<Body>, Problem> {
    let mut set: Vec<Value> = Vec::new();
    for key in logins::token_keys(app).await? {
        let (x, y) = key.coordinates()?;
        set.push(json!({
            "kty": "EC",
            "crv": "P-256",
            "x": x,
            "y": y,
            "kid": key.kid,
            "alg": "ES256",
            "use": "sig",
        }));
    }
    let response = json(200, &json!({"keys": set}));
    Ok(match set.is_empty() {
        true => response,
        false => with_header(response, "cache-control", "public, max-age=300"),
    })
}
