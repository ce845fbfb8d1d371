//! Beginning an auth session.

use super::{
    SESSIONS, Scene, begun, no_provider, no_session, provider_path, reused, session_path,
    shown_provider, state, user,
};
use crate::harness::{Caller, Hawser};
use crate::issuer::{FOREIGN, Fault};
use crate::langsmith::{EVERYTHING, UNKNOWN, error, invalid_body, is, missing};
use serde_json::{Value, json};
use url::Url;

#[tokio::test]
async fn a_consent_gives_a_token_that_later_calls_reuse() {
    let scene = Scene::new().await;
    let (ada, issuer) = (&scene.ada, &scene.issuer);
    assert_eq!(
        shown_provider(ada, &scene.server).await,
        json!(scene.provider)
    );
    let (session, page) = begun(&scene.ask("REUSE", &[]).await);
    let ours = format!("{}/oauth/start?session=", scene.hawser.url);
    assert!(page.starts_with(&ours), "{page}");
    assert_eq!(scene.state(&session).await, "PENDING");
    let url = scene.press(&page).await;
    assert!(url.starts_with(&format!("{}/authorize?", issuer.url)));
    assert_eq!(scene.state(&session).await, "PENDING");

    let page = scene.come_back(&issuer.approve(&url).await).await;
    assert_eq!(page.status, 200, "{page:?}");
    assert_eq!(scene.state(&session).await, "COMPLETED");
    assert_eq!(issuer.issued().len(), 1);

    let answer = scene.ask("REUSE", &[]).await;
    reused(&answer);
    for secret in issuer.live_tokens() {
        assert!(!answer.text.contains(&secret));
    }
    // The first consent stays what it was.
    assert_eq!(scene.state(&session).await, "COMPLETED");
    // The page of a callback serves once.
    let again = issuer.approve(&url).await;
    assert_eq!(scene.come_back(&again).await.status, 400);
    assert_eq!(issuer.issued().len(), 1);
    scene.hawser.run_workers().await;
}

#[tokio::test]
async fn create_always_begins_anew_and_the_old_token_serves_until_then() {
    let scene = Scene::new().await;
    let first = scene.connect(&[]).await;
    let token = reused(&scene.ask("REUSE", &[]).await);
    let (second, url) = scene.begin(&[]).await;
    assert_ne!(first, second);
    assert_eq!(reused(&scene.ask("REUSE", &[]).await), token);
    scene.come_back(&scene.issuer.approve(&url).await).await;
    assert_ne!(reused(&scene.ask("REUSE", &[]).await), token);
    assert_eq!(scene.state(&first).await, "COMPLETED");

    // Of two that are open the last to come back wins; both have ended well.
    let ((a, to_a), (b, to_b)) = (scene.begin(&[]).await, scene.begin(&[]).await);
    scene.come_back(&scene.issuer.approve(&to_b).await).await;
    assert_eq!(scene.state(&a).await, "PENDING");
    scene.come_back(&scene.issuer.approve(&to_a).await).await;
    let states = (scene.state(&a).await, scene.state(&b).await);
    assert_eq!(states, ("COMPLETED".into(), "COMPLETED".into()));
    scene.hawser.run_workers().await;
    let active = scene.issuer.issued().into_iter().filter(|one| one.active);
    assert_eq!(active.count(), 1, "the others were revoked");
}

#[tokio::test]
async fn only_a_token_of_these_scopes_and_of_this_id_is_reused() {
    let scene = Scene::new().await;
    scene.connect(&["mcp:read"]).await;
    let token = reused(&scene.ask("REUSE", &[]).await);
    assert_eq!(reused(&scene.ask("REUSE", &["mcp:read"]).await), token);
    let (_, url) = begun(&scene.ask("REUSE", &["mcp:read", "mcp:write"]).await);
    let url = scene.press(&url).await;
    let scope = |url: &str| {
        let url = Url::parse(url).unwrap();
        let mut pairs = url.query_pairs().into_owned();
        pairs.find(|(name, _)| name == "scope").unwrap().1
    };
    assert_eq!(scope(&url), "mcp:read mcp:write");

    let with = |strategy: &str, id: Value| {
        let mut body = scene.asking(strategy, &[]);
        body["token_id"] = id;
        body
    };
    for id in [
        json!(token),
        json!(token.to_uppercase()),
        json!(""),
        json!(null),
    ] {
        let answer = scene.ada.post(SESSIONS, with("REUSE", id)).await;
        assert_eq!(reused(&answer), token);
    }
    for id in [UNKNOWN, "another"] {
        begun(&scene.ada.post(SESSIONS, with("REUSE", id.into())).await);
    }
    begun(&scene.ada.post(SESSIONS, with("CREATE", token.into())).await);
}

