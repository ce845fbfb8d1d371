//! Consent and its end under TrueFoundry's contract, against an issuer that can be asked what became of its tokens.

mod authorize;
mod callback;
mod disconnect;
mod revocation;
mod revoke_all;
mod server;

use crate::harness::{Answer, Browser, Caller, Hawser};
use crate::issuer::{Fault, Issuer, Pair};
use serde_json::{Value, json};

const MCP: &str = "/api/svc/v1/mcp";
const APP: &str = "https://app.example";

/// Hawser, an issuer, and a server between them.
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

    /// With a clock that is moved by hand.
    async fn by_hand() -> Self {
        Self::on(Hawser::start_by_hand().await).await
    }

    /// With a clock that is moved by hand, these users connected, and an issuer that answers each revocation with 503.
    async fn with_issuer_down<const USERS: usize>(users: [&str; USERS]) -> (Self, [Pair; USERS]) {
        let stage = Self::by_hand().await;
        let mut pairs = Vec::new();
        for user in users {
            pairs.push(stage.connect(user).await);
        }
        stage.hawser.pass(1);
        stage.issuer.fault(Fault::answering("/revoke", 503));
        (stage, pairs.try_into().unwrap())
    }

    async fn on(hawser: Hawser) -> Self {
        let issuer = Issuer::start().await;
        let admin = hawser.admin("acme");
        let put = put_server(&admin, &issuer.mcp_url(), false).await;
        assert_eq!(put.status, 200, "{put:?}");
        let id = put.json()["data"]["id"].as_str().unwrap().to_owned();
        Self {
            hawser,
            issuer,
            admin,
            id,
        }
    }

    fn user(&self, name: &str) -> Caller {
        self.hawser.caller("acme", name, json!({}))
    }

    async fn authorize(&self, user: &str, query: &str) -> Answer {
        let path = format!("{MCP}/{}/authorize{query}", self.id);
        self.user(user).get(&path).await
    }

    /// A consent URL for a user.
    async fn endpoint(&self, user: &str, query: &str) -> String {
        let answer = self.authorize(user, query).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let endpoint = answer.json()["authorization_endpoint"].clone();
        endpoint
            .as_str()
            .unwrap_or_else(|| panic!("{answer:?}"))
            .to_owned()
    }

    /// Begins a consent that the user agrees to: the browser, and the address that the issuer sends it back to.
    async fn approved(&self, user: &str) -> (Browser, String) {
        let mut browser = Browser::new();
        let endpoint = self.endpoint(user, "").await;
        let back = self
            .issuer
            .approve_as(&browser.begin(&endpoint).await, user)
            .await;
        (browser, back)
    }

    /// Ends a consent that was approved.
    async fn finish(&self, (mut browser, back): (Browser, String)) -> Pair {
        let page = browser.open(&back).await;
        assert_eq!(page.status, 200, "{page:?}");
        assert!(page.text.contains("<h1>Connected</h1>"), "{page:?}");
        self.issuer.issued().pop().unwrap()
    }

    async fn connect(&self, user: &str) -> Pair {
        let consent = self.approved(user).await;
        let pair = self.finish(consent).await;
        assert_eq!(pair.subject, user);
        assert!(pair.refresh.is_some());
        pair
    }

    async fn status(&self, user: &str) -> Value {
        let path = format!(
            "{MCP}/{}/auth/status?subjectId={user}&subjectType=user",
            self.id
        );
        let mut status = self.admin.get(&path).await.json();
        // Of the server, not of the user: tests/it/consent_page/.
        status.as_object_mut().unwrap().remove("lastFailedConsent");
        status
    }

    /// Why a user who has no credential has none.
    async fn reason(&self, user: &str) -> String {
        let status = self.status(user).await;
        assert_eq!(
            (&status["status"], &status["method"]),
            (&json!("authentication_required"), &Value::Null),
            "{user}: {status}"
        );
        status["reason"].as_str().unwrap().to_owned()
    }

    async fn assert_connected(&self, user: &str) {
        let expected = json!({"status": "authenticated", "method": "oauth"});
        assert_eq!(self.status(user).await, expected, "{user}");
    }

    /// Disconnects a user; the receipt's id.
    async fn disconnect(&self, user: &str) -> String {
        let body = json!({"authSource": "oauth", "subjectId": user, "subjectType": "user"});
        let path = format!("{MCP}/{}/auth", self.id);
        let answer = self.admin.delete_with(&path, body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let id = answer.json()["data"]["receiptId"].clone();
        id.as_str().unwrap().to_owned()
    }

    async fn revoke_all(&self) -> Answer {
        let path = format!("{MCP}/{}/auth/tokens", self.id);
        self.admin.delete(&path).await
    }

    async fn receipt(&self, id: &str) -> Value {
        let answer = self.admin.get(&format!("/v1/receipts/{id}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["data"].clone()
    }

    /// What was presented, without times: token, status, outcome.
    async fn presented(&self, receipt: &str) -> Vec<(String, Option<u64>, String)> {
        let receipt = self.receipt(receipt).await;
        let text = |one: &Value, name: &str| one[name].as_str().unwrap().to_owned();
        let all = receipt["presented"].as_array().cloned().unwrap_or_default();
        all.iter()
            .map(|one| {
                let status = one["httpStatus"].as_u64();
                (text(one, "token"), status, text(one, "outcome"))
            })
            .collect()
    }

    /// The hints of the tokens that were presented for revocation, in order.
    fn hints(&self) -> Vec<String> {
        let calls = self.issuer.log().into_iter();
        let calls = calls.filter(|call| call.path == "/revoke");
        calls
            .map(|call| call.field("token_type_hint").unwrap())
            .collect()
    }

    fn assert_dead(&self, pair: &Pair) {
        for token in [Some(&pair.access), pair.refresh.as_ref()]
            .into_iter()
            .flatten()
        {
            assert!(!self.issuer.is_active(token), "{}", pair.subject);
        }
    }

    fn assert_alive(&self, pair: &Pair) {
        assert!(self.issuer.is_active(&pair.access), "{}", pair.subject);
        let refresh = pair.refresh.as_ref().unwrap();
        assert!(self.issuer.is_active(refresh), "{}", pair.subject);
    }
}

async fn put_server(admin: &Caller, url: &str, force: bool) -> Answer {
    let manifest = json!({"type": "mcp-server/remote", "name": "wiki", "description": "d", "url": url,
                          "auth_data": {"type": "oauth2"}});
    let body = json!({"manifest": manifest, "force": force});
    admin.put(MCP, body).await
}

/// No receipt may say so before an issuer has.
fn assert_nobody_says_revoked(receipt: &Value) {
    assert_eq!(receipt["state"], "in_progress");
    assert!(!receipt.to_string().contains("\"revoked\""), "{receipt}");
}

/// Three grants, and overrides for `ada`, who thus has both, and `zoe`.
async fn populated() -> (Stage, [Pair; 3]) {
    let stage = Stage::set().await;
    let pairs = [
        stage.connect("ada").await,
        stage.connect("bob").await,
        stage.connect("eve").await,
    ];
    for user in ["ada", "zoe"] {
        let installed = stage.admin.install(&stage.id, "user", user).await;
        assert_eq!(installed.status, 200);
    }
    (stage, pairs)
}

const USERS: [&str; 4] = ["ada", "bob", "eve", "zoe"];
