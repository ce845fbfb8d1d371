//! The store commits, and its answer is lost: what happened is found out, and neither a code nor a consent is spent by it.

use crate::harness::{Answer, Browser, Caller, Cut, Hawser};
use crate::issuer::Issuer;
use crate::upstream::{oauth, register};
use hawser_core::domain::event::{Action, Event, Who};
use hawser_core::domain::id::{ServerId, Sortable, TenantId};
use hawser_core::domain::session::{Phase, Session};
use serde_json::{Value, json};

const MCP: &str = "/api/svc/v1/mcp";
const APP: &str = "https://app.example";

/// How a consent is begun, and how its end is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// TrueFoundry's, which ends on a page.
    Page,
    /// TrueFoundry's, which ends at the application that began it.
    Redirect,
    /// LangSmith's.
    Langsmith,
    /// Kambrium's.
    Kambrium,
}

const WAYS: [Way; 4] = [Way::Page, Way::Redirect, Way::Langsmith, Way::Kambrium];

/// A consent that waits for its user: the browser, and the address of the issuer.
struct Scene {
    hawser: Hawser,
    issuer: Issuer,
    admin: Caller,
    browser: Browser,
    at_issuer: String,
}

impl Scene {
    async fn of(way: Way) -> Self {
        let issuer = Issuer::start().await;
        let mail = json!({"display_name": "Mail", "mcp_url": issuer.mcp_url(), "oauth": {}});
        let hawser = Hawser::offering(&json!({"mail": mail}), |config| {
            config.return_origins = vec![APP.to_owned()];
        })
        .await;
        let admin = hawser.admin("acme");
        let mut browser = Browser::new();
        let url = match way {
            Way::Page | Way::Redirect => {
                let id = register(&hawser, "wiki", &issuer.mcp_url(), oauth()).await;
                let query = if way == Way::Redirect {
                    format!("?returnTo={APP}/done")
                } else {
                    String::new()
                };
                let answer = admin.get(&format!("{MCP}/{id}/authorize{query}")).await;
                text(&answer, "authorization_endpoint")
            }
            Way::Langsmith => {
                let new = json!({"name": "wiki", "url": issuer.mcp_url(), "auth_type": "oauth",
                                 "oauth_mode": "per_user_dynamic_client"});
                let made = admin.post("/v1/deepagents/mcp-servers", new).await;
                let id = text(&made, "id");
                let path = format!("/v1/deepagents/mcp-servers/{id}/oauth-provider");
                let provider = text(&admin.post(&path, json!({})).await, "oauth_provider_id");
                let ask =
                    json!({"provider_id": provider, "scopes": ["mcp:read"], "strategy": "CREATE"});
                let asked = admin.post("/v1/deepagents/auth-sessions", ask).await;
                text(&asked, "verification_url")
            }
            Way::Kambrium => {
                let new =
                    json!({"mcp_server": "mail", "access_type": "write", "auth_method": "oauth"});
                let made = admin.post("/api/v1/mcp-servers", new).await;
                let url = made.json()["data"]["authorization_url"].clone();
                url.as_str()
                    .unwrap_or_else(|| panic!("{made:?}"))
                    .to_owned()
            }
        };
        let at_issuer = browser.begin(&url).await;
        Self {
            hawser,
            issuer,
            admin,
            browser,
            at_issuer,
        }
    }

    async fn status(&self) -> Value {
        let servers = self.admin.get(MCP).await.json();
        let id = servers["data"][0]["id"].as_str().unwrap().to_owned();
        let path = format!("{MCP}/{id}/auth/status?subjectId=root&subjectType=user");
        self.admin.get(&path).await.json()
    }
}

fn text(answer: &Answer, name: &str) -> String {
    let value = answer.json()[name].clone();
    value
        .as_str()
        .unwrap_or_else(|| panic!("{answer:?}"))
        .to_owned()
}

/// Whether the user is told that they are connected.
fn told_connected(page: &crate::harness::Page) -> bool {
    let back = page.location.as_deref();
    page.text.contains("<h1>Connected</h1>")
        || back.is_some_and(|url| url.contains("status=authenticated"))
}

