//! Lists of tools: what a server is asked, in the words of either era, what comes of its answers, and how long a list is
//! kept for whom. The judge is the server's own log.

use crate::harness::{Answer, Caller, Hawser};
use crate::issuer::{Fault, Issuer};
use crate::upstream::{
    MCP, Reply, SESSION, Seen, Upstream, connect, disconnect, install, oauth, own, per_user, plant,
    register, soon,
};
use hawser_core::App;
use serde_json::{Value, json};
use std::time::Duration;

const SERVERS: &str = "/v1/deepagents/mcp-servers";
/// Planted in what a server says: none of it may reach a caller.
const FOREIGN: &str = "the server explains";

/// The tools of the server at a URL, as a caller finds them there.
async fn list(caller: &Caller, url: &str) -> Answer {
    list_with(caller, url, "").await
}

async fn list_with(caller: &Caller, url: &str, more: &str) -> Answer {
    let url: String = url::form_urlencoded::byte_serialize(url.as_bytes()).collect();
    let path = format!("/v1/deepagents/mcp/tools?url={url}{more}");
    soon(caller.get(&path)).await
}

fn reader(hawser: &Hawser, name: &str) -> Caller {
    let permissions = json!({"permissions": ["mcp-servers:read"]});
    hawser.caller("acme", name, permissions)
}

#[track_caller]
fn names(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let tools = answer.json()["tools"].clone();
    let name = |tool: &Value| tool["name"].as_str().unwrap().to_owned();
    tools.as_array().unwrap().iter().map(name).collect()
}

#[track_caller]
fn is_refused(answer: &Answer, status: u16, code: &str, detail: &str) {
    let kind = format!("https://docs.langchain.com/errors/{code}");
    let body = json!({"type": kind, "code": code, "detail": detail, "status": status});
    answer.is(status, body);
}

#[track_caller]
fn is_bad_answer(answer: &Answer) {
    let detail = "Check the MCP server: its answer is not a valid MCP response";
    is_refused(answer, 502, "mcp_server_bad_response", detail);
}

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

#[track_caller]
fn is_unconnected(answer: &Answer) {
    let detail = "Connect to this server first: the caller has no usable token";
    is_refused(answer, 400, "oauth_connection_required", detail);
}

fn json_reply(status: u16, body: &Value) -> Reply {
    let headers = vec![("content-type", "application/json".to_owned())];
    Reply::new(status, headers, body.to_string())
}

fn event_reply(body: &str) -> Reply {
    let headers = vec![("content-type", "text/event-stream".to_owned())];
    Reply::new(200, headers, body.to_owned())
}

fn result(id: &Value, result: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}

fn error(id: &Value, code: i64) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": FOREIGN}})
}

