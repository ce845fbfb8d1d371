//! Calls to MCP servers through Hawser: what arrives there, what comes back, and when nothing is sent at all. The judge is
//! the server's own log.

use crate::harness::{Answer, Hawser};
use crate::issuer::{Fault, Issuer};
use crate::upstream::*;
use hawser_core::egress::Egress;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;

#[tokio::test]
async fn exactly_the_listed_headers_arrive() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let auth = json!({"auth_data": {"type": "header", "headers": {"X-Key": "stored", "Accept": "stored/type"}}});
    let mcp = register(&hawser, "wiki", &format!("{}?a=b", upstream.url), auth).await;
    let ada = user(&hawser, "ada");
    let headers = [
        ("Content-Type", "application/json"),
        ("ACCEPT", "application/json, text/event-stream"),
        ("mcp-Protocol-version", "2026-07-28"),
        ("Mcp-Method", "tools/call"),
        ("Mcp-Name", "  a b"),
        ("Mcp-Param-Region", "=?base64?eA==?="),
        ("Mcp-Param-Region", "second"),
        ("Mcp-Param-Nominated", "dropped"),
        ("Last-Event-Id", "e-1"),
        ("Traceparent", "00-a-b-01"),
        ("Tracestate", "v=1"),
        ("Connection", "keep-alive, Mcp-Param-Nominated"),
        // Planted.
        ("X-KEY", "planted"),
        ("x-key", "planted"),
        ("X-Api-Key", "hwk_planted"),
        ("Cookie", "planted"),
        ("Cookie", "planted"),
        ("Proxy-Authorization", "planted"),
        ("Proxy-Connection", "planted"),
        ("Forwarded", "for=planted"),
        ("X-Forwarded-For", "planted"),
        ("X-Forwarded-Host", "planted"),
        ("X-Real-Ip", "planted"),
        ("Via", "planted"),
        ("X-Amz-Security-Token", "planted"),
        ("X-Amzn-Trace-Id", "planted"),
        ("Origin", "http://localhost:3000"),
        ("Referer", "http://planted/"),
        ("Sec-Fetch-Mode", "planted"),
        ("User-Agent", "planted"),
        ("Accept-Encoding", "planted"),
        ("Mcp-Session-Id", "planted"),
        ("Mcp-Unknown", "planted"),
        ("X-Tenant-Id", "planted"),
        ("Expect", ""),
        ("Te", "trailers"),
        ("Upgrade-Insecure-Requests", "planted"),
        ("Content-Encoding", "planted"),
    ];
    let body = b"{\"id\" :7,\r\n\"x\":\"\xc3\xa9\xff\"} ".to_vec();
    let path = format!("/mcp/{mcp}?planted=1");
    let answer = ada.send("POST", &path, &headers, body.clone()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let seen = upstream.last();
    let mut arrived = seen.headers.clone();
    arrived.sort();
    let host = upstream
        .url
        .trim_start_matches("http://")
        .trim_end_matches("/mcp");
    let length = body.len().to_string();
    let agent = concat!("hawser/", env!("CARGO_PKG_VERSION"));
    let expected = [
        ("accept", "application/json, text/event-stream"),
        ("accept-encoding", "identity"),
        ("content-length", &length),
        ("content-type", "application/json"),
        ("hawser-hops", "1"),
        ("host", host),
        ("last-event-id", "e-1"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "a b"),
        ("mcp-param-region", "=?base64?eA==?="),
        ("mcp-param-region", "second"),
        ("mcp-protocol-version", "2026-07-28"),
        ("traceparent", "00-a-b-01"),
        ("tracestate", "v=1"),
        ("user-agent", agent),
        ("x-key", "stored"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(arrived, expected);
    assert_eq!(seen.path, "/mcp?a=b");
    assert_eq!(seen.body, body, "untouched");
    let bearer = &ada.headers[0].1;
    assert!(!format!("{seen:?}").contains(bearer.as_str()));
}

#[tokio::test]
async fn an_api_key_and_a_stored_authorization_do_not_mix() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let auth =
        json!({"auth_data": {"type": "header", "headers": {"authorization": "Bearer stored"}}});
    let mcp = register(&hawser, "wiki", &upstream.url, auth).await;
    let grants = json!({"permissions": ["mcp-servers:invoke"]});
    let key = hawser.api_key("acme", Some("user:ada"), grants).await;
    for caller in [key, user(&hawser, "ada")] {
        assert_eq!(call(&caller, &mcp).await.status, 200);
        let seen = upstream.last();
        assert_eq!(seen.header("authorization"), Some("Bearer stored"));
        assert_eq!(seen.header("x-api-key"), None);
    }
}

/// The headers beyond those of the transport that arrive with a call of ada's.
async fn attached(hawser: &Hawser, upstream: &Upstream, mcp: &str) -> BTreeSet<(String, String)> {
    let answer = call(&user(hawser, "ada"), mcp).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let usual = [
        "accept",
        "accept-encoding",
        "content-length",
        "hawser-hops",
        "host",
        "mcp-protocol-version",
        "user-agent",
    ];
    let headers = upstream.last().headers.into_iter();
    headers
        .filter(|(name, _)| !usual.contains(&name.as_str()))
        .collect()
}

#[tokio::test]
async fn each_call_carries_the_first_credential_there_is() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let shared = |headers: Value| json!({"auth_data": {"type": "header", "headers": headers}});
    let filled = json!({"type": "header", "auth_level": "per_user",
                        "headers": {"X-One": "a {{ONE}} b", "X-Two": "{{TWO}}", "X-Both": "{{ONE}}", "X-Fixed": "fixed"}});
    let values = json!({"type": "key_value", "values": {"ONE": "1", "TWO": "2"}});
    let cases = [
        (json!({}), Value::Null, vec![]),
        (
            json!({"additional_headers": {"X-More": "more"}}),
            Value::Null,
            vec![("x-more", "more")],
        ),
        (
            shared(json!({"X-Key": "s", "Authorization": "t"})),
            Value::Null,
            vec![("authorization", "t"), ("x-key", "s")],
        ),
        // Of two of one name that of auth_data is sent.
        (
            json!({"additional_headers": {"x-key": "more", "X-More": "more"},
                   "auth_data": {"type": "header", "headers": {"X-Key": "s"}}}),
            Value::Null,
            vec![("x-key", "s"), ("x-more", "more")],
        ),
        (
            shared(json!({"X-Key": "s"})),
            own("mine"),
            vec![("x-key", "mine")],
        ),
        (
            shared(json!({"X-Key": "s", "X-Other": "t"})),
            own("mine"),
            vec![("authorization", "mine"), ("x-key", "s"), ("x-other", "t")],
        ),
        (
            shared(json!({"X-Key": "s", "Authorization": "t"})),
            own("mine"),
            vec![("authorization", "mine"), ("x-key", "s")],
        ),
        (per_user(), own("mine"), vec![("x-key", "Key mine")]),
        (
            json!({"auth_data": filled}),
            values,
            vec![
                ("x-both", "1"),
                ("x-fixed", "fixed"),
                ("x-one", "a 1 b"),
                ("x-two", "2"),
            ],
        ),
        (
            json!({"auth_data": {"type": "oauth2"}, "additional_headers": {"X-More": "more"}}),
            own("Bearer mine"),
            vec![("authorization", "Bearer mine"), ("x-more", "more")],
        ),
    ];
    for (i, (more, value, expected)) in cases.into_iter().enumerate() {
        let mcp = register(&hawser, &format!("server-{i}"), &upstream.url, more).await;
        if !value.is_null() {
            // Someone else's must not be sent instead.
            let other = match value["type"].as_str() {
                Some("header") => own("another's"),
                _ => json!({"type": "key_value", "values": {"ONE": "x", "TWO": "y"}}),
            };
            install(&hawser, &mcp, "bob", other).await;
            install(&hawser, &mcp, "ada", value).await;
        }
        let expected = expected
            .into_iter()
            .map(|(n, v)| (n.to_owned(), v.to_owned()));
        let expected: BTreeSet<_> = expected.collect();
        assert_eq!(
            attached(&hawser, &upstream, &mcp).await,
            expected,
            "case {i}"
        );
    }
}

