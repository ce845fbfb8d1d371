//! Events of AWS's HTTP front doors, as requests, and answers as those front doors take them: API Gateway HTTP APIs in payload
//! format 2.0, and REST APIs, which alone pass on answers as they come, in format 1.0.
//!
//! `lambda_http` is not asked to do this, because it pastes the event's path into a URL. An HTTP API delivers the path
//! decoded (a REST API does not), so that a `#` or a `?` in the path of `lambda_http`'s request takes the query away,
//! `dryRun=true` with it. Here path, path parameters and query are each taken from the field that states them.

use crate::http::{RequestId, Streamed, json};
use crate::{Request, Response};
use data_encoding::BASE64;
use http_body_util::BodyDataStream;
use lambda_http::aws_lambda_events::apigw::{
    ApiGatewayProxyRequest, ApiGatewayV2httpRequest, ApiGatewayV2httpResponse,
};
use lambda_http::aws_lambda_events::query_map::QueryMap;
use lambda_http::http::header::{COOKIE, SET_COOKIE};
use lambda_http::http::uri::PathAndQuery;
use lambda_http::http::{HeaderMap, HeaderValue, Uri};
use lambda_http::request::RequestContext;
use lambda_http::{Body, RequestExt};
use lambda_runtime::{MetadataPrelude, StreamResponse};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Deserialize;
use serde_json::json;
use std::fmt;
use tracing::error;

/// What a front door sends.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Event {
    /// A REST API.
    Rest(Box<ApiGatewayProxyRequest>),
    /// An HTTP API; also what `cargo lambda watch` sends to any function.
    Http(Box<ApiGatewayV2httpRequest>),
}

/// What cannot stand in a path as itself (RFC 3986 section 3.3), apart from the percent sign.
const NOT_IN_PATHS: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// What cannot stand in a query as itself (RFC 3986 section 3.4), apart from the percent sign.
const NOT_IN_QUERIES: &AsciiSet = &NOT_IN_PATHS.remove(b'?');

/// Why an event is no request. None of them reaches a handler: what the caller asked for is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Of another payload format: the function is connected to something that it was not made for.
    Format,
    /// Path and query together are longer than a URL may be here (64 KiB).
    Length,
    /// The body is not the base64 that it is said to be.
    Body,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Format => "the event is not an HTTP request in a payload format that is served",
            Self::Length => "the path and the query are too long",
            Self::Body => "the body is not base64",
        })
    }
}

impl From<Unreadable> for Response<Body> {
    /// As the gateway answers by itself: whose contract the request is under is not known either.
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Format => {
                error!(cause = %unreadable, "the event was not read");
                json(500, &json!({"message": "Internal Server Error"}))
            }
            Unreadable::Length => json(414, &json!({"message": "Request-URI Too Long"})),
            Unreadable::Body => json(400, &json!({"message": "Bad Request"})),
        }
    }
}

/// The request that an event tells of.
///
/// # Errors
/// [`Unreadable`].
pub fn request(event: Event) -> Result<Request, Unreadable> {
    match event {
        Event::Http(event) => of_http_api(*event),
        Event::Rest(event) => of_rest_api(*event),
    }
}

fn of_http_api(event: ApiGatewayV2httpRequest) -> Result<Request, Unreadable> {
    if event.version.as_deref() != Some("2.0") {
        return Err(Unreadable::Format);
    }
    let path = event.raw_path.as_deref().unwrap_or_default();
    let path = without_stage(path, event.request_context.stage.as_deref());
    // The query as it was sent. The decoded parameters say less about it (AWS joins several values of one name with
    // commas), but more than nothing, where a front door leaves the query out.
    let query = match event.raw_query_string {
        Some(raw) if !raw.is_empty() => raw,
        _ => encoded(&event.query_string_parameters),
    };
    let mut request = Request::new(body(event.body, event.is_base64_encoded)?);
    *request.method_mut() = event.request_context.http.method.clone();
    *request.uri_mut() = uri(path, &query)?;
    *request.headers_mut() = event.headers;
    // Cookies come in a field of their own.
    let cookies = event.cookies.filter(|cookies| !cookies.is_empty());
    if let Some(Ok(cookies)) = cookies.map(|all| HeaderValue::from_str(&all.join("; "))) {
        request.headers_mut().insert(COOKIE, cookies);
    }
    if let Some(id) = event.request_context.request_id.clone() {
        request.extensions_mut().insert(RequestId(id));
    }
    // Decoded by the gateway.
    Ok(request
        .with_path_parameters(event.path_parameters)
        .with_request_context(RequestContext::ApiGatewayV2(event.request_context)))
}

/// No path parameters: the function behind a REST API matches its paths itself.
fn of_rest_api(event: ApiGatewayProxyRequest) -> Result<Request, Unreadable> {
    // As the client wrote it: with the stage, or what a custom domain maps to the stage. `path` is with the one and without
    // the other.
    let path = event.request_context.path.or(event.path);
    let mut path = path.unwrap_or_default();
    // The stage itself, whether or not a slash was sent after it.
    if event.resource.as_deref() == Some("/") && path.len() > 1 && path.ends_with('/') {
        path.pop();
    }
    let parameters = match event.multi_value_query_string_parameters {
        some if !some.is_empty() => some,
        _ => event.query_string_parameters,
    };
    let mut request = Request::new(body(event.body, event.is_base64_encoded)?);
    *request.method_mut() = event.http_method;
    *request.uri_mut() = uri(&path, &encoded(&parameters))?;
    // The other field has the last value of each header alone.
    *request.headers_mut() = match event.multi_value_headers {
        all if !all.is_empty() => all,
        _ => event.headers,
    };
    if let Some(id) = event.request_context.request_id {
        request.extensions_mut().insert(RequestId(id));
    }
    Ok(request)
}

