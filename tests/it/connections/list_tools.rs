//! Listing the tools of a connection (Kambrium 8).

use super::{BASE, Scene, at, named, scoped, some_tools, tool_call, tools};
use crate::harness::{Answer, Browser, Cut, Hawser};
use crate::issuer::{Gate, Issuer};
use crate::upstream::{MODERN, Reply, send, user};
use hawser_core::domain::tool::id_of;
use serde_json::{Value, json};

#[track_caller]
fn says(answer: &Answer, status: u16, detail: &str) {
    let body = json!({"detail": detail}).to_string();
    assert_eq!((answer.status, answer.text.as_str()), (status, &*body));
}

#[tokio::test]
async fn tools_are_listed_by_name_page_by_page() {
    let scene = Scene::new().await;
    let id = scene.connect(json!({})).await;
    let answer = scene.owner.get(&tools(id, "")).await;
    answer.is(
        200,
        json!({
            "success": true,
            "data": {
                "tools": [
                    {"id": id_of("Zap"), "name": "Zap", "description": "", "inputSchema": {"type": "object"}, "annotations": {}},
                    {"id": 3_815_743_325_853_446u64, "name": "get_deals", "description": "", "inputSchema": {"type": "object"},
                     "annotations": {"readOnlyHint": false}},
                    {"id": id_of("look"), "name": "look", "description": "", "inputSchema": {"type": "object"},
                     "annotations": {"readOnlyHint": true}},
                    {"id": 1_270_100_515_418_183u64, "name": "search", "description": "Searches.",
                     "inputSchema": {"type": "object", "a": 1}, "annotations": {"readOnlyHint": true, "audience": ["x"]}},
                ],
                "total_count": 4, "mcp_server_id": id, "limit": 50, "offset": 0, "has_more": false,
            },
            "message": "Found 4 tools for MCP server connection (showing 4 tools, page 1)",
        }),
    );
    assert_eq!(scene.upstream.last().header("x-key"), Some("Key k-4711"));
    for (query, names, more, page) in [
        ("?limit=2", vec!["Zap", "get_deals"], true, 1),
        ("?limit=2&offset=2", vec!["look", "search"], false, 2),
        ("?limit=3&offset=2", vec!["look", "search"], false, 1),
        ("?limit=1&offset=3&x=y", vec!["search"], false, 4),
        (
            "?offset=3&limit=9&limit=2000&offset=0",
            vec!["Zap", "get_deals", "look", "search"],
            false,
            1,
        ),
        ("?offset=4", vec![], false, 1),
        (
            "?offset=9223372036854775807&limit=1",
            vec![],
            false,
            9_223_372_036_854_775_808u64,
        ),
    ] {
        let answer = scene.owner.get(&tools(id, query)).await.json();
        assert_eq!(named(&answer["data"]["tools"]), names, "{query}");
        assert_eq!(answer["data"]["total_count"], 4);
        assert_eq!(answer["data"]["has_more"], more, "{query}");
        let showing = format!("(showing {} tools, page {page})", names.len());
        assert!(
            answer["message"].as_str().unwrap().ends_with(&showing),
            "{answer}"
        );
    }
    // One question served all of them; and a switched-off connection still shows them.
    scene.put(id, json!({"agent_enabled": false})).await;
    assert_eq!(scene.names(id).await.len(), 4);
    assert_eq!(scene.upstream.count(), 1);
}

