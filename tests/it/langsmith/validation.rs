//! Malformed bodies of a create.

use super::{
    SERVERS, UNKNOWN, URL, ada, at, conflicting, create, create_plain, error, id, invalid_body,
    invalid_url, invalid_value, is, missing,
};
use crate::harness::Hawser;
use serde_json::{Value, json};

fn invalid_header(i: usize, why: &str) -> Value {
    error(
        422,
        "invalid_header",
        &format!("Correct 'headers[{i}]': {why}"),
    )
}

#[tokio::test]
async fn create_refuses_a_body_that_is_no_object_of_the_right_types() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let bodies: [&[u8]; 8] = [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\"text\"",
        br#"["search", "https://mcp.example.com"]"#,
        b"{\"name\":\"a\",\"url\":\"https://h\"} x",
        b"{\"name\":\"\xff\",\"url\":\"https://h\"}",
    ];
    for body in bodies {
        let answer = ada.send("POST", SERVERS, &[], body.to_vec()).await;
        is(&answer, invalid_body());
    }
    for (field, value) in [
        ("name", json!(7)),
        ("url", json!(["https://h"])),
        ("headers", json!({"key": "A", "value": "b"})),
        ("headers", json!(["A"])),
        ("headers", json!([["A", "b"]])),
        ("headers", json!([null])),
        ("headers", json!([{"key": 1, "value": "b"}])),
        ("headers", json!([{"key": "A", "value": true}])),
        ("auth_type", json!(true)),
        ("oauth_mode", json!({})),
        ("oauth_provider_id", json!(5)),
        ("vendor_id", json!(5)),
        ("external_system_id", json!([])),
    ] {
        let mut body = json!({"name": "search", "url": URL});
        body[field] = value;
        is(&ada.post(SERVERS, body).await, invalid_body());
    }
    is(&ada.get(SERVERS).await, json!([]));
}

#[tokio::test]
async fn create_names_the_required_field_that_has_no_value() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    // The published example, to the byte.
    let answer = ada.post(SERVERS, json!({"url": URL})).await;
    assert_eq!(
        (answer.status, answer.text.as_str()),
        (
            400,
            r#"{"type":"https://docs.langchain.com/errors/missing_required_field","code":"missing_required_field","detail":"Set 'name' to a non-empty string: 'name' is required","status":400}"#
        )
    );
    for nothing in [Value::Null, json!(""), json!(" \t\n")] {
        for field in ["name", "url"] {
            let mut body = json!({"name": "search", "url": URL});
            body[field] = nothing.clone();
            is(&ada.post(SERVERS, body).await, missing(field));
        }
        let body = json!({"name": "a", "url": URL, "headers": [{"key": "A", "value": ""}, {"key": nothing, "value": "b"}]});
        is(&ada.post(SERVERS, body).await, missing("headers[1].key"));
    }
    is(
        &ada.post(SERVERS, json!({"name": "a"})).await,
        missing("url"),
    );
    is(&ada.post(SERVERS, json!({})).await, missing("name"));
    is(
        &ada.post(SERVERS, json!({"url": ""})).await,
        missing("name"),
    );
    for header in [json!({"key": "A"}), json!({"key": "A", "value": null})] {
        let body = json!({"name": "a", "url": URL, "headers": [header]});
        let expected = error(
            400,
            "missing_required_field",
            "Set 'headers[0].value' to a string: 'headers[0].value' is required",
        );
        is(&ada.post(SERVERS, body).await, expected);
    }
    is(&ada.get(SERVERS).await, json!([]));
}

#[tokio::test]
async fn create_refuses_values_that_are_not_allowed() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let long = "é".repeat(256);
    for (field, value, expected) in [
        ("name", json!("a\u{0}b"), invalid_value("name")),
        ("name", json!("a\u{85}b"), invalid_value("name")),
        ("name", json!(long), invalid_value("name")),
        ("vendor_id", json!(long), invalid_value("vendor_id")),
        (
            "external_system_id",
            json!(long),
            invalid_value("external_system_id"),
        ),
        ("auth_type", json!("OAuth"), invalid_value("auth_type")),
        ("auth_type", json!(" "), invalid_value("auth_type")),
        ("oauth_mode", json!("shared"), invalid_value("oauth_mode")),
        (
            "oauth_provider_id",
            json!(""),
            invalid_value("oauth_provider_id"),
        ),
        (
            "oauth_provider_id",
            json!("0191c0fd8a387a1783e94b02d86f31ae"),
            invalid_value("oauth_provider_id"),
        ),
        ("url", json!("mcp.example.com"), invalid_url("not a URL")),
        ("url", json!(" https://h"), invalid_url("not a URL")),
        ("url", json!("https://h/\n"), invalid_url("not a URL")),
        (
            "url",
            json!("http://mcp.example.com"),
            invalid_url("scheme not allowed"),
        ),
        (
            "url",
            json!("https://a:b@h/"),
            invalid_url("user info not allowed"),
        ),
        (
            "url",
            json!("https://h/#"),
            invalid_url("fragment not allowed"),
        ),
        (
            "url",
            json!(format!("https://h/{}", "a".repeat(2039))),
            invalid_url("too long"),
        ),
    ] {
        let mut body = json!({"name": "search", "url": URL, "auth_type": "oauth"});
        body[field] = value;
        is(&ada.post(SERVERS, body).await, expected);
    }
    is(&ada.get(SERVERS).await, json!([]));
    let longest = json!({
        "name": "é".repeat(255),
        "url": format!("https://h/{}", "a".repeat(2038)),
        "vendor_id": "é".repeat(255),
    });
    let made = create(&ada, longest.clone()).await;
    for field in ["name", "url", "vendor_id"] {
        assert_eq!(made[field], longest[field]);
    }
}

