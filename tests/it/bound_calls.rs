//! Calls that name no server, with credentials that are bound to one connection (Kambrium 13.1).

use crate::harness::{Answer, Caller, Hawser};
use crate::upstream::{MODERN, Upstream, message};
use data_encoding::BASE64;
use serde_json::{Value, json};

/// A running Hawser whose two integrations are one MCP server in process, and a connection to one of them.
struct Scene {
    hawser: Hawser,
    upstream: Upstream,
    number: u64,
    credentials: Value,
}

/// Every address that a bound credential has for its connection.
const OWN: [&str; 3] = ["/mcp", "/mail/mcp", "/mcp/mail/mcp"];
/// Addresses of another integration, which is there, and of one that is not.
const OTHERS: [&str; 3] = ["/chat/mcp", "/mcp/chat/mcp", "/nothing/mcp"];

impl Scene {
    async fn new() -> Self {
        let upstream = Upstream::start().await;
        let offer = json!({"display_name": "Mail", "mcp_url": upstream.url, "api_key": {}});
        let hawser =
            Hawser::with_integrations(&json!({"mail": offer.clone(), "chat": offer})).await;
        let body = json!({"mcp_server": "mail", "access_type": "write", "api_key": "k-1"});
        let made = ada(&hawser).post("/api/v1/mcp-servers", body).await;
        assert_eq!(made.status, 201, "{made:?}");
        let data = made.json()["data"].clone();
        Self {
            hawser,
            upstream,
            number: data["id"].as_u64().unwrap(),
            credentials: data["oauth2_credentials"].clone(),
        }
    }

    /// A token of the connection's own client, obtained with its credentials in the form.
    async fn client(&self) -> Caller {
        let text = |name: &str| self.credentials[name].as_str().unwrap().to_owned();
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", &text("client_id"))
            .append_pair("client_secret", &text("client_secret"))
            .finish();
        let kind = ("content-type", "application/x-www-form-urlencoded");
        let anonymous = self.hawser.anonymous();
        let answer = anonymous
            .send("POST", "/oauth2/token", &[kind], form.clone().into_bytes())
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let token = answer.json()["access_token"].as_str().unwrap().to_owned();
        self.hawser
            .with(vec![("authorization", format!("Bearer {token}"))])
    }

    /// Every kind of credential that is bound to the connection.
    async fn bound(&self) -> Vec<(&'static str, Caller)> {
        let grants = json!({"scopes": ["mcp.write"], "bound_to": self.number});
        let claims = json!({"scope": "mcp.write", "mcp_server_id": self.number});
        vec![
            ("client", self.client().await),
            (
                "personal",
                self.hawser.personal("acme", "user:ada", grants).await,
            ),
            ("token", self.hawser.caller("acme", "ada", claims)),
        ]
    }

    async fn delete(&self) {
        let path = format!("/api/v1/mcp-servers/{}", self.number);
        assert_eq!(ada(&self.hawser).delete(&path).await.status, 200);
    }
}

fn ada(hawser: &Hawser) -> Caller {
    hawser.caller(
        "acme",
        "ada",
        json!({"scope": "mgmt.read mgmt.write mcp.write"}),
    )
}

async fn call(caller: &Caller, path: &str) -> Answer {
    let body = message("tools/list").to_string().into_bytes();
    caller.send("POST", path, &[MODERN], body).await
}

#[track_caller]
fn is_not_found(answer: &Answer, status: u16, why: &str) {
    let error = &answer.json()["error"];
    assert_eq!(
        (answer.status, &error["code"], &error["message"]),
        (
            status,
            &json!(-32001),
            &json!("MCP server not found or not accessible")
        ),
        "{why}: {answer:?}"
    );
}

