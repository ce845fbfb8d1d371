//! The Kambrium contract through HTTP: every row of its tables for the six endpoints of connections, who may do what,
//! the order of checks, and what the sibling contracts see of the same servers.

use crate::harness::{Answer, Caller, Cut, Hawser};
use aws_sdk_dynamodb::types::AttributeValue;
use hawser_core::domain::event::Action;
use hawser_core::domain::id::{ServerId, TenantId, hash};
use hawser_core::domain::server::{KeyCheck, Place, Server};
use hawser_core::domain::subject::Subject;
use hawser_core::operations::servers::{self, Voiding};
use hawser_core::table::servers::Companions;
use hawser_core::table::servers::Inserted;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const BASE: &str = "/api/v1/mcp-servers";
const AVAILABLE: &str = "/api/v1/mcp-servers/available";

fn at(id: impl std::fmt::Display) -> String {
    format!("{BASE}/{id}")
}

fn scoped(hawser: &Hawser, subject: &str, scope: &str) -> Caller {
    hawser.caller("acme", subject, json!({"scope": scope}))
}

fn user(hawser: &Hawser, subject: &str) -> Caller {
    scoped(hawser, subject, "mgmt.read mgmt.write")
}

fn pipedrive() -> Value {
    json!({"mcp_server": "pipedrive", "access_type": "write", "api_key": "k-4711"})
}

/// Makes a connection and returns its id.
async fn connect(caller: &Caller) -> u64 {
    connect_with(caller, json!({})).await
}

/// Makes a connection with further fields and returns its id.
async fn connect_with(caller: &Caller, fields: Value) -> u64 {
    let mut body = pipedrive();
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    let made = caller.post(BASE, body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.json()["data"]["id"].as_u64().unwrap()
}

async fn shown(caller: &Caller, id: u64) -> Value {
    let got = caller.get(&at(id)).await;
    assert_eq!(got.status, 200, "{}", got.text);
    got.json()["data"].clone()
}

#[track_caller]
fn assert_refused(answer: &Answer, status: u16, detail: &str) {
    let body = json!({"detail": detail}).to_string();
    assert_eq!(
        (answer.status, answer.text.as_str()),
        (status, body.as_str())
    );
}

#[track_caller]
fn assert_malformed(answer: &Answer, faults: Value) {
    assert_eq!(
        (answer.status, answer.json()),
        (422, json!({"detail": faults}))
    );
}

#[track_caller]
fn assert_nowhere(answer: &Answer, id: impl std::fmt::Display) {
    let detail = format!("MCP server {id} not found or not accessible");
    assert_refused(answer, 404, &detail);
}

/// Every call with its scope and the end of its 403 sentence, on the connection `id`.
fn calls(id: u64) -> Vec<(&'static str, String, Value, &'static str, &'static str)> {
    let (read, write) = ("mgmt.read", "mgmt.write");
    vec![
        (
            "GET",
            AVAILABLE.to_owned(),
            Value::Null,
            read,
            "view available integrations",
        ),
        (
            "POST",
            BASE.to_owned(),
            pipedrive(),
            write,
            "create connections",
        ),
        (
            "GET",
            BASE.to_owned(),
            Value::Null,
            read,
            "view connections",
        ),
        ("GET", at(id), Value::Null, read, "access this connection"),
        ("PUT", at(id), json!({}), write, "update this connection"),
        (
            "DELETE",
            at(id),
            Value::Null,
            write,
            "delete this connection",
        ),
    ]
}

async fn make(caller: &Caller, method: &str, path: &str, body: &Value) -> Answer {
    let bytes = if body.is_null() {
        Vec::new()
    } else {
        body.to_string().into_bytes()
    };
    caller.send(method, path, &[], bytes).await
}

// Integrations (Kambrium 2)

#[tokio::test]
async fn available_lists_the_active_integrations_by_name_to_everyone_alike() {
    let hawser = Hawser::with_built_in_integrations().await;
    let got = user(&hawser, "ada").get(AVAILABLE).await;
    assert_eq!(
        (got.status, got.json()),
        (
            200,
            json!({
                "success": true,
                "data": [
                    {"name": "pipedrive", "description": "Sales CRM", "number_of_tools": 277},
                    {"name": "search", "description": "Web search with a key in a header of its own", "number_of_tools": 3},
                ],
                "message": "Found 2 available MCP server integrations",
            })
        )
    );
    let elsewhere = hawser.caller("other", "eve", json!({"scope": "mgmt.admin"}));
    assert_eq!(elsewhere.get(AVAILABLE).await.text, got.text);
}

// Create (Kambrium 3)

#[tokio::test]
async fn create_answers_the_connection_with_its_client_secret_this_once() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let made = ada.post(BASE, pipedrive()).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let mut body = made.json();
    let credentials = body["data"]
        .as_object_mut()
        .unwrap()
        .shift_remove("oauth2_credentials")
        .unwrap();
    let client_id = body["data"]["oauth2_client_id"].clone();
    let created_at = body["data"]["created_at"].clone();
    let expected = json!({
        "id": 1,
        "mcp_server_name": "Pipedrive",
        "api_key_verification_status": "pending",
        "oauth2_client_id": client_id,
        "oauth2_scopes": ["mcp.read", "mcp.write"],
        "agent_enabled": true,
        "disabled_tools": [],
        "created_at": created_at,
        "access_type": "write",
        "auth_method": "api_key",
        "oauth_status": null,
    });
    assert_eq!(
        body,
        json!({"success": true, "data": expected, "message": "MCP server connection created successfully"})
    );
    assert!(client_id.as_str().is_some_and(|id| !id.is_empty()));
    let created_at = created_at.as_str().unwrap();
    assert_eq!(
        (created_at.len(), &created_at[10..11], &created_at[19..]),
        (20, "T", "Z")
    );
    assert_eq!(credentials.as_object().unwrap().len(), 2);
    assert_eq!(credentials["client_id"], client_id);
    let secret = credentials["client_secret"].as_str().unwrap();
    assert!(secret.len() >= 43, "256 bits take 43 characters: {secret}");

    assert_eq!(shown(&ada, 1).await, expected);
    let updated = ada.put(&at(1), json!({"api_key": "k-4712"})).await;
    let others = [ada.get(&at(1)).await, ada.get(BASE).await, updated];
    for answer in others {
        assert!(
            !answer.text.contains(secret) && !answer.text.contains("oauth2_credentials"),
            "{}",
            answer.text
        );
    }
    assert!(!made.text.contains("k-4711"), "{}", made.text);
}