fn tools(names: &[&str]) -> Value {
    names.iter().map(|name| json!({"name": name})).collect()
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

/// Methods of the messages, and HTTP's where there is none.
fn asked(upstream: &Upstream) -> Vec<String> {
    let method = |seen: Seen| match seen.message()["method"].as_str() {
        Some(method) => method.to_owned(),
        None => seen.method,
    };
    upstream.seen().into_iter().map(method).collect()
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

#[tokio::test]
async fn answers_may_be_events() {
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

#[tokio::test]
async fn a_list_serves_for_five_minutes() {
    let (hawser, upstream) = (Hawser::start_by_hand().await, Upstream::start().await);
    let mcp = register(&hawser, "wiki", &upstream.url, json!({})).await;
    let ada = reader(&hawser, "ada");
    upstream.has_tools(tools(&["old"]));
    let first = list(&ada, &upstream.url).await.json();
    upstream.has_tools(tools(&["new"]));
    hawser.pass(299);
    let answer = list(&ada, &upstream.url).await;
    assert_eq!(names(&answer), ["old"]);
    assert_eq!(answer.json()["cached"], true);
    assert_eq!(answer.json()["fetched_at"], first["fetched_at"]);
    // Not kept in memory: another process has it too.
    hawser.pass(-299);
    let other = Hawser::on(hawser.ground()).await;
    assert_eq!(
        list(&reader(&other, "bob"), &upstream.url).await.json()["cached"],
        true
    );
    assert_eq!(upstream.count(), 1);
    hawser.pass(300);
    let answer = list(&ada, &upstream.url).await;
    assert_eq!(names(&answer), ["new"]);
    assert_eq!(answer.json()["cached"], false);
    // Asked for anew, it is kept anew.
    upstream.has_tools(tools(&["newer"]));
    for refresh in ["true", "TRUE", "1"] {
        hawser.pass(200);
        let answer = list_with(&ada, &upstream.url, &format!("&force_refresh={refresh}")).await;
        assert_eq!(names(&answer), ["newer"]);
    }
    hawser.pass(200);
    for kept in [
        "",
        "&force_refresh=false",
        "&force_refresh=0",
        "&force_refresh=",
    ] {
        let answer = list_with(&ada, &upstream.url, kept).await;
        assert_eq!(answer.json()["cached"], true, "{kept}");
    }
    assert_eq!(upstream.count(), 5);
    // A failure does not take its place, and is not kept either.
    upstream.reply(Reply::new(500, vec![], ""));
    is_bad_answer(&list_with(&ada, &upstream.url, "&force_refresh=true").await);
    assert_eq!(list(&ada, &upstream.url).await.json()["cached"], true);
    // Nothing of it can be read in the table, and it goes with its server.
    let kept = async |what: &str| {
        let items = hawser.ground().items().await;
        items
            .iter()
            .filter(|item| item.to_string().contains(what))
            .count()
    };
    assert_eq!((kept("newer").await, kept("TOOLS#shared").await), (0, 1));
    assert_eq!(
        hawser
            .admin("acme")
            .delete(&format!("{MCP}/{mcp}"))
            .await
            .status,
        200
    );
    let answer = list(&ada, &upstream.url).await;
    assert_eq!(answer.status, 404, "{answer:?}");
    hawser.run_workers().await;
    assert_eq!(kept("TOOLS#").await, 0);
    // Nor does its successor inherit it.
    register(&hawser, "wiki", &upstream.url, json!({})).await;
    assert_eq!(list(&ada, &upstream.url).await.json()["cached"], false);
}

#[tokio::test]
async fn what_rests_on_a_subjects_own_credential_is_its_own() {
    let hawser = Hawser::start().await;
    let (issuer, upstream) = (Issuer::start().await, Upstream::start().await);
    let mcp = register(&hawser, "mail", &issuer.mcp_url(), oauth()).await;
    let (ada, bob) = (reader(&hawser, "ada"), reader(&hawser, "bob"));
    is_unconnected(&list(&ada, &issuer.mcp_url()).await);
    connect(&hawser, &issuer, &mcp, "ada").await;
    connect(&hawser, &issuer, &mcp, "bob").await;
    issuer.clear_log();
    let found = async |caller: &Caller| names(&list(caller, &issuer.mcp_url()).await);
    let (of_ada, of_bob) = (found(&ada).await, found(&bob).await);
    assert_ne!(of_ada, of_bob);
    assert_eq!((found(&ada).await, found(&bob).await), (of_ada, of_bob));
    assert_eq!(issuer.count("POST", "/mcp"), 2);
    is_unconnected(&list(&reader(&hawser, "eve"), &issuer.mcp_url()).await);

    // Overrides likewise; who has none shares with the others who have none.
    let header = json!({"auth_data": {"type": "header", "headers": {"X-Key": "shared"}}});
    let wiki = register(&hawser, "wiki", &upstream.url, header).await;
    install(&hawser, &wiki, "ada", own("ada's")).await;
    upstream.answers(|seen| {
        let tool = json!({"name": seen.header("x-key")});
        json_reply(
            200,
            &result(&seen.message()["id"], json!({"tools": [tool]})),
        )
    });
    let eve = reader(&hawser, "eve");
    for (caller, name, cached) in [
        (&bob, "shared", false),
        (&ada, "ada's", false),
        (&eve, "shared", true),
        (&ada, "ada's", true),
    ] {
        let answer = list(caller, &upstream.url).await;
        assert_eq!(names(&answer), [name]);
        assert_eq!(answer.json()["cached"], cached, "{name}");
    }
    install(&hawser, &wiki, "ada", own("new")).await;
    assert_eq!(names(&list(&ada, &upstream.url).await), ["new"]);
    disconnect(&hawser, &wiki, "ada", "auth-override").await;
    let answer = list(&ada, &upstream.url).await;
    assert_eq!(
        (names(&answer), answer.json()["cached"].clone()),
        (vec!["shared".to_owned()], json!(true))
    );
    // Where each brings its own, who brings none is told so.
    let filled = register(&hawser, "own", &format!("{}/2", upstream.url), per_user()).await;
    let url = format!("{}/2", upstream.url);
    is_unconnected(&list(&ada, &url).await);
    install(&hawser, &filled, "ada", own("k")).await;
    assert_eq!(names(&list(&ada, &url).await), ["Key k"]);
    is_unconnected(&list(&bob, &url).await);
}

#[tokio::test]
async fn a_list_ends_with_what_it_rests_on() {
    let (hawser, issuer) = (Hawser::start().await, Issuer::start().await);
    let admin = hawser.admin("acme");
    let mcp = register(&hawser, "mail", &issuer.mcp_url(), oauth()).await;
    let ada = reader(&hawser, "ada");
    let cached = async || list(&ada, &issuer.mcp_url()).await.json()["cached"].clone();
    let asked = || issuer.count("POST", "/mcp");
    connect(&hawser, &issuer, &mcp, "ada").await;
    assert_eq!(
        (cached().await, cached().await),
        (json!(false), json!(true))
    );
    // A refresh changes nothing.
    issuer.expire(&issuer.issued().last().unwrap().access);
    assert_eq!(
        list_with(&ada, &issuer.mcp_url(), "&force_refresh=1")
            .await
            .status,
        200
    );
    assert_eq!(cached().await, json!(true));
    // A new consent does.
    let before = asked();
    disconnect(&hawser, &mcp, "ada", "oauth").await;
    is_unconnected(&list(&ada, &issuer.mcp_url()).await);
    assert_eq!(asked(), before, "nothing was sent");
    connect(&hawser, &issuer, &mcp, "ada").await;
    assert_eq!(
        (cached().await, cached().await),
        (json!(false), json!(true))
    );
    let before = asked();
    assert_eq!(
        admin
            .delete(&format!("{MCP}/{mcp}/auth/tokens"))
            .await
            .status,
        200
    );
    is_unconnected(&list(&ada, &issuer.mcp_url()).await);
    assert_eq!(asked(), before);
    connect(&hawser, &issuer, &mcp, "ada").await;
    assert_eq!(
        (cached().await, cached().await),
        (json!(false), json!(true))
    );
    // And so does the end of a grant that nobody here has ended.
    issuer.expire(&issuer.issued().last().unwrap().access);
    issuer.fault(Fault {
        status: Some(400),
        body: json!({"error": "invalid_grant"}).to_string(),
        ..Fault::always("/token")
    });
    is_unconnected(&list_with(&ada, &issuer.mcp_url(), "&force_refresh=1").await);
    is_unconnected(&list(&ada, &issuer.mcp_url()).await);

    let upstream = Upstream::start().await;
    upstream.has_tools(json!([]));
    let new =
        json!({"name": "wiki", "url": upstream.url, "headers": [{"key": "X-Key", "value": "a"}]});
    let made = admin.post(SERVERS, new).await;
    let path = format!("{SERVERS}/{}", made.json()["id"].as_str().unwrap());
    let url = std::cell::RefCell::new(upstream.url.clone());
    let cached = async || {
        let at = url.borrow().clone();
        list(&ada, &at).await.json()["cached"].clone()
    };
    assert_eq!(
        (cached().await, cached().await),
        (json!(false), json!(true))
    );
    let moved = format!("{}?b", upstream.url);
    for patch in [
        json!({"headers": [{"key": "X-Key", "value": "b"}]}),
        json!({"auth_type": "headers"}),
        json!({"url": moved}),
        json!({"url": upstream.url}),
        json!({"headers": []}),
    ] {
        assert_eq!(admin.patch(&path, patch.clone()).await.status, 200);
        if let Some(at) = patch["url"].as_str() {
            *url.borrow_mut() = at.to_owned();
        }
        assert_eq!(
            (cached().await, cached().await),
            (json!(false), json!(true)),
            "{patch}"
        );
    }
    // What is no change is none.
    assert_eq!(admin.patch(&path, json!({"headers": []})).await.status, 200);
    assert_eq!(cached().await, json!(true));
    hawser.run_workers().await;
}

/// A server is asked, and before it answers something happens here. Who asked before that has the answer in any case.
async fn meanwhile(upstream: &Upstream, caller: &Caller, change: impl Future<Output = ()>) {
    let (reply, events) = Reply::stream();
    let before = upstream.count();
    upstream.reply(reply);
    let (caller, url) = (caller.clone(), upstream.url.clone());
    let asking = tokio::spawn(async move { list(&caller, &url).await });
    soon(async {
        while upstream.count() == before {
            tokio::task::yield_now().await;
        }
    })
    .await;
    change.await;
    let late = "data: {\"id\":1,\"result\":{\"tools\":[{\"name\":\"late\"}]}}\n\n";
    events.send(late);
    drop(events);
    assert_eq!(names(&asking.await.unwrap()), ["late"]);
}

#[tokio::test]
async fn a_late_list_brings_nothing_back() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let admin = hawser.admin("acme");
    let ada = reader(&hawser, "ada");
    let kept = async || {
        let items = hawser.ground().items().await;
        items
            .iter()
            .filter(|item| item["SK"].as_str().unwrap().starts_with("TOOLS#"))
            .count()
    };
    upstream.has_tools(tools(&["now"]));

    // The server moves: by its revision the write is refused.
    let header = |name: &str, value: &str| json!({"auth_data": {"type": "header", "headers": {name: value}}});
    let change = async |auth: Value| register(&hawser, "wiki", &upstream.url, auth).await;
    let mcp = change(header("X-Key", "a")).await;
    meanwhile(&upstream, &ada, async {
        drop(change(header("X-Other", "a")).await)
    })
    .await;
    assert_eq!(kept().await, 0);
    assert_eq!(names(&list(&ada, &upstream.url).await), ["now"]);
    // A secret changes: the write happens, and by its fingerprint nobody believes it.
    change(header("X-Other", "b")).await;
    meanwhile(&upstream, &ada, async {
        drop(change(header("X-Other", "c")).await)
    })
    .await;
    assert_eq!(kept().await, 1);
    assert_eq!(names(&list(&ada, &upstream.url).await), ["now"]);
    // The subject is disconnected, and gets something else later.
    install(&hawser, &mcp, "ada", own("x")).await;
    meanwhile(
        &upstream,
        &ada,
        disconnect(&hawser, &mcp, "ada", "auth-override"),
    )
    .await;
    assert_eq!(kept().await, 2);
    assert_eq!(names(&list(&ada, &upstream.url).await), ["now"]);
    install(&hawser, &mcp, "ada", own("x")).await;
    assert_eq!(names(&list(&ada, &upstream.url).await), ["now"]);
    // The server is deleted, and cleared away.
    install(&hawser, &mcp, "ada", own("y")).await;
    meanwhile(&upstream, &ada, async {
        assert_eq!(admin.delete(&format!("{MCP}/{mcp}")).await.status, 200);
        hawser.run_workers().await;
    })
    .await;
    assert_eq!(kept().await, 0);
    hawser.run_workers().await;
}

#[tokio::test]
async fn long_lists_are_kept_if_they_fit() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    register(&hawser, "wiki", &upstream.url, json!({})).await;
    let ada = reader(&hawser, "ada");
    let tool =
        |number: usize, text: &str| json!({"name": format!("tool {number}"), "description": text});
    // Two megabytes that repeat themselves.
    let long = "All work and no play makes Jack a dull boy. ".repeat(50);
    upstream.has_tools((0..1000).map(|number| tool(number, &long)).collect());
    for cached in [false, true] {
        let answer = list(&ada, &upstream.url).await;
        assert_eq!(names(&answer).len(), 1000);
        assert_eq!(answer.json()["cached"], cached);
    }
    // One that does not.
    let mut state = 7u64;
    let mut noise = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        format!("{:016x}", state)
    };
    let noise: String = (0..100_000).map(|_| noise()).collect();
    upstream.has_tools(json!([tool(1, &noise)]));
    for _ in 0..2 {
        let answer = list_with(&ada, &upstream.url, "&force_refresh=true").await;
        assert_eq!(answer.json()["tools"][0]["description"], noise.as_str());
        assert_eq!(answer.json()["cached"], false);
    }
}
