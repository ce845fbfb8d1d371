//! Whose the token endpoint is.

use super::{ELSEWHERE, MCP, ROOT, SECRET, Scene, assert_revoked, at_another_host, with_a_path};
use crate::harness::Browser;
use crate::issuer::{FOREIGN, Fault, Issuer};
use serde_json::json;

/// An issuer whose name ends in a slash, as Auth0's do.
fn with_a_slash(scene: &Scene) {
    let issuer = scene.at("/");
    scene.publish(ROOT, Some(scene.metadata(&issuer)));
    scene
        .issuer
        .configure(|settings| settings.wrong_iss = Some(issuer));
}

#[tokio::test]
async fn configured_endpoints_are_revoked_at_their_own_issuer() {
    for kind in 0..3 {
        let scene = Scene::set().await;
        let _other = match kind {
            0 => {
                with_a_path(&scene);
                None
            }
            1 => {
                with_a_slash(&scene);
                None
            }
            _ => Some(at_another_host(&scene).await),
        };
        let id = scene.register(scene.configured(json!({}))).await;
        scene.connect(&id).await;
        assert_eq!(scene.issuer.live_tokens().len(), 2);
        let receipt = scene.disconnect(&id).await;
        assert_revoked(&receipt);
        scene.assert_dead();
        assert_eq!(scene.shown_elsewhere(), 0, "{kind}");
    }
}

#[tokio::test]
async fn what_cannot_be_known_is_unsupported_and_the_receipt_says_why() {
    // Nobody says whose the endpoints are, and somebody else is at their host.
    let scene = Scene::set().await;
    scene.publish(ROOT, Some(scene.foreign()));
    scene.protected_by(&[]);
    let id = scene.register(scene.configured(json!({}))).await;
    scene.connect(&id).await;
    let receipt = scene.disconnect(&id).await;
    scene.assert_unsupported(&receipt, "issuerUnknown");

    // The issuer is known, and has no revocation endpoint.
    let scene = Scene::set().await;
    scene
        .issuer
        .configure(|settings| settings.revocation = false);
    let id = scene.register(scene.configured(json!({}))).await;
    scene.connect(&id).await;
    let receipt = scene.disconnect(&id).await;
    scene.assert_unsupported(&receipt, "noEndpoint");
}

#[tokio::test]
async fn a_server_does_not_choose_who_else_sees_the_operators_secret() {
    // The server names an issuer of its own, which claims the operator's token endpoint.
    let (scene, hostile) = (Scene::set().await, Issuer::start().await);
    let mut claim = scene.metadata(&hostile.url);
    claim["revocation_endpoint"] = format!("{}{ELSEWHERE}", hostile.url).into();
    hostile.configure(|settings| drop(settings.documents.insert(ROOT.to_owned(), Some(claim))));
    scene.publish(ROOT, Some(scene.foreign()));
    scene.protected_by(&[&hostile.url]);
    let id = scene.register(scene.configured(json!({}))).await;
    scene.connect(&id).await;
    let receipt = scene.disconnect(&id).await;
    scene.assert_unsupported(&receipt, "endpointElsewhere");
    // Where the operator has configured the token endpoint alone, no consent begins.
    let mut auth = scene.configured(json!({}));
    auth.as_object_mut().unwrap().remove("authorization_url");
    scene.register(auth).await;
    let user = scene.hawser.caller("acme", "ada", json!({}));
    let asked = user.get(&format!("{MCP}/{id}/authorize")).await;
    let endpoint = asked.json()["authorization_endpoint"].clone();
    let page = Browser::new().start(endpoint.as_str().unwrap()).await;
    assert_eq!(page.status, 502, "{page:?}");
    assert_eq!(hostile.count("POST", ELSEWHERE), 0);
    let log = format!("{:?}", hostile.log());
    assert!(!log.contains(SECRET), "nor does it see the client's secret");
}

