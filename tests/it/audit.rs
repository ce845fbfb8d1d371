//! The audit finds what dangles. That nothing does is asserted wherever another test lets the workers finish.

use crate::harness::{Ground, Hawser, per_user};
use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};

async fn put(ground: &Ground, attributes: &[(&str, AttributeValue)]) {
    let put = ground.dynamodb().put_item().table_name(hawser_local::TABLE);
    let put = attributes
        .iter()
        .fold(put, |put, (name, value)| put.item(*name, value.clone()));
    put.send().await.unwrap();
}

async fn delete(ground: &Ground, pk: &str, sk: &str) {
    let delete = ground
        .dynamodb()
        .delete_item()
        .table_name(hawser_local::TABLE);
    let delete = delete
        .key("PK", AttributeValue::S(pk.to_owned()))
        .key("SK", AttributeValue::S(sk.to_owned()));
    delete.send().await.unwrap();
}

async fn orphans(hawser: &Hawser) -> Value {
    json!(hawser.app.table.audit().await.unwrap().orphans)
}

#[tokio::test]
async fn a_healthy_table_has_no_orphans_and_figures() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let one = admin.register("one", per_user(), &["ada", "bob"]).await;
    admin.register("two", per_user(), &["ada"]).await;
    admin.delete(&one.paths()[0]).await;
    // A deletion in progress dangles no more than one that is done.
    assert_eq!(orphans(&hawser).await, json!([]));
    hawser.settle().await;
    let audit = hawser.app.table.audit().await.unwrap();
    let figures = json!({"counter": 1, "event": 9, "name": 1, "number": 1, "override": 1, "receipt": 1, "server": 1, "tenant-key": 1, "trail": 1});
    assert_eq!(json!(audit.items), figures);
}

#[tokio::test]
async fn each_kind_of_orphan_is_found() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let ground = hawser.ground();
    let s = |text: &str| AttributeValue::S(text.to_owned());
    let server = admin.register("wiki", per_user(), &["ada"]).await;
    let partition = format!("T#acme#S#{}", server.ulid());
    let number = format!("NUM#{:020}", server.number);

    delete(&ground, "T#acme", "NAME#wiki").await;
    delete(&ground, "T#acme", &number).await;
    let not_led_to = |key: &str| json!({"orphan": "not-led-to", "partition": "T#acme", "key": key});
    assert_eq!(
        orphans(&hawser).await,
        json!([not_led_to("NAME#wiki"), not_led_to(&number)])
    );

    delete(&ground, "T#acme", &format!("S#{}", server.ulid())).await;
    let without_server = json!({"orphan": "items-without-server", "partition": partition});
    assert_eq!(orphans(&hawser).await, json!([without_server]));

    let id = s(server.ulid());
    put(
        &ground,
        &[
            ("PK", s("T#acme")),
            ("SK", s("NAME#x")),
            ("entity", s("name")),
            ("id", id.clone()),
        ],
    )
    .await;
    put(
        &ground,
        &[
            ("PK", s(&partition)),
            ("SK", s("SWEEP")),
            ("entity", s("sweep")),
        ],
    )
    .await;
    let open = AttributeValue::Bool(false);
    put(
        &ground,
        &[
            ("PK", s("T#acme")),
            ("SK", s("R#1")),
            ("entity", s("receipt")),
            ("closed", open),
        ],
    )
    .await;
    let found = orphans(&hawser).await;
    let kinds: Vec<_> = found
        .as_array()
        .unwrap()
        .iter()
        .map(|orphan| orphan["orphan"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        [
            "items-without-server",
            "leads-nowhere",
            "never-due",
            "never-complete"
        ]
    );

    let living = admin.register("other", per_user(), &[]).await;
    let tombstone = format!("T#acme#S#{}", living.ulid());
    let due = [("GSI2PK", s("DUE")), ("GSI2SK", s("0"))];
    let grave = [
        ("PK", s(&tombstone)),
        ("SK", s("TOMBSTONE")),
        ("entity", s("tombstone")),
        ("receipt", s("1")),
    ];
    put(&ground, &[&grave[..], &due[..]].concat()).await;
    let undead = json!({"orphan": "undead", "partition": tombstone});
    assert!(orphans(&hawser).await.as_array().unwrap().contains(&undead));
}
