//! The integrity check finds inconsistencies and repairs what can be repaired. That nothing does is asserted wherever
//! another test lets the workers finish.

use crate::ending::connect;
use crate::harness::{Caller, Ground, Hawser, Registered, ample, items, per_user};
use crate::issuer::{Fault, Issuer};
use crate::policies;
use aws_sdk_dynamodb::types::AttributeValue;
use hawser_core::operations::integrity::{Report, examine};
use hawser_core::operations::scheduler::{process, process_due};
use hawser_functions::workers::audit;
use hawser_local::template::Template;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::time::Instant;

const MCP: &str = "/api/svc/v1/mcp";
const QUARTER: i64 = 16 * 60;
const DAY: i64 = 24 * 3600;

type Item = HashMap<String, AttributeValue>;

fn s(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

fn key(pk: &str, sk: &str) -> Item {
    [("PK", pk), ("SK", sk)]
        .map(|(name, value)| (name.to_owned(), s(value)))
        .into()
}

async fn read(ground: &Ground, pk: &str, sk: &str) -> Option<Item> {
    let get = ground.dynamodb().get_item().table_name(hawser_local::TABLE);
    let got = get.set_key(Some(key(pk, sk))).send().await.unwrap();
    got.item
}

async fn put(ground: &Ground, item: Item) {
    let put = ground.dynamodb().put_item().table_name(hawser_local::TABLE);
    put.set_item(Some(item)).send().await.unwrap();
}

/// Takes an item out of the table by hand.
async fn take(ground: &Ground, pk: &str, sk: &str) -> Item {
    let item = read(ground, pk, sk).await;
    let client = ground.dynamodb();
    let delete = client.delete_item().table_name(hawser_local::TABLE);
    delete.set_key(Some(key(pk, sk))).send().await.unwrap();
    item.unwrap_or_else(|| panic!("there is no {pk} {sk}"))
}

/// The sort key of the one item of this kind in a partition.
async fn only(ground: &Ground, pk: &str, entity: &str) -> String {
    let items = items(&ground.dynamodb()).await;
    let mut of_kind = items
        .iter()
        .filter(|item| item["PK"] == pk && item["entity"] == entity);
    let one = of_kind.next().unwrap_or_else(|| panic!("no {entity}"));
    assert!(of_kind.next().is_none(), "one {entity}");
    one["SK"].as_str().unwrap().to_owned()
}

/// Takes attributes away from an item.
async fn strip(ground: &Ground, pk: &str, sk: &str, names: &[&str]) {
    let mut item = take(ground, pk, sk).await;
    for name in names {
        item.remove(*name).unwrap();
    }
    put(ground, item).await;
}

async fn look(hawser: &Hawser, repair: bool) -> Report {
    let table = &hawser.app.table;
    examine(table, None, hawser.app.now(), repair)
        .await
        .unwrap()
}

/// That exactly these orphans are there, as kind, partition and sort key.
#[track_caller]
fn assert_orphans(report: &Report, expected: &[(&str, &str, Option<&str>)]) {
    let found: Vec<_> = report.orphans.iter().map(|(one, _)| json!(one)).collect();
    let expected: Vec<_> = expected
        .iter()
        .map(|(kind, partition, key)| {
            let mut orphan = json!({"orphan": kind, "partition": partition});
            if let Some(key) = key {
                orphan["key"] = (*key).into();
            }
            orphan
        })
        .collect();
    assert_eq!(found, expected);
}

/// That exactly these orphans are there, that each is repaired, and that nothing is left to repair then.
async fn assert_repaired(hawser: &Hawser, expected: &[(&str, &str, Option<&str>)]) {
    assert_orphans(&look(hawser, false).await, expected);
    let repaired = look(hawser, true).await;
    assert_orphans(&repaired, expected);
    assert!(repaired.is_sound(), "{repaired:?}");
    assert_orphans(&look(hawser, true).await, &[]);
    // Once more each: nothing is wrong any more, so nothing happens.
    let before = hawser.ground().items().await;
    for (orphan, _) in &repaired.orphans {
        let again = hawser.app.table.repair(orphan, hawser.app.now()).await;
        assert!(!again.unwrap(), "{orphan:?}");
    }
    assert_eq!(hawser.ground().items().await, before);
}

async fn receipt(hawser: &Hawser, id: &str) -> Value {
    let path = format!("/v1/receipts/{id}");
    hawser.admin("acme").get(&path).await.json()["data"].clone()
}

fn partition(mcp: &str) -> String {
    format!("T#acme#S#{}", mcp.strip_prefix("mcp-").unwrap())
}

/// Hawser, its administrator, and what it stands on.
async fn start() -> (Hawser, Caller, Arc<Ground>) {
    let hawser = Hawser::start().await;
    let (admin, ground) = (hawser.admin("acme"), hawser.ground());
    (hawser, admin, ground)
}

/// A server that an issuer protects, and a clock that is moved by hand.
async fn start_protected() -> (Issuer, Hawser, Registered) {
    let (issuer, hawser) = (Issuer::start().await, Hawser::start_by_hand().await);
    let server = protected(&hawser, &issuer).await;
    (issuer, hawser, server)
}

/// A server that users consent to.
async fn protected(hawser: &Hawser, issuer: &Issuer) -> Registered {
    let admin = hawser.admin("acme");
    let manifest = json!({"type": "mcp-server/remote", "name": "wiki", "description": "d", "url": issuer.mcp_url(),
                          "auth_data": {"type": "oauth2"}});
    let made = admin.put(MCP, json!({"manifest": manifest})).await;
    let id = made.json()["data"]["id"].as_str().unwrap().to_owned();
    admin.registered(&id).await
}

#[tokio::test]
async fn a_healthy_table_has_no_orphans_and_figures() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let one = admin.register("one", per_user(), &["ada", "bob"]).await;
    admin.register("two", per_user(), &["ada"]).await;
    admin.delete(&one.paths()[0]).await;
    // A deletion in progress is no inconsistency.
    assert_orphans(&look(&hawser, true).await, &[]);
    hawser.run_workers().await;
    let report = look(&hawser, true).await;
    let figures = json!({"counter": 1, "event": 9, "name": 1, "number": 1, "override": 1, "receipt": 1, "server": 1, "tenant-key": 1, "trail": 1});
    assert_eq!(json!(report.items), figures);
    let answer = audit::handle(&hawser.app, json!({"repair": true}), ample()).await;
    assert_eq!(answer.unwrap(), json!({"items": figures, "repaired": 0}));
}

