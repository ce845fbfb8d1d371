//! Asking for an auth session.

use super::{
    SESSIONS, Scene, begun, no_provider, no_session, provider, provider_path, reused, session_path,
    shown_provider, state, user,
};
use crate::issuer::{FOREIGN, Fault};
use crate::langsmith::{
    EVERYTHING, UNKNOWN, error, is, is_json, is_unauthorized, lacks, too_large,
};
use hawser_core::domain::event::Action;
use hawser_core::domain::id::Sortable;
use hawser_core::domain::session::Session;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_token_that_cannot_be_refreshed_expires() {
    let scene = Scene::by_hand().await;
    scene.issuer.configure(|s| s.refresh_tokens = false);
    let session = scene.connect(&[]).await;
    scene.hawser.pass(3599);
    assert_eq!(scene.state(&session).await, "COMPLETED");
    begun(&scene.ask("REUSE", &[]).await);
    scene.hawser.pass(1);
    assert_eq!(scene.state(&session).await, "TOKEN_EXPIRED");
    let next = scene.connect(&[]).await;
    assert_eq!(scene.state(&session).await, "COMPLETED");
    assert_eq!(scene.state(&next).await, "COMPLETED");
}

#[tokio::test]
async fn a_consent_that_goes_wrong_leaves_a_connection_required() {
    let scene = Scene::new().await;
    let (denied, url) = scene.begin(&[]).await;
    let page = scene.come_back(&scene.issuer.deny(&url).await).await;
    assert!(!page.text.contains(FOREIGN), "{page:?}");
    assert_eq!(scene.state(&denied).await, "CONNECTION_REQUIRED");

    let (unexchanged, url) = scene.begin(&[]).await;
    scene.issuer.fault(Fault {
        status: Some(500),
        ..Fault::once("/token")
    });
    scene.come_back(&scene.issuer.approve(&url).await).await;
    assert_eq!(scene.state(&unexchanged).await, "CONNECTION_REQUIRED");

    let (impostor, url) = scene.begin(&[]).await;
    scene
        .issuer
        .configure(|s| s.wrong_iss = Some("https://else.example".to_owned()));
    scene.come_back(&scene.issuer.approve(&url).await).await;
    assert_eq!(scene.state(&impostor).await, "CONNECTION_REQUIRED");
    begun(&scene.ask("REUSE", &[]).await);

    // Another try is another session; those that failed stay so.
    scene.issuer.configure(|s| s.wrong_iss = None);
    scene.connect(&[]).await;
    for session in [denied, unexchanged, impostor] {
        assert_eq!(scene.state(&session).await, "CONNECTION_REQUIRED");
    }
}

#[tokio::test]
async fn a_consent_has_ten_minutes_and_a_session_a_day() {
    let scene = Scene::by_hand().await;
    let (late, url) = scene.begin(&[]).await;
    let done = scene.connect(&[]).await;
    let callback = scene.issuer.approve(&url).await;
    scene.hawser.pass(599);
    assert_eq!(scene.state(&late).await, "PENDING");
    scene.hawser.pass(1);
    assert_eq!(scene.state(&late).await, "CONNECTION_REQUIRED");
    assert_eq!(scene.come_back(&callback).await.status, 400);
    assert_eq!(scene.state(&late).await, "CONNECTION_REQUIRED");

    scene.hawser.pass(24 * 3600 - 601);
    for session in [&late, &done] {
        assert_eq!(scene.ada.get(&session_path(session)).await.status, 200);
    }
    scene.hawser.pass(1);
    for session in [&late, &done] {
        is(&scene.ada.get(&session_path(session)).await, no_session());
    }
}

#[tokio::test]
async fn an_answer_is_held_until_the_state_changes_or_the_time_is_over() {
    let scene = Scene::new().await;
    let (session, url) = scene.begin(&[]).await;
    let callback = scene.issuer.approve(&url).await;
    for (query, seconds) in [("", 1), ("?wait_seconds=2", 2)] {
        scene.hawser.wire.arm(None);
        let began = Instant::now();
        let answer = scene
            .ada
            .get(&format!("{}{query}", session_path(&session)))
            .await;
        is(&answer, json!({"id": session, "status": "PENDING"}));
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(seconds), "{took:?}");
        assert!(took < Duration::from_secs(seconds + 5), "{took:?}");
        let looked = scene.hawser.wire.operations().len();
        assert!(looked > seconds as usize, "{looked} in {seconds} s");
    }

    scene.hawser.wire.arm(None);
    let began = Instant::now();
    let path = format!("{}?wait_seconds=25", session_path(&session));
    let ada = scene.ada.clone();
    let held = tokio::spawn(async move { ada.get(&path).await });
    while scene.hawser.wire.operations().len() < 4 {
        tokio::task::yield_now().await;
    }
    assert!(!held.is_finished());
    scene.come_back(&callback).await;
    let answer = held.await.unwrap();
    is(&answer, json!({"id": session, "status": "COMPLETED"}));
    assert!(began.elapsed() < Duration::from_secs(15));

    // What is not pending is answered at once.
    scene.hawser.wire.arm(None);
    let path = format!("{}?wait_seconds=25", session_path(&session));
    assert_eq!(scene.ada.get(&path).await.json()["status"], "COMPLETED");
    assert_eq!(scene.hawser.wire.operations().len(), 2);
}

