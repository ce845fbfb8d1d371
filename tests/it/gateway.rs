//! Events as AWS's front doors deliver them, into the functions' own entry: what a caller has asked for survives whatever
//! stands in a path or a query.
//!
//! What is delivered, and where that is written:
//!
//! | | HTTP API | REST API |
//! | --- | --- | --- |
//! | Path | `rawPath`: decoded; with the stage, if it has a name; without the mapping of a custom domain | `path`, as sent: without the stage, with the mapping. `requestContext.path`: with both |
//! | Parameters of the path | `pathParameters`, decoded | `pathParameters`; not used |
//! | Query | `rawQueryString`, as sent | Nowhere |
//! | Parameters of the query | `queryStringParameters`: decoded, several values joined with commas | The same with the last value alone; `multiValueQueryStringParameters` with all |
//! | Headers | `headers`: names in lower case, several values joined with commas | `headers`: names as sent, with the last value alone; `multiValueHeaders` with all |
//! | Cookies | `cookies`, apart from `headers` | A header |
//! | Body | Base64 where it may not be text, then `isBase64Encoded` | The same |
//!
//! Payload format 2.0: docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html. Format 1.0 and
//! streamed answers: set-up-lambda-proxy-integrations.html and response-transfer-mode-lambda.html there. That HTTP APIs decode the path and
//! REST APIs do not is in none of them; developers have published captures of both. An HTTP API matches a route after decoding, so `%2F`
//! ends a segment there.

use crate::harness::{Caller, Hawser, per_user};
use data_encoding::BASE64;
use hawser_functions::gateway::{self, Event};
use hawser_functions::{ENDPOINTS, Endpoint};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Ids of subjects that real directories give out, or could.
const IDS: [&str; 9] = [
    "ada_example.com#EXT#@contoso.onmicrosoft.com",
    "what?",
    "why?dryRun=false",
    "100%",
    "a%23b%2Fc",
    "ada+test@example.com",
    "Ada Lovelace",
    "Zoë/Łukasz",
    "auth0|{5f7c}",
];

pub fn endpoint(name: &str) -> &'static Endpoint {
    let mut all = ENDPOINTS.iter();
    all.find(|endpoint| endpoint.name == name).unwrap()
}

/// In a part of a path or a query.
pub fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8().unwrap().into_owned()
}

/// One request on its way through a front door.
pub struct Sent<'a> {
    pub method: &'a str,
    /// As it stands in the request line.
    pub path: String,
    pub query: &'a str,
    pub body: &'a [u8],
}

impl Sent<'_> {
    /// Through an HTTP API, by a route with these parameters.
    fn by_http_api(&self, caller: &Caller, route: &str) -> Value {
        let segments = route.split('/').zip(self.path.split('/'));
        let parameters: Map<String, Value> = segments
            .filter_map(|(name, value)| {
                let name = name.strip_prefix('{')?.strip_suffix('}')?;
                Some((name.to_owned(), decoded(value).into()))
            })
            .collect();
        let mut event = self.event(
            caller,
            &decoded(&self.path),
            "abc.execute-api.eu-west-1.amazonaws.com",
        );
        event["routeKey"] = format!("{} {route}", self.method).into();
        event["pathParameters"] = parameters.into();
        event
    }

    fn event(&self, caller: &Caller, path: &str, domain: &str) -> Value {
        let mut parameters = BTreeMap::<_, String>::new();
        for (name, value) in url::form_urlencoded::parse(self.query.as_bytes()) {
            let joined = parameters.entry(name.into_owned()).or_default();
            if !joined.is_empty() {
                joined.push(',');
            }
            joined.push_str(&value);
        }
        let headers: Map<String, Value> = caller
            .headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_str().into()))
            .chain([("host".to_owned(), domain.into())])
            .collect();
        let (text, is_base64) = match std::str::from_utf8(self.body) {
            Ok(text) => (text.to_owned(), false),
            Err(_) => (BASE64.encode(self.body), true),
        };
        let mut event = json!({
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": path,
            "rawQueryString": self.query,
            "headers": headers,
            "requestContext": {
                "accountId": "123456789012", "apiId": "abc", "domainName": domain, "domainPrefix": "abc",
                "http": {"method": self.method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1",
                         "userAgent": "test"},
                "requestId": "id", "routeKey": "$default", "stage": "$default",
                "time": "15/Jan/2026:09:30:00 +0000", "timeEpoch": 1_768_469_400_000_i64,
            },
            "isBase64Encoded": is_base64,
        });
        if !parameters.is_empty() {
            event["queryStringParameters"] = json!(parameters);
        }
        if !text.is_empty() {
            event["body"] = text.into();
        }
        event
    }
}

