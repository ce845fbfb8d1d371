//! The workers with more to do than one invocation has time for, or than one issuer lets them; and with a stream that
//! delivers as streams may.

use crate::ending::connect;
use crate::harness::{Cut, Ground, Hawser, Registered, ample, per_user};
use crate::issuer::{Fault, Gate, Issuer};
use hawser_core::operations::scheduler::{process, process_due};
use hawser_functions::workers::{purge, sweep};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;

const MCP: &str = "/api/svc/v1/mcp";
/// More than two pages of what is read at once.
const MANY: usize = 450;

/// A server of tenant `acme` with overrides of `ada` and so many others.
async fn crowded(hawser: &Hawser, others: usize) -> Registered {
    let admin = hawser.admin("acme");
    let server = admin.register("wiki", per_user(), &["ada"]).await;
    admin.multiply(hawser, &server, others).await;
    server
}

/// A server that subjects consent to at this issuer.
async fn protected(hawser: &Hawser, name: &str, issuer: &Issuer) -> Registered {
    let admin = hawser.admin("acme");
    let manifest = json!({"type": "mcp-server/remote", "name": name, "description": "d", "url": issuer.mcp_url(),
                          "auth_data": {"type": "oauth2"}});
    let made = admin.put(MCP, json!({"manifest": manifest})).await;
    admin
        .registered(made.json()["data"]["id"].as_str().unwrap())
        .await
}

async fn receipt(hawser: &Hawser, id: &str) -> Value {
    let answer = hawser
        .admin("acme")
        .get(&format!("/v1/receipts/{id}?waitSeconds=25"))
        .await;
    answer.json()["data"].clone()
}

async fn delete(hawser: &Hawser, server: &Registered) -> String {
    let deleted = hawser.admin("acme").delete(&server.paths()[0]).await;
    deleted.header("hawser-receipt").unwrap()
}

/// Invocations that have no time for more than a first step of each piece, until nothing is due; how many it took.
async fn in_short_steps(hawser: &Hawser) -> usize {
    for invocation in 0.. {
        let due = hawser.due().await;
        if due.is_empty() {
            return invocation;
        }
        for work in &due {
            process(&hawser.app, work, Instant::now()).await.unwrap();
        }
    }
    unreachable!()
}

#[tokio::test]
async fn a_purge_goes_on_over_many_short_invocations() {
    let hawser = Hawser::start().await;
    let server = crowded(&hawser, MANY).await;
    for i in 0..50 {
        hawser
            .give_grant(&server.mcp, &format!("s{i}"), |_| {})
            .await;
    }
    let id = delete(&hawser, &server).await;
    let invocations = in_short_steps(&hawser).await;
    // Three pages to count, three to clear.
    assert!(invocations >= 6, "{invocations}");
    let after = receipt(&hawser, &id).await;
    assert_eq!(
        (&after["state"], &after["removed"], &after["outcomes"]),
        (
            &json!("complete"),
            &json!({"oauthRecords": 50, "overrides": MANY + 1}),
            &json!({"failed": 50})
        )
    );
    assert!(hawser.ground().left_of(&server).await.is_empty());
    hawser.run_workers().await;
}

#[tokio::test]
async fn a_purge_that_is_killed_again_and_again_and_done_twice_at_once_counts_right() {
    let hawser = Hawser::start().await;
    let server = crowded(&hawser, MANY).await;
    for i in 0..30 {
        hawser
            .give_grant(&server.mcp, &format!("s{i}"), |_| {})
            .await;
    }
    let id = delete(&hawser, &server).await;
    // Each gets one request further than the one before; from time to time one answer is lost, or two do the same.
    for k in 0.. {
        hawser.wire.arm(Some(if k % 2 == 0 {
            Cut::Before(k)
        } else {
            Cut::After(k)
        }));
        let (one, two) = tokio::join!(
            process_due(&hawser.app, ample()),
            process_due(&hawser.app, ample())
        );
        hawser.wire.arm(None);
        let left = hawser.ground().items().await;
        // What failed is put off: others would look again in a minute.
        for item in left.iter().filter(|item| item["GSI2PK"] == "DUE") {
            make_due(&hawser, item).await;
        }
        if one.is_ok_and(|begun| !begun) && two.is_ok_and(|begun| !begun) {
            break;
        }
    }
    let after = receipt(&hawser, &id).await;
    assert_eq!(
        (&after["state"], &after["removed"], &after["outcomes"]),
        (
            &json!("complete"),
            &json!({"oauthRecords": 30, "overrides": MANY + 1}),
            &json!({"failed": 30})
        )
    );
    hawser.run_workers().await;
    assert!(hawser.ground().left_of(&server).await.is_empty());
}