#[tokio::test]
async fn a_token_near_its_end_is_refreshed_before_it_is_reused() {
    let scene = Scene::by_hand().await;
    scene.connect(&[]).await;
    let token = reused(&scene.ask("REUSE", &[]).await);
    scene.hawser.pass(3600 - 61);
    assert_eq!(reused(&scene.ask("REUSE", &[]).await), token);
    assert_eq!(scene.issuer.issued().len(), 1, "it still has a minute");
    scene.hawser.pass(2);
    assert_eq!(reused(&scene.ask("REUSE", &[]).await), token);
    assert_eq!(scene.issuer.issued().len(), 2, "now it was refreshed");
    scene.hawser.pass(3600);
    assert_eq!(reused(&scene.ask("REUSE", &[]).await), token);
    assert_eq!(scene.issuer.issued().len(), 3);
}

#[tokio::test]
async fn where_a_refresh_fails_a_session_begins() {
    let scene = Scene::by_hand().await;
    let session = scene.connect(&[]).await;
    scene.hawser.pass(3600);
    scene.issuer.fault(Fault {
        status: Some(503),
        ..Fault::once("/token")
    });
    begun(&scene.ask("REUSE", &[]).await);
    assert_eq!(scene.issuer.count("POST", "/token"), 2, "it was tried");
    // An outage ends nothing: the refresh token was not refused.
    assert_eq!(scene.state(&session).await, "COMPLETED");
    scene.hawser.pass(60);
    reused(&scene.ask("REUSE", &[]).await);

    scene.hawser.pass(3600);
    scene.issuer.fault(Fault {
        status: Some(400),
        body: json!({"error": "invalid_grant", "error_description": FOREIGN}).to_string(),
        ..Fault::once("/token")
    });
    let refused = scene.ask("REUSE", &[]).await;
    begun(&refused);
    assert!(!refused.text.contains(FOREIGN), "{refused:?}");
    assert_eq!(scene.state(&session).await, "TOKEN_EXPIRED");
    // What was refused is not presented once more.
    let tried = scene.issuer.count("POST", "/token");
    begun(&scene.ask("REUSE", &[]).await);
    assert_eq!(scene.issuer.count("POST", "/token"), tried);
}

#[tokio::test]
async fn a_service_key_acts_for_the_user_it_names() {
    let scene = Scene::new().await;
    let grants = json!({"permissions": EVERYTHING});
    let service = scene.hawser.api_key("acme", None, grants.clone()).await;
    let adas_key = scene.hawser.api_key("acme", Some("user:ada"), grants).await;
    let path = provider_path(&scene.server);
    let of = |caller: Caller, user: Value| {
        let path = path.clone();
        async move {
            let answer = caller.post(&path, json!({"ls_user_id": user})).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            answer.json()["oauth_provider_id"].clone()
        }
    };
    let adas = json!(scene.provider);
    assert_eq!(of(service.clone(), json!("ada")).await, adas);
    let bobs = of(service.clone(), json!("bob")).await;
    assert_ne!(bobs, adas);
    let bob = user(&scene.hawser, "bob");
    assert_eq!(shown_provider(&bob, &scene.server).await, bobs);
    // Others are who they are.
    for caller in [&scene.ada, &adas_key] {
        assert_eq!(of(caller.clone(), json!("bob")).await, adas);
        assert_eq!(of(caller.clone(), json!("\u{7}")).await, adas);
    }
    let own = of(service.clone(), json!("")).await;
    assert!(own != adas && own != bobs);
    assert_eq!(of(service.clone(), Value::Null).await, own);
    assert_eq!(shown_provider(&service, &scene.server).await, own);
    for user in ["\u{7}".to_owned(), "a".repeat(256)] {
        let answer = service.post(&path, json!({"ls_user_id": user})).await;
        is(&answer, invalid_body());
    }

    // The session that it begins for bob is bob's.
    let body = json!({"provider_id": bobs, "scopes": [], "strategy": "REUSE"});
    let (session, url) = begun(&service.post(SESSIONS, body).await);
    let url = scene.press(&url).await;
    scene.come_back(&scene.issuer.approve(&url).await).await;
    assert_eq!(state(&bob, &session).await, "COMPLETED");
    is(&scene.ada.get(&session_path(&session)).await, no_session());
}

