//! Revoking all credentials of a server.

use super::{MCP, Stage, USERS, assert_nobody_says_revoked, populated, put_server};
use crate::harness::{ample, of_trail};
use hawser_core::operations::scheduler::process;
use serde_json::{Value, json};

#[tokio::test]
async fn revoke_all_takes_every_credential_and_tells_the_issuer() {
    let (stage, pairs) = populated().await;
    let pending = stage.approved("zed").await;
    let answer = stage.revoke_all().await;
    answer.is(200, json!({"deletedCount": 5}));
    let receipt = answer.header("hawser-receipt").unwrap();
    for user in USERS {
        assert_eq!(stage.reason(user).await, "revoked", "{user}");
    }
    let overrides = stage.admin.get(&format!("{MCP}/{}/auth", stage.id)).await;
    assert_eq!(overrides.json()["data"], json!([]));
    assert_nobody_says_revoked(&stage.receipt(&receipt).await);
    assert_eq!(stage.reason("zed").await, "never_connected");
    let (mut browser, back) = pending;
    assert_eq!(browser.open(&back).await.status, 400);

    stage.hawser.run_workers().await;
    assert_eq!(stage.issuer.live_tokens().len(), 0);
    for pair in &pairs {
        stage.assert_dead(pair);
    }
    for user in USERS {
        assert_eq!(stage.reason(user).await, "revoked", "{user}");
    }
    let mut after = stage.receipt(&receipt).await;
    for time in ["createdAt", "completedAt"] {
        let time = after.as_object_mut().unwrap().remove(time);
        assert!(time.unwrap().as_str().unwrap().ends_with('Z'));
    }
    let expected = json!({"id": receipt, "serverId": stage.id, "kind": "revoke-all", "serverName": "wiki",
        "actor": {"subjectId": "root", "subjectType": "user"}, "state": "complete",
        "removed": {"oauthRecords": 3, "overrides": 2}, "outcomes": {"revoked": 3}});
    assert_eq!(after, expected);
    stage.connect("ada").await;
    stage.assert_connected("ada").await;
}

#[tokio::test]
async fn revoke_all_may_be_repeated_and_voids_what_is_pending_each_time() {
    let (stage, _) = populated().await;
    let first = stage.revoke_all().await;
    first.is(200, json!({"deletedCount": 5}));
    let unopened = stage.endpoint("ada", "").await;
    let (mut browser, back) = stage.approved("bob").await;
    // Before the first one's sweep: what is void is not counted again.
    let second = stage.revoke_all().await;
    second.is(200, json!({"deletedCount": 0}));
    for address in [unopened, back] {
        assert_eq!(browser.open(&address).await.status, 400);
    }
    stage.hawser.run_workers().await;
    let third = stage.revoke_all().await;
    third.is(200, json!({"deletedCount": 0}));
    stage.hawser.run_workers().await;
    assert_eq!(stage.issuer.live_tokens().len(), 0);
    let none = json!({"oauthRecords": 0, "overrides": 0});
    let all = json!({"oauthRecords": 3, "overrides": 2});
    for (answer, removed) in [(first, all), (second, none.clone()), (third, none)] {
        let receipt = answer.header("hawser-receipt").unwrap();
        let receipt = stage.receipt(&receipt).await;
        assert_eq!(
            (&receipt["state"], &receipt["removed"]),
            (&json!("complete"), &removed)
        );
    }
    for user in USERS {
        assert_eq!(stage.reason(user).await, "revoked", "{user}");
    }
}

#[tokio::test]
async fn each_revoke_all_counts_what_it_found_in_whatever_order_they_are_swept() {
    let (stage, _) = populated().await;
    let first = stage.revoke_all().await;
    first.is(200, json!({"deletedCount": 5}));
    stage.connect("zed").await;
    let second = stage.revoke_all().await;
    second.is(200, json!({"deletedCount": 1}));
    stage.connect("yan").await;
    let moved = put_server(&stage.admin, "https://moved.example/", true).await;
    assert_eq!(moved.status, 200, "{moved:?}");
    let app = &stage.hawser.app;
    let due = stage.hawser.due().await;
    assert_eq!(due.len(), 3);
    for work in due.iter().rev() {
        process(app, work, ample()).await.unwrap();
    }
    stage.hawser.run_workers().await;
    for (answer, oauth, overrides) in [(first, 3, 2), (second, 1, 0)] {
        let receipt = answer.header("hawser-receipt").unwrap();
        let receipt = stage.receipt(&receipt).await;
        assert_eq!(
            (&receipt["state"], &receipt["removed"], &receipt["outcomes"]),
            (
                &json!("complete"),
                &json!({"oauthRecords": oauth, "overrides": overrides}),
                &json!({"revoked": oauth})
            )
        );
    }
    for user in USERS.iter().chain(&["zed"]) {
        assert_eq!(stage.reason(user).await, "revoked", "{user}");
    }
    assert_eq!(stage.reason("yan").await, "server_changed");
    assert_eq!(stage.issuer.live_tokens().len(), 0);
}