#[tokio::test]
async fn every_connection_has_a_client_and_a_secret_of_its_own() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let mut seen = BTreeSet::new();
    for id in 1..=3 {
        let made = ada.post(BASE, pipedrive()).await.json();
        assert_eq!(made["data"]["id"], id, "a repeated POST makes another one");
        seen.insert(made["data"]["oauth2_credentials"]["client_id"].to_string());
        seen.insert(made["data"]["oauth2_credentials"]["client_secret"].to_string());
    }
    assert_eq!(seen.len(), 6);
}

#[tokio::test]
async fn create_takes_every_field_and_ignores_the_others() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let body = json!({
        "mcp_server": "search",
        "access_type": "individual",
        "auth_method": "api_key",
        "api_key": "!~",
        "agent_enabled": false,
        "disabled_tools": [9_007_199_254_740_991_u64, 7, 1, 7],
        "id": 99,
        "name": "mine",
        "api_kye": "misspelt",
    });
    let made = ada.post(BASE, body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let data = made.json()["data"].clone();
    assert_eq!(data["id"], 1);
    assert_eq!(data["mcp_server_name"], "Search");
    assert_eq!(data["access_type"], "individual");
    assert_eq!(data["oauth2_scopes"], json!(["mcp.read", "mcp.write"]));
    assert_eq!(data["agent_enabled"], false);
    assert_eq!(
        data["disabled_tools"],
        json!([1, 7, 9_007_199_254_740_991_u64])
    );
    assert!(!made.text.contains("misspelt"), "{}", made.text);
}

#[tokio::test]
async fn a_read_connection_has_the_read_scope_only() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let id = connect_with(&ada, json!({"access_type": "read"})).await;
    assert_eq!(shown(&ada, id).await["oauth2_scopes"], json!(["mcp.read"]));
}

#[tokio::test]
async fn null_counts_as_absent_and_the_last_of_a_repeated_key_counts() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let id = connect_with(
        &ada,
        json!({"auth_method": null, "agent_enabled": null, "disabled_tools": null}),
    )
    .await;
    let data = shown(&ada, id).await;
    assert_eq!(
        (&data["agent_enabled"], &data["disabled_tools"]),
        (&json!(true), &json!([]))
    );

    let twice = br#"{"mcp_server":5,"mcp_server":"search","access_type":"read","api_key":"","api_key":"k"}"#;
    let made = ada.send("POST", BASE, &[], twice.to_vec()).await;
    assert_eq!(
        (made.status, &made.json()["data"]["mcp_server_name"]),
        (201, &json!("Search"))
    );

    let gone = br#"{"mcp_server":"search","access_type":"read","api_key":"k","api_key":null}"#;
    let refused = ada.send("POST", BASE, &[], gone.to_vec()).await;
    assert_eq!(
        refused.json()["detail"][0]["msg"],
        "Field required when auth_method is api_key"
    );
}

#[tokio::test]
async fn create_refuses_in_the_order_of_the_table_and_leaves_nothing_behind() {
    const UNKNOWN: &str = "Invalid MCP server or access type specified";
    const METHOD: &str = "Authentication method not supported by this integration";
    const TOOLS: &str = "disabled_tools requires access type individual";
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let rows = [
        (json!({"mcp_server": "nowhere"}), UNKNOWN),
        (json!({"mcp_server": "archive"}), UNKNOWN),
        (json!({"mcp_server": "Pipedrive"}), UNKNOWN),
        (json!({"mcp_server": ""}), UNKNOWN),
        (json!({"access_type": "admin"}), UNKNOWN),
        (json!({"access_type": "Write"}), UNKNOWN),
        (
            json!({"access_type": "admin", "auth_method": "oauth", "api_key": null}),
            UNKNOWN,
        ),
        (
            json!({"mcp_server": "nowhere", "disabled_tools": [1]}),
            UNKNOWN,
        ),
        (json!({"auth_method": "oauth", "api_key": null}), METHOD),
        (
            json!({"auth_method": "oauth", "api_key": null, "disabled_tools": [1]}),
            METHOD,
        ),
        (json!({"disabled_tools": [1]}), TOOLS),
        (json!({"access_type": "read", "disabled_tools": [1]}), TOOLS),
    ];
    for (fields, detail) in rows {
        let mut body = pipedrive();
        for (name, value) in fields.as_object().unwrap() {
            body[name] = value.clone();
        }
        assert_refused(&ada.post(BASE, body).await, 400, detail);
    }
    assert_eq!(ada.get(BASE).await.json()["data"], json!([]));
}

// The 422 list (Kambrium 1.2)

const WHOLE: &str = "Input should be a valid dictionary or object to extract fields from";

/// One item of the list about a body field.
fn fault(kind: &str, loc: Value, msg: &str, input: Value) -> Value {
    json!([{"type": kind, "loc": loc, "msg": msg, "input": input}])
}

#[tokio::test]
async fn a_body_that_is_no_object_is_malformed_in_create_and_update_alike() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let id = connect(&ada).await;
    let object = |input| fault("model_attributes_type", json!(["body"]), WHOLE, input);
    let unreadable = || {
        fault(
            "json_invalid",
            json!(["body"]),
            "JSON decode error",
            json!({}),
        )
    };
    let empty = fault("missing", json!(["body"]), "Field required", Value::Null);
    let rows: Vec<(&[u8], Value)> = vec![
        (b"", empty),
        (b" ", unreadable()),
        (b"{", unreadable()),
        (b"{\"a\":1}}", unreadable()),
        (b"\xff\xfe", unreadable()),
        (b"[1]", object(json!("[redacted]"))),
        (b"5", object(json!(5))),
        (b"null", object(Value::Null)),
        (b"\"short\"", object(json!("short"))),
        (b"\"seventeen letters\"", object(json!("[redacted]"))),
    ];
    for (body, faults) in rows {
        for (method, path) in [("POST", BASE.to_owned()), ("PUT", at(id))] {
            let answer = ada.send(method, &path, &[], body.to_vec()).await;
            assert_malformed(&answer, faults.clone());
        }
    }
}

