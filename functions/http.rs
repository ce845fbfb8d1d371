//! Reading requests and writing answers, as far as every contract does it the same way.

use bytes::Bytes;
use data_encoding::BASE64;
use hawser_core::App;
use hawser_core::auth::Use;
use hawser_core::auth::credentials::Presented;
use hawser_core::domain::application::MANAGE;
use hawser_core::domain::consent_failure::FailedConsent;
use hawser_core::domain::error::{Result, Unauthenticated};
use hawser_core::domain::receipt::Counts;
use hawser_core::operations::DeletionPreview;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use lambda_http::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER as RETRY_AFTER_HEADER, SET_COOKIE,
};
use lambda_http::request::RequestContext;
use lambda_http::{Body, RequestExt};
use secrecy::SecretString;
use serde::Serialize;

pub use lambda_http::{Request, Response};

/// Seconds after which to ask again, in every 503 of ours.
pub const RETRY_AFTER: &str = "5";

/// The largest body any contract takes, in bytes.
pub const BODY_LIMIT: usize = 256 * 1024;

/// A body that may still be on its way when the answer begins.
pub type Streamed = UnsyncBoxBody<Bytes, lambda_http::Error>;

/// Converts a buffered response into a streamed one.
pub fn streamed(response: Response<Body>) -> Response<Streamed> {
    response.map(|body| {
        let bytes = match body {
            Body::Text(text) => Bytes::from(text),
            Body::Binary(bytes) => Bytes::from(bytes),
            _ => Bytes::new(),
        };
        buffered(bytes)
    })
}

/// Converts a buffered body into a streamed one.
pub fn buffered(bytes: impl Into<Bytes>) -> Streamed {
    let body = Full::new(bytes.into());
    body.map_err(|never| match never {}).boxed_unsync()
}

/// The word by which the log names how a request ended; carried on the answer.
#[derive(Clone, Copy, Debug)]
pub struct Code(pub &'static str);

/// The name of a request, given by the front door that it came through: in the log, and in the answer's `Hawser-Request-Id`.
#[derive(Clone, Debug)]
pub struct RequestId(pub String);

/// A header's first value; bytes that are no text are replaced, so that they count as sent and match nothing.
pub fn header(request: &Request, name: &str) -> Option<String> {
    request
        .headers()
        .get(name)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// The body's bytes.
pub fn body(request: &Request) -> &[u8] {
    match request.body() {
        Body::Text(text) => text.as_bytes(),
        Body::Binary(bytes) => bytes,
        _ => &[],
    }
}

/// The decoded pairs of the query, in order.
pub fn query(request: &Request) -> Vec<(String, String)> {
    url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes())
        .into_owned()
        .collect()
}

/// The decoded pairs of a form in the body, in order.
pub fn form(request: &Request) -> Vec<(String, String)> {
    url::form_urlencoded::parse(body(request))
        .into_owned()
        .collect()
}

/// A parameter of the path, decoded; empty if the route has none of that name.
pub fn path_parameter(request: &Request, name: &str) -> String {
    request
        .path_parameters_ref()
        .and_then(|parameters| parameters.first(name))
        .unwrap_or_default()
        .to_owned()
}

/// An `Authorization` header, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub enum Authorization {
    /// Of the Bearer scheme, with its token.
    Bearer(String),
    /// Of another scheme, or of none.
    Other,
}

/// The `Authorization` header, unless it is absent or empty.
pub fn authorization(request: &Request) -> Option<Authorization> {
    let value = header(request, AUTHORIZATION.as_str()).filter(|value| !value.trim().is_empty())?;
    let (scheme, token) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
    if scheme.eq_ignore_ascii_case("bearer") {
        Some(Authorization::Bearer(token.trim().to_owned()))
    } else {
        Some(Authorization::Other)
    }
}

/// The credentials of a request where `Authorization`, if it is there at all, decides alone. A token that is bound to one
/// connection is one for Kambrium's paths only.
///
/// # Errors
/// [`hawser_core::Error::Unauthenticated`], [`hawser_core::Error::Unavailable`].
pub async fn present(app: &App, request: &Request) -> Result<Presented> {
    let presented = present_for(app, request, Use::Management).await?;
    if presented.is_bound() {
        Err(Unauthenticated::InvalidToken.into())
    } else {
        Ok(presented)
    }
}

/// The credentials of a call to an MCP server: also those that are for this server alone.
///
/// # Errors
/// As there.
pub async fn present_any(app: &App, request: &Request) -> Result<Presented> {
    present_for(app, request, Use::Call(&own_addresses(app, request))).await
}

