//! Client id metadata documents: the metadata that an application publishes at the address that is its id (Inbound 2.7).

use super::{NAME_LIMIT, NoApplication};
use crate::domain::application::{
    Application, ApplicationAuth, ApplicationSource, are_usable_redirects,
};
use crate::domain::id::is_plain_text;
use crate::egress::{Failure, Outgoing};
use crate::state::app::App;
use reqwest::Method;
use reqwest::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Deserialize;
use std::time::Duration;

/// The largest metadata document, in bytes.
const DOCUMENT_LIMIT: usize = 16 * 1024;
/// The shortest and the longest time for which a metadata document is cached, whatever its headers say.
const DOCUMENT_SERVES: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));
/// How long a document without cache headers is cached.
const DOCUMENT_USUALLY: Duration = Duration::from_secs(300);

/// Reads the document at the address that is a `client_id`. Redirects are not followed: who controls the address says who the
/// application is.
pub(super) async fn document(app: &App, client_id: &str) -> Result<Application, NoApplication> {
    let documents = &app.sign_in.documents;
    if let Some(kept) = documents.get(client_id) {
        return Ok(kept);
    }
    let json = HeaderValue::from_static("application/json");
    let request = Outgoing {
        method: Method::GET,
        url: client_id,
        headers: HeaderMap::from_iter([(ACCEPT, json)]),
        body: Vec::new(),
    };
    let egress = app.sign_in.to_documents().map_err(NoApplication::Failed)?;
    let fetched = egress
        .send(request)
        .await
        .map_err(|failure| match failure {
            // The same for an address that leads inside: the difference would be a map of it.
            Failure::Unreachable | Failure::Refused => NoApplication::Unreachable,
            Failure::TooLarge => NoApplication::Unusable("it is too large"),
        })?;
    match fetched.status {
        200 => {}
        408 | 429 | 500.. => return Err(NoApplication::Unreachable),
        _ => return Err(NoApplication::Unusable("there is no document")),
    }
    let kind = fetched
        .headers
        .get(CONTENT_TYPE)
        .and_then(|it| it.to_str().ok());
    let kind = kind
        .and_then(|it| it.split(';').next())
        .unwrap_or_default()
        .trim();
    if !(kind.eq_ignore_ascii_case("application/json") || kind.ends_with("+json")) {
        return Err(NoApplication::Unusable("it is no JSON"));
    }
    if fetched.body.len() > DOCUMENT_LIMIT {
        return Err(NoApplication::Unusable("it is too large"));
    }
    let application = read(client_id, &fetched.body).map_err(NoApplication::Unusable)?;
    documents.put(&application, serves(&fetched.headers));
    Ok(application)
}

/// How long a document may be cached by its headers.
fn serves(headers: &HeaderMap) -> Duration {
    let said = headers.get(CACHE_CONTROL).and_then(|it| it.to_str().ok());
    let (least, most) = DOCUMENT_SERVES;
    let Some(said) = said else {
        return DOCUMENT_USUALLY;
    };
    let age = said.split(',').map(str::trim).find_map(|one| {
        let age = one.strip_prefix("max-age=")?;
        age.parse().ok().map(Duration::from_secs)
    });
    age.unwrap_or(least).clamp(least, most)
}

/// What a metadata document says (draft-ietf-oauth-client-id-metadata-document 4), or what is wrong with it.
fn read(client_id: &str, json: &[u8]) -> Result<Application, &'static str> {
    #[derive(Deserialize)]
    struct Document {
        client_id: String,
        client_name: Option<String>,
        #[serde(default)]
        redirect_uris: Vec<String>,
        token_endpoint_auth_method: Option<String>,
        client_secret: Option<serde_json::Value>,
    }
    let read: Document = serde_json::from_slice(json).map_err(|_| "it is no client metadata")?;
    if read.client_id != client_id {
        return Err("it is about another application");
    }
    if read.client_secret.is_some() {
        return Err("it publishes a secret");
    }
    if !matches!(
        read.token_endpoint_auth_method.as_deref(),
        None | Some("none")
    ) {
        return Err("its application authenticates in a way that is not supported");
    }
    let uris = read.redirect_uris;
    if !are_usable_redirects(&uris) {
        return Err("its redirect URIs cannot be used");
    }
    Ok(Application {
        client_id: client_id.to_owned(),
        name: read
            .client_name
            .filter(|name| is_plain_text(name, NAME_LIMIT)),
        redirect_uris: uris,
        auth: ApplicationAuth::None,
        source: ApplicationSource::MetadataDocument,
    })
}
