//! Answers that go on for a while: each piece when it comes, for as long as its caller, its server and what the call rests
//! on are there, and no longer.

use crate::connecting::with_sessions;
use crate::harness::{Answer, Caller, Hawser};
use crate::upstream::*;
use bytes::Bytes;
use hawser_core::domain::event::Action;
use hawser_core::domain::id::TenantId;
use hawser_core::domain::time::Clock;
use hawser_functions::ENDPOINTS;
use http_body_util::BodyExt;
use lambda_http::{Body, RequestExt};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

const LEGACY: (&str, &str) = ("mcp-protocol-version", "2025-11-25");

#[tokio::test]
async fn an_event_arrives_before_the_next_is_sent() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let mcp = register(&hawser, "wiki", &upstream.url, json!({})).await;
    let ada = user(&hawser, "ada");
    for (method, version) in [("POST", MODERN), ("POST", LEGACY), ("GET", LEGACY)] {
        let (reply, events) = Reply::stream();
        upstream.reply(reply);
        let mut answer = open(&hawser, &ada, method, &mcp, &[version]).await;
        assert_eq!(
            answer.headers()["content-type"],
            "text/event-stream; charset=utf-8"
        );
        for event in ["data: 1\n\n", ": keep\n", "data: 2\n", "\n"] {
            events.send(event);
            let piece = soon(answer.chunk()).await.unwrap();
            assert_eq!(piece.as_deref(), Some(event.as_bytes()));
        }
        drop(events);
        assert_eq!(soon(answer.chunk()).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_thousand_events_arrive_in_order() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let mcp = register(&hawser, "wiki", &upstream.url, json!({})).await;
    let event = |i: usize| format!("id: {i}\ndata: {}\n\n", "x".repeat(i * i % 9973));
    let mut next = 0;
    upstream.reply(Reply::events(move |_| {
        next += 1;
        Poll::Ready((next <= 1000).then(|| Ok(event(next).into())))
    }));
    let mut answer = open(&hawser, &user(&hawser, "ada"), "POST", &mcp, &[MODERN]).await;
    let mut arrived = Vec::new();
    while let Some(piece) = soon(answer.chunk()).await.unwrap() {
        arrived.extend_from_slice(&piece);
    }
    let sent: String = (1..=1000).map(event).collect();
    assert!(arrived == sent.as_bytes(), "{} bytes", arrived.len());
}

#[tokio::test]
async fn a_caller_who_reads_slowly_holds_the_server_back() {
    const PIECE: u64 = 64 << 10;
    const PIECES: u64 = 4 << 10;
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let mcp = register(&hawser, "wiki", &upstream.url, json!({})).await;
    let ada = user(&hawser, "ada");
    let taken = Arc::new(AtomicU64::new(0));
    let counter = taken.clone();
    let piece = Bytes::from(vec![b'x'; PIECE as usize]);
    upstream.reply(Reply::events(move |_| {
        let more = counter.fetch_add(1, Ordering::SeqCst) < PIECES;
        Poll::Ready(more.then(|| Ok(piece.clone())))
    }));
    let mut answer = open(&hawser, &ada, "POST", &mcp, &[MODERN]).await;
    let mut arrived = soon(answer.chunk()).await.unwrap().unwrap().len() as u64;
    // While others come and go, nothing more is taken from the server once everything on the way is full.
    let mut before = 0;
    while before != taken.load(Ordering::SeqCst) {
        before = taken.load(Ordering::SeqCst);
        for _ in 0..50 {
            is_served(&ada, &mcp).await;
        }
    }
    assert!(before < PIECES / 8, "{before} pieces were taken");
    while let Some(piece) = soon(answer.chunk()).await.unwrap() {
        arrived += piece.len() as u64;
    }
    assert_eq!(arrived, PIECES * PIECE);
}

#[tokio::test]
async fn a_caller_who_goes_takes_the_call_with_them() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let mcp = register(&hawser, "wiki", &upstream.url, json!({})).await;
    let (reply, events) = Reply::stream();
    upstream.reply(reply);
    let mut answer = open(&hawser, &user(&hawser, "ada"), "POST", &mcp, &[MODERN]).await;
    events.send("data: 1\n\n");
    assert!(soon(answer.chunk()).await.unwrap().is_some());
    drop(answer);
    // Without another word from either side.
    soon(events.closed()).await;
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_caller_who_does_not_wait_takes_the_call_with_them() {
    let hawser = Hawser::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let mcp = register(&hawser, "wiki", &url, json!({})).await;
    let ada = user(&hawser, "ada");
    let pending = tokio::spawn(async move { call(&ada, &mcp).await });
    let (mut server, _) = soon(listener.accept()).await.unwrap();
    let mut read = [0; 4096];
    assert_ne!(
        soon(server.read(&mut read)).await.unwrap(),
        0,
        "it has arrived"
    );
    pending.abort();
    // The server never answers; what ends here is the connection.
    soon(async { while server.read(&mut read).await.is_ok_and(|n| n > 0) {} }).await;
}

#[tokio::test]
async fn in_a_session_a_caller_who_goes_cancels_nothing_and_may_come_back() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let mcp = register(&hawser, "wiki", &upstream.url, json!({})).await;
    let ada = user(&hawser, "ada");
    let session = initialize(&ada, &mcp).await;
    let (reply, events) = Reply::stream();
    upstream.reply(reply);
    let headers = [LEGACY, (SESSION, session.as_str())];
    let mut answer = open(&hawser, &ada, "POST", &mcp, &headers).await;
    events.send("id: a\ndata: 1\n\n");
    assert!(soon(answer.chunk()).await.unwrap().is_some());
    drop(answer);
    // The server learns that nobody listens, so that the stream can be taken up again; and that is all it learns.
    soon(events.closed()).await;
    let (reply, events) = Reply::stream();
    upstream.reply(reply);
    let headers = [LEGACY, (SESSION, session.as_str()), ("last-event-id", "a")];
    let mut answer = open(&hawser, &ada, "GET", &mcp, &headers).await;
    events.send("id: b\ndata: 2\n\n");
    let piece = soon(answer.chunk()).await.unwrap();
    assert_eq!(piece.as_deref(), Some(b"id: b\ndata: 2\n\n".as_slice()));
    let seen = upstream.seen();
    let methods: Vec<&str> = seen.iter().map(|one| one.method.as_str()).collect();
    assert_eq!(methods, ["POST", "POST", "GET"]);
    assert_eq!(seen[2].header("last-event-id"), Some("a"));
    assert_eq!(seen[2].header(SESSION), seen[1].header(SESSION));
    assert!(seen[1].header(SESSION).is_some());
}