#[tokio::test]
async fn a_bound_credential_names_its_connection() {
    let scene = Scene::new().await;
    for (kind, caller) in scene.bound().await {
        for path in OWN {
            let before = scene.upstream.count();
            let answer = call(&caller, path).await;
            assert_eq!(answer.status, 200, "{kind} {path}: {answer:?}");
            assert_eq!(scene.upstream.count(), before + 1, "{kind} {path}");
        }
        let before = scene.upstream.count();
        for path in OTHERS {
            is_not_found(&call(&caller, path).await, 404, kind);
        }
        assert_eq!(scene.upstream.count(), before, "{kind}");
    }
}

#[tokio::test]
async fn a_call_by_the_connections_client_reads_no_more_than_one_by_its_id() {
    let scene = Scene::new().await;
    let client = scene.client().await;
    assert_eq!(call(&client, "/mcp").await.status, 200);
    scene.hawser.wire.arm(None);
    assert_eq!(call(&client, "/mail/mcp").await.status, 200);
    let sent = scene.hawser.wire.operations();
    assert_eq!(sent, ["BatchGetItem"], "{sent:?}");
}

#[tokio::test]
async fn a_credential_that_is_bound_to_nothing_names_nothing() {
    let scene = Scene::new().await;
    let key = json!({"roles": ["admin"], "scopes": ["mcp.write"]});
    let key = scene.hawser.api_key("acme", Some("user:ada"), key).await;
    // Kambrium's own credentials get its statuses.
    for (caller, status) in [
        (ada(&scene.hawser), 404),
        (scene.hawser.admin("acme"), 200),
        (key, 200),
    ] {
        for path in OWN.iter().chain(&OTHERS) {
            is_not_found(&call(&caller, path).await, status, path);
        }
    }
    for path in OWN {
        let answer = call(&scene.hawser.anonymous(), path).await;
        assert_eq!(answer.status, 401, "{path}: {answer:?}");
        let basic = format!("Basic {}", BASE64.encode(b"a:b"));
        let basic = scene.hawser.with(vec![("authorization", basic)]);
        assert_eq!(call(&basic, path).await.status, 401, "{path}");
    }
    assert_eq!(scene.upstream.count(), 0);
}

#[tokio::test]
async fn with_the_connection_its_addresses_are_gone() {
    let scene = Scene::new().await;
    let bound = scene.bound().await;
    for (kind, caller) in &bound {
        assert_eq!(call(caller, "/mcp").await.status, 200, "{kind}");
    }
    scene.delete().await;
    for (kind, caller) in &bound {
        for path in OWN.iter().chain(&OTHERS) {
            let answer = call(caller, path).await;
            assert_eq!(answer.status, 401, "{kind} {path}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_session_is_opened_used_and_closed_without_naming_the_server() {
    let scene = Scene::new().await;
    let initialize = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    for (kind, caller) in scene.bound().await {
        let body = initialize.to_string().into_bytes();
        let opened = caller.send("POST", "/mcp", &[], body).await;
        assert_eq!(opened.status, 200, "{kind}: {opened:?}");
        let session = opened.header("mcp-session-id").unwrap();
        let header = [("mcp-session-id", session.as_str())];
        let body = message("tools/list").to_string().into_bytes();
        for path in OWN {
            let answer = caller.send("POST", path, &header, body.clone()).await;
            assert_eq!(answer.status, 200, "{kind} {path}: {answer:?}");
        }
        // The session is checked before the server.
        let elsewhere = caller
            .send("POST", "/nothing/mcp", &header, body.clone())
            .await;
        is_not_found(&elsewhere, 404, kind);
        let closed = caller
            .send("DELETE", "/mail/mcp", &header, Vec::new())
            .await;
        assert!(closed.status < 300, "{kind}: {closed:?}");
        let after = caller.send("POST", "/mcp", &header, body).await;
        assert_eq!(after.status, 404, "{kind}: {after:?}");
        let data = &after.json()["error"]["data"];
        assert_eq!(data["reinitialize_required"], true, "{kind}: {after:?}");
    }
}
