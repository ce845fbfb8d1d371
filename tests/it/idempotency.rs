//! Requests with an `Idempotency-Key`: carried out once, whatever happens to their answers.

use crate::harness::{Answer, Caller, Cut, Ground, Hawser, ample, per_user};
use crate::login_endings::plain;
use crate::logins::only;
use hawser_core::operations::scheduler::process_due;
use serde_json::{Value, json};
use std::sync::Arc;

const ADA: &str = "/v1/subjects/user/ada/credentials";
const BOB: &str = "/v1/subjects/user/bob/credentials";

async fn delete(caller: &Caller, path: &str, key: &str) -> Answer {
    let headers = [("idempotency-key", key)];
    caller.send("DELETE", path, &headers, Vec::new()).await
}

fn receipt_of(answer: &Answer) -> Value {
    answer.json()["data"]["id"].clone()
}

async fn receipts(caller: &Caller) -> Vec<Value> {
    let listed = caller.get("/v1/receipts").await.json();
    listed["data"].as_array().unwrap().clone()
}

fn is_reused(answer: &Answer) {
    assert_eq!(answer.status, 422, "{answer:?}");
    assert_eq!(answer.json()["code"], "IDEMPOTENCY_KEY_REUSED");
}

#[tokio::test]
async fn a_repeat_of_an_offboarding_takes_nothing_and_answers_as_the_first() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let wiki = admin.register("wiki", per_user(), &["ada"]).await.mcp;
    let first = delete(&admin, ADA, "k-1").await;
    assert_eq!(first.json()["data"]["removed"]["overrides"], 1, "{first:?}");
    assert_eq!(admin.install(&wiki, "user", "ada").await.status, 200);
    let body = json!({"subjectType": "user", "subjectId": "ada"}).to_string();
    let in_quotes = [("idempotency-key", "\"k-1\"")];
    let posted = admin
        .send("POST", "/v1/subjects/offboard", &in_quotes, body.into())
        .await;
    for again in [delete(&admin, ADA, "k-1").await, posted] {
        assert_eq!(again.status, 200);
        assert_eq!(again.json(), first.json());
    }
    let planned = admin.delete(&format!("{ADA}?dryRun=true")).await.json();
    assert_eq!(planned["data"]["removed"]["overrides"], 1, "it stays");
    let next = delete(&admin, ADA, "k-2").await;
    assert_eq!(next.json()["data"]["removed"]["overrides"], 1);
    assert_ne!(receipt_of(&next), receipt_of(&first));
}

#[tokio::test]
async fn a_repeat_of_the_end_of_a_login_has_its_receipt() {
    let hawser = Hawser::start().await;
    let tokens = plain(&hawser, "user:ada").await;
    let path = format!("/v1/logins/{}", only(&tokens.caller(&hawser)).await);
    let admin = hawser.admin("acme");
    let dry = delete(&admin, &format!("{path}?dryRun=true"), "k").await;
    assert_eq!(dry.json()["data"]["dryRun"], true);
    let first = delete(&admin, &path, "k").await;
    assert_eq!(first.json()["data"]["removed"]["logins"], 1, "{first:?}");
    let again = delete(&admin, &path, "k").await;
    assert_eq!((again.status, again.json()), (200, first.json()));
    assert_eq!(
        again.header("hawser-receipt"),
        first.header("hawser-receipt")
    );
    assert_eq!(delete(&admin, &path, "other").await.status, 404);
    assert_eq!(admin.delete(&path).await.status, 404);
    let colleague = hawser.caller("acme", "eve", json!({"roles": ["admin"]}));
    assert_eq!(delete(&colleague, &path, "k").await.status, 404);
}

#[tokio::test]
async fn a_key_is_one_request_of_one_caller() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    admin.register("wiki", per_user(), &["ada", "bob"]).await;
    let first = delete(&admin, ADA, "k").await;
    is_reused(&delete(&admin, BOB, "k").await);
    let virtual_ada = "/v1/subjects/virtualaccount/ada/credentials";
    is_reused(&delete(&admin, virtual_ada, "k").await);
    assert_eq!(receipts(&admin).await.len(), 1, "nothing was done");
    let colleague = hawser.caller("acme", "eve", json!({"roles": ["admin"]}));
    let theirs = delete(&colleague, BOB, "k").await;
    assert_eq!(theirs.json()["data"]["removed"]["overrides"], 1);
    assert_ne!(receipt_of(&theirs), receipt_of(&first));
    let elsewhere = delete(&hawser.admin("other"), BOB, "k").await;
    assert_eq!(elsewhere.status, 200);
    let stored = json!(hawser.ground().items().await).to_string();
    assert!(!stored.contains("\"k\""), "no key is stored");
}

