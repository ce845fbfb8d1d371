//! Writers that die, and two at once; the operator's own audit log and key.

use super::{Folder, KAMBRIUM, SECRET, available, confidential, plain};
use crate::harness::{Cut, Ground, Hawser, Wire, now};
use crate::process::run;
use aws_sdk_dynamodb::types::AttributeValue;
use hawser_core::catalogue::{self, Offer};
use hawser_core::domain::id::TenantId;
use hawser_core::operations::audit_log;
use hawser_core::operations::integrations::{self, Kind};
use hawser_core::operations::integrity::examine;
use hawser_core::{App, Error};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

fn offers(integrations: Value) -> BTreeMap<String, Offer> {
    let file = json!({"integrations": integrations}).to_string();
    catalogue::read(&file, true).unwrap()
}

fn set_of(prefix: &str, secret: &str) -> Value {
    let all = (0..3).map(|i| (format!("{prefix}{i}"), confidential(prefix, secret)));
    let mut all: Map<_, _> = all.collect();
    all.insert("shared".to_owned(), confidential(prefix, secret));
    all.into()
}

/// What the catalogue holds: each name with its title.
async fn titles(ground: &Ground) -> BTreeMap<String, String> {
    let items = ground.items().await.into_iter();
    let integrations = items.filter(|item| item["entity"] == "integration");
    let title = |item: Value| {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (
            text(&item["name"]),
            text(&item["integration"]["display_name"]),
        )
    };
    integrations.map(title).collect()
}

fn titles_of(integrations: &Value) -> BTreeMap<String, String> {
    let all = integrations.as_object().unwrap().iter();
    all.map(|(name, one)| {
        (
            name.clone(),
            one["display_name"].as_str().unwrap().to_owned(),
        )
    })
    .collect()
}

fn app(ground: &Ground, wire: &Wire) -> Arc<App> {
    ground.app(wire, "http://unused.example", |_| {}, |_| {})
}

#[tokio::test]
async fn a_writer_that_dies_anywhere_is_made_up_for_by_the_next() {
    let (before, after) = (set_of("old", SECRET), set_of("new", SECRET));
    let (old, new) = (titles_of(&before), titles_of(&after));
    for cut in [Cut::Before as fn(usize) -> Cut, Cut::After] {
        let (mut reached, mut k) = (true, 0);
        while reached {
            let ground = Ground::new().await;
            ground.offer(&before).await;
            let wire = Wire::default();
            wire.arm(Some(cut(k)));
            let dying = app(&ground, &wire);
            let applied = integrations::apply(&dying, &offers(after.clone()), false).await;
            reached = wire.sent().len() > k;
            // Each integration is what it was or what it is to be, and each change has its event.
            let left = titles(&ground).await;
            for (name, title) in &left {
                assert!(
                    old.get(name) == Some(title) || new.get(name) == Some(title),
                    "{cut:?}"
                );
            }
            let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
            let changed = names
                .iter()
                .filter(|name| old.get(**name) != left.get(**name))
                .count();
            let events = async || {
                let items = ground.items().await.into_iter();
                items.filter(|item| item["entity"] == "event").count()
            };
            assert_eq!(events().await, old.len() + changed, "{k}");
            if applied.is_ok() {
                assert_eq!(left, new);
            }
            let next = Hawser::on(ground.clone()).await;
            integrations::apply(&next.app, &offers(after.clone()), false)
                .await
                .unwrap();
            assert_eq!(titles(&ground).await, new, "{k}");
            assert_eq!(events().await, old.len() + names.len());
            next.run_workers().await;
            k += 1;
        }
        assert!(k > 8, "an apply makes several requests, not {k}");
    }
}

#[tokio::test]
async fn of_two_writers_at_once_one_is_what_stays() {
    let mut refused = 0;
    for _ in 0..8 {
        let ground = Ground::new().await;
        // The same names, so that nothing but the count of changes tells that somebody else has written.
        let files = ["one", "two", "three"].map(|title| {
            let all = (0..4).map(|i| (format!("i{i}"), confidential(title, title)));
            Value::Object(all.collect())
        });
        let (at_first, wire) = (offers(files[0].clone()), Wire::default());
        integrations::apply(&app(&ground, &wire), &at_first, false)
            .await
            .unwrap();
        let writers = files.iter().skip(1).map(|file| {
            let (app, offers) = (app(&ground, &wire), offers(file.clone()));
            tokio::spawn(async move { integrations::apply(&app, &offers, false).await })
        });
        let mut ends = Vec::new();
        for writer in writers.collect::<Vec<_>>() {
            ends.push(writer.await.unwrap());
        }
        assert!(ends.iter().any(Result::is_ok), "{ends:?}");
        let left = titles(&ground).await;
        let stays: Vec<_> = (files.iter().skip(1))
            .zip(&ends)
            .filter(|(file, _)| titles_of(file) == left)
            .collect();
        assert!(matches!(stays[..], [(_, Ok(_))]), "{left:?}: {ends:?}");
        refused += ends
            .iter()
            .filter(|end| matches!(end, Err(Error::Contended)))
            .count();
    }
    assert!(refused > 0, "they never met");
}

