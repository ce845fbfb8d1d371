//! The parts of the Model Context Protocol that Hawser itself speaks. Revisions are dates. From [`STATELESS`] on each
//! request stands alone; before it, requests belong to sessions.

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

/// The first revision without sessions, and the one that Hawser speaks.
pub const STATELESS: &str = "2026-07-28";
/// The last revision with sessions, which Hawser offers to servers of that era.
pub const LAST_WITH_SESSIONS: &str = "2025-11-25";

/// The revisions with sessions in which Hawser answers a handshake, newest first.
pub const WITH_SESSIONS: [&str; 3] = [LAST_WITH_SESSIONS, "2025-06-18", "2025-03-26"];

/// The header that names a session.
pub const SESSION_HEADER: HeaderName = HeaderName::from_static("mcp-session-id");
/// The header that names the revision of a message.
pub const VERSION_HEADER: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD_HEADER: HeaderName = HeaderName::from_static("mcp-method");

/// Whether a revision has no sessions. A text that is no date is no revision.
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

/// Whether a client's capabilities include elicitation by URL. An empty `elicitation` stands for forms only.
pub fn opens_urls(capabilities: &Value) -> bool {
    capabilities["elicitation"]["url"].is_object()
}

/// `clientInfo`: Hawser as the client.
pub fn client_info() -> Value {
    json!({"name": "hawser", "version": env!("CARGO_PKG_VERSION")})
}

/// `_meta` of each request without a session: the revision and the client.
pub fn meta() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": STATELESS,
        "io.modelcontextprotocol/clientInfo": client_info(),
        "io.modelcontextprotocol/clientCapabilities": {},
    })
}

/// The headers of a message. `version` is the revision of its session, once one is agreed on.
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