/// What the function answers to the gateway.
async fn invoke(hawser: &Hawser, name: &str, event: Value) -> (i64, Value) {
    let event: Event = serde_json::from_value(event).unwrap();
    let answer = endpoint(name).answer_event(&hawser.app, event).await;
    let answer = serde_json::to_value(answer).unwrap();
    let body = answer["body"].as_str().unwrap_or("null");
    let body = serde_json::from_str(body).unwrap_or_else(|_| panic!("no JSON: {answer}"));
    (answer["statusCode"].as_i64().unwrap(), body)
}

const OFFBOARD: &str = "/v1/subjects/{subjectType}/{subjectId}/credentials";

fn offboard(id: &str, query: &'static str) -> Sent<'static> {
    Sent {
        method: "DELETE",
        path: format!("/v1/subjects/user/{}/credentials", encoded(id)),
        query,
        body: b"",
    }
}

#[tokio::test]
async fn a_dry_run_stays_one_whatever_the_path_holds() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let wiki = admin.register("wiki", per_user(), &IDS).await;
    let before = hawser.ground().items().await;
    // A `/` never gets here: no route takes it.
    for id in IDS.iter().filter(|id| !id.contains('/')) {
        for query in ["dryRun=true", "x=1&x=2&dryRun=true", "dry%52un=tru%65"] {
            let event = offboard(id, query).by_http_api(&admin, OFFBOARD);
            let (status, body) = invoke(&hawser, "hawser-offboard-subject", event).await;
            let data = &body["data"];
            assert_eq!(
                (status, &data["dryRun"], &data["removed"]["overrides"]),
                (200, &json!(true), &json!(1)),
                "{id} {query}: {body}"
            );
        }
    }
    assert_eq!(hawser.ground().items().await, before);
    for id in IDS.iter().filter(|id| !id.contains('/')) {
        let event = offboard(id, "").by_http_api(&admin, OFFBOARD);
        let (status, body) = invoke(&hawser, "hawser-offboard-subject", event).await;
        let data = &body["data"];
        assert_eq!(
            (status, &data["subjectId"], &data["removed"]["overrides"]),
            (200, &json!(id), &json!(1)),
            "{body}"
        );
    }
    let (left, all) = (IDS.iter().find(|id| id.contains('/')), "?limit=100");
    let overrides = admin
        .get(&format!("/api/svc/v1/mcp/{}/auth{all}", wiki.mcp))
        .await;
    let overrides = overrides.json()["data"].as_array().unwrap().clone();
    assert_eq!(overrides.len(), 1, "{overrides:?}");
    assert!(
        overrides[0].to_string().contains(left.unwrap()),
        "{overrides:?}"
    );
}

