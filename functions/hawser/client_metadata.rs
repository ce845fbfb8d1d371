//! `GET /oauth/client-metadata.json`: our client id metadata document, whose address is our client id at issuers that accept one.

use super::Problem;
use crate::http::{Request, Response, json, with_header};
use hawser_core::App;
use hawser_core::operations::clients::{callbacks, metadata_url};
use lambda_http::Body;
use serde_json::json;

/// Returns 200 with the document, or 404 where this deployment has no public https address. It holds no secret.
///
/// # Errors
/// [`Problem`].
pub async fn handle(app: &App, _request: &Request) -> Result<Response<Body>, Problem> {
    let url = metadata_url(app).ok_or(Problem::NoMetadata)?;
    let document = json!({
        "client_id": url,
        "client_name": "Hawser",
        "redirect_uris": callbacks(app).await?,
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        "application_type": "web",
    });
    Ok(with_header(
        json(200, &document),
        "cache-control",
        "public, max-age=300",
    ))
}
