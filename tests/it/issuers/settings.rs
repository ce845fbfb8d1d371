//! What an operator says of an issuer.

use super::{
    ELSEWHERE, RESOURCE, ROOT, SECRET, Scene, assert_revoked, at_another_host, with_a_path,
};
use crate::harness::{Browser, Hawser};
use crate::issuer::Issuer;
use serde_json::json;

#[tokio::test]
async fn an_operator_names_the_issuer_beside_its_endpoints() {
    let scene = Scene::set().await;
    let name = at_another_host(&scene).await;
    scene.protected_by(&[]);
    let auth = scene.configured(json!({"issuer": name.url}));
    let id = scene.register(auth).await;
    scene.connect(&id).await;
    assert_revoked(&scene.disconnect(&id).await);
    scene.assert_dead();

    // Named only after the grant was given.
    let scene = Scene::set().await;
    let name = at_another_host(&scene).await;
    scene.protected_by(&[]);
    scene
        .issuer
        .configure(|settings| settings.wrong_iss = Some(settings_url(&scene)));
    let id = scene.register(scene.configured(json!({}))).await;
    scene.connect(&id).await;
    let named = scene.configured(json!({"issuer": name.url}));
    assert_eq!(scene.register(named).await, id, "which voids nothing");
    assert_revoked(&scene.disconnect(&id).await);
    scene.assert_dead();
}

fn settings_url(scene: &Scene) -> String {
    scene.issuer.url.clone()
}

#[tokio::test]
async fn an_operator_names_the_revocation_endpoint() {
    for late in [false, true] {
        let scene = Scene::set().await;
        scene.publish(ROOT, Some(scene.foreign()));
        scene.protected_by(&[]);
        let named = scene.configured(json!({"revocation_url": scene.at("/revoke")}));
        let first = if late {
            scene.configured(json!({}))
        } else {
            named.clone()
        };
        let id = scene.register(first).await;
        scene.connect(&id).await;
        scene.register(named).await;
        assert_revoked(&scene.disconnect(&id).await);
        scene.assert_dead();
        assert_eq!(scene.shown_elsewhere(), 0);
    }
}

#[tokio::test]
async fn who_edits_a_registration_cannot_have_older_tokens_sent_to_another_host() {
    for field in ["revocation_url", "issuer"] {
        let (scene, hostile) = (Scene::set().await, Issuer::start().await);
        let mut claim = scene.metadata(&hostile.url);
        claim["revocation_endpoint"] = format!("{}{ELSEWHERE}", hostile.url).into();
        hostile.configure(|settings| drop(settings.documents.insert(ROOT.to_owned(), Some(claim))));
        scene.publish(ROOT, None);
        scene.protected_by(&[]);
        let id = scene.register(scene.configured(json!({}))).await;
        scene.connect(&id).await;
        let url = match field {
            "issuer" => hostile.url.clone(),
            _ => format!("{}{ELSEWHERE}", hostile.url),
        };
        let kept = scene.configured(json!({"client_secret": "<REDACTED>", field: url}));
        let refused = scene.put(kept).await;
        let code = refused.json()["code"].clone();
        assert_eq!(
            (refused.status, code),
            (400, json!("REDACTED_VALUE_UNKNOWN")),
            "{field}"
        );
        let id = scene.register(scene.configured(json!({field: url}))).await;
        let receipt = scene.disconnect(&id).await;
        assert_eq!(
            receipt["outcomes"],
            json!({"unsupported": 1}),
            "{field}: {receipt}"
        );
        assert_eq!(hostile.count("POST", ELSEWHERE), 0, "{field}");
        assert_eq!(scene.issuer.live_tokens().len(), 2);
    }
}

#[tokio::test]
async fn discovery_starts_at_the_issuer_that_the_operator_names() {
    for resource in [
        // Another issuer, none, no metadata, metadata of something else.
        Some(json!({"resource": "MCP", "authorization_servers": ["https://other.example"]})),
        Some(json!({"resource": "MCP"})),
        None,
        Some(json!({"resource": "https://other.example/mcp"})),
    ] {
        let scene = Scene::set().await;
        let issuer = with_a_path(&scene);
        let mcp = scene.issuer.mcp_url();
        let document = resource
            .map(|one| serde_json::from_str(&one.to_string().replace("MCP", &mcp)).unwrap());
        scene.publish(RESOURCE, document);
        let auth = json!({"type": "oauth2", "issuer": issuer, "client_id": "operator", "client_secret": SECRET});
        let id = scene.register(auth).await;
        scene.connect(&id).await;
        assert_revoked(&scene.disconnect(&id).await);
        scene.assert_dead();
    }
}

#[tokio::test]
async fn naming_another_issuer_to_discover_voids_what_the_first_one_gave() {
    let scene = Scene::set().await;
    let client = json!({"type": "oauth2", "client_id": "operator", "client_secret": SECRET});
    let id = scene.register(client.clone()).await;
    scene.connect(&id).await;
    let mut named = client;
    named["issuer"] = "https://other.example".into();
    assert_eq!(scene.put(named).await.status, 417);
    assert_revoked(&scene.disconnect(&id).await);
}