#[tokio::test]
async fn servers_of_the_sibling_contracts_are_called_alike() {
    let upstream = Upstream::start().await;
    let pipedrive = json!({"display_name": "P", "mcp_url": upstream.url,
                           "api_key": {"header": "X-Token", "template": "Token {api_key}"}});
    let hawser = Hawser::with_integrations(&json!({"pipedrive": pipedrive})).await;
    let admin = hawser.admin("acme");
    let langsmith = |name: &str, more: Value| {
        let mut body = json!({"name": name, "url": upstream.url});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    };
    let keyed = langsmith(
        "keyed",
        json!({"headers": [{"key": "X-Key", "value": " v\t"}]}),
    );
    let provider = "5b6f6a2b-2c95-4f0f-9c2b-7c3a3e4f8d11";
    let legacy = langsmith(
        "legacy",
        json!({"auth_type": "oauth", "oauth_provider_id": provider}),
    );
    for (body, expected) in [(keyed, vec![("x-key", "v")]), (legacy, vec![])] {
        let made = admin.post("/v1/deepagents/mcp-servers", body).await;
        assert_eq!(made.status, 201, "{made:?}");
        let id = made.json()["id"].as_str().unwrap().to_owned();
        let expected = expected
            .into_iter()
            .map(|(n, v)| (n.to_owned(), v.to_owned()));
        let expected: BTreeSet<_> = expected.collect();
        assert_eq!(attached(&hawser, &upstream, &id).await, expected);
    }
    let body = json!({"mcp_server": "pipedrive", "access_type": "write", "api_key": "k"});
    let made = admin.post("/api/v1/mcp-servers", body).await.json();
    let number = made["data"]["id"].to_string();
    let expected = BTreeSet::from([("x-token".to_owned(), "Token k".to_owned())]);
    assert_eq!(attached(&hawser, &upstream, &number).await, expected);
}

