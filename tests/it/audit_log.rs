//! The audit log: every change is told once, by whom; whoever tampers with what was told is found out.

use crate::harness::{Browser, Caller, Cut, Ground, Hawser, ample, items, per_user};
use crate::issuer::Issuer;
use aws_sdk_dynamodb::types::AttributeValue;
use hawser_core::domain::event::Month;
use hawser_core::domain::id::{TenantId, hash};
use hawser_core::operations::audit_log::{self, Flaw, verify};
use hawser_core::operations::scheduler::process_due;
use hawser_core::table::audit_log::shards;
use hawser_functions::workers;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

const AUDIT: &str = "/v1/audit";

fn acme() -> TenantId {
    TenantId::parse("acme").unwrap()
}

fn month(hawser: &Hawser) -> Month {
    Month::of(hawser.app.now())
}

/// The whole audit log, oldest first.
async fn told(admin: &Caller) -> Vec<Value> {
    let answer = admin.get(&format!("{AUDIT}?limit=1000")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let mut all = answer.json()["data"].as_array().unwrap().clone();
    all.reverse();
    all
}

/// What was done, without ids and times.
fn actions(events: &[Value]) -> Vec<String> {
    let action = |event: &Value| {
        let actor = &event["actor"];
        let who = actor["id"].as_str().or(actor["type"].as_str()).unwrap();
        let (action, outcome) = (&event["action"], &event["outcome"]);
        let (action, outcome) = (action.as_str().unwrap(), outcome.as_str().unwrap());
        if outcome == "succeeded" {
            format!("{who} {action}")
        } else {
            format!("{who} {action} {outcome}")
        }
    };
    events.iter().map(action).collect()
}

#[tokio::test]
async fn the_audit_log_tells_the_life_of_a_credential() {
    let hawser = Hawser::start().await;
    let issuer = Issuer::start().await;
    let admin = hawser.admin("acme");
    let manifest = json!({"type": "mcp-server/remote", "name": "wiki", "description": "d", "url": issuer.mcp_url(),
                          "auth_data": {"type": "oauth2"}});
    let made = admin
        .put("/api/svc/v1/mcp", json!({"manifest": manifest}))
        .await;
    let server = made.json()["data"]["id"].as_str().unwrap().to_owned();
    let path = format!("/api/svc/v1/mcp/{server}");
    let ada = hawser.caller("acme", "ada", json!({"roles": ["mcp-server-manager"]}));
    let mut browser = Browser::new();
    let asked = ada.get(&format!("{path}/authorize")).await.json();
    let at_issuer = browser
        .begin(asked["authorization_endpoint"].as_str().unwrap())
        .await;
    let page = browser
        .open(&issuer.approve_as(&at_issuer, "ada").await)
        .await;
    assert_eq!(page.status, 200, "{page:?}");
    let asked = ada.get(&format!("{path}/authorize")).await.json();
    assert_eq!(asked["status"], "authenticated", "{asked}");

    // A session with the server, in which the token has to be refreshed.
    let proxy = format!("/mcp/{server}");
    issuer.expire(&issuer.issued()[0].access);
    let listed = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    assert_eq!(ada.post(&proxy, listed).await.status, 200);

    let key = hawser
        .api_key("acme", Some("user:root"), json!({"roles": ["admin"]}))
        .await;
    let body = json!({"authSource": "oauth", "subjectId": "ada", "subjectType": "user"});
    let gone = key.delete_with(&format!("{path}/auth"), body).await.json();
    hawser.run_workers().await;
    let events = told(&admin).await;
    assert_eq!(
        actions(&events),
        [
            "root server.created",
            "ada session.begun",
            "browser session.opened",
            "browser session.answered",
            "browser credential.granted",
            "ada credential.refreshed",
            "operator key.created",
            "root credential.removed",
            "revocation revocation.settled revoked",
        ]
    );
    let removed = &events[7];
    let (removal, made) = (removed["actor"].clone(), &events[6]);
    assert_eq!(
        removal,
        json!({"type": "user", "id": "root", "keyId": made["keyId"]}),
        "the key says who it was"
    );
    assert_eq!(
        json!([
            removed["serverId"],
            removed["subjectType"],
            removed["subjectId"],
            removed["authSource"]
        ]),
        json!([server, "user", "ada", "oauth"])
    );
    let receipt = &gone["data"]["receiptId"];
    assert_eq!(
        (&removed["receiptId"], &events[8]["receiptId"]),
        (receipt, receipt)
    );
    let session = &events[1]["sessionId"];
    assert!(session.is_string());
    for event in &events[2..5] {
        assert_eq!(&event["sessionId"], session);
    }
}

#[tokio::test]
async fn what_ends_many_credentials_is_told_for_each() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let server = admin.register("wiki", per_user(), &["ada", "bob"]).await;
    let [tf, ls, ka] = server.paths();
    let ends = async || {
        hawser.run_workers().await;
        let events = told(&admin).await;
        let from = events
            .iter()
            .rposition(|event| event["action"] == "credential.installed");
        let mut ended = actions(&events[from.unwrap() + 1..]);
        ended.sort();
        ended
    };
    admin.delete(&format!("{tf}/auth/tokens")).await;
    let both = [
        "root server.disconnected",
        "sweep credential.removed",
        "sweep credential.removed",
    ];
    assert_eq!(ends().await, both);

    admin.install(&server.mcp, "user", "ada").await;
    admin
        .patch(&ls, json!({"url": "https://elsewhere.example/mcp"}))
        .await;
    assert_eq!(
        ends().await,
        ["root server.moved", "sweep credential.removed"]
    );

    admin.install(&server.mcp, "user", "ada").await;
    admin.put(&ka, json!({"agent_enabled": false})).await;
    assert_eq!(ends().await, ["root server.changed"]);
    admin.delete("/v1/subjects/user/ada/credentials").await;
    let offboarded = [
        "offboarding credential.removed",
        "root server.changed",
        "root subject.offboarded",
    ];
    assert_eq!(ends().await, offboarded);

    admin.install(&server.mcp, "user", "bob").await;
    admin.delete(&ka).await;
    let deleted = [
        "purge credential.removed",
        "purge server.purged",
        "root server.deleted",
    ];
    assert_eq!(ends().await, deleted);
    // What changes nothing is no event, and neither is what was refused.
    let before = told(&admin).await.len();
    for path in [
        format!("{tf}/auth/tokens"),
        tf,
        ka,
        format!("{ls}?dryRun=true"),
    ] {
        admin.delete(&path).await;
    }
    assert_eq!(told(&admin).await.len(), before);
}

