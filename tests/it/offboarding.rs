//! One call takes away all that a subject has.

use crate::harness::{Answer, Caller, Cut, Ground, Hawser, ample, per_user};
use hawser_core::operations::scheduler::process_due;
use serde_json::{Value, json};
use std::sync::Arc;

const MCP: &str = "/api/svc/v1/mcp";
const ADA: &str = "/v1/subjects/user/ada/credentials";

async fn grant(hawser: &Hawser, id: &str) {
    hawser.give_grant(id, "ada", |_| {}).await;
}

async fn reason(caller: &Caller, id: &str, kind: &str, subject: &str) -> Value {
    let path = format!("{MCP}/{id}/auth/status?subjectId={subject}&subjectType={kind}");
    let status = caller.get(&path).await.json();
    if status["status"] == "authenticated" {
        json!("authenticated")
    } else {
        status["reason"].clone()
    }
}

fn removed(answer: &Answer) -> (u16, Value, Value) {
    let data = answer.json()["data"].clone();
    (
        answer.status,
        data["state"].clone(),
        data["removed"].clone(),
    )
}

#[tokio::test]
async fn everything_of_one_subject_goes_and_nothing_of_others() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let wiki = admin
        .register("wiki", per_user(), &["ada", "bob"])
        .await
        .mcp;
    assert_eq!(
        admin.install(&wiki, "virtualaccount", "ada").await.status,
        200
    );
    let mail = admin
        .register("mail", json!({"type": "oauth2"}), &["ada"])
        .await
        .mcp;
    grant(&hawser, &mail).await;
    let other = hawser.admin("other");
    let theirs = other.register("wiki", per_user(), &["ada"]).await.mcp;

    let dry = admin.delete(&format!("{ADA}?dryRun=true")).await;
    dry.is(
        200,
        json!({"data": {"dryRun": true, "removed": {"oauthRecords": 1, "overrides": 2, "logins": 0}, "subjects": 1,
                        "issuers": [{"issuer": "as.example", "oauthRecords": 1, "supportsRevocation": false}],
                        "subjectType": "user", "subjectId": "ada", "nearMatches": []}}),
    );
    assert_eq!(reason(&admin, &wiki, "user", "ada").await, "authenticated");

    let answer = admin.delete(ADA).await;
    assert_eq!(
        removed(&answer),
        (
            200,
            json!("in_progress"),
            json!({"oauthRecords": 1, "overrides": 2, "logins": 0})
        )
    );
    let data = answer.json()["data"].clone();
    assert_eq!(
        (&data["kind"], &data["subjectId"], &data["subjectType"]),
        (&json!("offboard"), &json!("ada"), &json!("user"))
    );
    let receipt = admin
        .get(&format!("/v1/receipts/{}", data["id"].as_str().unwrap()))
        .await;
    assert_eq!(receipt.json()["data"], data);
    for id in [&wiki, &mail] {
        assert_eq!(reason(&admin, id, "user", "ada").await, "revoked");
    }
    assert_eq!(reason(&admin, &wiki, "user", "bob").await, "authenticated");
    assert_eq!(
        reason(&admin, &wiki, "virtualaccount", "ada").await,
        "authenticated"
    );
    assert_eq!(
        reason(&other, &theirs, "user", "ada").await,
        "authenticated"
    );
    let again = admin.delete(ADA).await;
    assert_eq!(
        removed(&again),
        (
            200,
            json!("complete"),
            json!({"oauthRecords": 0, "overrides": 0, "logins": 0})
        )
    );
    hawser.run_workers().await;
    let receipt = admin
        .get(&format!("/v1/receipts/{}", data["id"].as_str().unwrap()))
        .await
        .json();
    assert_eq!(
        (
            &receipt["data"]["state"],
            &receipt["data"]["outcomes"]["failed"]
        ),
        (&json!("complete"), &json!(1)),
        "its tokens do not open"
    );
    assert!(
        hawser
            .ground()
            .items()
            .await
            .iter()
            .all(|item| item["entity"] != "offboarding")
    );
}

