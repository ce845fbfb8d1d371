//! The LangSmith contract's consent: providers and auth sessions, over HTTP and against an issuer; and what it leads to, the
//! tools of a server.

use crate::harness::{Answer, Browser, Caller, Hawser, Page};
use crate::issuer::{FOREIGN, Fault, Issuer};
use crate::langsmith::{
    EVERYTHING, SERVERS, UNKNOWN, at, error, invalid_body, invalid_path, is, is_json,
    is_unauthorized, lacks, missing, not_found, too_large,
};
use crate::upstream::{Reply, Upstream};
use hawser_core::domain::event::Action;
use hawser_core::domain::id::Sortable;
use hawser_core::domain::session::Session;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use url::Url;

const SESSIONS: &str = "/v1/deepagents/auth-sessions";

/// A server that an issuer protects, and the provider of a user there.
struct Scene {
    hawser: Hawser,
    issuer: Issuer,
    ada: Caller,
    server: String,
    provider: String,
    browser: Mutex<Browser>,
}

impl Scene {
    async fn new() -> Self {
        Self::on(Hawser::start().await).await
    }

    /// With a clock that stands still until it is moved.
    async fn by_hand() -> Self {
        Self::on(Hawser::start_by_hand().await).await
    }

    async fn on(hawser: Hawser) -> Self {
        let issuer = Issuer::start().await;
        let ada = user(&hawser, "ada");
        let server = register(&ada, &issuer.mcp_url()).await;
        let provider = provider(&ada, &server).await;
        Self {
            hawser,
            issuer,
            ada,
            server,
            provider,
            browser: Mutex::new(Browser::new()),
        }
    }

    fn asking(&self, strategy: &str, scopes: &[&str]) -> Value {
        json!({"provider_id": self.provider, "scopes": scopes, "strategy": strategy})
    }

    async fn ask(&self, strategy: &str, scopes: &[&str]) -> Answer {
        self.ada.post(SESSIONS, self.asking(strategy, scopes)).await
    }

    /// A new session: its id, and where the user is sent when the button of its page was pressed.
    async fn begin(&self, scopes: &[&str]) -> (String, String) {
        let (id, url) = begun(&self.ask("CREATE", scopes).await);
        (id, self.press(&url).await)
    }

    fn browser(&self) -> Browser {
        self.browser.lock().unwrap().clone()
    }

    /// Opens a consent's page and presses the button; where the issuer asks the user.
    async fn press(&self, url: &str) -> String {
        let mut browser = self.browser();
        let at_issuer = browser.begin(url).await;
        *self.browser.lock().unwrap() = browser;
        at_issuer
    }

    async fn state(&self, session: &str) -> String {
        state(&self.ada, session).await
    }

    /// Opens the address that an issuer sends the browser back to.
    async fn come_back(&self, callback: &str) -> Page {
        assert!(callback.starts_with(&self.hawser.url), "{callback}");
        self.browser().open(callback).await
    }

    /// A session that ended well.
    async fn connect(&self, scopes: &[&str]) -> String {
        let (session, url) = self.begin(scopes).await;
        self.come_back(&self.issuer.approve(&url).await).await;
        assert_eq!(self.state(&session).await, "COMPLETED");
        session
    }
}

fn user(hawser: &Hawser, name: &str) -> Caller {
    hawser.caller("acme", name, json!({"permissions": EVERYTHING}))
}

async fn register(caller: &Caller, url: &str) -> String {
    let server = json!({"name": "search", "url": url, "auth_type": "oauth",
                        "oauth_mode": "per_user_dynamic_client"});
    let made = caller.post(SERVERS, server).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.json()["oauth_provider_id"], Value::Null);
    made.json()["id"].as_str().unwrap().to_owned()
}

fn provider_path(server: &str) -> String {
    format!("{}/oauth-provider", at(server))
}

async fn provider(caller: &Caller, server: &str) -> String {
    let answer = caller.post(&provider_path(server), json!({})).await;
    let id = answer.json()["oauth_provider_id"].clone();
    is(&answer, json!({"oauth_provider_id": id}));
    id.as_str().unwrap().to_owned()
}

fn session_path(id: &str) -> String {
    format!("{SESSIONS}/{id}")
}

async fn state(caller: &Caller, session: &str) -> String {
    let answer = caller.get(&session_path(session)).await;
    let state = answer.json()["status"].clone();
    is(&answer, json!({"id": session, "status": state}));
    state.as_str().unwrap().to_owned()
}

