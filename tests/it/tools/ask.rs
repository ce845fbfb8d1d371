//! What a server is asked, in the words of either era.

use super::{
    FOREIGN, SERVERS, asked, is_bad_answer, json_reply, list, list_with, names, reader, result,
    tools,
};
use crate::harness::Hawser;
use crate::upstream::{Reply, SESSION, Seen, Upstream, register};
use serde_json::{Value, json};

fn error(id: &Value, code: i64) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": FOREIGN}})
}

/// One page for each of these, each but the last with a cursor.
fn page(pages: &[Value], message: &Value) -> Value {
    let at = message["params"]["cursor"].as_str();
    let at: usize = at.map_or(0, |cursor| {
        cursor.strip_prefix("page ").unwrap().parse().unwrap()
    });
    let mut page = json!({"tools": pages[at]});
    if at + 1 < pages.len() {
        page["nextCursor"] = json!(format!("page {}", at + 1));
    }
    page
}

/// A server that knows nothing but sessions.
fn in_sessions(pages: Vec<Value>, refusal: fn(&Value) -> Reply) -> impl FnMut(&Seen) -> Reply {
    move |seen| {
        let message = seen.message();
        let id = &message["id"];
        if message["method"] == "initialize" {
            let mut reply = json_reply(
                200,
                &result(
                    id,
                    json!({"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {}}),
                ),
            );
            reply.set(SESSION, "theirs");
            return reply;
        }
        if seen.header(SESSION) != Some("theirs") {
            return refusal(id);
        }
        assert_eq!(seen.header("mcp-protocol-version"), Some("2025-06-18"));
        match (seen.method.as_str(), message["method"].as_str()) {
            ("DELETE", _) => Reply::new(204, vec![], ""),
            (_, Some("notifications/initialized")) => Reply::new(202, vec![], ""),
            (_, Some("tools/list")) => json_reply(200, &result(id, page(&pages, &message))),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_server_is_asked_with_what_a_call_carries() {
    let (hawser, upstream) = (Hawser::start_by_hand().await, Upstream::start().await);
    let new = json!({"name": "wiki", "url": upstream.url, "headers": [{"key": "X-Key", "value": "stored"},
                     {"key": "Mcp-Method", "value": "stored"}, {"key": "Accept", "value": "stored"}]});
    assert_eq!(hawser.admin("acme").post(SERVERS, new).await.status, 201);
    upstream.has_tools(json!([
        {"name": "b", "title": "B", "description": "Does b.", "inputSchema": {"type": "object", "x": [1, 2]},
         "annotations": {"readOnlyHint": true, "x": {}}, "outputSchema": {}, "icons": []},
        {"name": "a"},
        {"name": "a", "description": null, "annotations": {}},
    ]));
    let ada = reader(&hawser, "ada");
    let answer = list(&ada, &upstream.url).await;
    let fetched = hawser.app.now().seconds_z();
    let expected = json!({
        "tools": [
            {"name": "b", "description": "Does b.", "inputSchema": {"type": "object", "x": [1, 2]},
             "annotations": {"readOnlyHint": true, "x": {}}},
            {"name": "a", "description": "", "inputSchema": {"type": "object"}},
            {"name": "a", "description": "", "inputSchema": {"type": "object"}, "annotations": {}},
        ],
        "cached": false,
        "fetched_at": fetched,
    });
    answer.is(200, expected.clone());
    assert_eq!(upstream.count(), 1);
    let seen = upstream.last();
    let host = upstream.url.trim_start_matches("http://");
    let mut arrived = seen.headers.clone();
    arrived.sort();
    let length = seen.body.len().to_string();
    let expected_headers = [
        ("accept", "application/json, text/event-stream"),
        ("accept-encoding", "identity"),
        ("content-length", &length),
        ("content-type", "application/json"),
        ("hawser-hops", "1"),
        ("host", host.trim_end_matches("/mcp")),
        ("mcp-method", "tools/list"),
        ("mcp-protocol-version", "2026-07-28"),
        ("user-agent", concat!("hawser/", env!("CARGO_PKG_VERSION"))),
        ("x-key", "stored"),
    ];
    let expected_headers =
        expected_headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(arrived, expected_headers);
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "hawser", "version": env!("CARGO_PKG_VERSION")},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let sent =
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}});
    assert_eq!(seen.message(), sent);
    // Once more from what is kept; the same for whoever asks.
    let mut kept = expected;
    kept["cached"] = json!(true);
    hawser.pass(7);
    list(&reader(&hawser, "bob"), &upstream.url)
        .await
        .is(200, kept);
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn all_pages_are_read_in_both_eras() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    register(&hawser, "wiki", &upstream.url, json!({})).await;
    let pages = vec![tools(&["c", "a"]), json!([]), tools(&["b"])];
    let all = pages.clone();
    upstream.answers(move |seen| {
        let message = seen.message();
        assert_eq!(seen.header(SESSION), None);
        assert!(message["params"]["_meta"].is_object());
        let mut page = page(&all, &message);
        page["resultType"] = json!("complete");
        page["ttlMs"] = json!(0);
        json_reply(200, &result(&message["id"], page))
    });
    let ada = reader(&hawser, "ada");
    let answer = list(&ada, &upstream.url).await;
    assert_eq!(names(&answer), ["c", "a", "b"]);
    assert_eq!(asked(&upstream), ["tools/list"; 3]);

    let upstream = Upstream::start().await;
    register(&hawser, "old", &upstream.url, json!({})).await;
    upstream.answers(in_sessions(pages, |id| json_reply(400, &error(id, -32000))));
    let answer = list(&ada, &upstream.url).await;
    assert_eq!(names(&answer), ["c", "a", "b"]);
    let session = [
        "initialize",
        "notifications/initialized",
        "tools/list",
        "tools/list",
        "tools/list",
        "DELETE",
    ];
    assert_eq!(asked(&upstream), [&["tools/list"], &session[..]].concat());
    let opened = &upstream.seen()[1];
    assert_eq!(opened.header("mcp-protocol-version"), None);
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {},
                        "clientInfo": {"name": "hawser", "version": env!("CARGO_PKG_VERSION")}});
    assert_eq!(opened.message()["params"], params);
    // The era is remembered.
    let before = upstream.count();
    let answer = list_with(&ada, &upstream.url, "&force_refresh=true").await;
    assert_eq!(names(&answer).len(), 3);
    assert_eq!(asked(&upstream)[before..], session);
    // Until it is over.
    upstream.answers(|seen| {
        let message = seen.message();
        match message["method"].as_str() {
            Some("tools/list") if seen.header(SESSION).is_none() => json_reply(
                200,
                &result(&message["id"], json!({"tools": tools(&["new"])})),
            ),
            _ => json_reply(404, &error(&message["id"], -32601)),
        }
    });
    for expected in [&["initialize", "tools/list"][..], &["tools/list"]] {
        let before = upstream.count();
        let answer = list_with(&ada, &upstream.url, "&force_refresh=1").await;
        assert_eq!(names(&answer), ["new"]);
        assert_eq!(asked(&upstream)[before..], *expected);
    }
}

