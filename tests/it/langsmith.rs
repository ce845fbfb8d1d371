//! The LangSmith contract's routes for MCP servers, over HTTP.

use crate::harness::{Answer, Caller, Cut, Hawser, now};
use aws_sdk_dynamodb::types::AttributeValue;
use hawser_core::domain::id::TenantId;
use serde_json::{Value, json};

pub const SERVERS: &str = "/v1/deepagents/mcp-servers";
pub const UNKNOWN: &str = "5b6f6a2b-2c95-4f0f-9c2b-7c3a3e4f8d11";
pub const EVERYTHING: [&str; 5] = [
    "mcp-servers:create",
    "mcp-servers:read",
    "mcp-servers:update",
    "mcp-servers:delete",
    "mcp-servers:invoke",
];
const URL: &str = "https://mcp.example.com/mcp/";

pub fn at(id: &str) -> String {
    format!("{SERVERS}/{id}")
}

fn tenant_uuid(tenant: &str) -> String {
    TenantId::parse(tenant).unwrap().uuid().to_string()
}

/// A user of `acme` with these permissions.
fn with(hawser: &Hawser, permissions: &[&str]) -> Caller {
    hawser.caller("acme", "ada", json!({"permissions": permissions}))
}

fn ada(hawser: &Hawser) -> Caller {
    with(hawser, &EVERYTHING)
}

pub fn error(status: u16, code: &str, detail: &str) -> Value {
    json!({
        "type": format!("https://docs.langchain.com/errors/{code}"),
        "code": code,
        "detail": detail,
        "status": status,
    })
}

pub fn missing(field: &str) -> Value {
    let detail = format!("Set '{field}' to a non-empty string: '{field}' is required");
    error(400, "missing_required_field", &detail)
}

pub fn invalid_body() -> Value {
    let detail = "Provide a valid JSON request body matching the documented schema";
    error(400, "invalid_request_body", detail)
}

pub fn invalid_path() -> Value {
    let detail = "Set 'mcp_server_id' to a UUID: the given value is not one";
    error(400, "invalid_path_parameter", detail)
}

fn invalid_value(field: &str) -> Value {
    let detail = format!("Correct '{field}': the given value is not allowed");
    error(422, "invalid_field_value", &detail)
}

fn invalid_header(i: usize, why: &str) -> Value {
    error(
        422,
        "invalid_header",
        &format!("Correct 'headers[{i}]': {why}"),
    )
}

fn invalid_url(why: &str) -> Value {
    let detail = format!("Set 'url' to a valid https URL: {why}");
    error(422, "invalid_url", &detail)
}

fn conflicting() -> Value {
    let detail = "Use either headers or OAuth: the auth fields contradict each other";
    error(422, "conflicting_auth_fields", detail)
}

pub fn not_found() -> Value {
    let detail =
        "Verify the MCP server and that the calling identity has access: MCP server not found";
    error(404, "mcp_server_not_found", detail)
}

pub fn too_large() -> Value {
    let detail = "Send at most 262144 bytes: the request body is too large";
    error(413, "request_body_too_large", detail)
}

/// An answer with the headers that every JSON body has.
#[track_caller]
pub fn is(answer: &Answer, body: Value) {
    let status = body["status"].as_u64().unwrap_or(200) as u16;
    is_json(answer, status, body);
}

#[track_caller]
pub fn is_json(answer: &Answer, status: u16, body: Value) {
    assert_eq!((answer.status, answer.json()), (status, body));
    assert_eq!(answer.header("content-type").unwrap(), "application/json");
    assert_eq!(answer.header("cache-control").unwrap(), "no-store");
}

#[track_caller]
fn is_empty_204(answer: &Answer) {
    assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    assert_eq!(answer.header("content-type"), None);
    assert_eq!(answer.header("cache-control").unwrap(), "no-store");
}

#[track_caller]
pub fn is_unauthorized(answer: &Answer) {
    is_json(answer, 401, json!({"error": "Unauthorized"}));
    assert_eq!(answer.header("www-authenticate").unwrap(), "Bearer");
}

#[track_caller]
pub fn lacks(answer: &Answer, permission: &str) {
    let text = format!("missing permission {permission}");
    assert_eq!((answer.status, answer.text.as_str()), (403, text.as_str()));
    assert_eq!(
        answer.header("content-type").unwrap(),
        "text/plain; charset=utf-8"
    );
    assert_eq!(answer.header("cache-control").unwrap(), "no-store");
}

