//! The REST API for calls: its events into the function's own entry, and what that answers. What is in an event, and where that
//! is written, stands in `gateway.rs`.

use crate::gateway::{Sent, encoded, endpoint};
use crate::harness::{Caller, Hawser};
use crate::upstream::{self, MODERN, Reply, Upstream, message, register, user};
use data_encoding::BASE64;
use futures_util::StreamExt;
use hawser_functions::gateway::{self, Event};
use lambda_http::http::HeaderMap;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

impl Sent<'_> {
    /// Through the REST API for calls, by its own name or by a domain name that maps `/mcp` to it.
    pub fn by_rest_api(&self, caller: &Caller, maps: bool) -> Value {
        let (domain, path) = if maps {
            ("mcp.example.com", self.path.as_str())
        } else {
            let path = self.path.strip_prefix("/mcp").unwrap();
            let path = if path.is_empty() { "/" } else { path };
            ("def.execute-api.eu-west-1.amazonaws.com", path)
        };
        let mut all = BTreeMap::<_, Vec<String>>::new();
        for (name, value) in url::form_urlencoded::parse(self.query.as_bytes()) {
            all.entry(name.into_owned())
                .or_default()
                .push(value.into_owned());
        }
        let last: BTreeMap<_, _> = all.iter().map(|(name, all)| (name, all.last())).collect();
        let sent = caller.headers.iter();
        let headers: Map<String, Value> = sent
            .map(|(name, value)| ((*name).to_uppercase(), json!([value])))
            .chain([("Host".to_owned(), json!([domain]))])
            .collect();
        let single: Map<String, Value> = headers
            .iter()
            .map(|(name, all)| (name.clone(), all[0].clone()))
            .collect();
        let (text, is_base64) = match std::str::from_utf8(self.body) {
            Ok(text) => (text.to_owned(), false),
            Err(_) => (BASE64.encode(self.body), true),
        };
        json!({
            "resource": if self.path == "/mcp" { "/" } else { "/{proxy+}" }, "path": path, "httpMethod": self.method,
            "headers": single, "multiValueHeaders": headers,
            "queryStringParameters": Some(&last).filter(|last| !last.is_empty()),
            "multiValueQueryStringParameters": Some(&all).filter(|all| !all.is_empty()),
            "pathParameters": {"proxy": path.trim_start_matches('/')}, "stageVariables": null,
            "requestContext": {
                "accountId": "123456789012", "apiId": "def", "domainName": domain, "domainPrefix": "def",
                "extendedRequestId": "id", "httpMethod": self.method,
                "identity": {"sourceIp": "192.0.2.1", "userAgent": "test", "accessKey": null, "user": null},
                "path": self.path, "protocol": "HTTP/1.1", "requestId": "id",
                "requestTime": "15/Jan/2026:09:30:00 +0000", "requestTimeEpoch": 1_768_469_400_000_i64,
                "resourceId": "abc", "resourcePath": "/{proxy+}", "stage": "mcp",
            },
            "body": Some(text).filter(|text| !text.is_empty()), "isBase64Encoded": is_base64,
        })
    }
}

/// What the function for calls answers to the REST API, in whole.
pub async fn call(hawser: &Hawser, event: Value) -> (u16, HeaderMap, Value) {
    let event: Event = serde_json::from_value(event).unwrap();
    let answer = endpoint("hawser-invoke")
        .stream_event(&hawser.app, event)
        .await;
    let mut body = Vec::new();
    let mut stream = answer.stream;
    while let Some(piece) = stream.next().await {
        body.extend_from_slice(&piece.unwrap());
    }
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let prelude = answer.metadata_prelude;
    (prelude.status_code.as_u16(), prelude.headers, body)
}

#[tokio::test]
async fn a_rest_api_finds_servers_by_any_name() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let names = ["a wiki", "50% off", "c#", "what?", "a%20b", "Zoë", "a/b"];
    let ping = message("ping").to_string();
    for name in names {
        let sent = Sent {
            method: "POST",
            path: format!("/mcp/v1/{}/mcp", encoded(name)),
            query: "",
            body: ping.as_bytes(),
        };
        for maps in [false, true] {
            let (status, _, body) = call(&hawser, sent.by_rest_api(&admin, maps)).await;
            assert_eq!(
                (status, &body["error"]["code"]),
                (200, &json!(-32001)),
                "{name}: {body}"
            );
        }
        let new = json!({"name": name, "url": "https://x.example/mcp", "headers": []});
        let made = admin.post("/v1/deepagents/mcp-servers", new).await;
        if made.status != 201 {
            continue;
        }
        // It is not there, which is said of servers that are found.
        for maps in [false, true] {
            let (status, _, body) = call(&hawser, sent.by_rest_api(&admin, maps)).await;
            assert_eq!(status, 502, "{name}: {body}");
        }
    }
}

#[tokio::test]
async fn a_rest_api_passes_on_what_a_call_consists_of() {
    let hawser = Hawser::start().await;
    let upstream = Upstream::start().await;
    let mcp = register(&hawser, "open", &upstream.url, json!({})).await;
    let ada = user(&hawser, "ada");
    for body in [
        message("tools/list").to_string().into_bytes(),
        b"\xff\x00{".to_vec(),
    ] {
        let sent = Sent {
            method: "POST",
            path: format!("/mcp/{mcp}"),
            query: "a=1",
            body: &body,
        };
        let mut event = sent.by_rest_api(&ada, true);
        event["multiValueHeaders"]["Accept"] = json!(["application/json", "text/event-stream"]);
        event["headers"]["Accept"] = "text/event-stream".into();
        event["multiValueHeaders"]["MCP-Protocol-Version"] = json!([MODERN.1]);
        let (status, headers, answer) = call(&hawser, event).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        let seen = upstream.last();
        assert_eq!(seen.body, body);
        assert_eq!(seen.header("mcp-protocol-version"), Some(MODERN.1));
        let accepted = seen.headers.iter().filter(|(name, _)| name == "accept");
        assert_eq!(accepted.count(), 2, "{:?}", seen.headers);
    }
}

