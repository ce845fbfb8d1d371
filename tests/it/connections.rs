//! What a Kambrium connection offers: the list of its tools, what may be called and listed through it, and whether its api key
//! serves. The judge is the server's own log.

use crate::harness::{Answer, Browser, Caller, Cut, Hawser, ample};
use crate::issuer::{Gate, Issuer};
use crate::upstream::{
    MODERN, Reply, SESSION, Upstream, initialize, is_refused, message, send, soon, user,
};
use data_encoding::BASE64;
use hawser_core::domain::tool::id_of;
use hawser_core::operations::scheduler::process_due;
use serde_json::{Value, json};

const BASE: &str = "/api/v1/mcp-servers";

struct Scene {
    hawser: Hawser,
    upstream: Upstream,
    owner: Caller,
}

impl Scene {
    async fn new() -> Self {
        let upstream = Upstream::start().await;
        let hawser = Hawser::with_integrations(&integrations(&upstream)).await;
        Self::on(hawser, upstream)
    }

    /// With a clock that stands still until it is moved.
    async fn by_hand() -> Self {
        let upstream = Upstream::start().await;
        let hawser = Hawser::by_hand_with_integrations(&integrations(&upstream)).await;
        Self::on(hawser, upstream)
    }

    fn on(hawser: Hawser, upstream: Upstream) -> Self {
        upstream.has_tools(some_tools());
        let owner = scoped(&hawser, "ada", "mgmt.read mgmt.write");
        Self {
            hawser,
            upstream,
            owner,
        }
    }

    /// A new connection of ada's; its id.
    async fn connect(&self, fields: Value) -> u64 {
        let mut body =
            json!({"mcp_server": "pipedrive", "access_type": "write", "api_key": "k-4711"});
        let fields = fields.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(fields);
        let made = self.owner.post(BASE, body).await;
        assert_eq!(made.status, 201, "{made:?}");
        made.json()["data"]["id"].as_u64().unwrap()
    }

    async fn put(&self, id: u64, body: Value) {
        let put = self.owner.put(&at(id), body).await;
        assert_eq!(put.status, 200, "{put:?}");
    }

