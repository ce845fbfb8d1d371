//! The page on which every consent starts: looking at it changes nothing, its button serves once and in one browser, asking
//! again gives the same address, and what goes wrong is said under one reference everywhere.

mod forgotten_client;
mod open;
mod reasons;
mod show;
mod start;

use crate::harness::{Answer, Browser, Caller, Hawser, Page};
use crate::issuer::Issuer;
use serde_json::{Value, json};

const MCP: &str = "/api/svc/v1/mcp";
const LANGSMITH: &str = "/v1/deepagents";
const KAMBRIUM: &str = "/api/v1/mcp-servers";

/// An OAuth server with its issuer, under TrueFoundry's contract.
struct Stage {
    hawser: Hawser,
    issuer: Issuer,
    admin: Caller,
    id: String,
}

impl Stage {
    async fn set() -> Self {
        Self::on(Hawser::start().await).await
    }

    async fn by_hand() -> Self {
        Self::on(Hawser::start_by_hand().await).await
    }

    async fn on(hawser: Hawser) -> Self {
        let issuer = Issuer::start().await;
        let admin = hawser.admin("acme");
        let oauth = json!({"type": "oauth2"});
        let id = put(&admin, "wiki", &issuer.mcp_url(), oauth).await;
        Self {
            hawser,
            issuer,
            admin,
            id,
        }
    }

    fn user(&self, name: &str) -> Caller {
        let may = json!({"permissions": ["mcp-servers:invoke"]});
        self.hawser.caller("acme", name, may)
    }

    async fn endpoint(&self, user: &str) -> String {
        let path = format!("{MCP}/{}/authorize", self.id);
        address(&self.user(user).get(&path).await)
    }

    /// Connects a user; the page at the end.
    async fn connect(&self, user: &str) -> Page {
        let mut browser = Browser::new();
        let at_issuer = browser.begin(&self.endpoint(user).await).await;
        browser
            .open(&self.issuer.approve_as(&at_issuer, user).await)
            .await
    }

    async fn status(&self, caller: &Caller, user: &str) -> Value {
        let query = format!("subjectId={user}&subjectType=user");
        let path = format!("{MCP}/{}/auth/status?{query}", self.id);
        caller.get(&path).await.json()
    }

    /// The events of consents, newest first.
    async fn events(&self) -> Vec<Value> {
        let events = self.admin.get("/v1/audit?limit=200").await.json();
        let of_session = |event: &&Value| {
            let action = event["action"].as_str().unwrap();
            action.starts_with("session.")
        };
        let events = events["data"].as_array().unwrap().iter();
        events.filter(of_session).cloned().collect()
    }

    /// How many consents there are.
    async fn sessions(&self) -> usize {
        let items = self.hawser.ground().items().await;
        let sessions = items.iter().filter(|item| item["entity"] == "session");
        sessions.count()
    }
}

async fn put(admin: &Caller, name: &str, url: &str, auth: Value) -> String {
    let manifest = json!({"type": "mcp-server/remote", "name": name, "description": "d", "url": url, "auth_data": auth});
    let made = admin.put(MCP, json!({"manifest": manifest})).await;
    assert_eq!(made.status, 200, "{made:?}");
    made.json()["data"]["id"].as_str().unwrap().to_owned()
}

#[track_caller]
fn address(answer: &Answer) -> String {
    let address = answer.json()["authorization_endpoint"].clone();
    let address = address.as_str();
    address.unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

/// The reference on a page.
#[track_caller]
fn reference(page: &Page) -> String {
    let (_, rest) = page
        .text
        .split_once("Reference: ")
        .unwrap_or_else(|| panic!("{page:?}"));
    rest.split('<').next().unwrap().to_owned()
}

/// Everything that says why a consent failed says the same.
async fn says_why(stage: &Stage, page: &Page, reason: &str) {
    let reference = reference(page);
    let ended = stage.events().await.remove(0);
    assert_eq!(ended["action"], "session.ended", "{reason}");
    assert_eq!(
        (&ended["reason"], &ended["sessionId"]),
        (&json!(reason), &json!(reference)),
        "{ended}"
    );
    let shown = stage.status(&stage.admin, "bob").await["lastFailedConsent"].clone();
    assert_eq!(
        shown,
        json!({"reason": reason, "reference": reference, "at": shown["at"], "subjectType": "user", "subjectId": "ada"})
    );
    let own = stage.status(&stage.user("ada"), "ada").await;
    assert_eq!(own.get("lastFailedConsent"), None, "ada manages nothing");
}