#[tokio::test]
async fn nothing_in_motion_is_repaired() {
    let (hawser, admin, ground) = start().await;
    for round in 0..3 {
        let server = admin.register("wiki", per_user(), &["ada"]).await;
        admin.multiply(&hawser, &server, 300).await;
        hawser.give_grant(&server.mcp, "eve", |_| {}).await;
        let path = match round {
            0 => server.paths()[0].clone(),
            1 => format!("{}/auth/tokens", server.paths()[0]),
            _ => "/v1/subjects/user/ada/credentials".to_owned(),
        };
        assert_eq!(admin.delete(&path).await.status, 200);
        let app = hawser.app.clone();
        let work = tokio::spawn(async move { while process_due(&app, ample()).await.unwrap() {} });
        while !work.is_finished() {
            let report = look(&hawser, true).await;
            assert_orphans(&report, &[]);
        }
        work.await.unwrap();
        hawser.run_workers().await;
        admin.delete(&server.paths()[0]).await;
        hawser.run_workers().await;
    }
    assert!(
        ground
            .items()
            .await
            .iter()
            .all(|item| item["entity"] != "server")
    );
}

#[tokio::test]
async fn missing_lookup_items_of_a_server_are_written_again() {
    let (hawser, admin, ground) = start().await;
    let server = admin.register("wiki", per_user(), &["ada"]).await;
    let (own, number) = (
        format!("S#{}", server.ulid()),
        format!("NUM#{:020}", server.number),
    );
    let name = take(&ground, "T#acme", "NAME#wiki").await;
    take(&ground, "T#acme", &number).await;
    assert_repaired(&hawser, &[("missing-pointer", "T#acme", Some(&own))]).await;
    assert_eq!(read(&ground, "T#acme", "NAME#wiki").await, Some(name));
    for path in server.paths() {
        assert_eq!(admin.get(&path).await.status, 200);
    }

    // Where another has taken the name meanwhile, a person has to choose.
    take(&ground, "T#acme", "NAME#wiki").await;
    let other = admin.register("wiki", per_user(), &[]).await;
    let report = look(&hawser, true).await;
    assert_orphans(&report, &[("missing-pointer", "T#acme", Some(&own))]);
    assert!(!report.is_sound());
    let answer = audit::handle(&hawser.app, json!({"repair": true}), ample()).await;
    assert!(answer.is_err(), "so that the alarm rings");
    let leads = admin.get(&format!("{MCP}?name=wiki")).await.json();
    assert!(
        leads["data"]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["id"] == other.mcp)
    );
}

