//! The document of the API (docs/openapi): it lists what is served, and its examples are what it says. The harness holds every
//! answer of every test against it (harness/document.rs); here is that it can fail.

use crate::harness::{Hawser, Seen, check, document, operations};
use hawser_functions::ENDPOINTS;
use jsonschema::Draft;
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[test]
fn the_document_is_the_index() {
    let documented: BTreeSet<_> = operations()
        .into_iter()
        .map(|(method, path, id)| {
            let name = id.split('.').next().unwrap_or_default().to_owned();
            (name, method, path)
        })
        .collect();
    let routes = ENDPOINTS.iter().flat_map(|endpoint| {
        let routes = endpoint.all_routes();
        routes.map(|(method, path)| (endpoint.name.to_owned(), method.to_owned(), path.to_owned()))
    });
    assert_eq!(documented, routes.collect::<BTreeSet<_>>());
    let ids: BTreeSet<_> = operations().into_iter().map(|(_, _, id)| id).collect();
    assert_eq!(
        ids.len(),
        operations().len(),
        "an operationId is there twice"
    );
}

#[test]
fn every_example_fits_its_schema() {
    let mut examples = Vec::new();
    collect(document(), "", &mut examples);
    assert!(examples.len() > 60, "{}", examples.len());
    for (at, schema, example) in examples {
        let whole = json!({"allOf": [schema], "components": document()["components"]});
        let validator = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .should_validate_formats(true)
            .build(&whole)
            .unwrap();
        let faults: Vec<_> = validator
            .iter_errors(&example)
            .map(|fault| fault.to_string())
            .collect();
        assert!(faults.is_empty(), "{at}: {faults:?}");
    }
}

/// Every `example` with the `schema` beside it, or the schema that it stands in.
fn collect(value: &Value, at: &str, found: &mut Vec<(String, Value, Value)>) {
    if let Value::Object(object) = value {
        if let Some(example) = object.get("example") {
            let schema = object.get("schema").cloned().unwrap_or_else(|| {
                let mut own = object.clone();
                own.shift_remove("example");
                own.into()
            });
            found.push((at.to_owned(), schema, example.clone()));
        }
        for (name, inner) in object.iter().filter(|(name, _)| *name != "example") {
            collect(inner, &format!("{at}/{name}"), found);
        }
    } else if let Value::Array(items) = value {
        for (i, inner) in items.iter().enumerate() {
            collect(inner, &format!("{at}/{i}"), found);
        }
    }
}

#[test]
fn what_the_document_does_not_say_is_found() {
    let headers = |content_type: &str| {
        let all = [
            ("content-type", content_type),
            ("hawser-request-id", "r-1"),
            ("www-authenticate", "Bearer"),
        ];
        all.map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    let (json, text) = (headers("application/json"), headers("text/plain"));
    let seen = |status, body| Seen {
        method: "GET",
        path: "/api/svc/v1/mcp",
        status,
        headers: &json,
        body,
    };
    let page = r#"{"data": [], "pagination": {"total": 0, "offset": 0, "limit": 100}}"#;
    let more = r#"{"data": [], "pagination": {"total": 0, "offset": 0, "limit": 100, "next": 1}}"#;
    let refused = r#"{"statusCode": 401, "message": "m", "code": "UNAUTHORIZED"}"#;
    assert_eq!(check(&seen(200, page)), Ok(()));
    assert_eq!(check(&seen(401, refused)), Ok(()));
    for unlisted in [
        seen(200, more),
        seen(200, ""),
        seen(200, "{}"),
        seen(202, page),
        seen(200, refused),
        Seen {
            headers: &text,
            ..seen(200, page)
        },
        Seen {
            headers: &json[..2],
            ..seen(401, refused)
        },
        Seen {
            headers: &json[..1],
            ..seen(200, page)
        },
        Seen {
            path: "/api/svc/v1/nothing",
            ..seen(200, page)
        },
        Seen {
            method: "HEAD",
            ..seen(202, "")
        },
    ] {
        assert!(check(&unlisted).is_err(), "{unlisted:?}");
    }
}

#[tokio::test]
async fn the_document_and_its_page_are_there_for_everyone() {
    let hawser = Hawser::start().await;
    let anyone = hawser.anonymous();
    let plain = anyone.get("/openapi.json").await;
    assert_eq!(plain.json(), *document());
    assert_eq!(plain.header("content-encoding"), None);
    for path in ["/openapi.json", "/docs", "/docs/rapidoc-min.js"] {
        for method in ["GET", "HEAD"] {
            let answer = anyone.send(method, path, &[], Vec::new()).await;
            assert_eq!(answer.status, 200, "{method} {path}");
            let kept = answer.header("cache-control");
            assert_eq!(kept.as_deref(), Some("public, max-age=300"), "{path}");
            assert_eq!(answer.text.is_empty(), method == "HEAD", "{method} {path}");
        }
    }
    let page = anyone.get("/docs").await;
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self';"),
        "{policy}"
    );
    assert!(
        !page.text.contains("//"),
        "the page names another host: {}",
        page.text
    );
    let script = anyone.get("/docs/rapidoc-min.js").await;
    assert!(script.text.starts_with("/*! RapiDoc 9.3.8"));
}

