//! The browser comes back from the issuer.

use super::{
    Scene, ada, altered, assert_bad_state, assert_error, assert_told, at, catalogue, failed,
    parameters, pending, posted,
};
use crate::harness::{Browser, Cut, Hawser};
use crate::issuer::Issuer;
use aws_sdk_dynamodb::types::AttributeValue;
use data_encoding::BASE64URL_NOPAD;
use serde_json::json;
use std::sync::Mutex;
use url::Url;

#[tokio::test]
async fn a_consent_makes_the_connection_active_and_tells_the_opener() {
    let scene = Scene::discovered().await;
    let (id, url) = scene.create().await;
    let back = scene.issuer.approve(&url).await;
    let page = scene.visit(&back).await;
    let message = json!({"type": "oauth_success", "providerName": "Mail & <Post>"});
    assert_told(&page, message);
    assert!(page.text.contains(
        "<p>Mail &amp; &lt;Post&gt; is connected for ada. You can close this window.</p>"
    ));
    assert_eq!(
        page.header("content-type").unwrap(),
        "text/html; charset=utf-8"
    );
    assert_eq!(page.header("cache-control").unwrap(), "no-store");
    assert_eq!(page.header("referrer-policy").unwrap(), "no-referrer");
    assert_eq!(
        page.header("cross-origin-opener-policy").unwrap(),
        "unsafe-none"
    );
    assert_eq!(page.header("x-content-type-options").unwrap(), "nosniff");
    let policy = page.header("content-security-policy").unwrap();
    let (_, nonce) = page.text.split_once("<script nonce=\"").unwrap();
    let (nonce, _) = nonce.split_once('"').unwrap();
    let expected = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'"
    );
    assert_eq!(policy, expected);
    assert!(nonce.len() >= 22);
    assert_eq!(scene.states(id).await, ("active".into(), "verified".into()));
    let exchange = scene
        .issuer
        .log()
        .into_iter()
        .find(|one| one.path == "/token")
        .unwrap();
    assert_eq!(exchange.field("resource").unwrap(), scene.issuer.mcp_url());

    // Other settings do not touch the consent.
    let put = scene
        .ada
        .put(
            &at(id),
            json!({"access_type": "read", "agent_enabled": false}),
        )
        .await;
    assert_eq!(put.json()["data"]["oauth_status"], "active");
    let refused = scene.ada.put(&at(id), json!({"api_key": "k"})).await;
    let detail = "api_key cannot be changed on this connection";
    assert_eq!(
        (refused.status, refused.json()),
        (400, json!({"detail": detail}))
    );
}

#[tokio::test]
async fn the_issuer_answers_by_get_and_by_post_with_and_without_a_slash() {
    let scene = Scene::discovered().await;
    for (method, slash) in [
        ("GET", true),
        ("GET", false),
        ("POST", true),
        ("POST", false),
    ] {
        let (id, url) = scene.create().await;
        let back = scene.issuer.approve(&url).await;
        let (path, query) = back
            .strip_prefix(&scene.hawser.url)
            .unwrap()
            .split_once('?')
            .unwrap();
        let path = if slash {
            path
        } else {
            path.strip_suffix('/').unwrap()
        };
        let (path, body) = match method {
            "GET" => (format!("{path}?{query}"), String::new()),
            _ => (path.to_owned(), query.to_owned()),
        };
        let kind = ("content-type", "application/x-www-form-urlencoded");
        let browser = scene.hawser.anonymous();
        if method == "POST" {
            // From the issuer's site it comes without the cookie: the browser is sent here once more, with it.
            let fields: Vec<_> = parameters(&back).into_iter().collect();
            let url = format!("{}{path}", scene.hawser.url);
            let sent = Browser::new().post(&url, &fields).await;
            assert_eq!(sent.status, 303, "{sent:?}");
            let again = Url::parse(&back).unwrap();
            let again = again.join(&sent.location.unwrap()).unwrap();
            assert_eq!(parameters(again.as_str()), parameters(&back));
            assert_eq!(scene.states(id).await.0, "pending");
        }
        let cookie = scene.cookie();
        let headers = [kind, ("cookie", cookie.as_str())];
        let page = browser
            .send(method, &path, &headers, body.into_bytes())
            .await;
        assert_eq!(page.status, 200, "{method} {slash}: {}", page.text);
        assert_eq!(scene.states(id).await.0, "active");
    }
    let path = "/api/mcp-servers/saas-oauth/mail/callback/";
    let other = scene.hawser.anonymous().put(path, json!({})).await;
    assert_eq!(
        (other.status, other.json()),
        (405, json!({"detail": "Method Not Allowed"}))
    );
    assert_eq!(other.header("allow").unwrap(), "GET, POST");
}

#[tokio::test]
async fn a_callback_serves_once() {
    let scene = Scene::discovered().await;
    let (id, url) = scene.create().await;
    let back = scene.issuer.approve(&url).await;
    let (one, other) = tokio::join!(scene.visit(&back), scene.visit(&back));
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400], "of two at once");
    assert_bad_state(&scene.visit(&back).await);
    assert_eq!(scene.issuer.count("POST", "/token"), 1);
    assert_eq!(scene.states(id).await.0, "active");
    assert_eq!(
        scene.issuer.live_tokens().len(),
        2,
        "nothing was taken back"
    );
}