#[tokio::test]
async fn lookup_items_without_a_server_are_removed() {
    let (hawser, admin, ground) = start().await;
    let server = admin.register("wiki", per_user(), &[]).await;
    let other = admin.register("other", per_user(), &[]).await;
    let number = format!("NUM#{:020}", other.number);
    let with = |mut item: Item, sk: &str| {
        item.insert("SK".to_owned(), s(sk));
        item
    };
    let name = read(&ground, "T#acme", "NAME#wiki").await.unwrap();
    let of_other = read(&ground, "T#acme", &number).await.unwrap();
    // To a server that has another name, and to one that is not there.
    admin.delete(&other.paths()[0]).await;
    hawser.run_workers().await;
    put(&ground, with(name, "NAME#alias")).await;
    put(&ground, with(of_other, &number)).await;
    let expected = [
        ("dangling-pointer", "T#acme", Some("NAME#alias")),
        ("dangling-pointer", "T#acme", Some(number.as_str())),
    ];
    assert_repaired(&hawser, &expected).await;
    for path in server.paths() {
        assert_eq!(admin.get(&path).await.status, 200);
    }
    let again = admin.register("alias", per_user(), &[]).await;
    assert_eq!(admin.get(&again.paths()[2]).await.status, 200);
    hawser.run_workers().await;
}

/// Has a user register as a provider of LangSmith's; the partition, and the sort key of what leads to it.
async fn with_provider(hawser: &Hawser, issuer: &Issuer) -> (Registered, String) {
    let admin = hawser.admin("acme");
    let new = json!({"name": "mail", "url": issuer.mcp_url(), "auth_type": "oauth"});
    let made = admin.post("/v1/deepagents/mcp-servers", new).await.json();
    let path = format!(
        "/v1/deepagents/mcp-servers/{}/oauth-provider",
        made["id"].as_str().unwrap()
    );
    let provider = admin.post(&path, json!({})).await.json();
    let lead = format!(
        "PROVIDER#{}",
        provider["oauth_provider_id"].as_str().unwrap()
    );
    let listed = admin.get(&format!("{MCP}?name=mail")).await.json();
    let server = admin
        .registered(listed["data"][0]["id"].as_str().unwrap())
        .await;
    (server, lead)
}

#[tokio::test]
async fn a_provider_and_what_leads_to_it_belong_together() {
    let issuer = Issuer::start().await;
    let hawser = Hawser::start().await;
    let ground = hawser.ground();
    let (server, lead) = with_provider(&hawser, &issuer).await;
    let partition = partition(&server.mcp);
    let item = take(&ground, "T#acme", &lead).await;
    let provider = only(&ground, &partition, "provider").await;
    assert_repaired(&hawser, &[("missing-pointer", &partition, Some(&provider))]).await;
    assert_eq!(read(&ground, "T#acme", &lead).await, Some(item));

    take(&ground, &partition, &provider).await;
    assert_repaired(&hawser, &[("dangling-pointer", "T#acme", Some(&lead))]).await;
    assert_eq!(read(&ground, "T#acme", &lead).await, None);
    hawser.run_workers().await;
}

