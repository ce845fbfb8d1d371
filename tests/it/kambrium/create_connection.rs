//! Creating a connection (Kambrium 3).

use super::{
    BASE, TRUEFOUNDRY, acme, ada_of_both, assert_refused, at, connect, connect_with, everything,
    manifest, pipedrive, shown, stored, user,
};
use crate::harness::Hawser;
use hawser_core::domain::event::Action;
use hawser_core::domain::id::{ServerId, hash};
use hawser_core::domain::server::{Place, Server};
use hawser_core::domain::subject::Subject;
use hawser_core::operations::servers;
use hawser_core::table::servers::{Companions, Inserted};
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[tokio::test]
async fn create_answers_the_connection_with_its_client_secret_this_once() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let made = ada.post(BASE, pipedrive()).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let mut body = made.json();
    let credentials = body["data"]
        .as_object_mut()
        .unwrap()
        .shift_remove("oauth2_credentials")
        .unwrap();
    let client_id = body["data"]["oauth2_client_id"].clone();
    let created_at = body["data"]["created_at"].clone();
    let expected = json!({
        "id": 1,
        "mcp_server_name": "Pipedrive",
        "api_key_verification_status": "pending",
        "oauth2_client_id": client_id,
        "oauth2_scopes": ["mcp.read", "mcp.write"],
        "agent_enabled": true,
        "disabled_tools": [],
        "created_at": created_at,
        "access_type": "write",
        "auth_method": "api_key",
        "oauth_status": null,
    });
    assert_eq!(
        body,
        json!({"success": true, "data": expected, "message": "MCP server connection created successfully"})
    );
    assert!(client_id.as_str().is_some_and(|id| !id.is_empty()));
    let created_at = created_at.as_str().unwrap();
    assert_eq!(
        (created_at.len(), &created_at[10..11], &created_at[19..]),
        (20, "T", "Z")
    );
    assert_eq!(credentials.as_object().unwrap().len(), 2);
    assert_eq!(credentials["client_id"], client_id);
    let secret = credentials["client_secret"].as_str().unwrap();
    assert!(secret.len() >= 43, "256 bits take 43 characters: {secret}");

    assert_eq!(shown(&ada, 1).await, expected);
    let updated = ada.put(&at(1), json!({"api_key": "k-4712"})).await;
    let others = [ada.get(&at(1)).await, ada.get(BASE).await, updated];
    for answer in others {
        assert!(
            !answer.text.contains(secret) && !answer.text.contains("oauth2_credentials"),
            "{}",
            answer.text
        );
    }
    assert!(!made.text.contains("k-4711"), "{}", made.text);
}

#[tokio::test]
async fn every_connection_has_a_client_and_a_secret_of_its_own() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let mut seen = BTreeSet::new();
    for id in 1..=3 {
        let made = ada.post(BASE, pipedrive()).await.json();
        assert_eq!(made["data"]["id"], id, "a repeated POST makes another one");
        seen.insert(made["data"]["oauth2_credentials"]["client_id"].to_string());
        seen.insert(made["data"]["oauth2_credentials"]["client_secret"].to_string());
    }
    assert_eq!(seen.len(), 6);
}

#[tokio::test]
async fn create_takes_every_field_and_ignores_the_others() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let body = json!({
        "mcp_server": "search",
        "access_type": "individual",
        "auth_method": "api_key",
        "api_key": "!~",
        "agent_enabled": false,
        "disabled_tools": [9_007_199_254_740_991_u64, 7, 1, 7],
        "id": 99,
        "name": "mine",
        "api_kye": "misspelt",
    });
    let made = ada.post(BASE, body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let data = made.json()["data"].clone();
    assert_eq!(data["id"], 1);
    assert_eq!(data["mcp_server_name"], "Search");
    assert_eq!(data["access_type"], "individual");
    assert_eq!(data["oauth2_scopes"], json!(["mcp.read", "mcp.write"]));
    assert_eq!(data["agent_enabled"], false);
    assert_eq!(
        data["disabled_tools"],
        json!([1, 7, 9_007_199_254_740_991_u64])
    );
    assert!(!made.text.contains("misspelt"), "{}", made.text);
}

#[tokio::test]
async fn a_read_connection_has_the_read_scope_only() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let id = connect_with(&ada, json!({"access_type": "read"})).await;
    assert_eq!(shown(&ada, id).await["oauth2_scopes"], json!(["mcp.read"]));
}

#[tokio::test]
async fn null_counts_as_absent_and_the_last_of_a_repeated_key_counts() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let id = connect_with(
        &ada,
        json!({"auth_method": null, "agent_enabled": null, "disabled_tools": null}),
    )
    .await;
    let data = shown(&ada, id).await;
    assert_eq!(
        (&data["agent_enabled"], &data["disabled_tools"]),
        (&json!(true), &json!([]))
    );

    let twice = br#"{"mcp_server":5,"mcp_server":"search","access_type":"read","api_key":"","api_key":"k"}"#;
    let made = ada.send("POST", BASE, &[], twice.to_vec()).await;
    assert_eq!(
        (made.status, &made.json()["data"]["mcp_server_name"]),
        (201, &json!("Search"))
    );

    let gone = br#"{"mcp_server":"search","access_type":"read","api_key":"k","api_key":null}"#;
    let refused = ada.send("POST", BASE, &[], gone.to_vec()).await;
    assert_eq!(
        refused.json()["detail"][0]["msg"],
        "Field required when auth_method is api_key"
    );
}