#[tokio::test]
async fn create_names_each_malformed_field() {
    const TEXT: &str = "Input should be a valid string";
    const VISIBLE: &str = "String should contain visible ASCII characters only";
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let text = |name: &str, input| fault("string_type", json!(["body", name]), TEXT, input);
    let hidden = || json!("[redacted]");
    let key = |kind: &str, msg: &str| fault(kind, json!(["body", "api_key"]), msg, hidden());
    let tools =
        |kind: &str, msg: &str, input| fault(kind, json!(["body", "disabled_tools"]), msg, input);
    let tool = |kind: &str, msg: &str, input| {
        fault(kind, json!(["body", "disabled_tools", 1]), msg, input)
    };
    const INTEGER: &str = "Input should be a valid integer";
    const MOST: &str = "Input should be less than or equal to 9007199254740991";
    const LEAST: &str = "Input should be greater than or equal to 1";
    let boolean = |input| {
        let loc = json!(["body", "agent_enabled"]);
        fault("bool_type", loc, "Input should be a valid boolean", input)
    };
    let method = |input| {
        let loc = json!(["body", "auth_method"]);
        fault(
            "literal_error",
            loc,
            "Input should be 'api_key' or 'oauth'",
            input,
        )
    };
    let rows = [
        (json!({"mcp_server": 5}), text("mcp_server", json!(5))),
        (
            json!({"access_type": ["read"]}),
            text("access_type", hidden()),
        ),
        (
            json!({"auth_method": true}),
            text("auth_method", json!(true)),
        ),
        (json!({"auth_method": "basic"}), method(json!("basic"))),
        (json!({"auth_method": "API_KEY"}), method(json!("API_KEY"))),
        (
            json!({"auth_method": "sixteen_letters_"}),
            method(json!("sixteen_letters_")),
        ),
        (
            json!({"auth_method": "seventeen_letters"}),
            method(hidden()),
        ),
        (json!({"api_key": 5}), text("api_key", hidden())),
        (
            json!({"api_key": ""}),
            key(
                "string_too_short",
                "String should have at least 1 character",
            ),
        ),
        (
            json!({"api_key": "k".repeat(4097)}),
            key(
                "string_too_long",
                "String should have at most 4096 characters",
            ),
        ),
        (
            json!({"api_key": "a b"}),
            key("string_pattern_mismatch", VISIBLE),
        ),
        (
            json!({"api_key": "ä"}),
            key("string_pattern_mismatch", VISIBLE),
        ),
        (
            json!({"api_key": "a\r\nX: y"}),
            key("string_pattern_mismatch", VISIBLE),
        ),
        (
            json!({"api_key": "\u{7f}"}),
            key("string_pattern_mismatch", VISIBLE),
        ),
        (json!({"agent_enabled": "true"}), boolean(json!("true"))),
        (json!({"agent_enabled": 1}), boolean(json!(1))),
        (
            json!({"disabled_tools": "1"}),
            tools("list_type", "Input should be a valid list", json!("1")),
        ),
        (
            json!({"disabled_tools": {}}),
            tools("list_type", "Input should be a valid list", hidden()),
        ),
        (
            json!({"disabled_tools": vec![1; 2001]}),
            tools("too_long", "List should have at most 2000 items", hidden()),
        ),
        (
            json!({"disabled_tools": [1, "5"]}),
            tool("int_type", INTEGER, json!("5")),
        ),
        (
            json!({"disabled_tools": [1, 1.0]}),
            tool("int_type", INTEGER, json!(1.0)),
        ),
        (
            json!({"disabled_tools": [1, true]}),
            tool("int_type", INTEGER, json!(true)),
        ),
        (
            json!({"disabled_tools": [1, null]}),
            tool("int_type", INTEGER, Value::Null),
        ),
        (
            json!({"disabled_tools": [1, [2]]}),
            tool("int_type", INTEGER, hidden()),
        ),
        (
            json!({"disabled_tools": [1, 0]}),
            tool("greater_than_equal", LEAST, json!(0)),
        ),
        (
            json!({"disabled_tools": [1, -5]}),
            tool("greater_than_equal", LEAST, json!(-5)),
        ),
        (
            json!({"disabled_tools": [1, 9_007_199_254_740_992_u64]}),
            tool("less_than_equal", MOST, json!(9_007_199_254_740_992_u64)),
        ),
        (
            json!({"disabled_tools": [1, u64::MAX]}),
            tool("less_than_equal", MOST, json!(u64::MAX)),
        ),
    ];
    for (fields, faults) in rows {
        let mut body = pipedrive();
        body["access_type"] = "individual".into();
        for (name, value) in fields.as_object().unwrap() {
            body[name] = value.clone();
        }
        assert_malformed(&ada.post(BASE, body).await, faults);
    }
    let beyond = br#"{"mcp_server":"search","access_type":"individual","api_key":"k","disabled_tools":[18446744073709551616]}"#;
    let refused = ada.send("POST", BASE, &[], beyond.to_vec()).await;
    assert_eq!(
        (refused.status, &refused.json()["detail"][0]["type"]),
        (422, &json!("less_than_equal"))
    );
}

#[tokio::test]
async fn the_bounds_themselves_are_well_formed() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let id = connect_with(
        &ada,
        json!({
            "access_type": "individual",
            "api_key": "k".repeat(4096),
            "disabled_tools": vec![3; 2000],
        }),
    )
    .await;
    assert_eq!(shown(&ada, id).await["disabled_tools"], json!([3]));
    let most: Vec<u64> = (1..=2000).collect();
    let put = ada.put(&at(id), json!({"disabled_tools": most})).await;
    assert_eq!(put.json()["data"]["disabled_tools"], json!(most));
}

