//! What the identity provider gave for a login is revoked there when the login ends, whatever ends it, and told on its receipt.

use crate::harness::{Cut, Ground, Hawser, ample};
use crate::identity_provider::{CLIENT, Provider};
use crate::login_endings::{WAYS, end};
use crate::logins::*;
use hawser_core::domain::id::{Sortable, TenantId};
use hawser_core::operations::integrity::examine;
use hawser_core::operations::scheduler::process_due;
use hawser_core::operations::{Permitted, logins};
use hawser_core::table::logins::key;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

const PLACE: &str = "REVOKE#";

struct Stage {
    hawser: Hawser,
    provider: Provider,
    tokens: Tokens,
    id: String,
    code: String,
}

impl Stage {
    /// Ada has signed in, and the provider gave a refresh token.
    async fn set() -> Self {
        let provider = Provider::start();
        let hawser = provider.hawser(&Ground::new().await).await;
        let mut allowed = allowed(&hawser, "acme", "user:ada").await;
        allowed.identity.roles.clear();
        allowed.provider_token = Some("provider-refresh".into());
        let code = code(&hawser, allowed).await;
        let tokens = Tokens::of(&redeem(&hawser, &code).await);
        let id = only(&tokens.caller(&hawser)).await;
        let stage = Self {
            hawser,
            provider,
            tokens,
            id,
            code,
        };
        stage.vouches_for("ada");
        stage
    }

    fn vouches_for(&self, subject: &str) {
        let end = self.hawser.app.now().seconds() + 2 * DAY;
        self.provider.vouches_for(Some(json!({
            "iss": self.provider.issuer, "aud": CLIENT, "sub": subject, "exp": end,
        })));
    }

    async fn end(&self, how: &str) {
        let ended = end(&self.hawser, how, &self.id, &self.tokens).await;
        assert_eq!(ended.status, 200, "{how}: {ended:?}");
        assert!(!works(&self.hawser, &self.tokens).await, "{how}");
    }

    async fn work(&self) {
        while process_due(&self.hawser.app, ample()).await.unwrap() {}
    }

    /// The only receipt.
    async fn receipt(&self) -> Value {
        let receipts = self.hawser.admin("acme").get("/v1/receipts").await.json();
        assert_eq!(receipts["data"].as_array().unwrap().len(), 1);
        receipts["data"][0].clone()
    }

    /// The event that says how the revocation ended, if it has.
    async fn settled(&self) -> Option<Value> {
        Self::settled_by(&self.hawser).await
    }

    async fn settled_by(hawser: &Hawser) -> Option<Value> {
        let answer = hawser.admin("acme").get("/v1/audit").await.json();
        let mut events = answer["data"].as_array().unwrap().clone();
        events.retain(|event| event["action"] == "revocation.settled");
        assert!(events.len() <= 1, "{events:?}");
        events.pop()
    }

    /// What is left to be revoked.
    async fn left(&self) -> usize {
        let items = self.hawser.ground().items().await;
        let all = items.iter().map(|item| item["SK"].as_str().unwrap());
        all.filter(|sk| sk.starts_with(PLACE)).count()
    }
}

#[tokio::test]
async fn it_is_revoked_however_the_login_is_ended_and_the_receipt_says_so() {
    for (how, _) in WAYS {
        let stage = Stage::set().await;
        // The one that counts is the one that the provider gave last.
        let next = Tokens::of(&refresh(&stage.hawser, &stage.tokens.refresh).await);
        let stage = Stage {
            tokens: next,
            ..stage
        };
        stage.end(how).await;
        let receipt = stage.receipt().await;
        assert_eq!(
            (&receipt["state"], &receipt["outcomes"], stage.left().await),
            (&json!("in_progress"), &Value::Null, 1),
            "{how}"
        );
        stage.work().await;
        assert_eq!(stage.provider.revoked(), ["provider-refresh-1"], "{how}");
        let receipt = stage.receipt().await;
        let removed = json!({"oauthRecords": 0, "overrides": 0, "logins": 1, "providerTokens": 1});
        assert_eq!(receipt["removed"], removed, "{how}");
        assert_eq!(receipt["outcomes"], json!({"revoked": 1}), "{how}");
        assert_eq!(receipt["state"], "complete", "{how}");
        if how != "by offboarding" {
            let presented = &receipt["presented"][0];
            assert_eq!(presented["token"], "refresh_token", "{how}");
            assert_eq!(presented["httpStatus"], 200, "{how}");
        }
        let settled = stage.settled().await.unwrap();
        assert_eq!(
            (
                &settled["outcome"],
                &settled["loginId"],
                &settled["receiptId"]
            ),
            (&json!("revoked"), &json!(stage.id), &receipt["id"]),
            "{how}"
        );
        assert_eq!(stage.left().await, 0, "{how}");
        stage.hawser.run_workers().await;
    }
}