/// What a 201 of a session says.
#[track_caller]
fn begun(answer: &Answer) -> (String, String) {
    let body = answer.json();
    let text = |name: &str| {
        let text = body[name].as_str();
        text.unwrap_or_else(|| panic!("no {name}: {body}"))
            .to_owned()
    };
    let (id, url) = (text("id"), text("verification_url"));
    let expected = json!({
        "id": id, "provider_id": body["provider_id"], "status": "PENDING", "verification_url": url, "metadata": {},
    });
    is_json(answer, 201, expected);
    (id, url)
}

/// The id of the token that a 200 says is reused.
#[track_caller]
fn reused(answer: &Answer) -> String {
    let body = answer.json();
    let token = body["token"].as_str().unwrap_or_default().to_owned();
    assert!(!token.is_empty(), "{answer:?}");
    let expected = json!({
        "provider_id": body["provider_id"], "status": "COMPLETED", "token": token, "metadata": {},
    });
    is(answer, expected);
    token
}

async fn shown_provider(caller: &Caller, server: &str) -> Value {
    let one = caller.get(&at(server)).await.json();
    let listed = caller.get(SERVERS).await.json();
    let all = listed.as_array().unwrap();
    assert!(all.contains(&one), "{one} is not in {listed}");
    one["oauth_provider_id"].clone()
}

fn no_provider() -> Value {
    let detail = "Register the provider first: 'provider_id' is not known for this caller";
    error(400, "invalid_oauth_provider", detail)
}

fn no_session() -> Value {
    let detail = "Start a new session: auth session not found";
    error(404, "auth_session_not_found", detail)
}

fn not_enabled() -> Value {
    let detail = "Set 'auth_type' to 'oauth' and 'oauth_mode' to 'per_user_dynamic_client': \
                  the server does not use per-user OAuth";
    error(400, "oauth_not_enabled", detail)
}

fn undiscovered(why: &str) -> Value {
    let detail = format!("Check the OAuth support of the MCP server: {why}");
    error(400, "oauth_discovery_failed", &detail)
}

fn away() -> Value {
    let detail = "Try again later: the MCP server or its authorization server did not answer";
    error(503, "upstream_unavailable", detail)
}

