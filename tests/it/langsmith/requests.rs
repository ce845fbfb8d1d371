//! What holds for each endpoint: order of checks, bodies, paths, the store.

use super::{
    SERVERS, UNKNOWN, URL, ada, at, call, conflicting, create_plain, error, invalid_body,
    invalid_path, invalid_value, is, is_json, is_unauthorized, lacks, missing, not_found, routes,
    tenant_uuid, too_large, with,
};
use crate::harness::{Cut, Hawser};
use serde_json::json;

#[tokio::test]
async fn of_several_faults_the_first_in_order_is_answered() {
    let hawser = Hawser::start().await;
    let (ada, nobody) = (ada(&hawser), with(&hawser, &[]));
    let big = vec![b' '; 262_145];
    for (method, path) in [("POST", SERVERS.to_owned()), ("PATCH", at("7"))] {
        let anonymous = hawser.anonymous();
        // Size before credentials, credentials before permission, permission before everything else.
        is(
            &anonymous.send(method, &path, &[], big.clone()).await,
            too_large(),
        );
        is_unauthorized(&anonymous.send(method, &path, &[], b"{".to_vec()).await);
        let tenant = tenant_uuid("globex");
        let headers = [("x-tenant-id", tenant.as_str())];
        let answer = nobody.send(method, &path, &headers, b"{".to_vec()).await;
        is_json(&answer, 403, json!({"error": "Forbidden"}));
        let needed = if method == "POST" {
            "mcp-servers:create"
        } else {
            "mcp-servers:update"
        };
        lacks(
            &nobody.send(method, &path, &[], b"{".to_vec()).await,
            needed,
        );
    }
    lacks(&nobody.get(&at("7")).await, "mcp-servers:read");
    lacks(&nobody.delete(&at("7")).await, "mcp-servers:delete");
    // The path's id before the body, the body before existence.
    is(
        &ada.send("PATCH", &at("7"), &[], b"{".to_vec()).await,
        invalid_path(),
    );
    let broken = json!({"oauth_mode": 7, "headers": [{"key": ""}], "url": "ftp://h"});
    is(&ada.patch(&at(UNKNOWN), broken).await, invalid_body());
    let empty = json!({"auth_type": "else", "headers": [{"key": "", "value": ""}]});
    is(
        &ada.patch(&at(UNKNOWN), empty).await,
        missing("headers[0].key"),
    );
    let odd = json!({"auth_type": "else"});
    is(
        &ada.patch(&at(UNKNOWN), odd).await,
        invalid_value("auth_type"),
    );
    // Existence before the rules on the merged record.
    let contradiction = json!({"oauth_mode": "legacy_shared_provider"});
    is(
        &ada.patch(&at(UNKNOWN), contradiction.clone()).await,
        not_found(),
    );
    let target = create_plain(&ada, "taken").await;
    is(&ada.patch(&at(&target), contradiction).await, conflicting());
    // The same for a create, with the conflict last.
    let syntax = json!({"name": "", "url": "ftp://h", "vendor_id": 7});
    is(&ada.post(SERVERS, syntax).await, invalid_body());
    let required = json!({"name": "a\u{7}b", "url": "ftp://h", "headers": [{"key": "A"}]});
    is(
        &ada.post(SERVERS, required).await,
        error(
            400,
            "missing_required_field",
            "Set 'headers[0].value' to a string: 'headers[0].value' is required",
        ),
    );
    let both = json!({"name": "taken", "url": URL, "oauth_mode": "legacy_shared_provider"});
    is(&ada.post(SERVERS, both).await, conflicting());
}

#[tokio::test]
async fn a_body_of_256_kib_is_read_and_one_byte_more_is_not() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let mut body = json!({"name": "search", "url": URL})
        .to_string()
        .into_bytes();
    body.resize(262_145, b' ');
    let target = create_plain(&ada, "target").await;
    for (method, path) in [("POST", SERVERS.to_owned()), ("PATCH", at(&target))] {
        let answer = ada.send(method, &path, &[], body.clone()).await;
        is(&answer, too_large());
    }
    body.pop();
    assert_eq!(
        ada.send("POST", SERVERS, &[], body.clone()).await.status,
        201
    );
    assert_eq!(ada.send("PATCH", &at(&target), &[], body).await.status, 200);
}

#[tokio::test]
async fn without_its_store_every_route_answers_503() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let target = create_plain(&ada, "target").await;
    hawser.wire.arm(Some(Cut::Before(0)));
    let unavailable = error(
        503,
        "service_unavailable",
        "Try again later: a dependent service is unavailable",
    );
    for (method, path, body, _, _) in routes(&target) {
        is(
            &call(&ada, method, &path, &[], &body).await,
            unavailable.clone(),
        );
    }
    hawser.wire.arm(None);
    assert_eq!(ada.get(SERVERS).await.json().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn other_paths_and_methods_are_refused_in_this_contracts_words() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let no_route = error(404, "route_not_found", "Verify the path: no such route");
    for path in [
        "/v1/deepagents",
        "/v1/deepagents/agents",
        "/v1/deepagents/mcp-servers/",
        "/v1/deepagents/mcp-servers/a/b/c",
    ] {
        is(&ada.get(path).await, no_route.clone());
    }
    for (method, path, allowed) in [
        ("PUT", SERVERS.to_owned(), "GET, HEAD, POST"),
        ("DELETE", SERVERS.to_owned(), "GET, HEAD, POST"),
        ("POST", at(UNKNOWN), "DELETE, GET, HEAD, PATCH"),
    ] {
        let answer = ada.send(method, &path, &[], Vec::new()).await;
        let detail = format!("Use {allowed}: the method is not allowed here");
        is(&answer, error(405, "method_not_allowed", &detail));
        assert_eq!(answer.header("allow").unwrap(), allowed);
    }
}