#[tokio::test]
async fn revoke_all_is_for_tenant_admins() {
    let (stage, pairs) = populated().await;
    let path = format!("{MCP}/{}/auth/tokens", stage.id);
    let before = stage.hawser.ground().items().await;
    let refused = json!({"statusCode": 403, "message": "This call is for tenant admins only.",
                         "code": "TENANT_ADMIN_REQUIRED"});
    let missing = json!({"statusCode": 404, "message": "There is no such MCP server.", "code": "MCP_SERVER_NOT_FOUND"});
    let manager = json!({"roles": ["mcp-server-manager"]});
    for (caller, expected) in [
        (stage.hawser.caller("acme", "m", manager.clone()), &refused),
        (stage.user("ada"), &refused),
        (
            stage
                .hawser
                .api_key("acme", Some("user:root"), manager)
                .await,
            &refused,
        ),
        (stage.hawser.admin("other"), &missing),
    ] {
        let status = expected["statusCode"].as_u64().unwrap() as u16;
        for query in ["", "?dryRun=true"] {
            let answer = caller.delete(&format!("{path}{query}")).await;
            answer.is(status, expected.clone());
        }
    }
    assert_eq!(stage.hawser.anonymous().delete(&path).await.status, 401);
    for misspelt in [
        "dryRun=1",
        "dryrun=true",
        "dryRun",
        "dryRun=true&dryRun=true",
    ] {
        let answer = stage.admin.delete(&format!("{path}?{misspelt}")).await;
        assert_eq!(answer.status, 400, "{misspelt}: {answer:?}");
    }
    let removed = json!({"oauthRecords": 3, "overrides": 2});
    stage
        .admin
        .delete(&format!("{path}?dryRun=true"))
        .await
        .is(
            200,
            json!({"data": {"dryRun": true, "removed": removed, "subjects": 4,
                            "issuers": [{"issuer": "127.0.0.1", "oauthRecords": 3, "supportsRevocation": true}]}}),
        );
    let is_key = |item: &Value| item["entity"] == "api-key" || of_trail(item);
    let mut now = stage.hawser.ground().items().await;
    now.retain(|item| !is_key(item));
    let mut before = before;
    before.retain(|item| !is_key(item));
    assert_eq!(now, before);
    for pair in &pairs {
        stage.assert_alive(pair);
    }
    let key = json!({"roles": ["admin"]});
    let key = stage.hawser.api_key("acme", None, key).await;
    key.delete(&path).await.is(200, json!({"deletedCount": 5}));
}

#[tokio::test]
async fn revoke_all_while_the_issuer_is_down_completes_later() {
    let (stage, _) = Stage::with_issuer_down(["ada", "bob", "eve"]).await;
    let answer = stage.revoke_all().await;
    answer.is(200, json!({"deletedCount": 3}));
    let receipt = answer.header("hawser-receipt").unwrap();
    stage.hawser.run_workers().await;
    let waiting = stage.receipt(&receipt).await;
    assert_nobody_says_revoked(&waiting);
    assert_eq!(
        waiting["removed"],
        json!({"oauthRecords": 3, "overrides": 0})
    );
    assert_eq!(stage.reason("ada").await, "revoked");
    stage.issuer.clear_faults();
    stage.hawser.pass(60);
    stage.hawser.run_workers().await;
    assert_eq!(stage.issuer.live_tokens().len(), 0);
    let after = stage.receipt(&receipt).await;
    assert_eq!(
        (&after["state"], &after["outcomes"]),
        (&json!("complete"), &json!({"revoked": 3}))
    );
}
