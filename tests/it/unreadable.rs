//! An item that cannot be read, as a newer version may write it, keeps none of the others.

use crate::ending::connect;
use crate::harness::{Hawser, Registered};
use crate::issuer::Issuer;
use aws_sdk_dynamodb::types::AttributeValue;
use hawser_core::operations::integrity::examine;
use hawser_core::operations::scheduler::process_due;
use serde_json::{Value, json};

const USERS: [&str; 3] = ["ada", "bob", "eve"];

#[derive(Clone, Copy, Debug)]
enum Way {
    Delete,
    ForcedPut,
    Patch,
    RevokeAll,
}

fn manifest(url: &str) -> Value {
    json!({"type": "mcp-server/remote", "name": "wiki", "description": "d", "url": url,
           "auth_data": {"type": "oauth2"}})
}

async fn registered(hawser: &Hawser, issuer: &Issuer) -> Registered {
    let admin = hawser.admin("acme");
    let body = json!({"manifest": manifest(&issuer.mcp_url())});
    let made = admin.put("/api/svc/v1/mcp", body).await;
    let id = made.json()["data"]["id"].as_str().unwrap().to_owned();
    let server = admin.registered(&id).await;
    for user in USERS {
        connect(hawser, issuer, &server, user).await;
    }
    server
}

/// Gives the grant of a user a word that this version does not know, or takes it away again.
async fn scramble(hawser: &Hawser, server: &Registered, user: &str, word: Option<&str>) {
    let text = |text: String| AttributeValue::S(text);
    let ground = hawser.ground();
    let update = ground.dynamodb().update_item();
    let update = update
        .table_name(hawser_local::TABLE)
        .key("PK", text(format!("T#acme#S#{}", server.ulid())))
        .key("SK", text(format!("C#user#{user}#oauth")))
        .condition_expression("attribute_exists(PK)");
    let update = match word {
        Some(word) => update
            .update_expression("SET last_refresh = :word")
            .expression_attribute_values(":word", text(word.to_owned())),
        None => update.update_expression("REMOVE last_refresh"),
    };
    update.send().await.unwrap();
}

/// Works for some minutes, whatever fails.
async fn work(hawser: &Hawser) {
    for _ in 0..4 {
        while process_due(&hawser.app, crate::harness::ample())
            .await
            .unwrap_or(false)
        {}
        hawser.pass(61);
    }
}

async fn unreadable(hawser: &Hawser) -> usize {
    let (app, now) = (&hawser.app, hawser.app.now());
    let report = examine(&app.table, None, now, false).await.unwrap();
    let kinds = report.orphans.iter().map(|(one, _)| one.kind.as_str());
    kinds.filter(|kind| *kind == "unreadable").count()
}

/// How many of the grants' tokens are live.
fn live(issuer: &Issuer) -> usize {
    issuer.issued().iter().filter(|pair| pair.active).count()
}

async fn keeps_none(way: Way) {
    let issuer = Issuer::start().await;
    let hawser = Hawser::start_by_hand().await;
    let server = registered(&hawser, &issuer).await;
    scramble(&hawser, &server, "bob", Some("postponed")).await;
    assert_eq!(unreadable(&hawser).await, 1, "{way:?}: known at once");
    let admin = hawser.admin("acme");
    let [tf, ls, _] = server.paths();
    let elsewhere = "https://elsewhere.example/mcp";
    let answer = match way {
        Way::Delete => admin.delete(&tf).await,
        Way::ForcedPut => {
            let body = json!({"manifest": manifest(elsewhere), "force": true});
            admin.put("/api/svc/v1/mcp", body).await
        }
        Way::Patch => admin.patch(&ls, json!({"url": elsewhere})).await,
        Way::RevokeAll => admin.delete(&format!("{tf}/auth/tokens")).await,
    };
    assert_eq!(answer.status, 200, "{way:?}: {answer:?}");
    if let Way::RevokeAll = way {
        assert_eq!(answer.json()["deletedCount"], 3);
    }
    work(&hawser).await;
    assert_eq!(live(&issuer), 1, "{way:?}: two of three are over");
    let open = hawser.ground().items().await;
    let kept = |item: &&Value| item["entity"] == "tombstone" || item["entity"] == "sweep";
    assert_eq!(
        open.iter().filter(kept).count(),
        1,
        "{way:?}: it is not forgotten"
    );
    let receipts = admin.get("/v1/receipts").await.json();
    for receipt in receipts["data"].as_array().unwrap() {
        assert_eq!(receipt["state"], "in_progress", "{way:?}");
    }
    assert_eq!(unreadable(&hawser).await, 1, "{way:?}");
    // A version that reads it finishes.
    scramble(&hawser, &server, "bob", None).await;
    work(&hawser).await;
    assert_eq!(live(&issuer), 0, "{way:?}");
    let receipts = admin.get("/v1/receipts").await.json();
    for receipt in receipts["data"].as_array().unwrap() {
        let said = (&receipt["state"], &receipt["outcomes"]);
        assert_eq!(
            said,
            (&json!("complete"), &json!({"revoked": 3})),
            "{way:?}"
        );
    }
    hawser.run_workers().await;
}

#[tokio::test]
async fn a_deletion_goes_on_beside_what_cannot_be_read() {
    keeps_none(Way::Delete).await;
}

#[tokio::test]
async fn changes_that_void_go_on_beside_what_cannot_be_read() {
    keeps_none(Way::ForcedPut).await;
    keeps_none(Way::Patch).await;
}

#[tokio::test]
async fn a_revoke_all_goes_on_beside_what_cannot_be_read() {
    keeps_none(Way::RevokeAll).await;
}

#[tokio::test]
async fn an_offboarding_goes_on_beside_what_cannot_be_read() {
    let issuer = Issuer::start().await;
    let hawser = Hawser::start_by_hand().await;
    let first = registered(&hawser, &issuer).await;
    let admin = hawser.admin("acme");
    let auth = json!({"type": "header", "headers": {"A": "{{KEY}}"}, "auth_level": "per_user"});
    let second = admin.register("mail", auth, &["ada"]).await;
    scramble(&hawser, &first, "ada", Some("postponed")).await;
    let answer = admin.delete("/v1/subjects/user/ada/credentials").await;
    assert_eq!(
        (answer.status, &answer.json()["data"]["state"]),
        (202, &json!("removing")),
        "{answer:?}"
    );
    let path = format!(
        "{}/auth/status?subjectId=ada&subjectType=user",
        second.paths()[0]
    );
    assert_eq!(admin.get(&path).await.json()["reason"], "revoked");
    scramble(&hawser, &first, "ada", None).await;
    work(&hawser).await;
    assert_eq!(live(&issuer), 2);
    let receipts = admin.get("/v1/receipts").await.json();
    assert_eq!(receipts["data"][0]["state"], "complete");
}