#[tokio::test]
async fn a_code_that_is_being_exchanged_is_pending_still() {
    let scene = Scene::new().await;
    let (session, url) = scene.begin(&[]).await;
    let callback = scene.issuer.approve(&url).await;
    let gate = crate::issuer::Gate::closed();
    scene.issuer.fault(Fault {
        hold: Some(gate.clone()),
        ..Fault::once("/token")
    });
    let mut browser = scene.browser();
    let page = tokio::spawn(async move { browser.open(&callback).await });
    gate.reached().await;
    assert_eq!(scene.state(&session).await, "PENDING");
    gate.open();
    assert_eq!(page.await.unwrap().status, 200);
    assert_eq!(scene.state(&session).await, "COMPLETED");
}

#[tokio::test]
async fn a_session_is_its_users_own() {
    let scene = Scene::new().await;
    let hawser = &scene.hawser;
    let (session, url) = scene.begin(&[]).await;
    let bob = user(hawser, "bob");
    let stranger = hawser.caller("globex", "ada", json!({"permissions": EVERYTHING}));
    let owned = json!({"permissions": EVERYTHING});
    let bobs_key = hawser
        .api_key("acme", Some("user:bob"), owned.clone())
        .await;
    let namesake = hawser
        .api_key("acme", Some("virtualaccount:ada"), owned.clone())
        .await;
    let foreign_key = hawser.api_key("globex", None, owned.clone()).await;
    for caller in [&bob, &stranger, &bobs_key, &namesake, &foreign_key] {
        is(&caller.get(&session_path(&session)).await, no_session());
        is(
            &caller.post(SESSIONS, scene.asking("CREATE", &[])).await,
            no_provider(),
        );
        is(
            &caller.post(SESSIONS, scene.asking("REUSE", &[])).await,
            no_provider(),
        );
    }
    let adas_key = hawser
        .api_key("acme", Some("user:ada"), owned.clone())
        .await;
    let service = hawser.api_key("acme", None, owned).await;
    for caller in [&adas_key, &service] {
        assert_eq!(state(caller, &session).await, "PENDING");
    }
    scene.come_back(&scene.issuer.approve(&url).await).await;
    for caller in [&adas_key, &service] {
        assert_eq!(state(caller, &session).await, "COMPLETED");
        reused(&caller.post(SESSIONS, scene.asking("REUSE", &[])).await);
    }
    is(&bob.get(&session_path(&session)).await, no_session());
    // Everyone sees their own provider, or none.
    assert_eq!(
        shown_provider(&adas_key, &scene.server).await,
        json!(scene.provider)
    );
    for caller in [&bob, &bobs_key, &namesake, &service] {
        assert_eq!(shown_provider(caller, &scene.server).await, Value::Null);
    }
    let bobs = provider(&bobs_key, &scene.server).await;
    assert_ne!(bobs, scene.provider);
    assert_eq!(shown_provider(&bob, &scene.server).await, json!(bobs));
    // What ada agreed to connects nobody else.
    let own = json!({"provider_id": bobs, "scopes": [], "strategy": "REUSE"});
    begun(&bob.post(SESSIONS, own).await);
}

