//! Who may call, and what: credentials (Kambrium 1), scopes and owners (Kambrium 11).

use super::{
    AVAILABLE, BASE, assert_nowhere, assert_refused, at, calls, connect, make, pipedrive, scoped,
    shown, user,
};
use crate::harness::Hawser;
use serde_json::json;

#[tokio::test]
async fn every_call_wants_credentials() {
    const MISSING: &str = "Authentication credentials were not provided.";
    const INVALID: &str = "Token validation failed";
    let hawser = Hawser::with_built_in_integrations().await;
    let id = connect(&user(&hawser, "ada")).await;
    let anonymous = hawser.anonymous();
    let rows: [(&[(&str, &str)], &str); 12] = [
        (&[], MISSING),
        (&[("authorization", "")], MISSING),
        (&[("authorization", "Basic YTpi")], MISSING),
        (&[("authorization", "Basic")], MISSING),
        (&[("x-api-key", "")], MISSING),
        (
            &[("authorization", "Basic YTpi"), ("x-api-key", "")],
            MISSING,
        ),
        (
            &[("authorization", "Basic YTpi"), ("x-api-key", "x")],
            INVALID,
        ),
        (&[("authorization", "Bearer")], INVALID),
        (&[("authorization", "bEaReR x.y.z")], INVALID),
        (&[("authorization", "Bearer x.y.z")], INVALID),
        (&[("x-api-key", "hwk_a_b_c")], INVALID),
        (&[("authorization", "Bearer"), ("x-api-key", "x")], INVALID),
    ];
    for (method, path, body, _, _) in calls(id) {
        for (headers, detail) in rows {
            let sent = if body.is_null() {
                Vec::new()
            } else {
                body.to_string().into_bytes()
            };
            let answer = anonymous.send(method, &path, headers, sent).await;
            assert_refused(&answer, 401, detail);
            assert_eq!(answer.header("www-authenticate").as_deref(), Some("Bearer"));
        }
    }
}

#[tokio::test]
async fn a_token_that_is_expired_or_for_another_use_is_invalid() {
    let hawser = Hawser::with_built_in_integrations().await;
    for claims in [
        json!({"scope": "mgmt.admin", "exp": 1_000_000_000}),
        json!({"scope": "mgmt.admin", "aud": "someone-else"}),
        json!({"scope": "mgmt.admin", "iss": "someone-else"}),
        json!({"scope": "mgmt.admin", "token_use": "id"}),
        json!({"scope": "mgmt.admin", "mcp_server_id": "1"}),
    ] {
        let answer = hawser.caller("acme", "ada", claims).get(BASE).await;
        assert_refused(&answer, 401, "Token validation failed");
    }
}

#[tokio::test]
async fn each_scope_opens_its_own_calls_and_no_others() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let rows = [
        (json!({}), ""),
        (json!({"scope": ""}), ""),
        (json!({"scope": "mcp.read mcp.write mcp.tools.execute"}), ""),
        (json!({"scope": "MGMT.READ Mgmt.Write"}), ""),
        (json!({"scope": "mgmt.read/x mgmt"}), ""),
        (
            json!({"roles": ["admin"], "permissions": ["mgmt.admin"]}),
            "",
        ),
        (json!({"scope": "mgmt.read"}), "mgmt.read"),
        (json!({"scope": "x/mgmt.read"}), "mgmt.read"),
        (json!({"scopes": ["mgmt.read"]}), "mgmt.read"),
        (json!({"scope": "mgmt.write"}), "mgmt.write"),
        (json!({"scope": "default-m2m/a/mgmt.write"}), "mgmt.write"),
        (json!({"scopes": ["x/mgmt.write", 5]}), "mgmt.write"),
        (json!({"scope": "mgmt.admin"}), "mgmt.read mgmt.write"),
        (
            json!({"scope": "mgmt.read", "scopes": ["mgmt.write"]}),
            "mgmt.read mgmt.write",
        ),
    ];
    for (claims, granted) in rows {
        let id = connect(&ada).await;
        let caller = hawser.caller("acme", "ada", claims.clone());
        for (method, path, body, scope, purpose) in calls(id) {
            let answer = make(&caller, method, &path, &body).await;
            if granted.split(' ').any(|one| one == scope) {
                assert!(
                    matches!(answer.status, 200 | 201),
                    "{claims} {method} {path}: {}",
                    answer.text
                );
            } else {
                let detail = format!("You do not have permission to {purpose}.");
                assert_refused(&answer, 403, &detail);
            }
        }
    }
}

#[tokio::test]
async fn an_administrator_reaches_every_connection_of_its_tenant_by_id() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let id = connect(&ada).await;
    let admin = scoped(&hawser, "root", "mgmt.admin");
    assert_eq!(shown(&admin, id).await, shown(&ada, id).await);
    let put = admin.put(&at(id), json!({"agent_enabled": false})).await;
    assert_eq!(put.status, 200, "{}", put.text);
    assert_eq!(shown(&ada, id).await["agent_enabled"], false);
    assert_eq!(admin.delete(&at(id)).await.status, 200);
    assert_nowhere(&ada.get(&at(id)).await, id);
}

