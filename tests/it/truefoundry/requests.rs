//! What holds for each endpoint: order of checks, paths.

use super::{
    MCP, UNKNOWN, disconnect, install, is, no_record, not_manager, refused, register,
    unknown_server,
};
use crate::harness::Hawser;
use serde_json::{Value, json};

#[tokio::test]
async fn checks_come_in_the_order_of_the_contract() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let id = register(&admin, "wiki", Value::Null).await;
    let eve = hawser.caller("acme", "eve", json!({}));
    let key = hawser.api_key("acme", Some("user:eve"), json!({})).await;
    for caller in [&eve, &key] {
        let large = caller
            .send(
                "DELETE",
                &format!("{MCP}/{UNKNOWN}/auth"),
                &[],
                vec![b' '; 262_145],
            )
            .await;
        is(
            &large,
            refused(
                413,
                "BODY_TOO_LARGE",
                "The request body is larger than 256 KiB.",
            ),
        );
        let bad = caller
            .delete_with(&format!("{MCP}/{UNKNOWN}/auth"), json!({}))
            .await;
        assert_eq!(bad.status, 400, "the body before the server");
        is(
            &disconnect(caller, UNKNOWN, "zoe", "oauth").await,
            unknown_server(),
        );
        is(
            &disconnect(caller, "wiki", "zoe", "oauth").await,
            unknown_server(),
        );
        is(
            &disconnect(caller, &id, "zoe", "oauth").await,
            not_manager(),
        );
        is(&disconnect(caller, &id, "eve", "oauth").await, no_record());
        is(&install(caller, &id, "zoe", "k").await, not_manager());
        let answer = install(caller, &id, "eve", "k").await;
        is(
            &answer,
            refused(
                400,
                "AUTH_OVERRIDE_NOT_SUPPORTED",
                "This MCP server takes no auth override.",
            ),
        );
    }
    let exact = admin.send("PUT", MCP, &[], vec![b' '; 262_144]).await;
    assert_eq!(exact.status, 400, "exactly 256 KiB is read");
}

#[tokio::test]
async fn unserved_paths_and_methods_are_told_apart() {
    let hawser = Hawser::start().await;
    let nobody = hawser.anonymous();
    let missing = refused(404, "NOT_FOUND", "There is no such path.");
    for path in [
        "/api/svc/v1",
        "/api/svc/v1/mcp/",
        "/api/svc/v1/mcp-servers",
        "/api/svc/v1/mcp/x/auth/",
    ] {
        is(&nobody.get(path).await, missing.clone());
    }
    let wrong = refused(
        405,
        "METHOD_NOT_ALLOWED",
        "This path does not take this method.",
    );
    for (method, path, allow) in [
        ("POST", "/api/svc/v1/mcp".to_owned(), "GET, HEAD, PUT"),
        ("PATCH", format!("{MCP}/{UNKNOWN}"), "DELETE, GET, HEAD"),
        (
            "POST",
            format!("{MCP}/{UNKNOWN}/auth"),
            "DELETE, GET, HEAD, PUT",
        ),
        (
            "DELETE",
            format!("{MCP}/{UNKNOWN}/auth/status"),
            "GET, HEAD",
        ),
    ] {
        let answer = nobody.send(method, &path, &[], Vec::new()).await;
        assert_eq!(answer.header("allow").as_deref(), Some(allow));
        is(&answer, wrong.clone());
    }
}
