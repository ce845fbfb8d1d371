//! Answers that go on for a while: each event when it comes, for as long as its caller, its server and what the call rests
//! on are there, and no longer.

use crate::harness::Hawser;
use crate::upstream::*;
use serde_json::json;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

#[tokio::test]
async fn an_event_arrives_before_the_next_is_sent() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let mcp = register(&hawser, "wiki", &upstream.url, json!({})).await;
    let ada = user(&hawser, "ada");
    for method in ["POST", "GET"] {
        let (reply, events) = Reply::stream();
        upstream.reply(reply);
        let mut answer = open(&hawser, &ada, method, &mcp).await;
        assert_eq!(
            answer.headers()["content-type"],
            "text/event-stream; charset=utf-8"
        );
        for event in ["data: 1\n\n", ": keep\n", "data: 2\n\n"] {
            events.send(event).unwrap();
            let piece = soon(answer.chunk()).await.unwrap();
            assert_eq!(piece.as_deref(), Some(event.as_bytes()));
        }
        drop(events);
        assert_eq!(soon(answer.chunk()).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_caller_who_goes_takes_the_call_with_them() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let mcp = register(&hawser, "wiki", &upstream.url, json!({})).await;
    let (reply, events) = Reply::stream();
    upstream.reply(reply);
    let mut answer = open(&hawser, &user(&hawser, "ada"), "POST", &mcp).await;
    events.send("data: 1\n\n").unwrap();
    assert!(soon(answer.chunk()).await.unwrap().is_some());
    drop(answer);
    // The server lets go of its answer when its connection ends.
    soon(events.closed()).await;
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
async fn an_open_stream_ends_with_what_it_rests_on() {
    let upstream = Upstream::start().await;
    let hawser = Hawser::start_with(|app| app.stream_check = Duration::from_millis(20)).await;
    let mcp = register(&hawser, "wiki", &upstream.url, per_user()).await;
    let ada = user(&hawser, "ada");
    for (i, end) in ["disconnect", "replace", "switch", "delete"]
        .into_iter()
        .enumerate()
    {
        install(&hawser, &mcp, "ada", own("v")).await;
        let (reply, events) = Reply::stream();
        upstream.reply(reply);
        let mut answer = open(&hawser, &ada, "GET", &mcp).await;
        events.send("data: 1\n\n").unwrap();
        assert!(soon(answer.chunk()).await.unwrap().is_some());
        // Several looks find nothing wrong.
        let looked = hawser.wire.sent().len();
        soon(async {
            while hawser.wire.sent().len() < looked + 3 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        events.send("data: 2\n\n").unwrap();
        assert!(soon(answer.chunk()).await.unwrap().is_some());
        let admin = hawser.admin("acme");
        match end {
            "disconnect" => disconnect(&hawser, &mcp, "ada", "auth-override").await,
            "replace" => install(&hawser, &mcp, "ada", own("w")).await,
            "switch" => {
                switch(&hawser, false).await;
            }
            _ => assert_eq!(admin.delete(&format!("{MCP}/{mcp}")).await.status, 200),
        }
        assert_eq!(soon(answer.chunk()).await.unwrap(), None, "{end}");
        soon(events.closed()).await;
        if end == "switch" {
            switch(&hawser, true).await;
        }
        assert_eq!(upstream.count(), i + 1);
    }
}