#[tokio::test]
async fn an_answer_that_does_not_fit_leaves_the_state_usable() {
    let scene = Scene::discovered().await;
    let (id, url) = scene.create().await;
    let back = scene.issuer.approve(&url).await;
    let state = parameters(&back)["state"].clone();
    let (head, secret) = state.rsplit_once('.').unwrap();
    let forged = format!("{head}.{}", BASE64URL_NOPAD.encode(&[7; 32]));
    let elsewhere = state.replacen("YWNtZQ", "b3RoZXI", 1);
    assert_ne!(elsewhere, state);
    let before = scene.hawser.ground().items().await;
    for wrong in [
        back.replace("saas-oauth/mail/", "saas-oauth/pipedrive/"),
        back.replace("saas-oauth/mail/", "saas-oauth/Mail/"),
        back.replace(
            "/api/mcp-servers/saas-oauth/mail/callback/",
            "/oauth/callback",
        ),
        altered(&back, &[("state", Some(&forged))]),
        altered(&back, &[("state", Some(&elsewhere))]),
        altered(&back, &[("state", Some(secret))]),
        altered(&back, &[("state", Some(""))]),
        altered(&back, &[("state", None)]),
        format!("{back}&state={state}"),
        format!("{back}&code=x"),
        format!("{back}&iss=x"),
        format!("{back}&error=a&error=b"),
    ] {
        let answer = scene.visit(&wrong).await;
        if wrong.contains("/oauth/callback") {
            assert_eq!(answer.status, 400, "the page of the other contracts");
        } else {
            assert_bad_state(&answer);
        }
    }
    assert_eq!(scene.hawser.ground().items().await, before);
    assert_eq!(scene.issuer.count("POST", "/token"), 0);
    assert_eq!(scene.visit(&back).await.status, 200);
    assert_eq!(scene.states(id).await.0, "active");
}

#[tokio::test]
async fn an_answer_of_another_issuer_is_not_believed() {
    let scene = Scene::discovered().await;
    for (deny, changes) in [
        (false, ("iss", Some("https://evil.example"))),
        (false, ("iss", Some(""))),
        (false, ("iss", None)),
        (true, ("iss", Some("https://evil.example"))),
    ] {
        let (id, url) = scene.create().await;
        let back = match deny {
            true => scene.issuer.deny(&url).await,
            false => scene.issuer.approve(&url).await,
        };
        // Not even that it was denied.
        assert_error(
            &scene.visit(&altered(&back, &[changes])).await,
            "server_error",
        );
        assert_eq!(scene.states(id).await, failed());
    }
    assert_eq!(
        scene.issuer.count("POST", "/token"),
        0,
        "no code went anywhere"
    );
}

#[tokio::test]
async fn a_state_is_valid_for_ten_minutes() {
    let scene = Scene::discovered().await;
    for (seconds, valid) in [(590, true), (600, false)] {
        let (id, url) = scene.create().await;
        let back = scene.issuer.approve(&url).await;
        let items = scene.hawser.ground().items().await;
        let session = items
            .into_iter()
            .find(|item| item["entity"] == "session" && item["phase"] == "pending")
            .unwrap();
        let text = |name: &str| AttributeValue::S(session[name].as_str().unwrap().to_owned());
        let begun = session["at"].as_i64().unwrap() - seconds * 1_000_000;
        let client = scene.hawser.ground().dynamodb();
        let update = client
            .update_item()
            .table_name(hawser_local::TABLE)
            .key("PK", text("PK"))
            .key("SK", text("SK"))
            .update_expression("SET #at = :at")
            .expression_attribute_names("#at", "at")
            .expression_attribute_values(":at", AttributeValue::N(begun.to_string()));
        update.send().await.unwrap();
        let page = scene.visit(&back).await;
        if valid {
            assert_eq!(page.status, 200, "{}", page.text);
        } else {
            assert_bad_state(&page);
            assert_eq!(scene.states(id).await, pending());
        }
    }
}

#[tokio::test]
async fn without_a_ui_origin_the_page_is_text_alone() {
    let issuer = Issuer::start().await;
    for ui_origin in [None, Some("*"), Some("null"), Some("ui.example")] {
        let hawser = Hawser::offering(&catalogue(&issuer, json!({})), |config| {
            config.ui_origin = ui_origin.map(str::to_owned);
        })
        .await;
        let ada = ada(&hawser);
        let scene = Scene {
            hawser,
            issuer: issuer.clone(),
            ada,
            browser: Mutex::new(Browser::new()),
        };
        let (_, url) = scene.create().await;
        let page = scene.visit(&issuer.approve(&url).await).await;
        assert_eq!((page.status, posted(&page)), (200, None));
        assert!(!page.text.contains("<script"), "{}", page.text);
        let policy = page.header("content-security-policy").unwrap();
        assert!(!policy.contains("script-src"), "{policy}");
    }
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_a_500_without_a_page() {
    let scene = Scene::discovered().await;
    let (_, url) = scene.create().await;
    let back = scene.issuer.approve(&url).await;
    scene.hawser.wire.arm(Some(Cut::Before(0)));
    let answer = scene.visit(&back).await;
    scene.hawser.wire.arm(None);
    let detail = "Failed to complete OAuth connection: database error";
    assert_eq!(
        (answer.status, answer.json()),
        (500, json!({"detail": detail}))
    );
    assert_eq!(
        scene.visit(&back).await.status,
        200,
        "the state was not taken"
    );
}
