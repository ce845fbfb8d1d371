//! Asking for a consent.

use super::{APP, MCP, Stage};
use crate::harness::{Browser, Cut, Hawser, Registered, per_user};
use serde_json::{Value, json};

#[tokio::test]
async fn a_consent_leads_from_the_first_question_to_a_grant() {
    let stage = Stage::set().await;
    let answer = stage.authorize("ada", "").await;
    let endpoint = answer.json()["authorization_endpoint"].clone();
    answer.is(
        200,
        json!({"status": "authentication_required", "method": null, "reason": "never_connected",
               "authorization_endpoint": endpoint}),
    );
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
    let endpoint = endpoint.as_str().unwrap();
    let ours = format!("{}/oauth/start?session=", stage.hawser.url);
    assert!(endpoint.starts_with(&ours), "{endpoint}");
    assert_eq!(stage.issuer.log().len(), 0, "nobody has been asked yet");

    let mut browser = Browser::new();
    let at_issuer = browser.begin(endpoint).await;
    assert!(at_issuer.starts_with(&format!("{}/authorize?", stage.issuer.url)));
    assert_eq!(browser.cookies.len(), 1);
    let back = stage.issuer.approve_as(&at_issuer, "ada").await;

    let stranger = Browser::new().open(&back).await;
    assert_eq!((stranger.status, stranger.location), (400, None));
    assert_eq!(stage.issuer.count("POST", "/token"), 0);
    assert_eq!(stage.reason("ada").await, "never_connected");

    let page = browser.open(&back).await;
    assert_eq!(page.status, 200, "{page:?}");
    assert!(page.text.contains("wiki is connected for ada."), "{page:?}");
    stage.assert_connected("ada").await;
    stage
        .authorize("ada", "")
        .await
        .is(200, json!({"status": "authenticated", "method": "oauth"}));
    assert_eq!(stage.reason("bob").await, "never_connected");

    for used in [endpoint, back.as_str()] {
        let page = browser.open(used).await;
        assert_eq!((page.status, page.location), (400, None), "{}", page.text);
    }
    assert_eq!(stage.issuer.count("POST", "/token"), 1);
    stage.assert_alive(&stage.issuer.issued()[0]);
}

#[tokio::test]
async fn an_issuer_that_cannot_be_used_sends_the_browser_back_too() {
    let hawser = Hawser::start_with(|app| app.return_origins = vec![APP.to_owned()]).await;
    let stage = Stage::on(hawser).await;
    stage.issuer.configure(|s| s.s256 = false);
    let endpoint = stage
        .endpoint("ada", "?redirectURL=https%3A%2F%2Fapp.example")
        .await;
    let page = Browser::new().start(&endpoint).await;
    let to = format!(
        "{APP}/?mcpServerId={}&status=authentication_required&reason=never_connected",
        stage.id
    );
    assert_eq!((page.status, page.location), (303, Some(to)));
}

#[tokio::test]
async fn addresses_that_nobody_allowed_are_refused() {
    let stage = Stage::on(
        Hawser::start_with(|app| {
            app.return_origins = vec![
                APP.to_owned(),
                "http://app.example".to_owned(),
                "http://127.0.0.1:7".to_owned(),
            ];
            app.public_urls.push("https://two.example/base".to_owned());
        })
        .await,
    )
    .await;
    let own = stage.hawser.url.clone();
    let encode =
        |value: &str| url::form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>();
    for (name, value) in [
        ("redirectURL", "https://evil.example/"),
        ("redirectURL", "https://app.example.evil.example/"),
        ("redirectURL", "https://app.example:444/"),
        ("redirectURL", "http://app.example/"),
        ("redirectURL", "https://user@app.example/"),
        ("redirectURL", "https://app.example@evil.example/"),
        ("redirectURL", "https://app.example/#done"),
        ("redirectURL", "https://app.example/#"),
        ("redirectURL", "/done"),
        ("redirectURL", "//app.example/done"),
        ("redirectURL", "javascript:alert(1)"),
        ("redirectURL", "http://127.0.0.1:8/"),
        ("gatewayBaseURL", "https://evil.example/"),
        ("gatewayBaseURL", "http://two.example/base"),
        ("gatewayBaseURL", "https://two.example:8443/base"),
        ("gatewayBaseURL", "two.example"),
        ("gatewayBaseURL", "data:text/plain,x"),
    ] {
        let answer = stage
            .authorize("ada", &format!("?{name}={}", encode(value)))
            .await;
        let body = answer.json();
        assert_eq!(
            (answer.status, &body["code"], &body["details"][0]["path"]),
            (400, &json!("INVALID_REQUEST"), &json!(name)),
            "{value}: {answer:?}"
        );
        assert!(!answer.text.contains(value), "{answer:?}");
    }
    let twice = stage.authorize("ada", "?redirectURL=&redirectURL=").await;
    assert_eq!(twice.status, 400);
    for (query, base) in [
        ("".to_owned(), own.as_str()),
        ("?gatewayBaseURL=&redirectURL=null".to_owned(), &own),
        ("?gatewayBaseURL=null&other=x".to_owned(), &own),
        (
            format!("?gatewayBaseURL={}", encode(&format!("{own}/a?b"))),
            &own,
        ),
        (
            "?gatewayBaseURL=https%3A%2F%2FTWO.example%3A443%2Felsewhere".to_owned(),
            "https://two.example/base",
        ),
        (
            "?redirectURL=http%3A%2F%2F127.0.0.1%3A7%2Fdone".to_owned(),
            &own,
        ),
        (
            "?redirectURL=https%3A%2F%2Fapp.example%3A443".to_owned(),
            &own,
        ),
    ] {
        let endpoint = stage.endpoint("ada", &query).await;
        let start = format!("{base}/oauth/start?session=");
        assert!(endpoint.starts_with(&start), "{query}: {endpoint}");
    }
}