    async fn names(&self, id: u64) -> Vec<String> {
        let answer = self.owner.get(&tools(id, "")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        named(&answer.json()["data"]["tools"])
    }

    async fn verified(&self, id: u64) -> String {
        let shown = self.owner.get(&at(id)).await.json();
        let status = shown["data"]["api_key_verification_status"].as_str();
        status.unwrap().to_owned()
    }

    async fn work(&self) {
        while process_due(&self.hawser.app, ample()).await.unwrap() {}
    }
}

fn integrations(upstream: &Upstream) -> Value {
    json!({"pipedrive": {"display_name": "P", "mcp_url": upstream.url, "api_key": {"header": "X-Key", "template": "Key {api_key}"}}})
}

fn scoped(hawser: &Hawser, subject: &str, scope: &str) -> Caller {
    hawser.caller("acme", subject, json!({"scope": scope}))
}

fn at(id: impl std::fmt::Display) -> String {
    format!("{BASE}/{id}")
}

fn tools(id: impl std::fmt::Display, query: &str) -> String {
    format!("{BASE}/{id}/tools{query}")
}

fn some_tools() -> Value {
    json!([
        {"name": "search", "title": "S", "description": "Searches.", "inputSchema": {"type": "object", "a": 1},
         "annotations": {"readOnlyHint": true, "audience": ["x"]}},
        {"name": "get_deals", "annotations": {"readOnlyHint": false}},
        {"name": "Zap"},
        {"name": "look", "annotations": {"readOnlyHint": true}},
    ])
}

fn named(tools: &Value) -> Vec<String> {
    let name = |tool: &Value| tool["name"].as_str().unwrap().to_owned();
    tools.as_array().unwrap().iter().map(name).collect()
}

#[track_caller]
fn says(answer: &Answer, status: u16, detail: &str) {
    let body = json!({"detail": detail}).to_string();
    assert_eq!((answer.status, answer.text.as_str()), (status, &*body));
}

fn tool_call(name: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": name, "arguments": {}}})
}

// The list (Kambrium 8)

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

// Calls (Kambrium 8, 11 and 15)

#[track_caller]
fn is_not_offered(answer: &Answer, status: u16, name: &str, offered: &[&str]) {
    let suggestion = "Use one of available_tools, or ask the owner of the connection to enable it.";
    let data = json!({"tool_name": name, "available_tools": offered, "suggestion": suggestion});
    is_refused(answer, status, -32002, "Tool not available", data);
}

#[tokio::test]
async fn a_read_connection_calls_tools_that_only_read() {
    let scene = Scene::new().await;
    let id = scene
        .connect(json!({"access_type": "read"}))
        .await
        .to_string();
    let hawser = &scene.hawser;
    // Whoever it is, whatever else they may do.
    for (caller, status) in [
        (user(hawser, "bob"), 200),
        (hawser.admin("acme"), 200),
        // Kambrium's own credentials get its statuses.
        (scoped(hawser, "ada", "mcp.read"), 403),
    ] {
        let reached = async |name: &str| {
            let before = scene.upstream.count();
            let answer = send(&caller, &id, &[MODERN], tool_call(name)).await;
            let seen = scene.upstream.seen().split_off(before);
            (
                answer,
                seen.iter()
                    .any(|seen| seen.message()["method"] == "tools/call"),
            )
        };
        for name in ["look", "search"] {
            let (answer, reached) = reached(name).await;
            assert_eq!((answer.status, reached), (200, true), "{answer:?}");
        }
        for name in [
            "get_deals",
            "Zap",
            "nowhere",
            "LOOK",
            " look",
            "look\u{0}",
            "",
        ] {
            let (answer, reached) = reached(name).await;
            is_not_offered(&answer, status, name, &["search", "look"]);
            assert!(!reached);
        }
    }
    // What a server has just added is known when it is called.
    let mut more = some_tools();
    more.as_array_mut()
        .unwrap()
        .push(json!({"name": "new", "annotations": {"readOnlyHint": true}}));
    scene.upstream.has_tools(more);
    let bob = user(hawser, "bob");
    assert_eq!(
        send(&bob, &id, &[MODERN], tool_call("new")).await.status,
        200
    );
    // Of two tools of one name both must be offered.
    let mut twice = some_tools();
    twice
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "again", "annotations": {"readOnlyHint": true}}));
    twice.as_array_mut().unwrap().push(json!({"name": "again"}));
    scene.upstream.has_tools(twice);
    let answer = send(&bob, &id, &[MODERN], tool_call("again")).await;
    assert_eq!(answer.json()["error"]["code"], -32002, "{answer:?}");
}

#[tokio::test]
async fn a_scope_for_reading_calls_tools_that_only_read() {
    let scene = Scene::new().await;
    let id = scene.connect(json!({})).await.to_string();
    let reader = scoped(&scene.hawser, "ada", "mcp.read");
    let lacking = json!({"required_scope": "mcp.write"});
    for (name, allowed) in [
        ("look", true),
        ("get_deals", false),
        ("Zap", false),
        ("nowhere", false),
    ] {
        let answer = send(&reader, &id, &[MODERN], tool_call(name)).await;
        if allowed {
            assert_eq!(answer.status, 200, "{answer:?}");
        } else {
            is_refused(&answer, 403, -32000, "Permission denied", lacking.clone());
        }
    }
    // Its lists are whole: the connection offers all of them.
    let listed = send(&reader, &id, &[MODERN], message("tools/list")).await;
    assert_eq!(listed.json()["result"]["tools"], some_tools());
    for scope in ["mcp.write", "mcp.tools.execute"] {
        let caller = scoped(&scene.hawser, "ada", scope);
        for name in ["get_deals", "nowhere"] {
            let answer = send(&caller, &id, &[MODERN], tool_call(name)).await;
            assert_eq!(answer.status, 200, "the server itself says no: {answer:?}");
        }
    }
    // Where there is no list, nothing is known to read.
    scene.upstream.has_tools(json!("none"));
    let fresh = scene.connect(json!({})).await.to_string();
    let answer = send(&reader, &fresh, &[MODERN], tool_call("look")).await;
    let unreadable = "The MCP server does not list its tools as it should";
    is_refused(&answer, 502, -32603, unreadable, Value::Null);
}

