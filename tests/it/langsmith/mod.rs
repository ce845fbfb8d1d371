//! The LangSmith contract through HTTP, endpoint by endpoint.

mod consent;
mod create_server;
mod delete_server;
mod get_server;
mod list_servers;
mod list_tools;
mod permissions;
mod requests;
mod siblings;
mod tool_gateway;
mod update_server;
mod validation;

use crate::harness::{Answer, Caller, Cut, Hawser};
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

fn cut_is_after_the_last(cut: Cut, requests: usize) -> bool {
    matches!(cut, Cut::After(at_request) if at_request + 1 == requests)
}

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
