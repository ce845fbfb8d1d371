//! What goes into the browser.

use super::{MCP, SECRET, Scene, parameters};
use crate::harness::Browser;
use serde_json::json;

#[tokio::test]
async fn an_operator_adds_parameters_and_leaves_the_resource_out() {
    let scene = Scene::set().await;
    scene
        .issuer
        .configure(|settings| settings.resource_needed = false);
    let params = json!({"audience": "https://api.example", "prompt": "consent", "owner": "user"});
    let auth = scene
        .configured(json!({"additional_authorization_params": params, "include_resource": false}));
    let id = scene.register(auth).await;
    let (_, url) = scene.begin(&id).await;
    let asked = parameters(&url);
    assert_eq!(asked["audience"], "https://api.example");
    assert_eq!(
        (asked["prompt"].as_str(), asked["owner"].as_str()),
        ("consent", "user")
    );
    assert!(!asked.contains_key("resource") && asked.contains_key("code_challenge"));
    scene.connect(&id).await;
    let token = scene
        .issuer
        .log()
        .into_iter()
        .find(|call| call.path == "/token")
        .unwrap();
    assert_eq!(token.field("resource"), None);
}

#[tokio::test]
async fn google_is_asked_for_what_a_refresh_token_takes() {
    let scene = Scene::set().await;
    let google = "https://accounts.google.com/o/oauth2/v2/auth";
    for (more, access_type, prompt) in [
        (json!({}), "offline", "consent"),
        (
            json!({"prompt": "select_account"}),
            "offline",
            "select_account",
        ),
        (json!({"access_type": "online"}), "online", "consent"),
    ] {
        let auth = scene.configured(
            json!({"authorization_url": google, "issuer": scene.issuer.url,
                                           "additional_authorization_params": more}),
        );
        let id = scene.register(auth).await;
        let (_, url) = scene.begin(&id).await;
        let asked = parameters(&url);
        assert_eq!(
            (&*asked["access_type"], &*asked["prompt"]),
            (access_type, prompt)
        );
    }
}

#[tokio::test]
async fn s256_is_taken_as_supported_where_the_operator_says_so() {
    for (said, connects) in [
        (Some(json!(["S256"])), true),
        (None, false),
        (Some(json!([])), false),
    ] {
        let scene = Scene::set().await;
        scene.issuer.configure(|settings| settings.s256 = false);
        let mut auth = json!({"type": "oauth2", "client_id": "operator", "client_secret": SECRET});
        if let Some(said) = said {
            auth["code_challenge_methods_supported"] = said;
        }
        let id = scene.register(auth).await;
        let user = scene.hawser.caller("acme", "ada", json!({}));
        let asked = user.get(&format!("{MCP}/{id}/authorize")).await.json();
        let endpoint = asked["authorization_endpoint"].as_str().unwrap();
        let page = Browser::new().start(endpoint).await;
        let url = page.location.unwrap_or_default();
        assert_eq!(
            url.contains("code_challenge_method=S256"),
            connects,
            "{url}"
        );
    }
}