#[tokio::test]
async fn an_option_that_cannot_be_read_removes_nothing() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let [truefoundry, langsmith, kambrium] =
        admin.register("wiki", per_user(), &["ada"]).await.paths();
    let before = hawser.ground().items().await;
    let targets = [
        (
            "hawser-offboard-subject",
            OFFBOARD,
            "/v1/subjects/user/ada/credentials",
        ),
        (
            "truefoundry-delete-server",
            "/api/svc/v1/mcp/{mcpServerId}",
            truefoundry.as_str(),
        ),
        (
            "langsmith-delete-server",
            "/v1/deepagents/mcp-servers/{mcp_server_id}",
            langsmith.as_str(),
        ),
        (
            "kambrium-delete-connection",
            "/api/v1/mcp-servers/{server_id}",
            kambrium.as_str(),
        ),
    ];
    for (name, route, path) in targets {
        for query in [
            "a=1?dryRun=true",
            "?dryRun=true",
            ";dryRun=true",
            "a=1&amp;dryRun=true",
            "dryRun%3Dtrue",
            "dryrun=true",
            "dryRun=true&dryRun=true",
            "dryRun=tru%FFe",
            "dryRun",
        ] {
            let path = path.to_owned();
            let sent = Sent {
                method: "DELETE",
                path,
                query,
                body: b"",
            };
            let (status, body) = invoke(&hawser, name, sent.by_http_api(&admin, route)).await;
            assert!(
                (400..=422).contains(&status),
                "{name} {query}: {status} {body}"
            );
        }
        // What a front door leaves out of one field and states in the other.
        let path = path.to_owned();
        let sent = Sent {
            method: "DELETE",
            path,
            query: "dryRun=true",
            body: b"",
        };
        for left_out in [json!(""), Value::Null] {
            let mut event = sent.by_http_api(&admin, route);
            event["rawQueryString"] = left_out;
            let (status, body) = invoke(&hawser, name, event).await;
            assert!(
                status == 200 && body.to_string().contains("dryRun"),
                "{name}: {body}"
            );
        }
    }
    assert_eq!(hawser.ground().items().await, before);
}

#[tokio::test]
async fn a_body_names_subjects_that_no_path_can() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    admin.register("wiki", per_user(), &IDS).await;
    let before = hawser.ground().items().await;
    let post = async |body: &[u8], query: &'static str| {
        let path = "/v1/subjects/offboard".to_owned();
        let sent = Sent {
            method: "POST",
            path,
            query,
            body,
        };
        let mut event = sent.by_http_api(&admin, "/v1/subjects/offboard");
        // As the gateway does with what it takes for no text.
        if body.first() == Some(&b' ') {
            event["body"] = BASE64.encode(body).into();
            event["isBase64Encoded"] = true.into();
        }
        invoke(&hawser, "hawser-offboard-subject", event).await
    };
    for id in IDS {
        let body = json!({"subjectType": "user", "subjectId": id});
        let mut dry = body.clone();
        dry["dryRun"] = true.into();
        for (body, query) in [(&dry, ""), (&body, "dryRun=true"), (&dry, "dryRun=false")] {
            let (status, answer) = post(body.to_string().as_bytes(), query).await;
            assert_eq!(
                (status, &answer["data"]["dryRun"]),
                (200, &json!(true)),
                "{answer}"
            );
        }
        for wrong in [
            json!({"subjectType": "user", "subjectId": id, "dryrun": true}),
            json!({"subjectType": "user", "subjectId": id, "dryRun": "true"}),
            json!({"subjectType": "external-identity", "subjectId": id}),
            json!({"subjectId": id}),
            json!([]),
        ] {
            let (status, answer) = post(wrong.to_string().as_bytes(), "").await;
            assert_eq!(
                (status, &answer["code"]),
                (400, &json!("INVALID_REQUEST")),
                "{wrong}"
            );
        }
    }
    assert_eq!(hawser.ground().items().await, before);
    for id in IDS {
        let body = format!(" {}", json!({"subjectType": "user", "subjectId": id}));
        let (status, answer) = post(body.as_bytes(), "").await;
        assert_eq!((status, &answer["data"]["subjectId"]), (200, &json!(id)));
        assert_eq!(answer["data"]["removed"]["overrides"], 1, "{answer}");
    }
    let bob = hawser.caller("acme", "bob", json!({}));
    let path = "/v1/subjects/offboard";
    let body = json!({"subjectType": "user", "subjectId": "what?"});
    assert_eq!(bob.post(path, body).await.status, 403);
    let own = json!({"subjectType": "user", "subjectId": "bob"});
    assert_eq!(bob.post(path, own.clone()).await.status, 200);
    assert_eq!(hawser.anonymous().post(path, own).await.status, 401);
    hawser.run_workers().await;
}

