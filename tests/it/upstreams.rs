//! What MCP servers of the field do that no specification asks for: they live a slash away from their address, compress what was to
//! stay as it is, and refuse in their own ways what is not of their era.

use crate::harness::{Answer, Caller, Hawser};
use crate::upstream::*;
use bytes::Bytes;
use serde_json::{Value, json};
use std::io::Write;
use std::sync::{Arc, Mutex};

const UNREACHABLE: &str = "The MCP server cannot be reached";

/// The tools of the server at a URL under LangSmith.
async fn list(caller: &Caller, url: &str) -> Answer {
    let url: String = url::form_urlencoded::byte_serialize(url.as_bytes()).collect();
    let path = format!("/v1/deepagents/mcp/tools?url={url}&force_refresh=true");
    soon(caller.get(&path)).await
}

fn json_reply(status: u16, body: &Value) -> Reply {
    let headers = vec![("content-type", "application/json".to_owned())];
    Reply::new(status, headers, body.to_string())
}

fn result(message: &Value, result: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": message["id"], "result": result})
}

fn error(message: &Value, code: i64, text: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": message["id"], "error": {"code": code, "message": text}})
}

fn echo() -> Value {
    json!([{"name": "echo", "inputSchema": {"type": "object"}}])
}

#[tokio::test]
async fn a_redirect_within_the_origin_is_followed_with_all_that_a_call_carries() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let base = upstream.url.trim_end_matches("/mcp").to_owned();
    let key = json!({"auth_data": {"type": "header", "headers": {"X-Key": "s3cret"}}});
    let mcp = register(&hawser, "wiki", &format!("{}?k=v", upstream.url), key).await;
    let ada = user(&hawser, "ada");
    for (status, locations) in [
        (307, vec!["/mcp/".to_owned()]),
        (308, vec![format!("{base}/mcp/?k=v")]),
        (
            307,
            vec!["?k=w".to_owned(), "/a/b".to_owned(), format!("{base}/c#f")],
        ),
    ] {
        for location in &locations {
            upstream.reply(Reply::new(
                status,
                vec![("location", location.clone())],
                "moved",
            ));
        }
        let before = upstream.count();
        let answer = call(&ada, &mcp).await;
        assert_eq!(answer.status, 200, "{locations:?}: {answer:?}");
        let seen = upstream.seen().split_off(before);
        assert_eq!(seen.len(), locations.len() + 1);
        for one in &seen {
            assert_eq!(one.method, "POST");
            assert_eq!(one.body, seen[0].body);
            assert_eq!(one.header("x-key"), Some("s3cret"));
        }
        let last = url::Url::parse(&upstream.url).unwrap();
        let last = locations
            .iter()
            .fold(last, |at, next| at.join(next).unwrap());
        let query = last
            .query()
            .map_or(String::new(), |query| format!("?{query}"));
        assert_eq!(seen.last().unwrap().path, format!("{}{query}", last.path()));
    }
    // Also when a session is closed, and for the lister.
    let session = initialize(&ada, &mcp).await;
    upstream.reply(Reply::new(308, vec![("location", "/mcp/".to_owned())], ""));
    let path = format!("/mcp/{mcp}");
    let closed = ada
        .send("DELETE", &path, &[(SESSION, &session)], Vec::new())
        .await;
    assert_eq!(closed.status, 200, "{closed:?}");
    assert_eq!(
        (
            upstream.last().method.as_str(),
            upstream.last().path.as_str()
        ),
        ("DELETE", "/mcp/")
    );
    upstream.has_tools(echo());
    upstream.reply(Reply::new(307, vec![("location", "/mcp/".to_owned())], ""));
    let admin = hawser.admin("acme");
    let listed = list(&admin, &format!("{}?k=v", upstream.url)).await;
    assert_eq!(listed.json()["tools"][0]["name"], "echo", "{listed:?}");
}

