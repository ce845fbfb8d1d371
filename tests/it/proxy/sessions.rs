//! Sessions of MCP: whose they are, and when they are over.

use crate::harness::Hawser;
use crate::issuer::{Fault, Issuer};
use crate::upstream::*;
use serde_json::{Value, json};

#[tokio::test]
async fn a_session_has_another_name_here() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let mcp = register(&hawser, "wiki", &upstream.url, per_user()).await;
    for name in ["ada", "bob"] {
        install(&hawser, &mcp, name, own(name)).await;
    }
    let (ada, bob) = (user(&hawser, "ada"), user(&hawser, "bob"));
    let ours = initialize(&ada, &mcp).await;
    assert!(!ours.contains("theirs") && ours.len() >= 43, "{ours}");
    let again = initialize(&ada, &mcp).await;
    assert_ne!(ours, again);
    let items = hawser.ground().items().await;
    let stored = Value::from(items).to_string();
    assert!(
        !stored.contains(&ours) && !stored.contains("theirs-"),
        "neither id is in the table"
    );
    for method in ["POST", "GET", "DELETE"] {
        let path = format!("/mcp/{mcp}");
        let body = message("tools/list").to_string().into();
        let headers = [
            (SESSION, ours.as_str()),
            ("mcp-protocol-version", "2025-11-25"),
        ];
        let answer = ada.send(method, &path, &headers, body).await;
        assert_eq!(answer.status, 200, "{method} {answer:?}");
        assert_eq!(answer.header(SESSION), Some(ours.clone()), "{method}");
        let seen = upstream.last();
        assert_eq!(
            (seen.method.as_str(), seen.header(SESSION)),
            (method, Some("theirs-1"))
        );
        assert_eq!(seen.body.is_empty(), method != "POST");
    }
    // It was deleted just now; the other one is bob's as little as anything else.
    let before = upstream.count();
    let foreign = format!("{again}x");
    for (caller, id) in [
        (&ada, &ours),
        (&bob, &again),
        (&ada, &foreign),
        (&ada, &"theirs-2".to_owned()),
    ] {
        let answer = send(caller, &mcp, &[(SESSION, id)], message("tools/list")).await;
        is_session_gone(&answer, id);
    }
    let other = register(&hawser, "other", &upstream.url, json!({})).await;
    let answer = send(&ada, &other, &[(SESSION, &again)], message("tools/list")).await;
    is_session_gone(&answer, &again);
    // Not even where everybody's calls carry the same.
    let shared = initialize(&ada, &other).await;
    let answer = send(&bob, &other, &[(SESSION, &shared)], message("tools/list")).await;
    is_session_gone(&answer, &shared);
    let before = before + 1;
    assert_eq!(upstream.count(), before);
    let answer = send(&ada, &mcp, &[(SESSION, &again)], message("tools/list")).await;
    assert_eq!(
        (answer.status, upstream.last().header(SESSION)),
        (200, Some("theirs-2"))
    );
}

#[tokio::test]
async fn requests_of_the_stateless_revision_have_no_session() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let mcp = register(&hawser, "wiki", &upstream.url, json!({})).await;
    let ada = user(&hawser, "ada");
    let answer = send(&ada, &mcp, &[MODERN, (SESSION, "x")], message("initialize")).await;
    assert_eq!((answer.status, answer.header(SESSION)), (200, None));
    assert_eq!(upstream.last().header(SESSION), None);
    // What is no date that sorts is no newer revision.
    for version in ["2025-11-25", "9", "2026-7-28", "draft", "2026-07-28x"] {
        let headers = [("mcp-protocol-version", version)];
        let answer = send(&ada, &mcp, &headers, message("initialize")).await;
        assert!(answer.header(SESSION).is_some(), "{version}");
    }
    for (method, version, allow) in [
        ("GET", "2026-07-28", "POST"),
        ("DELETE", "2027-01-01", "POST"),
        ("GET", "2026-07-28", "POST"),
    ] {
        let headers = [("mcp-protocol-version", version)];
        let answer = ada
            .send(method, &format!("/mcp/{mcp}"), &headers, Vec::new())
            .await;
        assert_eq!(
            (answer.status, answer.header("allow").as_deref()),
            (405, Some(allow))
        );
    }
    let answer = ada
        .send("PUT", &format!("/mcp/{mcp}"), &[], Vec::new())
        .await;
    assert_eq!(answer.status, 405);
    assert_eq!(
        answer.header("allow").as_deref(),
        Some("DELETE, GET, HEAD, POST")
    );
    assert_eq!(upstream.count(), 6);
}