#[tokio::test]
async fn sessions_of_sibling_contracts_are_none_here() {
    let scene = Scene::new().await;
    let server = hawser_core::domain::id::ServerId::parse_uuid(&scene.server).unwrap();
    let ada = hawser_core::domain::subject::Subject::parse("user:ada").unwrap();
    for origin in [
        json!({"truefoundry": {"return_to": null, "base": "https://h.example"}}),
        json!({"kambrium": {"integration": "x"}}),
        json!({"langsmith": {"provider": UNKNOWN}}),
    ] {
        let now = scene.hawser.app.now();
        let session: Session = serde_json::from_value(json!({
            "id": format!("{}{}", Session::tag(&ada), Sortable::new(now).unwrap().ulid()), "tenant": "acme",
            "server": server,
            "subject_type": "user", "subject_id": "ada", "auth_revision": 1, "at": now, "origin": origin,
            "phase": "pending", "secret_hash": "", "ttl": 0,
        }))
        .unwrap();
        let table = &scene.hawser.app.table;
        let begun = scene.hawser.event(&session.tenant, Action::SessionBegun);
        assert!(table.add_session(&session, None, &begun).await.unwrap());
        let id = hawser_core::operations::consent::session_id(&session);
        let answer = scene.ada.get(&session_path(&id)).await;
        if origin.get("langsmith").is_some() {
            is(&answer, json!({"id": id, "status": "PENDING"}));
        } else {
            is(&answer, no_session());
        }
    }
}

#[tokio::test]
async fn each_route_takes_credentials_and_the_permission_to_invoke() {
    let scene = Scene::new().await;
    let (session, _) = scene.begin(&[]).await;
    let routes = [
        ("POST", provider_path(&scene.server), json!({})),
        ("POST", SESSIONS.to_owned(), scene.asking("CREATE", &[])),
        ("GET", session_path(&session), Value::Null),
        // Whatever is wrong with it.
        ("POST", provider_path("7"), json!([])),
        ("POST", SESSIONS.to_owned(), json!([])),
        (
            "GET",
            format!("{}?wait_seconds=0", session_path("x")),
            Value::Null,
        ),
    ];
    let others: Vec<_> = EVERYTHING
        .into_iter()
        .filter(|one| *one != "mcp-servers:invoke")
        .collect();
    let others = scene
        .hawser
        .caller("acme", "ada", json!({"permissions": others}));
    let only = json!({"permissions": ["mcp-servers:invoke"]});
    let only = scene.hawser.caller("acme", "ada", only);
    for (i, (method, path, body)) in routes.into_iter().enumerate() {
        let body = body.to_string().into_bytes();
        let anonymous = scene.hawser.anonymous();
        is_unauthorized(&anonymous.send(method, &path, &[], body.clone()).await);
        let answer = others.send(method, &path, &[], body.clone()).await;
        lacks(&answer, "mcp-servers:invoke");
        let elsewhere = [("x-tenant-id", UNKNOWN)];
        let answer = only.send(method, &path, &elsewhere, body.clone()).await;
        is_json(&answer, 403, json!({"error": "Forbidden"}));
        let answer = only.send(method, &path, &[], body).await;
        assert_eq!(answer.status < 300, i < 3, "{method} {path}: {answer:?}");
    }
    for path in [provider_path(&scene.server), SESSIONS.to_owned()] {
        let big = vec![b' '; 262_145];
        is(&scene.ada.send("POST", &path, &[], big).await, too_large());
    }
}

#[tokio::test]
async fn what_is_wrong_in_a_question_for_a_session_is_said() {
    let scene = Scene::new().await;
    let session = scene.connect(&[]).await;
    let wrong = error(
        400,
        "invalid_query_parameter",
        "Set 'wait_seconds' to an integer from 1 to 25: the given value is not valid",
    );
    for query in [
        "wait_seconds=0",
        "wait_seconds=26",
        "wait_seconds=",
        "wait_seconds=-1",
        "wait_seconds=%2B5",
        "wait_seconds=1.5",
        "wait_seconds=a",
        "wait_seconds=99999999999999999999",
        "wait_seconds=1&wait_seconds=1",
    ] {
        for id in [session.as_str(), "unknown"] {
            let answer = scene
                .ada
                .get(&format!("{}?{query}", session_path(id)))
                .await;
            is(&answer, wrong.clone());
        }
    }
    for query in ["", "?wait_seconds=1", "?wait_seconds=25", "?force=7"] {
        let path = format!("{}{query}", session_path(&session));
        is(
            &scene.ada.get(&path).await,
            json!({"id": session, "status": "COMPLETED"}),
        );
    }
    let mut other = session.clone();
    other.replace_range(51.., if session.ends_with('0') { "1" } else { "0" });
    for id in [
        "x",
        "%20",
        "..%2f",
        "%F0%9F%98%80",
        UNKNOWN,
        &session[..51],
        &format!("{session}0"),
        &other,
    ] {
        is(&scene.ada.get(&session_path(id)).await, no_session());
    }
}