#[tokio::test]
async fn the_audit_log_is_for_admins_of_its_tenant() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    admin.register("wiki", per_user(), &["ada"]).await;
    assert_eq!(hawser.anonymous().get(AUDIT).await.status, 401);
    let manager = hawser.caller("acme", "m", json!({"roles": ["mcp-server-manager"]}));
    let refused = json!({"type": "about:blank", "title": "Forbidden", "status": 403, "code": "PERMISSION_DENIED",
                         "detail": "The audit log needs the role of an admin of the tenant."});
    manager.get(AUDIT).await.is(403, refused);
    let empty = json!({"data": [], "next": null});
    hawser.admin("other").get(AUDIT).await.is(200, empty);
    for bad in [
        "limit=0",
        "limit=1001",
        "before=x",
        "serverId=wiki",
        "subjectType=user",
        "subjectId=ada",
    ] {
        let answer = admin.get(&format!("{AUDIT}?{bad}")).await;
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (400, &json!("INVALID_REQUEST")),
            "{bad}"
        );
    }
}

#[tokio::test]
async fn the_audit_log_is_read_in_pages_over_months_and_by_server_and_subject() {
    let hawser = Hawser::start_by_hand().await;
    let admin = || {
        hawser.claims(json!({"tenantName": "acme", "sub": "root", "exp": 4_000_000_000_i64, "roles": ["admin"],
                             "permissions": ["mcp-servers:read"], "scope": "mgmt.read"}))
    };
    let mut servers = Vec::new();
    for name in ["one", "two", "three"] {
        let server = admin().register(name, per_user(), &["ada", "bob"]).await;
        servers.push(server);
        hawser.run_workers().await;
        // Two months and a bit, so that one between has nothing.
        hawser.pass(70 * 86_400);
    }
    let all = told(&admin()).await;
    assert_eq!(all.len(), 9);
    let (mut pages, mut before) = (Vec::new(), String::new());
    loop {
        let page = admin()
            .get(&format!("{AUDIT}?limit=2{before}"))
            .await
            .json();
        pages.extend(page["data"].as_array().unwrap().clone());
        let Some(next) = page["next"].as_str() else {
            break;
        };
        before = format!("&before={next}");
    }
    pages.reverse();
    assert_eq!(pages, all);

    let of = async |query: String| told_by(&admin(), &query).await;
    let second = format!("serverId={}", servers[1].mcp);
    assert_eq!(of(second.clone()).await, all[3..6]);
    let bob = "subjectType=user&subjectId=bob";
    let of_bob: Vec<_> = all
        .iter()
        .filter(|event| event["subjectId"] == "bob")
        .cloned()
        .collect();
    assert_eq!(
        (of_bob.len(), of(bob.to_owned()).await),
        (3, of_bob.clone())
    );
    assert_eq!(of(format!("{second}&{bob}")).await, of_bob[1..2]);
}