#[tokio::test]
async fn a_session_is_over_with_what_its_server_was() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let shared =
        |value: &str| json!({"auth_data": {"type": "header", "headers": {"X-Key": value}}});
    let mcp = register(&hawser, "wiki", &upstream.url, shared("one")).await;
    let ada = user(&hawser, "ada");
    for end in ["rotate", "move", "retype", "delete"] {
        let session = initialize(&ada, &mcp).await;
        let headers = [(SESSION, session.as_str())];
        assert_eq!(send(&ada, &mcp, &headers, message("a")).await.status, 200);
        // What does not concern it leaves it alone.
        install(&hawser, &mcp, "bob", own("v")).await;
        assert_eq!(
            send(&ada, &mcp, &headers, message("a")).await.status,
            200,
            "before {end}"
        );
        match end {
            "rotate" => {
                register(&hawser, "wiki", &upstream.url, shared("two")).await;
            }
            "move" => {
                let url = format!("{}/elsewhere", upstream.url);
                register(&hawser, "wiki", &url, shared("two")).await;
            }
            "retype" => {
                register(&hawser, "wiki", &upstream.url, json!({})).await;
                register(&hawser, "wiki", &upstream.url, shared("two")).await;
            }
            _ => {
                let admin = hawser.admin("acme");
                assert_eq!(admin.delete(&format!("{MCP}/{mcp}")).await.status, 200);
            }
        }
        let before = upstream.count();
        let answer = send(&ada, &mcp, &headers, message("tools/call")).await;
        is_session_gone(&answer, &session);
        assert_eq!(upstream.count(), before, "{end}");
    }
    let answer = send(&ada, &mcp, &[], message("tools/call")).await;
    is_refused(
        &answer,
        200,
        -32001,
        "MCP server not found or not accessible",
        Value::Null,
    );
    hawser.run_workers().await;
    let items = hawser.ground().items().await;
    assert!(
        items.iter().all(|item| item["entity"] != "mcp-session"),
        "the purge takes them"
    );
}

#[tokio::test]
async fn a_session_lasts_a_day() {
    let upstream = Upstream::start().await;
    let hawser = Hawser::start_by_hand().await;
    let mcp = register(&hawser, "wiki", &upstream.url, json!({})).await;
    let ada = user(&hawser, "ada");
    let session = initialize(&ada, &mcp).await;
    for (pass, status) in [(24 * 3600 - 1, 200), (1, 404)] {
        hawser.pass(pass);
        let answer = send(&ada, &mcp, &[(SESSION, &session)], message("tools/list")).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
}

#[tokio::test]
async fn a_session_outlives_a_refresh_and_not_its_consent() {
    let (hawser, issuer) = (Hawser::start().await, Issuer::start().await);
    let mcp = register(&hawser, "wiki", &issuer.mcp_url(), oauth()).await;
    connect(&hawser, &issuer, &mcp, "ada").await;
    let ada = user(&hawser, "ada");
    issuer.fault(Fault {
        status: Some(200),
        headers: vec![(SESSION, "theirs".to_owned())],
        body: "{}".to_owned(),
        ..Fault::once("/mcp")
    });
    let session = initialize(&ada, &mcp).await;
    let headers = [(SESSION, session.as_str())];
    issuer.expire(&issuer.issued()[0].access);
    assert_eq!(send(&ada, &mcp, &headers, message("a")).await.status, 200);
    assert_eq!(issuer.issued().len(), 2, "refreshed");
    let last = issuer
        .log()
        .into_iter()
        .rfind(|one| one.path == "/mcp")
        .unwrap();
    assert_eq!(last.header(SESSION), Some("theirs"));
    assert_eq!(send(&ada, &mcp, &headers, message("a")).await.status, 200);
    disconnect(&hawser, &mcp, "ada", "oauth").await;
    let before = issuer.count("POST", "/mcp");
    let answer = send(&ada, &mcp, &headers, message("a")).await;
    assert_eq!(
        answer.json()["error"]["data"]["reason"],
        "revoked",
        "{answer:?}"
    );
    assert_eq!(issuer.count("POST", "/mcp"), before);
}
