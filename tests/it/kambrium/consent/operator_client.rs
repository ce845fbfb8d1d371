//! Where the operator has a client at the issuer already.

use super::{
    BASE, SECRET, Scene, ada, at, catalogue, know_operator, mail, parameters, pending,
    pre_registered,
};
use crate::harness::Hawser;
use serde_json::{Value, json};

#[tokio::test]
async fn a_client_of_the_operators_is_used_as_it_is() {
    for endpoints in [false, true] {
        let scene = Scene::with(|issuer| pre_registered(issuer, endpoints)).await;
        know_operator(&scene);
        // Where everything is configured nobody is asked what the server calls itself.
        scene.issuer.configure(|settings| {
            settings.resource_needed = !endpoints;
            settings.dynamic_registration = false;
        });
        let (id, url) = scene.create().await;
        assert_eq!(scene.issuer.log().is_empty(), endpoints);
        let asked = parameters(&url);
        assert_eq!(asked["client_id"], "operator");
        assert_eq!(asked["scope"], "mcp:read");
        assert_eq!(asked.contains_key("resource"), !endpoints);
        assert_eq!(
            scene.visit(&scene.issuer.approve(&url).await).await.status,
            200
        );
        assert_eq!(scene.states(id).await, ("active".into(), "verified".into()));
        assert_eq!(scene.issuer.issued()[0].client_id, "operator");

        let shown = scene.ada.get("/api/svc/v1/mcp").await;
        assert!(!shown.text.contains(SECRET), "{}", shown.text);
        assert_eq!(scene.ada.delete(&at(id)).await.status, 200);
        scene.hawser.run_workers().await;
        assert_eq!(scene.issuer.live_tokens(), [""; 0]);
    }
}

#[tokio::test]
async fn parameters_of_the_operators_are_added_and_override_none() {
    let own = json!({
        "prompt": "consent", "state": "mine", "redirect_uri": "https://evil.example/", "client_id": "evil", "scope": "all",
        "code_challenge": "x", "code_challenge_method": "plain", "response_type": "token", "resource": "https://evil.example/",
    });
    let plain = Scene::with(|_| json!({ "authorize_params": own })).await;
    let (_, url) = plain.create().await;
    let asked = parameters(&url);
    assert_eq!(asked["prompt"], "consent");
    assert_eq!(asked["code_challenge_method"], "S256");
    assert_eq!(asked["resource"], plain.issuer.mcp_url());
    assert!(
        !url.contains("evil") && !url.contains("mine") && !url.contains("plain"),
        "{url}"
    );
    plain.visit(&plain.issuer.approve(&url).await).await;
    assert_eq!(plain.states(1).await.0, "active");

    // Not even those that are not sent.
    let bare = Scene::with(|issuer| {
        let mut oauth = pre_registered(issuer, true);
        oauth["pkce"] = false.into();
        oauth["scopes"] = json!([]);
        oauth["authorize_params"] = own;
        oauth
    })
    .await;
    let (_, url) = bare.create().await;
    let names: Vec<_> = parameters(&url).into_keys().collect();
    assert_eq!(
        names,
        [
            "client_id",
            "prompt",
            "redirect_uri",
            "response_type",
            "state"
        ]
    );
    assert_eq!(parameters(&url)["client_id"], "operator");
}

#[tokio::test]
async fn an_integrations_client_is_for_the_integrations_server() {
    let scene = Scene::with(|issuer| {
        let mut oauth = pre_registered(issuer, false);
        oauth["authorize_params"] = json!({"prompt": "consent"});
        oauth
    })
    .await;
    know_operator(&scene);
    let id = scene.connect().await;
    let path = format!("/api/svc/v1/mcp/{}", scene.mcp().await);
    let manifest = scene.ada.get(&path).await.json()["data"]["manifest"].clone();
    let put = |manifest: Value| {
        let body = json!({"manifest": manifest, "force": true});
        let ada = scene.ada.clone();
        async move { ada.put("/api/svc/v1/mcp", body).await }
    };
    let mut shown = manifest.clone();
    shown["auth_data"]["jwt_source"] = "access_token".into();
    shown["description"] = "other words".into();
    shown["auth_data"]["scopes"] = json!(["mcp:read", "more"]);
    let put_back = put(shown.clone()).await;
    assert_eq!(put_back.status, 200, "{}", put_back.text);
    assert_eq!(
        scene.states(id).await.0,
        "active",
        "the catalogue decides on scopes"
    );
    let integration = || async {
        let items = scene.hawser.ground().items().await;
        let server = items
            .into_iter()
            .find(|item| item["entity"] == "server")
            .unwrap();
        server["connection"]["integration"].clone()
    };
    assert_eq!(integration().await, "mail");
    shown["url"] = "https://evil.example/mcp".into();
    let moved = put(shown).await;
    assert_eq!(moved.status, 200, "{}", moved.text);
    assert_eq!(integration().await, Value::Null);
    assert_eq!(scene.states(id).await, pending());
    scene.hawser.run_workers().await;
    assert_eq!(scene.issuer.live_tokens(), [""; 0]);
}

#[tokio::test]
async fn an_integration_that_is_no_longer_offered_serves_what_was_made_from_it() {
    let scene = Scene::with(|issuer| pre_registered(issuer, false)).await;
    know_operator(&scene);
    let (id, url) = scene.create().await;
    let mut offered = catalogue(&scene.issuer, pre_registered(&scene.issuer, false));
    offered["mail"]["active"] = false.into();
    scene.hawser.ground().offer(&offered).await;
    let later = Hawser::on(scene.hawser.ground()).await;
    let back = scene.issuer.approve(&url).await;
    let path = back.strip_prefix(&scene.hawser.url).unwrap();
    let cookie = scene.cookie();
    let headers = [("cookie", cookie.as_str())];
    let page = later
        .anonymous()
        .send("GET", path, &headers, Vec::new())
        .await;
    assert_eq!(page.status, 200);
    assert_eq!(ada(&later).post(BASE, mail()).await.status, 400);
    assert_eq!(scene.states(id).await.0, "active");
}
