//! The LangSmith contract's consent: providers and auth sessions, over HTTP and against an issuer.

mod create_auth_session;
mod end;
mod get_auth_session;
mod register_provider;

use crate::harness::{Answer, Browser, Caller, Hawser, Page};
use crate::issuer::Issuer;
use crate::langsmith::{EVERYTHING, SERVERS, at, error, is, is_json};
use serde_json::{Value, json};
use std::sync::Mutex;

pub const SESSIONS: &str = "/v1/deepagents/auth-sessions";

/// A server that an issuer protects, and the provider of a user there.
pub struct Scene {
    pub hawser: Hawser,
    pub issuer: Issuer,
    pub ada: Caller,
    pub server: String,
    pub provider: String,
    pub browser: Mutex<Browser>,
}

impl Scene {
    pub async fn new() -> Self {
        Self::on(Hawser::start().await).await
    }

    /// With a clock that stands still until it is moved.
    pub async fn by_hand() -> Self {
        Self::on(Hawser::start_by_hand().await).await
    }

    pub async fn on(hawser: Hawser) -> Self {
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

    pub fn asking(&self, strategy: &str, scopes: &[&str]) -> Value {
        json!({"provider_id": self.provider, "scopes": scopes, "strategy": strategy})
    }

    pub async fn ask(&self, strategy: &str, scopes: &[&str]) -> Answer {
        self.ada.post(SESSIONS, self.asking(strategy, scopes)).await
    }

    /// A new session: its id, and where the user is sent when the button of its page was pressed.
    pub async fn begin(&self, scopes: &[&str]) -> (String, String) {
        let (id, url) = begun(&self.ask("CREATE", scopes).await);
        (id, self.press(&url).await)
    }

    pub fn browser(&self) -> Browser {
        self.browser.lock().unwrap().clone()
    }

    /// Opens a consent's page and presses the button; where the issuer asks the user.
    pub async fn press(&self, url: &str) -> String {
        let mut browser = self.browser();
        let at_issuer = browser.begin(url).await;
        *self.browser.lock().unwrap() = browser;
        at_issuer
    }

    pub async fn state(&self, session: &str) -> String {
        state(&self.ada, session).await
    }

    /// Opens the address that an issuer sends the browser back to.
    pub async fn come_back(&self, callback: &str) -> Page {
        assert!(callback.starts_with(&self.hawser.url), "{callback}");
        self.browser().open(callback).await
    }

    /// A session that ended well.
    pub async fn connect(&self, scopes: &[&str]) -> String {
        let (session, url) = self.begin(scopes).await;
        self.come_back(&self.issuer.approve(&url).await).await;
        assert_eq!(self.state(&session).await, "COMPLETED");
        session
    }
}

pub fn user(hawser: &Hawser, name: &str) -> Caller {
    hawser.caller("acme", name, json!({"permissions": EVERYTHING}))
}

pub async fn register(caller: &Caller, url: &str) -> String {
    let server = json!({"name": "search", "url": url, "auth_type": "oauth",
                        "oauth_mode": "per_user_dynamic_client"});
    let made = caller.post(SERVERS, server).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.json()["oauth_provider_id"], Value::Null);
    made.json()["id"].as_str().unwrap().to_owned()
}

pub fn provider_path(server: &str) -> String {
    format!("{}/oauth-provider", at(server))
}

pub async fn provider(caller: &Caller, server: &str) -> String {
    let answer = caller.post(&provider_path(server), json!({})).await;
    let id = answer.json()["oauth_provider_id"].clone();
    is(&answer, json!({"oauth_provider_id": id}));
    id.as_str().unwrap().to_owned()
}

pub fn session_path(id: &str) -> String {
    format!("{SESSIONS}/{id}")
}

pub async fn state(caller: &Caller, session: &str) -> String {
    let answer = caller.get(&session_path(session)).await;
    let state = answer.json()["status"].clone();
    is(&answer, json!({"id": session, "status": state}));
    state.as_str().unwrap().to_owned()
}

/// What a 201 of a session says.
#[track_caller]
pub fn begun(answer: &Answer) -> (String, String) {
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
pub fn reused(answer: &Answer) -> String {
    let body = answer.json();
    let token = body["token"].as_str().unwrap_or_default().to_owned();
    assert!(!token.is_empty(), "{answer:?}");
    let expected = json!({
        "provider_id": body["provider_id"], "status": "COMPLETED", "token": token, "metadata": {},
    });
    is(answer, expected);
    token
}

pub async fn shown_provider(caller: &Caller, server: &str) -> Value {
    let one = caller.get(&at(server)).await.json();
    let listed = caller.get(SERVERS).await.json();
    let all = listed.as_array().unwrap();
    assert!(all.contains(&one), "{one} is not in {listed}");
    one["oauth_provider_id"].clone()
}

pub fn no_provider() -> Value {
    let detail = "Register the provider first: 'provider_id' is not known for this caller";
    error(400, "invalid_oauth_provider", detail)
}

pub fn no_session() -> Value {
    let detail = "Start a new session: auth session not found";
    error(404, "auth_session_not_found", detail)
}

pub fn not_enabled() -> Value {
    let detail = "Set 'auth_type' to 'oauth' and 'oauth_mode' to 'per_user_dynamic_client': \
                  the server does not use per-user OAuth";
    error(400, "oauth_not_enabled", detail)
}