/// The record made from `body`.
async fn create(caller: &Caller, body: Value) -> Value {
    let answer = caller.post(SERVERS, body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()
}

async fn create_plain(caller: &Caller, name: &str) -> String {
    id(&create(caller, json!({"name": name, "url": URL})).await).to_owned()
}

fn id(record: &Value) -> &str {
    record["id"].as_str().unwrap()
}

/// A valid body for each route, each route's permission, and the status of success for a server that exists.
fn routes(id: &str) -> [(&'static str, String, Value, &'static str, u16); 5] {
    let new = json!({"name": format!("of {id}"), "url": URL});
    [
        ("POST", SERVERS.to_owned(), new, "mcp-servers:create", 201),
        (
            "GET",
            SERVERS.to_owned(),
            json!({}),
            "mcp-servers:read",
            200,
        ),
        ("GET", at(id), json!({}), "mcp-servers:read", 200),
        ("PATCH", at(id), json!({}), "mcp-servers:update", 200),
        ("DELETE", at(id), json!({}), "mcp-servers:delete", 204),
    ]
}

async fn call(
    caller: &Caller,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> Answer {
    caller
        .send(method, path, headers, body.to_string().into_bytes())
        .await
}

// Who may call.

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

// The order of checks.

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

// Creating.

#[tokio::test]
async fn create_answers_201_with_the_whole_record_in_the_contracts_order() {
    let hawser = Hawser::start().await;
    let body = json!({
        "name": "  Search 2.0 \n",
        "url": "HTTPS://MCP.Example.com:443/mcp/?q=%7e",
        "headers": [{"key": "X-B", "value": " b "}, {"key": "Authorization", "value": "Bearer s3cret"}],
        "auth_type": "headers",
        "vendor_id": "v-1",
        "external_system_id": "",
        "nonsense": {"a": 1},
    });
    let answer = ada(&hawser).post(SERVERS, body).await;
    let made = answer.json();
    let created_at = made["created_at"].as_str().unwrap();
    let expected = format!(
        r#"{{"id":"{}","tenant_id":"{}","name":"Search 2.0","url":"HTTPS://MCP.Example.com:443/mcp/?q=%7e","headers":[{{"key":"X-B","value":" b "}},{{"key":"Authorization","value":"Bearer s3cret"}}],"auth_type":"headers","oauth_mode":"","created_at":"{created_at}","updated_at":"{created_at}","mcp_vendor_id":null,"vendor_id":"v-1","external_system_id":null}}"#,
        id(&made),
        tenant_uuid("acme"),
    );
    assert_eq!((answer.status, answer.text.as_str()), (201, &*expected));
    assert_eq!(answer.header("content-type").unwrap(), "application/json");
    assert_eq!(answer.header("cache-control").unwrap(), "no-store");
    let (clock, offset) = created_at.split_at(26);
    assert_eq!((clock.find('.'), offset), (Some(19), "+00:00"));
    let uuid: Vec<_> = id(&made).split('-').map(str::len).collect();
    assert_eq!(uuid, [8, 4, 4, 4, 12]);
    assert_eq!(id(&made).as_bytes()[14], b'7');
    assert_eq!(id(&made), id(&made).to_lowercase());
    assert_eq!(ada(&hawser).get(&at(id(&made))).await.text, expected);
    assert_eq!(
        ada(&hawser).get(SERVERS).await.text,
        format!("[{expected}]")
    );
}

#[tokio::test]
async fn create_oauth_shows_the_provider_id_in_its_place() {
    let hawser = Hawser::start().await;
    let body = json!({"name": "o", "url": URL, "auth_type": "oauth"});
    let answer = ada(&hawser).post(SERVERS, body).await;
    let keys: Vec<_> = answer.json().as_object().unwrap().keys().cloned().collect();
    let expected = [
        "id",
        "tenant_id",
        "name",
        "url",
        "headers",
        "auth_type",
        "oauth_provider_id",
        "oauth_mode",
        "created_at",
        "updated_at",
        "mcp_vendor_id",
        "vendor_id",
        "external_system_id",
    ];
    assert_eq!(keys, expected);
}

#[tokio::test]
async fn create_takes_each_combination_of_auth_fields_that_makes_sense() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let provider = "0191C0FD-8A38-7A17-83E9-4B02D86F31AE";
    let (legacy, per_user) = ("legacy_shared_provider", "per_user_dynamic_client");
    let header = json!([{"key": "A", "value": ""}]);
    for (i, (sent, shown)) in [
        (json!({}), json!(["", "", [], "absent"])),
        (
            json!({"auth_type": null, "oauth_mode": null, "oauth_provider_id": null,
                "headers": null, "vendor_id": null, "external_system_id": null}),
            json!(["", "", [], "absent"]),
        ),
        (
            json!({"auth_type": "", "oauth_mode": "", "headers": []}),
            json!(["", "", [], "absent"]),
        ),
        (
            json!({"auth_type": "headers"}),
            json!(["headers", "", [], "absent"]),
        ),
        (
            json!({"headers": header}),
            json!(["", "", header, "absent"]),
        ),
        (
            json!({"auth_type": "oauth", "headers": []}),
            json!(["oauth", per_user, [], null]),
        ),
        (
            json!({"auth_type": "oauth", "oauth_mode": per_user, "oauth_provider_id": provider}),
            json!(["oauth", per_user, [], null]),
        ),
        (
            json!({"auth_type": "oauth", "oauth_mode": "", "oauth_provider_id": provider}),
            json!(["oauth", legacy, [], provider.to_lowercase()]),
        ),
        (
            json!({"auth_type": "oauth", "oauth_mode": legacy}),
            json!(["oauth", legacy, [], null]),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let mut body = json!({"name": format!("server {i}"), "url": URL});
        body.as_object_mut()
            .unwrap()
            .extend(sent.as_object().unwrap().clone());
        let made = create(&ada, body).await;
        assert_eq!(auth_of(&made), shown, "{sent}");
        is(&ada.get(&at(id(&made))).await, made);
    }
}

/// Type, mode, headers and provider of a record; `absent` for a provider that is not even null.
fn auth_of(record: &Value) -> Value {
    let provider = record.get("oauth_provider_id");
    let provider = provider.cloned().unwrap_or_else(|| "absent".into());
    json!([
        record["auth_type"],
        record["oauth_mode"],
        record["headers"],
        provider
    ])
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
async fn a_name_is_taken_once_in_a_tenant_by_exact_comparison() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let taken = |name: &str| {
        let detail = format!("Choose another name: an MCP server named '{name}' already exists");
        error(409, "mcp_server_name_conflict", &detail)
    };
    create_plain(&ada, "Search").await;
    let again = ada.post(SERVERS, json!({"name": " Search", "url": "https://h"}));
    is(&again.await, taken("Search"));
    // Neither its case nor its URL makes it the same.
    create_plain(&ada, "search").await;
    put_mcp(&hawser, "by-truefoundry", json!({})).await;
    let again = ada.post(SERVERS, json!({"name": "by-truefoundry", "url": URL}));
    is(&again.await, taken("by-truefoundry"));
    assert_eq!(ada.get(SERVERS).await.json().as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn of_parallel_creates_of_one_name_one_succeeds() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let create = || ada.post(SERVERS, json!({"name": "search", "url": URL}));
    let (a, b, c, d) = tokio::join!(create(), create(), create(), create());
    let mut statuses = [a.status, b.status, c.status, d.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409]);
    assert_eq!(ada.get(SERVERS).await.json().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn header_values_are_nowhere_in_the_clear_in_the_store() {
    let hawser = Hawser::start().await;
    let headers = json!([{"key": "Authorization", "value": "Bearer s3cret-value"}]);
    create(
        &ada(&hawser),
        json!({"name": "search", "url": URL, "headers": headers}),
    )
    .await;
    let stored = stored_bytes(&hawser).await;
    let holds = |text: &str| {
        stored
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    assert!(holds("Authorization") && holds(URL));
    assert!(!holds("s3cret-value"));
}

/// Every text and every binary value in the table, one after the other.
#[expect(
    clippy::disallowed_methods,
    reason = "a test looks at everything there is"
)]
async fn stored_bytes(hawser: &Hawser) -> Vec<u8> {
    let store = hawser.ground().dynamodb();
    let table = store.scan().table_name(hawser_local::TABLE);
    let mut items = table.into_paginator().items().send();
    let mut all = Vec::new();
    while let Some(item) = items.next().await {
        gather(&AttributeValue::M(item.unwrap()), &mut all);
    }
    all
}

fn gather(value: &AttributeValue, all: &mut Vec<u8>) {
    match value {
        AttributeValue::S(text) => all.extend_from_slice(text.as_bytes()),
        AttributeValue::B(bytes) => all.extend_from_slice(bytes.as_ref()),
        AttributeValue::L(list) => list.iter().for_each(|value| gather(value, all)),
        AttributeValue::M(map) => map.values().for_each(|value| gather(value, all)),
        AttributeValue::N(_) | AttributeValue::Bool(_) | AttributeValue::Null(_) => {}
        other => panic!("not looked into: {other:?}"),
    }
}

// Reading.

#[tokio::test]
async fn the_list_is_a_bare_array_of_all_servers_oldest_first() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    is(&ada.get(SERVERS).await, json!([]));
    let mut made = Vec::new();
    // Together they are more than one page of the store, and named against the order.
    for i in 0..24 {
        let value = "v".repeat(8000);
        let headers: Value = (0..8)
            .map(|n| json!({"key": format!("X-{n}"), "value": value}))
            .collect();
        let name = format!("server {}", 99 - i);
        made.push(create(&ada, json!({"name": name, "url": URL, "headers": headers})).await);
    }
    create_plain(
        &hawser.caller("globex", "bob", json!({"permissions": EVERYTHING})),
        "of another tenant",
    )
    .await;
    let answer = ada
        .send(
            "GET",
            &format!("{SERVERS}?limit=1&offset=7"),
            &[],
            b"{".to_vec(),
        )
        .await;
    is(&answer, made.into());
}

#[tokio::test]
async fn headers_are_shown_to_those_who_may_invoke_and_to_no_one_else() {
    let hawser = Hawser::start().await;
    let headers = json!([{"key": "Authorization", "value": "Bearer s3cret"}]);
    let body = json!({"name": "search", "url": URL, "headers": headers});
    let blind = with(&hawser, &EVERYTHING[..4]);
    let made = create(&blind, body).await;
    let blindly = |record: &Value| {
        let record = record.as_object().unwrap();
        assert!(!record.contains_key("headers"), "{record:?}");
        assert_eq!(record["can_invoke"], json!(false));
        assert_eq!(record.keys().next_back().unwrap(), "can_invoke");
    };
    blindly(&made);
    let path = at(id(&made));
    blindly(&blind.get(&path).await.json());
    blindly(&blind.get(SERVERS).await.json()[0]);
    let patched = blind.patch(&path, json!({"headers": headers})).await;
    blindly(&patched.json());
    assert!(!patched.text.contains("s3cret"));

    let ada = ada(&hawser);
    for record in [
        ada.get(&path).await.json(),
        ada.get(SERVERS).await.json()[0].clone(),
        ada.patch(&path, json!({})).await.json(),
    ] {
        assert_eq!(record["headers"], headers);
        assert_eq!(record.get("can_invoke"), None);
    }
    // It is the caller that decides, not the server: the same with nothing to hide.
    let made = create(&blind, json!({"name": "plain", "url": URL})).await;
    blindly(&made);
    assert_eq!(ada.get(&at(id(&made))).await.json()["headers"], json!([]));
}

#[tokio::test]
async fn an_id_has_one_form_in_any_case() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let made = create(&ada, json!({"name": "search", "url": URL})).await;
    let upper = id(&made).to_uppercase();
    is(&ada.get(&at(&upper)).await, made.clone());
    is(&ada.patch(&at(&upper), json!({})).await, made.clone());
    let simple = id(&made).replace('-', "");
    for malformed in [
        simple.clone(),
        format!("%7B{}%7D", id(&made)),
        format!("urn:uuid:{}", id(&made)),
        format!("{}g", &id(&made)[..35]),
        format!("{}-", &id(&made)[..35]),
        format!("{}%20", id(&made)),
        "1".to_owned(),
        "mcp-01KF0FV2HRF8BR7TAB0BC6YCDE".to_owned(),
    ] {
        is(&ada.get(&at(&malformed)).await, invalid_path());
        is(&ada.patch(&at(&malformed), json!({})).await, invalid_path());
        is(&ada.delete(&at(&malformed)).await, invalid_path());
    }
    // Version and variant do not matter.
    for unknown in [
        "00000000-0000-0000-0000-000000000000",
        "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
    ] {
        is(&ada.get(&at(unknown)).await, not_found());
        is_empty_204(&ada.delete(&at(unknown)).await);
    }
    is_empty_204(&ada.delete(&at(&upper)).await);
    is(&ada.get(&at(id(&made))).await, not_found());
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
async fn a_create_ends_with_its_one_write() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    create_plain(&ada, "first").await;
    hawser.wire.arm(None);
    let headers = json!([{"key": "A", "value": "b"}]);
    create(
        &ada,
        json!({"name": "second", "url": URL, "headers": headers}),
    )
    .await;
    let requests = hawser.wire.operations();
    let write = "TransactWriteItems";
    assert_eq!(
        requests.iter().position(|r| r == write),
        Some(requests.len() - 1)
    );
}

#[tokio::test]
async fn a_create_that_is_cut_off_has_happened_whole_or_not_at_all() {
    // The requests of a tenant's first create, which makes the tenant's key too.
    let hawser = Hawser::start().await;
    hawser.wire.arm(None);
    create_plain(&ada(&hawser), "search").await;
    let requests = hawser.wire.operations().len();
    let body = json!({"name": "search", "url": URL, "headers": [{"key": "A", "value": "b"}]});
    for at_request in 0..requests {
        for cut in [Cut::Before(at_request), Cut::After(at_request)] {
            let hawser = Hawser::start().await;
            let ada = ada(&hawser);
            hawser.wire.arm(Some(cut));
            let broken = ada.post(SERVERS, body.clone()).await;
            assert_eq!(broken.status, 503, "{cut:?} {broken:?}");
            hawser.wire.arm(None);
            let listed = ada.get(SERVERS).await.json();
            let written = cut_is_after_the_last(cut, requests);
            assert_eq!(listed.as_array().unwrap().len(), usize::from(written));
            let again = ada.post(SERVERS, body.clone()).await;
            assert_eq!(again.status, if written { 409 } else { 201 }, "{cut:?}");
            let path = at(id(&ada.get(SERVERS).await.json()[0]));
            assert_eq!(ada.get(&path).await.json()["headers"], body["headers"]);
        }
    }
}

fn cut_is_after_the_last(cut: Cut, requests: usize) -> bool {
    matches!(cut, Cut::After(at_request) if at_request + 1 == requests)
}

// Changing.

#[tokio::test]
async fn an_empty_patch_changes_nothing() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let headers = json!([{"key": "A", "value": "b"}]);
    for (i, auth) in [
        json!({}),
        json!({"headers": headers}),
        json!({"auth_type": "headers", "headers": headers}),
        json!({"auth_type": "oauth"}),
        json!({"auth_type": "oauth", "oauth_provider_id": UNKNOWN}),
    ]
    .into_iter()
    .enumerate()
    {
        let mut body = json!({"name": format!("server {i}"), "url": URL, "vendor_id": "v"});
        body.as_object_mut()
            .unwrap()
            .extend(auth.as_object().unwrap().clone());
        let made = create(&ada, body).await;
        let path = at(id(&made));
        let nulls = json!({"url": null, "headers": null, "auth_type": null, "oauth_mode": null});
        let foreign = json!({"name": 7, "vendor_id": "w", "external_system_id": [], "x": 1});
        // The whole record can be sent back.
        for patch in [json!({}), nulls, foreign, made.clone()] {
            is(&ada.patch(&path, patch).await, made.clone());
            is(&ada.get(&path).await, made.clone());
        }
    }
}