async fn told_by(admin: &Caller, query: &str) -> Vec<Value> {
    let mut all = admin.get(&format!("{AUDIT}?{query}")).await.json()["data"]
        .as_array()
        .unwrap()
        .clone();
    all.reverse();
    all
}

#[tokio::test]
async fn lines_can_be_kept_and_checked_elsewhere() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    admin
        .register("wiki", per_user(), &["ada \"é\"", "bob"])
        .await;
    hawser.run_workers().await;
    let wanted = [("accept", "application/x-ndjson")];
    let mut lines = Vec::new();
    let mut before = String::new();
    loop {
        let page = admin
            .send(
                "GET",
                &format!("{AUDIT}?limit=2{before}"),
                &wanted,
                Vec::new(),
            )
            .await;
        assert_eq!(
            page.header("content-type").as_deref(),
            Some("application/x-ndjson")
        );
        lines.extend(page.text.lines().map(str::to_owned));
        let Some(next) = page.header("hawser-next") else {
            break;
        };
        before = format!("&before={next}");
    }
    lines.reverse();
    assert_eq!(lines.len(), 3);
    let month = &lines[0].split_once("\"at\":\"").unwrap().1[..7];
    let mut link = hash(&format!("hawser audit\nacme\n{month}"));
    for (line, seq) in lines.iter().zip(1..) {
        let (bare, place) = line.rsplit_once(",\"seq\":").unwrap();
        link = hash(&format!("{link}\n{bare}}}"));
        assert_eq!(place, format!("{seq},\"link\":\"{link}\"}}"));
    }
}

/// One with an audit log of some length, chained.
async fn chained() -> (Arc<Ground>, Hawser) {
    let ground = Ground::new().await;
    let hawser = Hawser::on(ground.clone()).await;
    let users: Vec<_> = (0..9).map(|i| format!("u{i}")).collect();
    let users: Vec<_> = users.iter().map(String::as_str).collect();
    hawser
        .admin("acme")
        .register("wiki", per_user(), &users)
        .await;
    audit_log::chain_all(&hawser.app, ample()).await.unwrap();
    assert_eq!(flaws(&hawser).await, []);
    (ground, hawser)
}

async fn flaws(hawser: &Hawser) -> Vec<Flaw> {
    verify(&hawser.app, &acme(), &month(hawser)).await.unwrap()
}

/// The events as they lie in the table, oldest first.
async fn stored(ground: &Ground, entity: &str) -> Vec<HashMap<String, AttributeValue>> {
    let client = ground.dynamodb();
    let mut all = Vec::new();
    for item in items(&client).await {
        if item["entity"] == entity {
            let key = |name: &str| AttributeValue::S(item[name].as_str().unwrap().to_owned());
            let get = client.get_item().table_name(hawser_local::TABLE);
            let get = get.key("PK", key("PK")).key("SK", key("SK"));
            all.push(get.send().await.unwrap().item.unwrap());
        }
    }
    all
}

async fn put(ground: &Ground, item: HashMap<String, AttributeValue>) {
    let put = ground.dynamodb().put_item().table_name(hawser_local::TABLE);
    put.set_item(Some(item)).send().await.unwrap();
}

async fn delete(ground: &Ground, item: &HashMap<String, AttributeValue>) {
    let delete = ground
        .dynamodb()
        .delete_item()
        .table_name(hawser_local::TABLE);
    let delete = delete
        .key("PK", item["PK"].clone())
        .key("SK", item["SK"].clone());
    delete.send().await.unwrap();
}

fn kinds(flaws: &[Flaw]) -> Vec<String> {
    let kind = |flaw: &Flaw| {
        let flaw = json!(flaw);
        let kind = flaw["flaw"].as_str().unwrap().to_owned();
        let place = ["seq", "from"]
            .into_iter()
            .find_map(|name| flaw[name].as_u64());
        place.map_or(kind.clone(), |place| format!("{kind} {place}"))
    };
    flaws.iter().map(kind).collect()
}

