//! One name per endpoint, everywhere: the index, the binaries, the template, the router of `cargo lambda watch`, the
//! sample events. And each function's policy allows what it does, and nothing else.

use crate::harness::Hawser;
use crate::rest_api;
use hawser_functions::ENDPOINTS;
use hawser_local::template::Template;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Binaries that serve no endpoint.
const WORKERS: [&str; 4] = [
    "workers-audit",
    "workers-chain",
    "workers-purge",
    "workers-sweep",
];

type Routes = BTreeSet<(String, String, String)>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned()
}

fn manifest() -> toml::Table {
    std::fs::read_to_string(root().join("Cargo.toml"))
        .unwrap()
        .parse()
        .unwrap()
}

fn index() -> Routes {
    let of = |e: &'static hawser_functions::Endpoint| {
        e.all_routes()
            .map(|(method, path)| (e.name.to_owned(), method.to_owned(), path.to_owned()))
    };
    ENDPOINTS.iter().flat_map(of).collect()
}

#[test]
fn the_template_routes_what_the_index_says() {
    let template = Template::load().unwrap();
    let routes = template.routes();
    let of_template: Routes = routes
        .iter()
        .filter_map(|(name, route)| route.clone().map(|(m, p)| (name.clone(), m, p)))
        .collect();
    let apart = template.behind_rest_apis();
    let own: BTreeSet<_> = apart.iter().map(|(name, _)| name.as_str()).collect();
    // A function with a REST API of its own has no routes in the template: it gets every request.
    let behind_the_gateway: Routes = index()
        .into_iter()
        .filter(|(name, _, _)| !own.contains(name.as_str()))
        .collect();
    assert_eq!(of_template, behind_the_gateway);
    let catch_all: Vec<_> = routes
        .iter()
        .filter(|(_, route)| route.is_none())
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(catch_all, ["hawser-unrouted"]);
}

#[test]
fn a_function_that_streams_has_an_api_that_streams() {
    let streams = |e: &&hawser_functions::Endpoint| e.streams();
    let expected: Vec<_> = ENDPOINTS
        .iter()
        .filter(streams)
        .map(|e| (e.name.to_owned(), Some("STREAM".to_owned())))
        .collect();
    assert_eq!(expected.len(), 1);
    assert_eq!(Template::load().unwrap().behind_rest_apis(), expected);
}

#[test]
fn every_endpoint_is_a_binary_and_a_function() {
    let expected: BTreeSet<String> = ENDPOINTS
        .iter()
        .map(|e| e.name)
        .chain(WORKERS)
        .map(str::to_owned)
        .collect();
    let functions: BTreeSet<String> = Template::load().unwrap().binaries().into_iter().collect();
    assert_eq!(functions, expected);
    let manifest = manifest();
    let binaries: BTreeSet<String> = manifest["bin"]
        .as_array()
        .unwrap()
        .iter()
        .map(|bin| bin["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(binaries, expected);
    for name in &expected {
        let main =
            std::fs::read_to_string(root().join(format!("functions/bin/{name}.rs"))).unwrap();
        let target = if WORKERS.contains(&name.as_str()) {
            name.replacen('-', "::", 1)
        } else {
            name.replace('-', "_").to_uppercase()
        };
        assert!(
            main.contains(&format!("hawser_functions::{target}")),
            "{name} runs something else"
        );
    }
}

#[test]
fn the_watch_router_is_the_index() {
    let manifest = manifest();
    let router = manifest["workspace"]["metadata"]["lambda"]["watch"]["router"]
        .as_table()
        .unwrap();
    let of_router: Routes = router
        .iter()
        .filter_map(|(path, routes)| Some((path, routes.as_array()?)))
        .flat_map(|(path, routes)| {
            let text = |route: &toml::Value, name: &str| route[name].as_str().unwrap().to_owned();
            routes
                .iter()
                .map(move |r| (text(r, "function"), text(r, "method"), path.clone()))
        })
        .collect();
    // That has no place beside the catch-all there, which redirects it.
    let of_host = |(_, _, path): &(_, _, String)| path == "/{integration}/mcp";
    let mut expected = index();
    expected.retain(|route| !of_host(route));
    assert_eq!(of_router, expected);
}

#[tokio::test]
async fn every_endpoint_has_a_sample_event_that_it_answers() {
    let events = root().join("tests/events");
    let hawser = Hawser::with_built_in_integrations().await;
    let admin = hawser.admin("acme");
    let token = admin.headers[0].1.strip_prefix("Bearer ").unwrap();
    for endpoint in ENDPOINTS {
        let file = events.join(format!("{}.json", endpoint.name));
        let text = std::fs::read_to_string(&file)
            .unwrap_or_else(|_| panic!("{} is missing", file.display()));
        let event: Value = serde_json::from_str(&text).unwrap();
        let context = &event["requestContext"];
        let (method, path) = match endpoint.streams() {
            true => (&event["httpMethod"], &context["path"]),
            false => (&context["http"]["method"], &event["rawPath"]),
        };
        let (method, path) = (method.as_str().unwrap(), path.as_str().unwrap());
        let routed = Template::load()
            .unwrap()
            .router()
            .unwrap()
            .find(method, path);
        assert_eq!(routed.0.name, endpoint.name);
        // A REST API matches no more than the rest of the path.
        let matched = match endpoint.streams() {
            true => json!({"proxy": "mcp-01KF0FV2HRF8BR7TAB0BC6YCDE"}),
            false => json!(routed.1),
        };
        assert_eq!(matched, event["pathParameters"], "{}", endpoint.name);
        let text = text.replace("TOKEN", token);
        let id = event["requestContext"]["requestId"].as_str().unwrap();
        if endpoint.streams() {
            let event = serde_json::from_str(&text).unwrap();
            let (status, headers, body) = rest_api::call(&hawser, event).await;
            assert_eq!(headers["hawser-request-id"], id);
            // There is no such server.
            assert_eq!(
                (status, &body["error"]["code"]),
                (200, &json!(-32001)),
                "{body}"
            );
            continue;
        }
        let event = serde_json::from_str(&text).unwrap();
        let answer = endpoint.answer_event(&hawser.app, event).await;
        assert!(answer.status_code < 500, "{}: {answer:?}", endpoint.name);
        assert_eq!(answer.headers["hawser-request-id"], id);
        // Its callers are the clients of connections.
        let by_client = endpoint.name == "kambrium-issue-token";
        assert_eq!(
            answer.status_code == 401,
            by_client,
            "{}: {answer:?}",
            endpoint.name
        );
        let lists = endpoint.name.contains("-list-") && endpoint.name != "langsmith-list-tools";
        if lists && routed.1.is_empty() {
            assert_eq!(answer.status_code, 200, "{}: {answer:?}", endpoint.name);
        }
    }
    let expected: BTreeSet<_> = ENDPOINTS
        .iter()
        .map(|e| e.name.to_owned())
        .chain(WORKERS.map(str::to_owned))
        .collect();
    let files = std::fs::read_dir(events).unwrap().map(|f| {
        f.unwrap()
            .path()
            .file_stem()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    });
    assert_eq!(files.collect::<BTreeSet<_>>(), expected);
}