async fn make_due(hawser: &Hawser, item: &Value) {
    use aws_sdk_dynamodb::types::AttributeValue;
    let text = |name: &str| AttributeValue::S(item[name].as_str().unwrap().to_owned());
    let update = hawser.ground().dynamodb().update_item();
    let update = update.table_name(hawser_local::TABLE);
    let update = update.key("PK", text("PK")).key("SK", text("SK"));
    let update = update.condition_expression("attribute_exists(PK)");
    let update = update
        .update_expression("SET GSI2SK = :now")
        .expression_attribute_values(":now", AttributeValue::S("0".repeat(20)));
    update.send().await.unwrap();
}

#[tokio::test]
async fn a_revoke_all_goes_on_over_many_short_invocations() {
    let hawser = Hawser::start().await;
    let server = crowded(&hawser, MANY).await;
    hawser.give_grant(&server.mcp, "ada", |_| {}).await;
    let path = format!("{}/auth/tokens", server.paths()[0]);
    let answer = hawser.admin("acme").delete(&path).await;
    answer.is(200, json!({"deletedCount": MANY + 2}));
    let invocations = in_short_steps(&hawser).await;
    assert!(invocations >= 3, "{invocations}");
    let after = receipt(&hawser, &answer.header("hawser-receipt").unwrap()).await;
    assert_eq!(
        (&after["state"], &after["removed"], &after["outcomes"]),
        (
            &json!("complete"),
            &json!({"oauthRecords": 1, "overrides": MANY + 1}),
            &json!({"failed": 1})
        )
    );
    hawser.run_workers().await;
    let items = hawser.ground().items().await;
    let of = |entity: &str| items.iter().filter(|item| item["entity"] == entity).count();
    assert_eq!(
        (of("override"), of("grant"), of("reason")),
        (0, 0, MANY + 1)
    );
}

#[tokio::test]
async fn an_offboarding_goes_on_over_many_short_invocations() {
    const SERVERS: usize = 60;
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    for i in 0..SERVERS {
        admin
            .register(&format!("wiki-{i}"), per_user(), &["ada", "bob"])
            .await;
    }
    // The process dies as soon as it is written down.
    hawser.wire.arm(Some(Cut::Before(2)));
    let answer = admin.delete("/v1/subjects/user/ada/credentials").await;
    assert!(answer.status >= 500, "{answer:?}");
    hawser.wire.arm(None);
    let invocations = in_short_steps(&hawser).await;
    assert!(invocations >= 3, "{invocations}");
    let listed = admin.get("/v1/receipts").await.json();
    let after = &listed["data"][0];
    assert_eq!(
        (&after["state"], &after["removed"]),
        (
            &json!("complete"),
            &json!({"oauthRecords": 0, "overrides": SERVERS, "logins": 0})
        )
    );
    hawser.run_workers().await;
    let items = hawser.ground().items().await;
    let left = items.iter().filter(|item| item["entity"] == "override");
    assert_eq!(left.count(), SERVERS, "bob's");
}

#[tokio::test]
async fn a_slow_issuer_holds_back_its_own_alone() {
    const GRANTS: usize = 40;
    let (slow, quick) = (Issuer::start().await, Issuer::start().await);
    let hawser = Hawser::start().await;
    let first = protected(&hawser, "slow", &slow).await;
    for i in 0..GRANTS {
        connect(&hawser, &slow, &first, &format!("s{i}")).await;
    }
    let second = protected(&hawser, "quick", &quick).await;
    connect(&hawser, &quick, &second, "ada").await;
    let gate = Gate::closed();
    slow.fault(Fault {
        hold: Some(gate.clone()),
        ..Fault::always("/revoke")
    });
    let path = format!("{}/auth/tokens", first.paths()[0]);
    assert_eq!(hawser.admin("acme").delete(&path).await.status, 200);
    // So that all of its revocations come before the other's.
    let sweep = hawser.due().await;
    process(&hawser.app, &sweep[0], ample()).await.unwrap();
    let id = delete(&hawser, &second).await;

    let app = hawser.app.clone();
    let work = tokio::spawn(async move { while process_due(&app, ample()).await.unwrap() {} });
    gate.reached().await;
    let after = receipt(&hawser, &id).await;
    assert_eq!(
        (&after["state"], &after["outcomes"]),
        (&json!("complete"), &json!({"revoked": 1}))
    );
    assert!(slow.count("POST", "/revoke") <= 8, "asked politely");
    assert!(slow.issued().iter().all(|pair| pair.active));
    slow.clear_faults();
    gate.open();
    work.await.unwrap();
    hawser.run_workers().await;
    assert!(slow.issued().iter().all(|pair| !pair.active));
}

