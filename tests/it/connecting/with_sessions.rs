//! Clients of the session era: they are given an address by an error, and their session is opened at the server late.

use super::{handshake, in_session, initialize_with, opens_urls, tool_call, with_sessions};
use crate::harness::{Answer, Hawser};
use crate::issuer::{Fault, Issuer};
use crate::upstream::*;
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The address and the id of the one elicitation that an error names.
#[track_caller]
fn required(answer: &Answer) -> (String, String) {
    let error = answer.json()["error"].clone();
    assert_eq!(
        (answer.status, &error["code"]),
        (200, &json!(-32042)),
        "{answer:?}"
    );
    let all = error["data"]["elicitations"].as_array().unwrap();
    assert_eq!((all.len(), &all[0]["mode"]), (1, &json!("url")));
    assert!(
        all[0]["message"].as_str().unwrap().contains("wiki"),
        "{error}"
    );
    let text = |name: &str| all[0][name].as_str().unwrap().to_owned();
    assert!(text("url").contains("/oauth/start?session="));
    (text("url"), text("elicitationId"))
}

#[tokio::test]
async fn a_client_that_opens_addresses_is_given_one_by_an_error() {
    let (hawser, issuer) = (Hawser::start().await, Issuer::start().await);
    let mcp = register(&hawser, "wiki", &issuer.mcp_url(), oauth()).await;
    let ada = user(&hawser, "ada");
    let session = handshake(&ada, &mcp, opens_urls()).await;
    let first = required(&in_session(&ada, &mcp, &session, tool_call("search")).await);
    for method in ["prompts/get", "resources/read"] {
        assert_eq!(
            required(&in_session(&ada, &mcp, &session, message(method)).await),
            first
        );
    }
    // Nothing else is answered so.
    let answer = in_session(&ada, &mcp, &session, message("resources/list")).await;
    let error = answer.json()["error"].clone();
    assert_eq!(
        (answer.status, &error["code"]),
        (200, &json!(-32001)),
        "{answer:?}"
    );
    assert!(
        error["message"].as_str().unwrap().contains(&first.0),
        "{error}"
    );
    // A client that has not said that it opens addresses, one that has forms alone, and one without a session.
    for capabilities in [
        json!({}),
        json!({"elicitation": {}}),
        json!({"elicitation": {"form": {}}}),
    ] {
        let session = handshake(&ada, &mcp, capabilities).await;
        let answer = in_session(&ada, &mcp, &session, tool_call("search")).await;
        assert_eq!(told(&answer).as_ref(), Some(&first.0));
        let error = in_session(&ada, &mcp, &session, message("prompts/get"))
            .await
            .json()["error"]
            .clone();
        assert_eq!(error["code"], -32001, "{error}");
    }
    assert_eq!(
        told(&send(&ada, &mcp, &[], tool_call("search")).await),
        Some(first.0)
    );
    assert_eq!(issuer.log().len(), 0);
}

#[tokio::test]
async fn the_session_is_opened_late_with_what_the_client_had_said() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    with_sessions(&upstream, "2025-03-26");
    let mcp = register(&hawser, "wiki", &upstream.url, per_user()).await;
    let ada = user(&hawser, "ada");
    let capabilities = json!({"roots": {"listChanged": true}, "elicitation": {"url": {}}});
    let said = initialize_with(capabilities.clone());
    let session = handshake(&ada, &mcp, capabilities).await;
    let stored = Value::from(hawser.ground().items().await).to_string();
    assert!(!stored.contains("a client"), "what it said is sealed");
    assert_eq!(upstream.count(), 0);
    install(&hawser, &mcp, "ada", own("v")).await;
    let answer = in_session(&ada, &mcp, &session, message("tools/list")).await;
    assert_eq!(
        answer.json()["result"]["tools"][0]["name"],
        "search",
        "{answer:?}"
    );
    let seen = upstream.seen();
    let methods: Vec<_> = seen
        .iter()
        .map(|one| one.message()["method"].clone())
        .collect();
    assert_eq!(
        methods,
        ["initialize", "notifications/initialized", "tools/list"]
    );
    assert_eq!(seen[0].message()["params"], said["params"]);
    for (at, one) in seen.iter().enumerate() {
        assert_eq!(one.header("x-key"), Some("Key v"));
        let named = (one.header(SESSION), one.header("mcp-protocol-version"));
        // The revision is the one that the server has agreed on.
        let expected = if at == 0 {
            (None, None)
        } else {
            (Some("theirs-1"), Some("2025-03-26"))
        };
        assert_eq!(named, expected, "{at}");
    }
    let answer = in_session(&ada, &mcp, &session, tool_call("search")).await;
    assert_eq!(answer.json()["result"]["content"][0]["text"], "called");
    assert_eq!(upstream.count(), 4, "it is opened once");
    assert_eq!(upstream.last().header(SESSION), Some("theirs-1"));
}