#[tokio::test]
async fn a_missing_field_shows_the_known_fields_of_the_body_and_no_secret() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let missing = |name: &str, msg: &str, input: Value| json!({"type": "missing", "loc": ["body", name], "msg": msg, "input": input});

    assert_malformed(
        &ada.post(BASE, json!({})).await,
        json!([
            missing("mcp_server", "Field required", json!({})),
            missing("access_type", "Field required", json!({})),
        ]),
    );
    let body = json!({
        "access_type": "read",
        "api_key": "k",
        "agent_enabled": true,
        "disabled_tools": [],
        "api_kye": "s3cret",
        "auth_method": "a_method_of_more_letters",
    });
    let input = json!({
        "access_type": "read",
        "api_key": "[redacted]",
        "agent_enabled": true,
        "disabled_tools": "[redacted]",
        "auth_method": "[redacted]",
    });
    let answer = ada.post(BASE, body).await;
    assert_eq!(
        answer.json()["detail"][0],
        missing("mcp_server", "Field required", input)
    );
    assert!(!answer.text.contains("s3cret"), "{}", answer.text);

    let keyless = json!({"mcp_server": "pipedrive", "access_type": "read"});
    assert_malformed(
        &ada.post(BASE, keyless.clone()).await,
        json!([missing(
            "api_key",
            "Field required when auth_method is api_key",
            keyless
        )]),
    );
}

#[tokio::test]
async fn an_api_key_does_not_go_with_oauth() {
    let hawser = Hawser::with_built_in_integrations().await;
    let mut body = pipedrive();
    body["auth_method"] = "oauth".into();
    body["access_type"] = "no such type".into();
    assert_malformed(
        &user(&hawser, "ada").post(BASE, body).await,
        fault(
            "value_error",
            json!(["body", "api_key"]),
            "api_key not allowed when auth_method is oauth",
            json!("[redacted]"),
        ),
    );
}

#[tokio::test]
async fn all_faults_are_listed_in_table_order_and_rules_between_fields_wait() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let body = json!({"disabled_tools": [0, "x"], "agent_enabled": 0, "auth_method": "x", "access_type": 1});
    let faults = ada.post(BASE, body).await.json();
    let locations: Vec<_> = faults["detail"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| fault["loc"].clone())
        .collect();
    assert_eq!(
        json!(locations),
        json!([
            ["body", "mcp_server"],
            ["body", "access_type"],
            ["body", "auth_method"],
            ["body", "agent_enabled"],
            ["body", "disabled_tools", 0],
            ["body", "disabled_tools", 1],
        ])
    );
    // With a fault elsewhere, nobody misses the key.
    let body = json!({"mcp_server": "pipedrive", "access_type": 1});
    let faults = ada.post(BASE, body).await.json();
    assert_eq!(faults["detail"].as_array().unwrap().len(), 1, "{faults}");
}

#[tokio::test]
async fn update_names_each_malformed_field_in_its_own_table_order() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let body =
        json!({"disabled_tools": 1, "api_key": "", "access_type": 2, "agent_enabled": "yes"});
    let faults = json!([
        {"type": "bool_type", "loc": ["body", "agent_enabled"], "msg": "Input should be a valid boolean", "input": "yes"},
        {"type": "string_type", "loc": ["body", "access_type"], "msg": "Input should be a valid string", "input": 2},
        {"type": "string_too_short", "loc": ["body", "api_key"], "msg": "String should have at least 1 character", "input": "[redacted]"},
        {"type": "list_type", "loc": ["body", "disabled_tools"], "msg": "Input should be a valid list", "input": 1},
    ]);
    // No such connection either: 422 comes first.
    assert_malformed(&ada.put(&at(77), body).await, faults);
}

#[tokio::test]
async fn an_id_is_an_integer_in_its_plain_spelling() {
    const MSG: &str = "Input should be a valid integer, unable to parse string as an integer";
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let rows = [
        ("srv_123abc", "srv_123abc"),
        ("007", "007"),
        ("+7", "+7"),
        ("-0", "-0"),
        ("-07", "-07"),
        ("7.0", "7.0"),
        ("0x7", "0x7"),
        ("connections", "connections"),
        ("Available", "Available"),
        ("%207", " 7"),
        ("%D9%A7", "\u{667}"),
        ("9223372036854775808", "[redacted]"),
        ("019bc0fd-8a38-7a17-83e9-4b02d86f31ae", "[redacted]"),
        ("mcp-01KF0FV2HRF8BR7TAB0BC6YCDE", "[redacted]"),
    ];
    for (id, input) in rows {
        let faults = || {
            fault(
                "int_parsing",
                json!(["path", "server_id"]),
                MSG,
                json!(input),
            )
        };
        assert_malformed(&ada.get(&at(id)).await, faults());
        assert_malformed(&ada.put(&at(id), json!({})).await, faults());
        assert_malformed(&ada.delete(&at(id)).await, faults());
    }
    for id in ["0", "-1", "9223372036854775807", "-9223372036854775808"] {
        assert_nowhere(&ada.get(&at(id)).await, id);
        assert_nowhere(&ada.put(&at(id), json!({})).await, id);
        assert_nowhere(&ada.delete(&at(id)).await, id);
    }
}

#[tokio::test]
async fn update_lists_the_faults_of_path_and_body_together() {
    let hawser = Hawser::with_built_in_integrations().await;
    let answer = user(&hawser, "ada")
        .put(&at("x"), json!({"agent_enabled": 1}))
        .await;
    let faults = answer.json();
    assert_eq!(answer.status, 422);
    assert_eq!(faults["detail"][0]["loc"], json!(["path", "server_id"]));
    assert_eq!(faults["detail"][1]["loc"], json!(["body", "agent_enabled"]));
}

// List and get (Kambrium 4 and 5)

