//! Deleting a server.

use super::{MCP, disconnect, install, is, per_user, register, status, unknown_server};
use crate::harness::Hawser;
use serde_json::json;

#[tokio::test]
async fn deletion_is_final_for_every_read_path() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let id = register(&admin, "wiki", per_user()).await;
    install(&admin, &id, "ada", "k").await;
    is(
        &admin.delete(&format!("{MCP}/{id}")).await,
        (200, json!({})),
    );
    is(
        &admin.delete(&format!("{MCP}/{id}")).await,
        unknown_server(),
    );
    is(&admin.get(&format!("{MCP}/{id}")).await, unknown_server());
    is(&status(&admin, &id, "ada").await, unknown_server());
    is(
        &disconnect(&admin, &id, "ada", "auth-override").await,
        unknown_server(),
    );
    is(&install(&admin, &id, "ada", "k").await, unknown_server());
    is(
        &admin.get(&format!("{MCP}/{id}/auth")).await,
        unknown_server(),
    );
    assert_eq!(admin.get(MCP).await.json()["pagination"]["total"], 0);
    let next = register(&admin, "wiki", per_user()).await;
    assert_ne!(next, id, "the name is free again, the id is not");
    let never =
        json!({"status": "authentication_required", "method": null, "reason": "never_connected"});
    status(&admin, &next, "ada").await.is(200, never);
}
