//! Malformed requests: the list of a 422 (Kambrium 1.2).

use super::{BASE, assert_nowhere, at, connect, connect_with, pipedrive, shown, user};
use crate::harness::{Answer, Hawser};
use serde_json::{Value, json};

#[track_caller]
fn assert_malformed(answer: &Answer, faults: Value) {
    assert_eq!(
        (answer.status, answer.json()),
        (422, json!({"detail": faults}))
    );
}

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
async fn values_at_their_bounds_are_well_formed() {
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
