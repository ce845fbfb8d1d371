//! What each call costs in requests to the store.

use crate::harness::{Caller, Hawser, Registered, per_user};
use serde_json::{Value, json};

const MCP: &str = "/api/svc/v1/mcp";

/// A server that takes overrides, with Ada's: its ids under the three contracts.
pub async fn fixture(admin: &Caller, name: &str) -> (String, String, u64) {
    let Registered { mcp, uuid, number } = admin.register(name, per_user(), &["ada"]).await;
    (mcp, uuid, number)
}

#[tokio::test]
async fn a_record_shows_its_provider_at_no_more_than_one_read_more() {
    let hawser = Hawser::start().await;
    let token = hawser.admin("acme");
    let permissions = json!({"permissions": ["mcp-servers:read"]});
    let key = hawser.api_key("acme", Some("user:root"), permissions).await;
    let servers = "/v1/deepagents/mcp-servers";
    let cost = async |caller: &Caller, path: &str| {
        hawser.wire.arm(None);
        assert_eq!(caller.get(path).await.status, 200);
        hawser.wire.operations()
    };
    let register = async |name: &str, auth: &str| {
        let new = json!({"name": name, "url": "https://x.example/", "auth_type": auth});
        let made = token.post(servers, new).await.json();
        format!("{servers}/{}", made["id"].as_str().unwrap())
    };
    let plain = register("plain", "").await;
    for caller in [&token, &key] {
        assert_eq!(cost(caller, &plain).await, ["BatchGetItem"]);
    }
    assert_eq!(cost(&token, servers).await, ["Query"]);
    let oauth = register("oauth", "oauth").await;
    assert_eq!(cost(&token, &oauth).await, ["BatchGetItem"]);
    // Whom a key speaks for is known only when it has been read.
    assert_eq!(cost(&key, &oauth).await, ["BatchGetItem", "BatchGetItem"]);
    assert_eq!(cost(&token, servers).await, ["Query", "BatchGetItem"]);
    for i in 0..100 {
        register(&format!("oauth {i}"), "oauth").await;
    }
    assert_eq!(
        cost(&token, servers).await,
        ["Query", "BatchGetItem", "BatchGetItem"]
    );
}

#[tokio::test]
async fn calls_cost_no_more_than_their_budget() {
    let hawser = Hawser::start().await;
    let token = hawser.admin("acme");
    let all = json!({"roles": ["admin"], "scopes": ["mgmt.admin"],
                     "permissions": ["mcp-servers:read", "mcp-servers:delete", "mcp-servers:invoke"]});
    let key = hawser.api_key("acme", Some("user:root"), all).await;
    for (who, caller) in [("token", &token), ("key", &key)] {
        let (mcp, ..) = fixture(&token, "one").await;
        let (_, uuid, _) = fixture(&token, "two").await;
        let (third, _, number) = fixture(&token, "three").await;
        let body =
            json!({"authSource": "auth-override", "subjectId": "ada", "subjectType": "user"});
        let oauth = json!({"type": "oauth2"});
        let fourth = token.register(&format!("four-{who}"), oauth, &[]).await.mcp;
        let read_then_write = ["BatchGetItem", "TransactWriteItems"];
        // An API key's item rides along in the first read; before a query it is read alone.
        let listed: &[&str] = if who == "token" {
            &["Query"]
        } else {
            &["BatchGetItem", "Query"]
        };
        // Where subjects consent, the caller's providers or the owners' grants are read too.
        let listed_with_records = [&["BatchGetItem"], listed].concat();
        // For whom a key speaks is to be known before its records can be read.
        let own_then_write: &[&str] = if who == "token" {
            // And whether a consent is open, and what one copies when it begins.
            &[
                "BatchGetItem",
                "BatchGetItem",
                "BatchGetItem",
                "TransactWriteItems",
            ]
        } else {
            &[
                "BatchGetItem",
                "BatchGetItem",
                "BatchGetItem",
                "BatchGetItem",
                "TransactWriteItems",
            ]
        };
        let calls: Vec<(&str, String, Value, &[&str])> = vec![
            (
                "GET",
                format!("{MCP}/{mcp}/auth/status?subjectId=ada&subjectType=user"),
                Value::Null,
                &["BatchGetItem"],
            ),
            (
                "GET",
                format!("{MCP}/{mcp}"),
                Value::Null,
                &["BatchGetItem"],
            ),
            (
                "GET",
                format!("{MCP}/{fourth}/authorize"),
                Value::Null,
                own_then_write,
            ),
            (
                "DELETE",
                format!("{MCP}/{fourth}/auth/tokens"),
                Value::Null,
                &["BatchGetItem", "Query", "TransactWriteItems"],
            ),
            ("GET", MCP.to_owned(), Value::Null, listed),
            (
                "GET",
                "/v1/deepagents/mcp-servers".to_owned(),
                Value::Null,
                &listed_with_records,
            ),
            (
                "GET",
                "/api/v1/mcp-servers".to_owned(),
                Value::Null,
                &listed_with_records,
            ),
            (
                "DELETE",
                format!("{MCP}/{third}/auth"),
                body,
                &read_then_write,
            ),
            (
                "DELETE",
                format!("{MCP}/{mcp}"),
                Value::Null,
                &read_then_write,
            ),
            (
                "DELETE",
                format!("/v1/deepagents/mcp-servers/{uuid}"),
                Value::Null,
                &read_then_write,
            ),
            (
                "DELETE",
                format!("/api/v1/mcp-servers/{number}"),
                Value::Null,
                &read_then_write,
            ),
        ];
        for (method, path, body, expected) in calls {
            hawser.wire.arm(None);
            let body = if body.is_null() {
                Vec::new()
            } else {
                body.to_string().into_bytes()
            };
            let answer = caller.send(method, &path, &[], body).await;
            assert!(answer.status < 300, "{method} {path}: {answer:?}");
            let mut sent = hawser.wire.operations();
            sent.sort_unstable();
            assert_eq!(sent, expected, "{who}: {method} {path}");
        }
    }
}