#[tokio::test]
async fn personal_tokens_lead_to_their_keys_and_keys_to_a_server_that_is_there() {
    let (hawser, admin, ground) = start().await;
    let server = admin.register("wiki", per_user(), &[]).await;
    let bound = json!({"scopes": ["mcp.read"], "bound_to": server.number});
    hawser.personal("acme", "user:ada", bound).await;
    let own = only(&ground, "T#acme", "api-key").await;
    let items = ground.items().await;
    let lead = items.iter().find(|item| item["entity"] == "personal-lead");
    let lead = lead.unwrap()["PK"].as_str().unwrap();

    let before = take(&ground, lead, "PAT").await;
    assert_repaired(&hawser, &[("missing-pointer", "T#acme", Some(&own))]).await;
    assert_eq!(read(&ground, lead, "PAT").await, Some(before));

    let key = take(&ground, "T#acme", &own).await;
    assert_repaired(&hawser, &[("dangling-pointer", lead, Some("PAT"))]).await;
    assert_eq!(read(&ground, lead, "PAT").await, None);

    admin.delete(&server.paths()[0]).await;
    hawser.run_workers().await;
    put(&ground, key).await;
    // It leads nowhere, and nothing leads to it: what is gone stays gone.
    let found = look(&hawser, true).await;
    let expected = [
        ("missing-pointer", "T#acme", Some(own.as_str())),
        ("orphaned-api-key", "T#acme", Some(own.as_str())),
    ];
    assert_orphans(&found, &expected);
    assert!(found.is_sound(), "{found:?}");
    assert_eq!(read(&ground, "T#acme", &own).await, None);
    assert_eq!(read(&ground, lead, "PAT").await, None);
    hawser.run_workers().await;
}

#[tokio::test]
async fn items_without_a_server_are_removed_and_their_revocations_have_failed() {
    let issuer = Issuer::start().await;
    let hawser = Hawser::start_by_hand().await;
    let admin = hawser.admin("acme");
    let ground = hawser.ground();
    let (server, lead) = with_provider(&hawser, &issuer).await;
    let kept = admin.register("kept", per_user(), &["ada"]).await;
    for user in ["ada", "bob"] {
        connect(&hawser, &issuer, &server, user).await;
    }
    admin.install(&server.mcp, "user", "eve").await;
    let body = json!({"authSource": "oauth", "subjectId": "bob", "subjectType": "user"});
    let disconnected = admin
        .delete_with(&format!("{}/auth", server.paths()[0]), body)
        .await;
    let id = disconnected.json()["data"]["receiptId"]
        .as_str()
        .unwrap()
        .to_owned();
    let own = [
        format!("S#{}", server.ulid()),
        "NAME#mail".to_owned(),
        format!("NUM#{:020}", server.number),
    ];
    for sk in &own {
        take(&ground, "T#acme", sk).await;
    }
    let partition = partition(&server.mcp);
    assert_repaired(&hawser, &[("items-without-server", &partition, None)]).await;
    assert!(ground.left_of(&server).await.is_empty());
    assert_eq!(read(&ground, "T#acme", &lead).await, None);
    let after = receipt(&hawser, &id).await;
    assert_eq!(
        (&after["state"], &after["outcomes"]),
        (&json!("complete"), &json!({"failed": 1}))
    );
    let items = ground.items().await;
    let told = items
        .iter()
        .filter(|item| item["actor"]["worker"] == "auditor");
    let mut told: Vec<_> = told
        .map(|item| {
            format!(
                "{} {} {}",
                item["action"], item["outcome"], item["subject_id"]
            )
        })
        .collect();
    told.sort_unstable();
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!(admin.get(&kept.paths()[0]).await.status, 200);
    hawser.run_workers().await;
}

#[tokio::test]
async fn a_deleted_server_that_still_has_its_record_is_deleted() {
    let (hawser, admin, ground) = start().await;
    let server = admin.register("wiki", per_user(), &["ada"]).await;
    let own = [
        format!("S#{}", server.ulid()),
        "NAME#wiki".to_owned(),
        format!("NUM#{:020}", server.number),
    ];
    let mut saved = Vec::new();
    for sk in &own {
        saved.push(read(&ground, "T#acme", sk).await.unwrap());
    }
    admin.delete(&server.paths()[0]).await;
    for item in saved {
        put(&ground, item).await;
    }
    let partition = partition(&server.mcp);
    assert_repaired(&hawser, &[("partially-deleted", &partition, None)]).await;
    for path in server.paths() {
        assert_eq!(admin.get(&path).await.status, 404);
    }
    hawser.run_workers().await;
    assert!(ground.left_of(&server).await.is_empty());
    admin.register("wiki", per_user(), &[]).await;
}