#[tokio::test]
async fn a_patch_changes_what_it_names_and_the_time() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let headers = json!([{"key": "A", "value": "1"}, {"key": "B", "value": "2"}]);
    let body = json!({"name": "search", "url": URL, "headers": headers, "vendor_id": "v"});
    let mut expected = create(&ada, body).await;
    let path = at(id(&expected));
    for (field, value) in [
        ("url", json!("https://Other.example/%7Emcp")),
        ("url", json!("http://LOCALHOST:9001/mcp")),
        ("headers", json!([{"key": "B", "value": "3"}])),
        ("headers", json!([{"key": "b", "value": "3"}])),
        (
            "headers",
            json!([{"key": "C", "value": ""}, {"key": "A", "value": "1"}]),
        ),
        ("headers", json!([])),
        ("headers", json!([{"key": "A", "value": "{{X}}"}])),
        ("auth_type", json!("headers")),
        ("auth_type", json!("")),
    ] {
        let answer = ada.patch(&path, json!({field: value})).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let patched = answer.json();
        assert!(
            patched["updated_at"].as_str().unwrap() > expected["updated_at"].as_str().unwrap(),
            "{field} {value}"
        );
        expected[field] = value;
        expected["updated_at"] = patched["updated_at"].clone();
        is(&answer, expected.clone());
        is(&ada.get(&path).await, expected.clone());
    }
}

