//! Deleting, with the process dying at every request it makes to the store: either nothing has happened, or it completes.

use crate::harness::{Caller, Cut, Ground, Hawser, Registered, ample, of_trail, per_user};
use aws_sdk_dynamodb::types::AttributeValue;
use hawser_core::operations::scheduler::process_due;
use serde_json::{Value, json};
use std::sync::Arc;

/// More than one batch of deletes.
const SUBJECTS: usize = 30;

async fn register(admin: &Caller, name: &str, users: usize) -> Registered {
    let users: Vec<_> = (0..users).map(|i| format!("s{i}")).collect();
    let users: Vec<_> = users.iter().map(String::as_str).collect();
    admin.register(name, per_user(), &users).await
}

/// Whether an item belongs to a living server outside its partition.
fn belongs(item: &Value, doomed: &Registered) -> bool {
    let sk = item["SK"].as_str().unwrap();
    let own = [
        format!("S#{}", doomed.ulid()),
        "NAME#doomed".to_owned(),
        format!("NUM#{:020}", doomed.number),
    ];
    item["PK"] == "T#acme" && own.iter().any(|own| own == sk)
}

async fn survives_every_cut(contract: usize) {
    for cut in [Cut::Before as fn(usize) -> Cut, Cut::After] {
        let mut reached = true;
        let mut k = 0;
        while reached {
            let ground = Ground::new().await;
            reached = dies_at(&ground, contract, cut(k), k).await;
            k += 1;
        }
        assert!(
            k > 6,
            "a delete and its purge make several requests, not {k}"
        );
    }
}

/// Deletes with the wire cut, then restarts. Returns whether the cut was reached at all.
async fn dies_at(ground: &Arc<Ground>, contract: usize, cut: Cut, k: usize) -> bool {
    let hawser = Hawser::on(ground.clone()).await;
    let admin = hawser.admin("acme");
    register(&admin, "kept", 2).await;
    register(&hawser.admin("other"), "doomed", 2).await;
    let doomed = register(&admin, "doomed", SUBJECTS).await;
    let paths = doomed.paths();
    let before = ground.items().await;

    hawser.wire.arm(Some(cut));
    let answer = admin.delete(&paths[contract]).await;
    while process_due(&hawser.app, ample()).await.unwrap_or(false) {}
    let reached = hawser.wire.sent().len() > k;
    drop(hawser);

    let next = Hawser::on(ground.clone()).await;
    let admin = next.admin("acme");
    if admin.get(&paths[0]).await.status == 200 {
        assert!(reached && answer.status >= 500, "{cut:?}: {answer:?}");
        assert_eq!(ground.items().await, before, "{cut:?}: wholly not done");
        return reached;
    }
    for path in &paths {
        assert_eq!(admin.get(path).await.status, 404, "{cut:?}");
    }
    assert_eq!(
        admin.delete(&paths[1]).await.status,
        204,
        "a repeat finds it done"
    );
    next.run_workers().await;
    let after = ground.items().await;
    let (events, after): (Vec<_>, Vec<_>) = after.into_iter().partition(of_trail);
    let told = |action: &str| {
        let of_doomed = |event: &&Value| event["server"] == doomed.ulid();
        let events = events.iter().filter(of_doomed);
        events.filter(|event| event["action"] == action).count()
    };
    assert_eq!(
        ["server.deleted", "credential.removed", "server.purged"].map(told),
        [1, SUBJECTS, 1],
        "{cut:?}: each told once"
    );
    let (receipts, rest): (Vec<_>, Vec<_>) = after
        .into_iter()
        .partition(|item| item["entity"] == "receipt");
    let expected: Vec<_> = before
        .into_iter()
        .filter(|item| !doomed.holds(item) && !belongs(item, &doomed) && !of_trail(item))
        .collect();
    assert_eq!(
        rest, expected,
        "{cut:?}: everything of the server is gone and nothing else"
    );
    assert_eq!(receipts.len(), 1);
    assert_eq!(
        receipts[0]["counts"],
        json!({"oauth": 0, "overrides": SUBJECTS}),
        "{cut:?}: counted right"
    );
    assert_eq!(
        (&receipts[0]["closed"], &receipts[0]["PK"]),
        (&json!(true), &json!("T#acme")),
        "{cut:?}"
    );
    reached
}

#[tokio::test]
async fn a_truefoundry_delete_survives_a_crash_anywhere() {
    survives_every_cut(0).await;
}

#[tokio::test]
async fn a_langsmith_delete_survives_a_crash_anywhere() {
    survives_every_cut(1).await;
}

#[tokio::test]
async fn a_kambrium_delete_survives_a_crash_anywhere() {
    survives_every_cut(2).await;
}