#[tokio::test]
async fn a_consent_from_the_first_call_to_a_token_that_is_reused() {
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
async fn parallel_registrations_give_one_provider_and_a_repeat_asks_nobody() {
    let hawser = Hawser::start().await;
    let issuer = Issuer::start().await;
    let ada = user(&hawser, "ada");
    let server = register(&ada, &issuer.mcp_url()).await;
    let calls = (0..8).map(|_| {
        let (ada, server) = (ada.clone(), server.clone());
        tokio::spawn(async move { provider(&ada, &server).await })
    });
    let mut ids = BTreeSet::new();
    for call in calls.collect::<Vec<_>>() {
        ids.insert(call.await.unwrap());
    }
    assert_eq!(ids.len(), 1, "{ids:?}");
    issuer.clear_log();
    issuer.fault(Fault {
        status: Some(503),
        ..Fault::always("")
    });
    assert_eq!(provider(&ada, &server).await, *ids.first().unwrap());
    // Without a body it is the same.
    let empty = ada
        .send("POST", &provider_path(&server), &[], Vec::new())
        .await;
    is(&empty, json!({"oauth_provider_id": ids.first()}));
    assert_eq!(issuer.log().len(), 0);

    // Nothing is left behind.
    issuer.clear_faults();
    assert_eq!(ada.delete(&at(&server)).await.status, 204);
    hawser.run_workers().await;
    assert_eq!(issuer.clients(), Vec::<String>::new());
}

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
async fn leaving_oauth_takes_them_away_too() {
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

#[tokio::test]
async fn a_server_whose_protection_is_unusable_gets_no_provider() {
    let all = |status: u16| Fault {
        status: Some(status),
        ..Fault::always("")
    };
    let refused = Fault {
        status: Some(400),
        body: json!({"error": "invalid_client_metadata", "error_description": FOREIGN}).to_string(),
        ..Fault::always("/register")
    };
    let dropped = Fault {
        drop: true,
        ..Fault::always("")
    };
    type Break = Box<dyn Fn(&Issuer)>;
    let fault = |fault: Fault| -> Break { Box::new(move |issuer| issuer.fault(fault.clone())) };
    let cases: [(Break, Value); 6] = [
        (
            fault(all(404)),
            undiscovered("no authorization server was found"),
        ),
        (
            Box::new(|issuer| issuer.configure(|s| s.s256 = false)),
            undiscovered("its metadata is not usable"),
        ),
        (fault(all(503)), away()),
        (fault(dropped), away()),
        (
            fault(refused),
            undiscovered("it refused the client registration"),
        ),
        (
            Box::new(|issuer| issuer.configure(|s| s.dynamic_registration = false)),
            undiscovered("it refused the client registration"),
        ),
    ];
    let hawser = Hawser::start().await;
    let (ada, bob) = (user(&hawser, "ada"), user(&hawser, "bob"));
    for (spoil, expected) in cases {
        let issuer = Issuer::start().await;
        let server = register(&ada, &issuer.mcp_url()).await;
        let bobs = provider(&bob, &server).await;
        spoil(&issuer);
        let answer = ada.post(&provider_path(&server), json!({})).await;
        assert!(!answer.text.contains(FOREIGN), "{answer:?}");
        is(&answer, expected.clone());
        assert_eq!(shown_provider(&ada, &server).await, Value::Null);
        // A provider that is there already needs no registration, but the rest, which its session's page finds out.
        let session = json!({"provider_id": bobs, "scopes": [], "strategy": "REUSE"});
        let (id, url) = begun(&bob.post(SESSIONS, session).await);
        let page = Browser::new().start(&url).await;
        assert!(!page.text.contains(FOREIGN), "{page:?}");
        let (status, state_after) = if expected["detail"].to_string().contains("registration") {
            (303, "PENDING")
        } else if expected["status"] == 503 {
            (503, "CONNECTION_REQUIRED")
        } else {
            (502, "CONNECTION_REQUIRED")
        };
        assert_eq!(page.status, status, "{page:?}");
        assert_eq!(state(&bob, &id).await, state_after);
        assert_eq!(ada.delete(&at(&server)).await.status, 204);
    }
}

#[tokio::test]
async fn only_servers_of_per_user_oauth_take_providers() {
    let hawser = Hawser::start().await;
    let ada = user(&hawser, "ada");
    for (name, more) in [
        ("plain", json!({})),
        ("headers", json!({"auth_type": "headers"})),
        (
            "legacy",
            json!({"auth_type": "oauth", "oauth_provider_id": UNKNOWN}),
        ),
    ] {
        let mut server = json!({"name": name, "url": "https://mcp.example.com/"});
        server
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let made = ada.post(SERVERS, server).await.json();
        let path = provider_path(made["id"].as_str().unwrap());
        is(&ada.post(&path, json!({})).await, not_enabled());
    }
    // The id of a legacy provider is nobody's.
    let body = json!({"provider_id": UNKNOWN, "scopes": [], "strategy": "REUSE"});
    is(&ada.post(SESSIONS, body).await, no_provider());
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
async fn what_is_wrong_in_a_registration_is_said() {
    let hawser = Hawser::start().await;
    let ada = user(&hawser, "ada");
    let unknown = provider_path(UNKNOWN);
    for body in ["{", "[]", "null", "7", "\"a\"", "{\"ls_user_id\": 7}"] {
        let answer = ada.send("POST", &unknown, &[], body.into()).await;
        is(&answer, invalid_body());
        let answer = ada
            .send("POST", &provider_path("7"), &[], body.into())
            .await;
        is(&answer, invalid_path());
    }
    for body in ["", "{}", "{\"ls_user_id\": null}", "{\"else\": 7}"] {
        let answer = ada.send("POST", &unknown, &[], body.into()).await;
        is(&answer, not_found());
    }
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

// The tools of a server (LangSmith 2.7)

async fn tools(caller: &Caller, url: &str, more: &str) -> Answer {
    let url: String = url::form_urlencoded::byte_serialize(url.as_bytes()).collect();
    let path = format!("/v1/deepagents/mcp/tools?url={url}{more}");
    caller.get(&path).await
}

fn unknown_provider() -> Value {
    let detail = "Verify 'oauth_provider_id': it is not a provider of this caller for this server";
    error(404, "oauth_provider_not_found", detail)
}

#[tokio::test]
async fn tools_take_credentials_and_the_permission_to_read() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    upstream.has_tools(json!([]));
    let new = json!({"name": "wiki", "url": upstream.url});
    assert_eq!(user(&hawser, "ada").post(SERVERS, new).await.status, 201);
    let but_read: Vec<_> = EVERYTHING
        .into_iter()
        .filter(|one| *one != "mcp-servers:read")
        .collect();
    let others = hawser.caller("acme", "ada", json!({"permissions": but_read}));
    let only = json!({"permissions": ["mcp-servers:read"]});
    let key = hawser.api_key("acme", Some("user:ada"), only.clone()).await;
    let only = hawser.caller("acme", "ada", only);
    for more in ["", "&force_refresh=x"] {
        is_unauthorized(&tools(&hawser.anonymous(), &upstream.url, more).await);
        lacks(
            &tools(&others, &upstream.url, more).await,
            "mcp-servers:read",
        );
        let (elsewhere, path) = ([("x-tenant-id", UNKNOWN)], "/v1/deepagents/mcp/tools?url=x");
        let answer = only.send("GET", path, &elsewhere, Vec::new()).await;
        is_json(&answer, 403, json!({"error": "Forbidden"}));
    }
    for caller in [&only, &key] {
        assert_eq!(tools(caller, &upstream.url, "").await.status, 200);
    }
    assert_eq!(upstream.count(), 1);
    // Another tenant has no server there.
    let stranger = hawser.caller("other", "ada", json!({"permissions": EVERYTHING}));
    is(&tools(&stranger, &upstream.url, "").await, not_found());
}

#[tokio::test]
async fn what_is_wrong_in_a_question_for_tools_is_said() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    upstream.has_tools(json!([]));
    let ada = user(&hawser, "ada");
    ada.post(SERVERS, json!({"name": "wiki", "url": upstream.url}))
        .await;
    for query in [
        "",
        "?url",
        "?url=",
        "?url=%20%09",
        "?URL=x",
        "?url=x&url=",
        "?force_refresh=x",
    ] {
        let answer = ada.get(&format!("/v1/deepagents/mcp/tools{query}")).await;
        is(&answer, missing("url"));
    }
    let wrong = error(
        400,
        "invalid_query_parameter",
        "Set 'force_refresh' to true or false: the given value is not valid",
    );
    for value in ["x", "2", "yes", "null", "truee", "%20true"] {
        let answer = tools(&ada, "nowhere", &format!("&force_refresh={value}")).await;
        is(&answer, wrong.clone());
    }
    for url in [
        "nowhere",
        "7",
        "https://mcp.example.com",
        &format!("{}/more", upstream.url),
    ] {
        is(&tools(&ada, url, "").await, not_found());
        is(&tools(&ada, url, "&oauth_provider_id=x").await, not_found());
    }
    for id in ["x", UNKNOWN, "%F0%9F%98%80"] {
        let answer = tools(&ada, &upstream.url, &format!("&oauth_provider_id={id}")).await;
        is(&answer, unknown_provider());
    }
    // Who is no service key acts for nobody else.
    for more in ["", "&oauth_provider_id=", "&ls_user_id=%07", "&else=7"] {
        assert_eq!(tools(&ada, &upstream.url, more).await.status, 200);
    }
    let read = json!({"permissions": ["mcp-servers:read"]});
    let service = hawser.api_key("acme", None, read).await;
    let answer = tools(&service, &upstream.url, "&ls_user_id=%07").await;
    assert_eq!(
        answer.json()["code"],
        "invalid_query_parameter",
        "{answer:?}"
    );
}

#[tokio::test]
async fn of_several_servers_at_a_url_the_nearest_and_newest_is_asked() {
    let (hawser, upstream) = (Hawser::start_by_hand().await, Upstream::start().await);
    let ada = user(&hawser, "ada");
    upstream.answers(|seen| {
        let tool = json!({"name": seen.header("x-server")});
        let body = json!({"jsonrpc": "2.0", "id": 1, "result": {"tools": [tool]}});
        let headers = vec![("content-type", "application/json".to_owned())];
        Reply::new(200, headers, body.to_string())
    });
    let asked = async |url: &str| {
        let answer = tools(&ada, url, "").await;
        answer.json()["tools"][0]["name"].clone()
    };
    let upper = upstream.url.replace("/mcp", "/MCP");
    for (name, url) in [
        ("old", upstream.url.clone()),
        ("new", upstream.url.clone()),
        ("slash", format!("{}/", upstream.url)),
        ("upper", upper.clone()),
    ] {
        hawser.pass(1);
        let headers = json!([{"key": "X-Server", "value": name}]);
        let new = json!({"name": name, "url": url, "headers": headers});
        assert_eq!(ada.post(SERVERS, new).await.status, 201);
    }
    assert_eq!(asked(&upstream.url).await, "new");
    assert_eq!(asked(&format!("{}/", upstream.url)).await, "slash");
    assert_eq!(asked(&upper).await, "upper");
    // None is spelt like this.
    for near in [
        format!("{}//", upstream.url),
        format!(" {}\t", upstream.url),
        upper.replace("http", "HTTP"),
    ] {
        assert_eq!(asked(&near).await, "upper", "{near}");
    }
}

#[tokio::test]
async fn a_provider_tells_servers_of_one_url_apart() {
    let scene = Scene::new().await;
    let (ada, issuer, url) = (&scene.ada, &scene.issuer, scene.issuer.mcp_url());
    let unconnected = error(
        400,
        "oauth_connection_required",
        "Connect to this server first: the caller has no usable token",
    );
    is(&tools(ada, &url, "").await, unconnected.clone());
    scene.connect(&[]).await;
    let (own, of_family) = (format!("&oauth_provider_id={}", scene.provider), "of-0");
    let answer = tools(ada, &url, &own).await;
    assert_eq!(answer.json()["tools"][0]["name"], of_family, "{answer:?}");
    // A newer one at the same place, without a connection.
    let newer = json!({"name": "newer", "url": url, "auth_type": "oauth"});
    let newer = ada.post(SERVERS, newer).await.json();
    let other = provider(ada, newer["id"].as_str().unwrap()).await;
    is(&tools(ada, &url, "").await, unconnected.clone());
    assert_eq!(tools(ada, &url, &own).await.status, 200);
    let other = format!("&oauth_provider_id={}", other.to_uppercase());
    is(&tools(ada, &url, &other).await, unconnected.clone());
    // Nobody else's provider is of use; a service key acts for whom it names.
    let bob = user(&scene.hawser, "bob");
    is(&tools(&bob, &url, &own).await, unknown_provider());
    let read = json!({"permissions": ["mcp-servers:read"]});
    let service = scene.hawser.api_key("acme", None, read).await;
    is(&tools(&service, &url, &own).await, unknown_provider());
    let answer = tools(&service, &url, &format!("{own}&ls_user_id=ada")).await;
    assert_eq!(answer.json()["tools"][0]["name"], of_family, "{answer:?}");
    assert_eq!(answer.json()["cached"], true);
    is(
        &tools(&service, &url, &format!("{own}&ls_user_id=bob")).await,
        unknown_provider(),
    );
    // A legacy server has the id that was stored, and is asked without a token.
    let upstream = Upstream::start().await;
    upstream.has_tools(json!([]));
    let legacy = json!({"name": "legacy", "url": upstream.url, "auth_type": "oauth", "oauth_provider_id": UNKNOWN});
    assert_eq!(ada.post(SERVERS, legacy).await.status, 201);
    let plain = json!({"name": "plain", "url": upstream.url});
    assert_eq!(ada.post(SERVERS, plain).await.status, 201);
    let answer = tools(
        &bob,
        &upstream.url,
        &format!("&oauth_provider_id={UNKNOWN}"),
    )
    .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    is(&tools(&bob, &upstream.url, &own).await, unknown_provider());
    assert_eq!(upstream.last().header("authorization"), None);
    // A provider that its server no longer stands behind is none.
    let moved = json!({"url": format!("{url}?a")});
    assert_eq!(ada.patch(&at(&scene.server), moved).await.status, 200);
    is(
        &tools(ada, &format!("{url}?a"), &own).await,
        unknown_provider(),
    );
    assert_eq!(issuer.issued().len(), 1);
}

#[tokio::test]
async fn a_token_is_refreshed_once_before_a_list_is_given_up() {
    let scene = Scene::by_hand().await;
    let url = scene.issuer.mcp_url();
    scene.connect(&[]).await;
    scene.issuer.expire(&scene.issuer.issued()[0].access);
    scene.issuer.clear_log();
    assert_eq!(tools(&scene.ada, &url, "").await.status, 200);
    let log = scene.issuer.log();
    let paths: Vec<_> = log.iter().map(|one| one.path.as_str()).collect();
    assert_eq!(paths, ["/mcp", "/token", "/mcp"]);
    // A server that takes neither the old nor the new one, some time later.
    scene.hawser.pass(60);
    scene.issuer.fault(Fault {
        status: Some(401),
        times: 2,
        ..Fault::once("/mcp")
    });
    scene.issuer.clear_log();
    let answer = tools(&scene.ada, &url, "&force_refresh=true").await;
    let refused =
        "Check the stored credentials or connect again: the MCP server rejected the request";
    is(&answer, error(502, "upstream_auth_failed", refused));
    assert_eq!(scene.issuer.log().len(), 3);
}