#[tokio::test]
async fn a_patch_refuses_what_a_create_refuses() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let made = create(&ada, json!({"name": "search", "url": URL})).await;
    let path = at(id(&made));
    for body in ["", "{", "[]", "null", "7"] {
        let answer = ada.send("PATCH", &path, &[], body.into()).await;
        is(&answer, invalid_body());
    }
    for (body, expected) in [
        (json!({"url": 7}), invalid_body()),
        (json!({"headers": {}}), invalid_body()),
        (json!({"headers": [["A", "b"]]}), invalid_body()),
        (json!({"auth_type": 7}), invalid_body()),
        (json!({"oauth_mode": false}), invalid_body()),
        (json!({"oauth_provider_id": 7}), invalid_body()),
        (json!({"url": ""}), missing("url")),
        (json!({"url": " "}), missing("url")),
        (
            json!({"headers": [{"value": "a"}]}),
            missing("headers[0].key"),
        ),
        (json!({"url": "ftp://h"}), invalid_url("scheme not allowed")),
        (json!({"auth_type": "none"}), invalid_value("auth_type")),
        (json!({"oauth_mode": "x"}), invalid_value("oauth_mode")),
        (
            json!({"oauth_provider_id": "x"}),
            invalid_value("oauth_provider_id"),
        ),
    ] {
        is(&ada.patch(&path, body).await, expected);
    }
    is(&ada.get(&path).await, made);
    is(&ada.patch(&at(UNKNOWN), json!({})).await, not_found());
}