#[tokio::test]
async fn the_document_is_sent_compressed_to_those_who_take_that() {
    let hawser = Hawser::start().await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for (path, most) in [("/openapi.json", 40_000), ("/docs/rapidoc-min.js", 230_000)] {
        let request = http.get(format!("{}{path}", hawser.url));
        let answer = request
            .header("accept-encoding", "gzip, br")
            .send()
            .await
            .unwrap();
        assert_eq!(answer.headers()["content-encoding"], "gzip");
        assert_eq!(answer.headers()["vary"], "Accept-Encoding");
        let bytes = answer.bytes().await.unwrap();
        assert!(
            bytes.starts_with(b"\x1f\x8b") && bytes.len() < most,
            "{}",
            bytes.len()
        );
    }
}

/// The commands of docs/API.md with what they are answered: method, path, status and body. A body in parentheses is told of only.
fn examples_of_the_guide() -> Vec<(String, String, u16, String)> {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/API.md");
    let guide = std::fs::read_to_string(file).unwrap();
    let mut examples = Vec::new();
    let mut command = String::new();
    let mut answer: Option<String> = None;
    for line in guide.lines().chain([""]) {
        if let Some(text) = line.strip_prefix("# ")
            && command.contains("curl ")
        {
            let answer = answer.get_or_insert_default();
            answer.push_str(text.trim_start_matches("  "));
            continue;
        }
        if let Some(answer) = answer.take() {
            examples.push(example(&command, &answer));
            command.clear();
        }
        if line.is_empty() || line.starts_with("```") {
            command.clear();
        }
        command.push_str(line);
        command.push(' ');
    }
    examples
}

fn example(command: &str, answer: &str) -> (String, String, u16, String) {
    let (_, curl) = command.split_once("curl ").unwrap();
    let named = curl
        .split_once("-X ")
        .map(|(_, rest)| rest.split(' ').next().unwrap());
    let method = named.unwrap_or(if curl.contains(" -d ") { "POST" } else { "GET" });
    let (_, path) = curl.split_once("$URL").unwrap();
    let path = path.split([' ', '"', '?']).next().unwrap();
    let (status, body) = answer.split_at(3);
    (
        method.to_owned(),
        path.to_owned(),
        status.parse().unwrap(),
        body.trim().to_owned(),
    )
}

#[test]
fn the_guide_has_an_example_of_every_endpoint_and_each_is_what_the_document_says() {
    let examples = examples_of_the_guide();
    let mut shown = BTreeSet::new();
    for (method, path, status, body) in &examples {
        let mut routes = ENDPOINTS
            .iter()
            .flat_map(|e| e.all_routes().map(move |route| (e.name, route)));
        let fits = |(_, (one, pattern)): &(&str, (&str, &str))| {
            one == method && hawser_functions::route::capture(pattern, path).is_some()
        };
        let (name, _) = routes
            .find(fits)
            .unwrap_or_else(|| panic!("{method} {path}"));
        shown.insert(name);
        if body.starts_with('(') {
            continue;
        }
        let kind = match name.starts_with("hawser-") && body.contains("about:blank") {
            true => "application/problem+json",
            false => "application/json",
        };
        let headers = [
            ("content-type", kind),
            ("hawser-request-id", "r-1"),
            ("www-authenticate", "Bearer"),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let seen = Seen {
            method,
            path,
            status: *status,
            headers: &headers,
            body,
        };
        assert_eq!(check(&seen), Ok(()), "{method} {path}: {body}");
    }
    let routed = ENDPOINTS
        .iter()
        .filter(|endpoint| !endpoint.routes.is_empty());
    let missing: Vec<_> = routed
        .map(|endpoint| endpoint.name)
        .filter(|name| !shown.contains(name))
        .collect();
    assert!(missing.is_empty(), "no example of {missing:?}");
}
