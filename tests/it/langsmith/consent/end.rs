//! What ends providers, tokens and sessions.

use super::{
    Scene, begun, no_provider, no_session, not_enabled, provider, provider_path, session_path,
    shown_provider,
};
use crate::langsmith::{at, is, not_found};
use serde_json::{Value, json};

#[tokio::test]
async fn a_patch_of_the_url_takes_providers_tokens_and_pending_sessions_away() {
    let scene = Scene::new().await;
    let (ada, server) = (&scene.ada, &scene.server);
    let done = scene.connect(&[]).await;
    let (pending, url) = scene.begin(&[]).await;
    let callback = scene.issuer.approve(&url).await;

    // What changes nothing keeps everything.
    let same = ada
        .patch(&at(server), json!({"url": scene.issuer.mcp_url()}))
        .await;
    assert_eq!(same.json()["oauth_provider_id"], json!(scene.provider));
    assert_eq!(scene.state(&pending).await, "PENDING");

    let moved = format!("{}?a=b", scene.issuer.mcp_url());
    let patched = ada.patch(&at(server), json!({"url": moved})).await;
    assert_eq!(
        (patched.status, &patched.json()["oauth_provider_id"]),
        (200, &Value::Null)
    );
    assert_eq!(shown_provider(ada, server).await, Value::Null);
    for session in [&done, &pending] {
        assert_eq!(scene.state(session).await, "CONNECTION_REQUIRED");
    }
    is(&scene.ask("REUSE", &[]).await, no_provider());
    is(&scene.ask("CREATE", &[]).await, no_provider());
    assert_eq!(scene.come_back(&callback).await.status, 400);
    scene.hawser.run_workers().await;
    assert_eq!(scene.issuer.live_tokens(), Vec::<String>::new());

    let next = provider(ada, server).await;
    assert_ne!(next, scene.provider);
    is(&scene.ask("CREATE", &[]).await, no_provider());
    let again = Scene {
        provider: next,
        ..scene
    };
    again.connect(&[]).await;
    for session in [&done, &pending] {
        assert_eq!(again.state(session).await, "CONNECTION_REQUIRED");
    }
    again.hawser.run_workers().await;
}

#[tokio::test]
async fn a_patch_away_from_oauth_takes_providers_tokens_and_sessions_away() {
    let scene = Scene::new().await;
    let (ada, server) = (&scene.ada, &scene.server);
    let session = scene.connect(&[]).await;
    let patched = ada
        .patch(&at(server), json!({"auth_type": "headers"}))
        .await;
    assert_eq!(patched.json().get("oauth_provider_id"), None);
    assert_eq!(scene.state(&session).await, "CONNECTION_REQUIRED");
    is(&scene.ask("REUSE", &[]).await, no_provider());
    is(
        &ada.post(&provider_path(server), json!({})).await,
        not_enabled(),
    );
    let back = ada.patch(&at(server), json!({"auth_type": "oauth"})).await;
    assert_eq!(back.json()["oauth_provider_id"], Value::Null);
    is(&scene.ask("REUSE", &[]).await, no_provider());
    assert_ne!(provider(ada, server).await, scene.provider);
    assert_eq!(scene.state(&session).await, "CONNECTION_REQUIRED");
}

#[tokio::test]
async fn a_disconnected_user_has_no_connection_and_no_open_session() {
    let scene = Scene::new().await;
    let done = scene.connect(&[]).await;
    let (pending, _) = scene.begin(&[]).await;
    let admin = scene.hawser.admin("acme");
    let listed = admin.get("/api/svc/v1/mcp").await.json();
    let mcp = listed["data"][0]["id"].as_str().unwrap().to_owned();
    let body = json!({"authSource": "oauth", "subjectId": "ada", "subjectType": "user"});
    let answer = admin
        .delete_with(&format!("/api/svc/v1/mcp/{mcp}/auth"), body)
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    for session in [&done, &pending] {
        assert_eq!(scene.state(session).await, "CONNECTION_REQUIRED");
    }
    // The provider outlives its tokens.
    begun(&scene.ask("REUSE", &[]).await);
}

#[tokio::test]
async fn a_deleted_server_takes_its_sessions_and_providers_along() {
    let scene = Scene::new().await;
    let done = scene.connect(&[]).await;
    let (pending, _) = scene.begin(&[]).await;
    let path = format!("{}?wait_seconds=25", session_path(&pending));
    let ada = scene.ada.clone();
    scene.hawser.wire.arm(None);
    let held = tokio::spawn(async move { ada.get(&path).await });
    while scene.hawser.wire.operations().len() < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(scene.ada.delete(&at(&scene.server)).await.status, 204);
    is(&held.await.unwrap(), no_session());
    for settled in [false, true] {
        if settled {
            scene.hawser.run_workers().await;
        }
        for session in [&done, &pending] {
            is(&scene.ada.get(&session_path(session)).await, no_session());
        }
        for strategy in ["REUSE", "CREATE"] {
            is(&scene.ask(strategy, &[]).await, no_provider());
        }
        let path = provider_path(&scene.server);
        is(&scene.ada.post(&path, json!({})).await, not_found());
    }
    assert_eq!(scene.issuer.live_tokens(), Vec::<String>::new());
}
