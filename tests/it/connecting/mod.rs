//! Callers without a usable credential: how a person is reached, and what a client gets until then.

mod handshake;
mod hidden_tools;
mod reopening;
mod stateless;
mod streams;
mod with_sessions;

use crate::harness::{Answer, Caller};
use crate::upstream::*;
use serde_json::{Value, json};

/// The capabilities of a client that opens addresses for people.
pub fn opens_urls() -> Value {
    json!({"elicitation": {"form": {}, "url": {}}})
}

/// A request of the stateless era.
pub fn stateless(method: &str, capabilities: Value, mut params: Value) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": capabilities,
    });
    json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})
}

/// Sends a request of the stateless era.
pub async fn ask_stateless(caller: &Caller, mcp: &str, request: &Value) -> Answer {
    send(caller, mcp, &[MODERN], request.clone()).await
}

/// Opens a session whose client says this; our id of it.
pub async fn handshake(caller: &Caller, mcp: &str, capabilities: Value) -> String {
    let answer = send(caller, mcp, &[], initialize_with(capabilities)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.header(SESSION).expect("no session")
}

/// The `initialize` of a client with these capabilities.
pub fn initialize_with(capabilities: Value) -> Value {
    let client = json!({"name": "a client", "version": "1.2.3"});
    json!({
        "jsonrpc": "2.0", "id": 7, "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": capabilities, "clientInfo": client},
    })
}

/// Sends a message of a session.
pub async fn in_session(caller: &Caller, mcp: &str, session: &str, body: Value) -> Answer {
    let headers = [(SESSION, session), ("mcp-protocol-version", "2025-06-18")];
    send(caller, mcp, &headers, body).await
}

/// A call of a tool.
pub fn tool_call(name: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": name, "arguments": {"a": 1}}})
}

/// A server whose sessions are called `theirs-1` and so on, that agrees on this revision and says what arrived.
pub fn with_sessions(upstream: &Upstream, version: &'static str) {
    let mut sessions = 0;
    upstream.answers(move |seen| {
        let message = seen.message();
        let result = match message["method"].as_str() {
            Some("initialize") => {
                sessions += 1;
                json!({"protocolVersion": version, "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}})
            }
            Some("tools/list") => json!({"tools": [{"name": "search"}]}),
            Some("tools/call") => json!({"content": [{"type": "text", "text": "called"}]}),
            _ => json!({}),
        };
        let body = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
        let kind = ("content-type", "application/json".to_owned());
        let mut reply = match message["method"].as_str() {
            Some("notifications/initialized") => Reply::new(202, vec![kind], ""),
            _ => Reply::new(200, vec![kind], body.to_string()),
        };
        if message["method"] == "initialize" {
            reply.set(SESSION, &format!("theirs-{sessions}"));
        }
        reply
    });
}