#[tokio::test]
async fn a_rest_api_gets_the_head_of_an_answer_before_its_end() {
    let hawser = Hawser::start().await;
    let upstream = Upstream::start().await;
    let mcp = register(&hawser, "open", &upstream.url, json!({})).await;
    let ada = user(&hawser, "ada");
    let (reply, events) = Reply::stream();
    upstream.reply(reply);
    let body = message("tools/call").to_string().into_bytes();
    let sent = Sent {
        method: "POST",
        path: format!("/mcp/{mcp}"),
        query: "",
        body: &body,
    };
    let event = serde_json::from_value(sent.by_rest_api(&ada, true)).unwrap();
    let invoke = endpoint("hawser-invoke");
    let mut answer = upstream::soon(invoke.stream_event(&hawser.app, event)).await;
    assert_eq!(answer.metadata_prelude.status_code, 200);
    events.send("data: 1\n\n");
    let piece = upstream::soon(answer.stream.next()).await.unwrap().unwrap();
    assert_eq!(&piece[..], b"data: 1\n\n");
    drop(events);
    assert!(upstream::soon(answer.stream.next()).await.is_none());
}

#[tokio::test]
async fn a_call_without_a_server_keeps_its_path_at_a_rest_api() {
    let hawser = Hawser::start().await;
    for (path, status) in [("/mcp", 401), ("/mcp/mail/mcp", 401), ("/mcp/a/b/c", 404)] {
        for maps in [false, true] {
            let sent = Sent {
                method: "POST",
                path: path.to_owned(),
                query: "",
                body: b"",
            };
            let mut event = sent.by_rest_api(&hawser.anonymous(), maps);
            if path == "/mcp" && maps {
                event["requestContext"]["path"] = "/mcp/".into();
            }
            let (answered, headers, _) = call(&hawser, event).await;
            assert_eq!(answered, status, "{path} {maps}");
            assert_eq!(headers.contains_key("www-authenticate"), status == 401);
        }
    }
}

#[tokio::test]
async fn a_header_with_several_values_is_one_for_a_rest_api() {
    let hawser = Hawser::start().await;
    let upstream = Upstream::start().await;
    let mcp = register(&hawser, "open", &upstream.url, json!({})).await;
    let allow = ["GET", "POST"].map(|one| ("allow", one.to_owned()));
    upstream.reply(Reply::new(405, allow.to_vec(), "{}"));
    let sent = Sent {
        method: "POST",
        path: format!("/mcp/{mcp}"),
        query: "",
        body: b"{}",
    };
    let event = serde_json::from_value(sent.by_rest_api(&user(&hawser, "ada"), true)).unwrap();
    let answer = endpoint("hawser-invoke")
        .stream_event(&hawser.app, event)
        .await;
    // As it goes to the gateway.
    let said = serde_json::to_value(&answer.metadata_prelude).unwrap();
    let headers = said["headers"].as_object().unwrap();
    assert!(headers.values().all(Value::is_string), "{said}");
    assert_eq!(headers["allow"], "GET, POST");
    assert_eq!(
        (&said["statusCode"], &said["cookies"]),
        (&json!(405), &json!([]))
    );
}

#[test]
fn all_values_of_headers_and_parameters_arrive_from_a_rest_api() {
    let event = json!({
        "resource": "/{proxy+}", "path": "/x", "httpMethod": "POST",
        "headers": {"X-API-Key": "a", "Accept": "c/d", "Cookie": "a=b"},
        "multiValueHeaders": {"X-API-Key": ["a"], "Accept": ["a/b", "c/d"], "Cookie": ["a=b"]},
        "queryStringParameters": {"q": "2 #&"},
        "multiValueQueryStringParameters": {"q": ["1", "2 #&"]},
        "requestContext": {"httpMethod": "POST", "path": "/mcp/a%20b", "stage": "mcp"},
        "body": BASE64.encode(b"\xff\x00"), "isBase64Encoded": true,
    });
    let read = |event: &Value| gateway::request(serde_json::from_value(event.clone()).unwrap());
    let request = read(&event).unwrap();
    assert_eq!(request.method(), "POST");
    assert_eq!(request.uri().path(), "/mcp/a%20b");
    let query = request.uri().query().unwrap().as_bytes();
    let pairs: Vec<_> = url::form_urlencoded::parse(query)
        .map(|(_, one)| one)
        .collect();
    assert_eq!(pairs, ["1", "2 #&"]);
    let accept: Vec<_> = request.headers().get_all("accept").iter().collect();
    assert_eq!(accept, ["a/b", "c/d"]);
    assert_eq!(request.headers()["cookie"], "a=b");
    assert_eq!(&**request.body(), b"\xff\x00");
    // What the fields with all values leave out is in the others.
    let mut older = event;
    for name in ["multiValueHeaders", "multiValueQueryStringParameters"] {
        older[name] = Value::Null;
    }
    let request = read(&older).unwrap();
    assert_eq!(request.headers()["x-api-key"], "a");
    assert_eq!(request.uri().query(), Some("q=2+%23%26"));
    older["isBase64Encoded"] = true.into();
    older["body"] = "%%%".into();
    assert_eq!(read(&older).err(), Some(gateway::Unreadable::Body));
}
