//! What the SDK and `tfy delete` send: the deletion of the server that a manifest names.

use super::{MCP, is, is_invalid, manifest, per_user, refused, register, unknown_server};
use crate::harness::{Answer, Caller, Hawser};
use serde_json::{Value, json};

const DELETE: &str = "/api/svc/v1/delete";

async fn delete(caller: &Caller, manifest: Value) -> Answer {
    caller.post(DELETE, json!({"manifest": manifest})).await
}

#[tokio::test]
async fn the_server_of_that_name_is_gone_for_good_with_a_receipt() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let id = register(&admin, "wiki", per_user()).await;
    let theirs = register(&hawser.admin("beta"), "wiki", per_user()).await;
    let gone = delete(&admin, manifest("wiki", Value::Null)).await;
    is(&gone, (200, json!({})));
    let receipt = gone.header("hawser-receipt").unwrap();
    let receipt = admin.get(&format!("/v1/receipts/{receipt}")).await;
    assert_eq!(
        receipt.json()["data"]["kind"],
        "delete-server",
        "{receipt:?}"
    );
    is(&admin.get(&format!("{MCP}/{id}")).await, unknown_server());
    is(
        &delete(&admin, manifest("wiki", Value::Null)).await,
        unknown_server(),
    );
    let other = hawser.admin("beta").get(&format!("{MCP}/{theirs}")).await;
    assert_eq!(other.status, 200, "{other:?}");
}

#[tokio::test]
async fn no_more_of_the_manifest_is_read_than_which_server_it_is_of() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    register(&admin, "wiki", per_user()).await;
    let named = json!({"type": "mcp-server/remote", "name": "Not A Name!"});
    is(&delete(&admin, named).await, unknown_server());
    is_invalid(
        &delete(&admin, json!({"type": "mcp-server/remote"})).await,
        &["manifest.name"],
    );
    is_invalid(
        &delete(&admin, json!({"name": "wiki"})).await,
        &["manifest.type"],
    );
    is_invalid(&admin.post(DELETE, json!({})).await, &["manifest"]);
    let stdio = delete(&admin, json!({"type": "mcp-server/stdio", "name": "wiki"})).await;
    assert_eq!(
        (stdio.status, &stdio.json()["code"]),
        (422, &json!("UNSUPPORTED"))
    );
    let member = hawser.caller("acme", "ada", json!({}));
    let wiki = json!({"type": "mcp-server/remote", "name": "wiki", "url": 7});
    let needed = "This call needs the permission DELETE_MCP_SERVER.";
    is(
        &delete(&member, wiki.clone()).await,
        refused(403, "PERMISSION_DENIED", needed),
    );
    let dry_run = format!("{DELETE}?dryRun=true");
    let would = admin.post(&dry_run, json!({"manifest": wiki})).await;
    assert_eq!(would.status, 200, "{would:?}");
    assert_eq!(admin.get(MCP).await.json()["pagination"]["total"], 1);
    is(&delete(&admin, wiki).await, (200, json!({})));
}