#[tokio::test]
async fn a_list_is_asked_for_in_the_contracts_order_of_checks() {
    let scene = Scene::new().await;
    let (id, hawser) = (scene.connect(json!({})).await, &scene.hawser);
    let path = tools(id, "");
    let missing = "Authentication credentials were not provided.";
    says(
        &hawser.anonymous().get(&tools("x", "?limit=0")).await,
        401,
        missing,
    );
    let forbidden = "You do not have permission to access this connection.";
    for scope in ["mgmt.write", "mcp.read mcp.write mcp.tools.execute", ""] {
        let caller = scoped(hawser, "ada", scope);
        says(&caller.get(&tools("x", "?limit=0")).await, 403, forbidden);
        says(&caller.get(&path).await, 403, forbidden);
    }
    let fault = |kind: &str, loc: Value, msg: &str, input: Value| json!({"type": kind, "loc": loc, "msg": msg, "input": input});
    let no_integer = "Input should be a valid integer, unable to parse string as an integer";
    for (value, kind, msg) in [
        (
            "0",
            "greater_than_equal",
            "Input should be greater than or equal to 1",
        ),
        (
            "-1",
            "greater_than_equal",
            "Input should be greater than or equal to 1",
        ),
        (
            "2001",
            "less_than_equal",
            "Input should be less than or equal to 2000",
        ),
        ("", "int_parsing", no_integer),
        ("x", "int_parsing", no_integer),
        ("1.0", "int_parsing", no_integer),
        ("007", "int_parsing", no_integer),
    ] {
        let answer = scene
            .owner
            .get(&tools(id, &format!("?limit={value}")))
            .await;
        let expected = fault(kind, json!(["query", "limit"]), msg, json!(value));
        answer.is(422, json!({"detail": [expected]}));
    }
    let all = scene.owner.get(&tools("srv_1", "?offset=-1&limit=x")).await;
    all.is(422, json!({"detail": [
        fault("int_parsing", json!(["path", "server_id"]), no_integer, json!("srv_1")),
        fault("int_parsing", json!(["query", "limit"]), no_integer, json!("x")),
        fault("greater_than_equal", json!(["query", "offset"]), "Input should be greater than or equal to 0", json!("-1")),
    ]}));
    // Whose it is not, for them it is not there.
    let gone = scene.connect(json!({})).await;
    assert_eq!(scene.owner.delete(&at(gone)).await.status, 200);
    let (bob, bound) = (
        scoped(hawser, "bob", "mgmt.read"),
        json!({"scope": "mgmt.read", "mcp_server_id": gone}),
    );
    let bound = hawser.caller("acme", "ada", bound);
    for (caller, id) in [
        (&bob, id),
        (&scene.owner, gone),
        (&scene.owner, 99),
        (&bound, id),
    ] {
        says(
            &caller.get(&tools(id, "")).await,
            404,
            "MCP server connection not found",
        );
    }
    assert_eq!(scene.upstream.count(), 0);
    for caller in [
        scoped(hawser, "root", "mgmt.admin"),
        hawser.caller(
            "acme",
            "ada",
            json!({"scope": "mgmt.read", "mcp_server_id": id}),
        ),
    ] {
        assert_eq!(caller.get(&path).await.status, 200);
    }
    assert_eq!(scene.upstream.count(), 1, "the owner's list is everybody's");
    let fresh = scene.connect(json!({})).await;
    hawser.wire.arm(Some(Cut::Before(1)));
    let failed = "Failed to list MCP server tools: database error";
    says(&scene.owner.get(&tools(fresh, "")).await, 500, failed);
}

#[tokio::test]
async fn a_server_that_lists_nothing_is_unavailable() {
    let scene = Scene::by_hand().await;
    let id = scene.connect(json!({})).await;
    let unavailable = "Failed to list tools: MCP server unavailable";
    let refusals = [
        Reply::new(401, vec![], ""),
        Reply::new(403, vec![], ""),
        Reply::new(500, vec![], "the server explains"),
        Reply::new(302, vec![("location", scene.upstream.url.clone())], ""),
        Reply::new(200, vec![], "<html>"),
    ];
    for reply in refusals {
        scene.upstream.reply(reply);
        says(&scene.owner.get(&tools(id, "")).await, 502, unavailable);
    }
    let many = |count: usize| {
        (0..count)
            .map(|n| json!({"name": format!("{n:04}")}))
            .collect()
    };
    scene.upstream.has_tools(many(2001));
    says(&scene.owner.get(&tools(id, "")).await, 502, unavailable);
    scene.upstream.has_tools(many(2000));
    let answer = scene.owner.get(&tools(id, "?limit=2000")).await.json();
    assert_eq!(answer["data"]["tools"].as_array().unwrap().len(), 2000);
    // For five minutes that is known.
    scene.upstream.answers(|_| Reply::new(500, vec![], ""));
    scene.hawser.pass(299);
    assert_eq!(scene.names(id).await.len(), 50);
    scene.hawser.pass(1);
    says(&scene.owner.get(&tools(id, "")).await, 502, unavailable);
    // A consent that is still to come.
    let issuer = Issuer::start().await;
    let mail = json!({"mail": {"display_name": "M", "mcp_url": issuer.mcp_url(), "oauth": {}}});
    let hawser = Hawser::with_integrations(&mail).await;
    let owner = scoped(&hawser, "ada", "mgmt.read mgmt.write");
    let body = json!({"mcp_server": "mail", "access_type": "write", "auth_method": "oauth"});
    let made = owner.post(BASE, body).await.json();
    let path = tools(&made["data"]["id"], "");
    says(&owner.get(&path).await, 502, unavailable);
    let url = made["data"]["authorization_url"].as_str().unwrap();
    let mut browser = Browser::new();
    let back = issuer.approve(&browser.begin(url).await).await;
    assert_eq!(browser.open(&back).await.status, 200);
    let answer = owner.get(&path).await.json();
    assert_eq!(named(&answer["data"]["tools"]), ["of-0"]);
    // The owner's list is no way to what others see with their own.
    let admin = scoped(&hawser, "root", "mgmt.admin");
    assert_eq!(admin.get(&path).await.json()["data"], answer["data"]);
}