#[tokio::test]
async fn list_shows_the_callers_own_connections_by_id() {
    let hawser = Hawser::with_built_in_integrations().await;
    let (ada, bob) = (user(&hawser, "ada"), user(&hawser, "bob"));
    let empty = ada.get(BASE).await;
    assert_eq!(
        (empty.status, empty.json()),
        (
            200,
            json!({"success": true, "data": [], "message": "Found 0 MCP server connections"})
        )
    );
    let mut own = Vec::new();
    for _ in 0..3 {
        own.push(connect(&ada).await);
        connect(&bob).await;
    }
    let listed = ada.get(BASE).await.json();
    assert_eq!(listed["message"], "Found 3 MCP server connections");
    let mut expected = Vec::new();
    for id in own {
        expected.push(shown(&ada, id).await);
    }
    assert_eq!(listed["data"], json!(expected));
    assert_eq!(
        listed["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["id"].clone())
            .collect::<Vec<_>>(),
        [1, 3, 5]
    );

    let admin = scoped(&hawser, "root", "mgmt.admin");
    assert_eq!(admin.get(BASE).await.json(), empty.json());
}

#[tokio::test]
async fn get_answers_the_connection_in_the_envelope() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let made = ada.post(BASE, pipedrive()).await.json();
    let mut data = made["data"].clone();
    data.as_object_mut()
        .unwrap()
        .shift_remove("oauth2_credentials");
    let got = ada.get(&at(1)).await;
    assert_eq!(
        (got.status, got.json()),
        (
            200,
            json!({"success": true, "data": data, "message": "MCP server details retrieved successfully"})
        )
    );
}

// Update (Kambrium 6)

#[tokio::test]
async fn update_changes_what_is_sent_and_keeps_the_rest() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let id = connect(&ada).await;
    let mut expected = shown(&ada, id).await;
    let steps = [
        (
            json!({"agent_enabled": false}),
            vec![("agent_enabled", json!(false))],
        ),
        (
            json!({"access_type": "individual", "disabled_tools": [9, 2, 9]}),
            vec![
                ("access_type", json!("individual")),
                ("disabled_tools", json!([2, 9])),
            ],
        ),
        (
            json!({"agent_enabled": true}),
            vec![("agent_enabled", json!(true))],
        ),
        (
            json!({"disabled_tools": [5]}),
            vec![("disabled_tools", json!([5]))],
        ),
        (json!({}), vec![]),
        (
            json!({"agent_enabled": null, "access_type": null, "api_key": null, "disabled_tools": null}),
            vec![],
        ),
        (
            json!({"id": 9, "auth_method": "oauth", "mcp_server": 5, "mcp_server_name": "x", "created_at": "x"}),
            vec![],
        ),
        (
            json!({"access_type": "read"}),
            vec![
                ("access_type", json!("read")),
                ("oauth2_scopes", json!(["mcp.read"])),
                ("disabled_tools", json!([])),
            ],
        ),
        (
            json!({"access_type": "individual"}),
            vec![
                ("access_type", json!("individual")),
                ("oauth2_scopes", json!(["mcp.read", "mcp.write"])),
            ],
        ),
        (
            json!({"disabled_tools": [4]}),
            vec![("disabled_tools", json!([4]))],
        ),
        (
            json!({"disabled_tools": []}),
            vec![("disabled_tools", json!([]))],
        ),
        (
            json!({"access_type": "write", "disabled_tools": []}),
            vec![("access_type", json!("write"))],
        ),
        (json!({"api_key": "another"}), vec![]),
    ];
    for (body, changes) in steps {
        for (name, value) in changes {
            expected[name] = value;
        }
        let put = ada.put(&at(id), body).await;
        assert_eq!(
            (put.status, put.json()),
            (
                200,
                json!({"success": true, "data": expected, "message": "MCP server connection updated successfully"})
            )
        );
        assert_eq!(shown(&ada, id).await, expected);
    }
}

#[tokio::test]
async fn update_refuses_in_the_order_of_the_table_and_changes_nothing() {
    const TYPE: &str = "Invalid access type specified";
    const TOOLS: &str = "disabled_tools requires access type individual";
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let id = connect(&ada).await;
    let before = shown(&ada, id).await;
    let rows = [
        (json!({"access_type": "admin"}), TYPE),
        (json!({"access_type": ""}), TYPE),
        (
            json!({"access_type": "admin", "disabled_tools": [1], "agent_enabled": false}),
            TYPE,
        ),
        (
            json!({"disabled_tools": [1], "agent_enabled": false}),
            TOOLS,
        ),
        (json!({"access_type": "read", "disabled_tools": [1]}), TOOLS),
    ];
    for (body, detail) in rows {
        assert_refused(&ada.put(&at(id), body).await, 400, detail);
    }
    assert_eq!(shown(&ada, id).await, before);
    // Judged against the type that results, so leaving `individual` with tools is refused too.
    let individual = json!({"access_type": "individual", "disabled_tools": [1]});
    assert_eq!(ada.put(&at(id), individual).await.status, 200);
    let leaving = json!({"access_type": "write", "disabled_tools": [1]});
    assert_refused(&ada.put(&at(id), leaving).await, 400, TOOLS);
    assert_eq!(shown(&ada, id).await["disabled_tools"], json!([1]));
}

#[tokio::test]
async fn updates_at_the_same_moment_both_take_effect() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let id = connect(&ada).await;
    for round in [false, true, false, true] {
        let kind = if round { "read" } else { "write" };
        let path = at(id);
        let (one, other) = tokio::join!(
            ada.put(&path, json!({"agent_enabled": round})),
            ada.put(&path, json!({"access_type": kind})),
        );
        assert_eq!((one.status, other.status), (200, 200));
        let now = shown(&ada, id).await;
        assert_eq!(
            (&now["agent_enabled"], &now["access_type"]),
            (&json!(round), &json!(kind))
        );
    }
}

// Delete (Kambrium 7)

#[tokio::test]
async fn delete_answers_with_data_null_and_then_nothing_is_there() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let (kept, id) = (connect(&ada).await, connect(&ada).await);
    let deleted = ada.delete(&at(id)).await;
    assert_eq!(
        (deleted.status, deleted.text.as_str()),
        (
            200,
            r#"{"success":true,"data":null,"message":"MCP server connection deleted successfully"}"#
        )
    );
    assert_nowhere(&ada.delete(&at(id)).await, id);
    assert_nowhere(&ada.get(&at(id)).await, id);
    assert_nowhere(&ada.put(&at(id), json!({"agent_enabled": false})).await, id);
    assert_eq!(
        ada.get(BASE).await.json()["data"],
        json!([shown(&ada, kept).await])
    );
}