#[tokio::test]
async fn whatever_is_changed_removed_or_slipped_in_shows() {
    let s = |text: &str| AttributeValue::S(text.to_owned());
    for place in 0..10 {
        let (ground, hawser) = chained().await;
        let events = stored(&ground, "event").await;
        assert_eq!(events.len(), 10);
        let event = &events[place];
        let seq = place as u64 + 1;
        for (name, value) in [
            ("outcome", s("failed")),
            ("action", s("key.removed")),
            ("receipt", event["id"].clone()),
        ] {
            let mut changed = event.clone();
            changed.insert(name.to_owned(), value);
            put(&ground, changed).await;
            assert_eq!(
                kinds(&flaws(&hawser).await),
                [format!("broken {seq}")],
                "{name} at {place}"
            );
        }
        delete(&ground, event).await;
        let gap = format!("missing {seq}");
        assert_eq!(kinds(&flaws(&hawser).await), [gap], "{place}");
        put(&ground, event.clone()).await;
        assert_eq!(flaws(&hawser).await, []);
        // Another one in the same place.
        let mut other = event.clone();
        let id = event["id"].as_s().unwrap();
        let last = if id.ends_with('Z') { 'Y' } else { 'Z' };
        let ulid = format!("{}{last}", &id[..25]);
        other.insert("SK".to_owned(), s(&ulid));
        other.insert("id".to_owned(), s(&ulid));
        put(&ground, other).await;
        assert!(!flaws(&hawser).await.is_empty(), "{place}");
    }
}

#[tokio::test]
async fn another_chain_in_the_place_of_the_first_shows() {
    let (ground, hawser) = chained().await;
    let early = stored(&ground, "trail").await.remove(0);
    let register = async |name: &str| {
        hawser.admin("acme").register(name, per_user(), &[]).await;
        audit_log::chain_all(&hawser.app, ample()).await
    };
    register("other").await.unwrap();
    let late = stored(&ground, "trail").await.remove(0);
    let events = stored(&ground, "event").await;
    let last = events.last().unwrap();
    // The last event is taken away, then out of the head as well, by someone who can count and hash.
    delete(&ground, last).await;
    assert_eq!(kinds(&flaws(&hawser).await), ["missing 11"]);
    let mut forged = early.clone();
    forged.insert("mark".to_owned(), late["mark"].clone());
    put(&ground, forged).await;
    assert_eq!(
        kinds(&flaws(&hawser).await),
        ["head-moved"],
        "the mark is of another head"
    );
    // No worker puts the tenant's mark on what follows.
    register("third").await.unwrap_err();
    assert_eq!(kinds(&flaws(&hawser).await), ["head-moved"]);
    delete(&ground, &early).await;
    assert_eq!(
        kinds(&flaws(&hawser).await),
        ["broken 10"],
        "events without a head"
    );
    put(&ground, late).await;
    put(&ground, last.clone()).await;
    assert_eq!(flaws(&hawser).await, []);
    audit_log::chain_all(&hawser.app, ample()).await.unwrap();
    assert_eq!(flaws(&hawser).await, []);
}

#[tokio::test]
async fn what_is_no_event_or_lies_elsewhere_shows_and_stops_nothing() {
    let s = |text: &str| AttributeValue::S(text.to_owned());
    let (ground, hawser) = chained().await;
    let admin = hawser.admin("acme");
    let before = told(&admin).await;
    let events = stored(&ground, "event").await;
    for (sk, change) in [
        ("~", None),
        ("0", None),
        ("7ZZZZZZZZZZZZZZZZZZZZZZZZZ", None),
        (
            "01000000000000000000000000",
            Some(("id", s("01000000000000000000000000"))),
        ),
        (
            "7YZZZZZZZZZZZZZZZZZZZZZZZZ",
            Some(("action", s("nothing.known"))),
        ),
    ] {
        let mut stray = events[0].clone();
        stray.insert("SK".to_owned(), s(sk));
        stray.insert("GSI2PK".to_owned(), s("UNCHAINED#0"));
        stray.insert("GSI2SK".to_owned(), s("0"));
        if let Some((name, value)) = change {
            stray.insert(name.to_owned(), value);
        }
        stray.remove("chain");
        put(&ground, stray.clone()).await;
        assert_eq!(kinds(&flaws(&hawser).await), ["stray"], "{sk}");
        audit_log::chain_all(&hawser.app, ample()).await.unwrap();
        assert_eq!(told(&admin).await, before, "{sk}");
        let (mut pages, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = admin.get(&format!("{AUDIT}?limit=1{cursor}")).await.json();
            pages.extend(page["data"].as_array().unwrap().clone());
            let Some(next) = page["next"].as_str() else {
                break;
            };
            cursor = format!("&before={next}");
        }
        pages.reverse();
        assert_eq!(pages, before, "{sk}");
        delete(&ground, &stray).await;
    }
}