#[tokio::test]
async fn a_kind_of_token_that_is_not_revoked_says_so() {
    let scene = Scene::set().await;
    scene.issuer.configure(|settings| {
        let body = r#"{"error":"unsupported_token_type"}"#.to_owned();
        settings.access_revocation_error = Some((400, body));
    });
    let id = scene.register(scene.configured(json!({}))).await;
    scene.connect(&id).await;
    let receipt = scene.disconnect(&id).await;
    let presented = receipt["presented"].as_array().unwrap();
    assert_eq!(presented[0].get("reason"), None, "{receipt}");
    assert_eq!(presented[1]["outcome"], "unsupported");
    assert_eq!(presented[1]["reason"], "tokenKind");
}

/// Grants from before carry the origin of their token endpoint for an issuer, and no revocation endpoint.
async fn with_a_guessed_issuer() -> (Scene, String) {
    let scene = Scene::set().await;
    scene
        .issuer
        .configure(|settings| settings.revocation = false);
    let id = scene.register(scene.configured(json!({}))).await;
    scene.connect(&id).await;
    scene
        .issuer
        .configure(|settings| settings.revocation = true);
    (scene, id)
}

#[tokio::test]
async fn a_guess_that_a_grant_carries_is_not_believed() {
    let (scene, id) = with_a_guessed_issuer().await;
    scene.publish(ROOT, Some(scene.foreign()));
    scene.protected_by(&[]);
    let receipt = scene.disconnect(&id).await;
    scene.assert_unsupported(&receipt, "issuerUnknown");

    let (scene, id) = with_a_guessed_issuer().await;
    with_a_path(&scene);
    assert_revoked(&scene.disconnect(&id).await);
    scene.assert_dead();
    assert_eq!(scene.shown_elsewhere(), 0);

    let (scene, id) = with_a_guessed_issuer().await;
    let _name = at_another_host(&scene).await;
    let deleted = scene.admin.delete(&format!("{MCP}/{id}")).await;
    assert_eq!(deleted.status, 200);
    scene.hawser.run_workers().await;
    scene.assert_dead();
    assert_eq!(scene.shown_elsewhere(), 0, "also when the server is gone");

    let (scene, id) = with_a_guessed_issuer().await;
    assert_revoked(&scene.disconnect(&id).await);
    scene.assert_dead();
}

#[tokio::test]
async fn an_issuer_is_looked_for_until_it_answers() {
    let scene = Scene::by_hand().await;
    let issuer = with_a_path(&scene);
    scene
        .issuer
        .fault(Fault::answering("openid-configuration", 503));
    let id = scene.register(scene.configured(json!({}))).await;
    scene.connect(&id).await;
    let receipt = scene.disconnect(&id).await;
    assert_eq!(receipt["state"], "in_progress", "{receipt}");
    assert_eq!(receipt.get("outcomes"), None, "{receipt}");
    scene.issuer.clear_faults();
    scene.hawser.pass(3600);
    scene.hawser.run_workers().await;
    let receipt = scene.receipt(receipt["id"].as_str().unwrap()).await;
    assert_revoked(&receipt);
    scene.assert_dead();
    assert_eq!(scene.issuer.count("POST", ELSEWHERE), 0, "{issuer}");
}

#[tokio::test]
async fn an_answer_in_another_issuers_name_is_refused_also_where_nobody_is_named() {
    for (iss, is_taken) in [
        ("BASE/oauth2/default", true),
        ("BASE", true),
        ("https://other.example", false),
        ("", false),
    ] {
        let scene = Scene::set().await;
        scene.publish(ROOT, None);
        scene.protected_by(&[]);
        let iss = iss.replace("BASE", &scene.issuer.url);
        scene
            .issuer
            .configure(|settings| settings.wrong_iss = Some(iss.clone()));
        let id = scene.register(scene.configured(json!({}))).await;
        let (mut browser, url) = scene.begin(&id).await;
        let back = scene.issuer.approve_as(&url, "ada").await;
        let page = browser.open(&back).await;
        let connected = page.text.contains("<h1>Connected</h1>");
        assert_eq!(connected, is_taken, "{iss}: {page:?}");
        assert!(!page.text.contains(FOREIGN));
    }
}