#[tokio::test]
async fn a_session_is_opened_anew_with_another_credential() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    with_sessions(&upstream, "2025-06-18");
    let mcp = register(&hawser, "wiki", &upstream.url, per_user()).await;
    install(&hawser, &mcp, "ada", own("one")).await;
    let ada = user(&hawser, "ada");
    let said = initialize_with(json!({"roots": {}}));
    // The server answers this handshake, the first of its sessions.
    let session = handshake(&ada, &mcp, json!({"roots": {}})).await;
    let stored = Value::from(hawser.ground().items().await).to_string();
    assert!(!stored.contains("a client"), "what it said is sealed");
    for (value, theirs) in [("two", "theirs-2"), ("three", "theirs-3")] {
        if value == "three" {
            disconnect(&hawser, &mcp, "ada", "auth-override").await;
            let before = upstream.count();
            let answer = in_session(&ada, &mcp, &session, tool_call("search")).await;
            assert_eq!(answer.json()["result"]["isError"], true, "{answer:?}");
            assert_eq!(upstream.count(), before, "it has gone on without one");
        }
        install(&hawser, &mcp, "ada", own(value)).await;
        let before = upstream.count();
        let answer = in_session(&ada, &mcp, &session, tool_call("search")).await;
        assert_eq!(
            answer.json()["result"]["content"][0]["text"],
            "called",
            "{answer:?}"
        );
        let seen = upstream.seen().split_off(before);
        let methods: Vec<_> = seen
            .iter()
            .map(|one| one.message()["method"].clone())
            .collect();
        assert_eq!(
            methods,
            ["initialize", "notifications/initialized", "tools/call"]
        );
        assert_eq!(seen[0].message()["params"], said["params"]);
        let key = format!("Key {value}");
        for (one, named) in seen.iter().zip([None, Some(theirs), Some(theirs)]) {
            assert_eq!(
                (one.header("x-key"), one.header(SESSION)),
                (Some(key.as_str()), named)
            );
        }
        // Ids of events are those of the session of before, which is another one to the server.
        let headers = [(SESSION, session.as_str()), ("last-event-id", "before-7")];
        send(&ada, &mcp, &headers, message("tools/list")).await;
        assert_eq!(upstream.last().header("last-event-id"), None);
    }
}

#[tokio::test]
async fn a_session_asks_for_a_consent_again_when_there_is_none_any_more() {
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
    let session = handshake(&ada, &mcp, opens_urls()).await;
    disconnect(&hawser, &mcp, "ada", "oauth").await;
    let before = issuer.count("POST", "/mcp");
    let (url, _) = required(&in_session(&ada, &mcp, &session, tool_call("search")).await);
    let listed = in_session(&ada, &mcp, &session, message("tools/list")).await;
    assert_eq!(listed.json()["result"]["tools"][0]["name"], "connect");
    assert_eq!(issuer.count("POST", "/mcp"), before);
    consent(&issuer, &url).await;
    let seen = issuer.log().len();
    in_session(&ada, &mcp, &session, tool_call("search")).await;
    let log = issuer.log();
    let first = log[seen..].iter().find(|one| one.path == "/mcp").unwrap();
    assert_eq!(first.header(SESSION), None, "the session of before is used");
}

