//! Who may call a server, and which of its tools.

use crate::harness::Hawser;
use crate::upstream::*;
use serde_json::{Value, json};

#[tokio::test]
async fn pages_of_other_origins_may_not_call() {
    let upstream = Upstream::start().await;
    let hawser = Hawser::start_with(|app| {
        app.public_urls = vec!["https://hawser.example/base".to_owned()];
        app.return_origins = vec!["https://app.example".to_owned()];
    })
    .await;
    let mcp = register(&hawser, "wiki", &upstream.url, json!({})).await;
    let ada = user(&hawser, "ada");
    let mut served = 0;
    for (origin, allowed) in [
        ("https://hawser.example", true),
        ("https://app.example", true),
        ("http://localhost:3000", true),
        ("http://127.0.0.1", true),
        ("http://[::1]:80", false),
        ("http://[::1]", true),
        ("https://evil.example", false),
        ("https://hawser.example.evil.example", false),
        ("https://hawser.example:8443", false),
        ("http://hawser.example", false),
        ("http://localhost.evil.example", false),
        ("null", false),
        ("", false),
    ] {
        let answer = send(&ada, &mcp, &[("origin", origin)], message("tools/list")).await;
        served += usize::from(allowed);
        assert_eq!(
            answer.status,
            if allowed { 200 } else { 403 },
            "{origin} {answer:?}"
        );
        assert_eq!(upstream.count(), served, "{origin}");
    }
    let both = [
        ("origin", "https://app.example"),
        ("origin", "https://evil.example"),
    ];
    assert_eq!(send(&ada, &mcp, &both, message("a")).await.status, 403);
}

#[tokio::test]
async fn nobody_calls_without_credentials_and_permission() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let mcp = register(
        &hawser,
        "wiki",
        &upstream.url,
        json!({"collaborators": [
        {"subject": "user:carol@acme.example", "role_id": "mcp-server-user"},
        {"subject": "user:dave@acme.example", "role_id": "mcp-server-viewer"}]}),
    )
    .await;
    let null = |code: i64, text: &str, data: Value| json!({"jsonrpc": "2.0", "id": null, "error": {"code": code, "message": text, "data": data}});
    let answer = call(&hawser.anonymous(), &mcp).await;
    answer.is(
        401,
        null(-32600, "Invalid Request", "Authentication required".into()),
    );
    let url = &hawser.url;
    let metadata =
        format!("resource_metadata=\"{url}/.well-known/oauth-protected-resource/mcp/{mcp}\"");
    let challenge = format!("Bearer {metadata}, scope=\"mcp\"");
    assert_eq!(answer.header("www-authenticate"), Some(challenge));
    for headers in [
        vec![("authorization", "Bearer x".to_owned())],
        vec![("authorization", "Basic x".to_owned())],
        vec![("x-api-key", "hwk_x".to_owned())],
    ] {
        let answer = call(&hawser.with(headers), &mcp).await;
        answer.is(
            401,
            null(
                -32000,
                "Authentication failed",
                json!({"error": "Invalid token"}),
            ),
        );
        let challenge = format!("Bearer error=\"invalid_token\", {metadata}, scope=\"mcp\"");
        assert_eq!(answer.header("www-authenticate"), Some(challenge));
    }
    let denied = json!({"required_permission": "mcp-servers:invoke"});
    for claims in [
        json!({}),
        json!({"permissions": ["mcp-servers:read"]}),
        json!({"scope": "mgmt.read mgmt.write mgmt.admin"}),
        json!({"email": "dave@acme.example"}),
        json!({"roles": ["mcp-server-viewer", "member"]}),
    ] {
        let answer = call(&hawser.caller("acme", "eve", claims), &mcp).await;
        is_refused(&answer, 403, -32000, "Permission denied", denied.clone());
    }
    assert_eq!(upstream.count(), 0);
    for claims in [
        json!({"roles": ["mcp-server-user"]}),
        json!({"roles": ["mcp-server-manager"]}),
        json!({"roles": ["admin"]}),
        json!({"email": "carol@acme.example"}),
        json!({"scope": "mcp.write mgmt.admin"}),
    ] {
        assert_eq!(
            call(&hawser.caller("acme", "eve", claims), &mcp)
                .await
                .status,
            200
        );
    }
}

#[tokio::test]
async fn a_connection_s_own_limits_hold_for_everyone() {
    let upstream = Upstream::start().await;
    let pipedrive = json!({"display_name": "P", "mcp_url": upstream.url, "api_key": {}});
    let hawser = Hawser::with_integrations(&json!({"pipedrive": pipedrive})).await;
    let admin = hawser.admin("acme");
    let owner = hawser.caller("acme", "root", json!({"scope": "mcp.read mcp.write"}));
    let body = json!({"mcp_server": "pipedrive", "access_type": "individual", "api_key": "k",
                      "disabled_tools": [1_270_100_515_418_183u64]});
    let made = admin.post("/api/v1/mcp-servers", body).await.json();
    let number = made["data"]["id"].to_string();
    upstream.has_tools(json!([{"name": "search"}, {"name": "other"},
                              {"name": "look", "annotations": {"readOnlyHint": true}}]));
    let tool = |name: &str| json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": name}});
    // The refusals of a Kambrium credential have the statuses of that contract.
    for (caller, status) in [(&admin, 200), (&owner, 403)] {
        let answer = send(caller, &number, &[MODERN], tool("search")).await;
        let data = json!({"tool_name": "search", "available_tools": ["other", "look"], "suggestion":
                          "Use one of available_tools, or ask the owner of the connection to enable it."});
        is_refused(&answer, status, -32002, "Tool not available", data);
        let hidden = json!([tool("search")]);
        let answer = send(caller, &number, &[MODERN], hidden).await;
        assert_eq!(answer.json()["error"]["code"], -32002, "{answer:?}");
        assert_eq!(
            send(caller, &number, &[MODERN], tool("other")).await.status,
            200
        );
    }
    // Narrowed, it takes from everyone what they had.
    let path = format!("/api/v1/mcp-servers/{number}");
    let narrowed = admin.put(&path, json!({"access_type": "read"})).await;
    assert_eq!(narrowed.status, 200);
    for (caller, status) in [(&admin, 200), (&owner, 403)] {
        let answer = send(caller, &number, &[MODERN], tool("other")).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.json()["error"]["code"], -32002, "{answer:?}");
        assert_eq!(
            send(caller, &number, &[MODERN], tool("look")).await.status,
            200
        );
        assert_eq!(
            send(caller, &number, &[MODERN], message("tools/list"))
                .await
                .status,
            200
        );
    }
}

