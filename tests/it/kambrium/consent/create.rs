//! Creating a connection by consent.

use super::{
    BASE, SECRET, Scene, ada, at, catalogue, know_operator, mail, parameters, pending,
    pre_registered,
};
use crate::harness::{Cut, Hawser, of_operator};
use crate::issuer::{Fault, Issuer};
use crate::kambrium::everything;
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[tokio::test]
async fn create_answers_where_its_owner_consents_this_once() {
    let scene = Scene::discovered().await;
    let made = scene.ada.post(BASE, mail()).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let body = made.json();
    let data = body["data"].as_object().unwrap();
    let names: Vec<_> = data.keys().map(String::as_str).collect();
    let expected = [
        "id",
        "mcp_server_name",
        "api_key_verification_status",
        "oauth2_client_id",
        "oauth2_scopes",
        "agent_enabled",
        "disabled_tools",
        "created_at",
        "access_type",
        "auth_method",
        "oauth_status",
        "oauth2_credentials",
        "authorization_url",
        "message",
    ];
    assert_eq!(names, expected);
    assert_eq!(data["mcp_server_name"], "Mail & <Post>");
    assert_eq!(data["auth_method"], "oauth");
    assert_eq!(data["oauth_status"], "pending");
    assert_eq!(data["api_key_verification_status"], "pending");
    assert_eq!(
        data["message"],
        "Open authorization_url in a browser to connect"
    );
    assert_eq!(
        body["message"],
        "MCP server connection created successfully"
    );

    let ours = data["authorization_url"].as_str().unwrap();
    let start = format!("{}/oauth/start?session=", scene.hawser.url);
    assert!(ours.starts_with(&start), "{ours}");
    let url = &scene.press(ours).await;
    assert!(
        url.starts_with(&format!("{}/authorize?", scene.issuer.url)),
        "{url}"
    );
    let mut asked = parameters(url);
    let state = asked.remove("state").unwrap();
    let challenge = asked.remove("code_challenge").unwrap();
    assert_eq!(
        BASE64URL_NOPAD.decode(challenge.as_bytes()).unwrap().len(),
        32
    );
    let secret = state.rsplit('.').next().unwrap();
    assert_eq!(BASE64URL_NOPAD.decode(secret.as_bytes()).unwrap().len(), 32);
    let expected = [
        ("client_id", scene.issuer.clients().remove(0)),
        ("code_challenge_method", "S256".to_owned()),
        (
            "redirect_uri",
            format!(
                "{}/api/mcp-servers/saas-oauth/mail/callback/",
                scene.hawser.url
            ),
        ),
        ("resource", scene.issuer.mcp_url()),
        ("response_type", "code".to_owned()),
        ("scope", "mcp:read mcp:write".to_owned()),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(asked, BTreeMap::from(expected));

    assert_eq!(scene.states(1).await, pending());
    for answer in [scene.ada.get(&at(1)).await, scene.ada.get(BASE).await] {
        assert!(
            !answer.text.contains("authorization_url"),
            "{}",
            answer.text
        );
        assert!(!answer.text.contains(&state), "{}", answer.text);
    }
    let stored = everything(&scene.hawser).await;
    assert!(!stored.contains(secret), "the state is stored as a hash");
    let (_, second) = scene.create().await;
    assert_ne!(parameters(&second)["state"], state);
}

#[tokio::test]
async fn create_refuses_in_the_order_of_the_table() {
    const UNKNOWN: &str = "Invalid MCP server or access type specified";
    const METHOD: &str = "Authentication method not supported by this integration";
    const TOOLS: &str = "disabled_tools requires access type individual";
    let issuer = Issuer::start().await;
    let entry = |more: Value| {
        let mut entry = json!({"display_name": "X", "mcp_url": issuer.mcp_url()});
        entry
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        entry
    };
    let hawser = Hawser::with_integrations(&json!({
        "both": entry(json!({"api_key": {}, "oauth": {}})),
        "consent": entry(json!({"oauth": {}})),
        "key": entry(json!({"api_key": {}})),
        "neither": entry(json!({})),
        "off": entry(json!({"oauth": {}, "active": false})),
    }))
    .await;
    let ada = ada(&hawser);
    let oauth = |fields: Value| {
        let mut body = json!({"access_type": "write", "auth_method": "oauth"});
        body.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        body
    };
    for (body, detail) in [
        (oauth(json!({"mcp_server": "off"})), UNKNOWN),
        (
            oauth(json!({"mcp_server": "nowhere", "disabled_tools": [1]})),
            UNKNOWN,
        ),
        (
            oauth(json!({"mcp_server": "consent", "access_type": "all"})),
            UNKNOWN,
        ),
        (
            oauth(json!({"mcp_server": "key", "disabled_tools": [1]})),
            METHOD,
        ),
        (oauth(json!({"mcp_server": "neither"})), METHOD),
        (
            json!({"mcp_server": "neither", "access_type": "write", "api_key": "k"}),
            METHOD,
        ),
        (
            json!({"mcp_server": "consent", "access_type": "write", "api_key": "k"}),
            METHOD,
        ),
        (
            oauth(json!({"mcp_server": "consent", "disabled_tools": [1]})),
            TOOLS,
        ),
    ] {
        let answer = ada.post(BASE, body.clone()).await;
        assert_eq!(
            (answer.status, answer.json()),
            (400, json!({"detail": detail})),
            "{body}"
        );
    }
    assert_eq!(issuer.log().len(), 0, "nobody was asked");
    assert_eq!(ada.get(BASE).await.json()["data"], json!([]));
    let by_key = json!({"mcp_server": "both", "access_type": "write", "api_key": "k"});
    for (body, method) in [
        (oauth(json!({"mcp_server": "both"})), "oauth"),
        (by_key, "api_key"),
    ] {
        let made = ada.post(BASE, body).await;
        assert_eq!(
            (made.status, &made.json()["data"]["auth_method"]),
            (201, &json!(method))
        );
    }
}

#[tokio::test]
async fn an_issuer_that_cannot_be_used_leaves_nothing_behind() {
    let scene = Scene::discovered().await;
    let detail = "Failed to create connection: authorization server unavailable";
    let fault = |path, status| Fault {
        status: Some(status),
        ..Fault::once(path)
    };
    let resource = "/oauth-protected-resource/mcp";
    for faults in [
        vec![fault("/mcp", 503)],
        vec![fault("/oauth-authorization-server", 500)],
        vec![fault("/register", 403)],
        vec![fault("/register", 503)],
        vec![Fault {
            drop: true,
            ..Fault::once("/register")
        }],
        vec![
            Fault {
                times: 9,
                ..fault("/mcp", 404)
            },
            Fault {
                times: 9,
                ..fault(resource, 404)
            },
        ],
    ] {
        faults.into_iter().for_each(|one| scene.issuer.fault(one));
        let answer = scene.ada.post(BASE, mail()).await;
        assert_eq!(
            (answer.status, answer.json()),
            (502, json!({"detail": detail}))
        );
        scene.issuer.clear_faults();
    }
    scene.issuer.configure(|settings| settings.s256 = false);
    assert_eq!(scene.ada.post(BASE, mail()).await.status, 502);
    scene.issuer.configure(|settings| {
        settings.s256 = true;
        settings.dynamic_registration = false;
    });
    assert_eq!(scene.ada.post(BASE, mail()).await.status, 502);
    let items = scene.hawser.ground().items().await;
    let mut left: Vec<_> = items
        .iter()
        .filter(|item| !of_operator(item))
        .map(|item| item["entity"].as_str().unwrap())
        .collect();
    left.sort_unstable();
    assert_eq!(left, ["counter", "tenant-key"], "an id may be skipped");
    assert_eq!(scene.issuer.clients(), [""; 0]);
}

#[tokio::test]
async fn a_client_whose_connection_could_not_be_stored_is_removed_again() {
    let scene = Scene::discovered().await;
    scene.connect().await;
    let known = scene.issuer.clients();
    scene.hawser.wire.arm(None);
    scene.create().await;
    let sent = scene.hawser.wire.operations();
    let commit = sent
        .iter()
        .position(|one| one == "TransactWriteItems")
        .unwrap();
    let known_then = scene.issuer.clients();
    assert_eq!(known_then.len(), known.len() + 1);
    let never = Cut::Cancel(8, "TransactionConflict");
    scene.hawser.wire.arm(Some(never));
    let answer = scene.ada.post(BASE, mail()).await;
    let detail = "Failed to create connection: database error";
    assert_eq!(
        (answer.status, answer.json()),
        (500, json!({"detail": detail}))
    );
    scene.hawser.wire.arm(None);
    assert_eq!(scene.issuer.clients(), known_then);
    assert_eq!(
        scene.ada.get(BASE).await.json()["data"]
            .as_array()
            .unwrap()
            .len(),
        2
    );

    // An answer that is lost is read back: the connection exists, and its client stays.
    scene.hawser.wire.arm(Some(Cut::Answer(commit)));
    let (id, url) = scene.create().await;
    scene.hawser.wire.arm(None);
    assert_eq!(scene.issuer.clients().len(), known_then.len() + 1);
    scene.visit(&scene.issuer.approve(&url).await).await;
    assert_eq!(scene.states(id).await.0, "active");
}

#[tokio::test]
async fn without_a_public_address_there_is_nowhere_to_come_back_to() {
    let issuer = Issuer::start().await;
    let hawser = Hawser::offering(&catalogue(&issuer, json!({})), |config| {
        config.public_urls.clear();
    })
    .await;
    let answer = ada(&hawser).post(BASE, mail()).await;
    let detail = "Failed to create connection: database error";
    assert_eq!(
        (answer.status, answer.json()),
        (500, json!({"detail": detail}))
    );
    assert_eq!(issuer.log().len(), 0);
}

#[tokio::test]
async fn where_nobody_has_to_consent_the_connection_is_active() {
    let scene = Scene::discovered().await;
    let oauth = json!({"type": "oauth2", "grant_type": "client_credentials", "jwt_source": "access_token",
                       "token_url": "https://as.example/t", "client_id": "c", "client_secret": "s"});
    let manifest = json!({"type": "mcp-server/remote", "name": "wiki", "description": "d", "url": "https://x.example/",
                          "auth_data": oauth});
    let body = json!({ "manifest": manifest });
    let made = scene.ada.put("/api/svc/v1/mcp", body).await;
    assert_eq!(made.status, 200, "{}", made.text);
    assert_eq!(scene.states(1).await, ("active".into(), "verified".into()));
}

#[tokio::test]
async fn no_secret_is_answered_or_stored_in_the_clear() {
    let registered = Scene::discovered().await;
    let operated = Scene::with(|issuer| pre_registered(issuer, false)).await;
    know_operator(&operated);
    for scene in [registered, operated] {
        let (id, url) = scene.create().await;
        let state = parameters(&url)["state"].clone();
        let back = scene.issuer.approve(&url).await;
        let code = parameters(&back)["code"].clone();
        let page = scene.visit(&back).await;
        let mut secrets = scene.issuer.live_tokens();
        assert_eq!(secrets.len(), 2);
        secrets.extend([SECRET.to_owned(), code, state]);
        let exchange = scene
            .issuer
            .log()
            .into_iter()
            .find(|one| one.path == "/token")
            .unwrap();
        secrets.extend(exchange.field("code_verifier"));
        secrets.extend(exchange.field("client_secret"));
        let server = format!("/api/svc/v1/mcp/{}", scene.mcp().await);
        let mut answers = vec![page.text];
        for path in [
            BASE,
            &at(id),
            "/api/v1/mcp-servers/available",
            "/api/svc/v1/mcp",
            &server,
            "/v1/deepagents/mcp-servers",
            "/v1/receipts",
        ] {
            answers.push(scene.ada.get(path).await.text);
        }
        answers.push(
            scene
                .ada
                .put(&at(id), json!({"agent_enabled": false}))
                .await
                .text,
        );
        answers.push(everything(&scene.hawser).await);
        let items = scene.hawser.ground().items().await;
        answers.push(json!(items).to_string());
        assert_eq!(scene.ada.delete(&at(id)).await.status, 200);
        answers.push(everything(&scene.hawser).await);
        scene.hawser.run_workers().await;
        answers.push(everything(&scene.hawser).await);
        for secret in secrets {
            assert!(
                answers.iter().all(|text| !text.contains(&secret)),
                "{secret}"
            );
        }
    }
}