#[tokio::test]
async fn a_lost_answer_is_read_back_and_the_call_succeeds() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let doomed = register(&admin, "doomed", 1).await;
    let body = json!({"authSource": "auth-override", "subjectId": "s0", "subjectType": "user"});
    hawser.wire.arm(Some(Cut::Answer(1)));
    let answer = admin
        .delete_with(&format!("/api/svc/v1/mcp/{}/auth", doomed.mcp), body)
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    hawser.wire.arm(Some(Cut::Answer(1)));
    assert_eq!(
        admin
            .delete(&format!("/api/v1/mcp-servers/{}", doomed.number))
            .await
            .status,
        200
    );
    let new = json!({"name": "fresh", "url": "https://x.example/"});
    for lost in 0..4 {
        // Name taken or not, a create that happened is never answered as one that did not.
        hawser.wire.arm(Some(Cut::Answer(lost)));
        let answer = admin.post("/v1/deepagents/mcp-servers", new.clone()).await;
        hawser.wire.arm(None);
        let exists = !admin
            .get("/v1/deepagents/mcp-servers")
            .await
            .json()
            .as_array()
            .unwrap()
            .is_empty();
        assert_eq!(answer.status == 201, exists, "{lost}: {answer:?}");
        if exists {
            break;
        }
    }
}

#[tokio::test]
async fn two_purges_at_once_do_no_harm() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let doomed = register(&admin, "doomed", SUBJECTS).await;
    let ground = hawser.ground();
    assert_eq!(
        admin
            .delete(&format!("/api/svc/v1/mcp/{}", doomed.mcp))
            .await
            .status,
        200
    );
    let (one, two) = tokio::join!(
        process_due(&hawser.app, ample()),
        process_due(&hawser.app, ample())
    );
    assert!(one.is_ok() && two.is_ok());
    hawser.run_workers().await;
    assert!(ground.left_of(&doomed).await.is_empty());
}

#[tokio::test]
async fn nothing_appears_under_a_deleted_server() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    for round in 0..10 {
        let doomed = register(&admin, "doomed", 1).await;
        let auth = format!("/api/svc/v1/mcp/{}/auth", doomed.mcp);
        let install = |subject: &'static str| {
            let body = json!({"subjectId": subject, "subjectType": "user", "authOverride": {"type": "header", "headerValue": "v"}});
            let (admin, auth) = (admin.clone(), auth.clone());
            async move { admin.put(&auth, body).await.status }
        };
        let path = format!("/api/v1/mcp-servers/{}", doomed.number);
        let (a, deleted, b) = tokio::join!(install("a"), admin.delete(&path), install("b"));
        assert_eq!(deleted.status, 200);
        assert!(
            [a, b].iter().all(|status| [200, 404].contains(status)),
            "{round}: {a} {b}"
        );
        hawser.run_workers().await;
        assert!(hawser.ground().left_of(&doomed).await.is_empty(), "{round}");
    }
}

#[tokio::test]
async fn transactions_that_meet_others_are_sent_again_and_at_last_refused_as_unavailable() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    for code in ["TransactionConflict", "ThrottlingError"] {
        let doomed = register(&admin, "doomed", 0).await;
        let path = format!("/api/v1/mcp-servers/{}", doomed.number);
        hawser.wire.arm(Some(Cut::Cancel(100, code)));
        let answer = admin.delete(&path).await;
        assert_eq!(answer.status, 500, "{code}: this contract knows no 503");
        let answer = admin
            .delete(&format!("/api/svc/v1/mcp/{}", doomed.mcp))
            .await;
        assert_eq!(answer.status, 503, "{code}");
        hawser.wire.arm(Some(Cut::Cancel(3, code)));
        assert_eq!(admin.delete(&path).await.status, 200, "{code}");
        hawser.wire.arm(None);
        assert_eq!(admin.get(&path).await.status, 404);
    }
}

#[tokio::test]
async fn work_that_fails_never_stands_before_the_rest() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let client = hawser.ground().dynamodb();
    for i in 0..30 {
        let broken = [
            ("PK", AttributeValue::S(format!("T#acme#S#broken-{i}"))),
            ("SK", AttributeValue::S("TOMBSTONE".to_owned())),
            ("GSI2PK", AttributeValue::S("DUE".to_owned())),
            ("GSI2SK", AttributeValue::S(format!("{i:020}"))),
            ("entity", AttributeValue::S("tombstone".to_owned())),
        ];
        let put = broken
            .into_iter()
            .fold(client.put_item(), |put, (name, value)| {
                put.item(name, value)
            });
        put.table_name(hawser_local::TABLE).send().await.unwrap();
    }
    let doomed = register(&admin, "doomed", 1).await;
    assert_eq!(
        admin
            .delete(&format!("/api/svc/v1/mcp/{}", doomed.mcp))
            .await
            .status,
        200
    );
    while process_due(&hawser.app, ample()).await.unwrap() {}
    assert!(hawser.ground().left_of(&doomed).await.is_empty());
}

#[tokio::test]
async fn many_voiding_changes_before_deletions_are_all_worked_off() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let mut doomed = Vec::new();
    for i in 0..25 {
        let server = register(&admin, &format!("doomed-{i}"), 1).await;
        let moved = json!({"url": format!("https://moved-{i}.example/")});
        let answer = admin
            .patch(
                &format!("/v1/deepagents/mcp-servers/{}", server.uuid),
                moved,
            )
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        doomed.push(server);
    }
    for server in &doomed {
        assert_eq!(
            admin
                .delete(&format!("/api/v1/mcp-servers/{}", server.number))
                .await
                .status,
            200
        );
    }
    hawser.run_workers().await;
    assert!(
        hawser
            .ground()
            .items()
            .await
            .iter()
            .all(|item| !item["PK"].as_str().unwrap().contains("#S#"))
    );
}