#[tokio::test]
async fn kambrium_s_rules_hold_for_its_credentials() {
    let upstream = Upstream::start().await;
    let pipedrive = json!({"display_name": "P", "mcp_url": upstream.url, "api_key": {}});
    let hawser = Hawser::with_integrations(&json!({"pipedrive": pipedrive})).await;
    let owner = |scope: &str| hawser.caller("acme", "ada", json!({"scope": scope}));
    let manager = owner("mgmt.read mgmt.write");
    let body = json!({"mcp_server": "pipedrive", "access_type": "write", "api_key": "k"});
    let mut numbers = Vec::new();
    for _ in 0..2 {
        let made = manager
            .post("/api/v1/mcp-servers", body.clone())
            .await
            .json();
        numbers.push(made["data"]["id"].as_u64().unwrap());
    }
    let path = format!("/api/v1/mcp-servers/{}", numbers[0]);
    let number = numbers[0].to_string();
    let missing = |scope: &str| json!({"required_scope": scope});
    let tool = || message("tools/call");
    // A scope for reading lists, and calls nothing that might write.
    assert_eq!(call(&owner("x/mcp.read"), &number).await.status, 200);
    let answer = send(&owner("mcp.read"), &number, &[MODERN], tool()).await;
    is_refused(
        &answer,
        403,
        -32000,
        "Permission denied",
        missing("mcp.write"),
    );
    for batch in [
        json!([tool()]),
        json!([tool(), "ping"]),
        json!([tool(), message("ping")]),
    ] {
        let answer = send(&owner("mcp.read"), &number, &[MODERN], batch).await;
        assert_eq!(answer.status, 403, "{answer:?}");
    }
    for scope in ["mcp.write", "mcp.tools.execute"] {
        assert_eq!(
            send(&owner(scope), &number, &[MODERN], tool()).await.status,
            200
        );
    }
    // What is someone else's is not there.
    let gone = "MCP server not found or not accessible";
    let eve = hawser.caller("acme", "eve", json!({"scope": "mcp.write"}));
    is_refused(&call(&eve, &number).await, 404, -32001, gone, Value::Null);
    // A bound credential opens its own connection, by whatever its subject is called, and no other.
    let bound = |number: u64, scope: &str| {
        let claims =
            json!({"mcp_server_id": number, "scope": scope, "permissions": ["mcp-servers:invoke"]});
        hawser.caller("acme", "client", claims)
    };
    assert_eq!(
        call(&bound(numbers[0], "mcp.read"), &number).await.status,
        200
    );
    let answer = call(&bound(numbers[0], "mgmt.read"), &number).await;
    is_refused(
        &answer,
        403,
        -32000,
        "Permission denied",
        missing("mcp.read"),
    );
    let answer = call(&bound(numbers[1], "mcp.write"), &number).await;
    is_refused(&answer, 404, -32001, gone, Value::Null);
    // The switch.
    let before = upstream.count();
    assert_eq!(
        manager
            .put(&path, json!({"agent_enabled": false}))
            .await
            .status,
        200
    );
    let answer = call(&owner("mcp.write"), &number).await;
    is_refused(
        &answer,
        403,
        -32001,
        "Access denied",
        json!({"error": "Connection disabled"}),
    );
    // Deleted: the bound credential is none any more, wherever it goes; others learn that there is nothing.
    assert_eq!(manager.delete(&path).await.status, 200);
    for target in [
        number.clone(),
        numbers[1].to_string(),
        "mcp-01KF0FV2HRF8BR7TAB0BC6YCDE".to_owned(),
    ] {
        for headers in [&[MODERN][..], &[(SESSION, "x")]] {
            let answer = send(&bound(numbers[0], "mcp.write"), &target, headers, tool()).await;
            assert_eq!(answer.status, 401, "{target} {answer:?}");
            assert_eq!(
                answer.json()["error"]["data"],
                json!({"error": "Invalid token"})
            );
        }
    }
    is_refused(
        &call(&owner("mcp.write"), &number).await,
        404,
        -32001,
        gone,
        Value::Null,
    );
    let answer = send(&owner("mcp.write"), &number, &[(SESSION, "x")], tool()).await;
    is_session_gone(&answer, "x");
    let answer = send(
        &owner("mcp.write"),
        &number,
        &[(SESSION, "x")],
        message("initialize"),
    )
    .await;
    is_refused(&answer, 404, -32001, gone, Value::Null);
    assert_eq!(upstream.count(), before);
}
