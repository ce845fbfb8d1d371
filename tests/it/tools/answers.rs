//! What comes of a server's answers.

use super::{
    FOREIGN, is_bad_answer, is_refused, json_reply, list, list_with, names, reader, result, tools,
};
use crate::harness::{Answer, Hawser};
use crate::upstream::{Reply, Upstream, plant, register};
use hawser_core::App;
use serde_json::{Value, json};
use std::time::Duration;

#[track_caller]
fn is_unreachable(answer: &Answer) {
    let detail = "Check the MCP server: it could not be reached";
    is_refused(answer, 502, "mcp_server_unreachable", detail);
}

#[track_caller]
fn is_unauthorized(answer: &Answer) {
    let detail =
        "Check the stored credentials or connect again: the MCP server rejected the request";
    is_refused(answer, 502, "upstream_auth_failed", detail);
}

fn event_reply(body: &str) -> Reply {
    let headers = vec![("content-type", "text/event-stream".to_owned())];
    Reply::new(200, headers, body.to_owned())
}

#[tokio::test]
async fn schemas_stay_as_they_were_written() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    register(&hawser, "wiki", &upstream.url, json!({})).await;
    let schema = r#"{ "b" : 1e400,"a":123456789012345678901234567890 , "\u0061":"\ud800" }"#;
    let body =
        format!(r#"{{"id":1,"result":{{"tools":[{{"name":"x","inputSchema":{schema}}}]}}}}"#);
    let headers = vec![("content-type", "application/json".to_owned())];
    upstream.reply(Reply::new(200, headers, body));
    for cached in [false, true] {
        let answer = list(&reader(&hawser, "ada"), &upstream.url).await;
        assert!(answer.text.contains(schema), "{cached} {answer:?}");
    }
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn answers_in_event_streams_are_read() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    register(&hawser, "wiki", &upstream.url, json!({})).await;
    let ada = reader(&hawser, "ada");
    let fresh = async || list_with(&ada, &upstream.url, "&force_refresh=true").await;
    let (one, other) = (
        result(&json!(1), json!({"tools": tools(&["a", "b"])})),
        result(&json!("1"), json!({"tools": tools(&["other"])})),
    );
    let split = one
        .to_string()
        .replacen(",\"result\"", ",\ndata: \"result\"", 1);
    let note = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {}});
    for body in [
        format!("data: {one}\n\n"),
        format!("data: {one}"),
        format!(
            "\u{feff}: hello\r\nid: 1\r\ndata:\r\n\r\ndata: {note}\r\n\r\nevent: message\r\ndata: {one}\r\n\r\n"
        ),
        format!("data: {other}\r\rdata:{one}\r\rdata: {other}\r\r"),
        format!("data: {split}\n\n"),
    ] {
        upstream.reply(event_reply(&body));
        assert_eq!(names(&fresh().await), ["a", "b"], "{body}");
    }
    // What comes after the answer is not waited for.
    let (reply, events) = Reply::stream();
    upstream.reply(reply);
    events.send("data: {\"id\":1,\"result\"");
    events.send(":{\"tools\":[{\"name\":\"a\"}]}}\n\n");
    assert_eq!(names(&fresh().await), ["a"]);
    drop(events);
    for body in ["", "data: x\n\n", &format!("data: {other}\n\n")] {
        upstream.reply(event_reply(body));
        is_bad_answer(&fresh().await);
    }
}