#[tokio::test]
async fn a_thousand_integrations_fit() {
    let all: Map<_, _> = (0..1000)
        .map(|i| {
            (
                format!("i{i}"),
                confidential(&format!("Integration {i}"), &format!("{SECRET}-{i}")),
            )
        })
        .collect();
    let ground = Ground::new().await;
    let offers = offers(all.into());
    let app = app(&ground, &Wire::default());
    let changes = integrations::apply(&app, &offers, false).await.unwrap();
    assert!(changes.len() == 1000 && changes.iter().all(|one| one.change == Kind::Added));
    assert_eq!(integrations::apply(&app, &offers, false).await.unwrap(), []);
    let hawser = Hawser::on(ground).await;
    let listed = hawser
        .admin("acme")
        .get(&format!("{KAMBRIUM}/available"))
        .await;
    assert_eq!(available(&listed).len(), 1000);
    hawser.run_workers().await;
}

#[tokio::test]
async fn nobody_is_the_operator() {
    let hawser = Hawser::with_integrations(&json!({"mail": confidential("Mail", SECRET)})).await;
    let operator = TenantId::operator();
    let admin = hawser.admin(operator.as_str());
    // As a token that names no tenant at all.
    let nameless = hawser.claims(json!({"sub": "root", "exp": now() + 600}));
    for path in ["/v1/audit", "/v1/deepagents/mcp-servers", KAMBRIUM] {
        let refused = admin.get(path).await;
        assert!([401, 403].contains(&refused.status), "{path}: {refused:?}");
        assert_eq!(refused.text, nameless.get(path).await.text);
    }
    let (events, _) = audit_log::list(&hawser.app, &operator, None, 10, |_| true)
        .await
        .unwrap();
    assert!(
        matches!(&events[..], [one] if one.chain.is_some()),
        "{events:?}"
    );
    hawser
        .admin("acme")
        .get("/v1/audit")
        .await
        .is(200, json!({"data": [], "next": null}));
    let folder = Folder::new();
    let args = ["api-key", "create", "--tenant", operator.as_str()];
    assert!(!run(folder.path(), &args).status.success());
}

#[tokio::test]
async fn the_integrity_check_finds_damage_to_the_catalogue_and_a_missing_key() {
    let hawser = Hawser::with_integrations(
        &json!({"crm": plain("CRM"), "mail": confidential("Mail", SECRET)}),
    )
    .await;
    hawser.run_workers().await;
    let ground = hawser.ground();
    let found = async || {
        let report = examine(&hawser.app.table, Some(&hawser.app), hawser.app.now(), true)
            .await
            .unwrap();
        let orphans = report.orphans.into_iter();
        orphans
            .map(|(orphan, _)| (orphan.kind.as_str(), orphan.key.unwrap()))
            .collect::<Vec<_>>()
    };
    assert_eq!(found().await, []);
    let key = |pk: &str, sk: &str| {
        [("PK", pk), ("SK", sk)].map(|(n, v)| (n.to_owned(), AttributeValue::S(v.to_owned())))
    };
    let client = ground.dynamodb();
    let update = client.update_item().table_name(hawser_local::TABLE);
    let update = update.set_key(Some(key("CATALOGUE", "I#crm").into()));
    let update = update.update_expression("REMOVE integration.mcp_url");
    update.send().await.unwrap();
    assert_eq!(found().await, [("unreadable", "I#crm".to_owned())]);
    // The others are there all the same, and to apply the file again puts it right.
    let next = Hawser::on(ground.clone()).await;
    let list = format!("{KAMBRIUM}/available");
    assert_eq!(available(&next.admin("acme").get(&list).await), ["mail"]);
    ground
        .offer(&json!({"crm": plain("CRM"), "mail": confidential("Mail", SECRET)}))
        .await;
    assert_eq!(found().await, []);
    let delete = client.delete_item().table_name(hawser_local::TABLE);
    let delete = delete.set_key(Some(key("T#hawser:operator", "TENANTKEY#1").into()));
    delete.send().await.unwrap();
    assert_eq!(found().await, [("key-missing", "TENANTKEY#1".to_owned())]);
}