#[tokio::test]
async fn auth_rules_of_a_patch_run_on_the_merged_record() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let (legacy, per_user) = ("legacy_shared_provider", "per_user_dynamic_client");
    let header = json!([{"key": "A", "value": "b"}]);
    let (plain, with_header) = (json!({}), json!({"headers": header}));
    let oauth = json!({"auth_type": "oauth"});
    let shared = json!({"auth_type": "oauth", "oauth_provider_id": UNKNOWN});
    let unset = json!(["", "", [], "absent"]);
    let own = json!(["oauth", per_user, [], null]);
    let no = Value::Null;
    let cases = [
        // Towards OAuth.
        (&plain, oauth.clone(), own.clone()),
        (
            &plain,
            shared.clone(),
            json!(["oauth", legacy, [], UNKNOWN]),
        ),
        (
            &plain,
            json!({"auth_type": "oauth", "oauth_mode": legacy}),
            json!(["oauth", legacy, [], null]),
        ),
        (&with_header, oauth.clone(), no.clone()),
        (
            &with_header,
            json!({"auth_type": "oauth", "headers": []}),
            own.clone(),
        ),
        (
            &plain,
            json!({"auth_type": "oauth", "headers": header}),
            no.clone(),
        ),
        // Away from it.
        (
            &oauth,
            json!({"auth_type": "headers"}),
            json!(["headers", "", [], "absent"]),
        ),
        (&shared, json!({"auth_type": ""}), unset.clone()),
        (
            &shared,
            json!({"auth_type": "headers", "headers": header}),
            json!(["headers", "", header, "absent"]),
        ),
        (
            &shared,
            json!({"auth_type": "", "oauth_mode": "", "oauth_provider_id": null}),
            unset.clone(),
        ),
        (
            &shared,
            json!({"auth_type": "headers", "oauth_mode": legacy}),
            no.clone(),
        ),
        (
            &shared,
            json!({"auth_type": "", "oauth_provider_id": UNKNOWN}),
            no.clone(),
        ),
        // Within it.
        (&oauth, json!({"headers": header}), no.clone()),
        (&oauth, json!({"headers": []}), own.clone()),
        (&oauth, json!({"oauth_provider_id": UNKNOWN}), own.clone()),
        (
            &oauth,
            json!({"oauth_mode": "", "oauth_provider_id": UNKNOWN}),
            json!(["oauth", legacy, [], UNKNOWN]),
        ),
        (
            &shared,
            json!({"oauth_provider_id": null}),
            json!(["oauth", legacy, [], null]),
        ),
        (
            &shared,
            json!({"oauth_mode": ""}),
            json!(["oauth", legacy, [], UNKNOWN]),
        ),
        (
            &shared,
            json!({"oauth_mode": "", "oauth_provider_id": null}),
            own.clone(),
        ),
        (&shared, json!({"oauth_mode": per_user}), own.clone()),
        // Outside of it.
        (&plain, json!({"oauth_mode": per_user}), no.clone()),
        (&plain, json!({"oauth_provider_id": UNKNOWN}), no.clone()),
        (
            &plain,
            json!({"oauth_mode": "", "oauth_provider_id": null}),
            unset,
        ),
    ];
    for (i, (before, patch, shown)) in cases.into_iter().enumerate() {
        let mut body = json!({"name": format!("server {i}"), "url": URL});
        body.as_object_mut()
            .unwrap()
            .extend(before.as_object().unwrap().clone());
        let made = create(&ada, body).await;
        let answer = ada.patch(&at(id(&made)), patch.clone()).await;
        if shown.is_null() {
            is(&answer, conflicting());
            is(&ada.get(&at(id(&made))).await, made);
        } else {
            assert_eq!(auth_of(&answer.json()), shown, "{before} {patch}");
            is(&ada.get(&at(id(&made))).await, answer.json());
        }
    }
}

#[tokio::test]
async fn parallel_patches_all_take_effect() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let path = at(&create_plain(&ada, "search").await);
    let headers = json!([{"key": "A", "value": "b"}]);
    let (url, auth, secret) = tokio::join!(
        ada.patch(&path, json!({"url": "https://other.example"})),
        ada.patch(&path, json!({"auth_type": "headers"})),
        ada.patch(&path, json!({"headers": headers})),
    );
    assert_eq!([url.status, auth.status, secret.status], [200, 200, 200]);
    let now = ada.get(&path).await.json();
    assert_eq!(now["url"], "https://other.example");
    assert_eq!(auth_of(&now), json!(["headers", "", headers, "absent"]));
}

#[tokio::test]
async fn a_changed_address_or_kind_of_auth_takes_users_credentials_with_it() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let oauth = json!({"name": "oauth", "url": URL, "auth_type": "oauth"});
    for (patch, kept) in [
        (json!({"url": URL}), 1),
        (json!({"auth_type": "oauth"}), 1),
        // The same origin: only its bytes differ.
        (json!({"url": "https://mcp.example.com/mcp"}), 0),
        (json!({"url": "https://mcp.example.com:443/mcp/"}), 0),
        (json!({"auth_type": "headers"}), 0),
        (json!({"oauth_mode": "legacy_shared_provider"}), 0),
    ] {
        let made = create(&ada, oauth.clone()).await;
        let overrides = format!("{}/auth", mcp_path(&hawser, "oauth").await);
        let secret = json!({"type": "header", "headerValue": "Bearer own"});
        let body = json!({"subjectType": "user", "subjectId": "ada", "authOverride": secret});
        let admin = hawser.admin("acme");
        let answer = admin.put(&overrides, body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(ada.patch(&at(id(&made)), patch.clone()).await.status, 200);
        // Back to a kind that takes overrides, so that only their own absence can hide them.
        ada.patch(
            &at(id(&made)),
            json!({"auth_type": "oauth", "oauth_mode": ""}),
        )
        .await;
        let left = admin.get(&overrides).await.json();
        assert_eq!(left["data"].as_array().unwrap().len(), kept, "{patch}");
        is_empty_204(&ada.delete(&at(id(&made))).await);
    }
}

