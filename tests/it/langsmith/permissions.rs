//! Who may call, and what.

use super::{
    EVERYTHING, SERVERS, UNKNOWN, URL, ada, at, call, create, create_plain, id, is, is_empty_204,
    is_json, is_unauthorized, lacks, not_found, routes, tenant_uuid, with,
};
use crate::harness::{Hawser, now};
use serde_json::json;

#[tokio::test]
async fn without_valid_credentials_every_route_answers_401() {
    let hawser = Hawser::start().await;
    let (issuer, soon) = ("https://else.example", now() + 600);
    let foreign =
        hawser.claims(json!({"tenantName": "acme", "sub": "ada", "exp": soon, "iss": issuer}));
    let misdirected =
        hawser.claims(json!({"tenantName": "acme", "sub": "ada", "exp": soon, "aud": "else"}));
    let expired = hawser.claims(json!({"tenantName": "acme", "sub": "ada", "exp": now() - 600}));
    let mut forged = ada(&hawser);
    let other = Hawser::start().await;
    forged.headers = ada(&other).headers;
    let key = hawser
        .api_key("acme", None, json!({"permissions": EVERYTHING}))
        .await;
    let basic = hawser.with(vec![("authorization", "Basic YTpi".to_owned())]);
    let mut both = key.clone();
    both.headers
        .push(("authorization", "Bearer nonsense".to_owned()));
    let empty = hawser.with(vec![
        ("authorization", String::new()),
        ("x-api-key", String::new()),
    ]);
    let anonymous = hawser.anonymous();
    for caller in [
        anonymous,
        empty,
        basic,
        foreign,
        misdirected,
        expired,
        forged,
        both,
    ] {
        for (method, path, body, _, _) in routes(UNKNOWN) {
            is_unauthorized(&call(&caller, method, &path, &[], &body).await);
        }
    }
}

#[tokio::test]
async fn credentials_that_are_for_no_such_tenant_answer_403_forbidden() {
    let hawser = Hawser::start().await;
    let grants = json!({"permissions": EVERYTHING});
    let key = hawser.api_key("acme", None, grants.clone()).await;
    let text = key.headers[0].1.clone();
    let altered = hawser.with(vec![(
        "x-api-key",
        format!("{}{}", &text[..text.len() - 4], "aaaa"),
    )]);
    let unknown = hawser.with(vec![("x-api-key", "lsv2_pt_nonsense".to_owned())]);
    let no_tenant =
        hawser.claims(json!({"sub": "ada", "exp": now() + 600, "permissions": EVERYTHING}));
    for (method, path, body, _, _) in routes(UNKNOWN) {
        for caller in [&altered, &unknown, &no_tenant] {
            let answer = call(caller, method, &path, &[], &body).await;
            is_json(&answer, 403, json!({"error": "Forbidden"}));
        }
        for caller in [&ada(&hawser), &key] {
            for named in [tenant_uuid("globex"), "acme".to_owned(), "7".to_owned()] {
                let headers = [("x-tenant-id", named.as_str())];
                let answer = call(caller, method, &path, &headers, &body).await;
                is_json(&answer, 403, json!({"error": "Forbidden"}));
            }
        }
    }
    is(&ada(&hawser).get(SERVERS).await, json!([]));
}

#[tokio::test]
async fn the_callers_own_tenant_may_be_named_in_any_case() {
    let hawser = Hawser::start().await;
    let own = tenant_uuid("acme");
    for named in ["", &own, &own.to_uppercase()] {
        let answer = ada(&hawser)
            .send("GET", SERVERS, &[("x-tenant-id", named)], Vec::new())
            .await;
        is(&answer, json!([]));
    }
}

#[tokio::test]
async fn an_api_key_is_a_credential_and_authorization_decides_before_it() {
    let hawser = Hawser::start().await;
    let grants = json!({"permissions": EVERYTHING});
    let key = hawser.api_key("acme", Some("user:ada"), grants).await;
    let made = create(&key, json!({"name": "search", "url": URL})).await;
    is(&ada(&hawser).get(&at(id(&made))).await, made.clone());
    is(&key.get(&at(id(&made))).await, made.clone());

    let mut both = hawser.caller("globex", "bob", json!({"permissions": EVERYTHING}));
    both.headers.extend(key.headers.clone());
    is(&both.get(SERVERS).await, json!([]));

    let mut lenient = key.clone();
    lenient.headers.push(("authorization", String::new()));
    is(&lenient.get(&at(id(&made))).await, made);
}

#[tokio::test]
async fn each_permission_opens_its_own_routes_only() {
    let hawser = Hawser::start().await;
    for (i, only) in EVERYTHING.into_iter().enumerate() {
        let target = create_plain(&ada(&hawser), &format!("target {i}")).await;
        let key = hawser
            .api_key("acme", None, json!({"permissions": [only]}))
            .await;
        for caller in [with(&hawser, &[only]), key] {
            for (method, path, mut body, needed, status) in routes(&target) {
                if method == "POST" {
                    body["name"] = format!("{only} {}", caller.headers[0].0).into();
                }
                let answer = call(&caller, method, &path, &[], &body).await;
                if needed == only {
                    assert_eq!(answer.status, status, "{only} {method} {answer:?}");
                } else {
                    lacks(&answer, needed);
                }
            }
        }
    }
}

#[tokio::test]
async fn nothing_but_its_permissions_opens_a_route() {
    let hawser = Hawser::start().await;
    let target = create_plain(&ada(&hawser), "target").await;
    let more = json!({"roles": ["admin"], "scope": "mgmt.read mgmt.write mgmt.admin"});
    for caller in [
        with(&hawser, &[]),
        hawser.caller("acme", "ada", more),
        with(&hawser, &["mcp-servers:*", "MCP-SERVERS:READ", "read"]),
    ] {
        for (method, path, body, needed, _) in routes(&target) {
            lacks(&call(&caller, method, &path, &[], &body).await, needed);
        }
    }
    assert_eq!(ada(&hawser).get(&at(&target)).await.status, 200);
}

#[tokio::test]
async fn another_tenants_server_is_like_an_unknown_one() {
    let hawser = Hawser::start().await;
    let target = create(&ada(&hawser), json!({"name": "target", "url": URL})).await;
    let bob = hawser.caller("globex", "bob", json!({"permissions": EVERYTHING}));
    for unknown in [id(&target), UNKNOWN] {
        is(&bob.get(&at(unknown)).await, not_found());
        is(&bob.patch(&at(unknown), json!({})).await, not_found());
        is_empty_204(&bob.delete(&at(unknown)).await);
    }
    is(&bob.get(SERVERS).await, json!([]));
    is(&ada(&hawser).get(&at(id(&target))).await, target);
    create_plain(&bob, "target").await;
}