#[tokio::test]
async fn equal_ids_in_two_tenants_are_different_connections() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let other = hawser.caller("other", "ada", json!({"scope": "mgmt.read mgmt.write"}));
    assert_eq!((connect(&ada).await, connect(&other).await), (1, 1));
    assert_eq!(ada.delete(&at(1)).await.status, 200);
    assert_nowhere(&ada.get(&at(1)).await, 1);
    assert_eq!(shown(&other, 1).await["id"], 1);
}

#[tokio::test]
async fn a_bound_credential_knows_one_connection_only() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let (bound, other) = (connect(&ada).await, connect(&ada).await);
    for scope in ["mgmt.read mgmt.write", "mgmt.admin"] {
        let claims = json!({"scope": scope, "mcp_server_id": bound});
        let caller = hawser.caller("acme", "ada", claims);
        for method in ["GET", "PUT", "DELETE"] {
            let answer = make(&caller, method, &at(other), &json!({})).await;
            assert_nowhere(&answer, other);
        }
        let listed = caller.get(BASE).await.json();
        assert_eq!(listed["data"], json!([shown(&ada, bound).await]));
        assert_eq!(listed["message"], "Found 1 MCP server connections");
        assert_eq!(caller.get(AVAILABLE).await.status, 200);
        let forbidden = "You do not have permission to create connections.";
        assert_refused(&caller.post(BASE, pipedrive()).await, 403, forbidden);
        // 403 before 422, for a bound credential too.
        assert_refused(&caller.post(BASE, json!({})).await, 403, forbidden);
        assert_eq!(shown(&caller, bound).await["id"], bound);
        assert_eq!(caller.put(&at(bound), json!({})).await.status, 200);
    }
    let reader = json!({"scope": "mgmt.read", "mcp_server_id": bound});
    let reader = hawser.caller("acme", "ada", reader);
    assert_refused(
        &reader.delete(&at(bound)).await,
        403,
        "You do not have permission to delete this connection.",
    );
    // Being bound to a connection does not make it one's own.
    let stranger = json!({"scope": "mgmt.read", "mcp_server_id": bound});
    let stranger = hawser.caller("acme", "bob", stranger);
    assert_nowhere(&stranger.get(&at(bound)).await, bound);
    let owner = json!({"scope": "mgmt.write", "mcp_server_id": bound});
    let owner = hawser.caller("acme", "ada", owner);
    assert_eq!(owner.delete(&at(bound)).await.status, 200);
}

#[tokio::test]
async fn an_api_key_acts_as_its_owner_with_its_own_scopes() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let id = connect(&ada).await;
    let of = async |owner, scopes: &[&str]| {
        let grants = json!({"scopes": scopes, "roles": ["admin"]});
        hawser.api_key("acme", owner, grants).await
    };
    let reader = of(Some("user:ada"), &["mgmt.read"]).await;
    assert_eq!(shown(&reader, id).await, shown(&ada, id).await);
    for (method, path, body, scope, purpose) in calls(id) {
        let answer = make(&reader, method, &path, &body).await;
        if scope == "mgmt.read" {
            assert_eq!(answer.status, 200, "{}", answer.text);
        } else {
            let detail = format!("You do not have permission to {purpose}.");
            assert_refused(&answer, 403, &detail);
        }
    }
    // The scope comes before what is wrong with the request, for a key too.
    assert_eq!(reader.delete(&at("x")).await.status, 403);
    assert_eq!(reader.post(BASE, json!([])).await.status, 403);
    let own = ["mgmt.read", "mgmt.write"];
    assert_eq!(
        of(None, &own).await.get(BASE).await.json()["data"],
        json!([])
    );
    assert_nowhere(&of(Some("user:bob"), &own).await.delete(&at(id)).await, id);
    let writer = of(Some("user:ada"), &own).await;
    assert_eq!(writer.delete(&at("x")).await.status, 422);
    assert_eq!(writer.delete(&at(id)).await.status, 200);
    // A key that nobody was given, and one whose secret is another's.
    let mut forged = writer.headers[0].1.clone();
    forged.pop();
    for last in ["2", "3"] {
        let forged = format!("{forged}{last}");
        if forged != writer.headers[0].1 {
            let answer = hawser.with(vec![("x-api-key", forged)]).get(BASE).await;
            assert_refused(&answer, 401, "Token validation failed");
        }
    }
    // Beside a key, a token decides alone; another scheme is no token.
    let scopeless = scoped(&hawser, "ada", "").headers[0].1.clone();
    let headers = [("authorization", scopeless.as_str())];
    assert_eq!(
        writer.send("GET", BASE, &headers, Vec::new()).await.status,
        403
    );
    let basic = [("authorization", "Basic YTpi")];
    assert_eq!(
        writer.send("GET", BASE, &basic, Vec::new()).await.status,
        200
    );
}