#[tokio::test]
async fn a_month_that_is_taken_away_shows_in_the_next() {
    let hawser = Hawser::start_by_hand().await;
    let ground = hawser.ground();
    let admin = || {
        hawser.claims(json!({"tenantName": "acme", "sub": "root", "exp": 4_000_000_000_i64, "roles": ["admin"],
                             "permissions": ["mcp-servers:read"], "scope": "mgmt.read"}))
    };
    admin().register("one", per_user(), &["ada"]).await;
    audit_log::chain_all(&hawser.app, ample()).await.unwrap();
    let old = month(&hawser);
    let head = stored(&ground, "trail").await.remove(0);
    let events = stored(&ground, "event").await;
    hawser.pass(40 * 86_400);
    admin().register("two", per_user(), &["ada"]).await;
    audit_log::chain_all(&hawser.app, ample()).await.unwrap();
    assert_eq!(flaws(&hawser).await, []);
    // Without its head the old month is still shown.
    delete(&ground, &head).await;
    assert_eq!(told(&admin()).await.len(), 4);
    assert_eq!(kinds(&flaws(&hawser).await), ["month-cut"]);
    for event in &events {
        delete(&ground, event).await;
    }
    assert_eq!(kinds(&flaws(&hawser).await), ["month-cut"]);
    assert_eq!(verify(&hawser.app, &acme(), &old).await.unwrap(), []);
    put(&ground, head).await;
    let kinds_of_old = kinds(&verify(&hawser.app, &acme(), &old).await.unwrap());
    assert_eq!(
        (kinds_of_old, flaws(&hawser).await),
        (vec!["missing 1".to_owned()], vec![])
    );
}

#[tokio::test]
async fn the_daily_integrity_check_fails_on_a_changed_event() {
    let (ground, hawser) = chained().await;
    let audit = async || workers::audit::handle(&hawser.app, json!({}), ample()).await;
    audit().await.unwrap();
    let mut event = stored(&ground, "event").await.remove(3);
    event.insert("outcome".to_owned(), AttributeValue::S("failed".to_owned()));
    put(&ground, event).await;
    audit().await.unwrap_err();
}

#[tokio::test]
async fn an_event_that_is_not_chained_within_the_hour_is_a_flaw() {
    let hawser = Hawser::start_by_hand().await;
    hawser.admin("acme").register("late", per_user(), &[]).await;
    assert_eq!(flaws(&hawser).await, []);
    let month = month(&hawser);
    hawser.pass(3601);
    let late = verify(&hawser.app, &acme(), &month).await.unwrap();
    assert_eq!(kinds(&late), ["never-chained"]);
    audit_log::chain_all(&hawser.app, ample()).await.unwrap();
    assert_eq!(verify(&hawser.app, &acme(), &month).await.unwrap(), []);
}

#[tokio::test]
async fn a_chain_survives_a_crash_anywhere_and_two_workers_at_once() {
    for cut in [Cut::Before as fn(usize) -> Cut, Cut::After] {
        for k in 0.. {
            let ground = Ground::new().await;
            let hawser = Hawser::on(ground.clone()).await;
            let users: Vec<_> = (0..120).map(|i| format!("u{i}")).collect();
            let users: Vec<_> = users.iter().map(String::as_str).collect();
            hawser
                .admin("acme")
                .register("wiki", per_user(), &users)
                .await;
            hawser
                .admin("other")
                .register("wiki", per_user(), &["ada"])
                .await;
            hawser.wire.arm(Some(cut(k)));
            let _ = audit_log::chain_all(&hawser.app, ample()).await;
            let reached = hawser.wire.sent().len() > k;
            let (one, two) = (
                Hawser::on(ground.clone()).await,
                Hawser::on(ground.clone()).await,
            );
            let both = tokio::join!(
                audit_log::chain_all(&one.app, ample()),
                audit_log::chain_all(&two.app, ample())
            );
            assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
            for (tenant, events) in [(acme(), 121), (TenantId::parse("other").unwrap(), 2)] {
                let flaws = verify(&one.app, &tenant, &month(&one)).await.unwrap();
                assert_eq!(flaws, [], "{:?}", cut(k));
                let chain_heads = one.app.table.audit_log_heads(&tenant).await.unwrap();
                assert_eq!(chain_heads[0].seq, events, "{:?}", cut(k));
            }
            for shard in shards() {
                assert!(
                    one.app
                        .table
                        .unchained(shard, None)
                        .await
                        .unwrap()
                        .0
                        .is_empty()
                );
            }
            if !reached {
                assert!(k > 6, "a chain takes several requests, not {k}");
                break;
            }
        }
    }
}

