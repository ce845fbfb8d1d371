//! Reading a server.

use super::{MCP, manifest, per_user};
use crate::harness::Hawser;
use hawser_core::domain::id::ServerId;
use serde_json::json;

#[tokio::test]
async fn a_registered_server_is_shown_with_all_its_fields() {
    let hawser = Hawser::start().await;
    let admin = hawser.caller(
        "acme",
        "u-1",
        json!({"roles": ["admin"], "email": "ada@acme.example", "name": "Ada"}),
    );
    let answer = admin
        .put(MCP, json!({"manifest": manifest("wiki", per_user())}))
        .await;
    let mut data = answer.json()["data"].clone();
    let id = data["id"].as_str().unwrap().to_owned();
    assert!(ServerId::parse_prefixed(&id).is_some_and(|parsed| parsed.prefixed() == id));
    let created = data["createdAt"].as_str().unwrap().to_owned();
    assert!(
        created.ends_with('Z') && created.len() == 24 && created == data["updatedAt"],
        "{data}"
    );
    for name in ["id", "createdAt", "updatedAt"] {
        data.as_object_mut().unwrap().remove(name);
    }
    assert_eq!(
        data,
        json!({"fqn": "acme:mcp-server:wiki", "tenantName": "acme", "accountId": "acme",
               "manifest": {"type": "mcp-server/remote", "name": "wiki", "description": "Team wiki",
                            "url": "https://wiki.example/mcp", "collaborators": [], "auth_data": per_user()},
               "createdBySubject": {"subjectId": "u-1", "subjectType": "user", "subjectSlug": "ada@acme.example",
                                    "subjectDisplayName": "Ada"},
               "proxyUrl": format!("{}/mcp/v1/wiki/mcp", hawser.url),
               "isAuthOverrideSupported": true})
    );
    admin
        .get(&format!("{MCP}/{id}"))
        .await
        .is(200, answer.json());
    admin
        .get(&format!("{MCP}/{}", id.to_lowercase()))
        .await
        .is(200, answer.json());
    let page = json!({"data": [answer.json()["data"]], "pagination": {"total": 1, "offset": 0, "limit": 100}});
    admin.get(MCP).await.is(200, page);
}
