//! The handshake works before the credential does.

use super::{
    ask_stateless, handshake, in_session, initialize_with, stateless, tool_call, with_sessions,
};
use crate::harness::Hawser;
use crate::issuer::Issuer;
use crate::upstream::*;
use serde_json::{Value, json};

#[tokio::test]
async fn a_client_with_sessions_is_served_before_its_user_is_connected() {
    let (hawser, issuer) = (Hawser::start().await, Issuer::start().await);
    let mcp = register(&hawser, "wiki", &issuer.mcp_url(), oauth()).await;
    let ada = user(&hawser, "ada");
    for (wanted, agreed) in [
        ("2025-06-18", "2025-06-18"),
        ("2025-03-26", "2025-03-26"),
        ("2025-11-25", "2025-11-25"),
        ("2024-11-05", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
        ("x", "2025-11-25"),
    ] {
        let mut body = initialize_with(json!({}));
        body["params"]["protocolVersion"] = wanted.into();
        let answer = send(&ada, &mcp, &[], body).await;
        let result = answer.json()["result"].clone();
        assert_eq!(
            (answer.status, &result["protocolVersion"]),
            (200, &json!(agreed))
        );
        assert_eq!(result["serverInfo"]["name"], "wiki");
        assert_eq!(
            result["capabilities"],
            json!({"tools": {"listChanged": true}})
        );
        assert!(
            result["instructions"]
                .as_str()
                .unwrap()
                .contains("not connected")
        );
    }
    let session = handshake(&ada, &mcp, json!({})).await;
    let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let answer = in_session(&ada, &mcp, &session, initialized).await;
    assert_eq!((answer.status, answer.text.as_str()), (202, ""));
    let pong = in_session(&ada, &mcp, &session, message("ping")).await;
    pong.is(200, json!({"jsonrpc": "2.0", "id": 7, "result": {}}));
    let listed = in_session(&ada, &mcp, &session, message("tools/list")).await;
    let tools = listed.json()["result"]["tools"].clone();
    assert_eq!(
        (tools.as_array().unwrap().len(), &tools[0]["name"]),
        (1, &json!("connect"))
    );
    assert_eq!(tools[0]["inputSchema"]["type"], "object");
    assert!(tools[0]["description"].as_str().unwrap().contains("wiki"));
    // No consent is begun by a handshake.
    let items = hawser.ground().items().await;
    assert!(items.iter().all(|item| item["entity"] != "session"));
    let url = told(&in_session(&ada, &mcp, &session, tool_call("connect")).await).unwrap();
    assert_eq!(issuer.log().len(), 0);
    let mut long = initialize_with(json!({}));
    long["params"]["clientInfo"]["name"] = "x".repeat(64 << 10).into();
    let answer = send(&ada, &mcp, &[], long).await;
    let text = "The parameters of initialize are longer than 64 KiB";
    is_refused(&answer, 200, -32602, text, Value::Null);
    assert!(url.starts_with(&hawser.url));
}

#[tokio::test]
async fn a_client_without_sessions_is_served_before_its_user_is_connected() {
    let (hawser, issuer) = (Hawser::start().await, Issuer::start().await);
    let mcp = register(&hawser, "wiki", &issuer.mcp_url(), oauth()).await;
    let ada = user(&hawser, "ada");
    let ask = async |method: &str| {
        let answer = ask_stateless(&ada, &mcp, &stateless(method, json!({}), json!({}))).await;
        assert_eq!(
            (answer.status, answer.header(SESSION)),
            (200, None),
            "{answer:?}"
        );
        let result = answer.json()["result"].clone();
        assert_eq!(result["resultType"], "complete", "{answer:?}");
        result
    };
    let discovered = ask("server/discover").await;
    assert_eq!(discovered["supportedVersions"][0], "2026-07-28");
    assert_eq!(
        discovered["_meta"]["io.modelcontextprotocol/serverInfo"]["name"],
        "wiki"
    );
    assert_eq!(
        (&discovered["ttlMs"], &discovered["cacheScope"]),
        (&json!(0), &json!("private"))
    );
    ask("ping").await;
    let listed = ask("tools/list").await;
    assert_eq!(listed["tools"][0]["name"], "connect");
    assert_eq!(
        (&listed["ttlMs"], &listed["cacheScope"]),
        (&json!(0), &json!("private"))
    );
    assert_eq!(issuer.log().len(), 0);
    // Connected, the list is the server's, and our own tool says so.
    connect(&hawser, &issuer, &mcp, "ada").await;
    let answer = ask_stateless(&ada, &mcp, &stateless("tools/list", json!({}), json!({}))).await;
    assert_eq!(answer.json()["result"]["subject"], "ada", "{answer:?}");
}

#[tokio::test]
async fn a_server_that_is_known_to_want_sessions_is_not_announced_without_them() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    upstream.answers(|seen| match seen.header("mcp-protocol-version") {
        Some("2026-07-28") => Reply::new(400, Vec::new(), "a session is required"),
        _ => {
            let message = seen.message();
            let result = match message["method"].as_str() {
                Some("initialize") => json!({"protocolVersion": "2025-11-25", "capabilities": {}}),
                _ => json!({"tools": []}),
            };
            let body = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
            Reply::new(
                200,
                vec![("content-type", "application/json".to_owned())],
                body.to_string(),
            )
        }
    });
    let mcp = register(&hawser, "wiki", &upstream.url, per_user()).await;
    let (ada, bob) = (user(&hawser, "ada"), user(&hawser, "bob"));
    install(&hawser, &mcp, "bob", own("v")).await;
    let discover = stateless("server/discover", json!({}), json!({}));
    let versions = async || {
        let answer = ask_stateless(&ada, &mcp, &discover).await;
        answer.json()["result"]["supportedVersions"].clone()
    };
    assert_eq!(versions().await[0], "2026-07-28");
    // Someone's list of its tools has shown what it speaks.
    let connect =
        json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "connect"}});
    assert_eq!(send(&bob, &mcp, &[MODERN], connect).await.status, 200);
    assert_eq!(
        versions().await,
        json!(["2025-11-25", "2025-06-18", "2025-03-26"])
    );
}