#[tokio::test]
async fn a_silent_issuer_is_not_asked_about_every_grant() {
    const GRANTS: usize = 40;
    let issuer = Issuer::start().await;
    let hawser = Hawser::start_by_hand().await;
    let server = protected(&hawser, "wiki", &issuer).await;
    for i in 0..GRANTS {
        connect(&hawser, &issuer, &server, &format!("s{i}")).await;
    }
    let down = Fault::answering("/revoke", 503);
    issuer.fault(down.clone());
    let id = delete(&hawser, &server).await;
    hawser.run_workers().await;
    // Two tokens each of at most five and those that were under way.
    let asked = issuer.count("POST", "/revoke");
    assert!((10..=2 * (5 + 8)).contains(&asked), "{asked}");
    for again in 1..=20 {
        hawser.pass(61);
        hawser.run_workers().await;
        assert_eq!(issuer.count("POST", "/revoke"), asked + 2 * again);
    }

    issuer.clear_faults();
    hawser.pass(3600);
    hawser.run_workers().await;
    hawser.pass(61);
    hawser.run_workers().await;
    let after = receipt(&hawser, &id).await;
    assert_eq!(
        (&after["state"], &after["outcomes"]),
        (&json!("complete"), &json!({"revoked": GRANTS}))
    );
    assert!(issuer.issued().iter().all(|pair| !pair.active));
}

#[tokio::test]
async fn an_issuer_that_is_silent_for_a_day_ends_them_all_as_failed() {
    const GRANTS: usize = 40;
    let issuer = Issuer::start().await;
    let hawser = Hawser::start_by_hand().await;
    let server = protected(&hawser, "wiki", &issuer).await;
    for i in 0..GRANTS {
        connect(&hawser, &issuer, &server, &format!("s{i}")).await;
    }
    issuer.fault(Fault::answering("", 503));
    let id = delete(&hawser, &server).await;
    for _ in 0..25 {
        hawser.run_workers().await;
        hawser.pass(3600);
    }
    for _ in 0..3 {
        hawser.run_workers().await;
        hawser.pass(61);
    }
    let after = receipt(&hawser, &id).await;
    assert_eq!(
        (&after["state"], &after["outcomes"]),
        (&json!("complete"), &json!({"failed": GRANTS}))
    );
    assert!(hawser.ground().left_of(&server).await.is_empty());
}

#[tokio::test]
async fn without_time_nothing_is_begun_and_nothing_is_lost() {
    let hawser = Hawser::on(Ground::streaming().await).await;
    let server = crowded(&hawser, 0).await;
    let id = delete(&hawser, &server).await;
    let over = Instant::now();
    let event = json!({"Records": delivered(&hawser.ground()).await});
    assert_eq!(event["Records"].as_array().unwrap().len(), 1);
    hawser.wire.arm(None);
    let answer = purge::handle(&hawser.app, event, over).await.unwrap();
    assert_eq!(answer, json!({"batchItemFailures": []}));
    sweep::handle(&hawser.app, json!({}), over).await.unwrap();
    assert_eq!(hawser.wire.operations(), Vec::<String>::new());
    sweep::handle(&hawser.app, json!({}), ample())
        .await
        .unwrap();
    assert_eq!(receipt(&hawser, &id).await["state"], "complete");
    hawser.run_workers().await;
}

/// What the stream's filter lets through.
const FILTER: &str = r#"{"eventName":["INSERT"],"dynamodb":{"NewImage":{"entity":{"S":["tombstone","sweep","offboarding","revocation","login-revocation","verification"]}}}}"#;

/// What the function at the table's stream has been given so far, in order.
async fn delivered(ground: &Arc<Ground>) -> Vec<Value> {
    let filter: Value = serde_json::from_str(FILTER).unwrap();
    let has = |list: &Value, one: &Value| list.as_array().unwrap().contains(one);
    let entities = &filter["dynamodb"]["NewImage"]["entity"]["S"];
    let records = ground.stream().await.into_iter().filter(|record| {
        has(&filter["eventName"], &record["eventName"])
            && has(entities, &record["dynamodb"]["NewImage"]["entity"]["S"])
    });
    records.collect()
}