#[tokio::test]
async fn managers_offboard_anyone_and_everyone_themselves() {
    let hawser = Hawser::start().await;
    let denied = json!({"type": "about:blank", "title": "Forbidden", "status": 403, "code": "PERMISSION_DENIED",
                        "detail": "Acting for another subject needs the role of an admin or manager of the tenant."});
    let refused = hawser
        .caller("acme", "bob", json!({"roles": ["mcp-server-user"]}))
        .delete(ADA)
        .await;
    refused.is(403, denied.clone());
    hawser
        .caller("acme", "ada", json!({"subjectType": "virtualaccount"}))
        .delete(ADA)
        .await
        .is(403, denied);
    assert_eq!(hawser.anonymous().delete(ADA).await.status, 401);
    for caller in [
        hawser.caller("acme", "ada", json!({})),
        hawser.caller("acme", "m", json!({"roles": ["mcp-server-manager"]})),
        hawser.api_key("acme", Some("user:ada"), json!({})).await,
    ] {
        assert_eq!(caller.delete(ADA).await.status, 200);
    }
    let admin = hawser.admin("acme");
    for (path, parameter) in [
        (
            "/v1/subjects/external-identity/ada/credentials",
            "subjectType",
        ),
        ("/v1/subjects/team/ada/credentials", "subjectType"),
        ("/v1/subjects/user/a%00/credentials", "subjectId"),
        ("/v1/subjects/user/ada/credentials?dryRun=yes", "dryRun"),
    ] {
        let message = format!("The value of {parameter} is not valid.");
        admin
            .delete(path)
            .await
            .is(400, json!({"type": "about:blank", "title": "Bad Request", "status": 400, "code": "INVALID_REQUEST", "detail": message}));
    }
    assert_eq!(
        admin
            .delete("/v1/subjects/user/a%23b%2Fc/credentials")
            .await
            .json()["data"]["subjectId"],
        "a#b/c"
    );
}

/// Offboards ada with the wire cut, then restarts. Returns whether the cut was reached at all.
async fn dies_at(ground: &Arc<Ground>, cut: Cut, k: usize) -> bool {
    let hawser = Hawser::on(ground.clone()).await;
    let admin = hawser.admin("acme");
    let mut servers = Vec::new();
    for name in ["one", "two", "three"] {
        servers.push(admin.register(name, per_user(), &["ada", "bob"]).await.mcp);
    }
    hawser.wire.arm(Some(cut));
    let answer = admin.delete(ADA).await;
    while process_due(&hawser.app, ample()).await.unwrap_or(false) {}
    let reached = hawser.wire.sent().len() > k;
    drop(hawser);

    let next = Hawser::on(ground.clone()).await;
    let admin = next.admin("acme");
    next.run_workers().await;
    let listed = admin.get("/v1/receipts").await.json()["data"].clone();
    let begun = !listed.as_array().unwrap().is_empty();
    assert!(
        begun || answer.status >= 500,
        "{cut:?}: nothing happened, and it was said so: {answer:?}"
    );
    for id in &servers {
        let expected = if begun { "revoked" } else { "authenticated" };
        assert_eq!(reason(&admin, id, "user", "ada").await, expected, "{cut:?}");
        assert_eq!(
            reason(&admin, id, "user", "bob").await,
            "authenticated",
            "{cut:?}"
        );
    }
    if begun {
        let receipt = &listed[0];
        let expected = (
            &json!("complete"),
            &json!({"oauthRecords": 0, "overrides": 3, "logins": 0}),
        );
        assert_eq!(
            (&receipt["state"], &receipt["removed"]),
            expected,
            "{cut:?}"
        );
    }
    reached
}

#[tokio::test]
async fn an_offboarding_survives_a_crash_anywhere() {
    for cut in [Cut::Before as fn(usize) -> Cut, Cut::After] {
        let mut k = 0;
        while dies_at(&Ground::new().await, cut(k), k).await {
            k += 1;
        }
        assert!(k > 6, "an offboarding makes several requests, not {k}");
    }
}

#[tokio::test]
async fn two_offboardings_and_a_deletion_at_once_agree() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let one = admin.register("one", per_user(), &["ada"]).await.mcp;
    let two = admin.register("two", per_user(), &["ada"]).await.mcp;
    let path = format!("{MCP}/{two}");
    let (first, second, deleted) =
        tokio::join!(admin.delete(ADA), admin.delete(ADA), admin.delete(&path));
    assert_eq!(
        (first.status, second.status, deleted.status),
        (200, 200, 200)
    );
    hawser.run_workers().await;
    assert_eq!(reason(&admin, &one, "user", "ada").await, "revoked");
    let listed = admin.get("/v1/receipts").await.json()["data"].clone();
    let total: u64 = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["removed"]["overrides"].as_u64().unwrap())
        .sum();
    assert_eq!(
        total, 2,
        "each credential is on exactly one receipt: {listed}"
    );
}

#[tokio::test]
async fn a_dry_run_says_whom_it_looked_for_and_who_may_have_been_meant() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    admin.register("wiki", per_user(), &["ada", "adam"]).await;
    admin.register("mail", per_user(), &["ADA", "bob"]).await;
    for (asked, removed, near) in [
        ("Ada", 0, json!(["ADA", "ada"])),
        ("ada", 1, json!(["ADA"])),
        ("ada%20", 0, json!(["ADA", "ada"])),
        ("eve", 0, json!([])),
    ] {
        let path = format!("/v1/subjects/user/{asked}/credentials?dryRun=true");
        let data = admin.delete(&path).await.json()["data"].clone();
        assert_eq!(data["subjectId"], asked.replace("%20", " "));
        assert_eq!(
            (&data["removed"]["overrides"], &data["nearMatches"]),
            (&json!(removed), &near),
            "{asked}"
        );
    }
}
