//! Listing one's connections (Kambrium 4).

use super::{BASE, acme, connect, scoped, shown, stored, user};
use crate::harness::Hawser;
use hawser_core::domain::event::Action;
use hawser_core::domain::id::ServerId;
use hawser_core::table::servers::{Companions, Inserted};
use serde_json::json;

#[tokio::test]
async fn list_shows_the_callers_own_connections_by_id() {
    let hawser = Hawser::with_built_in_integrations().await;
    let (ada, bob) = (user(&hawser, "ada"), user(&hawser, "bob"));
    let empty = ada.get(BASE).await;
    assert_eq!(
        (empty.status, empty.json()),
        (
            200,
            json!({"success": true, "data": [], "message": "Found 0 MCP server connections"})
        )
    );
    let mut own = Vec::new();
    for _ in 0..3 {
        own.push(connect(&ada).await);
        connect(&bob).await;
    }
    let listed = ada.get(BASE).await.json();
    assert_eq!(listed["message"], "Found 3 MCP server connections");
    let mut expected = Vec::new();
    for id in own {
        expected.push(shown(&ada, id).await);
    }
    assert_eq!(listed["data"], json!(expected));
    assert_eq!(
        listed["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["id"].clone())
            .collect::<Vec<_>>(),
        [1, 3, 5]
    );

    let admin = scoped(&hawser, "root", "mgmt.admin");
    assert_eq!(admin.get(BASE).await.json(), empty.json());
}

#[tokio::test]
async fn list_is_ordered_by_id_and_not_by_age() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    connect(&ada).await;
    // Of two made at once, the later number may have the earlier time.
    let mut second = stored(&hawser).await;
    second.number = hawser.app.table.next_number(&acme()).await.unwrap();
    second.created_at = second.created_at.plus_seconds(-60);
    second.id = ServerId::new(second.created_at).unwrap();
    second.name = "older".to_owned();
    let created = [hawser.event(&acme(), Action::ServerCreated)];
    let inserted = hawser
        .app
        .table
        .insert_server(&acme(), &second, &Companions::default(), &created)
        .await;
    assert_eq!(inserted.unwrap(), Inserted::Done);
    let listed = ada.get(BASE).await.json();
    assert_eq!(
        (&listed["data"][0]["id"], &listed["data"][1]["id"]),
        (&json!(1), &json!(2))
    );
}
