//! Streams of events: what they say when the subject has been connected.

use super::{handshake, in_session, opens_urls, stateless, tool_call};
use crate::harness::Hawser;
use crate::issuer::Issuer;
use crate::upstream::*;
use serde_json::{Value, json};
use std::time::Duration;

const OF_ERA: (&str, &str) = ("mcp-protocol-version", "2025-06-18");

async fn watchful() -> (Hawser, Issuer, String) {
    let hawser = Hawser::start_with(|app| app.stream_check = Duration::from_millis(10)).await;
    let issuer = Issuer::start().await;
    let mcp = register(&hawser, "wiki", &issuer.mcp_url(), oauth()).await;
    (hawser, issuer, mcp)
}

/// The messages in what is left of a stream.
async fn messages(mut stream: reqwest::Response) -> Vec<Value> {
    let mut text = String::new();
    while let Some(piece) = soon(stream.chunk()).await.unwrap() {
        text.push_str(str::from_utf8(&piece).unwrap());
    }
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

#[tokio::test]
async fn an_open_stream_says_when_the_consent_is_done() {
    let (hawser, issuer, mcp) = watchful().await;
    let ada = user(&hawser, "ada");
    let session = handshake(&ada, &mcp, opens_urls()).await;
    let headers = [OF_ERA, (SESSION, session.as_str())];
    let stream = open(&hawser, &ada, "GET", &mcp, &headers).await;
    assert_eq!(
        (stream.status().as_u16(), &stream.headers()["content-type"]),
        (200, &"text/event-stream".parse().unwrap())
    );
    let answer = in_session(&ada, &mcp, &session, tool_call("search")).await;
    let told = answer.json()["error"]["data"]["elicitations"][0].clone();
    consent(&issuer, told["url"].as_str().unwrap()).await;
    let done = json!({"jsonrpc": "2.0", "method": "notifications/elicitation/complete",
                      "params": {"elicitationId": told["elicitationId"]}});
    let changed = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
    assert_eq!(messages(stream).await, [done, changed.clone()]);
    // A session whose client was told of no consent hears of its tools alone.
    let bob = user(&hawser, "bob");
    let session = handshake(&bob, &mcp, json!({})).await;
    let headers = [OF_ERA, (SESSION, session.as_str())];
    let stream = open(&hawser, &bob, "GET", &mcp, &headers).await;
    connect(&hawser, &issuer, &mcp, "bob").await;
    assert_eq!(messages(stream).await, [changed]);
}

/// The gateway had closed the stream, and the client opens it anew.
#[tokio::test]
async fn a_stream_that_is_opened_after_the_consent_says_that_it_is_done() {
    for called in [false, true] {
        let (hawser, issuer, mcp) = watchful().await;
        let ada = user(&hawser, "ada");
        let session = handshake(&ada, &mcp, opens_urls()).await;
        let answer = in_session(&ada, &mcp, &session, tool_call("search")).await;
        let told = answer.json()["error"]["data"]["elicitations"][0].clone();
        let headers = [OF_ERA, (SESSION, session.as_str())];
        drop(open(&hawser, &ada, "GET", &mcp, &headers).await);
        consent(&issuer, told["url"].as_str().unwrap()).await;
        if called {
            // Another request of the client has opened the session at the server meanwhile.
            in_session(&ada, &mcp, &session, message("ping")).await;
        }
        let stream = open(&hawser, &ada, "GET", &mcp, &headers).await;
        let kind = stream.headers()["content-type"].clone();
        assert_eq!(kind, "text/event-stream");
        let done = json!({"jsonrpc": "2.0", "method": "notifications/elicitation/complete",
                          "params": {"elicitationId": told["elicitationId"]}});
        let changed = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
        assert_eq!(messages(stream).await, [done, changed.clone()]);
        // It is told once, and the next stream is the server's to open.
        let before = issuer.count("POST", "/mcp");
        open(&hawser, &ada, "GET", &mcp, &headers).await;
        assert!(issuer.count("POST", "/mcp") > before, "it is asked");
        // Nothing of it is told when the session goes on with another credential.
        disconnect(&hawser, &mcp, "ada", "oauth").await;
        let stream = open(&hawser, &ada, "GET", &mcp, &headers).await;
        connect(&hawser, &issuer, &mcp, "ada").await;
        assert_eq!(messages(stream).await, [changed]);
    }
}

#[tokio::test]
async fn a_subscription_says_when_the_consent_is_done() {
    let (hawser, issuer, mcp) = watchful().await;
    let ada = user(&hawser, "ada");
    let listen = |wanted: Value| {
        let request = stateless(
            "subscriptions/listen",
            json!({}),
            json!({"notifications": wanted}),
        );
        let mut sent = reqwest::Client::builder()
            .no_proxy()
            .build()
            .unwrap()
            .post(format!("{}/mcp/{mcp}", hawser.url));
        for (name, value) in &ada.headers {
            sent = sent.header(*name, value);
        }
        soon(
            sent.header(MODERN.0, MODERN.1)
                .body(request.to_string())
                .send(),
        )
    };
    let stream = listen(json!({"toolsListChanged": true, "promptsListChanged": true}))
        .await
        .unwrap();
    let silent = listen(json!({"promptsListChanged": true})).await.unwrap();
    connect(&hawser, &issuer, &mcp, "ada").await;
    let meta = json!({"io.modelcontextprotocol/subscriptionId": 7});
    let agreed = |what: Value| {
        json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged",
                                      "params": {"notifications": what, "_meta": meta}})
    };
    let changed = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": {"_meta": meta}});
    let closed =
        json!({"jsonrpc": "2.0", "id": 7, "result": {"resultType": "complete", "_meta": meta}});
    assert_eq!(
        messages(stream).await,
        [agreed(json!({"toolsListChanged": true})), changed, closed]
    );
    assert_eq!(messages(silent).await, [agreed(json!({}))]);
}

#[tokio::test]
async fn a_stream_of_our_own_ends_with_what_it_rests_on_and_says_nothing() {
    let (hawser, _issuer, mcp) = watchful().await;
    let ada = user(&hawser, "ada");
    let session = handshake(&ada, &mcp, opens_urls()).await;
    let headers = [OF_ERA, (SESSION, session.as_str())];
    let stream = open(&hawser, &ada, "GET", &mcp, &headers).await;
    let admin = hawser.admin("acme");
    assert_eq!(admin.delete(&format!("{MCP}/{mcp}")).await.status, 200);
    assert_eq!(messages(stream).await, Vec::<Value>::new());
}