#[tokio::test]
async fn an_id_is_never_given_out_again() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let mut last = 0;
    for _ in 0..3 {
        let id = connect(&ada).await;
        assert!(id > last, "{id} after {last}");
        last = id;
        assert_eq!(ada.delete(&at(id)).await.status, 200);
    }
}

#[tokio::test]
async fn of_two_deletes_at_once_exactly_one_succeeds() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    for _ in 0..5 {
        let path = at(connect(&ada).await);
        let (one, other) = tokio::join!(ada.delete(&path), ada.delete(&path));
        let mut statuses = [one.status, other.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 404], "{} {}", one.text, other.text);
    }
}

#[tokio::test]
async fn an_update_that_loses_to_a_delete_brings_nothing_back() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    for _ in 0..5 {
        let id = connect(&ada).await;
        let path = at(id);
        let (put, deleted) = tokio::join!(
            ada.put(&path, json!({"agent_enabled": false, "api_key": "new"})),
            ada.delete(&path),
        );
        assert_eq!(deleted.status, 200, "{}", deleted.text);
        if put.status != 200 {
            assert_nowhere(&put, id);
        }
        assert_nowhere(&ada.get(&path).await, id);
        assert_eq!(ada.get(BASE).await.json()["data"], json!([]));
    }
}

// Credentials, order, headers (Kambrium 1)

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

// Who may do what (Kambrium 11)

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
async fn unknown_deleted_foreign_and_other_tenants_connections_answer_alike() {
    let hawser = Hawser::with_built_in_integrations().await;
    let (ada, bob) = (user(&hawser, "ada"), user(&hawser, "bob"));
    let (foreign, deleted, unknown) = (connect(&ada).await, connect(&bob).await, 9);
    assert_eq!(bob.delete(&at(deleted)).await.status, 200);
    let outsider = hawser.caller("other", "ada", json!({"scope": "mgmt.admin"}));
    // The same name as another kind of subject is someone else.
    let machine = json!({"scope": "mgmt.read mgmt.write", "subjectType": "virtualaccount"});
    let machine = hawser.caller("acme", "ada", machine);
    for method in ["GET", "PUT", "DELETE"] {
        let mut headers = BTreeSet::new();
        for (caller, id) in [
            (&bob, foreign),
            (&bob, deleted),
            (&bob, unknown),
            (&outsider, foreign),
            (&machine, foreign),
        ] {
            let answer = make(caller, method, &at(id), &json!({})).await;
            assert_nowhere(&answer, id);
            headers.insert(
                ["content-type", "cache-control", "www-authenticate"].map(|h| answer.header(h)),
            );
        }
        assert_eq!(headers.len(), 1);
    }
    assert_eq!(shown(&ada, foreign).await["id"], foreign);
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

// One server under three contracts (Kambrium 9 and 10)

const TRUEFOUNDRY: &str = "/api/svc/v1/mcp";

/// Ada as both contracts know her.
fn ada_of_both(hawser: &Hawser) -> Caller {
    let claims = json!({"scope": "mgmt.read mgmt.write", "roles": ["admin"]});
    hawser.caller("acme", "ada", claims)
}

fn manifest(name: &str, auth: Value) -> Value {
    let mut manifest = json!({
        "type": "mcp-server/remote",
        "name": name,
        "description": "A server",
        "url": "https://crm.example/mcp",
        "collaborators": [],
    });
    if !auth.is_null() {
        manifest["auth_data"] = auth;
    }
    json!({"manifest": manifest})
}

fn header_auth(name: &str) -> Value {
    json!({"type": "header", "auth_level": "global", "headers": {name: "secret-value"}})
}

#[tokio::test]
async fn a_server_of_a_sibling_contract_is_listed_edited_and_deleted_here() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = ada_of_both(&hawser);
    let made = ada.put(TRUEFOUNDRY, manifest("crm", Value::Null)).await;
    assert_eq!(made.status, 200, "{}", made.text);
    let uuid = made.json()["data"]["id"].as_str().unwrap().to_owned();

    let listed = ada.get(BASE).await.json();
    let one = listed["data"][0].clone();
    assert_eq!(
        one,
        json!({
            "id": 1,
            "mcp_server_name": "crm",
            "api_key_verification_status": "verified",
            "oauth2_client_id": one["oauth2_client_id"],
            "oauth2_scopes": ["mcp.read", "mcp.write"],
            "agent_enabled": true,
            "disabled_tools": [],
            "created_at": one["created_at"],
            "access_type": "write",
            "auth_method": "api_key",
            "oauth_status": null,
        })
    );
    assert!(
        one["oauth2_client_id"]
            .as_str()
            .is_some_and(|id| !id.is_empty())
    );
    let body = json!({"access_type": "individual", "disabled_tools": [3], "agent_enabled": false});
    assert_eq!(ada.put(&at(1), body).await.status, 200);
    assert_eq!(shown(&ada, 1).await["disabled_tools"], json!([3]));

    // An update under its own contract keeps what this one decided.
    let again = ada
        .put(TRUEFOUNDRY, manifest("crm", header_auth("X-Key")))
        .await;
    assert_eq!(again.status, 200, "{}", again.text);
    let now = shown(&ada, 1).await;
    assert_eq!(
        (
            &now["access_type"],
            &now["disabled_tools"],
            &now["agent_enabled"]
        ),
        (&json!("individual"), &json!([3]), &json!(false))
    );

    assert_nowhere(&user(&hawser, "bob").get(&at(1)).await, 1);
    assert_eq!(ada.delete(&at(1)).await.status, 200);
    assert_eq!(ada.get(&format!("{TRUEFOUNDRY}/{uuid}")).await.status, 404);
    // The name is free again, the id is not.
    assert_eq!(
        ada.put(TRUEFOUNDRY, manifest("crm", Value::Null))
            .await
            .status,
        200
    );
    assert_nowhere(&ada.get(&at(1)).await, 1);
    assert_eq!(shown(&ada, 2).await["mcp_server_name"], "crm");
}

