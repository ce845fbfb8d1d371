//! What callers are answered with: kept by nobody else, of the type that it names, and under a status that means something.

use crate::harness::{Ground, Hawser};
use crate::upstream::{MODERN, Reply, Upstream, call, message, register, send, user};
use hawser_functions::{ENDPOINTS, Readers};
use serde_json::json;

#[tokio::test]
async fn every_endpoint_forbids_keeping_and_sniffing_whoever_asks() {
    let hawser = Hawser::start().await;
    for endpoint in ENDPOINTS {
        for (method, path) in endpoint.routes {
            for caller in [hawser.anonymous(), hawser.admin("acme")] {
                let answer = caller.send(method, path, &[], Vec::new()).await;
                let kept = answer.header("cache-control").unwrap_or_default();
                // Our own metadata documents are no caller's, and are for everybody.
                let is_public = endpoint.readers == Readers::Anyone && answer.status == 200;
                assert!(
                    is_public || kept == "no-store",
                    "{method} {path}: {answer:?}"
                );
                let kind = answer.header("x-content-type-options");
                assert_eq!(kind.as_deref(), Some("nosniff"), "{method} {path}");
            }
        }
    }
    // What no route takes, and what is not even looked at.
    for (method, path) in [
        ("GET", "/nowhere"),
        ("PATCH", "/oauth2/token"),
        ("GET", "/"),
    ] {
        let answer = hawser.anonymous().send(method, path, &[], Vec::new()).await;
        assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
        let kind = answer.header("x-content-type-options");
        assert_eq!(kind.as_deref(), Some("nosniff"), "{method} {path}");
    }
}

#[tokio::test]
async fn what_a_server_says_of_keeping_holds_for_its_caller_alone() {
    let hawser = Hawser::start().await;
    let upstream = Upstream::start().await;
    let mcp = register(&hawser, "open", &upstream.url, json!({})).await;
    let ada = user(&hawser, "ada");
    for (said, kept) in [
        (&[][..], "no-store"),
        (&["no-store"], "no-store"),
        (&["private, max-age=60"], "private, max-age=60"),
        (&["public, max-age=60"], "private, max-age=60"),
        (&["PUBLIC"], "private"),
        (&["s-maxage=600, max-age=5"], "private, max-age=5"),
        (
            &["no-cache, no-transform"],
            "private, no-cache, no-transform",
        ),
        (&["max-age=60", "public"], "private, max-age=60"),
        (&["private=\"x-a\", max-age=60"], "no-store"),
        (&["private", "public, immutable"], "private, immutable"),
        (&["privately"], "private, privately"),
    ] {
        let said = said
            .iter()
            .map(|rule| ("cache-control", (*rule).to_owned()));
        let headers = said.chain([("content-type", "application/json".to_owned())]);
        upstream.reply(Reply::new(200, headers.collect(), "{}"));
        let answer = call(&ada, &mcp).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("cache-control").as_deref(), Some(kept));
        let kind = answer.header("x-content-type-options");
        assert_eq!(kind.as_deref(), Some("nosniff"));
    }
}

#[tokio::test]
async fn an_unknown_status_counts_as_an_unreachable_server() {
    let hawser = Hawser::start().await;
    let upstream = Upstream::start().await;
    let mcp = register(&hawser, "open", &upstream.url, json!({})).await;
    let ada = user(&hawser, "ada");
    for status in [299, 420, 499, 599, 600, 700, 999] {
        upstream.reply(Reply::new(status, Vec::new(), "{}"));
        let answer = send(&ada, &mcp, &[MODERN], message("tools/list")).await;
        assert_eq!(answer.status, 502, "{status}: {answer:?}");
        assert_eq!(
            answer.json()["error"]["message"],
            "The MCP server cannot be reached"
        );
    }
    for status in [200, 202, 404, 418, 422, 429, 500, 503] {
        upstream.reply(Reply::new(status, Vec::new(), "{}"));
        let answer = send(&ada, &mcp, &[MODERN], message("tools/list")).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
}

#[tokio::test]
async fn the_gateways_own_refusals_are_guarded_too() {
    let hawser = Hawser::on(Ground::new().await).await;
    let answer = hawser
        .anonymous()
        .send(
            "GET",
            "/v1/receipts",
            &[("host", "evil.example")],
            Vec::new(),
        )
        .await;
    assert_eq!(answer.status, 421);
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
    let kind = answer.header("x-content-type-options");
    assert_eq!(kind.as_deref(), Some("nosniff"));
}