fn body(text: Option<String>, is_base64: bool) -> Result<Body, Unreadable> {
    match text {
        None => Ok(Body::Empty),
        Some(text) if text.is_empty() => Ok(Body::Empty),
        Some(text) if is_base64 => {
            let bytes = BASE64.decode(text.as_bytes());
            Ok(Body::Binary(bytes.map_err(|_| Unreadable::Body)?))
        }
        Some(text) => Ok(Body::Text(text)),
    }
}

/// An HTTP API's path. Its stage, if that has a name, is no part of it.
fn without_stage<'a>(path: &'a str, stage: Option<&str>) -> &'a str {
    stage
        .filter(|stage| *stage != "$default")
        .and_then(|stage| path.strip_prefix('/')?.strip_prefix(stage))
        .filter(|rest| rest.is_empty() || rest.starts_with('/'))
        .unwrap_or(path)
}

/// Path and query, each made to stand in a URL without changing what it says.
fn uri(path: &str, query: &str) -> Result<Uri, Unreadable> {
    let mut text = escaped(path, NOT_IN_PATHS);
    if !text.starts_with('/') {
        text.insert(0, '/');
    }
    if !query.is_empty() {
        text.push('?');
        text.push_str(&escaped(query, NOT_IN_QUERIES));
    }
    let path_and_query = PathAndQuery::try_from(text).map_err(|_| Unreadable::Length)?;
    Ok(Uri::from(path_and_query))
}

/// Decoded parameters as a query.
fn encoded(parameters: &QueryMap) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(parameters.iter())
        .finish()
}

/// Escapes what cannot stand there as itself. What is escaped already stays as it is; a percent sign that escapes nothing
/// stands for itself.
fn escaped(text: &str, not_there: &'static AsciiSet) -> String {
    let mut parts = text.split('%');
    let mut out: String =
        utf8_percent_encode(parts.next().unwrap_or_default(), not_there).collect();
    for part in parts {
        let escapes = part
            .as_bytes()
            .first_chunk::<2>()
            .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        out.push_str(if escapes { "%" } else { "%25" });
        out.extend(utf8_percent_encode(part, not_there));
    }
    out
}

/// An answer that is all there.
pub fn buffered(response: Response<Body>) -> ApiGatewayV2httpResponse {
    let (parts, body) = response.into_parts();
    let (headers, cookies) = apart(parts.headers);
    let mut out = ApiGatewayV2httpResponse::default();
    out.status_code = i64::from(parts.status.as_u16());
    out.headers = headers;
    out.cookies = cookies;
    out.is_base64_encoded = matches!(body, Body::Binary(_));
    out.body = Some(body).filter(|body| !matches!(body, Body::Empty));
    out
}

/// An answer whose body may still be on its way.
pub type Streaming = StreamResponse<BodyDataStream<Streamed>>;

/// An answer as a REST API takes it: status and headers first, each header with one value, then the body as it comes.
pub fn streaming(response: Response<Streamed>) -> Streaming {
    let (parts, body) = response.into_parts();
    let (headers, cookies) = apart(parts.headers);
    let headers = joined(&headers);
    StreamResponse {
        metadata_prelude: MetadataPrelude {
            status_code: parts.status,
            headers,
            cookies,
        },
        stream: BodyDataStream::new(body),
    }
}

/// Headers, and the cookies among them, for which there is a field of their own.
fn apart(mut headers: HeaderMap) -> (HeaderMap, Vec<String>) {
    let cookies = headers.get_all(SET_COOKIE).iter();
    let cookies = cookies.map(|one| String::from_utf8_lossy(one.as_bytes()).into_owned());
    let cookies = cookies.collect();
    headers.remove(SET_COOKIE);
    (headers, cookies)
}

/// Several values of one header as one.
fn joined(headers: &HeaderMap) -> HeaderMap {
    let mut joined = HeaderMap::new();
    for name in headers.keys() {
        let values: Vec<_> = headers
            .get_all(name)
            .iter()
            .map(HeaderValue::as_bytes)
            .collect();
        if let Ok(value) = HeaderValue::from_bytes(&values.join(&b", "[..])) {
            joined.insert(name.clone(), value);
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaping_changes_nothing_that_is_a_url_already() {
        let cases = [
            ("/mcp/v1/a%20b%23c/mcp", "/mcp/v1/a%20b%23c/mcp"),
            ("/a#b?c", "/a%23b%3Fc"),
            ("/100%/50%2", "/100%25/50%252"),
            ("/%zz%41", "/%25zz%41"),
            ("/ä b+c", "/%C3%A4%20b+c"),
            ("", ""),
        ];
        for (path, expected) in cases {
            assert_eq!(escaped(path, NOT_IN_PATHS), expected, "{path}");
            assert_eq!(escaped(expected, NOT_IN_PATHS), expected, "{path}");
        }
        assert_eq!(escaped("a=b?c#d e", NOT_IN_QUERIES), "a=b?c%23d%20e");
    }
}