#[tokio::test]
async fn any_other_redirect_is_refused_and_shows_its_managers_where_it_leads() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let other = Upstream::start().await;
    let mcp = register(&hawser, "wiki", &upstream.url, json!({})).await;
    let port = upstream.url.split(':').nth(2).unwrap().to_owned();
    let (ada, admin) = (user(&hawser, "ada"), hawser.admin("acme"));
    for (status, location, shown) in [
        (
            307,
            format!("{}?token=s3cret#s3cret", other.url),
            Some(other.url.clone()),
        ),
        (
            308,
            format!("http://u:s3cret@localhost:{port}"),
            Some(format!("http://localhost:{port}")),
        ),
        (
            307,
            format!("https://127.0.0.1:{port}"),
            Some(format!("https://127.0.0.1:{port}")),
        ),
        (
            302,
            "/login?next=s3cret".to_owned(),
            Some(upstream.url.replace("/mcp", "/login")),
        ),
        (303, "/mcp/".to_owned(), Some(format!("{}/", upstream.url))),
        (
            301,
            "//other.example/a".to_owned(),
            Some("http://other.example/a".to_owned()),
        ),
        (307, "http://[".to_owned(), None),
    ] {
        for (caller, manages) in [(&ada, false), (&admin, true)] {
            let headers = vec![("location", location.clone())];
            upstream.reply(Reply::new(status, headers, "s3cret"));
            let before = upstream.count();
            let answer = call(caller, &mcp).await;
            let told = shown.as_ref().filter(|_| manages);
            let data = told.map_or(Value::Null, |to| {
                let to = url::Url::parse(to).unwrap();
                json!({"redirectedTo": to.as_str()})
            });
            is_refused(&answer, 502, -32603, UNREACHABLE, data);
            assert_eq!(
                (upstream.count(), other.count()),
                (before + 1, 0),
                "{location}"
            );
        }
    }
    // A server that leads in circles, and one step too many.
    upstream.answers(|_| Reply::new(307, vec![("location", "/mcp".to_owned())], ""));
    let before = upstream.count();
    assert_eq!(call(&ada, &mcp).await.status, 502);
    assert_eq!(upstream.count(), before + 4);
}

const CODINGS: [&str; 7] = [
    "gzip",
    "x-gzip",
    "deflate",
    "raw deflate",
    "br",
    "zstd",
    "GZIP",
];

/// A body as a server compresses it, and what it says of it.
fn compressed(coding: &str, body: &str) -> (String, Vec<u8>) {
    let level = flate2::Compression::fast();
    let body = body.as_bytes();
    let bytes = match coding {
        "gzip" | "x-gzip" | "GZIP" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        "deflate" => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        "raw deflate" => {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), level);
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        "zstd" => zstd::encode_all(body, 1).unwrap(),
        // One block that is stored as it is, then the empty last one.
        "br" => {
            let head = ((body.len() as u32 - 1) << 4) | (1 << 20);
            let mut bytes = head.to_le_bytes()[..3].to_vec();
            bytes.extend_from_slice(body);
            bytes.push(3);
            bytes
        }
        "gzip, zstd" => {
            let (_, inner) = compressed("gzip", std::str::from_utf8(body).unwrap());
            zstd::encode_all(&inner[..], 1).unwrap()
        }
        other => panic!("{other}"),
    };
    (coding.trim_start_matches("raw ").to_owned(), bytes)
}

fn coded(coding: &str, kind: &str, body: &str) -> Reply {
    let (name, bytes) = compressed(coding, body);
    let headers = vec![
        ("content-type", kind.to_owned()),
        ("content-encoding", name),
    ];
    Reply::new(200, headers, bytes)
}

#[tokio::test]
async fn an_answer_that_hawser_does_not_read_keeps_its_coding() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let mcp = register(&hawser, "wiki", &upstream.url, json!({})).await;
    let ada = user(&hawser, "ada");
    for coding in CODINGS {
        for kind in ["application/json", "text/event-stream"] {
            let (name, bytes) = compressed(coding, "data: {}\n\n");
            upstream.reply(coded(coding, kind, "data: {}\n\n"));
            let asked = [("accept-encoding", "gzip, br, zstd"), MODERN];
            let answer = open(&hawser, &ada, "POST", &mcp, &asked).await;
            assert_eq!(answer.headers()["content-encoding"], name.as_str());
            assert_eq!(
                soon(answer.bytes()).await.unwrap(),
                bytes,
                "{coding} {kind}"
            );
            let seen = upstream.last();
            assert_eq!(
                seen.header("accept-encoding"),
                Some("identity"),
                "whoever asks"
            );
        }
    }
}