#[test]
fn the_stream_is_filtered_as_these_tests_do() {
    assert!(include_str!("../../template.yaml").contains(FILTER));
}

/// How the stream behaves.
#[derive(Clone, Copy, Debug)]
enum Delivery {
    Once,
    Twice,
    Backwards,
    HoursLate,
}

/// Ends grants in every way that leaves durable work, with no worker but that at the stream. Returns the receipts, without
/// what differs from run to run.
async fn ends(delivery: Delivery) -> BTreeMap<String, Value> {
    let issuer = Issuer::start().await;
    let hawser = Hawser::by_hand(Ground::streaming().await).await;
    let admin = hawser.admin("acme");
    let mut servers = Vec::new();
    for name in ["deleted", "revoked", "moved", "left", "kept"] {
        let server = protected(&hawser, name, &issuer).await;
        for user in ["ada", "bob"] {
            connect(&hawser, &issuer, &server, user).await;
        }
        admin.install(&server.mcp, "user", "ada").await;
        servers.push(server);
    }
    let [deleted, revoked, moved, left, kept] =
        servers.try_into().unwrap_or_else(|_| unreachable!());
    let kept_pairs = issuer.issued().split_off(8);
    admin.delete(&deleted.paths()[0]).await;
    admin
        .delete(&format!("{}/auth/tokens", revoked.paths()[0]))
        .await;
    admin
        .patch(
            &moved.paths()[1],
            json!({"url": "https://elsewhere.example/mcp"}),
        )
        .await;
    let one = json!({"authSource": "oauth", "subjectId": "ada", "subjectType": "user"});
    admin
        .delete_with(&format!("{}/auth", left.paths()[0]), one)
        .await;
    admin
        .delete_with(
            &format!("{}/auth", left.paths()[0]),
            json!({"authSource": "oauth", "subjectId": "bob", "subjectType": "user"}),
        )
        .await;

    let mut seen = 0;
    loop {
        let mut records = delivered(&hawser.ground()).await.split_off(seen);
        if records.is_empty() {
            break;
        }
        seen += records.len();
        match delivery {
            Delivery::Once => {}
            Delivery::Twice => records.extend(records.clone()),
            Delivery::Backwards => records.reverse(),
            Delivery::HoursLate => hawser.pass(5 * 3600),
        }
        for batch in records.chunks(3) {
            let answer = purge::handle(&hawser.app, json!({"Records": batch}), ample()).await;
            assert_eq!(answer.unwrap(), json!({"batchItemFailures": []}));
        }
    }
    let before = hawser.ground().items().await;
    // Once more all of it, the last first, long after it is over.
    hawser.pass(3600);
    let mut records = delivered(&hawser.ground()).await;
    records.reverse();
    purge::handle(&hawser.app, json!({"Records": records}), ample())
        .await
        .unwrap();
    assert_eq!(hawser.ground().items().await, before, "{delivery:?}");
    // The schedule finds nothing that is left.
    let due = hawser.due().await;
    assert!(due.is_empty(), "{delivery:?}: {due:?}");
    hawser.run_workers().await;

    assert!(
        before.iter().all(|item| !deleted.holds(item)),
        "{delivery:?}"
    );
    for pair in issuer.issued() {
        let survives = kept_pairs.iter().any(|kept| kept.access == pair.access);
        assert_eq!(pair.active, survives, "{delivery:?}: {pair:?}");
    }
    let status = admin
        .get(&format!(
            "{}/auth/status?subjectId=ada&subjectType=user",
            kept.paths()[0]
        ))
        .await;
    assert_eq!(status.json()["status"], "authenticated");
    let listed = admin.get("/v1/receipts").await.json();
    let listed = listed["data"].as_array().unwrap().iter();
    listed
        .map(|receipt| {
            let what = format!(
                "{} {} {}",
                receipt["kind"], receipt["serverName"], receipt["subjectId"]
            );
            assert_eq!(receipt["state"], "complete", "{delivery:?}: {receipt}");
            (what, json!([receipt["removed"], receipt["outcomes"]]))
        })
        .collect()
}

#[tokio::test]
async fn the_stream_may_deliver_twice_backwards_and_hours_late() {
    let once = ends(Delivery::Once).await;
    assert_eq!(once.len(), 4, "{once:?}");
    for delivery in [Delivery::Twice, Delivery::Backwards, Delivery::HoursLate] {
        assert_eq!(ends(delivery).await, once, "{delivery:?}");
    }
}
