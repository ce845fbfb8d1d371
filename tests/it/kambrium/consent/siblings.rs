//! What the sibling contracts see of a connection by consent, and what they change.

use super::{BASE, Scene, assert_bad_state, at, know_operator, pending, pre_registered};
use crate::harness::Sent;
use hawser_core::domain::credential::Grant;
use serde_json::json;

#[tokio::test]
async fn sibling_contracts_see_the_same_connection() {
    let scene = Scene::with(|issuer| pre_registered(issuer, false)).await;
    know_operator(&scene);
    let id = scene.connect().await;
    let mcp = scene.mcp().await;
    let path = format!("/api/svc/v1/mcp/{mcp}");
    let server = scene.ada.get(&path).await.json()["data"].clone();
    let manifest = &server["manifest"];
    assert_eq!(manifest["name"], format!("mail-{id}"));
    assert_eq!(manifest["url"], scene.issuer.mcp_url());
    assert_eq!(manifest["auth_data"]["type"], "oauth2");
    assert_eq!(manifest["auth_data"]["client_id"], "operator");
    assert_eq!(manifest["auth_data"]["scopes"], json!(["mcp:read"]));
    let status = format!("{path}/auth/status?subjectId=ada&subjectType=user");
    let status = scene.ada.get(&status).await;
    assert_eq!(
        status.json(),
        json!({"status": "authenticated", "method": "oauth"})
    );
    let listed = scene.ada.get("/v1/deepagents/mcp-servers").await.json();
    assert_eq!(listed[0]["name"], format!("mail-{id}"));
    assert_eq!(listed[0]["auth_type"], "oauth");

    let body = json!({"authSource": "oauth", "subjectId": "ada", "subjectType": "user"});
    let gone = scene.ada.delete_with(&format!("{path}/auth"), body).await;
    assert_eq!(gone.status, 200, "{}", gone.text);
    assert_eq!(scene.states(id).await, pending());
    scene.hawser.run_workers().await;
    assert_eq!(scene.issuer.live_tokens(), [""; 0]);
}

#[tokio::test]
async fn a_disconnect_voids_a_consent_that_is_under_way() {
    let scene = Scene::discovered().await;
    let (id, url) = scene.create().await;
    let back = scene.issuer.approve(&url).await;
    let gone = scene.ada.delete("/v1/subjects/user/ada/credentials").await;
    assert_eq!(gone.status, 200, "{}", gone.text);
    assert_bad_state(&scene.visit(&back).await);
    assert_eq!(scene.states(id).await, pending());
    assert_eq!(scene.issuer.live_tokens(), [""; 0]);
}

#[tokio::test]
async fn a_siblings_oauth_server_shows_its_owners_consent() {
    let scene = Scene::discovered().await;
    let oauth = json!({"type": "oauth2", "grant_type": "authorization_code", "jwt_source": "access_token",
                       "authorization_url": "https://as.example/a", "token_url": "https://as.example/t", "client_id": "c"});
    let manifest = json!({"type": "mcp-server/remote", "name": "wiki", "description": "d", "url": "https://x.example/",
                          "auth_data": oauth});
    let made = scene
        .ada
        .put("/api/svc/v1/mcp", json!({"manifest": manifest}))
        .await;
    assert_eq!(made.status, 200, "{}", made.text);
    let mcp = scene.mcp().await;
    scene.hawser.give_grant(&mcp, "bob", |_| {}).await;
    assert_eq!(scene.states(1).await, pending(), "the owner's counts");
    scene.hawser.give_grant(&mcp, "ada", |_| {}).await;
    assert_eq!(scene.states(1).await, ("active".into(), "verified".into()));
    // What she has set for herself says nothing of her consent.
    assert_eq!(scene.ada.install(&mcp, "user", "ada").await.status, 200);
    assert_eq!(scene.states(1).await, ("active".into(), "verified".into()));
    let expired = |grant: &mut Grant| {
        grant.version = "v2".to_owned();
        grant.refreshable = false;
        grant.expires_at = Some(grant.obtained_at);
    };
    scene.hawser.give_grant(&mcp, "ada", expired).await;
    assert_eq!(scene.states(1).await, pending());
}

#[tokio::test]
async fn a_list_reads_the_consents_of_its_own_oauth_connections_in_batches() {
    let scene = Scene::with(|issuer| pre_registered(issuer, true)).await;
    for _ in 0..34 {
        scene.create().await;
    }
    scene.hawser.wire.arm(None);
    let listed = scene.ada.get(BASE).await;
    assert_eq!(listed.json()["data"].as_array().unwrap().len(), 34);
    assert_eq!(
        scene.hawser.wire.operations(),
        ["Query", "BatchGetItem", "BatchGetItem"]
    );
    let asked = |sent: &Sent| {
        let keys = &sent.body["RequestItems"]["hawser"]["Keys"];
        keys.as_array().map(Vec::len)
    };
    let keys: Vec<_> = scene.hawser.wire.sent().iter().filter_map(asked).collect();
    assert_eq!(keys, [99, 3]);
    scene.hawser.wire.arm(None);
    scene.ada.get(&at(7)).await;
    assert_eq!(
        scene.hawser.wire.operations(),
        ["BatchGetItem", "BatchGetItem"]
    );
    let others = scene
        .hawser
        .caller("acme", "bob", json!({"scope": "mgmt.read"}));
    scene.hawser.wire.arm(None);
    assert_eq!(others.get(BASE).await.json()["data"], json!([]));
    assert_eq!(scene.hawser.wire.operations(), ["Query"]);
}