#[tokio::test]
async fn wherever_an_answer_is_lost_the_code_is_exchanged_and_the_user_is_told() {
    for way in WAYS {
        let mut lost = 0;
        loop {
            let mut scene = Scene::of(way).await;
            let back = scene.issuer.approve(&scene.at_issuer).await;
            scene.hawser.wire.arm(Some(Cut::Answer(lost)));
            let mut page = scene.browser.open(&back).await;
            let operations = scene.hawser.wire.operations();
            scene.hawser.wire.arm(None);
            if page.status >= 500 {
                // Nothing has happened yet: the same answer of the issuer is taken a second time.
                assert_ne!(operations[lost], "TransactWriteItems", "{way:?} {lost}");
                page = scene.browser.open(&back).await;
            }
            assert!(
                told_connected(&page),
                "{way:?} {lost} {operations:?}: {page:?}"
            );
            assert_eq!(scene.issuer.count("POST", "/token"), 1, "{way:?} {lost}");
            let connected = json!({"status": "authenticated", "method": "oauth"});
            assert_eq!(scene.status().await, connected, "{way:?} {lost}");
            if operations.len() <= lost {
                break;
            }
            lost += 1;
        }
        assert!(lost > 4, "{way:?}: {lost}");
    }
}

#[tokio::test]
async fn wherever_an_answer_is_lost_a_refusal_ends_the_consent_once() {
    for way in WAYS {
        let mut lost = 0;
        loop {
            let mut scene = Scene::of(way).await;
            let back = scene.issuer.deny(&scene.at_issuer).await;
            scene.hawser.wire.arm(Some(Cut::Answer(lost)));
            let mut page = scene.browser.open(&back).await;
            let operations = scene.hawser.wire.operations();
            scene.hawser.wire.arm(None);
            if page.status >= 500 {
                assert_ne!(operations[lost], "TransactWriteItems", "{way:?} {lost}");
                page = scene.browser.open(&back).await;
            }
            assert!(
                [200, 303].contains(&page.status),
                "{way:?} {lost}: {page:?}"
            );
            assert!(!told_connected(&page), "{way:?} {lost}: {page:?}");
            let denied = scene.status().await;
            assert_eq!(
                denied["reason"], "consent_denied",
                "{way:?} {lost}: {denied}"
            );
            let items = scene.hawser.ground().items().await;
            let ended = items
                .iter()
                .filter(|item| item["action"] == "session.ended");
            assert_eq!(ended.count(), 1, "{way:?} {lost}: told once");
            if operations.len() <= lost {
                break;
            }
            lost += 1;
        }
        assert!(lost > 3, "{way:?}: {lost}");
    }
}

#[tokio::test]
async fn a_code_that_is_refused_ends_the_consent_through_a_lost_answer() {
    for lost in 0..6 {
        let mut scene = Scene::of(Way::Page).await;
        let back = scene.issuer.approve(&scene.at_issuer).await;
        let other = back.replace("code=", "code=x");
        scene.hawser.wire.arm(Some(Cut::Answer(lost)));
        let mut page = scene.browser.open(&other).await;
        scene.hawser.wire.arm(None);
        if page.status >= 500 {
            page = scene.browser.open(&other).await;
        }
        assert_eq!(page.status, 200, "{lost}: {page:?}");
        assert!(page.text.contains("did not succeed"), "{lost}: {page:?}");
        let items = scene.hawser.ground().items().await;
        let sessions = items.iter().filter(|item| item["entity"] == "session");
        let phases: Vec<_> = sessions.map(|item| item["phase"].clone()).collect();
        assert_eq!(phases, ["failed"], "{lost}");
    }
}

/// A session of tenant `acme` in the phase before its callback.
async fn pending(hawser: &Hawser, mcp: &str) -> Session {
    let session: Session = serde_json::from_value(json!({
        "id": Sortable::new(hawser.app.now()).unwrap().ulid(), "tenant": "acme",
        "server": ServerId::parse_prefixed(mcp).unwrap(), "subject_type": "user", "subject_id": "ada",
        "auth_revision": 1, "at": hawser.app.now(), "origin": {"kambrium": {"integration": "x"}},
        "phase": "pending", "secret_hash": "h", "ttl": hawser.app.now().plus_seconds(86_400).seconds(),
    }))
    .unwrap();
    let begun = event(hawser, &session, Action::SessionBegun);
    assert!(
        hawser
            .app
            .table
            .add_session(&session, None, &begun)
            .await
            .unwrap()
    );
    session
}

