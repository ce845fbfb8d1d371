//! Sessions that are opened anew at their servers: what is left there, and what their clients get where that cannot be done.

use super::{handshake, in_session, tool_call, with_sessions};
use crate::harness::{Answer, Caller, Cut, Hawser};
use crate::upstream::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The sessions that the server was asked to open, by how many there are, and those that it was told to close.
fn opened_and_closed(upstream: &Upstream) -> (usize, BTreeSet<String>) {
    let seen = upstream.seen();
    let opened = seen
        .iter()
        .filter(|one| one.method == "POST" && one.message()["method"] == "initialize");
    let closed = seen.iter().filter(|one| one.method == "DELETE");
    let closed = closed.map(|one| one.header(SESSION).unwrap().to_owned());
    (opened.count(), closed.collect())
}

async fn close(caller: &Caller, mcp: &str, session: &str) -> Answer {
    let path = format!("/mcp/{mcp}");
    let headers = [(SESSION, session)];
    caller.send("DELETE", &path, &headers, Vec::new()).await
}

async fn stage() -> (Hawser, Upstream, String) {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    with_sessions(&upstream, "2025-06-18");
    let mcp = register(&hawser, "wiki", &upstream.url, per_user()).await;
    (hawser, upstream, mcp)
}

#[tokio::test]
async fn a_session_that_is_closed_while_it_is_opened_anew_is_closed_at_the_server() {
    let (hawser, upstream, mcp) = stage().await;
    let ada = user(&hawser, "ada");
    let mut closed_at_once = 0;
    for round in 0..30 {
        let session = handshake(&ada, &mcp, json!({})).await;
        install(&hawser, &mcp, "ada", own(&round.to_string())).await;
        let (answer, _) = tokio::join!(
            close(&ada, &mcp, &session),
            in_session(&ada, &mcp, &session, tool_call("search"))
        );
        match answer.status {
            200 | 204 => closed_at_once += 1,
            503 => assert!([200, 204, 404].contains(&close(&ada, &mcp, &session).await.status)),
            _ => panic!("{answer:?}"),
        }
        let answer = in_session(&ada, &mcp, &session, tool_call("search")).await;
        is_session_gone(&answer, &session);
        let (opened, closed) = opened_and_closed(&upstream);
        assert_eq!(opened, closed.len(), "in round {round} one is left");
        disconnect(&hawser, &mcp, "ada", "auth-override").await;
    }
    assert!(closed_at_once > 0);
}

/// The DELETE has read a session that another request opens before it is deleted.
#[tokio::test]
async fn a_session_that_was_opened_since_it_was_read_is_not_forgotten() {
    use hawser_core::domain::id::TenantId;
    use hawser_core::operations::proxy::{Target, close_session, find};
    let (hawser, _upstream, mcp) = stage().await;
    let ada = user(&hawser, "ada");
    let session = handshake(&ada, &mcp, json!({})).await;
    install(&hawser, &mcp, "ada", own("one")).await;
    let who = hawser.authenticated_caller("acme", "ada").await;
    assert_eq!(who.tenant, TenantId::parse("acme").unwrap());
    let presented = hawser_core::auth::credentials::Presented::Caller(Box::new(who.clone()));
    let found = find(&hawser.app, presented, &Target::parse(&mcp), Some(&session)).await;
    let found = found.unwrap().permit::<()>(|_, _| Ok(())).unwrap();
    let now = hawser.app.now();
    let read = found.found.unwrap().live_session(now).unwrap().unwrap();
    let answer = in_session(&ada, &mcp, &session, tool_call("search")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let forgotten = close_session(&hawser.app, &who, &read).await.unwrap();
    assert!(!forgotten, "it is another one by now");
    let answer = in_session(&ada, &mcp, &session, tool_call("search")).await;
    assert_eq!(answer.json()["result"]["content"][0]["text"], "called");
    assert_eq!(close(&ada, &mcp, &session).await.status, 200);
    assert!(close_session(&hawser.app, &who, &read).await.unwrap());
}

#[tokio::test]
async fn a_session_that_cannot_be_stored_is_closed_at_the_server() {
    let mut failed = 0;
    for k in 0.. {
        let (hawser, upstream, mcp) = stage().await;
        let ada = user(&hawser, "ada");
        let session = handshake(&ada, &mcp, json!({})).await;
        install(&hawser, &mcp, "ada", own("v")).await;
        hawser.wire.arm(Some(Cut::Before(k)));
        let answer = in_session(&ada, &mcp, &session, tool_call("search")).await;
        hawser.wire.arm(None);
        let (opened, closed) = opened_and_closed(&upstream);
        if answer.status == 200 {
            break;
        }
        // It is stored, or closed.
        let stored = in_session(&ada, &mcp, &session, tool_call("search")).await;
        let (opened_again, _) = opened_and_closed(&upstream);
        assert_eq!(stored.status, 200, "{k}: {stored:?}");
        if opened == 1 && opened_again == 2 {
            assert_eq!(closed.len(), 1, "{k}");
            failed += 1;
        }
    }
    assert!(failed > 0, "no write has failed");
}

/// A session of a client that has said too much to be kept, and one that the server opens no more.
#[tokio::test]
async fn a_session_that_cannot_be_opened_anew_is_over() {
    for refused in [true, false] {
        let (hawser, upstream, mcp) = stage().await;
        install(&hawser, &mcp, "ada", own("one")).await;
        let ada = user(&hawser, "ada");
        let much = if refused { 1 } else { 64 << 10 };
        let capabilities = json!({"experimental": {"much": "x".repeat(much)}});
        let session = handshake(&ada, &mcp, capabilities).await;
        let answer = in_session(&ada, &mcp, &session, tool_call("search")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        install(&hawser, &mcp, "ada", own("two")).await;
        if refused {
            upstream.answers(|seen| {
                let error = json!({"code": -32000, "message": "no more"});
                let body = json!({"jsonrpc": "2.0", "id": seen.message()["id"], "error": error});
                let kind = ("content-type", "application/json".to_owned());
                Reply::new(200, vec![kind], body.to_string())
            });
        }
        let answer = in_session(&ada, &mcp, &session, tool_call("search")).await;
        is_session_gone(&answer, &session);
        // The client can start over.
        with_sessions(&upstream, "2025-06-18");
        let session = handshake(&ada, &mcp, json!({})).await;
        let answer = in_session(&ada, &mcp, &session, tool_call("search")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[tokio::test]
async fn of_a_kambrium_client_nothing_is_kept_that_it_said() {
    let (hawser, _upstream, mcp) = stage().await;
    install(&hawser, &mcp, "ada", own("one")).await;
    let number = hawser.admin("acme").registered(&mcp).await.number;
    let kept = async || {
        let items: Vec<Value> = hawser.ground().items().await;
        let sessions = items.iter().filter(|item| item["entity"] == "mcp-session");
        sessions
            .map(|item| item["handshake"].is_object())
            .collect::<Vec<_>>()
    };
    let bound = json!({"scope": "mcp.read mcp.write", "mcp_server_id": number});
    handshake(&hawser.caller("acme", "ada", bound), &mcp, json!({})).await;
    assert_eq!(kept().await, [false]);
    handshake(&user(&hawser, "ada"), &mcp, json!({})).await;
    let mut all = kept().await;
    all.sort_unstable();
    assert_eq!(all, [false, true]);
}