#[tokio::test]
async fn an_answer_that_hawser_reads_is_decoded() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let mcp = register(&hawser, "wiki", &upstream.url, json!({})).await;
    let (ada, admin) = (user(&hawser, "ada"), hawser.admin("acme"));
    let codings = CODINGS.into_iter().chain(["gzip, zstd"]);
    for coding in codings.clone() {
        for kind in ["application/json", "text/event-stream"] {
            upstream.answers(move |seen| {
                let body = result(&seen.message(), json!({"tools": echo()})).to_string();
                match kind {
                    "application/json" => coded(coding, kind, &body),
                    _ => coded(coding, kind, &format!("data: {body}\n\n")),
                }
            });
            let listed = list(&admin, &upstream.url).await;
            assert_eq!(
                listed.json()["tools"][0]["name"],
                "echo",
                "{coding} {kind}: {listed:?}"
            );
        }
    }
    // What a connection keeps back is taken out of it, and what is left has no coding.
    let path = admin.registered(&mcp).await.paths()[2].clone();
    let off = json!({"access_type": "individual", "disabled_tools": [1]});
    assert_eq!(admin.put(&path, off).await.status, 200);
    for coding in codings {
        let body = result(&json!({"id": 7}), json!({"tools": echo()})).to_string();
        upstream.reply(coded(coding, "application/json", &body));
        let answer = call(&ada, &mcp).await;
        assert_eq!(
            (answer.status, answer.text.as_str()),
            (200, body.as_str()),
            "{coding}"
        );
        assert_eq!(answer.header("content-encoding"), None);
        let event = format!("data: {body}\n\n");
        upstream.reply(coded(coding, "text/event-stream", &event));
        let answer = call(&ada, &mcp).await;
        assert_eq!(
            (answer.status, answer.text.as_str()),
            (200, event.as_str()),
            "{coding}"
        );
        assert_eq!(answer.header("content-encoding"), None);
    }
    // Nothing passes unread in a coding that is not known.
    for kind in ["application/json", "text/event-stream"] {
        let headers = vec![
            ("content-type", kind.to_owned()),
            ("content-encoding", "compress".to_owned()),
        ];
        upstream.reply(Reply::new(200, headers, "s3cret"));
        let answer = call(&ada, &mcp).await;
        assert_eq!(
            (answer.status, answer.text.contains("s3cret")),
            (502, false),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn an_event_is_not_held_back_by_its_coding() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let mcp = register(&hawser, "wiki", &upstream.url, json!({})).await;
    let admin = hawser.admin("acme");
    let path = admin.registered(&mcp).await.paths()[2].clone();
    let off = json!({"access_type": "individual", "disabled_tools": [1]});
    assert_eq!(admin.put(&path, off).await.status, 200);
    let ada = user(&hawser, "ada");
    let level = flate2::Compression::fast();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), level);
    let mut zstd = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    for coding in ["gzip", "zstd"] {
        let (mut reply, events) = Reply::stream();
        reply.set("content-encoding", coding);
        upstream.reply(reply);
        let mut answer = open(&hawser, &ada, "GET", &mcp, &[]).await;
        for i in 0..3 {
            let event = format!("data: {{\"n\":{i}}}\n\n");
            let piece = if coding == "gzip" {
                gzip.write_all(event.as_bytes()).unwrap();
                gzip.flush().unwrap();
                std::mem::take(gzip.get_mut())
            } else {
                zstd.write_all(event.as_bytes()).unwrap();
                zstd.flush().unwrap();
                std::mem::take(zstd.get_mut())
            };
            events.send(Bytes::from(piece));
            let piece = soon(answer.chunk()).await.unwrap().unwrap();
            assert_eq!(piece, event.as_bytes(), "{coding}");
        }
    }
}

