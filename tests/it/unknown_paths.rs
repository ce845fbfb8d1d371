//! In whose words a path is refused that nothing serves.

use crate::harness::Hawser;
use serde_json::json;

#[tokio::test]
async fn paths_below_our_own_are_refused_in_our_words() {
    let hawser = Hawser::start().await;
    let nobody = hawser.with(Vec::new());
    let unknown = json!({
        "type": "about:blank", "title": "Not Found", "status": 404,
        "detail": "There is no such path.", "code": "NOT_FOUND",
    });
    for path in [
        "/v1/receipts/a/b",
        "/v1/audit/",
        "/v1/logins/a/b",
        "/v1/subjects",
        "/oauth/nowhere",
    ] {
        nobody.get(path).await.is(404, unknown.clone());
    }
    let wrong = nobody.send("PATCH", "/v1/receipts", &[], Vec::new()).await;
    assert_eq!(
        wrong.header("allow").as_deref(),
        Some("GET, HEAD"),
        "{wrong:?}"
    );
    wrong.is(
        405,
        json!({
            "type": "about:blank", "title": "Method Not Allowed", "status": 405,
            "detail": "This path does not take this method.", "code": "METHOD_NOT_ALLOWED",
        }),
    );
}

#[tokio::test]
async fn paths_of_a_contract_are_refused_in_its_words() {
    let hawser = Hawser::start().await;
    let nobody = hawser.with(Vec::new());
    for path in [
        "/v1/deepagents/agents",
        "/v1/platform/hub",
        "/v1/managed-tools/kits",
        "/v1/receiptsandmore",
    ] {
        let refused = nobody.get(path).await;
        assert_eq!(
            (refused.status, &refused.json()["code"]),
            (404, &json!("route_not_found")),
            "{path}"
        );
    }
    let refused = nobody.get("/api/svc/v1/nowhere").await;
    assert_eq!(refused.json()["statusCode"], 404);
}
