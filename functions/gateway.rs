//! Events of AWS's HTTP front doors, as requests, and answers as those front doors take them: API Gateway HTTP APIs and
//! Lambda function URLs, both in payload format 2.0.
//!
//! `lambda_http` is not asked to do this, because it pastes the event's path into a URL. An HTTP API delivers the path
//! decoded (a function URL does not), so that a `#` or a `?` in the path of `lambda_http`'s request takes the query away,
//! `dryRun=true` with it. Here path, path parameters and query are each taken from the field that states them.

use crate::http::{Streamed, json};
use crate::{Request, Response};
use data_encoding::BASE64;
use http_body_util::BodyDataStream;
use lambda_http::aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use lambda_http::http::header::{COOKIE, SET_COOKIE};
use lambda_http::http::uri::PathAndQuery;
use lambda_http::http::{HeaderMap, HeaderValue, Uri};
use lambda_http::request::RequestContext;
use lambda_http::{Body, RequestExt};
use lambda_runtime::{MetadataPrelude, StreamResponse};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::json;
use std::fmt;
use tracing::error;

/// What a front door sends.
pub type Event = ApiGatewayV2httpRequest;

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
            Self::Format => "the event is not an HTTP request in payload format 2.0",
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
    if event.version.as_deref() != Some("2.0") {
        return Err(Unreadable::Format);
    }
    let uri = uri(&event)?;
    let body = match event.body {
        None => Body::Empty,
        Some(text) if text.is_empty() => Body::Empty,
        Some(text) if event.is_base64_encoded => {
            let bytes = BASE64.decode(text.as_bytes());
            Body::Binary(bytes.map_err(|_| Unreadable::Body)?)
        }
        Some(text) => Body::Text(text),
    };
    let mut request = Request::new(body);
    *request.method_mut() = event.request_context.http.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = event.headers;
    // Cookies come in a field of their own.
    let cookies = event.cookies.filter(|cookies| !cookies.is_empty());
    if let Some(Ok(cookies)) = cookies.map(|all| HeaderValue::from_str(&all.join("; "))) {
        request.headers_mut().insert(COOKIE, cookies);
    }
    // Decoded by the gateway; a function URL has none.
    Ok(request
        .with_path_parameters(event.path_parameters)
        .with_request_context(RequestContext::ApiGatewayV2(event.request_context)))
}

/// Path and query, each made to stand in a URL without changing what it says. The stage, if it has a name, is no part of
/// the path.
fn uri(event: &Event) -> Result<Uri, Unreadable> {
    let path = event.raw_path.as_deref().unwrap_or_default();
    let stage = event.request_context.stage.as_deref();
    let own = stage
        .filter(|stage| *stage != "$default")
        .and_then(|stage| path.strip_prefix('/')?.strip_prefix(stage))
        .filter(|rest| rest.is_empty() || rest.starts_with('/'))
        .unwrap_or(path);
    let mut text = escaped(own, NOT_IN_PATHS);
    if !text.starts_with('/') {
        text.insert(0, '/');
    }
    let query = query(event);
    if !query.is_empty() {
        text.push('?');
        text.push_str(&escaped(&query, NOT_IN_QUERIES));
    }
    let path_and_query = PathAndQuery::try_from(text).map_err(|_| Unreadable::Length)?;
    Ok(Uri::from(path_and_query))
}

/// The query as it was sent. The decoded parameters say less about it (AWS joins several values of one name with commas),
/// but more than nothing, where a front door leaves the query out.
fn query(event: &Event) -> String {
    match event.raw_query_string.as_deref() {
        Some(raw) if !raw.is_empty() => raw.to_owned(),
        _ => url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(event.query_string_parameters.iter())
            .finish(),
    }
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
pub fn streaming(response: Response<Streamed>) -> StreamResponse<BodyDataStream<Streamed>> {
    let (parts, body) = response.into_parts();
    let (headers, cookies) = apart(parts.headers);
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