#[tokio::test]
async fn few_bytes_that_stand_for_many_are_refused() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let mcp = register(&hawser, "wiki", &upstream.url, json!({})).await;
    let admin = hawser.admin("acme");
    let path = admin.registered(&mcp).await.paths()[2].clone();
    let bomb = format!(
        "{}{}",
        " ".repeat(64 << 20),
        r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}"#
    );
    for (coding, listed) in [
        ("gzip", true),
        ("zstd", true),
        ("deflate", true),
        ("gzip", false),
        ("zstd", false),
    ] {
        let (name, bytes) = compressed(coding, &bomb);
        assert!(bytes.len() < 1 << 20);
        let headers = vec![
            ("content-type", "application/json".to_owned()),
            ("content-encoding", name),
        ];
        upstream.reply(Reply::new(200, headers, bytes));
        let answer = if listed {
            list(&admin, &upstream.url).await
        } else {
            let off = json!({"access_type": "individual", "disabled_tools": [1]});
            assert_eq!(admin.put(&path, off).await.status, 200);
            call(&user(&hawser, "ada"), &mcp).await
        };
        assert_eq!(answer.status, 502, "{coding}: {answer:?}");
    }
}

/// A server that knows nothing but sessions, and refuses everything else in its own way.
fn in_sessions(refusal: fn(&Value) -> Reply) -> impl FnMut(&Seen) -> Reply {
    move |seen| {
        let message = seen.message();
        if message["method"] == "initialize" {
            let agreed =
                json!({"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {}});
            let mut reply = json_reply(200, &result(&message, agreed));
            reply.set(SESSION, "theirs");
            return reply;
        }
        match (seen.header(SESSION), message["method"].as_str()) {
            (Some("theirs"), Some("tools/list")) => {
                json_reply(200, &result(&message, json!({"tools": echo()})))
            }
            (Some("theirs"), _) => Reply::new(202, vec![], ""),
            _ => refusal(&message),
        }
    }
}

#[tokio::test]
async fn whatever_a_session_server_refuses_with_leads_to_a_session() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    register(&hawser, "wiki", &upstream.url, json!({})).await;
    let refusals: [fn(&Value) -> Reply; 12] = [
        |m| {
            json_reply(
                400,
                &error(m, -32000, "Bad Request: No valid session ID provided"),
            )
        },
        |_| Reply::new(400, vec![], "Invalid session ID"),
        |_| Reply::new(401, vec![], "Unauthorized: Session ID is required"),
        |m| json_reply(401, &error(m, -32001, "missing Mcp-Session-Id")),
        |_| json_reply(403, &json!({"error": "Forbidden: no session"})),
        |m| json_reply(404, &error(m, -32601, "Method not found")),
        |_| {
            json_reply(
                404,
                &error(&json!({"id": null}), -32601, "Method not found"),
            )
        },
        |m| json_reply(404, &error(m, -32001, "Session not found")),
        |_| Reply::new(405, vec![("allow", "GET, DELETE".to_owned())], ""),
        |m| json_reply(405, &error(m, -32000, "Method not allowed.")),
        |m| json_reply(500, &error(m, -32603, "Internal error: session is null")),
        |_| {
            Reply::new(
                500,
                vec![("content-type", "text/html".to_owned())],
                "<h1>Internal Server Error</h1>",
            )
        },
    ];
    for (i, refusal) in refusals.into_iter().enumerate() {
        // A process that knows nothing of it yet.
        let hawser = Hawser::on(hawser.ground()).await;
        upstream.answers(in_sessions(refusal));
        let before = upstream.count();
        let listed = list(&hawser.admin("acme"), &upstream.url).await;
        assert_eq!(listed.json()["tools"][0]["name"], "echo", "{i}: {listed:?}");
        assert_eq!(
            upstream.count(),
            before + 5,
            "{i}: asked, opened, told, listed, closed"
        );
    }
}

#[tokio::test]
async fn opening_a_session_is_tried_once() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    register(&hawser, "wiki", &upstream.url, json!({})).await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let refusals: [fn(&Value) -> Reply; 5] = [
        |m| json_reply(400, &error(m, -32000, "no session")),
        |m| json_reply(401, &error(m, -32000, "no session")),
        |m| json_reply(404, &error(m, -32601, "Method not found")),
        |_| Reply::new(405, vec![], ""),
        |_| Reply::new(500, vec![], "session"),
    ];
    for (i, refusal) in refusals.into_iter().enumerate() {
        // One that has never known a session, and one that has known one until now.
        for known in [false, true] {
            let hawser = Hawser::on(hawser.ground()).await;
            let admin = hawser.admin("acme");
            if known {
                upstream.answers(in_sessions(refusal));
                assert_eq!(list(&admin, &upstream.url).await.status, 200);
            }
            let log = asked.clone();
            upstream.answers(move |seen| {
                let message = seen.message();
                log.lock().unwrap().push(
                    message["method"]
                        .as_str()
                        .unwrap_or(&seen.method)
                        .to_owned(),
                );
                refusal(&message)
            });
            assert_eq!(list(&admin, &upstream.url).await.status, 502, "{i} {known}");
            let asked = std::mem::take(&mut *asked.lock().unwrap());
            let opened = asked
                .iter()
                .filter(|method| *method == "initialize")
                .count();
            assert_eq!(opened, 1, "{i} {known}: {asked:?}");
            assert!(asked.len() <= 3, "{i} {known}: {asked:?}");
        }
    }
    // A challenge is about credentials, whatever words come with it.
    let challenge = vec![(
        "www-authenticate",
        "Bearer error=\"invalid_token\"".to_owned(),
    )];
    let before = upstream.count();
    upstream.answers(move |_| Reply::new(401, challenge.clone(), "your session is over"));
    let refused = list(
        &Hawser::on(hawser.ground()).await.admin("acme"),
        &upstream.url,
    )
    .await;
    assert_eq!(
        refused.json()["code"],
        "upstream_auth_failed",
        "{refused:?}"
    );
    assert_eq!(upstream.count(), before + 1);
}