/// The records by which a stream reports these items.
fn reported(items: &[HashMap<String, AttributeValue>]) -> Value {
    fn image(value: &AttributeValue) -> Value {
        match value {
            AttributeValue::S(text) => json!({"S": text}),
            AttributeValue::N(number) => json!({"N": number}),
            AttributeValue::M(map) => {
                let map: serde_json::Map<_, _> =
                    map.iter().map(|(n, v)| (n.clone(), image(v))).collect();
                json!({"M": map})
            }
            other => panic!("{other:?}"),
        }
    }
    let record = |(at, item): (usize, &HashMap<String, AttributeValue>)| {
        let image: serde_json::Map<_, _> =
            item.iter().map(|(n, v)| (n.clone(), image(v))).collect();
        json!({"eventName": "INSERT", "dynamodb": {"NewImage": image, "SequenceNumber": at.to_string()}})
    };
    json!({"Records": items.iter().enumerate().map(record).collect::<Vec<_>>()})
}

#[tokio::test]
async fn deliveries_that_come_twice_late_or_out_of_order_make_one_chain() {
    let ground = Ground::new().await;
    let hawser = Hawser::on(ground.clone()).await;
    hawser
        .admin("acme")
        .register("wiki", per_user(), &["ada", "bob", "eve"])
        .await;
    let events = stored(&ground, "event").await;
    let chain = async |some: &[HashMap<String, AttributeValue>]| {
        workers::chain::handle(&hawser.app, reported(some), ample())
            .await
            .unwrap();
    };
    chain(&events[2..]).await;
    chain(&events[1..3]).await;
    chain(&events).await;
    audit_log::chain_all(&hawser.app, ample()).await.unwrap();
    chain(&events).await;
    assert_eq!(flaws(&hawser).await, []);
    let mut places = Vec::new();
    for event in told(&hawser.admin("acme")).await {
        places.push(event["seq"].as_u64().unwrap());
    }
    assert_eq!(places, [4, 3, 1, 2], "in the order in which they were met");
    while process_due(&hawser.app, ample()).await.unwrap() {}
}

#[tokio::test]
async fn a_chain_that_fails_holds_up_no_other() {
    let ground = Ground::new().await;
    let hawser = Hawser::on(ground.clone()).await;
    let tenants = ["acme", "bee", "cell"];
    for tenant in tenants {
        hawser
            .admin(tenant)
            .register("wiki", per_user(), &["ada"])
            .await;
    }
    hawser.chain().await;
    let of = |item: &HashMap<String, AttributeValue>, tenant: &str| {
        item["tenant"] == AttributeValue::S(tenant.to_owned())
    };
    let heads = stored(&ground, "trail").await;
    let mut foreign = heads.iter().find(|head| of(head, "bee")).unwrap().clone();
    foreign.insert("seq".to_owned(), AttributeValue::N("7".to_owned()));
    put(&ground, foreign).await;
    for tenant in tenants {
        hawser
            .admin(tenant)
            .register("mail", per_user(), &["ada"])
            .await;
    }
    let events = stored(&ground, "event").await;
    let answer = workers::chain::handle(&hawser.app, reported(&events), ample()).await;
    let answer = answer.unwrap()["batchItemFailures"].clone();
    let expected: Vec<_> = (0..events.len())
        .filter(|at| of(&events[*at], "bee"))
        .map(|at| json!({"itemIdentifier": at.to_string()}))
        .collect();
    assert_eq!((answer, expected.len()), (json!(expected), 4));
    for (tenant, seq) in [("acme", 4), ("bee", 7), ("cell", 4)] {
        let chain_heads = hawser
            .app
            .table
            .audit_log_heads(&TenantId::parse(tenant).unwrap())
            .await;
        assert_eq!(chain_heads.unwrap()[0].seq, seq, "{tenant}");
    }
}