#[tokio::test]
async fn a_siblings_oauth_server_waits_for_consent() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = ada_of_both(&hawser);
    let auth = json!({
        "type": "oauth2",
        "grant_type": "authorization_code",
        "authorization_url": "https://login.example/authorize",
        "token_url": "https://login.example/token",
        "client_id": "abc",
        "jwt_source": "access_token",
    });
    let made = ada.put(TRUEFOUNDRY, manifest("mail", auth)).await;
    assert_eq!(made.status, 200, "{}", made.text);
    let data = shown(&ada, 1).await;
    assert_eq!(
        (
            &data["auth_method"],
            &data["oauth_status"],
            &data["api_key_verification_status"]
        ),
        (&json!("oauth"), &json!("pending"), &json!("pending"))
    );
}

#[tokio::test]
async fn an_api_key_can_be_changed_only_where_the_catalogue_put_one() {
    const REFUSED: &str = "api_key cannot be changed on this connection";
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = ada_of_both(&hawser);
    assert_eq!(
        ada.put(TRUEFOUNDRY, manifest("crm", header_auth("Authorization")))
            .await
            .status,
        200
    );
    assert_refused(
        &ada.put(&at(1), json!({"api_key": "new"})).await,
        400,
        REFUSED,
    );
    // After the access type, before the tools.
    let both = json!({"api_key": "new", "disabled_tools": [1]});
    assert_refused(&ada.put(&at(1), both).await, 400, REFUSED);
    let both = json!({"api_key": "new", "access_type": "admin"});
    assert_refused(
        &ada.put(&at(1), both).await,
        400,
        "Invalid access type specified",
    );

    // A sibling contract may take the header away, and bring it back in any case.
    let id = connect(&ada).await;
    let name = format!("pipedrive-{id}");
    for (auth, status) in [
        (header_auth("X-Other"), 400),
        (header_auth("authorization"), 200),
        // A template that each user fills has no place for a key.
        (
            json!({"type": "header", "auth_level": "per_user", "headers": {"Authorization": "Bearer {{KEY}}"}}),
            400,
        ),
        (Value::Null, 400),
    ] {
        let mut same_place = manifest(&name, auth);
        same_place["manifest"]["url"] = json!("https://mcp.pipedrive.example/mcp");
        let changed = ada.put(TRUEFOUNDRY, same_place).await;
        assert_eq!(changed.status, 200, "{}", changed.text);
        let put = ada.put(&at(id), json!({"api_key": "new"})).await;
        assert_eq!(put.status, status, "{}", put.text);
    }
}

#[tokio::test]
async fn a_connection_is_a_server_of_the_sibling_contract() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = ada_of_both(&hawser);
    let id = connect(&ada).await;
    let servers = ada.get(TRUEFOUNDRY).await;
    let server = servers.json()["data"][0].clone();
    assert_eq!(server["manifest"]["name"], format!("pipedrive-{id}"));
    assert_eq!(
        server["manifest"]["url"],
        "https://mcp.pipedrive.example/mcp"
    );
    assert_eq!(server["manifest"]["auth_data"]["auth_level"], "global");
    assert_eq!(
        server["manifest"]["auth_data"]["headers"],
        json!({"Authorization": "<REDACTED>"})
    );
    assert!(!servers.text.contains("k-4711"), "{}", servers.text);

    let path = format!("{TRUEFOUNDRY}/{}", server["id"].as_str().unwrap());
    assert_eq!(ada.delete(&path).await.status, 200);
    assert_nowhere(&ada.get(&at(id)).await, id);
    assert_nowhere(&ada.delete(&at(id)).await, id);
    assert_eq!(ada.get(BASE).await.json()["data"], json!([]));
}

#[tokio::test]
async fn a_taken_name_gets_a_number_appended() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = ada_of_both(&hawser);
    // The next connection will have the id 3.
    for name in ["pipedrive-3", "pipedrive-3-2"] {
        let made = ada.put(TRUEFOUNDRY, manifest(name, Value::Null)).await;
        assert_eq!(made.status, 200, "{}", made.text);
    }
    assert_eq!(connect(&ada).await, 3);
    let path = format!("{TRUEFOUNDRY}?name=pipedrive-3-3");
    let found = ada.get(&path).await.json();
    assert_eq!(found["data"].as_array().unwrap().len(), 1, "{found}");
}

// What is stored, and what reaching the store costs

fn acme() -> TenantId {
    TenantId::parse("acme").unwrap()
}

/// The servers of the tenant, as they are stored.
async fn all(hawser: &Hawser) -> Vec<Server> {
    hawser.app.table.servers(&acme()).await.unwrap()
}

/// The one server of the tenant.
async fn stored(hawser: &Hawser) -> Server {
    let mut all = all(hawser).await;
    assert_eq!(all.len(), 1);
    all.remove(0)
}

/// All that the store holds as one text, bytes included where they are some.
#[expect(
    clippy::disallowed_methods,
    reason = "a test looks at everything there is"
)]
pub async fn everything(hawser: &Hawser) -> String {
    fn text(value: &AttributeValue) -> String {
        match value {
            AttributeValue::B(bytes) => String::from_utf8_lossy(bytes.as_ref()).into_owned(),
            AttributeValue::L(values) => values.iter().map(text).collect(),
            AttributeValue::M(values) => values.values().map(text).collect(),
            other => format!("{other:?}"),
        }
    }
    let client = hawser.ground().dynamodb();
    let found = client.scan().table_name(hawser_local::TABLE).send().await;
    let items = found.unwrap().items.unwrap();
    items
        .iter()
        .flat_map(|item| item.values().map(text))
        .collect()
}