#[tokio::test]
async fn what_is_no_list_is_none_and_nothing_of_it_gets_out() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    register(&hawser, "wiki", &upstream.url, json!({})).await;
    let ada = reader(&hawser, "ada");
    let said = |body: Value| json_reply(200, &result(&json!(1), body));
    let many = |count: usize| {
        let tool = |number| json!({"name": format!("tool {number}")});
        (0..count).map(tool).collect::<Value>()
    };
    let plain = |status: u16, text: &str| Reply::new(status, vec![], text.to_owned());
    let aside = |status: u16| Reply::new(status, vec![("location", upstream.url.clone())], FOREIGN);
    let bad = [
        plain(200, ""),
        plain(202, ""),
        plain(200, "<html>the server explains</html>"),
        plain(204, ""),
        plain(503, FOREIGN),
        aside(302),
        said(json!({})),
        said(json!([])),
        said(json!(FOREIGN)),
        said(json!({"tools": FOREIGN})),
        said(json!({"tools": [FOREIGN]})),
        said(json!({"tools": [["a"]]})),
        said(json!({"tools": [{"title": FOREIGN}]})),
        said(json!({"tools": [{"name": 7}]})),
        said(json!({"tools": [{"name": "a", "inputSchema": FOREIGN}]})),
        said(json!({"tools": [{"name": "a"}, {"name": "b", "annotations": []}]})),
        said(json!({"tools": [], "nextCursor": 7})),
        said(json!({"tools": [], "resultType": "input_required"})),
        said(json!({"tools": many(2001)})),
        // As many as are kept, and more than this contract shows.
        said(json!({"tools": many(1001)})),
        said(json!({"tools": [{"name": "a", "description": "x".repeat(4 << 20)}]})),
        json_reply(200, &result(&json!(2), json!({"tools": []}))),
        json_reply(200, &json!({"jsonrpc": "2.0", "result": {"tools": []}})),
        json_reply(200, &json!([result(&json!(1), json!({"tools": []}))])),
        event_reply(&format!("data: {}\n\n", "x".repeat(4 << 20))),
    ];
    for (i, reply) in bad.into_iter().enumerate() {
        upstream.reply(reply);
        let before = upstream.count();
        let answer = list_with(&ada, &upstream.url, "&force_refresh=true").await;
        assert!(!answer.text.contains(FOREIGN), "{i} {answer:?}");
        is_bad_answer(&answer);
        assert_eq!(upstream.count(), before + 1, "{i}");
    }
    for status in [401, 403] {
        let headers = vec![("www-authenticate", format!("Bearer realm=\"{FOREIGN}\""))];
        upstream.reply(Reply::new(status, headers, FOREIGN));
        is_unauthorized(&list_with(&ada, &upstream.url, "&force_refresh=true").await);
    }
    let headers = vec![(
        "www-authenticate",
        "Bearer error=\"insufficient_scope\"".to_owned(),
    )];
    upstream.reply(Reply::new(403, headers, FOREIGN));
    is_unauthorized(&list_with(&ada, &upstream.url, "&force_refresh=true").await);
    // A server that leads in circles, and one whose pages never end.
    upstream.answers(|seen| {
        let id = &seen.message()["id"];
        json_reply(200, &result(id, json!({"tools": [], "nextCursor": "same"})))
    });
    let before = upstream.count();
    let fresh = async || list_with(&ada, &upstream.url, "&force_refresh=true").await;
    is_bad_answer(&fresh().await);
    assert_eq!(upstream.count(), before + 2);
    upstream.answers(|seen| {
        let id = seen.message()["id"].clone();
        let cursor = id.to_string();
        json_reply(
            200,
            &result(
                &id,
                json!({"tools": tools(&["a"; 100]), "nextCursor": cursor}),
            ),
        )
    });
    let before = upstream.count();
    is_bad_answer(&fresh().await);
    assert_eq!(upstream.count(), before + 21);
    upstream.answers(|seen| {
        let id = seen.message()["id"].clone();
        let (cursor, tool) = (
            id.to_string(),
            json!({"name": "a", "description": "x".repeat(1 << 20)}),
        );
        json_reply(
            200,
            &result(&id, json!({"tools": [tool], "nextCursor": cursor})),
        )
    });
    let before = upstream.count();
    is_bad_answer(&fresh().await);
    assert_eq!(upstream.count(), before + 4);
}

#[tokio::test]
async fn who_does_not_answer_is_not_waited_for() {
    let limited = |app: &mut App| app.listing_limit = Duration::from_millis(300);
    let (hawser, upstream) = (Hawser::start_with(limited).await, Upstream::start().await);
    let ada = reader(&hawser, "ada");
    register(&hawser, "wiki", &upstream.url, json!({})).await;
    // Nothing of the body, then a part of it.
    for sent in [":\n", "data: {\"id\":1,"] {
        let (reply, events) = Reply::stream();
        upstream.reply(reply);
        events.send(sent);
        is_unreachable(&list(&ada, &upstream.url).await);
    }
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url =
        |listener: &tokio::net::TcpListener| format!("http://{}/", listener.local_addr().unwrap());
    let (silent_url, closed_url) = (url(&silent), url(&closed));
    drop(closed);
    for (name, url) in [
        ("silent", silent_url.as_str()),
        ("closed", &closed_url),
        ("inside", "https://10.0.0.1/mcp"),
        ("nowhere", "https://nowhere.invalid/mcp"),
    ] {
        let mcp = register(&hawser, name, "https://public.example/mcp", json!({})).await;
        plant(&hawser, &mcp, url).await;
        is_unreachable(&list(&ada, url).await);
    }
}