#[tokio::test]
async fn every_name_of_a_server_leads_to_it() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let mcp = register(&hawser, "wiki", &upstream.url, json!({})).await;
    let admin = hawser.admin("acme");
    let shown = admin.get(&format!("{MCP}/{mcp}")).await.json()["data"].clone();
    let proxy = shown["proxyUrl"].as_str().unwrap();
    assert_eq!(proxy, format!("{}/mcp/v1/wiki/mcp", hawser.url));
    let list = admin.get("/v1/deepagents/mcp-servers").await.json();
    let uuid = list[0]["id"].as_str().unwrap().to_owned();
    let number = admin.get("/api/v1/mcp-servers").await.json()["data"][0]["id"].to_string();
    let ada = user(&hawser, "ada");
    let paths = [
        format!("/mcp/{mcp}"),
        format!("/mcp/{uuid}"),
        format!("/mcp/{number}"),
        "/mcp/wiki".to_owned(),
        proxy.strip_prefix(&hawser.url).unwrap().to_owned(),
    ];
    for (i, path) in paths.iter().enumerate() {
        hawser.wire.arm(None);
        let answer = ada.send(
            "POST",
            path,
            &[MODERN],
            message("tools/list").to_string().into(),
        );
        assert_eq!(answer.await.status, 200, "{path}");
        assert_eq!(upstream.count(), i + 1);
        // A number and a name lead to the id first.
        let expected = if i < 2 { 1 } else { 2 };
        assert_eq!(
            hawser.wire.operations(),
            vec!["BatchGetItem"; expected],
            "{path}"
        );
    }
    for path in [
        "/mcp/Wiki",
        "/mcp/0",
        "/mcp/01",
        "/mcp/999",
        "/mcp/v1/other/mcp",
    ] {
        let body = message("tools/list").to_string().into();
        let answer = ada.send("POST", path, &[MODERN], body).await;
        is_refused(
            &answer,
            404,
            -32001,
            "MCP server not found or not accessible",
            Value::Null,
        );
    }
    let stranger = hawser.caller("other", "ada", json!({"roles": ["admin"]}));
    let answer = call(&stranger, &mcp).await;
    is_refused(
        &answer,
        404,
        -32001,
        "MCP server not found or not accessible",
        Value::Null,
    );
    assert_eq!(upstream.count(), paths.len());
}

#[tokio::test]
async fn a_call_costs_one_read_when_warm() {
    let (hawser, issuer) = (Hawser::start().await, Issuer::start().await);
    let mcp = register(&hawser, "wiki", &issuer.mcp_url(), oauth()).await;
    connect(&hawser, &issuer, &mcp, "ada").await;
    let grants = json!({"permissions": ["mcp-servers:invoke"]});
    let key = hawser.api_key("acme", Some("user:ada"), grants).await;
    for (caller, cold) in [(user(&hawser, "ada"), 1), (key, 2)] {
        for reads in [cold, 1, 1] {
            hawser.wire.arm(None);
            assert_eq!(call(&caller, &mcp).await.status, 200);
            assert_eq!(hawser.wire.operations(), vec!["BatchGetItem"; reads]);
        }
    }
}