fn event(hawser: &Hawser, session: &Session, action: Action) -> Event {
    Event::of_session(hawser.app.now(), Who::Browser, session, action).unwrap()
}

#[tokio::test]
async fn a_transaction_is_known_by_its_event_when_the_store_has_forgotten_its_token() {
    let hawser = Hawser::start().await;
    let issuer = Issuer::start().await;
    let mcp = register(&hawser, "wiki", &issuer.mcp_url(), oauth()).await;
    let table = &hawser.app.table;
    let until = hawser.app.now().plus_seconds(60);
    let session = pending(&hawser, &mcp).await;
    let answered = event(&hawser, &session, Action::SessionAnswered);
    for _ in 0..3 {
        // Each with a token of its own: the store takes the second for another transaction.
        assert!(
            table
                .claim_session(&session, until, &answered)
                .await
                .unwrap()
        );
    }
    let other = event(&hawser, &session, Action::SessionAnswered);
    assert!(
        !table.claim_session(&session, until, &other).await.unwrap(),
        "another callback is another event"
    );
    let ended = event(&hawser, &session, Action::SessionEnded);
    for _ in 0..2 {
        let failed = table
            .fail_session(&session, Phase::Exchanging, &ended)
            .await;
        failed.unwrap();
        table.record_event(&ended).await.unwrap();
    }
    let items = hawser.ground().items().await;
    let told = |action: &str| items.iter().filter(|item| item["action"] == action).count();
    assert_eq!(
        [told("session.answered"), told("session.ended")],
        [1, 1],
        "each is told once"
    );
}

#[tokio::test]
async fn a_write_without_an_event_is_sent_again_under_the_same_token() {
    let hawser = Hawser::start().await;
    let issuer = Issuer::start().await;
    let mcp = register(&hawser, "wiki", &issuer.mcp_url(), oauth()).await;
    let tenant = TenantId::parse("acme").unwrap();
    let id = ServerId::parse_prefixed(&mcp).unwrap();
    let app = &hawser.app;
    let subject = hawser_core::domain::subject::Subject::parse("user:ada").unwrap();
    // A provider has no event; each write is refused where it has happened already.
    for round in 0..3 {
        let provider = serde_json::from_value(json!({
            "id": uuid(round), "server": id, "subject_type": "user", "subject_id": "ada", "auth_revision": 1,
        }))
        .unwrap();
        let read = app
            .table
            .read(vec![hawser_core::table::clients::provider_key(
                &tenant, id, &subject,
            )]);
        let read = read.await.unwrap().provider(&tenant, id, &subject).unwrap();
        hawser.wire.arm(Some(Cut::Answer(0)));
        let added = app
            .table
            .add_provider(&tenant, &provider, read.as_ref())
            .await;
        let sent = hawser.wire.sent();
        hawser.wire.arm(None);
        assert!(added.unwrap(), "{round}");
        let tokens: Vec<_> = sent
            .iter()
            .map(|one| one.body["ClientRequestToken"].clone())
            .collect();
        assert_eq!(tokens.len(), 2, "{round}: {sent:?}");
        assert!(
            tokens[0].is_string() && tokens[0] == tokens[1],
            "{tokens:?}"
        );
    }
}

fn uuid(round: usize) -> String {
    format!("00000000-0000-4000-8000-00000000000{round}")
}

#[tokio::test]
async fn a_store_that_stays_silent_leaves_it_open() {
    let hawser = Hawser::start().await;
    let issuer = Issuer::start().await;
    let mcp = register(&hawser, "wiki", &issuer.mcp_url(), oauth()).await;
    let session = pending(&hawser, &mcp).await;
    let answered = event(&hawser, &session, Action::SessionAnswered);
    let until = hawser.app.now().plus_seconds(60);
    for cut in [Cut::After(0), Cut::Before(0)] {
        hawser.wire.arm(Some(cut));
        let claimed = hawser
            .app
            .table
            .claim_session(&session, until, &answered)
            .await;
        hawser.wire.arm(None);
        let open = matches!(claimed, Err(hawser_core::Error::Unavailable(_)));
        assert!(open, "{cut:?}: {claimed:?}");
    }
}
