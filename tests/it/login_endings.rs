//! The ends of logins: whoever ends one, none of its tokens is taken afterwards, whatever is on its way or dies meanwhile.

use crate::harness::{Answer, Hawser};
use crate::logins::*;
use crate::upstream::{MODERN, Reply, Upstream, call, is_served, open, register, soon};
use aws_sdk_dynamodb::types::AttributeValue;
use hawser_core::operations::integrity::examine;
use serde_json::{Value, json};
use std::time::Duration;

const ADA: &str = "/v1/subjects/user/ada/credentials";

/// Tokens of somebody who may call servers and has no role.
pub async fn plain(hawser: &Hawser, user: &str) -> Tokens {
    let mut allowed = allowed(hawser, "acme", user).await;
    allowed.identity.roles.clear();
    signed_in_as(hawser, allowed).await
}

/// Ends the login of these tokens in one of the ways in which that can be asked for.
pub async fn end(hawser: &Hawser, how: &str, id: &str, tokens: &Tokens) -> Answer {
    let admin = hawser.admin("acme");
    match how {
        "by its subject" => {
            let path = format!("/v1/logins/{id}");
            tokens.caller(hawser).delete(&path).await
        }
        "by an admin" => admin.delete(&format!("/v1/logins/{id}")).await,
        "by its refresh token" => revoke(hawser, &tokens.refresh).await,
        "by its access token" => revoke(hawser, &tokens.access).await,
        "by offboarding" => admin.delete(ADA).await,
        _ => panic!("{how}"),
    }
}

pub const WAYS: [(&str, &str); 5] = [
    ("by its subject", "removed"),
    ("by an admin", "removed"),
    ("by its refresh token", "revoked"),
    ("by its access token", "revoked"),
    ("by offboarding", "offboarded"),
];

#[tokio::test]
async fn a_login_that_was_ended_is_refused_at_once_and_has_a_receipt_and_an_event() {
    for (how, cause) in WAYS {
        let hawser = Hawser::start().await;
        let tokens = plain(&hawser, "user:ada").await;
        let other = plain(&hawser, "user:bob").await;
        let id = only(&tokens.caller(&hawser)).await;
        let ended = end(&hawser, how, &id, &tokens).await;
        assert_eq!(ended.status, 200, "{how}: {ended:?}");
        assert!(!works(&hawser, &tokens).await, "{how}");
        is_refused(
            &refresh(&hawser, &tokens.refresh).await,
            400,
            "invalid_grant",
        );
        assert!(works(&hawser, &other).await, "{how}");
        let admin = hawser.admin("acme");
        assert_eq!(listed(&admin).await.len(), 1, "{how}");
        let again = admin.delete(&format!("/v1/logins/{id}")).await;
        assert_eq!(again.status, 404, "{how}");
        let receipts = admin
            .get("/v1/receipts?subjectType=user&subjectId=ada")
            .await;
        let receipts = receipts.json()["data"].as_array().unwrap().clone();
        assert_eq!(receipts.len(), 1, "{how}");
        let removed = json!({"oauthRecords": 0, "overrides": 0, "logins": 1});
        assert_eq!(
            (&receipts[0]["removed"], &receipts[0]["state"]),
            (&removed, &json!("complete")),
            "{how}"
        );
        if cause != "offboarded" {
            assert_eq!(receipts[0]["loginId"], id.as_str());
            assert_eq!(receipts[0]["kind"], "end-login");
        }
        let told = ends(&hawser).await;
        assert_eq!(told.len(), 1, "{how}");
        assert_eq!(
            (
                &told[0]["cause"],
                &told[0]["loginId"],
                &told[0]["receiptId"]
            ),
            (&json!(cause), &json!(id), &receipts[0]["id"])
        );
        let left = hawser.ground().items().await;
        let of_login = |item: &&Value| item["SK"].as_str().unwrap().ends_with(&id);
        assert_eq!(left.iter().filter(of_login).count(), 0, "{how}: {left:?}");
        hawser.run_workers().await;
    }
}

