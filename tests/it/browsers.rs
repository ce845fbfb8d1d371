//! Browsers: which web pages may call and read answers, and HEAD where GET works (Inbound 5).

use crate::harness::{Answer, Caller, Hawser, per_user};
use crate::upstream::{self, MODERN, Reply, SESSION, Upstream, message, register, user};
use hawser_functions::gateway::Event;
use hawser_functions::{ENDPOINTS, Readers};
use serde_json::{Value, json};
use std::time::Duration;

const LISTED: &str = "https://app.example";
const UNLISTED: &str = "https://evil.example";

async fn hawser() -> Hawser {
    Hawser::start_with(|app| app.allowed_origins = vec![LISTED.to_owned()]).await
}

fn allowed(answer: &Answer) -> Option<String> {
    answer.header("access-control-allow-origin")
}

/// What a browser asks before it lets a page of `origin` send a request.
async fn preflight(hawser: &Hawser, origin: &str, method: &str, path: &str) -> Answer {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", method),
        (
            "access-control-request-headers",
            "authorization, Content-Type,mcp-protocol-version, mcp-param-a_b, x-evil, host",
        ),
    ];
    hawser
        .anonymous()
        .send("OPTIONS", path, &headers, Vec::new())
        .await
}

#[tokio::test]
async fn preflights_are_answered_for_listed_origins_under_every_contract() {
    let hawser = hawser().await;
    for endpoint in ENDPOINTS {
        for (method, path) in endpoint.all_routes() {
            for origin in [LISTED, UNLISTED] {
                let answer = preflight(&hawser, origin, method, path).await;
                let expected = match endpoint.readers {
                    Readers::Listed => (origin == LISTED).then(|| origin.to_owned()),
                    Readers::Anyone => Some("*".to_owned()),
                    Readers::Nobody => None,
                };
                let is_open = expected.is_some();
                let why = format!("{method} {path} of {origin}: {answer:?}");
                assert_eq!(answer.status == 204, is_open, "{why}");
                assert_eq!(answer.header("access-control-allow-credentials"), None);
                if !is_open {
                    assert_eq!(answer.header("access-control-allow-methods"), None, "{why}");
                    continue;
                }
                assert_eq!(allowed(&answer), expected, "{why}");
                let methods = answer.header("access-control-allow-methods").unwrap();
                assert!(methods.split(", ").any(|one| one == method), "{why}");
                assert_eq!(
                    answer.header("access-control-allow-headers").as_deref(),
                    Some("authorization, content-type, mcp-protocol-version, mcp-param-a_b"),
                    "{why}"
                );
                assert_eq!(answer.header("vary").as_deref(), Some("Origin"), "{why}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_no_preflight_is_refused_as_before() {
    let hawser = hawser().await;
    let path = "/api/v1/mcp-servers";
    let asks = |headers: Vec<(&'static str, &'static str)>| {
        let anonymous = hawser.anonymous();
        async move { anonymous.send("OPTIONS", path, &headers, Vec::new()).await }
    };
    for headers in [
        vec![],
        vec![("origin", LISTED)],
        vec![("access-control-request-method", "GET")],
        vec![
            ("origin", LISTED),
            ("access-control-request-method", "PATCH"),
        ],
        vec![("origin", "null"), ("access-control-request-method", "GET")],
        vec![
            ("origin", LISTED),
            ("origin", UNLISTED),
            ("access-control-request-method", "GET"),
        ],
    ] {
        let answer = asks(headers.clone()).await;
        assert_eq!(answer.status, 405, "{headers:?}: {answer:?}");
        let allow = answer.header("allow");
        assert_eq!(allow.as_deref(), Some("GET, HEAD, POST"), "{headers:?}");
    }
    let nowhere = preflight(&hawser, LISTED, "GET", "/nowhere").await;
    assert_eq!(nowhere.status, 404);
}

#[tokio::test]
async fn pages_of_listed_origins_alone_may_read_answers() {
    let hawser = hawser().await;
    let admin = hawser.admin("acme");
    admin.register("wiki", per_user(), &[]).await;
    for caller in [&admin, &hawser.anonymous()] {
        for path in [
            "/api/svc/v1/mcp",
            "/api/svc/v1/mcp/mcp-unknown",
            "/v1/deepagents/mcp-servers",
            "/api/v1/mcp-servers",
            "/v1/audit",
            "/v1/nothing",
            "/mcp/nothing",
        ] {
            let get = async |headers: &[(&str, &str)]| {
                caller.send("GET", path, headers, Vec::new()).await
            };
            let (read, kept) = (
                get(&[("origin", LISTED)]).await,
                get(&[("origin", UNLISTED)]).await,
            );
            assert_eq!(allowed(&read).as_deref(), Some(LISTED), "{path}: {read:?}");
            let exposed = read.header("access-control-expose-headers").unwrap();
            for name in [
                "Mcp-Session-Id",
                "WWW-Authenticate",
                "Hawser-Receipt",
                "Apigw-Requestid",
            ] {
                assert!(exposed.split(", ").any(|one| one == name), "{name}");
            }
            assert_eq!(allowed(&kept), None, "{path}: {kept:?}");
            // A cache must not give one page what is for another.
            for answer in [&read, &kept, &get(&[]).await] {
                assert_eq!(answer.header("vary").as_deref(), Some("Origin"), "{path}");
            }
        }
    }
    let document = "/oauth/client-metadata.json";
    let public = admin
        .send("GET", document, &[("origin", UNLISTED)], Vec::new())
        .await;
    assert_eq!(allowed(&public).as_deref(), Some("*"));
    let page = admin
        .send("GET", "/oauth/start", &[("origin", LISTED)], Vec::new())
        .await;
    assert_eq!(allowed(&page), None, "{page:?}");
}

#[tokio::test]
async fn a_page_calls_a_server_and_reads_its_session() {
    let hawser = hawser().await;
    let upstream = Upstream::start().await;
    let mcp = register(&hawser, "open", &upstream.url, json!({})).await;
    let ada = user(&hawser, "ada");
    let answer = upstream::send(&ada, &mcp, &[("origin", LISTED)], message("initialize")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(allowed(&answer).as_deref(), Some(LISTED));
    assert!(answer.header(SESSION).is_some());
    let refused = upstream::send(&ada, &mcp, &[("origin", UNLISTED)], message("ping")).await;
    assert_eq!((refused.status, allowed(&refused)), (403, None));
    // On a machine of one's own, pages on it are known.
    let inspector = "http://localhost:6274";
    let answer = upstream::send(&ada, &mcp, &[("origin", inspector)], message("ping")).await;
    assert_eq!(allowed(&answer).as_deref(), Some(inspector));
}

#[tokio::test]
async fn a_lambda_function_answers_preflights_that_no_route_takes() {
    let hawser = hawser().await;
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/events/hawser-unrouted.json"
    );
    let mut event: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    event["rawPath"] = "/v1/deepagents/mcp-servers".into();
    event["requestContext"]["http"]["method"] = "OPTIONS".into();
    event["headers"] = json!({"origin": LISTED, "access-control-request-method": "POST"});
    let event: Event = serde_json::from_value(event).unwrap();
    let unrouted = ENDPOINTS
        .iter()
        .find(|one| one.name == "hawser-unrouted")
        .unwrap();
    let answer = unrouted.answer_event(&hawser.app, event).await;
    assert_eq!(answer.status_code, 204);
    assert_eq!(answer.headers["access-control-allow-origin"], LISTED);
    assert_eq!(
        answer.headers["access-control-allow-methods"],
        "GET, HEAD, POST"
    );
}

// HEAD

#[tokio::test]
async fn head_is_answered_as_get_without_the_body() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    for caller in [&admin, &hawser.anonymous()] {
        for endpoint in ENDPOINTS {
            for (_, path) in endpoint
                .routes
                .iter()
                .filter(|(method, _)| *method == "GET")
            {
                let (get, head) = (
                    caller.get(path).await,
                    caller.send("HEAD", path, &[], Vec::new()).await,
                );
                if endpoint.readers == Readers::Nobody && *path != "/oauth/start" {
                    assert_eq!(head.status, 405, "{path}");
                    continue;
                }
                assert_eq!(head.status, get.status, "{path}: {head:?}");
                assert_eq!(head.text, "", "{path}");
                for name in ["content-type", "cache-control", "www-authenticate"] {
                    assert_eq!(head.header(name), get.header(name), "{path} {name}");
                }
                // Neither the length of what is left out, nor another one.
                assert_ne!(
                    head.header("content-length").as_deref(),
                    Some("0"),
                    "{path}"
                );
            }
        }
    }
}

#[tokio::test]
async fn head_at_a_callback_ends_no_consent() {
    let hawser = Hawser::start().await;
    for path in [
        "/oauth/callback?state=x&code=y",
        "/api/mcp-servers/saas-oauth/mail/callback?state=x&code=y",
    ] {
        hawser.wire.arm(None);
        let answer = hawser.anonymous().send("HEAD", path, &[], Vec::new()).await;
        assert_eq!(answer.status, 405, "{path}");
        assert!(hawser.wire.operations().is_empty(), "{path}");
    }
}

// Silence

#[tokio::test]
async fn a_silent_event_stream_is_kept_open_by_comments() {
    let hawser = Hawser::start_with(|app| app.keep_alive = Duration::from_millis(20)).await;
    let upstream = Upstream::start().await;
    let mcp = register(&hawser, "open", &upstream.url, json!({})).await;
    let ada: Caller = user(&hawser, "ada");
    let (reply, events) = Reply::stream();
    upstream.reply(reply);
    let mut answer = upstream::open(&hawser, &ada, "POST", &mcp, &[MODERN]).await;
    let mut next = async || upstream::soon(answer.chunk()).await.unwrap().unwrap();
    assert_eq!(&next().await[..], b":\n");
    events.send("data: 1\n\n");
    let mut seen = Vec::new();
    while !seen.ends_with(b"data: 1\n\n:\n") {
        seen.extend_from_slice(&next().await);
    }
    events.send("data: half");
    while !seen.ends_with(b"half") {
        seen.extend_from_slice(&next().await);
    }
    events.send(" and half\n\n");
    while !seen.ends_with(b"half\n\n:\n") {
        seen.extend_from_slice(&next().await);
    }
    let text = String::from_utf8(seen).unwrap();
    assert_eq!(
        text.replace(":\n", ""),
        "data: 1\n\ndata: half and half\n\n"
    );
}