#[tokio::test]
async fn of_many_at_once_one_is_carried_out() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    admin.register("wiki", per_user(), &["ada"]).await;
    let all = [(); 6].map(|()| delete(&admin, ADA, "k"));
    let all = futures_util::future::join_all(all).await;
    let one = receipt_of(&all[0]);
    for answer in &all {
        assert!([200, 202].contains(&answer.status), "{answer:?}");
        assert_eq!(receipt_of(answer), one);
    }
    hawser.run_workers().await;
    let listed = receipts(&admin).await;
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0]["removed"]["overrides"], 1);
    let tokens = plain(&hawser, "user:bob").await;
    let path = format!("/v1/logins/{}", only(&tokens.caller(&hawser)).await);
    let all = [(); 6].map(|()| delete(&admin, &path, "l"));
    for answer in futures_util::future::join_all(all).await {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(receipts(&admin).await.len(), 2);
}

/// Sends a request with the wire cut, and once more after a restart. Returns whether the cut was reached.
async fn repeated_after(ground: &Arc<Ground>, cut: Cut, k: usize, ends_login: bool) -> bool {
    let hawser = Hawser::on(ground.clone()).await;
    let admin = hawser.admin("acme");
    admin.register("wiki", per_user(), &["ada"]).await;
    let tokens = plain(&hawser, "user:ada").await;
    let path = match ends_login {
        true => format!("/v1/logins/{}", only(&tokens.caller(&hawser)).await),
        false => ADA.to_owned(),
    };
    hawser.wire.arm(Some(cut));
    let first = delete(&admin, &path, "k").await;
    let reached = hawser.wire.sent().len() > k;
    drop(hawser);

    let next = Hawser::on(ground.clone()).await;
    let admin = next.admin("acme");
    let again = delete(&admin, &path, "k").await;
    assert!([200, 202].contains(&again.status), "{cut:?}: {again:?}");
    if first.status < 300 {
        assert_eq!(receipt_of(&again), receipt_of(&first), "{cut:?}");
    }
    while process_due(&next.app, ample()).await.unwrap_or(false) {}
    let listed = receipts(&admin).await;
    assert_eq!(listed.len(), 1, "{cut:?}: {listed:?}");
    assert_eq!(listed[0]["removed"]["logins"], 1, "{cut:?}");
    assert_eq!(listed[0]["state"], "complete", "{cut:?}");
    reached
}

#[tokio::test]
async fn a_repeat_after_a_crash_anywhere_leads_to_one_receipt() {
    for ends_login in [true, false] {
        for cut in [Cut::Before as fn(usize) -> Cut, Cut::After, Cut::Answer] {
            let mut k = 0;
            while repeated_after(&Ground::new().await, cut(k), k, ends_login).await {
                k += 1;
            }
            assert!(k > 3, "several requests are made, not {k}");
        }
    }
}

#[tokio::test]
async fn a_key_is_one_word_of_visible_characters() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let long = "k".repeat(256);
    for key in ["", "\"\"", "a b", "a\"b", "\"a", "zo\u{eb}", &long] {
        let answer = delete(&admin, ADA, key).await;
        assert_eq!(answer.status, 400, "{key}: {answer:?}");
        let detail = &answer.json()["detail"];
        assert_eq!(detail, "The value of Idempotency-Key is not valid.");
    }
    let twice = [("idempotency-key", "a"), ("idempotency-key", "a")];
    let answer = admin.send("DELETE", ADA, &twice, Vec::new()).await;
    assert_eq!(answer.status, 400);
    assert_eq!(delete(&hawser.anonymous(), ADA, "").await.status, 401);
    assert!(receipts(&admin).await.is_empty());
    assert_eq!(delete(&admin, ADA, &long[..255]).await.status, 200);
}