#[tokio::test]
async fn servers_of_the_session_era_are_told_by_how_they_refuse() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    register(&hawser, "wiki", &upstream.url, json!({})).await;
    let plain = |status: u16, text: &str| Reply::new(status, vec![], text.to_owned());
    let old: [fn(&Value) -> Reply; 8] = [
        |id| json_reply(400, &error(id, -32000)),
        |_| json_reply(400, &error(&Value::Null, -32600)),
        |_| json_reply(400, &json!({"error": FOREIGN})),
        |_| Reply::new(400, vec![], FOREIGN),
        |_| Reply::new(422, vec![], FOREIGN),
        |_| Reply::new(404, vec![], ""),
        |id| json_reply(200, &error(id, -32602)),
        |id| {
            let mut body = error(id, -32022);
            body["error"]["data"] = json!({"supported": ["2025-06-18", "2025-11-25"]});
            json_reply(400, &body)
        },
    ];
    for refusal in old {
        // A process that knows nothing of it yet.
        let hawser = Hawser::on(hawser.ground()).await;
        upstream.answers(in_sessions(vec![tools(&["a"])], refusal));
        let answer = list_with(
            &reader(&hawser, "ada"),
            &upstream.url,
            "&force_refresh=true",
        )
        .await;
        assert_eq!(names(&answer), ["a"]);
    }
    // These are what they are.
    let supported = |id: &Value| {
        let mut body = error(id, -32022);
        body["error"]["data"] = json!({"supported": ["2025-11-25", "2026-07-28"]});
        json_reply(400, &body)
    };
    let not_old: [&dyn Fn() -> Reply; 8] = [
        &|| json_reply(400, &error(&json!(1), -32020)),
        &|| json_reply(400, &error(&json!(1), -32021)),
        &|| json_reply(400, &error(&Value::Null, -32022)),
        &|| supported(&json!(1)),
        &|| plain(408, FOREIGN),
        &|| plain(429, FOREIGN),
        &|| plain(503, FOREIGN),
        &|| plain(200, FOREIGN),
    ];
    for reply in not_old {
        let before = upstream.count();
        upstream.reply(reply());
        let answer = list_with(
            &reader(&hawser, "ada"),
            &upstream.url,
            "&force_refresh=true",
        )
        .await;
        is_bad_answer(&answer);
        assert_eq!(upstream.count(), before + 1);
    }
}
