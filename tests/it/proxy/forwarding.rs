//! What arrives at a server and what comes back. The judge is the server's own log.

use crate::harness::Hawser;
use crate::issuer::Issuer;
use crate::upstream::*;
use hawser_core::egress::Egress;
use serde_json::{Value, json};
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
        ("Content-Encoding", "identity"),
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
            200,
            -32001,
            "MCP server not found or not accessible",
            Value::Null,
        );
    }
    let stranger = hawser.caller("other", "ada", json!({"roles": ["admin"]}));
    let answer = call(&stranger, &mcp).await;
    is_refused(
        &answer,
        200,
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
            is_served(&caller, &mcp).await;
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
