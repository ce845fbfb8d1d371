//! Deleting a connection (Kambrium 7).

use super::{BASE, assert_nowhere, at, connect, shown, user};
use crate::harness::Hawser;
use serde_json::json;

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
