//! What a Kambrium connection offers: the list of its tools, what may be called and listed through it, and whether its API key
//! serves. The judge is the server's own log.

mod api_key;
mod calls;
mod list_tools;

use crate::harness::{Caller, Hawser, ample};
use crate::upstream::Upstream;
use hawser_core::operations::scheduler::process_due;
use serde_json::{Value, json};

const BASE: &str = "/api/v1/mcp-servers";

struct Scene {
    hawser: Hawser,
    upstream: Upstream,
    owner: Caller,
}

impl Scene {
    async fn new() -> Self {
        let upstream = Upstream::start().await;
        let hawser = Hawser::with_integrations(&integrations(&upstream)).await;
        Self::on(hawser, upstream)
    }

    /// With a clock that stands still until it is moved.
    async fn by_hand() -> Self {
        let upstream = Upstream::start().await;
        let hawser = Hawser::by_hand_with_integrations(&integrations(&upstream)).await;
        Self::on(hawser, upstream)
    }

    fn on(hawser: Hawser, upstream: Upstream) -> Self {
        upstream.has_tools(some_tools());
        let owner = scoped(&hawser, "ada", "mgmt.read mgmt.write");
        Self {
            hawser,
            upstream,
            owner,
        }
    }

    /// A new connection of ada's; its id.
    async fn connect(&self, fields: Value) -> u64 {
        let mut body =
            json!({"mcp_server": "pipedrive", "access_type": "write", "api_key": "k-4711"});
        let fields = fields.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(fields);
        let made = self.owner.post(BASE, body).await;
        assert_eq!(made.status, 201, "{made:?}");
        made.json()["data"]["id"].as_u64().unwrap()
    }

    async fn put(&self, id: u64, body: Value) {
        let put = self.owner.put(&at(id), body).await;
        assert_eq!(put.status, 200, "{put:?}");
    }

    async fn names(&self, id: u64) -> Vec<String> {
        let answer = self.owner.get(&tools(id, "")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        named(&answer.json()["data"]["tools"])
    }

    async fn verified(&self, id: u64) -> String {
        let shown = self.owner.get(&at(id)).await.json();
        let status = shown["data"]["api_key_verification_status"].as_str();
        status.unwrap().to_owned()
    }

    async fn work(&self) {
        while process_due(&self.hawser.app, ample()).await.unwrap() {}
    }
}

fn integrations(upstream: &Upstream) -> Value {
    json!({"pipedrive": {"display_name": "P", "mcp_url": upstream.url, "api_key": {"header": "X-Key", "template": "Key {api_key}"}}})
}

fn scoped(hawser: &Hawser, subject: &str, scope: &str) -> Caller {
    hawser.caller("acme", subject, json!({"scope": scope}))
}

fn at(id: impl std::fmt::Display) -> String {
    format!("{BASE}/{id}")
}

fn tools(id: impl std::fmt::Display, query: &str) -> String {
    format!("{BASE}/{id}/tools{query}")
}

fn some_tools() -> Value {
    json!([
        {"name": "search", "title": "S", "description": "Searches.", "inputSchema": {"type": "object", "a": 1},
         "annotations": {"readOnlyHint": true, "audience": ["x"]}},
        {"name": "get_deals", "annotations": {"readOnlyHint": false}},
        {"name": "Zap"},
        {"name": "look", "annotations": {"readOnlyHint": true}},
    ])
}

fn named(tools: &Value) -> Vec<String> {
    let name = |tool: &Value| tool["name"].as_str().unwrap().to_owned();
    tools.as_array().unwrap().iter().map(name).collect()
}

fn tool_call(name: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": name, "arguments": {}}})
}
