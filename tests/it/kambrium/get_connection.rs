//! Reading a connection (Kambrium 5).

use super::{BASE, assert_nowhere, at, connect, make, pipedrive, shown, user};
use crate::harness::Hawser;
use serde_json::json;
use std::collections::BTreeSet;

#[tokio::test]
async fn get_answers_the_connection_in_the_envelope() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let made = ada.post(BASE, pipedrive()).await.json();
    let mut data = made["data"].clone();
    data.as_object_mut()
        .unwrap()
        .shift_remove("oauth2_credentials");
    let got = ada.get(&at(1)).await;
    assert_eq!(
        (got.status, got.json()),
        (
            200,
            json!({"success": true, "data": data, "message": "MCP server details retrieved successfully"})
        )
    );
}

#[tokio::test]
async fn unknown_deleted_foreign_and_other_tenants_connections_answer_alike() {
    let hawser = Hawser::with_built_in_integrations().await;
    let (ada, bob) = (user(&hawser, "ada"), user(&hawser, "bob"));
    let (foreign, deleted, unknown) = (connect(&ada).await, connect(&bob).await, 9);
    assert_eq!(bob.delete(&at(deleted)).await.status, 200);
    let outsider = hawser.caller("other", "ada", json!({"scope": "mgmt.admin"}));
    // The same name as another kind of subject is someone else.
    let machine = json!({"scope": "mgmt.read mgmt.write", "subjectType": "virtualaccount"});
    let machine = hawser.caller("acme", "ada", machine);
    for method in ["GET", "PUT", "DELETE"] {
        let mut headers = BTreeSet::new();
        for (caller, id) in [
            (&bob, foreign),
            (&bob, deleted),
            (&bob, unknown),
            (&outsider, foreign),
            (&machine, foreign),
        ] {
            let answer = make(caller, method, &at(id), &json!({})).await;
            assert_nowhere(&answer, id);
            headers.insert(
                ["content-type", "cache-control", "www-authenticate"].map(|h| answer.header(h)),
            );
        }
        assert_eq!(headers.len(), 1);
    }
    assert_eq!(shown(&ada, foreign).await["id"], foreign);
}

#[tokio::test]
async fn the_same_lookups_are_made_for_unknown_deleted_and_foreign_connections() {
    let hawser = Hawser::with_built_in_integrations().await;
    let (ada, bob) = (user(&hawser, "ada"), user(&hawser, "bob"));
    let (foreign, deleted) = (connect(&ada).await, connect(&bob).await);
    assert_eq!(bob.delete(&at(deleted)).await.status, 200);
    for method in ["GET", "PUT", "DELETE"] {
        for id in [foreign, deleted, 9] {
            hawser.wire.arm(None);
            assert_nowhere(&make(&bob, method, &at(id), &json!({})).await, id);
            assert_eq!(hawser.wire.operations(), ["BatchGetItem"]);
        }
    }
}