#[tokio::test]
async fn items_that_are_missing_in_an_index_are_put_into_it() {
    let (hawser, admin, ground) = start().await;
    let doomed = admin.register("doomed", per_user(), &["ada"]).await;
    hawser.run_workers().await;
    let deleted = admin.delete(&doomed.paths()[0]).await;
    let id = deleted.header("hawser-receipt").unwrap();
    let grave = partition(&doomed.mcp);
    strip(&ground, &grave, "TOMBSTONE", &["GSI2PK", "GSI2SK"]).await;
    let items = ground.items().await;
    let unchained = items.iter().find(|item| {
        item["GSI2PK"]
            .as_str()
            .is_some_and(|pk| pk.starts_with("UNCHAINED"))
    });
    let event = unchained.unwrap();
    let (months, event) = (event["PK"].as_str().unwrap(), event["SK"].as_str().unwrap());
    strip(&ground, months, event, &["GSI2PK", "GSI2SK"]).await;
    assert!(
        !process_due(&hawser.app, ample()).await.unwrap(),
        "nobody finds it"
    );

    let mut expected = [
        ("not-indexed", months, Some(event)),
        ("not-indexed", grave.as_str(), Some("TOMBSTONE")),
    ];
    expected.sort_unstable();
    assert_repaired(&hawser, &expected).await;
    hawser.run_workers().await;
    assert_eq!(receipt(&hawser, &id).await["state"], "complete");
    let chained = read(&ground, months, event).await.unwrap();
    assert!(chained.contains_key("chain") && !chained.contains_key("GSI2PK"));
}

#[tokio::test]
async fn work_that_nobody_does_is_late() {
    let hawser = Hawser::start_by_hand().await;
    let admin = hawser.admin("acme");
    let server = admin.register("wiki", per_user(), &["ada"]).await;
    hawser.give_grant(&server.mcp, "ada", |_| {}).await;
    hawser.run_workers().await;
    let body = json!({"authSource": "oauth", "subjectId": "ada", "subjectType": "user"});
    admin
        .delete_with(&format!("{}/auth", server.paths()[0]), body)
        .await;
    let partition = partition(&server.mcp);
    let revocation = only(&hawser.ground(), &partition, "revocation").await;
    hawser.app.table.examine(hawser.app.now()).await.unwrap();
    // An issuer has a day, the rest a few hours.
    hawser.pass(7 * 3600);
    hawser.chain().await;
    assert_orphans(&look(&hawser, true).await, &[]);
    hawser.pass(DAY);
    let expected = [("late", partition.as_str(), Some(revocation.as_str()))];
    let report = look(&hawser, true).await;
    assert_orphans(&report, &expected);
    assert!(!report.is_sound(), "a worker has to do it");
    hawser.run_workers().await;

    admin.delete(&server.paths()[0]).await;
    hawser.chain().await;
    hawser.pass(7 * 3600);
    let expected = [("late", partition.as_str(), Some("TOMBSTONE"))];
    assert_orphans(&look(&hawser, false).await, &expected);
    // Put off again and again, and never done.
    for _ in 0..8 {
        let due = hawser.due().await;
        let later = hawser.app.now().plus_seconds(4 * 3600);
        assert!(hawser.app.table.defer(&due[0], later).await.unwrap());
        hawser.pass(4 * 3600);
    }
    assert_orphans(&look(&hawser, false).await, &expected);
    hawser.run_workers().await;
}

#[tokio::test]
async fn a_session_long_past_its_end_is_removed() {
    let (_issuer, hawser, server) = start_protected().await;
    let user = hawser.caller("acme", "ada", json!({}));
    let path = format!("{}/authorize", server.paths()[0]);
    assert_eq!(user.get(&path).await.status, 200);
    hawser.chain().await;
    let ground = hawser.ground();
    let partition = partition(&server.mcp);
    let session = only(&ground, &partition, "session").await;
    let open = only(&ground, &partition, "open-consent").await;
    hawser.pass(3 * DAY);
    assert_orphans(&look(&hawser, true).await, &[]);
    hawser.pass(2 * DAY);
    let expired = |key| ("expired", partition.as_str(), Some(key));
    assert_repaired(&hawser, &[expired(session.as_str()), expired(&open)]).await;
    assert_eq!(read(&ground, &partition, &session).await, None);
    hawser.run_workers().await;
}

