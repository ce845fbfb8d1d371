//! Listing servers.

use super::{MCP, is_invalid, manifest};
use crate::harness::{Answer, Hawser};
use serde_json::{Value, json};

#[tokio::test]
async fn lists_show_pages_of_what_the_caller_may_read() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let mut ids = Vec::new();
    for name in ["one", "two", "three"] {
        let mut manifest = manifest(name, Value::Null);
        manifest["collaborators"] = if name == "two" {
            json!([{"subject": "team:docs", "role_id": "mcp-server-viewer"}])
        } else {
            json!([])
        };
        ids.push(admin.put(MCP, json!({"manifest": manifest})).await.json()["data"]["id"].clone());
    }
    let names = |answer: Answer| {
        let body = answer.json();
        let names: Vec<_> = body["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| s["manifest"]["name"].as_str().unwrap().to_owned())
            .collect();
        (names, body["pagination"].clone())
    };
    let of = |names: &[&str], total: usize, offset: usize, limit: usize| {
        (
            names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>(),
            json!({"total": total, "offset": offset, "limit": limit}),
        )
    };
    assert_eq!(
        names(admin.get(MCP).await),
        of(&["one", "two", "three"], 3, 0, 100)
    );
    assert_eq!(
        names(admin.get(&format!("{MCP}?limit=1&offset=1")).await),
        of(&["two"], 3, 1, 1)
    );
    assert_eq!(
        names(admin.get(&format!("{MCP}?limit=null&offset=9")).await),
        of(&[], 3, 9, 100)
    );
    assert_eq!(
        names(admin.get(&format!("{MCP}?name=three")).await),
        of(&["three"], 1, 0, 100)
    );
    assert_eq!(
        names(
            admin
                .get(&format!("{MCP}?fqn=acme:mcp-server:one&name=two"))
                .await
        ),
        of(&[], 0, 0, 100)
    );
    assert_eq!(
        names(
            admin
                .get(&format!("{MCP}?id={}", ids[0].as_str().unwrap()))
                .await
        ),
        of(&["one"], 1, 0, 100)
    );
    assert_eq!(
        names(admin.get(&format!("{MCP}?id=one")).await),
        of(&[], 0, 0, 100)
    );
    let docs = hawser.caller("acme", "d", json!({"teams": ["docs"]}));
    assert_eq!(names(docs.get(MCP).await), of(&["two"], 1, 0, 100));
    assert_eq!(
        names(hawser.caller("acme", "x", json!({})).get(MCP).await),
        of(&[], 0, 0, 100)
    );
    assert_eq!(
        names(hawser.admin("other").get(MCP).await),
        of(&[], 0, 0, 100)
    );
    for query in [
        "limit=0",
        "limit=1001",
        "limit=1.0",
        "limit=%2B1",
        "offset=-1",
        "limit=1&limit=2",
    ] {
        let name = query.split('=').next().unwrap();
        is_invalid(&admin.get(&format!("{MCP}?{query}")).await, &[name]);
    }
    is_invalid(
        &admin
            .get(&format!(
                "{MCP}/{}?resolveTools=1",
                ids[0].as_str().unwrap()
            ))
            .await,
        &["resolveTools"],
    );
}