// Deleting.

#[tokio::test]
async fn delete_answers_204_whether_the_server_was_there_or_not() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let target = create_plain(&ada, "search").await;
    let kept = create_plain(&ada, "kept").await;
    is_empty_204(&ada.delete_with(&at(&target), json!(["ignored"])).await);
    is(&ada.get(&at(&target)).await, not_found());
    is(&ada.patch(&at(&target), json!({})).await, not_found());
    is_empty_204(&ada.delete(&at(&target)).await);
    hawser.run_workers().await;
    is_empty_204(&ada.delete(&at(&target)).await);
    is_empty_204(&ada.delete(&at(UNKNOWN)).await);
    let left = ada.get(SERVERS).await.json();
    assert_eq!(left.as_array().unwrap().len(), 1);
    assert_eq!(id(&left[0]), kept);
}

#[tokio::test]
async fn parallel_deletes_all_answer_204() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let path = at(&create_plain(&ada, "search").await);
    let (a, b, c) = tokio::join!(ada.delete(&path), ada.delete(&path), ada.delete(&path));
    for answer in [a, b, c] {
        is_empty_204(&answer);
    }
    is(&ada.get(&path).await, not_found());
}

#[tokio::test]
async fn a_deleted_server_is_gone_from_every_contract_and_its_name_is_free() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let headers = json!([{"key": "A", "value": "s3cret"}]);
    let body = json!({"name": "by-langsmith", "url": URL, "headers": headers});
    let made = create(&admin, body).await;
    let elsewhere = mcp_path(&hawser, "by-langsmith").await;
    let connection = connection_path(&hawser, "by-langsmith").await;
    assert_eq!(admin.get(&elsewhere).await.status, 200);
    assert_eq!(admin.get(&connection).await.status, 200);

    is_empty_204(&admin.delete(&at(id(&made))).await);
    assert_eq!(admin.get(&elsewhere).await.status, 404);
    assert_eq!(admin.get(&connection).await.status, 404);
    assert_eq!(admin.get("/api/svc/v1/mcp").await.json()["data"], json!([]));

    let again = create(&admin, json!({"name": "by-langsmith", "url": URL})).await;
    assert_ne!(id(&again), id(&made));
    assert_eq!(again["headers"], json!([]));
    assert_ne!(mcp_path(&hawser, "by-langsmith").await, elsewhere);
    assert_ne!(connection_path(&hawser, "by-langsmith").await, connection);
    assert_eq!(admin.get(&elsewhere).await.status, 404);
    assert_eq!(admin.get(&connection).await.status, 404);
    hawser.run_workers().await;
    is(&admin.get(SERVERS).await, json!([again]));
}

#[tokio::test]
async fn a_delete_that_is_cut_off_has_happened_whole_or_not_at_all() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let target = at(&create_plain(&ada, "search").await);
    hawser.wire.arm(None);
    ada.delete(&target).await;
    let requests = hawser.wire.operations().len();
    for at_request in 0..requests {
        for cut in [Cut::Before(at_request), Cut::After(at_request)] {
            let target = at(&create_plain(&ada, "search").await);
            hawser.wire.arm(Some(cut));
            let broken = ada.delete(&target).await;
            assert_eq!(broken.status, 503, "{cut:?} {broken:?}");
            hawser.wire.arm(None);
            let gone = cut_is_after_the_last(cut, requests);
            let found = ada.get(&target).await;
            assert_eq!(found.status, if gone { 404 } else { 200 }, "{cut:?}");
            let taken = ada
                .post(SERVERS, json!({"name": "search", "url": URL}))
                .await;
            assert_eq!(taken.status, if gone { 201 } else { 409 }, "{cut:?}");
            is_empty_204(&ada.delete(&target).await);
            let left = find_all(&ada).await;
            assert_eq!(left.len(), usize::from(gone), "{cut:?}");
            for record in left {
                is_empty_204(&ada.delete(&at(id(&record))).await);
            }
        }
    }
}

async fn find_all(caller: &Caller) -> Vec<Value> {
    let listed = caller.get(SERVERS).await.json();
    listed.as_array().unwrap().clone()
}

// Beside the sibling contracts.

