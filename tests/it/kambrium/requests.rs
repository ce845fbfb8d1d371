//! What holds for each endpoint: order of checks, bodies, headers, paths (Kambrium 1).

use super::{
    AVAILABLE, BASE, all, assert_nowhere, assert_refused, at, calls, connect, make, pipedrive,
    scoped, user,
};
use crate::harness::{Cut, Hawser};
use serde_json::json;

#[tokio::test]
async fn checks_come_in_the_order_of_the_contract() {
    const OVERSIZED: usize = 256 * 1024 + 1;
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let id = connect(&ada).await;
    let (anonymous, nobody) = (hawser.anonymous(), scoped(&hawser, "ada", "mcp.read"));
    let malformed = b"{".to_vec();
    let large = vec![b' '; OVERSIZED];
    let writes = [
        ("POST", BASE.to_owned(), "create connections"),
        ("PUT", at("x"), "update this connection"),
    ];
    for (method, path, purpose) in writes {
        let forbidden = format!("You do not have permission to {purpose}.");
        for body in [&malformed, &large] {
            let answer = anonymous.send(method, &path, &[], body.clone()).await;
            assert_eq!(answer.status, 401, "{}", answer.text);
            let answer = nobody.send(method, &path, &[], body.clone()).await;
            assert_refused(&answer, 403, &forbidden);
        }
        let answer = ada.send(method, &path, &[], large.clone()).await;
        assert_refused(&answer, 413, "Request body too large");
        assert_eq!(
            ada.send(method, &path, &[], malformed.clone()).await.status,
            422
        );
    }
    // 403 before 404, 422 before 404, 404 before 400.
    assert_eq!(nobody.delete(&at(99)).await.status, 403);
    assert_eq!(nobody.delete(&at("x")).await.status, 403);
    let bad_type = json!({"access_type": "admin"});
    assert_nowhere(&ada.put(&at(99), bad_type.clone()).await, 99);
    assert_eq!(ada.put(&at(id), bad_type).await.status, 400);
    // The limit holds for bodies that are otherwise ignored.
    for (method, path) in [("GET", BASE), ("GET", AVAILABLE), ("DELETE", &at(id))] {
        let answer = ada.send(method, path, &[], large.clone()).await;
        assert_refused(&answer, 413, "Request body too large");
    }
    assert_eq!(ada.get(&at(id)).await.status, 200);
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_is_read() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let mut body = pipedrive().to_string().into_bytes();
    body.resize(256 * 1024, b' ');
    assert_eq!(ada.send("POST", BASE, &[], body).await.status, 201);
}

#[tokio::test]
async fn bodies_of_reads_and_deletes_and_content_types_are_ignored() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let sent = pipedrive().to_string().into_bytes();
    let plain = [("content-type", "text/plain")];
    let made = ada.send("POST", BASE, &plain, sent).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let got = ada
        .send("GET", &format!("{}?limit=x", at(1)), &[], b"{".to_vec())
        .await;
    assert_eq!(got.status, 200, "{}", got.text);
    let deleted = ada.send("DELETE", &at(1), &plain, b"{".to_vec()).await;
    assert_eq!(deleted.status, 200, "{}", deleted.text);
}

#[tokio::test]
async fn every_answer_is_json_that_nobody_keeps() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let answers = [
        ada.post(BASE, pipedrive()).await,
        ada.get(AVAILABLE).await,
        ada.get(BASE).await,
        ada.get(&at(1)).await,
        ada.put(&at(1), json!({})).await,
        ada.delete(&at(1)).await,
        ada.delete(&at(1)).await,
        ada.delete(&at("x")).await,
        hawser.anonymous().get(BASE).await,
        scoped(&hawser, "ada", "").get(BASE).await,
    ];
    for answer in answers {
        assert_eq!(
            answer.header("content-type").as_deref(),
            Some("application/json")
        );
        assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
    }
}

#[tokio::test]
async fn unknown_paths_and_other_methods_are_answered_before_authentication() {
    let hawser = Hawser::with_built_in_integrations().await;
    let anonymous = hawser.anonymous();
    for path in [
        "/api/v1/mcp-servers/",
        "/api/v1/mcp-servers/1/",
        "/api/v1/mcp-servers/1/nothing",
        "/api/v1/MCP-servers",
        "/api/v1/health",
        "/api/v1",
    ] {
        assert_refused(&anonymous.get(path).await, 404, "Not Found");
    }
    let rows = [
        ("PATCH", at(1), "DELETE, GET, HEAD, PUT"),
        ("POST", at(1), "DELETE, GET, HEAD, PUT"),
        ("OPTIONS", at(1), "DELETE, GET, HEAD, PUT"),
        ("DELETE", BASE.to_owned(), "GET, HEAD, POST"),
        ("PUT", BASE.to_owned(), "GET, HEAD, POST"),
    ];
    for (method, path, allow) in rows {
        let answer = anonymous.send(method, &path, &[], Vec::new()).await;
        assert_refused(&answer, 405, "Method Not Allowed");
        assert_eq!(answer.header("allow").as_deref(), Some(allow));
    }
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_the_endpoints_own_500() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let scopes = json!({"scopes": ["mgmt.read", "mgmt.write"]});
    let key = hawser.api_key("acme", Some("user:ada"), scopes).await;
    let id = connect(&ada).await;
    let failures = [
        "list available MCP servers",
        "create connection",
        "list MCP servers",
        "get MCP server details",
        "update MCP server",
        "delete MCP server",
    ];
    let before = all(&hawser).await;
    // Before any read an API key cannot be settled; a token needs the store for what it asks.
    for ((method, path, body, _, _), failure) in calls(id).into_iter().zip(failures) {
        let detail = format!("Failed to {failure}: database error");
        hawser.wire.arm(Some(Cut::Before(0)));
        assert_refused(&make(&key, method, &path, &body).await, 500, &detail);
        if path != AVAILABLE {
            assert_refused(&make(&ada, method, &path, &body).await, 500, &detail);
        }
    }
    // And in the middle of a change.
    let change = json!({"agent_enabled": false});
    hawser.wire.arm(Some(Cut::Before(2)));
    assert_refused(
        &ada.put(&at(id), change).await,
        500,
        "Failed to update MCP server: database error",
    );
    hawser.wire.arm(Some(Cut::Before(1)));
    assert_refused(
        &ada.delete(&at(id)).await,
        500,
        "Failed to delete MCP server: database error",
    );
    hawser.wire.arm(None);
    assert_eq!(all(&hawser).await, before);
    assert_eq!(ada.delete(&at(id)).await.status, 200);
}