#[tokio::test]
async fn create_refuses_headers_that_cannot_be_sent() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let one = |key: &str, value: &str| json!({"key": key, "value": value});
    let many = |n: usize, bytes: usize| -> Value {
        let value = "v".repeat(bytes);
        (0..n).map(|i| one(&format!("X-{i:02}"), &value)).collect()
    };
    let mut cases = vec![
        (
            json!([one("A", ""), one("B C", "")]),
            1,
            "key is not a token",
        ),
        (json!([one("é", "")]), 0, "key is not a token"),
        (json!([one("A:", "")]), 0, "key is not a token"),
        (json!([one("X-A", ""), one("x-a", "")]), 1, "key repeated"),
        (json!([one(&"k".repeat(257), "")]), 0, "too long"),
        (json!([one("A", &"v".repeat(8193))]), 0, "too long"),
        (
            json!([one("A", "a\nb")]),
            0,
            "value has forbidden characters",
        ),
        (json!([one("A", "é")]), 0, "value has forbidden characters"),
        (
            json!([one("A", "\u{7f}")]),
            0,
            "value has forbidden characters",
        ),
        (many(33, 1), 32, "more than 32 headers"),
        // 8 times 8192 and the keys.
        (many(8, 8192), 7, "too long"),
    ];
    for refused in [
        "HOST",
        "Content-Length",
        "connection",
        "Keep-Alive",
        "Proxy-Authenticate",
        "Proxy-Authorization",
        "Proxy-Connection",
        "te",
        "Trailer",
        "transfer-encoding",
        "Upgrade",
    ] {
        cases.push((json!([one(refused, "a")]), 0, "key not allowed"));
    }
    let target = create_plain(&ada, "target").await;
    for (headers, i, why) in cases {
        let body = json!({"name": "search", "url": URL, "headers": headers});
        is(&ada.post(SERVERS, body).await, invalid_header(i, why));
        let body = json!({"headers": headers});
        is(&ada.patch(&at(&target), body).await, invalid_header(i, why));
    }
    for (i, headers) in [
        many(32, 1),
        many(1, 8192),
        // 65536 bytes to the last: 8 keys of 4 and 8 values of 8188.
        many(8, 8188),
        json!([one(&"k".repeat(256), "\t a~"), one("!#$%&'*+-.^_`|~1", " ")]),
        json!([
            one("Accept", "x"),
            one("Mcp-Session-Id", "y"),
            one("Cookie", "z")
        ]),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("server {i}");
        let made = create(&ada, json!({"name": name, "url": URL, "headers": headers})).await;
        assert_eq!(made["headers"], headers);
        assert_eq!(ada.get(&at(id(&made))).await.json()["headers"], headers);
    }
}

#[tokio::test]
async fn create_refuses_auth_fields_that_contradict_each_other() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let header = json!([{"key": "A", "value": "b"}]);
    for sent in [
        json!({"auth_type": "oauth", "headers": header}),
        json!({"oauth_mode": "per_user_dynamic_client"}),
        json!({"auth_type": "", "oauth_mode": "legacy_shared_provider"}),
        json!({"auth_type": "headers", "oauth_mode": "legacy_shared_provider"}),
        json!({"auth_type": "headers", "oauth_provider_id": UNKNOWN}),
        json!({"oauth_provider_id": UNKNOWN}),
    ] {
        let mut body = json!({"name": "search", "url": URL});
        body.as_object_mut()
            .unwrap()
            .extend(sent.as_object().unwrap().clone());
        is(&ada.post(SERVERS, body).await, conflicting());
    }
    is(&ada.get(SERVERS).await, json!([]));
}
