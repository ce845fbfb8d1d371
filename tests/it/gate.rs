//! Where a connection keeps tools back, or its caller may only read, nothing that a server could take for a call gets by: not what
//! headers say over a body that says nothing, and no message that is two.

use crate::harness::{Caller, Hawser};
use crate::upstream::*;
use serde_json::{Value, json};

/// The codes of what is refused because a connection keeps it back, and because a scope is missing.
const NOT_OFFERED: i64 = -32002;
const SCOPE_MISSING: i64 = -32000;

struct Stage {
    hawser: Hawser,
    upstream: Upstream,
    mcp: String,
    /// How it refuses.
    code: i64,
}

impl Stage {
    /// A connection that keeps `hidden` back.
    async fn hiding() -> Self {
        let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
        let mcp = register(&hawser, "wiki", &upstream.url, json!({})).await;
        let read = json!({"annotations": {"readOnlyHint": true}});
        let tool = |name: &str| json!({"name": name, "annotations": read["annotations"]});
        upstream.has_tools(json!([tool("hidden"), tool("open"), {"name": "writes"}]));
        let admin = hawser.admin("acme");
        let path = admin.registered(&mcp).await.paths()[2].clone();
        let listed = admin.get(&format!("{path}/tools")).await.json();
        let listed = listed["data"]["tools"].as_array().unwrap().clone();
        let hidden = listed.iter().find(|tool| tool["name"] == "hidden").unwrap()["id"].clone();
        let off = json!({"access_type": "individual", "disabled_tools": [hidden]});
        assert_eq!(admin.put(&path, off).await.status, 200);
        Self {
            hawser,
            upstream,
            mcp,
            code: NOT_OFFERED,
        }
    }

    /// The same that keeps nothing back, called by one who may only read.
    async fn reading() -> (Self, Caller) {
        let stage = Self {
            code: SCOPE_MISSING,
            ..Self::hiding().await
        };
        let admin = stage.hawser.admin("acme");
        let path = admin.registered(&stage.mcp).await.paths()[2].clone();
        assert_eq!(
            admin
                .put(&path, json!({"access_type": "write"}))
                .await
                .status,
            200
        );
        let scopes = json!({"scope": "mcp.read mgmt.admin"});
        let reader = stage.hawser.caller("acme", "reader", scopes);
        (stage, reader)
    }

    /// Sends what has to be refused; nothing of it may arrive.
    async fn is_kept(&self, caller: &Caller, method: &str, headers: &[(&str, &str)], body: &str) {
        let before = self.upstream.count();
        let path = format!("/mcp/{}", self.mcp);
        let answer = caller
            .send(method, &path, headers, body.as_bytes().to_vec())
            .await;
        // Who asks by an id is told in the body what is kept back; a scope that is missing has the status of its contract.
        let in_body = self.code == NOT_OFFERED && body.contains(r#""id":1"#);
        assert_eq!(
            (answer.status, &answer.json()["error"]["code"]),
            (if in_body { 200 } else { 403 }, &json!(self.code)),
            "{headers:?} {body}: {answer:?}"
        );
        let seen = self.upstream.seen().split_off(before);
        let passed = seen
            .iter()
            .filter(|seen| seen.message()["method"] != "tools/list");
        assert_eq!(passed.count(), 0, "{headers:?} {body}");
    }

    async fn passes(&self, caller: &Caller, headers: &[(&str, &str)], body: Value) {
        let before = self.upstream.count();
        let answer = send(caller, &self.mcp, headers, body.clone()).await;
        assert_eq!(answer.status, 200, "{headers:?} {body}: {answer:?}");
        assert!(self.upstream.count() > before);
    }
}

const METHOD: &str = "mcp-method";
const NAME: &str = "mcp-name";

/// What headers may say, over bodies that do not.
const OVER: [(&[(&str, &str)], &str); 18] = [
    (
        &[(METHOD, "tools/call"), (NAME, "hidden")],
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
    ),
    (
        &[(METHOD, "tools/call")],
        r#"{"jsonrpc":"2.0","id":1,"result":{"name":"hidden"}}"#,
    ),
    (
        &[(METHOD, "ping")],
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m"}}"#,
    ),
    (
        &[(NAME, "hidden")],
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
    ),
    (
        &[(METHOD, "ping"), (NAME, "hidden")],
        r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
    ),
    (
        &[(NAME, "hidden")],
        r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
    ),
    (&[(NAME, "")], r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#),
    (
        &[(NAME, "hidden")],
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#,
    ),
    (
        &[(NAME, "hidden")],
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
    ),
    (
        &[(METHOD, "tools/call")],
        r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
    ),
    (
        &[(METHOD, "ping"), (METHOD, "tools/call")],
        r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
    ),
    (
        &[(METHOD, "=?base64?dG9vbHMvY2FsbA==?=")],
        r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
    ),
    (
        &[(NAME, "hidden")],
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"open"}}"#,
    ),
    (
        &[(NAME, "=?base64?aGlkZGVu?=")],
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"open"}}"#,
    ),
    (
        &[(NAME, "hidden")],
        r#"{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"p"}}"#,
    ),
    (
        &[(NAME, "hidden")],
        r#"{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///a"}}"#,
    ),
    (
        &[(NAME, "hidden")],
        r#"{"jsonrpc":"2.0","id":1,"method":"prompts/list","params":{"name":"hidden"}}"#,
    ),
    (
        &[("mcp-param-q", "v")],
        r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
    ),
];

