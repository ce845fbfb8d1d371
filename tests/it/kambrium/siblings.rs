//! One server under three contracts (Kambrium 9 and 10).

use super::{
    BASE, TRUEFOUNDRY, ada_of_both, assert_nowhere, assert_refused, at, connect, manifest, shown,
    user,
};
use crate::harness::Hawser;
use serde_json::{Value, json};

fn header_auth(name: &str) -> Value {
    json!({"type": "header", "auth_level": "global", "headers": {name: "secret-value"}})
}

#[tokio::test]
async fn a_server_of_a_sibling_contract_is_listed_edited_and_deleted_here() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = ada_of_both(&hawser);
    let made = ada.put(TRUEFOUNDRY, manifest("crm", Value::Null)).await;
    assert_eq!(made.status, 200, "{}", made.text);
    let uuid = made.json()["data"]["id"].as_str().unwrap().to_owned();

    let listed = ada.get(BASE).await.json();
    let one = listed["data"][0].clone();
    assert_eq!(
        one,
        json!({
            "id": 1,
            "mcp_server_name": "crm",
            "api_key_verification_status": "verified",
            "oauth2_client_id": one["oauth2_client_id"],
            "oauth2_scopes": ["mcp.read", "mcp.write"],
            "agent_enabled": true,
            "disabled_tools": [],
            "created_at": one["created_at"],
            "access_type": "write",
            "auth_method": "api_key",
            "oauth_status": null,
        })
    );
    assert!(
        one["oauth2_client_id"]
            .as_str()
            .is_some_and(|id| !id.is_empty())
    );
    let body = json!({"access_type": "individual", "disabled_tools": [3], "agent_enabled": false});
    assert_eq!(ada.put(&at(1), body).await.status, 200);
    assert_eq!(shown(&ada, 1).await["disabled_tools"], json!([3]));

    // An update under its own contract keeps what this one decided.
    let again = ada
        .put(TRUEFOUNDRY, manifest("crm", header_auth("X-Key")))
        .await;
    assert_eq!(again.status, 200, "{}", again.text);
    let now = shown(&ada, 1).await;
    assert_eq!(
        (
            &now["access_type"],
            &now["disabled_tools"],
            &now["agent_enabled"]
        ),
        (&json!("individual"), &json!([3]), &json!(false))
    );

    assert_nowhere(&user(&hawser, "bob").get(&at(1)).await, 1);
    assert_eq!(ada.delete(&at(1)).await.status, 200);
    assert_eq!(ada.get(&format!("{TRUEFOUNDRY}/{uuid}")).await.status, 404);
    // The name is free again, the id is not.
    assert_eq!(
        ada.put(TRUEFOUNDRY, manifest("crm", Value::Null))
            .await
            .status,
        200
    );
    assert_nowhere(&ada.get(&at(1)).await, 1);
    assert_eq!(shown(&ada, 2).await["mcp_server_name"], "crm");
}

#[tokio::test]
async fn a_siblings_oauth_server_waits_for_consent() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = ada_of_both(&hawser);
    let auth = json!({
        "type": "oauth2",
        "grant_type": "authorization_code",
        "authorization_url": "https://login.example/authorize",
        "token_url": "https://login.example/token",
        "client_id": "abc",
        "jwt_source": "access_token",
    });
    let made = ada.put(TRUEFOUNDRY, manifest("mail", auth)).await;
    assert_eq!(made.status, 200, "{}", made.text);
    let data = shown(&ada, 1).await;
    assert_eq!(
        (
            &data["auth_method"],
            &data["oauth_status"],
            &data["api_key_verification_status"]
        ),
        (&json!("oauth"), &json!("pending"), &json!("pending"))
    );
}

#[tokio::test]
async fn an_api_key_can_be_changed_only_where_the_catalogue_put_one() {
    const REFUSED: &str = "api_key cannot be changed on this connection";
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = ada_of_both(&hawser);
    assert_eq!(
        ada.put(TRUEFOUNDRY, manifest("crm", header_auth("Authorization")))
            .await
            .status,
        200
    );
    assert_refused(
        &ada.put(&at(1), json!({"api_key": "new"})).await,
        400,
        REFUSED,
    );
    // After the access type, before the tools.
    let both = json!({"api_key": "new", "disabled_tools": [1]});
    assert_refused(&ada.put(&at(1), both).await, 400, REFUSED);
    let both = json!({"api_key": "new", "access_type": "admin"});
    assert_refused(
        &ada.put(&at(1), both).await,
        400,
        "Invalid access type specified",
    );

    // A sibling contract may take the header away, and bring it back in any case.
    let id = connect(&ada).await;
    let name = format!("pipedrive-{id}");
    for (auth, status) in [
        (header_auth("X-Other"), 400),
        (header_auth("authorization"), 200),
        // A template that each user fills has no place for a key.
        (
            json!({"type": "header", "auth_level": "per_user", "headers": {"Authorization": "Bearer {{KEY}}"}}),
            400,
        ),
        (Value::Null, 400),
    ] {
        let mut same_place = manifest(&name, auth);
        same_place["manifest"]["url"] = json!("https://mcp.pipedrive.example/mcp");
        let changed = ada.put(TRUEFOUNDRY, same_place).await;
        assert_eq!(changed.status, 200, "{}", changed.text);
        let put = ada.put(&at(id), json!({"api_key": "new"})).await;
        assert_eq!(put.status, status, "{}", put.text);
    }
}

#[tokio::test]
async fn a_connection_is_a_server_of_the_sibling_contract() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = ada_of_both(&hawser);
    let id = connect(&ada).await;
    let servers = ada.get(TRUEFOUNDRY).await;
    let server = servers.json()["data"][0].clone();
    assert_eq!(server["manifest"]["name"], format!("pipedrive-{id}"));
    assert_eq!(
        server["manifest"]["url"],
        "https://mcp.pipedrive.example/mcp"
    );
    assert_eq!(server["manifest"]["auth_data"]["auth_level"], "global");
    assert_eq!(
        server["manifest"]["auth_data"]["headers"],
        json!({"Authorization": "<REDACTED>"})
    );
    assert!(!servers.text.contains("k-4711"), "{}", servers.text);

    let path = format!("{TRUEFOUNDRY}/{}", server["id"].as_str().unwrap());
    assert_eq!(ada.delete(&path).await.status, 200);
    assert_nowhere(&ada.get(&at(id)).await, id);
    assert_nowhere(&ada.delete(&at(id)).await, id);
    assert_eq!(ada.get(BASE).await.json()["data"], json!([]));
}