#[tokio::test]
async fn a_login_is_seen_and_ended_by_its_subject_and_by_managers_alone() {
    let hawser = Hawser::start().await;
    let (ada, bob) = (
        plain(&hawser, "user:ada").await,
        plain(&hawser, "user:bob").await,
    );
    let (ada, bob) = (ada.caller(&hawser), bob.caller(&hawser));
    let (hers, his) = (only(&ada).await, only(&bob).await);
    let path = format!("/v1/logins/{hers}");
    assert_eq!(bob.delete(&path).await.status, 404);
    let of_ada = "/v1/logins?subjectType=user&subjectId=ada";
    assert_eq!(bob.get(of_ada).await.status, 403);
    assert_eq!(ada.get(of_ada).await.json()["data"][0]["id"], hers.as_str());
    let admin = hawser.admin("acme");
    let ids = |answer: Answer| -> Vec<Value> {
        let data = answer.json()["data"].as_array().unwrap().clone();
        data.iter().map(|one| one["id"].clone()).collect()
    };
    assert_eq!(
        ids(admin.get("/v1/logins").await),
        [json!(his), json!(hers)]
    );
    assert_eq!(ids(admin.get(of_ada).await), [json!(hers)]);
    let page = admin.get("/v1/logins?limit=1").await;
    assert_eq!(page.json()["next"], his.as_str());
    let next = format!("/v1/logins?limit=1&before={his}");
    let rest = admin.get(&next).await;
    assert_eq!(
        (ids(rest.clone()), &rest.json()["next"]),
        (vec![json!(hers)], &Value::Null)
    );
    assert_eq!(ids(hawser.admin("other").get("/v1/logins").await).len(), 0);
    let one = admin.get(of_ada).await.json()["data"][0].clone();
    assert_eq!(
        (&one["clientName"], &one["redirectHost"], &one["resources"]),
        (&json!("Agent"), &json!("127.0.0.1"), &json!([hawser.url]))
    );
    let dry = admin.delete(&format!("{path}?dryRun=true")).await;
    let removed = json!({"oauthRecords": 0, "overrides": 0, "logins": 1});
    dry.is(
        200,
        json!({"data": {"dryRun": true, "removed": removed, "subjects": 1, "issuers": []}}),
    );
    let dry = admin.delete(&format!("{ADA}?dryRun=true")).await.json();
    assert_eq!(dry["data"]["removed"], removed);
    assert_eq!(
        admin.delete(&format!("{path}?dryrun=true")).await.status,
        400
    );
    assert_eq!(ada.get("/v1/receipts").await.status, 200);
    let ended = admin.delete(&path).await;
    assert_eq!(ended.status, 200);
    let receipt = ended.header("hawser-receipt").unwrap();
    assert_eq!(ended.json()["data"]["id"], receipt.as_str());
    let bad = admin.delete("/v1/logins/nothing").await;
    assert_eq!(bad.status, 404);
}

#[tokio::test]
async fn calls_with_a_login_cost_one_read() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let wiki = register(&hawser, "wiki", &upstream.url, json!({})).await;
    let tokens = sign_in(&hawser, "user:ada").await;
    let ada = tokens.caller(&hawser);
    let status = format!("/api/svc/v1/mcp/{wiki}/auth/status?subjectId=ada&subjectType=user");
    is_served(&ada, &wiki).await;
    hawser.wire.arm(None);
    is_served(&ada, &wiki).await;
    assert_eq!(hawser.wire.operations(), ["BatchGetItem"]);
    hawser.wire.arm(None);
    assert_eq!(ada.get(&status).await.status, 200);
    assert_eq!(hawser.wire.operations(), ["BatchGetItem"]);
    // What has been ended is refused by that read.
    let id = only(&ada).await;
    assert_eq!(ada.delete(&format!("/v1/logins/{id}")).await.status, 200);
    hawser.wire.arm(None);
    assert_eq!(call(&ada, &wiki).await.status, 401);
    assert_eq!(hawser.wire.operations(), ["BatchGetItem"]);
}

#[tokio::test]
async fn an_open_stream_ends_with_its_login() {
    for (how, _) in WAYS {
        let hawser = Hawser::start_with(|app| app.stream_check = Duration::from_millis(20)).await;
        let upstream = Upstream::start().await;
        let wiki = register(&hawser, "wiki", &upstream.url, json!({})).await;
        let tokens = plain(&hawser, "user:ada").await;
        let ada = tokens.caller(&hawser);
        let id = only(&ada).await;
        let (reply, stream) = Reply::stream();
        upstream.reply(reply);
        let mut answer = open(&hawser, &ada, "POST", &wiki, &[MODERN]).await;
        assert_eq!(answer.status(), 200);
        stream.send("data: 1\n\n");
        assert!(soon(answer.chunk()).await.unwrap().is_some());
        // A refresh ends nothing.
        let tokens = Tokens::of(&refresh(&hawser, &tokens.refresh).await);
        stream.send("data: 2\n\n");
        assert!(soon(answer.chunk()).await.unwrap().is_some());
        assert_eq!(end(&hawser, how, &id, &tokens).await.status, 200, "{how}");
        assert!(!matches!(soon(answer.chunk()).await, Ok(Some(_))), "{how}");
        soon(stream.closed()).await;
    }
}