#[tokio::test]
async fn the_tool_that_connects_says_so_once_that_is_done() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    with_sessions(&upstream, "2025-06-18");
    let mcp = register(&hawser, "wiki", &upstream.url, per_user()).await;
    let ada = user(&hawser, "ada");
    let session = handshake(&ada, &mcp, json!({})).await;
    // Where only a manager can help there is no address.
    let answer = in_session(&ada, &mcp, &session, tool_call("connect")).await;
    assert_eq!(told(&answer), None);
    install(&hawser, &mcp, "ada", own("v")).await;
    let answer = in_session(&ada, &mcp, &session, tool_call("connect")).await;
    let result = answer.json()["result"].clone();
    assert_eq!(result["isError"], false, "{answer:?}");
    assert_eq!(
        result["content"][0]["text"],
        "wiki is connected. List its tools again."
    );
    // A server's own tool of that name is the server's.
    upstream.answers(|seen| {
        let message = seen.message();
        let result = match message["method"].as_str() {
            Some("tools/list") => json!({"tools": [{"name": "connect"}]}),
            _ => json!({"content": [{"type": "text", "text": "theirs"}]}),
        };
        let body = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
        Reply::new(
            200,
            vec![("content-type", "application/json".to_owned())],
            body.to_string(),
        )
    });
    install(&hawser, &mcp, "bob", own("w")).await;
    let answer = send(&user(&hawser, "bob"), &mcp, &[MODERN], tool_call("connect")).await;
    assert_eq!(
        answer.json()["result"]["content"][0]["text"],
        "theirs",
        "{answer:?}"
    );
}