#[tokio::test]
async fn who_needs_no_consent_gets_no_address() {
    let stage = Stage::set().await;
    let admin = &stage.admin;
    let client = json!({"type": "oauth2", "grant_type": "client_credentials", "client_id": "c", "client_secret": "s",
                        "token_url": "https://as.example/token"});
    let global = json!({"type": "header", "headers": {"A": "b"}});
    let cases = [
        ("none", Value::Null),
        ("forward", json!({"type": "passthrough"})),
        ("shared", global),
        ("machine", client),
        ("each", per_user()),
    ];
    let ask = async |id: &str, subject: &str| {
        let own = format!("{MCP}/{id}/authorize");
        let asked = stage.user(subject).get(&own).await;
        let status = format!("{MCP}/{id}/auth/status?subjectId={subject}&subjectType=user");
        let expected = admin.get(&status).await.json();
        assert_eq!((asked.status, asked.json()), (200, expected));
        asked.json()["status"].as_str().unwrap().to_owned()
    };
    for (name, auth) in cases {
        let Registered { mcp, .. } = admin.register(name, auth, &[]).await;
        let status = ask(&mcp, "ada").await;
        let required = status == "authentication_required";
        assert_eq!(required, name == "each", "{name}: {status}");
    }
    let installed = admin.install(&stage.id, "user", "ada").await;
    assert_eq!(installed.status, 200);
    assert_eq!(ask(&stage.id, "ada").await, "authenticated");
    let missing = json!({"statusCode": 404, "message": "There is no such MCP server.", "code": "MCP_SERVER_NOT_FOUND"});
    for (caller, id) in [
        (admin, "wiki"),
        (admin, "mcp-01KF0FV2HRF8BR7TAB0BC6YCDE"),
        (&stage.hawser.admin("other"), stage.id.as_str()),
    ] {
        let path = format!("{MCP}/{id}/authorize");
        caller.get(&path).await.is(404, missing.clone());
    }
    let nobody = stage.hawser.anonymous();
    let path = format!("{MCP}/{}/authorize?redirectURL=x", stage.id);
    assert_eq!(nobody.get(&path).await.status, 401);
}

#[tokio::test]
async fn an_expired_grant_that_can_be_refreshed_needs_no_consent_and_a_dead_one_does() {
    let stage = Stage::by_hand().await;
    stage.connect("ada").await;
    stage.hawser.pass(4000);
    let answer = stage.authorize("ada", "").await;
    answer.is(200, json!({"status": "authenticated", "method": "oauth"}));

    stage.issuer.configure(|s| s.refresh_tokens = false);
    let consent = stage.approved("bob").await;
    let pair = stage.finish(consent).await;
    assert_eq!(pair.refresh, None);
    stage.hawser.pass(4000);
    let answer = stage.authorize("bob", "").await;
    let endpoint = answer.json()["authorization_endpoint"].clone();
    assert!(endpoint.is_string(), "{answer:?}");
    answer.is(
        200,
        json!({"status": "authentication_required", "method": "oauth", "reason": "expired",
               "authorization_endpoint": endpoint}),
    );
}

#[tokio::test]
async fn an_api_key_asks_for_the_consent_of_its_owner() {
    let stage = Stage::set().await;
    let key = stage
        .hawser
        .api_key("acme", Some("user:ada"), json!({}))
        .await;
    let path = format!("{MCP}/{}/authorize", stage.id);
    let endpoint = key.get(&path).await.json()["authorization_endpoint"].clone();
    let mut browser = Browser::new();
    let at_issuer = browser.begin(endpoint.as_str().unwrap()).await;
    let back = stage.issuer.approve_as(&at_issuer, "ada").await;
    stage.finish((browser, back)).await;
    stage.assert_connected("ada").await;
    assert_eq!(key.get(&path).await.json()["status"], "authenticated");
}

#[tokio::test]
async fn a_server_that_moves_meanwhile_is_looked_at_again() {
    let stage = Stage::set().await;
    let refused = Cut::Cancel(1, "ConditionalCheckFailed");
    stage.hawser.wire.arm(Some(refused));
    stage.endpoint("ada", "").await;
    let transactions = stage.hawser.wire.operations();
    let transactions = transactions.iter().filter(|o| *o == "TransactWriteItems");
    assert_eq!(transactions.count(), 2);
}

#[tokio::test]
async fn without_a_public_address_no_consent_can_start() {
    let stage = Stage::on(Hawser::start_with(|app| app.public_urls.clear()).await).await;
    let internal =
        json!({"statusCode": 500, "message": "Internal error.", "code": "INTERNAL_ERROR"});
    stage.authorize("ada", "").await.is(500, internal);
    stage.admin.install(&stage.id, "user", "ada").await;
    assert_eq!(
        stage.authorize("ada", "").await.status,
        200,
        "it needs none"
    );
}

#[tokio::test]
async fn an_address_is_over_after_ten_minutes() {
    let stage = Stage::by_hand().await;
    let endpoints = [
        stage.endpoint("ada", "").await,
        stage.endpoint("ada", "").await,
    ];
    stage.hawser.pass(599);
    let mut browser = Browser::new();
    let at_issuer = browser.begin(&endpoints[0]).await;
    let back = stage.issuer.approve(&at_issuer).await;
    stage.hawser.pass(1);
    assert_eq!(browser.open(&endpoints[1]).await.status, 400);
    assert_eq!(browser.open(&back).await.status, 400);
    assert_eq!(stage.issuer.issued().len(), 0);
}
