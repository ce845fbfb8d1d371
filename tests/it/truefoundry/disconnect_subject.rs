//! Disconnecting a subject.

use super::{
    MCP, UNKNOWN, disconnect, grant, install, is, is_invalid, no_record, oauth, per_user, register,
    status, unknown_server,
};
use crate::harness::Hawser;
use serde_json::json;

#[tokio::test]
async fn disconnect_takes_exactly_one_record_and_is_not_idempotent() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let id = register(&admin, "wiki", oauth()).await;
    grant(&hawser, &id, |_| {}).await;
    install(&admin, &id, "ada", "Bearer v").await;
    let answer = disconnect(&admin, &id, "ada", "oauth").await;
    let receipt = answer.json()["data"]["receiptId"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({"data": {"receiptId": receipt}}))
    );
    assert!((1..=64).contains(&receipt.len()));
    is(&disconnect(&admin, &id, "ada", "oauth").await, no_record());
    status(&admin, &id, "ada").await.is(
        200,
        json!({"status": "authenticated", "method": "auth-override"}),
    );
    let second = disconnect(&admin, &id, "ada", "auth-override").await;
    assert_eq!(second.status, 200);
    assert_ne!(second.json()["data"]["receiptId"], receipt);
    is(
        &disconnect(&admin, &id, "ada", "auth-override").await,
        no_record(),
    );
    let revoked = json!({"status": "authentication_required", "method": null, "reason": "revoked"});
    status(&admin, &id, "ada").await.is(200, revoked);
    is(
        &disconnect(&admin, &id, "never", "oauth").await,
        no_record(),
    );
    is(
        &disconnect(&admin, UNKNOWN, "ada", "oauth").await,
        unknown_server(),
    );
}

#[tokio::test]
async fn disconnect_needs_its_whole_body() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let id = register(&admin, "wiki", per_user()).await;
    install(&admin, &id, "ada", "k").await;
    let path = format!("{MCP}/{id}/auth");
    is_invalid(&admin.delete(&path).await, &[""]);
    is_invalid(
        &admin.send("DELETE", &path, &[], b"null".to_vec()).await,
        &[""],
    );
    for (body, paths) in [
        (json!({}), &["authSource", "subjectType", "subjectId"][..]),
        (
            json!({"authSource": "all", "subjectId": "ada", "subjectType": "user"}),
            &["authSource"],
        ),
        (
            json!({"authSource": "auth-override", "subjectId": "ada", "subjectType": "external-identity"}),
            &["subjectType"],
        ),
        (
            json!({"authSource": "auth-override", "subjectId": null, "subjectType": "user"}),
            &["subjectId"],
        ),
        (
            json!({"authSource": "auth-override", "subjectId": ["ada"], "subjectType": "user"}),
            &["subjectId"],
        ),
        (
            json!({"authSource": "auth-override", "subjectId": "a".repeat(256), "subjectType": "user"}),
            &["subjectId"],
        ),
    ] {
        is_invalid(&admin.delete_with(&path, body).await, paths);
    }
    status(&admin, &id, "ada").await.is(
        200,
        json!({"status": "authenticated", "method": "auth-override"}),
    );
}