#[tokio::test]
async fn of_an_answer_only_listed_headers_return() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let mcp = register(&hawser, "wiki", &upstream.url, json!({})).await;
    let listed = [
        ("content-type", "application/json; x=y"),
        ("mcp-protocol-version", "2026-07-28"),
        ("allow", "POST"),
        ("retry-after", "7"),
        ("cache-control", "private"),
        ("x-accel-buffering", "no"),
    ];
    let planted = [
        "set-cookie",
        "access-control-allow-origin",
        "www-authenticate",
        "proxy-authenticate",
        "server",
        "location",
        "x-secret",
        "mcp-session-id",
        "strict-transport-security",
    ];
    for (status, body) in [
        (200, "{}"),
        (202, ""),
        (400, "modern"),
        (404, "gone"),
        (405, ""),
        (403, "no"),
        (500, "oh"),
        (503, ""),
    ] {
        let headers = listed.iter().map(|(n, v)| (*n, (*v).to_owned()));
        let headers = headers.chain(planted.map(|name| (name, "planted".to_owned())));
        upstream.reply(Reply::new(status, headers.collect(), body));
        let answer = call(&user(&hawser, "ada"), &mcp).await;
        assert_eq!((answer.status, answer.text.as_str()), (status, body));
        for (name, value) in listed {
            assert_eq!(
                answer.header(name).as_deref(),
                Some(value),
                "{status} {name}"
            );
        }
        assert!(!format!("{answer:?}").contains("planted"), "{answer:?}");
    }
}

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
async fn a_session_is_over_with_what_it_was_opened_with() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let shared =
        |value: &str| json!({"auth_data": {"type": "header", "headers": {"X-Key": value}}});
    let mcp = register(&hawser, "wiki", &upstream.url, shared("one")).await;
    let ada = user(&hawser, "ada");
    for end in [
        "install",
        "replace",
        "disconnect",
        "rotate",
        "move",
        "retype",
        "delete",
    ] {
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
            "install" | "replace" => install(&hawser, &mcp, "ada", own("v")).await,
            "disconnect" => disconnect(&hawser, &mcp, "ada", "auth-override").await,
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
        404,
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
async fn a_session_outlives_a_refresh_and_ends_with_its_consent() {
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
    is_session_gone(&answer, &session);
    assert_eq!(issuer.count("POST", "/mcp"), before);
    connect(&hawser, &issuer, &mcp, "ada").await;
    let before = issuer.count("POST", "/mcp");
    let answer = send(&ada, &mcp, &headers, message("a")).await;
    is_session_gone(&answer, &session);
    assert_eq!(issuer.count("POST", "/mcp"), before);
    assert_eq!(
        call(&ada, &mcp).await.status,
        200,
        "only the session is over"
    );
}

/// Asserts that a call failed for want of a credential; the consent URL.
#[track_caller]
fn needs_consent(answer: &Answer, reason: &str) -> String {
    let body = answer.json();
    let url = body["error"]["data"]["consentUrl"]
        .as_str()
        .unwrap_or_default();
    let text = "This MCP server needs a credential: open consentUrl to connect";
    is_refused(
        answer,
        403,
        -32001,
        text,
        json!({"reason": reason, "consentUrl": url}),
    );
    assert!(url.contains("/oauth/start?session="), "{url}");
    assert_eq!(answer.header("www-authenticate"), None);
    url.to_owned()
}

#[tokio::test]
async fn without_a_credential_the_caller_is_told_where_to_get_one() {
    let (hawser, issuer) = (Hawser::start().await, Issuer::start().await);
    let mcp = register(&hawser, "wiki", &issuer.mcp_url(), oauth()).await;
    let ada = user(&hawser, "ada");
    let url = needs_consent(&call(&ada, &mcp).await, "never_connected");
    assert_eq!(issuer.log().len(), 0, "nobody was asked");
    consent(&issuer, &url).await;
    let answer = call(&ada, &mcp).await;
    assert_eq!(answer.json()["result"]["subject"], "ada", "{answer:?}");
    let bob = call(&user(&hawser, "bob"), &mcp).await;
    needs_consent(&bob, "never_connected");
    disconnect(&hawser, &mcp, "ada", "oauth").await;
    let before = issuer.count("POST", "/mcp");
    needs_consent(&call(&ada, &mcp).await, "revoked");
    assert_eq!(issuer.count("POST", "/mcp"), before);
    // Where only a manager can help there is no address.
    let upstream = Upstream::start().await;
    let mcp = register(&hawser, "keyed", &upstream.url, per_user()).await;
    install(&hawser, &mcp, "bob", own("v")).await;
    let text = "This MCP server needs a credential that is not stored here";
    let data = json!({"reason": "never_connected"});
    is_refused(&call(&ada, &mcp).await, 403, -32001, text, data);
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn who_goes_on_calling_without_a_credential_is_told_the_same_each_time() {
    let (hawser, issuer) = (Hawser::start().await, Issuer::start().await);
    let mcp = register(&hawser, "wiki", &issuer.mcp_url(), oauth()).await;
    let ada = user(&hawser, "ada");
    let first = needs_consent(&call(&ada, &mcp).await, "never_connected");
    for _ in 0..24 {
        let again = needs_consent(&call(&ada, &mcp).await, "never_connected");
        assert_eq!(again, first);
    }
}

#[tokio::test]
async fn an_expired_token_is_refreshed_first() {
    let (hawser, issuer) = (Hawser::start().await, Issuer::start().await);
    let mcp = register(&hawser, "wiki", &issuer.mcp_url(), oauth()).await;
    issuer.configure(|s| s.access_ttl = Some(0));
    connect(&hawser, &issuer, &mcp, "ada").await;
    issuer.configure(|s| s.access_ttl = Some(3600));
    issuer.clear_log();
    assert_eq!(call(&user(&hawser, "ada"), &mcp).await.status, 200);
    assert_eq!(
        (issuer.count("POST", "/token"), issuer.count("POST", "/mcp")),
        (1, 1)
    );
    let token = issuer.issued().pop().unwrap().access;
    let arrived = issuer
        .log()
        .into_iter()
        .rfind(|one| one.path == "/mcp")
        .unwrap();
    assert_eq!(
        arrived.header("authorization"),
        Some(format!("Bearer {token}").as_str())
    );
}

#[tokio::test]
async fn a_step_up_asks_for_what_is_wanted_besides_and_is_not_repeated() {
    let (hawser, issuer) = (Hawser::start().await, Issuer::start().await);
    issuer.configure(|s| s.challenge_scope = Some("mcp:read".to_owned()));
    let mcp = register(&hawser, "wiki", &issuer.mcp_url(), oauth()).await;
    connect(&hawser, &issuer, &mcp, "ada").await;
    assert_eq!(issuer.issued()[0].scopes, ["mcp:read"]);
    let ada = user(&hawser, "ada");
    let challenge = "Bearer error=\"insufficient_scope\", scope=\"mcp:write\"";
    issuer.fault(Fault {
        status: Some(403),
        headers: vec![("www-authenticate", challenge.to_owned())],
        ..Fault::always("/mcp")
    });
    let url = needs_consent(&call(&ada, &mcp).await, "scope_insufficient");
    issuer.clear_faults();
    consent(&issuer, &url).await;
    let mut granted = issuer.issued().last().unwrap().scopes.clone();
    granted.sort_unstable();
    assert_eq!(granted, ["mcp:read", "mcp:write"]);
    assert_eq!(call(&ada, &mcp).await.status, 200);
    // Refused all the same: another consent would end like this one.
    issuer.fault(Fault {
        status: Some(403),
        headers: vec![("www-authenticate", challenge.to_owned())],
        ..Fault::always("/mcp")
    });
    let data = call(&ada, &mcp).await.json()["error"]["data"].clone();
    assert_eq!(data, json!({"reason": "scope_insufficient"}));
}

#[tokio::test]
async fn a_refused_token_is_replaced_once_and_the_call_repeated_once() {
    let (hawser, issuer) = (Hawser::start_by_hand().await, Issuer::start().await);
    let mcp = register(&hawser, "wiki", &issuer.mcp_url(), oauth()).await;
    connect(&hawser, &issuer, &mcp, "ada").await;
    let ada = user(&hawser, "ada");
    issuer.expire(&issuer.issued()[0].access);
    issuer.clear_log();
    let body =
        json!({"jsonrpc": "2.0", "id": 7, "method": "x", "params": {"long": "y".repeat(100_000)}});
    assert_eq!(send(&ada, &mcp, &[MODERN], body.clone()).await.status, 200);
    assert_eq!(
        (issuer.count("POST", "/token"), issuer.count("POST", "/mcp")),
        (1, 2)
    );
    for one in issuer.log().iter().filter(|one| one.path == "/mcp") {
        assert_eq!(one.body, body.to_string());
    }
    // A server that takes no token at all is asked twice and no more, and the issuer not at every call.
    let refusal = |status: u16, challenge: &str| Fault {
        status: Some(status),
        headers: vec![("www-authenticate", challenge.to_owned())],
        body: "foreign".to_owned(),
        ..Fault::always("/mcp")
    };
    issuer.fault(refusal(401, "Bearer realm=\"upstream\""));
    for (seconds, sent) in [(29, (0, 1)), (1, (1, 2)), (0, (0, 1))] {
        hawser.pass(seconds);
        issuer.clear_log();
        needs_consent(&call(&ada, &mcp).await, "credential_refused");
        assert_eq!(
            (issuer.count("POST", "/token"), issuer.count("POST", "/mcp")),
            sent
        );
    }
    issuer.clear_faults();
    issuer.clear_log();
    issuer.fault(refusal(
        403,
        "Bearer error=\"insufficient_scope\", scope=\"more\"",
    ));
    needs_consent(&call(&ada, &mcp).await, "scope_insufficient");
    assert_eq!(
        (issuer.count("POST", "/token"), issuer.count("POST", "/mcp")),
        (0, 1)
    );
    issuer.clear_faults();
    // Any other 403 is the server's own answer.
    issuer.fault(refusal(403, "Bearer error=\"other\""));
    let answer = call(&ada, &mcp).await;
    assert_eq!((answer.status, answer.text.as_str()), (403, "foreign"));
    assert_eq!(answer.header("www-authenticate"), None);
    issuer.clear_faults();
    // A refresh token that is over ends it.
    hawser.pass(30);
    issuer.expire(&issuer.issued().last().unwrap().access);
    issuer.fault(Fault {
        status: Some(400),
        body: r#"{"error":"invalid_grant"}"#.to_owned(),
        ..Fault::once("/token")
    });
    needs_consent(&call(&ada, &mcp).await, "invalid_grant");
}

#[tokio::test]
async fn a_refused_header_is_not_sent_again() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let shared = json!({"auth_data": {"type": "header", "headers": {"X-Key": "s"}}});
    for (i, more) in [json!({}), shared].into_iter().enumerate() {
        let mcp = register(&hawser, &format!("server-{i}"), &upstream.url, more).await;
        let challenge = ("www-authenticate", "Bearer realm=upstream".to_owned());
        upstream.reply(Reply::new(401, vec![challenge], "foreign"));
        let answer = call(&user(&hawser, "ada"), &mcp).await;
        let text = "This MCP server needs a credential that is not stored here";
        is_refused(
            &answer,
            403,
            -32001,
            text,
            json!({"reason": "credential_refused"}),
        );
        assert_eq!(answer.header("www-authenticate"), None);
        assert_eq!(upstream.count(), i + 1);
    }
}

#[tokio::test]
async fn a_servers_own_client_gets_its_token_once() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let tokens = Upstream::start().await;
    let auth = json!({"auth_data": {"type": "oauth2", "grant_type": "client_credentials", "token_url": tokens.url,
                                    "client_id": "c", "client_secret": "s", "scopes": ["a", "b"],
                                    "additional_token_params": {"audience": "x"}}});
    let mcp = register(&hawser, "wiki", &upstream.url, auth.clone()).await;
    let json = || vec![("content-type", "application/json".to_owned())];
    let token = |value: &str| {
        let body = json!({"access_token": value, "token_type": "Bearer", "expires_in": 3600});
        tokens.reply(Reply::new(200, json(), body.to_string()));
    };
    token("one");
    for caller in ["ada", "bob", "ada"] {
        assert_eq!(call(&user(&hawser, caller), &mcp).await.status, 200);
        assert_eq!(upstream.last().header("authorization"), Some("Bearer one"));
    }
    assert_eq!(tokens.count(), 1);
    let asked = String::from_utf8(tokens.last().body).unwrap();
    let form: BTreeSet<_> = url::form_urlencoded::parse(asked.as_bytes())
        .into_owned()
        .collect();
    let expected = [
        ("audience", "x"),
        ("grant_type", "client_credentials"),
        ("resource", upstream.url.as_str()),
        ("scope", "a b"),
    ];
    assert_eq!(
        form,
        expected.map(|(n, v)| (n.to_owned(), v.to_owned())).into()
    );
    assert_eq!(tokens.last().header("authorization"), Some("Basic Yzpz"));
    // One that is refused is replaced once.
    token("two");
    upstream.reply(Reply::new(401, Vec::new(), ""));
    assert_eq!(call(&user(&hawser, "ada"), &mcp).await.status, 200);
    assert_eq!(upstream.last().header("authorization"), Some("Bearer two"));
    assert_eq!((tokens.count(), upstream.count()), (2, 5));
    // A subject's own header comes first.
    install(&hawser, &mcp, "bob", own("Bearer mine")).await;
    assert_eq!(call(&user(&hawser, "bob"), &mcp).await.status, 200);
    assert_eq!(upstream.last().header("authorization"), Some("Bearer mine"));
    // Another secret, another token; one that is not given is nobody's fault here.
    let mut changed = auth;
    changed["auth_data"]["client_secret"] = "t".into();
    register(&hawser, "wiki", &upstream.url, changed).await;
    tokens.reply(Reply::new(401, json(), r#"{"error":"invalid_client"}"#));
    let text = "This MCP server needs a credential that is not stored here";
    let answer = call(&user(&hawser, "ada"), &mcp).await;
    is_refused(
        &answer,
        403,
        -32001,
        text,
        json!({"reason": "invalid_client"}),
    );
    assert_eq!((tokens.count(), upstream.count()), (3, 6));
}

#[tokio::test]
async fn a_caller_s_own_token_goes_nowhere() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let mcp = register(
        &hawser,
        "wiki",
        &upstream.url,
        json!({"auth_data": {"type": "passthrough"}}),
    )
    .await;
    let answer = call(&user(&hawser, "ada"), &mcp).await;
    let text = "This MCP server wants the caller's own token, which is never passed on";
    is_refused(
        &answer,
        403,
        -32001,
        text,
        json!({"reason": "passthrough_not_supported"}),
    );
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_redirect_leads_nowhere() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let target = Upstream::start().await;
    let mcp = register(&hawser, "wiki", &upstream.url, json!({})).await;
    for (i, status) in [301, 302, 303, 304, 307, 308].into_iter().enumerate() {
        upstream.reply(Reply::new(
            status,
            vec![("location", target.url.clone())],
            "",
        ));
        let answer = call(&user(&hawser, "ada"), &mcp).await;
        is_refused(
            &answer,
            502,
            -32603,
            "The MCP server cannot be reached",
            Value::Null,
        );
        assert_eq!(answer.header("location"), None);
        assert_eq!((upstream.count(), target.count()), (i + 1, 0));
    }
}

#[tokio::test]
async fn what_cannot_be_reached_and_what_must_not_be_look_alike() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepted = Arc::new(AtomicUsize::new(0));
    let counter = accepted.clone();
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    let hawser = Hawser::start_with(|app| app.egress = Egress::new(false).unwrap()).await;
    let inside = [
        "https://127.0.0.1",
        "https://localhost",
        "https://localhost.",
        "https://[::1]",
        "https://[::ffff:127.0.0.1]",
        "https://0x7f.1",
        "https://2130706433",
        "https://0177.0.0.1",
        "https://127.1",
        "https://0.0.0.0",
        "http://127.0.0.1",
        "http://localhost",
    ];
    let ada = user(&hawser, "ada");
    let mcp = register(&hawser, "inside", "https://public.example/mcp", json!({})).await;
    for base in inside {
        plant(&hawser, &mcp, &format!("{base}:{port}/mcp")).await;
        let answer = call(&ada, &mcp).await;
        is_refused(
            &answer,
            502,
            -32603,
            "The MCP server cannot be reached",
            Value::Null,
        );
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 0);
    // One that is merely down, to a server that may go there.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", free.local_addr().unwrap());
    drop(free);
    let hawser = Hawser::start().await;
    let mcp = register(&hawser, "down", &url, json!({})).await;
    let answer = call(&user(&hawser, "ada"), &mcp).await;
    is_refused(
        &answer,
        502,
        -32603,
        "The MCP server cannot be reached",
        Value::Null,
    );
    let url = format!("http://127.0.0.1:{port}/mcp");
    let mcp = register(&hawser, "inside", &url, json!({})).await;
    let ada = user(&hawser, "ada");
    let pending = tokio::spawn(async move { call(&ada, &mcp).await });
    soon(async {
        while accepted.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    pending.abort();
}

#[tokio::test]
async fn pages_of_other_origins_may_not_call() {
    let upstream = Upstream::start().await;
    let hawser = Hawser::start_with(|app| {
        app.public_urls = vec!["https://hawser.example/base".to_owned()];
        app.return_origins = vec!["https://app.example".to_owned()];
    })
    .await;
    let mcp = register(&hawser, "wiki", &upstream.url, json!({})).await;
    let ada = user(&hawser, "ada");
    let mut served = 0;
    for (origin, allowed) in [
        ("https://hawser.example", true),
        ("https://app.example", true),
        ("http://localhost:3000", true),
        ("http://127.0.0.1", true),
        ("http://[::1]:80", false),
        ("http://[::1]", true),
        ("https://evil.example", false),
        ("https://hawser.example.evil.example", false),
        ("https://hawser.example:8443", false),
        ("http://hawser.example", false),
        ("http://localhost.evil.example", false),
        ("null", false),
        ("", false),
    ] {
        let answer = send(&ada, &mcp, &[("origin", origin)], message("tools/list")).await;
        served += usize::from(allowed);
        assert_eq!(
            answer.status,
            if allowed { 200 } else { 403 },
            "{origin} {answer:?}"
        );
        assert_eq!(upstream.count(), served, "{origin}");
    }
    let both = [
        ("origin", "https://app.example"),
        ("origin", "https://evil.example"),
    ];
    assert_eq!(send(&ada, &mcp, &both, message("a")).await.status, 403);
}

#[tokio::test]
async fn nobody_calls_without_credentials_and_permission() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let mcp = register(
        &hawser,
        "wiki",
        &upstream.url,
        json!({"collaborators": [
        {"subject": "user:carol@acme.example", "role_id": "mcp-server-user"},
        {"subject": "user:dave@acme.example", "role_id": "mcp-server-viewer"}]}),
    )
    .await;
    let null = |code: i64, text: &str, data: Value| json!({"jsonrpc": "2.0", "id": null, "error": {"code": code, "message": text, "data": data}});
    let answer = call(&hawser.anonymous(), &mcp).await;
    answer.is(
        401,
        null(-32600, "Invalid Request", "Authentication required".into()),
    );
    let url = &hawser.url;
    let metadata =
        format!("resource_metadata=\"{url}/.well-known/oauth-protected-resource/mcp/{mcp}\"");
    let challenge = format!("Bearer {metadata}, scope=\"mcp\"");
    assert_eq!(answer.header("www-authenticate"), Some(challenge));
    for headers in [
        vec![("authorization", "Bearer x".to_owned())],
        vec![("authorization", "Basic x".to_owned())],
        vec![("x-api-key", "hwk_x".to_owned())],
    ] {
        let answer = call(&hawser.with(headers), &mcp).await;
        answer.is(
            401,
            null(
                -32000,
                "Authentication failed",
                json!({"error": "Invalid token"}),
            ),
        );
        let challenge = format!("Bearer error=\"invalid_token\", {metadata}, scope=\"mcp\"");
        assert_eq!(answer.header("www-authenticate"), Some(challenge));
    }
    let denied = json!({"required_permission": "mcp-servers:invoke"});
    for claims in [
        json!({}),
        json!({"permissions": ["mcp-servers:read"]}),
        json!({"scope": "mgmt.read mgmt.write mgmt.admin"}),
        json!({"email": "dave@acme.example"}),
        json!({"roles": ["mcp-server-viewer", "member"]}),
    ] {
        let answer = call(&hawser.caller("acme", "eve", claims), &mcp).await;
        is_refused(&answer, 403, -32000, "Permission denied", denied.clone());
    }
    assert_eq!(upstream.count(), 0);
    for claims in [
        json!({"roles": ["mcp-server-user"]}),
        json!({"roles": ["mcp-server-manager"]}),
        json!({"roles": ["admin"]}),
        json!({"email": "carol@acme.example"}),
        json!({"scope": "mcp.write mgmt.admin"}),
    ] {
        assert_eq!(
            call(&hawser.caller("acme", "eve", claims), &mcp)
                .await
                .status,
            200
        );
    }
}

#[tokio::test]
async fn a_connection_s_own_limits_hold_for_everyone() {
    let upstream = Upstream::start().await;
    let pipedrive = json!({"display_name": "P", "mcp_url": upstream.url, "api_key": {}});
    let hawser = Hawser::with_integrations(&json!({"pipedrive": pipedrive})).await;
    let admin = hawser.admin("acme");
    let owner = hawser.caller("acme", "root", json!({"scope": "mcp.read mcp.write"}));
    let body = json!({"mcp_server": "pipedrive", "access_type": "individual", "api_key": "k",
                      "disabled_tools": [1_270_100_515_418_183u64]});
    let made = admin.post("/api/v1/mcp-servers", body).await.json();
    let number = made["data"]["id"].to_string();
    upstream.has_tools(json!([{"name": "search"}, {"name": "other"},
                              {"name": "look", "annotations": {"readOnlyHint": true}}]));
    let tool = |name: &str| json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": name}});
    for caller in [&admin, &owner] {
        let answer = send(caller, &number, &[MODERN], tool("search")).await;
        let data = json!({"tool_name": "search", "available_tools": ["other", "look"], "suggestion":
                          "Use one of available_tools, or ask the owner of the connection to enable it."});
        is_refused(&answer, 403, -32002, "Tool not available", data);
        let hidden = json!([tool("search")]);
        let answer = send(caller, &number, &[MODERN], hidden).await;
        assert_eq!(answer.json()["error"]["code"], -32002, "{answer:?}");
        assert_eq!(
            send(caller, &number, &[MODERN], tool("other")).await.status,
            200
        );
    }
    // Narrowed, it takes from everyone what they had.
    let path = format!("/api/v1/mcp-servers/{number}");
    let narrowed = admin.put(&path, json!({"access_type": "read"})).await;
    assert_eq!(narrowed.status, 200);
    for caller in [&admin, &owner] {
        let answer = send(caller, &number, &[MODERN], tool("other")).await;
        assert_eq!(answer.status, 403, "{answer:?}");
        assert_eq!(answer.json()["error"]["code"], -32002, "{answer:?}");
        assert_eq!(
            send(caller, &number, &[MODERN], tool("look")).await.status,
            200
        );
        assert_eq!(
            send(caller, &number, &[MODERN], message("tools/list"))
                .await
                .status,
            200
        );
    }
}

#[tokio::test]
async fn kambrium_s_rules_hold_for_its_credentials() {
    let upstream = Upstream::start().await;
    let pipedrive = json!({"display_name": "P", "mcp_url": upstream.url, "api_key": {}});
    let hawser = Hawser::with_integrations(&json!({"pipedrive": pipedrive})).await;
    let owner = |scope: &str| hawser.caller("acme", "ada", json!({"scope": scope}));
    let manager = owner("mgmt.read mgmt.write");
    let body = json!({"mcp_server": "pipedrive", "access_type": "write", "api_key": "k"});
    let mut numbers = Vec::new();
    for _ in 0..2 {
        let made = manager
            .post("/api/v1/mcp-servers", body.clone())
            .await
            .json();
        numbers.push(made["data"]["id"].as_u64().unwrap());
    }
    let path = format!("/api/v1/mcp-servers/{}", numbers[0]);
    let number = numbers[0].to_string();
    let missing = |scope: &str| json!({"required_scope": scope});
    let tool = || message("tools/call");
    // A scope for reading lists, and calls nothing that might write.
    assert_eq!(call(&owner("x/mcp.read"), &number).await.status, 200);
    let answer = send(&owner("mcp.read"), &number, &[MODERN], tool()).await;
    is_refused(
        &answer,
        403,
        -32000,
        "Permission denied",
        missing("mcp.write"),
    );
    for batch in [
        json!([tool()]),
        json!([tool(), "ping"]),
        json!([tool(), message("ping")]),
    ] {
        let answer = send(&owner("mcp.read"), &number, &[MODERN], batch).await;
        assert_eq!(answer.status, 403, "{answer:?}");
    }
    for scope in ["mcp.write", "mcp.tools.execute"] {
        assert_eq!(
            send(&owner(scope), &number, &[MODERN], tool()).await.status,
            200
        );
    }
    // What is someone else's is not there.
    let gone = "MCP server not found or not accessible";
    let eve = hawser.caller("acme", "eve", json!({"scope": "mcp.write"}));
    is_refused(&call(&eve, &number).await, 404, -32001, gone, Value::Null);
    // A bound credential opens its own connection, by whatever its subject is called, and no other.
    let bound = |number: u64, scope: &str| {
        let claims =
            json!({"mcp_server_id": number, "scope": scope, "permissions": ["mcp-servers:invoke"]});
        hawser.caller("acme", "client", claims)
    };
    assert_eq!(
        call(&bound(numbers[0], "mcp.read"), &number).await.status,
        200
    );
    let answer = call(&bound(numbers[0], "mgmt.read"), &number).await;
    is_refused(
        &answer,
        403,
        -32000,
        "Permission denied",
        missing("mcp.read"),
    );
    let answer = call(&bound(numbers[1], "mcp.write"), &number).await;
    is_refused(&answer, 404, -32001, gone, Value::Null);
    // The switch.
    let before = upstream.count();
    assert_eq!(
        manager
            .put(&path, json!({"agent_enabled": false}))
            .await
            .status,
        200
    );
    let answer = call(&owner("mcp.write"), &number).await;
    is_refused(
        &answer,
        403,
        -32001,
        "Access denied",
        json!({"error": "Connection disabled"}),
    );
    // Deleted: the bound credential is none any more, wherever it goes; others learn that there is nothing.
    assert_eq!(manager.delete(&path).await.status, 200);
    for target in [
        number.clone(),
        numbers[1].to_string(),
        "mcp-01KF0FV2HRF8BR7TAB0BC6YCDE".to_owned(),
    ] {
        for headers in [&[MODERN][..], &[(SESSION, "x")]] {
            let answer = send(&bound(numbers[0], "mcp.write"), &target, headers, tool()).await;
            assert_eq!(answer.status, 401, "{target} {answer:?}");
            assert_eq!(
                answer.json()["error"]["data"],
                json!({"error": "Invalid token"})
            );
        }
    }
    is_refused(
        &call(&owner("mcp.write"), &number).await,
        404,
        -32001,
        gone,
        Value::Null,
    );
    let answer = send(&owner("mcp.write"), &number, &[(SESSION, "x")], tool()).await;
    is_session_gone(&answer, "x");
    let answer = send(
        &owner("mcp.write"),
        &number,
        &[(SESSION, "x")],
        message("initialize"),
    )
    .await;
    is_refused(&answer, 404, -32001, gone, Value::Null);
    assert_eq!(upstream.count(), before);
}

#[tokio::test]
async fn bodies_pass_up_to_their_limit() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let mcp = register(&hawser, "wiki", &upstream.url, json!({})).await;
    let ada = user(&hawser, "ada");
    let path = format!("/mcp/{mcp}");
    let whole = vec![b'x'; 4 << 20];
    assert_eq!(
        ada.send("POST", &path, &[MODERN], whole.clone())
            .await
            .status,
        200
    );
    assert_eq!(upstream.last().body, whole);
    let answer = ada
        .send("POST", &path, &[MODERN], vec![b'x'; (4 << 20) + 1])
        .await;
    assert_eq!((answer.status, upstream.count()), (413, 1));
    assert_eq!(answer.json()["error"]["code"], -32600);
    // Ids of every kind come back; what is no id is none.
    let mcp = register(
        &hawser,
        "own",
        &upstream.url,
        json!({"auth_data": {"type": "passthrough"}}),
    )
    .await;
    for (sent, expected) in [
        (json!("a"), json!("a")),
        (json!(-3), json!(-3)),
        (json!(1.5), json!(1.5)),
        (json!({"a": 1}), Value::Null),
        (json!([1]), Value::Null),
        (Value::Null, Value::Null),
        (json!(true), Value::Null),
    ] {
        let answer = send(&ada, &mcp, &[], json!({"id": sent, "method": "x"})).await;
        assert_eq!(answer.json()["id"], expected);
    }
    assert_eq!(upstream.count(), 1);
}
