//! Listing overrides.

use super::{MCP, is, per_user, register, unknown_server};
use crate::harness::{Answer, Hawser};
use serde_json::json;

#[tokio::test]
async fn listing_overrides_filters_and_never_forbids() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let id = register(&admin, "wiki", per_user()).await;
    let path = format!("{MCP}/{id}/auth");
    for (kind, subject) in [("virtualaccount", "ci"), ("user", "bob"), ("user", "ada")] {
        let own = json!({"type": "header", "headerValue": "v"});
        admin
            .put(
                &path,
                json!({"subjectId": subject, "subjectType": kind, "authOverride": own}),
            )
            .await;
    }
    let rows = |answer: Answer| {
        let body = answer.json();
        let ids: Vec<_> = body["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| r["subjectId"].as_str().unwrap().to_owned())
            .collect();
        (
            answer.status,
            ids.join(" "),
            body["pagination"]["total"].as_u64().unwrap(),
        )
    };
    assert_eq!(
        rows(admin.get(&path).await),
        (200, "ada bob ci".to_owned(), 3)
    );
    assert_eq!(
        rows(admin.get(&format!("{path}?limit=1&offset=1")).await),
        (200, "bob".to_owned(), 3)
    );
    assert_eq!(
        rows(hawser.caller("acme", "ada", json!({})).get(&path).await),
        (200, "ada".to_owned(), 1)
    );
    assert_eq!(
        rows(hawser.caller("acme", "eve", json!({})).get(&path).await),
        (200, String::new(), 0)
    );
    is(
        &hawser.caller("other", "ada", json!({})).get(&path).await,
        unknown_server(),
    );
}