/// Bodies that are no one message, and methods that may lead to others.
const BODIES: [&str; 16] = [
    r#"{"jsonrpc":"2.0","id":1,"result":{},"params":{"name":"hidden","arguments":{}}}"#,
    r#"{"jsonrpc":"2.0","id":1,"params":{"name":"hidden"}}"#,
    r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":"m"}}"#,
    r#"{"jsonrpc":"2.0","result":{}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"open"},"result":{}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"notifications/initialized"}"#,
    r#"{"jsonrpc":"2.0","method":"notifications/../tools/call","params":{"name":"hidden"}}"#,
    r#"{"jsonrpc":"2.0","method":"notifications//../../tools/call","params":{"name":"hidden"}}"#,
    r#"{"jsonrpc":"2.0","method":"notifications/%2e%2e/tools/call","params":{"name":"hidden"}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"ping/../tools/call","params":{"name":"hidden"}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"/tools/call","params":{"name":"hidden"}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"./tools/call","params":{"name":"hidden"}}"#,
    r#"{"jsonrpc":"2.0","method":"notifications/","params":{}}"#,
    "{}",
    "",
];

#[tokio::test]
async fn what_headers_or_two_readings_say_is_refused_where_tools_are_kept_back() {
    let stage = Stage::hiding().await;
    let ada = user(&stage.hawser, "ada");
    for era in [&[MODERN][..], &[]] {
        for (headers, body) in OVER {
            let headers: Vec<_> = headers.iter().chain(era).copied().collect();
            stage.is_kept(&ada, "POST", &headers, body).await;
        }
        for body in BODIES {
            stage.is_kept(&ada, "POST", era, body).await;
        }
    }
    // Without a body there is nothing that headers could mirror.
    for method in ["GET", "DELETE"] {
        for headers in [
            &[(METHOD, "tools/call"), (NAME, "hidden")][..],
            &[(NAME, "hidden")],
            &[("mcp-param-q", "v")],
        ] {
            stage.is_kept(&ada, method, headers, "").await;
        }
    }
}

#[tokio::test]
async fn headers_that_differ_from_the_body_are_refused_where_a_caller_may_only_read() {
    let (stage, reader) = Stage::reading().await;
    for (headers, body) in OVER {
        let headers: Vec<_> = headers.iter().chain(&[MODERN]).copied().collect();
        stage.is_kept(&reader, "POST", &headers, body).await;
    }
    for body in BODIES {
        stage.is_kept(&reader, "POST", &[MODERN], body).await;
    }
    let writes = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"writes"}}"#;
    stage
        .is_kept(
            &reader,
            "POST",
            &[MODERN, (METHOD, "tools/call"), (NAME, "writes")],
            writes,
        )
        .await;
}

#[tokio::test]
async fn headers_that_mirror_the_body_pass() {
    let (stage, reader) = Stage::reading().await;
    let hiding = Stage::hiding().await;
    let ada = user(&hiding.hawser, "ada");
    for (headers, body) in [
        (vec![], json!({"jsonrpc": "2.0", "id": 1, "method": "ping"})),
        (
            vec![(METHOD, "ping")],
            json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}),
        ),
        (
            vec![(METHOD, "tools/list")],
            json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}),
        ),
        (
            vec![(METHOD, "tools/call"), (NAME, "open"), ("mcp-param-q", "v")],
            json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "open", "arguments": {"q": "v"}}}),
        ),
        (
            vec![(METHOD, "tools/call"), (NAME, "=?base64?b3Blbg==?=")],
            json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "open"}}),
        ),
        (
            vec![(METHOD, "prompts/get"), (NAME, "p")],
            json!({"jsonrpc": "2.0", "id": 1, "method": "prompts/get", "params": {"name": "p"}}),
        ),
        (
            vec![(METHOD, "resources/read"), (NAME, "file:///a")],
            json!({"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {"uri": "file:///a"}}),
        ),
        (
            vec![],
            json!({"jsonrpc": "2.0", "id": "theirs", "result": {"roots": []}}),
        ),
        (
            vec![],
            json!({"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "m"}}),
        ),
        (
            vec![(METHOD, "notifications/cancelled")],
            json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}),
        ),
    ] {
        stage.passes(&reader, &headers, body.clone()).await;
        hiding.passes(&ada, &headers, body).await;
    }
}