async fn present_for(app: &App, request: &Request, used_for: Use<'_>) -> Result<Presented> {
    match (
        authorization(request),
        header(request, "x-api-key").filter(|key| !key.is_empty()),
    ) {
        (Some(Authorization::Bearer(token)), _) => app.present_token(&token, used_for).await,
        (Some(Authorization::Other), _) => Err(Unauthenticated::InvalidToken.into()),
        (None, Some(key)) => Ok(Presented::api_key(&key)?),
        (None, None) => Err(Unauthenticated::Missing.into()),
    }
}

/// The base under which this deployment was reached or is to be reached from outside, without a trailing slash: as it is
/// configured, else as the gateway names itself.
pub fn public_base(app: &App, request: &Request) -> Option<String> {
    let configured = app.public_urls.first().cloned();
    configured.or_else(|| gateway_base(request))
}

/// The base that the HTTP API was reached under; a request of the REST API names none.
fn gateway_base(request: &Request) -> Option<String> {
    match request.request_context_ref()? {
        RequestContext::ApiGatewayV2(context) => {
            let domain = context.domain_name.as_ref()?;
            Some(format!("https://{domain}"))
        }
        _ => None,
    }
}

/// The addresses under which a request's path may have been reached, as its client writes them, and the bases before it, which
/// stand for all that is there (Inbound 1.3).
fn own_addresses(app: &App, request: &Request) -> Vec<String> {
    let configured = app.public_urls.iter().chain(&app.gateway_url).cloned();
    let bases: Vec<String> = configured.chain(gateway_base(request)).collect();
    let path = request.uri().path();
    let addresses = bases.iter().map(|base| format!("{base}{path}"));
    addresses.chain(bases.iter().cloned()).collect()
}

/// A JSON response with `no-store`.
pub fn json(status: u16, body: &impl Serialize) -> Response<Body> {
    let mut response = empty(status);
    match serde_json::to_string(body) {
        Ok(text) => {
            response.headers_mut().insert(
                CONTENT_TYPE,
                lambda_http::http::HeaderValue::from_static("application/json"),
            );
            *response.body_mut() = Body::Text(text);
        }
        // Every answer's type serialises; were one not to, an empty 500 is the truth.
        Err(_) => *response.status_mut() = lambda_http::http::StatusCode::INTERNAL_SERVER_ERROR,
    }
    response
}

/// A response of JSON lines with `no-store`.
pub fn json_lines(lines: &[String]) -> Response<Body> {
    let mut response = with_header(empty(200), "content-type", "application/x-ndjson");
    let text = lines
        .iter()
        .flat_map(|line| [line.as_str(), "\n"])
        .collect();
    *response.body_mut() = Body::Text(text);
    response
}

/// An answer without a body.
pub fn empty(status: u16) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = lambda_http::http::StatusCode::from_u16(status).unwrap_or_default();
    response.headers_mut().insert(
        CACHE_CONTROL,
        lambda_http::http::HeaderValue::from_static("no-store"),
    );
    response
}

/// A field of a JSON object, in every contract: `null` reads as absent
/// (docs/decisions/0038-each-contract-reads-its-own-bodies.md).
pub fn field<'a>(
    object: &'a serde_json::Map<String, serde_json::Value>,
    name: &str,
) -> Option<&'a serde_json::Value> {
    object.get(name).filter(|value| !value.is_null())
}

/// The response to a destructive call with `dryRun=true`: what would be removed, and which issuers would be asked to
/// revoke. The same under every contract.
pub fn dry_run_response(preview: &DeletionPreview) -> serde_json::Value {
    previewed(preview, false)
}

/// The same where logins may go, too.
pub fn dry_run_response_with_logins(preview: &DeletionPreview) -> serde_json::Value {
    previewed(preview, true)
}

fn previewed(preview: &DeletionPreview, with_logins: bool) -> serde_json::Value {
    let issuers = preview.issuers.iter().map(|(host, (grants, revokes))| {
        serde_json::json!({"issuer": host, "oauthRecords": grants, "supportsRevocation": revokes})
    });
    serde_json::json!({
        "dryRun": true,
        "removed": removed(preview.counts, with_logins),
        "subjects": preview.subjects,
        "issuers": issuers.collect::<Vec<_>>(),
    })
}