/// The login was read for its end before a refresh stored another token of the provider.
#[tokio::test]
async fn of_a_token_that_is_replaced_before_the_end_the_other_one_is_revoked() {
    let stage = Stage::set().await;
    let (app, tenant) = (&stage.hawser.app, TenantId::parse("acme").unwrap());
    let id = Sortable::parse_ulid(&stage.id).unwrap();
    let read = app.table.read(vec![key(&tenant, id)]).await.unwrap();
    let found = read.login(&tenant, id).unwrap().unwrap();
    Tokens::of(&refresh(&stage.hawser, &stage.tokens.refresh).await);
    let caller = stage.hawser.authenticated_caller("acme", "ada").await;
    let ended = logins::end(app, &Permitted { caller, found }, None).await;
    assert!(ended.unwrap().is_some());
    assert!(!works(&stage.hawser, &stage.tokens).await);
    stage.work().await;
    assert_eq!(stage.provider.revoked(), ["provider-refresh-1"]);
    stage.hawser.run_workers().await;
}

#[tokio::test]
async fn it_is_revoked_when_something_says_that_the_login_must_end() {
    for how in ["its code again", "an old token", "another person"] {
        let stage = Stage::set().await;
        let (hawser, first) = (&stage.hawser, &stage.tokens.refresh);
        let last = match how {
            "its code again" => {
                is_refused(&redeem(hawser, &stage.code).await, 400, "invalid_grant");
                "provider-refresh"
            }
            "an old token" => {
                let second = Tokens::of(&refresh(hawser, first).await);
                Tokens::of(&refresh(hawser, &second.refresh).await);
                is_refused(&refresh(hawser, first).await, 400, "invalid_grant");
                "provider-refresh-2"
            }
            _ => {
                stage.vouches_for("eve");
                is_refused(&refresh(hawser, first).await, 400, "invalid_grant");
                "provider-refresh-1"
            }
        };
        stage.work().await;
        assert_eq!(stage.provider.revoked(), [last], "{how}");
        let settled = stage.settled().await.unwrap();
        assert_eq!(settled["outcome"], "revoked", "{how}");
        assert_eq!(settled["loginId"], stage.id.as_str(), "{how}");
        hawser.run_workers().await;
    }
}

#[tokio::test]
async fn a_provider_that_is_away_is_asked_again_for_a_day() {
    for back in [true, false] {
        let stage = Stage::set().await;
        stage.provider.is_away(true);
        stage.end("by an admin").await;
        let mut passed = 0;
        for seconds in [0, 60, HOUR, 2 * HOUR] {
            stage.hawser.pass(seconds);
            passed += seconds;
            stage.work().await;
            assert_eq!(stage.receipt().await["state"], "in_progress");
        }
        if back {
            stage.provider.is_away(false);
            stage.hawser.pass(2 * HOUR);
        } else {
            stage.hawser.pass(DAY - passed);
        }
        stage.work().await;
        let receipt = stage.receipt().await;
        let (outcome, revoked) = match back {
            true => ("revoked", vec!["provider-refresh"]),
            false => ("failed", vec![]),
        };
        assert_eq!(receipt["outcomes"], json!({outcome: 1}));
        assert_eq!(receipt["state"], "complete");
        assert_eq!(stage.provider.revoked(), revoked);
        stage.hawser.run_workers().await;
    }
}

#[tokio::test]
async fn where_it_cannot_be_revoked_the_receipt_says_why() {
    let stage = Stage::set().await;
    stage.provider.revokes_nothing();
    stage.end("by an admin").await;
    stage.work().await;
    let receipt = stage.receipt().await;
    assert_eq!(receipt["outcomes"], json!({"unsupported": 1}));
    assert_eq!(receipt["presented"][0]["reason"], "noEndpoint");
    stage.hawser.run_workers().await;
}

#[tokio::test]
async fn no_other_provider_is_shown_it() {
    let stage = Stage::set().await;
    let other = Provider::start();
    let next = other.hawser(&stage.hawser.ground()).await;
    let tokens = Tokens::of(&refresh(&next, &stage.tokens.refresh).await);
    assert_eq!(
        end(&next, "by an admin", &stage.id, &tokens).await.status,
        200
    );
    while process_due(&next.app, ample()).await.unwrap() {}
    assert_eq!((other.asked().len(), other.revoked().len()), (0, 0));
    let receipt = stage.receipt().await;
    assert_eq!(receipt["outcomes"], json!({"unsupported": 1}));
    assert_eq!(receipt["presented"][0]["reason"], "issuerUnknown");
}

