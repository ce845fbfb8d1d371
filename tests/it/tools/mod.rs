//! Lists of tools: what a server is asked, in the words of either era, what comes of its answers, and how long a list is
//! kept for whom. The judge is the server's own log.

mod answers;
mod ask;
mod keep;

use crate::harness::{Answer, Caller, Hawser};
use crate::upstream::{Reply, Seen, Upstream, soon};
use serde_json::{Value, json};

const SERVERS: &str = "/v1/deepagents/mcp-servers";

/// Planted in what a server says: none of it may reach a caller.
const FOREIGN: &str = "the server explains";

/// The tools of the server at a URL, as a caller finds them there.
async fn list(caller: &Caller, url: &str) -> Answer {
    list_with(caller, url, "").await
}

async fn list_with(caller: &Caller, url: &str, more: &str) -> Answer {
    let url: String = url::form_urlencoded::byte_serialize(url.as_bytes()).collect();
    let path = format!("/v1/deepagents/mcp/tools?url={url}{more}");
    soon(caller.get(&path)).await
}

fn reader(hawser: &Hawser, name: &str) -> Caller {
    let permissions = json!({"permissions": ["mcp-servers:read"]});
    hawser.caller("acme", name, permissions)
}

#[track_caller]
fn names(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let tools = answer.json()["tools"].clone();
    let name = |tool: &Value| tool["name"].as_str().unwrap().to_owned();
    tools.as_array().unwrap().iter().map(name).collect()
}

#[track_caller]
fn is_refused(answer: &Answer, status: u16, code: &str, detail: &str) {
    let kind = format!("https://docs.langchain.com/errors/{code}");
    let body = json!({"type": kind, "code": code, "detail": detail, "status": status});
    answer.is(status, body);
}

#[track_caller]
fn is_bad_answer(answer: &Answer) {
    let detail = "Check the MCP server: its answer is not a valid MCP response";
    is_refused(answer, 502, "mcp_server_bad_response", detail);
}

fn json_reply(status: u16, body: &Value) -> Reply {
    let headers = vec![("content-type", "application/json".to_owned())];
    Reply::new(status, headers, body.to_string())
}

fn result(id: &Value, result: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}

fn tools(names: &[&str]) -> Value {
    names.iter().map(|name| json!({"name": name})).collect()
}

/// Methods of the messages, and HTTP's where there is none.
fn asked(upstream: &Upstream) -> Vec<String> {
    let method = |seen: Seen| match seen.message()["method"].as_str() {
        Some(method) => method.to_owned(),
        None => seen.method,
    };
    upstream.seen().into_iter().map(method).collect()
}