#[tokio::test]
async fn void_credentials_that_no_sweep_takes_get_one() {
    let (issuer, hawser, server) = start_protected().await;
    let (admin, ground) = (hawser.admin("acme"), hawser.ground());
    for user in ["ada", "bob"] {
        connect(&hawser, &issuer, &server, user).await;
    }
    admin.install(&server.mcp, "user", "eve").await;
    let moved = json!({"url": "https://elsewhere.example/mcp"});
    assert_eq!(admin.patch(&server.paths()[1], moved).await.status, 200);
    let partition = partition(&server.mcp);
    let sweep = only(&ground, &partition, "sweep").await;
    take(&ground, &partition, &sweep).await;
    assert_repaired(&hawser, &[("never-swept", &partition, None)]).await;
    hawser.run_workers().await;
    let items = ground.items().await;
    let of = |entity: &str| {
        let all = items.iter().filter(|item| server.holds(item));
        all.filter(|item| item["entity"] == entity).count()
    };
    assert_eq!((of("override"), of("grant"), of("reason")), (0, 0, 3));
    assert!(issuer.issued().iter().all(|pair| !pair.active));
}

#[tokio::test]
async fn a_receipt_that_nothing_will_complete_is_closed_and_claims_nothing() {
    let (issuer, hawser, server) = start_protected().await;
    let (admin, ground) = (hawser.admin("acme"), hawser.ground());
    let partition = partition(&server.mcp);
    connect(&hawser, &issuer, &server, "ada").await;
    let body = json!({"authSource": "oauth", "subjectId": "ada", "subjectType": "user"});
    let disconnected = admin
        .delete_with(&format!("{}/auth", server.paths()[0]), body)
        .await;
    let lost = disconnected.json()["data"]["receiptId"]
        .as_str()
        .unwrap()
        .to_owned();
    let revocation = only(&ground, &partition, "revocation").await;
    take(&ground, &partition, &revocation).await;
    let all = admin
        .delete(&format!("{}/auth/tokens", server.paths()[0]))
        .await;
    let open = all.header("hawser-receipt").unwrap();
    let sweep = only(&ground, &partition, "sweep").await;
    take(&ground, &partition, &sweep).await;
    hawser.chain().await;

    let (lost_key, open_key) = (format!("R#{lost}"), format!("R#{open}"));
    let mut expected = [
        ("never-complete", "T#acme", Some(lost_key.as_str())),
        ("never-complete", "T#acme", Some(open_key.as_str())),
    ];
    expected.sort_unstable();
    let report = look(&hawser, true).await;
    assert_orphans(&report, &expected);
    assert!(
        report.orphans.iter().all(|(_, repaired)| !repaired),
        "too young"
    );
    hawser.pass(QUARTER);
    assert_repaired(&hawser, &expected).await;
    let lost = receipt(&hawser, &lost).await;
    assert_eq!(
        (&lost["state"], &lost["outcomes"]),
        (&json!("complete"), &json!({"failed": 1}))
    );
    let open = receipt(&hawser, &open).await;
    assert_eq!(
        (&open["state"], &open["removed"]),
        (
            &json!("complete"),
            &json!({"oauthRecords": 0, "overrides": 0})
        )
    );
    hawser.run_workers().await;
}

#[tokio::test]
async fn a_receipt_whose_counts_differ_counts_the_lost_as_failed() {
    let (issuer, hawser, server) = start_protected().await;
    let (admin, ground) = (hawser.admin("acme"), hawser.ground());
    let partition = partition(&server.mcp);
    for user in ["ada", "bob"] {
        connect(&hawser, &issuer, &server, user).await;
    }
    issuer.fault(Fault::answering("/revoke", 503));
    let all = admin
        .delete(&format!("{}/auth/tokens", server.paths()[0]))
        .await;
    let id = all.header("hawser-receipt").unwrap();
    hawser.run_workers().await;
    let items = ground.items().await;
    let mut waiting = items.iter().filter(|item| item["entity"] == "revocation");
    let lost = waiting.next().unwrap()["SK"].as_str().unwrap();
    take(&ground, &partition, lost).await;
    assert_orphans(&look(&hawser, true).await, &[]);
    hawser.pass(QUARTER);
    let key = format!("R#{id}");
    assert_repaired(&hawser, &[("counts-differ", "T#acme", Some(&key))]).await;
    let meanwhile = receipt(&hawser, &id).await;
    assert_eq!(
        (&meanwhile["state"], &meanwhile["outcomes"]),
        (&json!("in_progress"), &json!({"failed": 1}))
    );
    issuer.clear_faults();
    hawser.run_workers().await;
    let after = receipt(&hawser, &id).await;
    assert_eq!(
        (&after["state"], &after["outcomes"]),
        (&json!("complete"), &json!({"failed": 1, "revoked": 1}))
    );
}