#[tokio::test]
async fn an_integration_names_its_issuer_too() {
    let issuer = Issuer::start().await;
    let oauth = json!({"client_id": "operator", "client_secret": SECRET, "scopes": ["mcp:read"],
                       "issuer": format!("{}/oauth2/default", issuer.url)});
    let mail = json!({"display_name": "Mail", "mcp_url": issuer.mcp_url(), "oauth": oauth});
    let hawser = Hawser::with_integrations(&json!({"mail": mail})).await;
    let scene = Scene::of(hawser, issuer);
    with_a_path(&scene);
    scene.publish(RESOURCE, None);
    let ada = scene.hawser.caller(
        "acme",
        "ada",
        json!({"scope": "mgmt.read mgmt.write", "roles": ["admin"]}),
    );
    let body = json!({"mcp_server": "mail", "access_type": "write", "auth_method": "oauth"});
    let made = ada.post("/api/v1/mcp-servers", body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let url = made.json()["data"]["authorization_url"].clone();
    let mut browser = Browser::new();
    let at_issuer = browser.begin(url.as_str().unwrap()).await;
    let back = scene.issuer.approve(&at_issuer).await;
    assert_eq!(browser.open(&back).await.status, 200);
    assert_eq!(scene.issuer.live_tokens().len(), 2);
    assert_eq!(ada.delete("/api/v1/mcp-servers/1").await.status, 200);
    scene.hawser.run_workers().await;
    scene.assert_dead();
    assert_eq!(scene.shown_elsewhere(), 0);
}

#[tokio::test]
async fn a_manifest_shows_what_it_says_of_the_issuer() {
    let scene = Scene::set().await;
    let said = json!({
        "issuer": "https://as.example/tenant", "revocation_url": "https://as.example/revoke",
        "revocation": {"method": "slack"}, "token_endpoint_auth_method": "client_secret_post",
        "revocation_endpoint_auth_method": "none",
        "additional_authorization_params": {"audience": "x", "prompt": "consent"},
    });
    let put = scene.put(scene.configured(said.clone())).await;
    assert_eq!(put.status, 200, "{put:?}");
    let shown = put.json()["data"]["manifest"]["auth_data"].clone();
    for (name, value) in said.as_object().unwrap() {
        assert_eq!(&shown[name], value, "{name}");
    }
    let again = scene.put(scene.configured(said)).await.json();
    assert_eq!(again["data"]["updatedAt"], put.json()["data"]["updatedAt"]);
    let plain = scene.put(scene.configured(json!({}))).await.json();
    let shown = &plain["data"]["manifest"]["auth_data"];
    assert_eq!(shown.get("issuer"), None);
    assert_eq!(shown.get("additional_authorization_params"), None);
}

#[tokio::test]
async fn a_manifest_that_says_odd_things_of_the_issuer_is_refused() {
    let scene = Scene::set().await;
    for (more, status, path) in [
        (json!({"issuer": "ftp://as.example"}), 400, "issuer"),
        (json!({"issuer": "http://as.example"}), 400, "issuer"),
        (json!({"issuer": "https://as.example/?x=1"}), 400, "issuer"),
        (json!({"issuer": 7}), 400, "issuer"),
        (
            json!({"revocation_url": "http://as.example/r"}),
            400,
            "revocation_url",
        ),
        (json!({"revocation": "slack"}), 400, "revocation"),
        (json!({"revocation": {}}), 400, "revocation.method"),
        (
            json!({"revocation": {"method": "fax"}}),
            422,
            "revocation.method",
        ),
        (
            json!({"client_secret": null, "revocation": {"method": "github"}}),
            400,
            "revocation.method",
        ),
        (
            json!({"token_endpoint_auth_method": "private_key_jwt"}),
            422,
            "token_endpoint_auth_method",
        ),
        (
            json!({"token_endpoint_auth_method": 1}),
            400,
            "token_endpoint_auth_method",
        ),
        (
            json!({"client_secret": null, "token_endpoint_auth_method": "client_secret_post"}),
            400,
            "token_endpoint_auth_method",
        ),
        (
            json!({"additional_authorization_params": {"state": "x"}}),
            400,
            "additional_authorization_params.state",
        ),
        (
            json!({"additional_authorization_params": {"request_uri": "x"}}),
            400,
            "additional_authorization_params.request_uri",
        ),
        (
            json!({"additional_authorization_params": {"prompt": 1}}),
            400,
            "additional_authorization_params.prompt",
        ),
        (
            json!({"additional_authorization_params": ["x"]}),
            400,
            "additional_authorization_params",
        ),
    ] {
        let refused = scene.put(scene.configured(more.clone())).await;
        assert_eq!(refused.status, status, "{more}: {refused:?}");
        let faults = refused.json()["details"].clone();
        let at = format!("manifest.auth_data.{path}");
        assert!(
            faults
                .as_array()
                .unwrap()
                .iter()
                .any(|one| one["path"] == at),
            "{more}: {faults}"
        );
    }
}