/// How many credentials of each source, and how many logins where there may be some.
pub fn removed(counts: Counts, with_logins: bool) -> serde_json::Value {
    let mut removed =
        serde_json::json!({"oauthRecords": counts.oauth, "overrides": counts.overrides});
    if with_logins {
        removed["logins"] = counts.logins.into();
    }
    if counts.provider_tokens > 0 {
        removed["providerTokens"] = counts.provider_tokens.into();
    }
    removed
}

/// Whether `dryRun` asks for a dry run; `None` if it is there in any other way than as `true` or `false`, once: neither a
/// misspelt value nor a misspelt name may delete, nor an option that has slipped into another (`a=1?dryRun=true`,
/// `&amp;dryRun=true`).
pub fn dry_run(request: &Request) -> Option<bool> {
    let mentions = |text: &str| {
        let letters = text.chars().filter(char::is_ascii_alphanumeric);
        let letters: String = letters.map(|c| c.to_ascii_lowercase()).collect();
        letters.contains("dryrun")
    };
    let sent: Vec<_> = query(request)
        .into_iter()
        .filter(|(name, value)| mentions(name) || mentions(value))
        .collect();
    match sent.as_slice() {
        [] => Some(false),
        [(name, value)] if name == "dryRun" => value.parse().ok(),
        _ => None,
    }
}

/// A problem of Hawser's own endpoints (RFC 9457). `code` says which; the type says nothing beyond the status.
pub fn problem(status: u16, code: &'static str, detail: &str) -> Response<Body> {
    let title = lambda_http::http::StatusCode::from_u16(status);
    let title = title.ok().and_then(|status| status.canonical_reason());
    let body = serde_json::json!({
        "type": "about:blank",
        "title": title.unwrap_or_default(),
        "status": status,
        "detail": detail,
        "code": code,
    });
    let mut response = with_header(
        json(status, &body),
        "content-type",
        "application/problem+json",
    );
    response.extensions_mut().insert(Code(code));
    response
}

/// Says in a 503 when to ask again, unless it does.
pub fn with_retry(response: Response<Body>) -> Response<Body> {
    if response.status().as_u16() == 503 && !response.headers().contains_key(RETRY_AFTER_HEADER) {
        with_header(response, "retry-after", RETRY_AFTER)
    } else {
        response
    }
}

/// Says in a 403 which scope a token needs for what is no call (RFC 6750 3.1).
pub fn with_scope_to_manage(response: Response<Body>) -> Response<Body> {
    let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{MANAGE}\"");
    with_header(response, "www-authenticate", &challenge)
}

/// Names the receipt of what the answer reports as removed, where the contract's own body has no place for it.
pub fn with_receipt(response: Response<Body>, receipt: &str) -> Response<Body> {
    with_header(response, "hawser-receipt", receipt)
}

/// The last consent at a server that failed, for those who manage it, as contracts with underscores in their names show it.
#[derive(Debug, Serialize)]
pub struct LastFailedConsent<'a> {
    reason: &'static str,
    reference: String,
    at: String,
    subject_type: &'static str,
    subject_id: &'a str,
}

impl<'a> From<&'a FailedConsent> for LastFailedConsent<'a> {
    fn from(failed: &'a FailedConsent) -> Self {
        Self {
            reason: failed.reason.as_str(),
            reference: failed.reference.ulid(),
            at: failed.at.millis_z(),
            subject_type: failed.subject.kind().as_str(),
            subject_id: failed.subject.id(),
        }
    }
}

/// Adds a header whose value is known to be one.
pub fn with_header(
    mut response: Response<Body>,
    name: &'static str,
    value: &str,
) -> Response<Body> {
    if let Ok(value) = lambda_http::http::HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
    response
}

/// Adds a cookie to those that are set already.
pub fn with_cookie(mut response: Response<Body>, cookie: &str) -> Response<Body> {
    if let Ok(cookie) = lambda_http::http::HeaderValue::from_str(cookie) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

/// The id and secret of an OAuth client, from HTTP Basic (RFC 6749 2.3.1: each encoded as in a form).
pub fn basic_credentials(header: &str) -> Option<(String, SecretString)> {
    let (scheme, credentials) = header.trim().split_once(' ')?;
    let is_basic = scheme.eq_ignore_ascii_case("basic");
    let credentials = is_basic.then(|| credentials.trim())?;
    let text = String::from_utf8(BASE64.decode(credentials.as_bytes()).ok()?).ok()?;
    let (client, secret) = text.split_once(':')?;
    Some((decoded(client), decoded(secret).into()))
}

fn decoded(part: &str) -> String {
    let text = part.replace('+', " ");
    percent_encoding::percent_decode_str(&text)
        .decode_utf8_lossy()
        .into_owned()
}
