//! The Model Context Protocol as far as Hawser speaks it itself. Revisions are dates: from [`STATELESS`] on requests stand
//! alone, before it they belong to sessions.

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

/// The first revision without sessions; the one that is spoken.
pub const STATELESS: &str = "2026-07-28";
/// The last revision with sessions; the one that is offered to servers of that era.
pub const LAST_WITH_SESSIONS: &str = "2025-11-25";

/// The revisions with sessions that Hawser answers a handshake in, newest first.
pub const WITH_SESSIONS: [&str; 3] = [LAST_WITH_SESSIONS, "2025-06-18", "2025-03-26"];

/// The header that names a session.
pub const SESSION_HEADER: HeaderName = HeaderName::from_static("mcp-session-id");
/// The header that names the revision of a message.
pub const VERSION_HEADER: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD_HEADER: HeaderName = HeaderName::from_static("mcp-method");

/// Whether a revision is one without sessions. What is no date is none.
pub fn is_stateless(version: &str) -> bool {
    is_revision(version) && version >= STATELESS
}

/// Whether a text has the form of a revision.
pub fn is_revision(version: &str) -> bool {
    let is_date = version.bytes().enumerate().all(|(i, b)| match i {
        4 | 7 => b == b'-',
        _ => b.is_ascii_digit(),
    });
    is_date && version.len() == STATELESS.len()
}

/// Whether a client's capabilities say that it opens addresses for people. An empty `elicitation` means forms alone.
pub fn opens_urls(capabilities: &Value) -> bool {
    capabilities["elicitation"]["url"].is_object()
}

/// Who asks.
pub fn client_info() -> Value {
    json!({"name": "hawser", "version": env!("CARGO_PKG_VERSION")})
}

/// What each request without a session has to say of itself.
pub fn meta() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": STATELESS,
        "io.modelcontextprotocol/clientInfo": client_info(),
        "io.modelcontextprotocol/clientCapabilities": {},
    })
}

/// The headers of a message; `version` is that of the session, if it has agreed on one.
pub fn headers(method: &str, version: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (
            ACCEPT,
            HeaderValue::from_static("application/json, text/event-stream"),
        ),
    ]);
    let mut put = |name, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    if let Some(version) = version {
        put(VERSION_HEADER, version);
        if is_stateless(version) {
            put(METHOD_HEADER, method);
        }
    }
    headers
}
