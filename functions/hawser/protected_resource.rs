//! `GET /.well-known/oauth-protected-resource...`: the metadata by which an MCP client that knows only an address finds the
//! authorization server (RFC 9728; Inbound 1.1).

use super::Problem;
use super::resource::{METADATA_PATH, base_of};
use crate::http::{Request, Response, json, public_base, with_header};
use hawser_core::App;
use hawser_core::domain::application::SCOPE;
use lambda_http::Body;
use serde_json::json;

/// Returns 200 with the document, whether the server exists or not. It reads nothing and needs no credentials.
///
/// # Errors
/// [`Problem::NoMetadata`] where this deployment does not know under which address it is reached.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let base = base_of(app, request).ok_or(Problem::NoMetadata)?;
    let path = request.uri().path();
    let path = path.strip_prefix(METADATA_PATH).unwrap_or_default();
    let mut document = json!({
        "resource": format!("{base}{path}"),
        "scopes_supported": [SCOPE],
        "bearer_methods_supported": ["header"],
        "resource_name": "Hawser",
    });
    let named = app.sign_in.authorization_server.clone();
    let own = || {
        let own = public_base(app, request);
        own.filter(|_| app.sign_in.is_offered())
    };
    if let Some(server) = named.or_else(own) {
        document["authorization_servers"] = json!([server]);
    }
    Ok(public(&document))
}

/// A document for everyone, which may be kept for five minutes.
pub(super) fn public(document: &serde_json::Value) -> Response<Body> {
    with_header(json(200, document), "cache-control", "public, max-age=300")
}