#[tokio::test]
async fn a_server_that_breaks_off_ends_its_answer_at_once() {
    let hawser = Hawser::start().await;
    let ada = user(&hawser, "ada");
    let events = "content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n";
    let json = "content-type: application/json\r\ncontent-length: 20\r\n";
    let until_closed = "content-type: text/event-stream\r\nconnection: close\r\n";
    let cases = [
        (
            "between two pieces",
            events,
            "9\r\ndata: 1\n\n\r\n",
            "data: 1\n\n",
            false,
        ),
        (
            "within an event",
            events,
            "9\r\ndata: 1\n\n\r\n6\r\ndata: \r\n",
            "data: 1\n\ndata: ",
            false,
        ),
        (
            "within a piece",
            events,
            "9\r\ndata: 1\n\n\r\n9\r\ndat",
            "data: 1\n\ndat",
            false,
        ),
        (
            "with no piece",
            events,
            "9\r\ndata: 1\n\n\r\nzz\r\n",
            "data: 1\n\n",
            false,
        ),
        (
            "before its length",
            json,
            "{\"jsonrpc\":",
            "{\"jsonrpc\":",
            false,
        ),
        (
            "at the end",
            events,
            "9\r\ndata: 1\n\n\r\n0\r\n\r\n",
            "data: 1\n\n",
            true,
        ),
        (
            "and that is the end",
            until_closed,
            "data: 1\n\ndata: ",
            "data: 1\n\ndata: ",
            true,
        ),
    ];
    for (i, (why, headers, body, expected, whole)) in cases.into_iter().enumerate() {
        let url = raw(format!("HTTP/1.1 200 OK\r\n{headers}\r\n{body}").into()).await;
        let mcp = register(&hawser, &format!("server-{i}"), &url, json!({})).await;
        let mut answer = open(&hawser, &ada, "POST", &mcp, &[MODERN]).await;
        assert_eq!(answer.status(), 200, "{why}");
        let mut arrived = Vec::new();
        let ended = loop {
            match soon(answer.chunk()).await {
                Ok(Some(piece)) => arrived.extend_from_slice(&piece),
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        // What has come may be lost with the connection, but nothing is made up.
        assert!(
            expected.as_bytes().starts_with(&arrived),
            "{why}: {arrived:?}"
        );
        assert!(
            !whole || arrived == expected.as_bytes(),
            "{why}: {arrived:?}"
        );
        assert_eq!(ended, whole, "{why}");
    }
    // With what was already read before it broke.
    let upstream = Upstream::start().await;
    let mcp = register(&hawser, "wiki", &upstream.url, json!({})).await;
    let (reply, events) = Reply::stream();
    upstream.reply(reply);
    let mut answer = open(&hawser, &ada, "POST", &mcp, &[MODERN]).await;
    events.send("data: 1\n\ndata: ");
    let piece = soon(answer.chunk()).await.unwrap();
    assert_eq!(piece.as_deref(), Some(b"data: 1\n\ndata: ".as_slice()));
    events.break_off();
    assert!(soon(answer.chunk()).await.is_err());
    // The next one is answered.
    is_served(&ada, &mcp).await;
}

#[tokio::test]
async fn trailers_after_a_body_are_not_passed_on() {
    let hawser = Hawser::start().await;
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-planted, set-cookie\r\n\r\n\
                  2\r\n{}\r\n0\r\nx-planted: planted\r\nset-cookie: planted=1\r\n\r\n";
    let mcp = register(&hawser, "wiki", &raw(answer.into()).await, json!({})).await;
    let endpoint = ENDPOINTS.iter().find(|one| one.name == "hawser-invoke");
    let (_, authorization) = &user(&hawser, "ada").headers[0];
    let request = lambda_http::http::Request::post(format!("/mcp/{mcp}"))
        .header("authorization", authorization)
        .body(Body::from("{}"))
        .unwrap();
    let request = request.with_path_parameters(std::collections::HashMap::<String, String>::new());
    let answer = endpoint.unwrap().answer(&hawser.app, request).await;
    assert!(!format!("{:?}", answer.headers()).contains("planted"));
    let body = answer.into_body().collect().await.unwrap();
    assert!(body.trailers().is_none());
    assert_eq!(body.to_bytes(), "{}");
}

/// How what an open answer rests on ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Disconnect,
    Replace,
    SwitchOff,
    Delete,
    /// The caller's token comes to its end.
    Token,
    /// The caller's API key is revoked.
    KeyRevoked,
    /// The caller's API key comes to its end.
    KeyExpired,
}

const ENDS: [End; 7] = [
    End::Disconnect,
    End::Replace,
    End::SwitchOff,
    End::Token,
    End::KeyRevoked,
    End::KeyExpired,
    End::Delete,
];

/// One that looks after its answers all the time, and whose clock stands still.
async fn watchful() -> Hawser {
    Hawser::start_with(|app| {
        app.stream_check = Duration::from_millis(10);
        app.clock = Clock::Manual(Arc::new(AtomicI64::new(app.now().micros())));
    })
    .await
}

impl End {
    async fn caller(self, hawser: &Hawser) -> Caller {
        let may = json!({"permissions": ["mcp-servers:invoke"], "expires_in": 3600});
        match self {
            Self::KeyRevoked | Self::KeyExpired => {
                hawser.api_key("acme", Some("user:ada"), may).await
            }
            _ => user(hawser, "ada"),
        }
    }

    async fn come(self, hawser: &Hawser, mcp: &str, caller: &Caller) {
        match self {
            Self::Disconnect => disconnect(hawser, mcp, "ada", "auth-override").await,
            Self::Replace => install(hawser, mcp, "ada", own("w")).await,
            Self::SwitchOff => switch(hawser, false).await,
            Self::Delete => {
                let answer = hawser.admin("acme").delete(&format!("{MCP}/{mcp}")).await;
                assert_eq!(answer.status, 200);
            }
            Self::Token => hawser.pass(101 * 24 * 3600),
            Self::KeyExpired => hawser.pass(3600),
            Self::KeyRevoked => {
                let id = caller.headers[0].1.split('_').nth(2).unwrap();
                let tenant = TenantId::parse("acme").unwrap();
                let table = &hawser.app.table;
                let removed = hawser.event(&tenant, Action::KeyRemoved);
                let gone = table
                    .remove_api_key(&tenant, &id.to_uppercase(), &removed)
                    .await;
                assert!(gone.unwrap());
            }
        }
    }

    /// What the caller is told who comes back with the session.
    fn is_told(self, answer: &Answer, session: &str) {
        match self {
            Self::Token | Self::KeyRevoked | Self::KeyExpired => {
                let challenge = answer.header("www-authenticate").unwrap();
                assert!(
                    challenge.starts_with("Bearer error=\"invalid_token\""),
                    "{challenge}"
                );
                let mut error = answer.json()["error"].clone();
                assert_eq!(answer.json()["id"], Value::Null);
                if self == Self::Token {
                    let ended = error["data"]["expires_at"].take();
                    let ended = ended.as_str().unwrap().to_owned();
                    assert!(ended.len() == 20 && ended.ends_with('Z'), "{ended}");
                }
                let data = match self {
                    Self::Token => {
                        json!({"error": "Token expired", "expires_at": null, "refresh_required": true})
                    }
                    _ => json!({"error": "Invalid token"}),
                };
                let expected =
                    json!({"code": -32000, "message": "Authentication failed", "data": data});
                assert_eq!((answer.status, error), (401, expected), "{self:?}");
            }
            // Answered by Hawser, and by the server in another session.
            Self::Disconnect | Self::Replace => {
                let pong = json!({"jsonrpc": "2.0", "id": 7, "result": {}});
                assert_eq!((answer.status, answer.json()), (200, pong), "{self:?}");
            }
            Self::SwitchOff | Self::Delete => is_session_gone(answer, session),
        }
    }
}

#[tokio::test]
async fn an_answer_ends_with_what_it_rests_on() {
    for end in ENDS {
        for method in ["POST", "GET"] {
            ends(end, method).await;
        }
    }
}

async fn ends(end: End, method: &str) {
    let (hawser, upstream) = (watchful().await, Upstream::start().await);
    with_sessions(&upstream, "2025-11-25");
    let mcp = register(&hawser, "wiki", &upstream.url, per_user()).await;
    install(&hawser, &mcp, "ada", own("v")).await;
    let caller = end.caller(&hawser).await;
    let session = initialize(&caller, &mcp).await;
    let of_session = [LEGACY, (SESSION, session.as_str())];
    let headers = if method == "GET" {
        &of_session[..]
    } else {
        &[MODERN]
    };
    let (reply, events) = Reply::stream();
    upstream.reply(reply);
    let (reply, pieces) = Reply::stream();
    upstream.reply(reply.of_type("application/json"));
    let mut stream = open(&hawser, &caller, method, &mcp, headers).await;
    let mut document = open(&hawser, &caller, method, &mcp, headers).await;
    for _ in 0..2 {
        events.send("1");
        pieces.send("1");
        assert!(soon(stream.chunk()).await.unwrap().is_some());
        assert!(soon(document.chunk()).await.unwrap().is_some());
        // Several looks find nothing wrong.
        let looked = hawser.wire.sent().len();
        soon(async {
            while hawser.wire.sent().len() < looked + 6 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
    end.come(&hawser, &mcp, &caller).await;
    assert_eq!(soon(stream.chunk()).await.unwrap(), None, "{end:?}");
    let cut = soon(document.chunk()).await;
    assert!(cut.is_err(), "{end:?}: half a document is not one");
    soon(events.closed()).await;
    soon(pieces.closed()).await;
    let before = upstream.count();
    let answer = send(&caller, &mcp, &of_session, message("ping")).await;
    end.is_told(&answer, &session);
    let after = upstream.seen().split_off(before);
    if end == End::Replace {
        assert!(after.iter().all(|one| one.header("x-key") == Some("Key w")));
    } else {
        assert_eq!(after.len(), 0, "{end:?}");
    }
}

#[tokio::test]
async fn only_so_many_calls_are_under_way_at_once() {
    let upstream = Upstream::start().await;
    let hawser = Hawser::start_with(|app| app.calls = Arc::new(Semaphore::new(2))).await;
    let mcp = register(&hawser, "wiki", &upstream.url, json!({})).await;
    let ada = user(&hawser, "ada");
    let mut streams = Vec::new();
    for _ in 0..2 {
        let (reply, events) = Reply::stream();
        upstream.reply(reply);
        streams.push((open(&hawser, &ada, "POST", &mcp, &[MODERN]).await, events));
    }
    let text = "The service cannot answer now";
    is_refused(&call(&ada, &mcp).await, 503, -32603, text, Value::Null);
    assert_eq!(upstream.count(), 2);
    let (answer, events) = streams.remove(0);
    drop(events);
    assert_eq!(soon(answer.text()).await.unwrap(), "");
    is_served(&ada, &mcp).await;
    // Whoever goes makes room as well.
    let (answer, events) = streams.remove(0);
    drop(answer);
    soon(events.closed()).await;
    for _ in 0..3 {
        is_served(&ada, &mcp).await;
    }
}

#[tokio::test]
async fn a_list_that_is_looked_into_is_cut_off_as_well() {
    let (hawser, upstream) = (watchful().await, Upstream::start().await);
    let mcp = register(&hawser, "wiki", &upstream.url, per_user()).await;
    install(&hawser, &mcp, "ada", own("v")).await;
    let admin = hawser.admin("acme");
    let path = admin.registered(&mcp).await.paths()[2].clone();
    let hiding = json!({"access_type": "individual", "disabled_tools": [1]});
    assert_eq!(admin.put(&path, hiding).await.status, 200);
    let (reply, pieces) = Reply::stream();
    upstream.reply(reply.of_type("application/json"));
    let ada = user(&hawser, "ada");
    let pending = tokio::spawn(async move { call(&ada, &mcp).await });
    pieces.send("{\"jsonrpc\":");
    soon(async {
        while upstream.count() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(admin.delete(&path).await.status, 200);
    let answer = soon(pending).await.unwrap();
    assert_eq!(answer.status, 502, "{answer:?}");
    soon(pieces.closed()).await;
}