#[tokio::test]
async fn the_integrity_check_knows_logins_and_mends_their_pointers() {
    let hawser = Hawser::start().await;
    let client = hawser.ground().dynamodb();
    let (ada, bob) = (
        plain(&hawser, "user:ada").await,
        plain(&hawser, "user:bob").await,
    );
    let (hers, his) = (
        only(&ada.caller(&hawser)).await,
        only(&bob.caller(&hawser)).await,
    );
    for sk in [format!("LOGIN#{hers}"), format!("LOGINOF#user#bob#{his}")] {
        let delete = client.delete_item().table_name(hawser_local::TABLE);
        let delete = delete.key("PK", AttributeValue::S("T#acme".to_owned()));
        delete
            .key("SK", AttributeValue::S(sk))
            .send()
            .await
            .unwrap();
    }
    assert!(!works(&hawser, &ada).await);
    let (table, now) = (&hawser.app.table, hawser.app.now());
    let report = examine(table, None, now, true).await.unwrap();
    let found: Vec<_> = report
        .orphans
        .iter()
        .map(|(one, mended)| (one.kind.as_str(), *mended))
        .collect();
    assert_eq!(
        found,
        [("dangling-pointer", true), ("missing-pointer", true)]
    );
    hawser.run_workers().await;
    let path = "/v1/subjects/user/bob/credentials";
    assert_eq!(hawser.admin("acme").delete(path).await.status, 200);
    assert!(!works(&hawser, &bob).await);
}

#[tokio::test]
async fn a_page_of_logins_costs_one_query_of_its_size() {
    let hawser = Hawser::start().await;
    let mut all = Vec::new();
    for user in ["ada", "bob", "ada", "eve", "ada"] {
        let tokens = plain(&hawser, &format!("user:{user}")).await;
        let newest = listed(&tokens.caller(&hawser)).await[0]["id"].clone();
        all.insert(0, newest.as_str().unwrap().to_owned());
    }
    let admin = hawser.admin("acme");
    for (query, wanted, requests) in [
        ("", vec![0, 1, 2, 3, 4], vec!["Query"]),
        (
            "&subjectType=user&subjectId=ada",
            vec![0, 2, 4],
            vec!["Query", "BatchGetItem"],
        ),
    ] {
        let (mut seen, mut before) = (Vec::new(), String::new());
        loop {
            hawser.wire.arm(None);
            let page = admin
                .get(&format!("/v1/logins?limit=2{query}{before}"))
                .await
                .json();
            assert_eq!(hawser.wire.operations(), requests, "{query}");
            assert_eq!(hawser.wire.sent()[0].body["Limit"], 4);
            let data = page["data"].as_array().unwrap();
            assert!(data.len() <= 2);
            seen.extend(
                data.iter()
                    .map(|one| one["id"].as_str().unwrap().to_owned()),
            );
            match page["next"].as_str() {
                Some(next) => before = format!("&before={next}"),
                None => break,
            }
        }
        let wanted: Vec<_> = wanted
            .into_iter()
            .map(|at: usize| all[at].clone())
            .collect();
        assert_eq!(seen, wanted, "{query}");
    }
}

#[tokio::test]
async fn a_dry_run_of_an_offboarding_names_subjects_that_have_logins_alone() {
    let hawser = Hawser::start().await;
    for user in ["user:ada", "user:ADA ", "user:bob"] {
        plain(&hawser, user).await;
    }
    let path = "/v1/subjects/user/Ada/credentials?dryRun=true";
    let dry = hawser.admin("acme").delete(path).await.json();
    assert_eq!(dry["data"]["nearMatches"], json!(["ADA ", "ada"]));
    assert_eq!(dry["data"]["removed"]["logins"], 0);
}