#[tokio::test]
async fn the_policy_allows_what_a_look_takes_and_if_so_configured_what_repairs_take() {
    let (hawser, admin, ground) = start().await;
    let one = admin.register("one", per_user(), &["ada"]).await;
    let two = admin.register("two", per_user(), &["ada"]).await;
    for sk in [
        format!("S#{}", one.ulid()),
        "NAME#one".to_owned(),
        "NAME#two".to_owned(),
    ] {
        take(&ground, "T#acme", &sk).await;
    }
    let items = ground.items().await;
    let event = items.iter().find(|item| item["entity"] == "event").unwrap();
    let place = ["PK", "SK"].map(|name| event[name].as_str().unwrap());
    strip(&ground, place[0], place[1], &["GSI2PK", "GSI2SK"]).await;
    let own = "C#user#ada#override";
    let partition = partition(&two.mcp);
    let mut old = read(&ground, &partition, own).await.unwrap();
    old.extend(key(&partition, "M#old"));
    old.insert("entity".to_owned(), s("mcp-session"));
    old.insert("ttl".to_owned(), AttributeValue::N("1".to_owned()));
    put(&ground, old).await;

    hawser.wire.arm(None);
    audit::handle(&hawser.app, json!({}), ample())
        .await
        .unwrap_err();
    let mut used = policies::actions(&hawser.wire.sent());
    let looking = ["dynamodb:BatchGetItem", "dynamodb:Query", "dynamodb:Scan"];
    assert_eq!(used, looking.map(str::to_owned).into());
    hawser.wire.arm(None);
    let repaired = audit::handle(&hawser.app, json!({"repair": true}), ample()).await;
    assert_eq!(repaired.unwrap()["repaired"], 5);
    used.extend(policies::actions(&hawser.wire.sent()));
    let allowed = Template::load().unwrap().actions("workers-audit");
    let allowed = allowed.into_iter().filter(|a| a.starts_with("dynamodb:"));
    assert_eq!(used, allowed.collect());
}

#[tokio::test]
async fn flaws_that_need_a_person_are_only_reported() {
    let (hawser, admin, ground) = start().await;
    let server = admin.register("wiki", per_user(), &["ada"]).await;
    take(&ground, "T#acme", "TENANTKEY#1").await;
    let partition = partition(&server.mcp);
    let mut broken = key(&partition, "SWEEP#x");
    broken.insert("entity".to_owned(), s("sweep"));
    put(&ground, broken).await;
    let before = ground.items().await;
    let expected = [
        ("key-missing", "T#acme", Some("TENANTKEY#1")),
        ("unreadable", partition.as_str(), Some("SWEEP#x")),
    ];
    let report = look(&hawser, true).await;
    assert_orphans(&report, &expected);
    assert!(report.orphans.iter().all(|(_, repaired)| !repaired));
    assert_eq!(ground.items().await, before);
}

#[tokio::test]
async fn a_table_is_healthy_at_every_step_of_the_workers() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let server = admin.register("wiki", per_user(), &["ada"]).await;
    admin.multiply(&hawser, &server, 250).await;
    hawser.give_grant(&server.mcp, "ada", |_| {}).await;
    admin
        .delete(&format!("{}/auth/tokens", server.paths()[0]))
        .await;
    admin.install(&server.mcp, "user", "bob").await;
    admin.delete(&server.paths()[0]).await;
    loop {
        let due = hawser.due().await;
        let Some(work) = due.first() else { break };
        process(&hawser.app, work, Instant::now()).await.unwrap();
        assert_orphans(&look(&hawser, true).await, &[]);
    }
    hawser.run_workers().await;
}
