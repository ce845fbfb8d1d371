//! The allow-lists of headers, in both directions (MCP authorization 8). Also checks the `Origin` of a call.

use crate::cors;
use crate::http::Request;
use data_encoding::BASE64;
use hawser_core::App;
use hawser_core::egress::HOPS_HEADER;
use hawser_core::mcp::SESSION_HEADER;
use lambda_http::http::header::{CACHE_CONTROL, CONNECTION, ORIGIN};
use lambda_http::http::{HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

/// Whether a request's header is forwarded to the server. `Mcp-Session-Id` does not: the server knows another one.
fn passes(name: &str) -> bool {
    matches!(
        name,
        "content-type"
            | "accept"
            | "mcp-protocol-version"
            | "mcp-method"
            | "mcp-name"
            | "last-event-id"
            | "traceparent"
            | "tracestate"
    ) || name.starts_with("mcp-param-")
}

/// Whether a response's header is returned to the caller. `WWW-Authenticate` does not: it is addressed to us.
fn returns(name: &str) -> bool {
    matches!(
        name,
        "content-type"
            | "content-encoding"
            | "mcp-protocol-version"
            | "allow"
            | "retry-after"
            | "cache-control"
            | "x-accel-buffering"
    )
}

/// The hop-by-hop headers that `Connection` names.
fn of_connection(headers: &HeaderMap) -> Vec<String> {
    let lines = headers.get_all(CONNECTION).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|&b| b == b','))
        .map(|name| String::from_utf8_lossy(name).trim().to_ascii_lowercase())
        .collect()
}

fn listed(headers: &HeaderMap, is_listed: fn(&str) -> bool) -> HeaderMap {
    let dropped = of_connection(headers);
    let mut kept = HeaderMap::new();
    for (name, value) in headers {
        if is_listed(name.as_str()) && !dropped.iter().any(|one| one == name.as_str()) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

/// The values of a body that its headers mirror.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mirrored<'a> {
    /// The method.
    pub method: Option<&'a str>,
    /// The name of the tool, prompt or resource.
    pub name: Option<&'a str>,
    /// Whether there are arguments, some of which may be mirrored as well.
    pub takes_arguments: bool,
}

/// Whether headers that mirror a body say anything that it does not: some servers go by the one, some by the other.
pub fn contradict(request: &Request, body: Mirrored<'_>) -> bool {
    request.headers().iter().any(|(name, value)| {
        let said = match name.as_str() {
            "mcp-method" => body.method,
            "mcp-name" => body.name,
            other => return other.starts_with("mcp-param-") && !body.takes_arguments,
        };
        let value = value.as_bytes();
        let encoded = value
            .strip_prefix(b"=?base64?")
            .and_then(|rest| BASE64.decode(rest.strip_suffix(b"?=")?).ok());
        said.map(str::as_bytes) != Some(encoded.as_deref().unwrap_or(value))
    })
}

/// The number of Hawser deployments that a request has passed. An invalid header counts as too many.
pub fn hops(request: &Request) -> u8 {
    let mut sent = request.headers().get_all(HOPS_HEADER).iter();
    match (sent.next(), sent.next()) {
        (None, _) => 0,
        (Some(one), None) => {
            let text = one.to_str().ok();
            text.and_then(|text| text.parse().ok()).unwrap_or(u8::MAX)
        }
        _ => u8::MAX,
    }
}

/// What an answer says of being kept, made to hold for its caller alone: other callers have other credentials, and the same
/// address. `None` where it says nothing.
fn private(headers: &HeaderMap) -> Option<HeaderValue> {
    let lines = headers.get_all(CACHE_CONTROL);
    lines.iter().next()?;
    let forbidden = HeaderValue::from_static("no-store");
    let mut rules = Vec::new();
    for line in lines {
        match line.to_str() {
            // Some rules name fields in quotes, which hold for those alone.
            Ok(text) if !text.contains('"') => rules.extend(text.split(',').map(str::trim)),
            _ => return Some(forbidden),
        }
    }
    let is = |rule: &str, name: &str| {
        let (said, _) = rule.split_once('=').unwrap_or((rule, ""));
        said.trim().eq_ignore_ascii_case(name)
    };
    rules.retain(|rule| !rule.is_empty() && !is(rule, "public") && !is(rule, "s-maxage"));
    if !rules
        .iter()
        .any(|rule| is(rule, "private") || is(rule, "no-store"))
    {
        rules.insert(0, "private");
    }
    Some(HeaderValue::from_str(&rules.join(", ")).unwrap_or(forbidden))
}

/// The headers of a request that are forwarded.
pub fn of_request(request: &Request) -> HeaderMap {
    listed(request.headers(), passes)
}

/// The headers of a response that are returned, with our own id of its session.
pub fn of_answer(headers: &HeaderMap, session: Option<&SecretString>) -> HeaderMap {
    let mut kept = listed(headers, returns);
    if let Some(rule) = private(&kept) {
        kept.insert(CACHE_CONTROL, rule);
    }
    let session = session.map(|id| HeaderValue::from_str(id.expose_secret()));
    if let Some(Ok(mut id)) = session {
        id.set_sensitive(true);
        kept.insert(SESSION_HEADER, id);
    }
    kept
}

/// A page in a browser says where it is from (MCP authorization row 41). Ours and those that the operator allows may call.
pub fn comes_from_an_allowed_origin(app: &App, request: &Request) -> bool {
    let known = app
        .public_urls
        .iter()
        .chain(&app.return_origins)
        .chain(&app.ui_origin);
    let known: Vec<String> = known
        .filter_map(|url| Some(Url::parse(url).ok()?.origin().ascii_serialization()))
        .collect();
    request.headers().get_all(ORIGIN).iter().all(|sent| {
        sent.to_str()
            .is_ok_and(|text| known.iter().any(|one| one == text) || cors::is_listed(app, text))
    })
}