#[tokio::test]
async fn filters_apply_to_what_is_kept() {
    let scene = Scene::new().await;
    let id = scene.connect(json!({"access_type": "read"})).await;
    assert_eq!(scene.names(id).await, ["look", "search"]);
    scene.put(id, json!({"access_type": "individual"})).await;
    assert_eq!(
        scene.names(id).await,
        ["Zap", "get_deals", "look", "search"]
    );
    let off = json!({"disabled_tools": [id_of("search"), id_of("Zap"), id_of("not there")]});
    scene.put(id, off).await;
    assert_eq!(scene.names(id).await, ["get_deals", "look"]);
    scene.put(id, json!({"access_type": "read"})).await;
    assert_eq!(scene.names(id).await, ["look", "search"]);
    assert_eq!(scene.upstream.count(), 1);
    // The sibling contract shows what can be called.
    let admin = scene.hawser.admin("acme");
    let path = format!("/v1/deepagents/mcp/tools?url={}", scene.upstream.url);
    assert_eq!(
        named(&admin.get(&path).await.json()["tools"]),
        ["search", "look"]
    );
    scene.put(id, json!({"api_key": "new"})).await;
    assert_eq!(scene.names(id).await.len(), 2);
    assert_eq!(scene.upstream.last().header("x-key"), Some("Key new"));
    assert_eq!(scene.upstream.count(), 2);
}

#[tokio::test]
async fn what_ends_while_the_tools_are_listed_ends_the_call() {
    for end in ["delete", "tools", "off"] {
        let scene = Scene::new().await;
        let off = json!({"access_type": "individual", "disabled_tools": [id_of("Zap")]});
        let id = scene.connect(off).await;
        let gate = Gate::closed();
        let list = json!({"jsonrpc": "2.0", "id": 1, "result": {"tools": some_tools(), "resultType": "complete"}});
        let headers = vec![("content-type", "application/json".to_owned())];
        scene
            .upstream
            .reply(Reply::new(200, headers, list.to_string()).behind(&gate));
        let (bob, server) = (user(&scene.hawser, "bob"), id.to_string());
        let called =
            tokio::spawn(async move { send(&bob, &server, &[MODERN], tool_call("look")).await });
        gate.reached().await;
        match end {
            "delete" => assert_eq!(scene.owner.delete(&at(id)).await.status, 200),
            "tools" => {
                scene
                    .put(id, json!({"disabled_tools": [id_of("look")]}))
                    .await
            }
            _ => scene.put(id, json!({"agent_enabled": false})).await,
        }
        gate.open();
        let answer = called.await.unwrap();
        assert_eq!(answer.status, 503, "{end}: {answer:?}");
        let seen = scene.upstream.seen();
        let calls = seen
            .iter()
            .filter(|seen| seen.message()["method"] == "tools/call");
        assert_eq!(calls.count(), 0, "{end}");
    }
}