/// Registers a server by the TrueFoundry contract and returns its manifest there.
async fn put_mcp(hawser: &Hawser, name: &str, more: Value) -> Value {
    let mut manifest = json!({
        "type": "mcp-server/remote", "name": name, "description": "d", "url": URL, "collaborators": [],
    });
    manifest
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let body = json!({"manifest": manifest});
    let answer = hawser.admin("acme").put("/api/svc/v1/mcp", body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["data"]["manifest"].clone()
}

/// The path of a server under the TrueFoundry contract.
async fn mcp_path(hawser: &Hawser, name: &str) -> String {
    let found = hawser
        .admin("acme")
        .get(&format!("/api/svc/v1/mcp?name={name}"))
        .await
        .json();
    format!("/api/svc/v1/mcp/{}", id(&found["data"][0]))
}

async fn manifest(hawser: &Hawser, name: &str) -> Value {
    let path = mcp_path(hawser, name).await;
    hawser.admin("acme").get(&path).await.json()["data"]["manifest"].clone()
}

/// The path of a server under the Kambrium contract.
async fn connection_path(hawser: &Hawser, name: &str) -> String {
    let listed = hawser.admin("acme").get("/api/v1/mcp-servers").await.json();
    let found = listed["data"]
        .as_array()
        .unwrap_or_else(|| panic!("no list: {listed}"))
        .iter()
        .find(|one| one.to_string().contains(&format!("\"{name}\"")))
        .unwrap_or_else(|| panic!("not listed: {listed}"));
    format!("/api/v1/mcp-servers/{}", found["id"])
}

async fn find(caller: &Caller, name: &str) -> Value {
    let listed = caller.get(SERVERS).await.json();
    let found = listed.as_array().unwrap().iter();
    found
        .clone()
        .find(|one| one["name"] == name)
        .unwrap_or_else(|| panic!("not listed: {listed}"))
        .clone()
}

fn header_auth(level: &str, headers: Value) -> Value {
    json!({"auth_data": {"type": "header", "auth_level": level, "headers": headers}})
}

#[tokio::test]
async fn servers_of_the_truefoundry_contract_are_shown_in_this_ones_words() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let client_credentials = json!({"auth_data": {
        "type": "oauth2", "grant_type": "client_credentials", "provider": "custom",
        "token_url": "https://as.example/token", "client_id": "c", "client_secret": "s",
    }});
    let authorization_code = json!({"auth_data": {
        "type": "oauth2", "grant_type": "authorization_code", "provider": "custom",
        "authorization_url": "https://as.example/authorize", "token_url": "https://as.example/token",
        "client_id": "c",
    }});
    let mixed = json!({"X-Key": "{{KEY}}", "X-Shared": "s"});
    let nothing = json!(["", "", [], "absent"]);
    for (name, more, shown) in [
        ("none", json!({}), nothing.clone()),
        (
            "passthrough",
            json!({"auth_data": {"type": "passthrough"}}),
            nothing.clone(),
        ),
        ("client-credentials", client_credentials, nothing.clone()),
        (
            "authorization-code",
            authorization_code,
            json!(["oauth", "per_user_dynamic_client", [], null]),
        ),
        (
            "shared",
            header_auth("global", json!({"Authorization": "Bearer a"})),
            json!(["", "", [{"key": "Authorization", "value": "Bearer a"}], "absent"]),
        ),
        (
            "mixed",
            header_auth("per_user", mixed),
            json!(["", "", [{"key": "X-Shared", "value": "s"}], "absent"]),
        ),
        (
            "own-only",
            header_auth("per_user", json!({"X-Key": "{{KEY}}"})),
            nothing,
        ),
    ] {
        put_mcp(&hawser, name, more).await;
        let record = find(&ada, name).await;
        assert_eq!(auth_of(&record), shown, "{name}");
        is(&ada.get(&at(id(&record))).await, record.clone());
        assert_eq!(record["tenant_id"], json!(tenant_uuid("acme")));
        assert_eq!(record["vendor_id"], json!(null));
        assert_eq!(record["external_system_id"], json!(null));

        // What the record shows can be sent back, and a patch of the URL leaves the rest alone.
        let before = manifest(&hawser, name).await;
        is(
            &ada.patch(&at(id(&record)), record.clone()).await,
            record.clone(),
        );
        assert_eq!(manifest(&hawser, name).await, before, "{name}");
        let url = "https://mcp.example.com/other";
        let patched = ada.patch(&at(id(&record)), json!({"url": url})).await;
        assert_eq!(auth_of(&patched.json()), shown, "{name}");
        let mut expected = before;
        expected["url"] = url.into();
        assert_eq!(manifest(&hawser, name).await, expected, "{name}");

        // It goes by either contract.
        is_empty_204(&ada.delete(&at(id(&record))).await);
        let listed = hawser.admin("acme").get("/api/svc/v1/mcp").await.json();
        assert_eq!(listed["data"], json!([]), "{name}");
    }
}

#[tokio::test]
async fn a_patch_replaces_a_siblings_auth_where_it_says_so_and_keeps_its_additional_headers() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let extra = json!({"additional_headers": {"X-Extra": "e"}});
    let header = json!([{"key": "X-New", "value": "n"}]);
    let new = json!({"type": "header", "auth_level": "global", "headers": {"X-New": "<REDACTED>"}});
    let keyed = header_auth("per_user", json!({"X-Key": "{{KEY}}", "X-Shared": "s"}));
    let passthrough = json!({"auth_data": {"type": "passthrough"}});
    for (i, (auth, patch, expected)) in [
        (&passthrough, json!({"headers": header}), new.clone()),
        (&passthrough, json!({"auth_type": "headers"}), Value::Null),
        (&keyed, json!({"headers": header}), new),
        // Both kinds of headers stay where only their type is named.
        (
            &keyed,
            json!({"auth_type": "headers"}),
            json!({"type": "header", "auth_level": "per_user",
                "headers": {"X-Key": "{{KEY}}", "X-Shared": "<REDACTED>"}}),
        ),
        (&keyed, json!({"headers": []}), Value::Null),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("server-{i}");
        let mut more = auth.clone();
        more["additional_headers"] = extra["additional_headers"].clone();
        put_mcp(&hawser, &name, more).await;
        let record = find(&ada, &name).await;
        let answer = ada.patch(&at(id(&record)), patch.clone()).await;
        for (field, value) in patch.as_object().unwrap() {
            assert_eq!(&answer.json()[field], value);
        }
        let now = manifest(&hawser, &name).await;
        assert_eq!(now["auth_data"], expected, "{patch}");
        assert_eq!(now["additional_headers"], json!({"X-Extra": "<REDACTED>"}));
        // The values behind the marks are still there: they can be kept.
        let answer = hawser
            .admin("acme")
            .put("/api/svc/v1/mcp", json!({"manifest": now}))
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        is(&ada.get(&at(id(&record))).await, find(&ada, &name).await);
    }
}