#[tokio::test]
async fn what_is_wrong_in_a_session_is_said_field_by_field() {
    let hawser = Hawser::start().await;
    let ada = user(&hawser, "ada");
    let good = json!({"provider_id": UNKNOWN, "scopes": [], "strategy": "REUSE"});
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body
    };
    let lacking = |field: &str| {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(field);
        body
    };
    let lacks = |field: &str, what: &str| {
        let detail = format!("Set '{field}' to {what}: '{field}' is required");
        error(400, "missing_required_field", &detail)
    };
    let scopes = || lacks("scopes", "an array of strings");
    let strategy = || lacks("strategy", "'REUSE' or 'CREATE'");
    let many: Vec<_> = (0..101).map(|i| format!("s{i}")).collect();
    let cases = [
        (json!([]), invalid_body()),
        (json!("a"), invalid_body()),
        (lacking("provider_id"), missing("provider_id")),
        (with("provider_id", json!(null)), missing("provider_id")),
        (with("provider_id", json!("  ")), missing("provider_id")),
        (with("provider_id", json!(7)), invalid_body()),
        (with("provider_id", json!("no-uuid")), no_provider()),
        (lacking("scopes"), scopes()),
        (with("scopes", json!(null)), scopes()),
        (with("scopes", json!("a b")), invalid_body()),
        (with("scopes", json!({})), invalid_body()),
        (with("scopes", json!(["a", 7])), invalid_body()),
        (with("scopes", json!([null])), invalid_body()),
        (with("scopes", json!([""])), invalid_body()),
        (with("scopes", json!(["a b"])), invalid_body()),
        (with("scopes", json!(["a\"b"])), invalid_body()),
        (with("scopes", json!(["a\\b"])), invalid_body()),
        (with("scopes", json!(["é"])), invalid_body()),
        (with("scopes", json!(many)), invalid_body()),
        (with("scopes", json!(many[..100])), no_provider()),
        (with("scopes", json!(["!#[]~:/", "a", "a"])), no_provider()),
        (lacking("strategy"), strategy()),
        (with("strategy", json!(null)), strategy()),
        (with("strategy", json!("")), strategy()),
        (with("strategy", json!("reuse")), invalid_body()),
        (with("strategy", json!("REUSE ")), invalid_body()),
        (with("strategy", json!(true)), invalid_body()),
        (with("agent_id", json!(7)), invalid_body()),
        (with("agent_id", json!("a")), no_provider()),
        (with("token_id", json!(7)), invalid_body()),
        (with("token_id", json!(null)), no_provider()),
        (with("is_default", json!("true")), invalid_body()),
        (with("is_default", json!(true)), no_provider()),
        (with("nonsense", json!([7])), no_provider()),
        // A fault of syntax comes before what is missing, and that before a value.
        (json!({"scopes": 7}), invalid_body()),
        (
            json!({"scopes": [], "strategy": "x"}),
            missing("provider_id"),
        ),
    ];
    for (body, expected) in cases {
        let answer = ada.post(SESSIONS, body.clone()).await;
        assert_eq!(answer.json(), expected, "{body}");
        is(&answer, expected);
    }
    let broken = ada.send("POST", SESSIONS, &[], b"{".to_vec()).await;
    is(&broken, invalid_body());
    let none = ada.send("POST", SESSIONS, &[], Vec::new()).await;
    is(&none, invalid_body());
}
