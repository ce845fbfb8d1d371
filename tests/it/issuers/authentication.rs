//! Authentication at each endpoint.

use super::{ROOT, SECRET, Scene, assert_revoked};
use serde_json::json;

#[tokio::test]
async fn each_endpoint_is_authenticated_at_as_it_says() {
    const BASIC: &str = "client_secret_basic";
    const POST: &str = "client_secret_post";
    for (token, revocation) in [
        (BASIC, Some(vec![POST])),
        (POST, Some(vec![BASIC])),
        (BASIC, Some(vec!["private_key_jwt", POST])),
        (POST, Some(vec!["none"])),
        (POST, Some(vec![BASIC, POST])),
        (BASIC, None),
    ] {
        for endpoints in [true, false] {
            let scene = Scene::set().await;
            scene.issuer.configure(|settings| {
                settings.client_auth = vec![token];
                settings.revocation_auth.clone_from(&revocation);
            });
            let client =
                json!({"type": "oauth2", "client_id": "operator", "client_secret": SECRET});
            let auth = if endpoints {
                scene.configured(json!({}))
            } else {
                client
            };
            let id = scene.register(auth).await;
            scene.connect(&id).await;
            assert_revoked(&scene.disconnect(&id).await);
            scene.assert_dead();
            // At the first attempt, not by trying about.
            assert_eq!(
                scene.issuer.count("POST", "/revoke"),
                2,
                "{token} {revocation:?}"
            );
        }
    }
}

#[tokio::test]
async fn an_operator_says_how_to_authenticate_where_nobody_else_does() {
    for (token, revocation) in [
        ("client_secret_post", "client_secret_basic"),
        ("client_secret_basic", "client_secret_post"),
        ("client_secret_post", "none"),
    ] {
        let scene = Scene::set().await;
        scene.issuer.configure(|settings| {
            settings.client_auth = vec![token];
            settings.revocation_auth = Some(vec![revocation]);
        });
        scene.publish(ROOT, None);
        scene.protected_by(&[]);
        let auth = scene.configured(json!({
            "token_endpoint_auth_method": token, "revocation_endpoint_auth_method": revocation,
            "revocation_url": scene.at("/revoke"),
        }));
        let id = scene.register(auth).await;
        scene.connect(&id).await;
        assert_eq!(scene.issuer.count("POST", "/token"), 1, "{token}");
        assert_revoked(&scene.disconnect(&id).await);
        scene.assert_dead();
        assert_eq!(scene.issuer.count("POST", "/revoke"), 2, "{revocation}");
    }
}

#[tokio::test]
async fn a_client_that_is_refused_authenticates_in_another_way() {
    let scene = Scene::by_hand().await;
    scene.issuer.configure(|settings| {
        settings.client_auth = vec!["client_secret_basic"];
        settings.revocation_auth = Some(vec!["client_secret_post"]);
    });
    let mut silent = scene.metadata(&scene.issuer.url);
    silent["token_endpoint_auth_methods_supported"] = json!(["client_secret_basic"]);
    scene.publish(ROOT, Some(silent));
    let id = scene.register(scene.configured(json!({}))).await;
    scene.connect(&id).await;
    let receipt = scene.disconnect(&id).await;
    assert_eq!(receipt["state"], "in_progress", "{receipt}");
    scene.hawser.pass(60);
    scene.hawser.run_workers().await;
    let receipt = scene.receipt(receipt["id"].as_str().unwrap()).await;
    assert_revoked(&receipt);
    scene.assert_dead();
}