#[tokio::test]
async fn the_transport_of_2024_11_05_is_called_by_its_name() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let mcp = register(&hawser, "wiki", &upstream.url, json!({})).await;
    let (ada, admin) = (user(&hawser, "ada"), hawser.admin("acme"));
    let path = admin.registered(&mcp).await.paths()[2].clone();
    for (status, opening) in [
        (405, "event: endpoint\ndata: /messages?session_id=1\n\n"),
        (
            404,
            ": ping\n\nevent: endpoint\r\ndata: /messages/?session_id=s3cret\r\n\r\n",
        ),
        (
            405,
            "event:endpoint\ndata:http://h/m\n\nevent: message\ndata: {}\n\n",
        ),
    ] {
        upstream.answers(move |seen| match seen.method.as_str() {
            "GET" => {
                let (reply, events) = Reply::stream();
                events.send(opening);
                // It never ends.
                std::mem::forget(events);
                reply
            }
            _ => Reply::new(status, vec![], ""),
        });
        let answer = soon(send(&ada, &mcp, &[], message("initialize"))).await;
        assert_eq!(answer.status, 502, "{answer:?}");
        assert!(answer.text.contains("HTTP+SSE of 2024-11-05"), "{answer:?}");
        let listed = list(&admin, &upstream.url).await;
        assert!(listed.text.contains("HTTP+SSE of 2024-11-05"), "{listed:?}");
        let listed = admin.get(&format!("{path}/tools")).await;
        assert!(listed.text.contains("HTTP+SSE of 2024-11-05"), "{listed:?}");
        assert!(!format!("{answer:?}").contains("s3cret"));
    }
    // Others that refuse the same say what they say.
    for (reply, text) in [
        ("data: {}\n\n", "modern"),
        ("event: message\ndata: {}\n\n", "gone"),
        ("", "no"),
    ] {
        upstream.answers(move |seen| match seen.method.as_str() {
            "GET" => Reply::new(
                200,
                vec![("content-type", "text/event-stream".to_owned())],
                reply,
            ),
            _ => Reply::new(405, vec![], text),
        });
        let answer = soon(send(&ada, &mcp, &[], message("initialize"))).await;
        assert_eq!((answer.status, answer.text.as_str()), (405, text));
    }
}