#[tokio::test]
async fn a_server_made_here_can_be_deleted_by_the_sibling_contracts() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let first = create_plain(&admin, "first").await;
    let second = create_plain(&admin, "second").await;
    let path = mcp_path(&hawser, "first").await;
    assert_eq!(admin.delete(&path).await.status, 200);
    is(&admin.get(&at(&first)).await, not_found());
    let path = connection_path(&hawser, "second").await;
    assert_eq!(admin.delete(&path).await.status, 200);
    is(&admin.get(&at(&second)).await, not_found());
    is(&admin.get(SERVERS).await, json!([]));
    is_empty_204(&admin.delete(&at(&first)).await);
    is_empty_204(&admin.delete(&at(&second)).await);
}

// Beside the routes.

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

#[tokio::test]
async fn a_secret_that_its_caller_cannot_read_does_not_move_to_another_host() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let manifest = json!({"type": "mcp-server/remote", "name": "wiki", "description": "d",
        "url": "https://wiki.example/mcp", "additional_headers": {"X-Extra": "unreadable"},
        "auth_data": {"type": "header", "headers": {"X-Key": "readable"}}});
    admin
        .put("/api/svc/v1/mcp", json!({"manifest": manifest}))
        .await;
    let listed = admin.get("/v1/deepagents/mcp-servers").await.json();
    let path = format!(
        "/v1/deepagents/mcp-servers/{}",
        listed[0]["id"].as_str().unwrap()
    );
    let editor = hawser.caller(
        "acme",
        "eve",
        json!({"permissions": ["mcp-servers:update"]}),
    );
    let to = |url: &str| json!({"url": url});
    assert_eq!(
        editor
            .patch(&path, to("https://wiki.example/other"))
            .await
            .status,
        200
    );
    let refused = editor.patch(&path, to("https://evil.example/mcp")).await;
    assert_eq!(
        (refused.status, refused.text.as_str()),
        (403, "missing permission mcp-servers:invoke")
    );
    let manifest = admin.get("/api/svc/v1/mcp").await.json()["data"][0]["manifest"].clone();
    assert_eq!(
        manifest["additional_headers"],
        json!({"X-Extra": "<REDACTED>"})
    );
    let moved = admin
        .patch(&path, to("https://new.example/mcp"))
        .await
        .json();
    assert_eq!(
        moved["headers"],
        json!([{"key": "X-Key", "value": "readable"}])
    );
    let manifest = admin.get("/api/svc/v1/mcp").await.json()["data"][0]["manifest"].clone();
    assert_eq!(
        manifest.get("additional_headers"),
        None,
        "it did not follow"
    );
}

#[tokio::test]
async fn the_api_key_of_a_connection_is_neither_shown_nor_moved() {
    let hawser = Hawser::with_built_in_integrations().await;
    let admin = hawser.admin("acme");
    let new = json!({"mcp_server": "pipedrive", "access_type": "write", "api_key": "k-4711"});
    let number = admin.post("/api/v1/mcp-servers", new).await.json()["data"]["id"].clone();
    let shown = admin.get("/v1/deepagents/mcp-servers").await;
    assert!(!shown.text.contains("k-4711"), "{}", shown.text);
    assert_eq!(shown.json()[0]["headers"], json!([]));
    let path = format!(
        "/v1/deepagents/mcp-servers/{}",
        shown.json()[0]["id"].as_str().unwrap()
    );
    let own = json!([{"key": "X-Own", "value": "v"}]);
    let patched = admin.patch(&path, json!({"headers": own})).await;
    assert_eq!((patched.status, &patched.json()["headers"]), (200, &own));
    let manifest = admin.get("/api/svc/v1/mcp").await.json()["data"][0]["manifest"].clone();
    let both = json!({"X-Own": "<REDACTED>", "Authorization": "<REDACTED>"});
    assert_eq!(
        manifest["auth_data"]["headers"], both,
        "the key stays beside them"
    );
    let changed = admin
        .put(
            &format!("/api/v1/mcp-servers/{number}"),
            json!({"api_key": "k-2"}),
        )
        .await;
    assert_eq!(changed.status, 200);

    assert_eq!(
        admin
            .patch(&path, json!({"url": "https://evil.example/"}))
            .await
            .status,
        200
    );
    let manifest = admin.get("/api/svc/v1/mcp").await.json()["data"][0]["manifest"].clone();
    assert_eq!(
        manifest["auth_data"]["headers"],
        json!({"X-Own": "<REDACTED>"}),
        "the key did not follow"
    );
    let refused = admin
        .put(
            &format!("/api/v1/mcp-servers/{number}"),
            json!({"api_key": "k-3"}),
        )
        .await;
    refused.is(
        400,
        json!({"detail": "api_key cannot be changed on this connection"}),
    );
}

#[tokio::test]
async fn a_header_that_only_has_the_name_of_a_former_key_is_its_authors_own() {
    let hawser = Hawser::with_built_in_integrations().await;
    let admin = hawser.admin("acme");
    let new = json!({"mcp_server": "pipedrive", "access_type": "write", "api_key": "k-1"});
    let number = admin.post("/api/v1/mcp-servers", new).await.json()["data"]["id"].clone();
    let manifest = json!({"type": "mcp-server/remote", "name": format!("pipedrive-{number}"),
        "description": "d", "url": "https://mcp.pipedrive.example/mcp"});
    let dropped = admin
        .put("/api/svc/v1/mcp", json!({"manifest": manifest}))
        .await;
    assert_eq!(dropped.status, 200);
    let listed = admin.get("/v1/deepagents/mcp-servers").await.json();
    let path = format!(
        "/v1/deepagents/mcp-servers/{}",
        listed[0]["id"].as_str().unwrap()
    );
    let own = json!([{"key": "Authorization", "value": "Bearer own"}]);
    let patched = admin.patch(&path, json!({"headers": own})).await;
    assert_eq!((patched.status, &patched.json()["headers"]), (200, &own));
    assert_eq!(admin.get(&path).await.json()["headers"], own);
}