#[tokio::test]
async fn calls_at_the_http_api_are_sent_on_or_not_found() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let at = async |method, path: &str| {
        let sent = Sent {
            method,
            path: path.to_owned(),
            query: "",
            body: b"{}",
        };
        let event = serde_json::from_value(sent.by_http_api(&admin, "")).unwrap();
        let unrouted = endpoint("hawser-unrouted");
        let answer = unrouted.answer_event(&hawser.app, event).await;
        let to = answer.headers.get("location").cloned();
        (
            answer.status_code,
            to.map(|to| to.to_str().unwrap().to_owned()),
        )
    };
    let there = Some(format!("{}/mcp/mail/mcp", hawser.url));
    for method in ["POST", "GET", "DELETE", "HEAD"] {
        assert_eq!(at(method, "/mail/mcp").await, (308, there.clone()));
    }
    assert_eq!(at("PUT", "/mail/mcp").await, (405, None));
    assert_eq!(at("POST", "/mcp/wiki").await, (404, None));
    assert_eq!(at("POST", "/mcp").await, (404, None));
}

#[tokio::test]
async fn what_no_route_takes_is_refused_in_its_contract() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let cases = [
        ("PATCH", "/api/svc/v1/mcp/a%23b", 405),
        ("POST", "/api/svc/v1/mcp/100%25", 405),
        ("GET", "/api/svc/v1/a%3Fb%2F%C5%81+%20", 404),
    ];
    for (method, path, expected) in cases {
        for stage in ["$default", "prod"] {
            let sent = Sent {
                method,
                path: path.to_owned(),
                query: "a=%20b",
                body: b"",
            };
            let mut event = sent.by_http_api(&admin, "");
            if stage != "$default" {
                event["requestContext"]["stage"] = stage.into();
                event["rawPath"] = format!("/{stage}{}", event["rawPath"].as_str().unwrap()).into();
            }
            let (status, body) = invoke(&hawser, "hawser-unrouted", event).await;
            assert_eq!(status, expected, "{method} {path} {stage}: {body}");
            assert!(body["code"].is_string(), "{body}");
        }
    }
}

#[tokio::test]
async fn what_is_no_request_is_refused_before_any_handler() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    admin.register("wiki", per_user(), &["ada"]).await;
    let before = hawser.ground().items().await;
    let event = offboard("ada", "").by_http_api(&admin, OFFBOARD);
    let with = |name: &str, value: Value| {
        let mut event = event.clone();
        event[name] = value;
        event
    };
    let long = format!("/{}", "a".repeat(70_000));
    let mut not_base64 = with("body", "%%%".into());
    not_base64["isBase64Encoded"] = true.into();
    let sent = Sent {
        method: "DELETE",
        path: "/mcp/v1/subjects/user/ada/credentials".to_owned(),
        query: "",
        body: b"",
    };
    let cases = [
        // Of a REST API, which would not understand the answer.
        (sent.by_rest_api(&admin, true), 500),
        (with("version", "1.0".into()), 500),
        (with("version", Value::Null), 500),
        (with("rawPath", long.into()), 414),
        (not_base64, 400),
    ];
    for (event, expected) in cases {
        let (status, _) = invoke(&hawser, "hawser-offboard-subject", event).await;
        assert_eq!(status, expected);
    }
    assert_eq!(hawser.ground().items().await, before);
}

#[test]
fn headers_cookies_and_bodies_arrive() {
    let event = json!({
        "version": "2.0", "rawPath": "/", "rawQueryString": "",
        "headers": {"X-API-Key": "a", "CONTENT-type": "application/json", "accept": "a/b,c/d", "cookie": "old=1"},
        "cookies": ["a=b", "c=d; e"],
        "body": BASE64.encode(b"\xff\x00"), "isBase64Encoded": true,
        "requestContext": {"http": {"method": "POST", "path": "/"}, "stage": "$default"},
    });
    let request = gateway::request(serde_json::from_value(event).unwrap()).unwrap();
    let header = |name: &str| request.headers()[name].to_str().unwrap();
    assert_eq!(
        (
            header("x-api-key"),
            header("content-type"),
            header("accept"),
            header("cookie")
        ),
        ("a", "application/json", "a/b,c/d", "a=b; c=d; e")
    );
    assert_eq!(&**request.body(), b"\xff\x00");
}