#[tokio::test]
async fn the_api_key_is_stored_in_its_header_and_sealed() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let made = ada.post(BASE, pipedrive()).await.json();
    let header = async |name| {
        let server = stored(&hawser).await;
        let secrets = servers::open(&hawser.app, &acme(), &server).await.unwrap();
        secrets.get(Place::Header(name)).map(str::to_owned)
    };
    assert_eq!(
        header("Authorization").await.as_deref(),
        Some("Bearer k-4711")
    );
    assert_eq!(
        ada.put(&at(1), json!({"api_key": "k-4712"})).await.status,
        200
    );
    assert_eq!(
        header("Authorization").await.as_deref(),
        Some("Bearer k-4712")
    );
    assert_eq!(
        ada.put(&at(1), json!({"agent_enabled": false}))
            .await
            .status,
        200
    );
    assert_eq!(
        header("Authorization").await.as_deref(),
        Some("Bearer k-4712")
    );

    let secret = &made["data"]["oauth2_credentials"]["client_secret"];
    let secret = secret.as_str().unwrap();
    assert_eq!(
        stored(&hawser).await.connection.client_secret_hash,
        Some(hash(secret))
    );
    let everything = everything(&hawser).await;
    assert!(everything.contains(&hash(secret)));
    for plain in ["k-4711", "k-4712", secret] {
        assert!(!everything.contains(plain), "{plain} is in the store");
    }
}

#[tokio::test]
async fn a_new_api_key_is_pending_again_and_nothing_else_makes_it_so() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let id = connect(&ada).await;
    let before = stored(&hawser).await;
    let mut after = before.clone();
    after.connection.key_check = KeyCheck::Verified;
    let caller = hawser.authenticated_caller("acme", "ada").await;
    servers::change(&hawser.app, &caller, &before, after, None, Voiding::Refused)
        .await
        .unwrap();
    for (body, status) in [
        (json!({}), "verified"),
        (json!({"agent_enabled": false}), "verified"),
        // The same key, sent again, is checked anew.
        (json!({"api_key": "k-4711"}), "pending"),
    ] {
        let put = ada.put(&at(id), body).await.json();
        assert_eq!(put["data"]["api_key_verification_status"], status, "{put}");
    }
}

#[tokio::test]
async fn list_is_ordered_by_id_and_not_by_age() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    connect(&ada).await;
    // Of two made at once, the later number may have the earlier time.
    let mut second = stored(&hawser).await;
    second.number = hawser.app.table.next_number(&acme()).await.unwrap();
    second.created_at = second.created_at.plus_seconds(-60);
    second.id = ServerId::new(second.created_at).unwrap();
    second.name = "older".to_owned();
    let created = [hawser.event(&acme(), Action::ServerCreated)];
    let inserted = hawser
        .app
        .table
        .insert_server(&acme(), &second, &Companions::default(), &created)
        .await;
    assert_eq!(inserted.unwrap(), Inserted::Done);
    let listed = ada.get(BASE).await.json();
    assert_eq!(
        (&listed["data"][0]["id"], &listed["data"][1]["id"]),
        (&json!(1), &json!(2))
    );
}

#[tokio::test]
async fn an_owner_has_a_thousand_connections_at_most() {
    let hawser = Hawser::with_built_in_integrations().await;
    let (ada, bob) = (user(&hawser, "ada"), user(&hawser, "bob"));
    connect(&ada).await;
    let model = stored(&hawser).await;
    let insert = async |server: &mut Server| {
        server.number = hawser.app.table.next_number(&acme()).await.unwrap();
        server.id = ServerId::new(hawser.app.now()).unwrap();
        server.name = format!("pipedrive-{}", server.number);
        let created = [hawser.event(&acme(), Action::ServerCreated)];
        let inserted = hawser
            .app
            .table
            .insert_server(&acme(), server, &Companions::default(), &created)
            .await
            .unwrap();
        assert_eq!(inserted, Inserted::Done);
    };
    for _ in 1..999 {
        insert(&mut model.clone()).await;
    }
    let mut of_bob = model.clone();
    of_bob.created_by.subject = Subject::parse("user:bob").unwrap();
    insert(&mut of_bob).await;

    let last = connect(&ada).await;
    let refused = ada.post(BASE, pipedrive()).await;
    assert_refused(&refused, 400, "Connection limit reached");
    // The reasons before it in the table come first.
    let unknown = json!({"mcp_server": "nowhere", "access_type": "read", "api_key": "k"});
    assert_refused(
        &ada.post(BASE, unknown).await,
        400,
        "Invalid MCP server or access type specified",
    );
    assert_eq!(
        ada.get(BASE).await.json()["message"],
        "Found 1000 MCP server connections"
    );
    connect(&bob).await;
    assert_eq!(ada.delete(&at(last)).await.status, 200);
    connect(&ada).await;
}

#[tokio::test]
async fn a_delete_reaches_the_store_twice() {
    let hawser = Hawser::with_built_in_integrations().await;
    let token = user(&hawser, "ada");
    let scopes = json!({"scopes": ["mgmt.read", "mgmt.write"]});
    let key = hawser.api_key("acme", Some("user:ada"), scopes).await;
    for caller in [token, key] {
        let path = at(connect(&caller).await);
        hawser.wire.arm(None);
        assert_eq!(caller.delete(&path).await.status, 200);
        assert_eq!(
            hawser.wire.operations(),
            ["BatchGetItem", "TransactWriteItems"]
        );
    }
}

#[tokio::test]
async fn an_update_that_changes_nothing_writes_nothing() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let id = connect(&ada).await;
    let before = all(&hawser).await;
    hawser.wire.arm(None);
    for body in [
        json!({}),
        json!({"agent_enabled": true, "access_type": "write"}),
    ] {
        assert_eq!(ada.put(&at(id), body).await.status, 200);
    }
    assert!(!hawser.wire.operations().is_empty());
    assert!(
        hawser
            .wire
            .operations()
            .iter()
            .all(|one| one == "BatchGetItem")
    );
    assert_eq!(all(&hawser).await, before);
}

#[tokio::test]
async fn the_same_lookups_are_made_for_unknown_deleted_and_foreign_connections() {
    let hawser = Hawser::with_built_in_integrations().await;
    let (ada, bob) = (user(&hawser, "ada"), user(&hawser, "bob"));
    let (foreign, deleted) = (connect(&ada).await, connect(&bob).await);
    assert_eq!(bob.delete(&at(deleted)).await.status, 200);
    for method in ["GET", "PUT", "DELETE"] {
        for id in [foreign, deleted, 9] {
            hawser.wire.arm(None);
            assert_nowhere(&make(&bob, method, &at(id), &json!({})).await, id);
            assert_eq!(hawser.wire.operations(), ["BatchGetItem"]);
        }
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
