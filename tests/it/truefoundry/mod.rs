//! The TrueFoundry contract through HTTP, endpoint by endpoint.

mod apply_manifest;
mod command_line;
mod consent;
mod delete_manifest;
mod delete_server;
mod disconnect_subject;
mod get_auth_status;
mod get_server;
mod list_overrides;
mod list_servers;
mod manifest;
mod override_schema;
mod permissions;
mod put_override;
mod put_server;
mod requests;
mod secret_references;

use crate::harness::{Answer, Caller, Hawser};
use hawser_core::domain::credential::Grant;
use serde_json::{Value, json};

const MCP: &str = "/api/svc/v1/mcp";
const UNKNOWN: &str = "mcp-01KF0FV2HRF8BR7TAB0BC6YCDE";

fn manifest(name: &str, auth: Value) -> Value {
    let mut manifest = json!({
        "type": "mcp-server/remote", "name": name, "description": "Team wiki", "url": "https://wiki.example/mcp",
    });
    if !auth.is_null() {
        manifest["auth_data"] = auth;
    }
    manifest
}

fn per_user() -> Value {
    json!({"type": "header", "headers": {"Authorization": "Bearer {{API_KEY}}"}, "auth_level": "per_user"})
}

fn global() -> Value {
    json!({"type": "header", "headers": {"X-Key": "shared-s3cret"}})
}

fn oauth() -> Value {
    json!({"type": "oauth2"})
}

fn client_credentials() -> Value {
    json!({"type": "oauth2", "grant_type": "client_credentials", "token_url": "https://as.example/token",
           "client_id": "c-1", "client_secret": "cc-s3cret"})
}

async fn register(admin: &Caller, name: &str, auth: Value) -> String {
    let answer = admin
        .put(MCP, json!({"manifest": manifest(name, auth)}))
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["data"]["id"].as_str().unwrap().to_owned()
}

async fn install(caller: &Caller, id: &str, subject: &str, value: &str) -> Answer {
    let own = json!({"type": "header", "headerValue": value});
    let body = json!({"subjectId": subject, "subjectType": "user", "authOverride": own});
    caller.put(&format!("{MCP}/{id}/auth"), body).await
}

async fn status(caller: &Caller, id: &str, subject: &str) -> Answer {
    caller
        .get(&format!(
            "{MCP}/{id}/auth/status?subjectId={subject}&subjectType=user"
        ))
        .await
}

async fn disconnect(caller: &Caller, id: &str, subject: &str, source: &str) -> Answer {
    let body = json!({"authSource": source, "subjectId": subject, "subjectType": "user"});
    caller.delete_with(&format!("{MCP}/{id}/auth"), body).await
}

fn refused(status: u16, code: &str, message: &str) -> (u16, Value) {
    (
        status,
        json!({"statusCode": status, "message": message, "code": code}),
    )
}

fn unknown_server() -> (u16, Value) {
    refused(404, "MCP_SERVER_NOT_FOUND", "There is no such MCP server.")
}

fn no_record() -> (u16, Value) {
    refused(
        404,
        "AUTH_RECORD_NOT_FOUND",
        "This subject has no such auth record.",
    )
}

fn not_manager() -> (u16, Value) {
    refused(
        403,
        "NOT_MCP_MANAGER",
        "Acting for another subject needs MANAGE_MCP_SERVER on this MCP server.",
    )
}

#[track_caller]
fn is(answer: &Answer, expected: (u16, Value)) {
    assert_eq!((answer.status, answer.json()), expected);
    assert_eq!(
        answer.header("content-type").as_deref(),
        Some("application/json")
    );
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
}

/// A 400 that names these paths as faulty.
#[track_caller]
fn is_invalid(answer: &Answer, paths: &[&str]) {
    let body = answer.json();
    assert_eq!(
        (answer.status, &body["code"]),
        (400, &json!("INVALID_REQUEST")),
        "{body}"
    );
    let named: Vec<_> = body["details"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|d| d["path"].as_str().unwrap())
        .collect();
    assert_eq!(named, paths);
}

async fn grant(hawser: &Hawser, id: &str, change: impl FnOnce(&mut Grant)) {
    hawser.give_grant(id, "ada", change).await;
}