#[tokio::test]
async fn create_refuses_in_the_order_of_the_table_and_leaves_nothing_behind() {
    const UNKNOWN: &str = "Invalid MCP server or access type specified";
    const METHOD: &str = "Authentication method not supported by this integration";
    const TOOLS: &str = "disabled_tools requires access type individual";
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let rows = [
        (json!({"mcp_server": "nowhere"}), UNKNOWN),
        (json!({"mcp_server": "archive"}), UNKNOWN),
        (json!({"mcp_server": "Pipedrive"}), UNKNOWN),
        (json!({"mcp_server": ""}), UNKNOWN),
        (json!({"access_type": "admin"}), UNKNOWN),
        (json!({"access_type": "Write"}), UNKNOWN),
        (
            json!({"access_type": "admin", "auth_method": "oauth", "api_key": null}),
            UNKNOWN,
        ),
        (
            json!({"mcp_server": "nowhere", "disabled_tools": [1]}),
            UNKNOWN,
        ),
        (json!({"auth_method": "oauth", "api_key": null}), METHOD),
        (
            json!({"auth_method": "oauth", "api_key": null, "disabled_tools": [1]}),
            METHOD,
        ),
        (json!({"disabled_tools": [1]}), TOOLS),
        (json!({"access_type": "read", "disabled_tools": [1]}), TOOLS),
    ];
    for (fields, detail) in rows {
        let mut body = pipedrive();
        for (name, value) in fields.as_object().unwrap() {
            body[name] = value.clone();
        }
        assert_refused(&ada.post(BASE, body).await, 400, detail);
    }
    assert_eq!(ada.get(BASE).await.json()["data"], json!([]));
}

#[tokio::test]
async fn a_taken_name_gets_a_number_appended() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = ada_of_both(&hawser);
    // The next connection will have the id 3.
    for name in ["pipedrive-3", "pipedrive-3-2"] {
        let made = ada.put(TRUEFOUNDRY, manifest(name, Value::Null)).await;
        assert_eq!(made.status, 200, "{}", made.text);
    }
    assert_eq!(connect(&ada).await, 3);
    let path = format!("{TRUEFOUNDRY}?name=pipedrive-3-3");
    let found = ada.get(&path).await.json();
    assert_eq!(found["data"].as_array().unwrap().len(), 1, "{found}");
}

#[tokio::test]
async fn the_api_key_is_stored_in_its_header_and_sealed() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let made = ada.post(BASE, pipedrive()).await.json();
    let header = async |name| {
        let server = stored(&hawser).await;
        let secrets = servers::open(&hawser.app, &acme(), &server).await.unwrap();
        secrets.get(Place::Header(name)).map(str::to_owned)
    };
    assert_eq!(
        header("Authorization").await.as_deref(),
        Some("Bearer k-4711")
    );
    assert_eq!(
        ada.put(&at(1), json!({"api_key": "k-4712"})).await.status,
        200
    );
    assert_eq!(
        header("Authorization").await.as_deref(),
        Some("Bearer k-4712")
    );
    assert_eq!(
        ada.put(&at(1), json!({"agent_enabled": false}))
            .await
            .status,
        200
    );
    assert_eq!(
        header("Authorization").await.as_deref(),
        Some("Bearer k-4712")
    );

    let secret = &made["data"]["oauth2_credentials"]["client_secret"];
    let secret = secret.as_str().unwrap();
    assert_eq!(
        stored(&hawser).await.connection.client_secret_hash,
        Some(hash(secret))
    );
    let everything = everything(&hawser).await;
    assert!(everything.contains(&hash(secret)));
    for plain in ["k-4711", "k-4712", secret] {
        assert!(!everything.contains(plain), "{plain} is in the store");
    }
}

#[tokio::test]
async fn an_owner_has_a_thousand_connections_at_most() {
    let hawser = Hawser::with_built_in_integrations().await;
    let (ada, bob) = (user(&hawser, "ada"), user(&hawser, "bob"));
    connect(&ada).await;
    let model = stored(&hawser).await;
    let insert = async |server: &mut Server| {
        server.number = hawser.app.table.next_number(&acme()).await.unwrap();
        server.id = ServerId::new(hawser.app.now()).unwrap();
        server.name = format!("pipedrive-{}", server.number);
        let created = [hawser.event(&acme(), Action::ServerCreated)];
        let inserted = hawser
            .app
            .table
            .insert_server(&acme(), server, &Companions::default(), &created)
            .await
            .unwrap();
        assert_eq!(inserted, Inserted::Done);
    };
    for _ in 1..999 {
        insert(&mut model.clone()).await;
    }
    let mut of_bob = model.clone();
    of_bob.created_by.subject = Subject::parse("user:bob").unwrap();
    insert(&mut of_bob).await;

    let last = connect(&ada).await;
    let refused = ada.post(BASE, pipedrive()).await;
    assert_refused(&refused, 400, "Connection limit reached");
    // The reasons before it in the table come first.
    let unknown = json!({"mcp_server": "nowhere", "access_type": "read", "api_key": "k"});
    assert_refused(
        &ada.post(BASE, unknown).await,
        400,
        "Invalid MCP server or access type specified",
    );
    assert_eq!(
        ada.get(BASE).await.json()["message"],
        "Found 1000 MCP server connections"
    );
    connect(&bob).await;
    assert_eq!(ada.delete(&at(last)).await.status, 200);
    connect(&ada).await;
}