/// The provider has taken the old token and given a new one, and its answer comes when the login is over.
#[tokio::test]
async fn what_comes_after_the_end_is_revoked_too() {
    let stage = Stage::set().await;
    stage.provider.holds(true);
    let ending = async {
        stage.provider.is_reached().await;
        let path = format!("/v1/logins/{}", stage.id);
        let ended = stage.hawser.admin("acme").delete(&path).await;
        assert_eq!(ended.status, 200, "{ended:?}");
        stage.provider.holds(false);
    };
    let (refreshed, ()) = tokio::join!(refresh(&stage.hawser, &stage.tokens.refresh), ending);
    assert!(!works(&stage.hawser, &Tokens::of(&refreshed)).await);
    while process_due(&stage.hawser.app, ample()).await.unwrap() {}
    let revoked: BTreeSet<_> = stage.provider.revoked().into_iter().collect();
    let both = ["provider-refresh", "provider-refresh-1"].map(str::to_owned);
    assert_eq!(revoked, BTreeSet::from(both));
    // Whoever ended it could not know what the provider would say.
    assert_eq!(stage.receipt().await["outcomes"], json!({"unknown": 1}));
    stage.hawser.run_workers().await;
}

#[tokio::test]
async fn a_worker_that_dies_anywhere_leaves_it_to_the_next_and_it_is_counted_once() {
    type At = fn(usize) -> Cut;
    for cut in [Cut::Before as At, Cut::After, Cut::Answer] {
        for k in 0.. {
            let stage = Stage::set().await;
            stage.end("by an admin").await;
            stage.hawser.wire.arm(Some(cut(k)));
            while process_due(&stage.hawser.app, ample())
                .await
                .is_ok_and(|any| any)
            {}
            let reached = stage.hawser.wire.sent().len() > k;
            stage.hawser.wire.arm(None);
            let next = stage.provider.hawser(&stage.hawser.ground()).await;
            next.pass(HOUR);
            while process_due(&next.app, ample()).await.unwrap() {}
            let why = format!("{:?}", cut(k));
            assert_eq!(stage.provider.revoked(), ["provider-refresh"], "{why}");
            let outcomes = stage.receipt().await["outcomes"].clone();
            assert_eq!(outcomes, json!({"revoked": 1}), "{why}");
            Stage::settled_by(&next).await.unwrap();
            next.run_workers().await;
            if !reached {
                assert!(k > 2, "{k} requests");
                break;
            }
        }
    }
}

#[tokio::test]
async fn the_integrity_check_knows_it() {
    let stage = Stage::set().await;
    stage.provider.is_away(true);
    stage.end("by an admin").await;
    let hawser = &stage.hawser;
    let check = async |repair| {
        let (app, now) = (&hawser.app, hawser.app.now());
        let report = examine(&app.table, Some(app), now, repair).await.unwrap();
        let orphans = report.orphans.into_iter();
        let orphans = orphans.map(|(orphan, repaired)| (orphan.kind.as_str(), repaired));
        (
            report.items["login-revocation"],
            orphans.collect::<Vec<_>>(),
        )
    };
    stage.work().await;
    hawser.chain().await;
    hawser.pass(HOUR);
    assert_eq!(check(false).await, (1, vec![]));
    let client = hawser.ground().dynamodb();
    let items = hawser.ground().items().await;
    let item = items
        .iter()
        .find(|item| item["SK"].as_str().unwrap().starts_with(PLACE));
    let text = |name: &str| {
        let text = item.unwrap()[name].as_str().unwrap();
        aws_sdk_dynamodb::types::AttributeValue::S(text.to_owned())
    };
    client
        .update_item()
        .table_name(hawser_local::TABLE)
        .key("PK", text("PK"))
        .key("SK", text("SK"))
        .update_expression("REMOVE GSI2PK, GSI2SK")
        .send()
        .await
        .unwrap();
    assert_eq!(check(true).await, (1, vec![("not-indexed", true)]));
    stage.provider.is_away(false);
    stage.work().await;
    assert_eq!(stage.provider.revoked(), ["provider-refresh"]);
    hawser.run_workers().await;
}

#[test]
fn exactly_those_functions_may_read_the_secret_that_ask_the_provider() {
    let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../template.yaml");
    let template = std::fs::read_to_string(template).unwrap();
    let functions = template.split("BuildProperties: { Binary: ").skip(1);
    let readers: BTreeSet<_> = functions
        .filter(|function| function.contains("!Ref SignInSecretPolicy"))
        .map(|function| function.split(' ').next().unwrap())
        .collect();
    let asking = [
        "hawser-finish-sign-in",
        "hawser-issue-token",
        "workers-purge",
        "workers-sweep",
    ];
    assert_eq!(readers, BTreeSet::from(asking));
}