#[tokio::test]
async fn no_spelling_of_a_call_gets_around_a_switch() {
    let scene = Scene::new().await;
    let off = json!({"access_type": "individual", "disabled_tools": [id_of("search")]});
    let id = scene.connect(off).await.to_string();
    let bob = user(&scene.hawser, "bob");
    let path = format!("/mcp/{id}");
    let call = |name: &str| tool_call(name).to_string();
    assert_eq!(
        send(&bob, &id, &[MODERN], tool_call("look")).await.status,
        200
    );
    let offered = ["get_deals", "Zap", "look"];
    let answer = send(&bob, &id, &[MODERN], tool_call("search")).await;
    is_not_offered(&answer, 200, "search", &offered);
    let before = scene.upstream.count();
    let in_params = |params: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{params}}}"#)
    };
    for body in [
        format!("[{}]", call("search")),
        format!("[{},{}]", call("look"), call("search")),
        format!("[{}]", call("look")),
        format!("[{}]", message("tools/list")),
        format!("{}{}", call("look"), call("search")),
        format!("{}\n{}", call("look"), call("search")),
        in_params(r#"{"name":"se\u0061rch"}"#),
        in_params(r#"{"name":"look","name":"search"}"#),
        in_params(r#"{"name":"search","name":"look"}"#),
        in_params(r#"{"name":"look","n\u0061me":"search"}"#),
        in_params(r#"{"name":"look","Name":"search"}"#),
        in_params(r#"{"Name":"search"}"#),
        in_params(r#"["search"]"#),
        in_params(r#"{"name":["search"]}"#),
        in_params(r#"{"name":"look"},"params":{"name":"search"}"#),
        in_params(r#"{"name":"look"},"Params":{"name":"search"}"#),
        in_params(r#"{"name":"look"},"paramſ":{"name":"search"}"#),
        r#"{"id":7,"method":"ping","method":"tools/call","params":{"name":"search"}}"#.to_owned(),
        r#"{"id":7,"method":"ping","METHOD":"tools/call","params":{"name":"search"}}"#.to_owned(),
        r#"{"id":7,"method":"Tools/Call","params":{"name":"search"}}"#.to_owned(),
        r#"{"id":7,"method":"tools/call\u0000","params":{"name":"search"}}"#.to_owned(),
        r#"{"id":7,"method":"tasks/result","params":{"taskId":"x"}}"#.to_owned(),
        format!("\u{feff}{}", call("look")),
        call("look").replace("look", "Search"),
        call("look").replace("look", "search "),
        "x".to_owned(),
        String::new(),
    ] {
        for headers in [&[MODERN][..], &[]] {
            let answer = bob.send("POST", &path, headers, body.clone().into()).await;
            let status = if answer.json()["id"].is_null() {
                403
            } else {
                200
            };
            assert_eq!(answer.status, status, "{body} {answer:?}");
            assert_eq!(answer.json()["error"]["code"], -32002, "{body}");
        }
    }
    // UTF-16, which some servers take too.
    let wide: Vec<u8> = call("search")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    assert_eq!(bob.send("POST", &path, &[MODERN], wide).await.status, 403);
    // A name that is not known made it look once more each time, and nothing else went out.
    let seen = scene.upstream.seen().split_off(before);
    assert!(
        seen.iter()
            .all(|seen| seen.message()["method"] == "tools/list")
    );
    // What is no call passes, byte for byte.
    for body in [
        r#"{ "jsonrpc" : "2.0", "id":7 , "method":"resources/read", "params":{"name":"search","name":"x"} }"#,
        r#"{"jsonrpc":"2.0","id":"s-1","result":{"content":{"name":"search"}}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#,
    ] {
        assert_eq!(
            bob.send("POST", &path, &[MODERN], body.into()).await.status,
            200
        );
        assert_eq!(scene.upstream.last().body, body.as_bytes());
    }
    // Without a list, what is switched off is known all the same; of the rest nothing is.
    let off = json!({"access_type": "individual", "disabled_tools": [id_of("search")], "api_key": "other"});
    let fresh = scene.connect(off).await.to_string();
    scene.upstream.answers(|_| Reply::new(401, vec![], ""));
    let answer = send(&bob, &fresh, &[MODERN], tool_call("search")).await;
    is_not_offered(&answer, 200, "search", &[]);
    let answer = send(&bob, &fresh, &[MODERN], tool_call("look")).await;
    assert_eq!(crate::upstream::told(&answer), None);
}

#[tokio::test]
async fn lists_leave_out_what_a_connection_does_not_offer() {
    let scene = Scene::new().await;
    let open = scene.connect(json!({})).await.to_string();
    let closed = scene
        .connect(json!({"access_type": "read"}))
        .await
        .to_string();
    let bob = user(&scene.hawser, "bob");
    let list = r#"{"jsonrpc" : "2.0","id":7,"result":{"_meta":{"x" : 1e400},"tools":[{"name":"Zap"},
        { "name" : "look","annotations":{"readOnlyHint":true} ,"x":[1,  2]},{"name":"broken","annotations":7},["look"],"look",
        {"name":"look","name":"Zap","annotations":{"readOnlyHint":true}},
        {"name":"both","annotations":{"readOnlyHint":true,"readOnlyHint":false}}],"nextCursor":"n","ttlMs":5}}"#;
    let reply = |kind: &'static str, body: &str| {
        Reply::new(
            200,
            vec![("content-type", kind.to_owned())],
            body.to_owned(),
        )
    };
    let asked = async |id: &str, reply: Reply| {
        scene.upstream.reply(reply);
        send(&bob, id, &[MODERN], message("tools/list")).await
    };
    let only = r#"{ "name" : "look","annotations":{"readOnlyHint":true} ,"x":[1,  2]}"#;
    let rest =
        format!(r#"{{"_meta":{{"x" : 1e400}},"tools":[{only}],"nextCursor":"n","ttlMs":5}}"#);
    let filtered = format!(r#"{{"jsonrpc":"2.0","id":7,"result":{rest}}}"#);
    let answer = asked(&closed, reply("application/json", list)).await;
    assert_eq!((answer.status, &answer.text), (200, &filtered));
    assert_eq!(
        asked(&open, reply("application/json", list)).await.text,
        list,
        "untouched"
    );
    // Under any type that is none of events, in a batch, and more than once.
    for kind in [
        "application/json; charset=utf-8",
        "text/plain",
        "application/octet-stream",
    ] {
        assert_eq!(asked(&closed, reply(kind, list)).await.text, filtered);
    }
    let batch = format!("[{list},{{\"method\":\"x\"}}]");
    let expected = format!("[{filtered},{{\"method\":\"x\"}}]");
    assert_eq!(
        asked(&closed, reply("application/json", &batch)).await.text,
        expected
    );
    let zap = r#"{"tools":[{"name":"Zap"}]}"#;
    let twice = format!(
        r#"{{"id":7,"result":{zap},"Result":{{"TOOLS":[{{"name":"Zap"}}],"tools":[{{"name":"Zap"}}]}}}}"#
    );
    let answer = asked(&closed, reply("application/json", &twice)).await;
    assert_eq!(
        answer.text,
        r#"{"id":7,"result":{"tools":[]},"Result":{"TOOLS":[],"tools":[]}}"#
    );
    // What cannot be read is not passed on; what is no list is.
    for body in [
        "<html>Zap</html>".to_owned(),
        format!("\u{feff}{list}"),
        format!("{list}{list}"),
        format!("data: {list}\n\n"),
        list.replace("\"nextCursor\"", "\"\\ud800\""),
        format!("{{\"result\":{{\"tools\":[{}]}}}}", "[".repeat(200)),
        " ".repeat((4 << 20) + 1),
    ] {
        let answer = asked(&closed, reply("application/json", &body)).await;
        assert_eq!(answer.status, 502, "{body:.50} {answer:?}");
        assert!(!answer.text.contains("Zap"));
    }
    for (status, body) in [
        (200, "null"),
        (200, r#"{"id":7,"error":{"code":1,"message":"Zap"}}"#),
        (202, ""),
        (400, "<p>"),
        (500, ""),
    ] {
        let headers = vec![("content-type", "application/json".to_owned())];
        let answer = asked(&closed, Reply::new(status, headers, body)).await;
        assert_eq!((answer.status, answer.text.as_str()), (status, body));
    }
    let headers = vec![("content-type", "application/json".to_owned())];
    let answer = asked(&closed, Reply::new(404, headers, list)).await;
    assert_eq!((answer.status, &answer.text), (404, &filtered));
    // Tools that are switched off one by one.
    let off = json!({"access_type": "individual", "disabled_tools": [id_of("look")]});
    let some = scene.connect(off).await.to_string();
    let answer = asked(&some, reply("application/json", list)).await;
    let both = r#"{"name":"Zap"},{"name":"both","annotations":{"readOnlyHint":true,"readOnlyHint":false}}"#;
    assert_eq!(answer.text, filtered.replace(only, both));
}

#[tokio::test]
async fn lists_in_event_streams_leave_it_out_too_wherever_they_come() {
    let scene = Scene::new().await;
    let open = scene.connect(json!({})).await.to_string();
    let closed = scene
        .connect(json!({"access_type": "read"}))
        .await
        .to_string();
    let bob = user(&scene.hawser, "bob");
    let list = json!({"jsonrpc": "2.0", "id": 7, "result": {"tools": some_tools()}}).to_string();
    let mut offered = some_tools();
    offered
        .as_array_mut()
        .unwrap()
        .retain(|tool| tool["annotations"]["readOnlyHint"] == true);
    let shown = json!({"jsonrpc": "2.0", "id": 7, "result": {"tools": offered}}).to_string();
    let split = list.replacen(",\"result\"", ",\r\ndata: \"result\"", 1);
    let note = r#"data: { "jsonrpc":"2.0", "method":"notifications/message" }"#;
    let body = format!(
        ": hello\n\nid: 1\ndata:\n\n{note}\r\n\r\nid: 2\r\nevent: message\r\ndata: {split}\r\n\r\nretry: 5\ndata: [{list}]\n\n\
         data: \u{1}{list}\n\ndata: {list}"
    );
    let expected = format!(
        ": hello\n\nid: 1\ndata:\n\n{note}\r\n\r\nid: 2\nevent: message\ndata: {shown}\n\nretry: 5\ndata: [{shown}]\n\n\
         data: {shown}\n\n"
    );
    let events = |body: &str| {
        Reply::new(
            200,
            vec![("content-type", "Text/Event-Stream; x=y".to_owned())],
            body.to_owned(),
        )
    };
    // So that its tools are known.
    let known = send(&bob, &closed, &[MODERN], tool_call("look")).await;
    assert_eq!(known.status, 200);
    let session = initialize(&bob, &closed).await;
    let unfiltered = initialize(&bob, &open).await;
    // As an answer to anything, and on the stream that repeats what was missed.
    for (method, sent) in [
        ("POST", message("tools/list")),
        ("POST", tool_call("look")),
        ("POST", message("ping")),
        ("GET", Value::Null),
    ] {
        for (id, session, expected) in [(&closed, &session, &expected), (&open, &unfiltered, &body)]
        {
            scene.upstream.reply(events(&body));
            let headers = [(SESSION, session.as_str()), ("last-event-id", "1")];
            let answer = bob
                .send(
                    method,
                    &format!("/mcp/{id}"),
                    &headers,
                    sent.to_string().into(),
                )
                .await;
            assert_eq!(
                (answer.status, &answer.text),
                (200, expected),
                "{method} {sent}"
            );
        }
    }
    // An event goes on as soon as it is there.
    let (reply, pieces) = Reply::stream();
    scene.upstream.reply(reply);
    let asking = async || {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut request = http.post(format!("{}/mcp/{closed}", scene.hawser.url));
        for (name, value) in &bob.headers {
            request = request.header(*name, value);
        }
        let request = request.body(message("tools/list").to_string());
        soon(request.send()).await.unwrap()
    };
    let mut answer = asking().await;
    pieces.send("data: {\"method\":");
    pieces.send("\"x\"}\n\ndata: {\"res");
    let piece = soon(answer.chunk()).await.unwrap().unwrap();
    assert_eq!(piece, "data: {\"method\":\"x\"}\n\n");
    pieces.send("ult\":{\"tools\":[{\"name\":\"Zap\"}]}}\r\n\r\n");
    let piece = soon(answer.chunk()).await.unwrap().unwrap();
    assert_eq!(piece, "data: {\"result\":{\"tools\":[]}}\n\n");
    drop(pieces);
    assert_eq!(soon(answer.chunk()).await.unwrap(), None);
    // One that is too long to be looked into ends the stream.
    let long = format!("data: {{}}\n\ndata: {}", "x".repeat(4 << 20));
    scene.upstream.reply(events(&long));
    assert!(soon(asking().await.text()).await.is_err());
}

// The api key (Kambrium 3)

#[tokio::test]
async fn an_api_key_is_tried_after_the_answer() {
    let scene = Scene::by_hand().await;
    for (reply, status) in [
        (None, "verified"),
        (Some(401), "failed"),
        (Some(403), "failed"),
    ] {
        let before = scene.upstream.count();
        let id = scene.connect(json!({})).await;
        assert_eq!(
            (scene.verified(id).await.as_str(), scene.upstream.count()),
            ("pending", before)
        );
        if let Some(reply) = reply {
            scene
                .upstream
                .reply(Reply::new(reply, vec![], "the server explains"));
        }
        scene.work().await;
        assert_eq!(scene.verified(id).await, status);
        assert_eq!(scene.upstream.count(), before + 1);
        assert_eq!(scene.upstream.last().header("x-key"), Some("Key k-4711"));
        // Nothing rests on it.
        let bob = user(&scene.hawser, "bob");
        let answer = send(&bob, &id.to_string(), &[MODERN], message("ping")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        scene.hawser.pass(3600);
        let before = scene.upstream.count();
        scene.hawser.run_workers().await;
        assert_eq!(
            (scene.verified(id).await.as_str(), scene.upstream.count()),
            (status, before)
        );
    }
    // A new key, and the same one once more.
    let id = scene.connect(json!({})).await;
    scene.work().await;
    for key in ["new", "new"] {
        scene.put(id, json!({"api_key": key})).await;
        assert_eq!(scene.verified(id).await, "pending");
        scene.upstream.reply(Reply::new(403, vec![], ""));
        scene.work().await;
        assert_eq!(scene.verified(id).await, "failed");
        assert_eq!(scene.upstream.last().header("x-key"), Some("Key new"));
    }
    // What is no change of the key changes nothing.
    let before = scene.upstream.count();
    scene
        .put(id, json!({"access_type": "read", "agent_enabled": false}))
        .await;
    scene.work().await;
    assert_eq!(
        (scene.verified(id).await.as_str(), scene.upstream.count()),
        ("failed", before)
    );
}

#[tokio::test]
async fn a_server_that_does_not_say_is_asked_five_times_more_within_ten_minutes() {
    let scene = Scene::by_hand().await;
    let id = scene.connect(json!({})).await;
    scene.upstream.answers(|_| Reply::new(503, vec![], ""));
    let mut tries = Vec::new();
    for second in 0..700 {
        let before = scene.upstream.count();
        scene.work().await;
        match scene.upstream.count() - before {
            0 => {}
            1 => tries.push(second),
            more => panic!("{more} at once"),
        }
        let status = if tries.len() < 6 { "pending" } else { "failed" };
        assert_eq!(scene.verified(id).await, status, "{second}");
        scene.hawser.pass(1);
    }
    assert_eq!(tries, [0, 5, 25, 85, 205, 445]);
    // Late workers give up in time, too.
    let id = scene.connect(json!({})).await;
    scene.work().await;
    scene.hawser.pass(600);
    scene.work().await;
    assert_eq!(scene.verified(id).await, "failed");
    // It may turn out well in between.
    let id = scene.connect(json!({})).await;
    scene.work().await;
    scene.hawser.pass(5);
    scene.upstream.reply(Reply::new(200, vec![], "<html>"));
    scene.work().await;
    scene.hawser.pass(20);
    let good = json!({"jsonrpc": "2.0", "id": 1, "result": {"tools": []}}).to_string();
    scene.upstream.reply(Reply::new(
        200,
        vec![("content-type", "application/json".to_owned())],
        good,
    ));
    scene.work().await;
    assert_eq!(scene.verified(id).await, "verified");
    scene.hawser.run_workers().await;
}

#[tokio::test]
async fn what_is_found_of_a_former_key_is_not_stored() {
    let scene = Scene::by_hand().await;
    let id = scene.connect(json!({})).await;
    // While the first key is tried, it is replaced; then its connection is deleted.
    for change in ["replace", "delete"] {
        let (reply, events) = Reply::stream();
        let before = scene.upstream.count();
        scene.upstream.reply(reply);
        let app = scene.hawser.app.clone();
        let trying =
            tokio::spawn(async move { while process_due(&app, ample()).await.unwrap() {} });
        soon(async {
            while scene.upstream.count() == before {
                tokio::task::yield_now().await;
            }
        })
        .await;
        match change {
            "replace" => scene.put(id, json!({"api_key": "second"})).await,
            _ => assert_eq!(scene.owner.delete(&at(id)).await.status, 200),
        }
        let good = "data: {\"id\":1,\"result\":{\"tools\":[]}}\n\n";
        if change == "replace" {
            // So that the second key is found bad by the same worker.
            scene.upstream.reply(Reply::new(401, vec![], ""));
        }
        events.send(good);
        drop(events);
        trying.await.unwrap();
        if change == "replace" {
            assert_eq!(scene.verified(id).await, "failed");
            assert_eq!(scene.upstream.last().header("x-key"), Some("Key second"));
            scene.put(id, json!({"api_key": "third"})).await;
        }
    }
    scene.hawser.pass(3600);
    scene.hawser.run_workers().await;
    let items = scene.hawser.ground().items().await;
    let left = |what: &str| {
        items
            .iter()
            .any(|item| item["SK"].as_str().unwrap().starts_with(what))
    };
    assert!(!left("VERIFY#") && !left("TOOLS#") && !left("S#"));
}

#[tokio::test]
async fn the_key_itself_is_tried_and_siblings_that_replace_it_are_noticed() {
    let scene = Scene::by_hand().await;
    let admin = scene.hawser.admin("acme");
    let id = scene.connect(json!({})).await;
    let list = admin.get("/api/svc/v1/mcp").await.json();
    let mcp = list["data"][0]["id"].as_str().unwrap().to_owned();
    // An override of the owner's is not the key.
    let body = json!({"subjectId": "ada", "subjectType": "user", "authOverride": {"type": "header", "headerValue": "own"}});
    let installed = admin
        .put(&format!("/api/svc/v1/mcp/{mcp}/auth"), body)
        .await;
    assert_eq!(installed.status, 200, "{installed:?}");
    scene.work().await;
    assert_eq!(scene.upstream.last().header("x-key"), Some("Key k-4711"));
    assert_eq!(scene.verified(id).await, "verified");
    // A sibling contract puts another value in its place.
    let mut manifest = list["data"][0]["manifest"].clone();
    manifest["auth_data"]["headers"]["X-Key"] = json!("Key by a sibling");
    let put = admin
        .put("/api/svc/v1/mcp", json!({"manifest": manifest}))
        .await;
    assert_eq!(put.status, 200, "{put:?}");
    assert_eq!(scene.verified(id).await, "pending");
    scene.work().await;
    assert_eq!(
        scene.upstream.last().header("x-key"),
        Some("Key by a sibling")
    );
    assert_eq!(scene.verified(id).await, "verified");
    scene.hawser.run_workers().await;
}

#[tokio::test]
async fn a_try_that_is_cut_off_anywhere_is_made_again() {
    for at in 0.. {
        let scene = Scene::by_hand().await;
        let id = scene.connect(json!({})).await;
        let mut done = 0;
        for cut in [Cut::Before(at), Cut::After(at)] {
            scene.hawser.wire.arm(Some(cut));
            let _ = process_due(&scene.hawser.app, ample()).await;
            done = scene.hawser.wire.operations().len();
            scene.hawser.wire.arm(None);
            scene.hawser.pass(61);
        }
        scene.work().await;
        assert_eq!(scene.verified(id).await, "verified", "{at}");
        scene.hawser.run_workers().await;
        if done <= at {
            assert!(at > 4, "{at}");
            return;
        }
    }
}

#[tokio::test]
async fn a_body_is_passed_on_in_no_other_reading_than_ours() {
    let scene = Scene::new().await;
    let id = scene.connect(json!({"access_type": "read"})).await;
    let (id, bob) = (id.to_string(), user(&scene.hawser, "bob"));
    for kinds in [
        vec![],
        vec![("content-type", "application/json; charset=utf-7")],
        vec![
            ("content-type", "text/plain"),
            ("content-type", "application/json; charset=utf-16"),
        ],
    ] {
        let headers = [&[MODERN][..], &kinds].concat();
        let answer = send(&bob, &id, &headers, tool_call("look")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let kind = scene
            .upstream
            .last()
            .header("content-type")
            .map(str::to_owned);
        assert_eq!(kind.as_deref(), Some("application/json"));
    }
    let encoded = |name: &str| format!("=?base64?{}?=", BASE64.encode(name.as_bytes()));
    for (method, name, code) in [
        ("tools/call", "look".to_owned(), 0),
        ("tools/call", encoded("look"), 0),
        ("tools/call", "Zap".to_owned(), -32002),
        ("tools/call", encoded("Zap"), -32002),
        ("tools/list", "look".to_owned(), -32002),
    ] {
        let headers = [MODERN, ("mcp-method", method), ("mcp-name", &name)];
        let before = scene.upstream.count();
        let answer = send(&bob, &id, &headers, tool_call("look")).await;
        let refused = answer.json()["error"]["code"].as_i64().unwrap_or_default();
        assert_eq!(
            (answer.status, refused),
            (200, code),
            "{method} {name}: {answer:?}"
        );
        assert_eq!(scene.upstream.count() - before, usize::from(code == 0));
    }
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