#[tokio::test]
async fn a_session_of_a_kambrium_credential_is_over_with_what_it_rests_on() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    with_sessions(&upstream, "2025-06-18");
    let mcp = register(&hawser, "wiki", &upstream.url, per_user()).await;
    install(&hawser, &mcp, "ada", own("one")).await;
    let number = hawser.admin("acme").registered(&mcp).await.number;
    let bound = json!({"scope": "mcp.read mcp.write", "mcp_server_id": number});
    let ada = hawser.caller("acme", "ada", bound);
    let session = handshake(&ada, &mcp, json!({})).await;
    let answer = in_session(&ada, &mcp, &session, message("tools/list")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    install(&hawser, &mcp, "ada", own("two")).await;
    let answer = in_session(&ada, &mcp, &session, message("tools/list")).await;
    is_session_gone(&answer, &session);
}

#[tokio::test]
async fn requests_at_once_open_one_session() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    with_sessions(&upstream, "2025-06-18");
    let mcp = register(&hawser, "wiki", &upstream.url, per_user()).await;
    let ada = user(&hawser, "ada");
    let session = handshake(&ada, &mcp, json!({})).await;
    install(&hawser, &mcp, "ada", own("v")).await;
    let calls = (0..8).map(|_| in_session(&ada, &mcp, &session, tool_call("search")));
    for answer in join_all(calls).await {
        assert_eq!(
            answer.json()["result"]["content"][0]["text"],
            "called",
            "{answer:?}"
        );
    }
    let seen = upstream.seen();
    let of = |method: &str| {
        let all = seen.iter().filter(|one| one.message()["method"] == method);
        all.map(|one| one.header(SESSION).map(str::to_owned))
            .collect::<Vec<_>>()
    };
    let used: BTreeSet<_> = of("tools/call").into_iter().collect();
    assert_eq!(used.len(), 1);
    let opened = of("initialize").len();
    let closed = seen.iter().filter(|one| one.method == "DELETE");
    let closed: BTreeSet<_> = closed
        .map(|one| one.header(SESSION).map(str::to_owned))
        .collect();
    assert_eq!(closed.len(), opened - 1, "the others were closed");
    assert!(closed.is_disjoint(&used));
}

#[tokio::test]
async fn a_session_that_is_not_open_yet_is_its_subject_s_at_its_server() {
    let upstream = Upstream::start().await;
    let hawser = Hawser::start_by_hand().await;
    let mcp = register(&hawser, "wiki", &upstream.url, per_user()).await;
    let other = register(&hawser, "other", &upstream.url, per_user()).await;
    let (ada, bob) = (user(&hawser, "ada"), user(&hawser, "bob"));
    let session = handshake(&ada, &mcp, json!({})).await;
    for (caller, mcp) in [(&bob, &mcp), (&ada, &other)] {
        let answer = in_session(caller, mcp, &session, message("ping")).await;
        is_session_gone(&answer, &session);
    }
    for (pass, status) in [(24 * 3600 - 1, 200), (1, 404)] {
        hawser.pass(pass);
        let answer = in_session(&ada, &mcp, &session, message("ping")).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
    // It ends with what the server was, and when its client closes it.
    let session = handshake(&ada, &mcp, json!({})).await;
    let moved = format!("{}/elsewhere", upstream.url);
    register(&hawser, "wiki", &moved, per_user()).await;
    let answer = in_session(&ada, &mcp, &session, message("ping")).await;
    is_session_gone(&answer, &session);
    let session = handshake(&ada, &mcp, json!({})).await;
    let path = format!("/mcp/{mcp}");
    let closed = ada
        .send("DELETE", &path, &[(SESSION, &session)], Vec::new())
        .await;
    assert_eq!(closed.status, 204, "{closed:?}");
    let answer = in_session(&ada, &mcp, &session, message("ping")).await;
    is_session_gone(&answer, &session);
    assert_eq!(upstream.count(), 0);
}
