//! The Kambrium contract through HTTP, endpoint by endpoint.

mod consent;
mod create_connection;
mod delete_connection;
mod get_connection;
mod list_connections;
mod list_integrations;
mod permissions;
mod requests;
mod siblings;
mod update_connection;
mod validation;

use crate::harness::{Answer, Caller, Hawser};
use aws_sdk_dynamodb::types::AttributeValue;
use hawser_core::domain::id::TenantId;
use hawser_core::domain::server::Server;
use serde_json::{Value, json};

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
