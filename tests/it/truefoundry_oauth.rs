//! Consent and its end under TrueFoundry's contract, against an issuer that can be asked what became of its tokens.

use crate::harness::{Answer, Browser, Caller, Cut, Hawser, Registered, ample, of_trail, per_user};
use crate::issuer::{Fault, Gate, Issuer, Pair};
use hawser_core::operations::scheduler::process;
use serde_json::{Value, json};
use url::Url;

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
        // Of the server, not of the user: tests/it/consent_page.rs.
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

fn parameter(url: &str, name: &str) -> Option<String> {
    let url = Url::parse(url).unwrap();
    let mut all = url.query_pairs().filter(|(n, _)| n == name);
    all.next().map(|(_, value)| value.into_owned())
}

/// No receipt may say so before an issuer has.
fn assert_nobody_says_revoked(receipt: &Value) {
    assert_eq!(receipt["state"], "in_progress");
    assert!(!receipt.to_string().contains("\"revoked\""), "{receipt}");
}

// Consent

#[tokio::test]
async fn a_consent_from_the_first_question_to_the_grant() {
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
async fn the_browser_goes_back_with_status_and_reason() {
    let hawser = Hawser::start_with(|app| app.return_origins = vec![APP.to_owned()]).await;
    let stage = Stage::on(hawser).await;
    let query = "?redirectURL=https%3A%2F%2Fapp.example%2Fdone%3Fx%3D1%2526";
    let id = &stage.id;

    let mut browser = Browser::new();
    let at_issuer = browser.begin(&stage.endpoint("ada", query).await).await;
    let denied = browser.open(&stage.issuer.deny(&at_issuer).await).await;
    let to = format!(
        "{APP}/done?x=1%26&mcpServerId={id}&status=authentication_required&reason=consent_denied"
    );
    assert_eq!((denied.status, denied.location), (303, Some(to)));

    let at_issuer = browser.begin(&stage.endpoint("ada", query).await).await;
    let approved = browser.open(&stage.issuer.approve(&at_issuer).await).await;
    let to = format!("{APP}/done?x=1%26&mcpServerId={id}&status=authenticated");
    assert_eq!((approved.status, approved.location), (303, Some(to)));
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
async fn a_key_asks_for_whom_it_speaks() {
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

#[tokio::test]
async fn a_denial_is_kept_until_there_is_a_grant_and_harms_none() {
    let stage = Stage::set().await;
    let mut browser = Browser::new();
    let at_issuer = browser.begin(&stage.endpoint("ada", "").await).await;
    let page = browser.open(&stage.issuer.deny(&at_issuer).await).await;
    assert!(
        page.text.contains("Access to wiki was declined."),
        "{page:?}"
    );
    assert!(!page.text.contains(crate::issuer::FOREIGN), "{page:?}");
    assert_eq!(stage.reason("ada").await, "consent_denied");
    assert_eq!(stage.reason("bob").await, "never_connected");

    let at_issuer = browser.begin(&stage.endpoint("ada", "").await).await;
    let first = stage.connect("ada").await;
    stage.assert_connected("ada").await;
    browser.open(&stage.issuer.deny(&at_issuer).await).await;
    stage.assert_connected("ada").await;
    stage.hawser.run_workers().await;
    stage.assert_alive(&first);

    stage.disconnect("ada").await;
    assert_eq!(stage.reason("ada").await, "revoked");
    let at_issuer = browser.begin(&stage.endpoint("ada", "").await).await;
    browser.open(&stage.issuer.deny(&at_issuer).await).await;
    assert_eq!(
        stage.reason("ada").await,
        "consent_denied",
        "the latest event"
    );
}

#[tokio::test]
async fn a_consent_that_fails_otherwise_changes_no_reason() {
    let stage = Stage::set().await;
    stage.connect("ada").await;
    stage.disconnect("ada").await;
    for break_it in [
        Fault {
            status: Some(400),
            body: r#"{"error":"invalid_grant"}"#.to_owned(),
            ..Fault::once("/token")
        },
        Fault {
            status: Some(500),
            ..Fault::once("/token")
        },
        Fault {
            drop: true,
            ..Fault::once("/token")
        },
    ] {
        let (mut browser, back) = stage.approved("ada").await;
        stage.issuer.fault(break_it);
        let page = browser.open(&back).await;
        assert_eq!(page.status, 200);
        assert!(page.text.contains("did not succeed"), "{page:?}");
        assert_eq!(stage.reason("ada").await, "revoked");
        assert_eq!(browser.open(&back).await.status, 400, "a code serves once");
    }
    stage
        .issuer
        .configure(|s| s.wrong_iss = Some("https://evil.example".to_owned()));
    let before = stage.issuer.count("POST", "/token");
    for deny in [false, true] {
        let mut browser = Browser::new();
        let at_issuer = browser.begin(&stage.endpoint("ada", "").await).await;
        let back = match deny {
            false => stage.issuer.approve(&at_issuer).await,
            true => stage.issuer.deny(&at_issuer).await,
        };
        assert_eq!(parameter(&back, "iss").unwrap(), "https://evil.example");
        browser.open(&back).await;
        assert_eq!(stage.reason("ada").await, "revoked", "denied: {deny}");
    }
    assert_eq!(stage.issuer.count("POST", "/token"), before);
}

#[tokio::test]
async fn consenting_again_revokes_the_grant_that_is_replaced() {
    let stage = Stage::set().await;
    let again = stage.approved("ada").await;
    let first = stage.connect("ada").await;
    let second = stage.finish(again).await;
    assert_ne!(first.access, second.access);
    stage.hawser.run_workers().await;
    stage.assert_dead(&first);
    stage.assert_alive(&second);
    stage.assert_connected("ada").await;
    stage.disconnect("ada").await;
    stage.hawser.run_workers().await;
    assert_eq!(stage.issuer.live_tokens().len(), 0);
}

// Disconnecting

#[tokio::test]
async fn a_disconnect_voids_consents_that_are_pending() {
    let stage = Stage::set().await;
    let (mut browser, back) = stage.approved("ada").await;
    stage.connect("ada").await;
    stage.disconnect("ada").await;
    let page = browser.open(&back).await;
    assert_eq!((page.status, page.location), (400, None), "{}", page.text);
    assert_eq!(stage.reason("ada").await, "revoked");
    assert_eq!(stage.issuer.count("POST", "/token"), 1, "the grant's own");
    stage.hawser.run_workers().await;
    assert_eq!(stage.issuer.live_tokens().len(), 0);
    stage.connect("ada").await;
}

#[tokio::test]
async fn tokens_that_arrive_after_the_disconnect_are_revoked() {
    let stage = Stage::set().await;
    let (mut browser, back) = stage.approved("ada").await;
    let first = stage.connect("ada").await;
    let gate = Gate::closed();
    stage.issuer.fault(Fault {
        hold: Some(gate.clone()),
        after: true,
        ..Fault::once("/token")
    });
    let receipt = async {
        gate.reached().await;
        let receipt = stage.disconnect("ada").await;
        gate.open();
        receipt
    };
    let (page, receipt) = tokio::join!(browser.open(&back), receipt);
    assert!(
        page.text.contains("changed or disconnected meanwhile"),
        "{page:?}"
    );
    assert_eq!(stage.issuer.issued().len(), 2);
    stage.hawser.run_workers().await;
    assert_eq!(stage.issuer.live_tokens().len(), 0);
    stage.assert_dead(&first);
    assert_eq!(stage.reason("ada").await, "revoked");
    let receipt = stage.receipt(&receipt).await;
    assert_eq!(
        (&receipt["state"], &receipt["outcomes"]),
        (&json!("complete"), &json!({"revoked": 1}))
    );
}

#[tokio::test]
async fn a_disconnect_revokes_one_family_the_refresh_token_first() {
    let stage = Stage::set().await;
    let ada = stage.connect("ada").await;
    let others = [stage.connect("bob").await, stage.connect("eve").await];
    let receipt = stage.disconnect("ada").await;
    let before = stage.receipt(&receipt).await;
    assert_nobody_says_revoked(&before);
    assert_eq!(
        before["removed"],
        json!({"oauthRecords": 1, "overrides": 0})
    );
    assert_eq!(stage.reason("ada").await, "revoked");
    stage.assert_alive(&ada);

    stage.hawser.run_workers().await;
    stage.assert_dead(&ada);
    for other in &others {
        stage.assert_alive(other);
        stage.assert_connected(&other.subject).await;
    }
    let after = stage.receipt(&receipt).await;
    assert_eq!(
        (&after["state"], &after["outcomes"]),
        (&json!("complete"), &json!({"revoked": 1}))
    );
    let presented = after["presented"].as_array().unwrap();
    assert_eq!(presented.len(), 2);
    for (one, token) in presented.iter().zip(["refresh_token", "access_token"]) {
        let at = one["at"].as_str().unwrap();
        let expected = json!({"token": token, "host": "127.0.0.1", "httpStatus": 200, "outcome": "revoked",
                              "attempts": 1, "at": at});
        assert_eq!(*one, expected);
    }
    assert_eq!(stage.hints(), ["refresh_token", "access_token"]);
    assert!(!after.to_string().contains(&ada.access));
    assert!(!after.to_string().contains(ada.refresh.as_ref().unwrap()));
}

#[tokio::test]
async fn an_issuer_that_is_down_is_asked_again_until_it_answers() {
    let stage = Stage::by_hand().await;
    let ada = stage.connect("ada").await;
    stage.hawser.pass(1);
    stage.issuer.fault(Fault {
        status: Some(503),
        ..Fault::always("/revoke")
    });
    let receipt = stage.disconnect("ada").await;
    stage.hawser.run_workers().await;
    assert_eq!(
        stage.reason("ada").await,
        "revoked",
        "the disconnect waits for nobody"
    );
    assert_eq!(
        stage.hints(),
        ["refresh_token", "access_token"],
        "each on its own"
    );
    assert_nobody_says_revoked(&stage.receipt(&receipt).await);
    stage.assert_alive(&ada);

    stage.hawser.pass(4);
    stage.hawser.run_workers().await;
    assert_eq!(stage.hints().len(), 2, "it is left alone for a while");
    stage.hawser.pass(60);
    stage.hawser.run_workers().await;
    assert_eq!(stage.hints().len(), 4);
    assert_nobody_says_revoked(&stage.receipt(&receipt).await);

    stage.issuer.clear_faults();
    stage.hawser.pass(600);
    stage.hawser.run_workers().await;
    stage.assert_dead(&ada);
    let after = stage.receipt(&receipt).await;
    assert_eq!(
        (&after["state"], &after["outcomes"]),
        (&json!("complete"), &json!({"revoked": 1}))
    );
    let both = ["refresh_token", "access_token"];
    let expected = both.map(|token| (token.to_owned(), Some(200), "revoked".to_owned()));
    assert_eq!(stage.presented(&receipt).await, expected);
    assert_eq!(after["presented"][0]["attempts"], 3);
}

#[tokio::test]
async fn an_hour_of_503_costs_few_attempts_and_loses_nothing() {
    let stage = Stage::by_hand().await;
    for user in ["ada", "bob", "eve"] {
        stage.connect(user).await;
    }
    stage.hawser.pass(1);
    stage.issuer.fault(Fault {
        status: Some(503),
        ..Fault::always("/revoke")
    });
    let one = stage.disconnect("ada").await;
    let all = stage.revoke_all().await;
    let all = all.header("hawser-receipt").unwrap();
    for _ in 0..60 {
        stage.hawser.run_workers().await;
        for receipt in [&one, &all] {
            let receipt = stage.receipt(receipt).await;
            assert_nobody_says_revoked(&receipt);
            assert_eq!(receipt["state"], "in_progress");
        }
        stage.hawser.pass(60);
    }
    assert_eq!(stage.issuer.live_tokens().len(), 6);
    // Pauses of 5, 20, 80, 320, 1280 seconds and a part more.
    let asked = stage.hints().len();
    assert!((3 * 2 * 4..=3 * 2 * 6).contains(&asked), "{asked}");
    stage.issuer.clear_faults();
    stage.hawser.pass(4500);
    stage.hawser.run_workers().await;
    assert_eq!(stage.issuer.live_tokens().len(), 0);
    for (receipt, grants) in [(&one, 1), (&all, 2)] {
        let receipt = stage.receipt(receipt).await;
        assert_eq!(
            (&receipt["state"], &receipt["outcomes"]),
            (&json!("complete"), &json!({"revoked": grants}))
        );
    }
}

#[tokio::test]
async fn a_connection_that_is_dropped_proves_nothing_whichever_side_of_the_work() {
    for after in [false, true] {
        let stage = Stage::by_hand().await;
        let ada = stage.connect("ada").await;
        stage.hawser.pass(1);
        stage.issuer.fault(Fault {
            drop: true,
            after,
            times: 4,
            ..Fault::once("/revoke")
        });
        let receipt = stage.disconnect("ada").await;
        for _ in 0..2 {
            stage.hawser.run_workers().await;
            let receipt = stage.receipt(&receipt).await;
            assert_nobody_says_revoked(&receipt);
            assert_eq!(receipt["state"], "in_progress", "{after}");
            stage.hawser.pass(30);
        }
        stage.hawser.run_workers().await;
        stage.assert_dead(&ada);
        let receipt = stage.receipt(&receipt).await;
        assert_eq!(
            (&receipt["state"], &receipt["outcomes"]),
            (&json!("complete"), &json!({"revoked": 1}))
        );
        assert_eq!(receipt["presented"][0]["attempts"], 3);
        assert_eq!(stage.hints().len(), 6);
    }
}

#[tokio::test]
async fn an_issuer_that_is_down_for_a_day_has_failed() {
    let stage = Stage::by_hand().await;
    let ada = stage.connect("ada").await;
    stage.hawser.pass(1);
    stage.issuer.fault(Fault {
        status: Some(503),
        ..Fault::always("/revoke")
    });
    let receipt = stage.disconnect("ada").await;
    for _ in 0..23 {
        stage.hawser.run_workers().await;
        assert_nobody_says_revoked(&stage.receipt(&receipt).await);
        stage.hawser.pass(3600);
    }
    stage.hawser.run_workers().await;
    assert_nobody_says_revoked(&stage.receipt(&receipt).await);
    stage.hawser.pass(2 * 3600);
    stage.hawser.run_workers().await;
    let after = stage.receipt(&receipt).await;
    assert_eq!(
        (&after["state"], &after["outcomes"]),
        (&json!("complete"), &json!({"failed": 1}))
    );
    let (token, _, outcome) = &stage.presented(&receipt).await[0];
    assert_eq!(
        (token.as_str(), outcome.as_str()),
        ("refresh_token", "failed")
    );
    assert!(!after.to_string().contains("\"revoked\""), "{after}");
    stage.assert_alive(&ada);
    stage.issuer.clear_faults();
    let asked = stage.hints().len();
    stage.hawser.pass(24 * 3600);
    stage.hawser.run_workers().await;
    assert_eq!(stage.hints().len(), asked, "its tokens are erased");
}

#[tokio::test]
async fn no_revocation_endpoint_is_unsupported_and_nothing_better() {
    let stage = Stage::set().await;
    stage.issuer.configure(|s| s.revocation = false);
    let ada = stage.connect("ada").await;
    let receipt = stage.disconnect("ada").await;
    stage.hawser.run_workers().await;
    let after = stage.receipt(&receipt).await;
    assert_eq!(
        (&after["state"], &after["outcomes"]),
        (&json!("complete"), &json!({"unsupported": 1}))
    );
    let both = ["refresh_token", "access_token"];
    let expected = both.map(|token| (token.to_owned(), None, "unsupported".to_owned()));
    assert_eq!(stage.presented(&receipt).await, expected);
    assert!(!after.to_string().contains("\"revoked\""), "{after}");
    assert_eq!(stage.reason("ada").await, "revoked");
    stage.assert_alive(&ada);
}

#[tokio::test]
async fn revocation_needs_no_metadata_any_more() {
    let stage = Stage::set().await;
    let ada = stage.connect("ada").await;
    stage.issuer.fault(Fault {
        status: Some(503),
        ..Fault::always("oauth-authorization-server")
    });
    let receipt = stage.disconnect("ada").await;
    stage.hawser.run_workers().await;
    stage.assert_dead(&ada);
    assert_eq!(
        stage.receipt(&receipt).await["outcomes"],
        json!({"revoked": 1})
    );
}

#[tokio::test]
async fn a_client_that_is_refused_three_times_has_failed() {
    let stage = Stage::by_hand().await;
    let ada = stage.connect("ada").await;
    stage.hawser.pass(1);
    let body = r#"{"error":"invalid_client"}"#.to_owned();
    stage.issuer.fault(Fault {
        status: Some(400),
        body,
        ..Fault::always("/revoke")
    });
    let receipt = stage.disconnect("ada").await;
    for attempt in 1..=3 {
        assert_nobody_says_revoked(&stage.receipt(&receipt).await);
        stage.hawser.run_workers().await;
        assert_eq!(stage.hints().len(), 2 * attempt);
        stage.hawser.pass(200);
    }
    let after = stage.receipt(&receipt).await;
    assert_eq!(
        (&after["state"], &after["outcomes"]),
        (&json!("complete"), &json!({"failed": 1}))
    );
    let both = ["refresh_token", "access_token"];
    let expected = both.map(|token| (token.to_owned(), Some(400), "failed".to_owned()));
    assert_eq!(stage.presented(&receipt).await, expected);
    stage.assert_alive(&ada);
}

#[tokio::test]
async fn an_access_token_that_cannot_be_revoked_does_not_spoil_the_outcome() {
    let stage = Stage::set().await;
    let refused = (400, r#"{"error":"unsupported_token_type"}"#.to_owned());
    stage
        .issuer
        .configure(|s| s.access_revocation_error = Some(refused));
    let ada = stage.connect("ada").await;
    let receipt = stage.disconnect("ada").await;
    stage.hawser.run_workers().await;
    assert_eq!(
        stage.receipt(&receipt).await["outcomes"],
        json!({"revoked": 1})
    );
    let expected = [
        ("refresh_token".to_owned(), Some(200), "revoked".to_owned()),
        (
            "access_token".to_owned(),
            Some(400),
            "unsupported".to_owned(),
        ),
    ];
    assert_eq!(stage.presented(&receipt).await, expected);
    stage.assert_dead(&ada);
}

// Whole servers

#[tokio::test]
async fn a_forced_move_revokes_at_the_issuer_that_was() {
    let stage = Stage::set().await;
    let ada = stage.connect("ada").await;
    let pending = stage.approved("bob").await;
    let other = Issuer::start().await;
    let refused = put_server(&stage.admin, &other.mcp_url(), false).await;
    assert_eq!(
        (refused.status, &refused.json()["details"]),
        (417, &json!([{"oauthRecords": 1, "overrides": 0}]))
    );
    stage.hawser.run_workers().await;
    stage.assert_alive(&ada);

    let forced = put_server(&stage.admin, &other.mcp_url(), true).await;
    assert_eq!(forced.status, 200, "{forced:?}");
    assert_eq!(stage.reason("ada").await, "server_changed");
    let (mut browser, back) = pending;
    assert_eq!(browser.open(&back).await.status, 400);
    stage.hawser.run_workers().await;
    assert_eq!(stage.issuer.live_tokens().len(), 0);
    assert_eq!(stage.reason("ada").await, "server_changed");
    assert_eq!(stage.reason("bob").await, "never_connected");
    assert_eq!(
        other.log().len(),
        0,
        "nothing of the old issuer's goes to the new one"
    );

    let at_issuer = browser.begin(&stage.endpoint("ada", "").await).await;
    let page = browser.open(&other.approve(&at_issuer).await).await;
    assert_eq!(page.status, 200, "{page:?}");
    stage.assert_connected("ada").await;
    assert_eq!(other.live_tokens().len(), 2);
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

#[tokio::test]
async fn revoke_all_takes_every_credential_and_tells_the_issuer() {
    let (stage, pairs) = populated().await;
    let pending = stage.approved("zed").await;
    let answer = stage.revoke_all().await;
    answer.is(200, json!({"deletedCount": 5}));
    let receipt = answer.header("hawser-receipt").unwrap();
    for user in USERS {
        assert_eq!(stage.reason(user).await, "revoked", "{user}");
    }
    let overrides = stage.admin.get(&format!("{MCP}/{}/auth", stage.id)).await;
    assert_eq!(overrides.json()["data"], json!([]));
    assert_nobody_says_revoked(&stage.receipt(&receipt).await);
    assert_eq!(stage.reason("zed").await, "never_connected");
    let (mut browser, back) = pending;
    assert_eq!(browser.open(&back).await.status, 400);

    stage.hawser.run_workers().await;
    assert_eq!(stage.issuer.live_tokens().len(), 0);
    for pair in &pairs {
        stage.assert_dead(pair);
    }
    for user in USERS {
        assert_eq!(stage.reason(user).await, "revoked", "{user}");
    }
    let mut after = stage.receipt(&receipt).await;
    for time in ["createdAt", "completedAt"] {
        let time = after.as_object_mut().unwrap().remove(time);
        assert!(time.unwrap().as_str().unwrap().ends_with('Z'));
    }
    let expected = json!({"id": receipt, "serverId": stage.id, "kind": "revoke-all", "serverName": "wiki",
        "actor": {"subjectId": "root", "subjectType": "user"}, "state": "complete",
        "removed": {"oauthRecords": 3, "overrides": 2}, "outcomes": {"revoked": 3}});
    assert_eq!(after, expected);
    stage.connect("ada").await;
    stage.assert_connected("ada").await;
}

#[tokio::test]
async fn revoke_all_may_be_repeated_and_voids_what_is_pending_each_time() {
    let (stage, _) = populated().await;
    let first = stage.revoke_all().await;
    first.is(200, json!({"deletedCount": 5}));
    let unopened = stage.endpoint("ada", "").await;
    let (mut browser, back) = stage.approved("bob").await;
    // Before the first one's sweep: what is void is not counted again.
    let second = stage.revoke_all().await;
    second.is(200, json!({"deletedCount": 0}));
    for address in [unopened, back] {
        assert_eq!(browser.open(&address).await.status, 400);
    }
    stage.hawser.run_workers().await;
    let third = stage.revoke_all().await;
    third.is(200, json!({"deletedCount": 0}));
    stage.hawser.run_workers().await;
    assert_eq!(stage.issuer.live_tokens().len(), 0);
    let none = json!({"oauthRecords": 0, "overrides": 0});
    let all = json!({"oauthRecords": 3, "overrides": 2});
    for (answer, removed) in [(first, all), (second, none.clone()), (third, none)] {
        let receipt = answer.header("hawser-receipt").unwrap();
        let receipt = stage.receipt(&receipt).await;
        assert_eq!(
            (&receipt["state"], &receipt["removed"]),
            (&json!("complete"), &removed)
        );
    }
    for user in USERS {
        assert_eq!(stage.reason(user).await, "revoked", "{user}");
    }
}

#[tokio::test]
async fn each_revoke_all_counts_what_it_found_in_whatever_order_they_are_swept() {
    let (stage, _) = populated().await;
    let first = stage.revoke_all().await;
    first.is(200, json!({"deletedCount": 5}));
    stage.connect("zed").await;
    let second = stage.revoke_all().await;
    second.is(200, json!({"deletedCount": 1}));
    stage.connect("yan").await;
    let moved = put_server(&stage.admin, "https://moved.example/", true).await;
    assert_eq!(moved.status, 200, "{moved:?}");
    let app = &stage.hawser.app;
    let due = stage.hawser.due().await;
    assert_eq!(due.len(), 3);
    for work in due.iter().rev() {
        process(app, work, ample()).await.unwrap();
    }
    stage.hawser.run_workers().await;
    for (answer, oauth, overrides) in [(first, 3, 2), (second, 1, 0)] {
        let receipt = answer.header("hawser-receipt").unwrap();
        let receipt = stage.receipt(&receipt).await;
        assert_eq!(
            (&receipt["state"], &receipt["removed"], &receipt["outcomes"]),
            (
                &json!("complete"),
                &json!({"oauthRecords": oauth, "overrides": overrides}),
                &json!({"revoked": oauth})
            )
        );
    }
    for user in USERS.iter().chain(&["zed"]) {
        assert_eq!(stage.reason(user).await, "revoked", "{user}");
    }
    assert_eq!(stage.reason("yan").await, "server_changed");
    assert_eq!(stage.issuer.live_tokens().len(), 0);
}

#[tokio::test]
async fn revoke_all_is_for_tenant_admins() {
    let (stage, pairs) = populated().await;
    let path = format!("{MCP}/{}/auth/tokens", stage.id);
    let before = stage.hawser.ground().items().await;
    let refused = json!({"statusCode": 403, "message": "This call is for tenant admins only.",
                         "code": "TENANT_ADMIN_REQUIRED"});
    let missing = json!({"statusCode": 404, "message": "There is no such MCP server.", "code": "MCP_SERVER_NOT_FOUND"});
    let manager = json!({"roles": ["mcp-server-manager"]});
    for (caller, expected) in [
        (stage.hawser.caller("acme", "m", manager.clone()), &refused),
        (stage.user("ada"), &refused),
        (
            stage
                .hawser
                .api_key("acme", Some("user:root"), manager)
                .await,
            &refused,
        ),
        (stage.hawser.admin("other"), &missing),
    ] {
        let status = expected["statusCode"].as_u64().unwrap() as u16;
        for query in ["", "?dryRun=true"] {
            let answer = caller.delete(&format!("{path}{query}")).await;
            answer.is(status, expected.clone());
        }
    }
    assert_eq!(stage.hawser.anonymous().delete(&path).await.status, 401);
    for misspelt in [
        "dryRun=1",
        "dryrun=true",
        "dryRun",
        "dryRun=true&dryRun=true",
    ] {
        let answer = stage.admin.delete(&format!("{path}?{misspelt}")).await;
        assert_eq!(answer.status, 400, "{misspelt}: {answer:?}");
    }
    let removed = json!({"oauthRecords": 3, "overrides": 2});
    stage
        .admin
        .delete(&format!("{path}?dryRun=true"))
        .await
        .is(
            200,
            json!({"data": {"dryRun": true, "removed": removed, "subjects": 4,
                            "issuers": [{"issuer": "127.0.0.1", "oauthRecords": 3, "supportsRevocation": true}]}}),
        );
    let is_key = |item: &Value| item["entity"] == "api-key" || of_trail(item);
    let mut now = stage.hawser.ground().items().await;
    now.retain(|item| !is_key(item));
    let mut before = before;
    before.retain(|item| !is_key(item));
    assert_eq!(now, before);
    for pair in &pairs {
        stage.assert_alive(pair);
    }
    let key = json!({"roles": ["admin"]});
    let key = stage.hawser.api_key("acme", None, key).await;
    key.delete(&path).await.is(200, json!({"deletedCount": 5}));
}

#[tokio::test]
async fn revoke_all_while_the_issuer_is_down_completes_later() {
    let stage = Stage::by_hand().await;
    for user in ["ada", "bob", "eve"] {
        stage.connect(user).await;
    }
    stage.hawser.pass(1);
    stage.issuer.fault(Fault {
        status: Some(503),
        ..Fault::always("/revoke")
    });
    let answer = stage.revoke_all().await;
    answer.is(200, json!({"deletedCount": 3}));
    let receipt = answer.header("hawser-receipt").unwrap();
    stage.hawser.run_workers().await;
    let waiting = stage.receipt(&receipt).await;
    assert_nobody_says_revoked(&waiting);
    assert_eq!(
        waiting["removed"],
        json!({"oauthRecords": 3, "overrides": 0})
    );
    assert_eq!(stage.reason("ada").await, "revoked");
    stage.issuer.clear_faults();
    stage.hawser.pass(60);
    stage.hawser.run_workers().await;
    assert_eq!(stage.issuer.live_tokens().len(), 0);
    let after = stage.receipt(&receipt).await;
    assert_eq!(
        (&after["state"], &after["outcomes"]),
        (&json!("complete"), &json!({"revoked": 3}))
    );
}

#[tokio::test]
async fn deleting_a_server_revokes_all_grants_and_then_its_client() {
    let (stage, pairs) = populated().await;
    let pending = stage.approved("zed").await;
    assert_eq!(stage.issuer.clients().len(), 1);
    let deleted = stage.admin.delete(&format!("{MCP}/{}", stage.id)).await;
    deleted.is(200, json!({}));
    let receipt = deleted.header("hawser-receipt").unwrap();
    assert_nobody_says_revoked(&stage.receipt(&receipt).await);
    let (mut browser, back) = pending;
    assert_eq!(browser.open(&back).await.status, 400);

    stage.hawser.run_workers().await;
    for pair in &pairs {
        stage.assert_dead(pair);
    }
    assert_eq!(stage.issuer.live_tokens().len(), 0);
    assert_eq!(stage.issuer.clients().len(), 0);
    let end = format!("#S#{}", stage.id.strip_prefix("mcp-").unwrap());
    let items = stage.hawser.ground().items().await;
    let left = items
        .iter()
        .filter(|item| item["PK"].as_str().unwrap().ends_with(&end));
    assert_eq!(left.count(), 0);
    let after = stage.receipt(&receipt).await;
    assert_eq!(
        (&after["state"], &after["removed"], &after["outcomes"]),
        (
            &json!("complete"),
            &json!({"oauthRecords": 3, "overrides": 2}),
            &json!({"revoked": 3})
        )
    );

    let put = put_server(&stage.admin, &stage.issuer.mcp_url(), false).await;
    let again = Stage {
        id: put.json()["data"]["id"].as_str().unwrap().to_owned(),
        ..stage
    };
    for user in USERS {
        assert_eq!(again.reason(user).await, "never_connected", "{user}");
    }
}

#[tokio::test]
async fn a_client_is_deregistered_only_after_the_last_revocation() {
    let stage = Stage::by_hand().await;
    let ada = stage.connect("ada").await;
    stage.hawser.pass(1);
    stage.issuer.fault(Fault {
        status: Some(503),
        ..Fault::always("/revoke")
    });
    let deleted = stage.admin.delete(&format!("{MCP}/{}", stage.id)).await;
    let receipt = deleted.header("hawser-receipt").unwrap();
    stage.hawser.run_workers().await;
    assert_nobody_says_revoked(&stage.receipt(&receipt).await);
    assert_eq!(stage.issuer.clients().len(), 1, "it is needed to revoke");
    stage.assert_alive(&ada);
    stage.issuer.clear_faults();
    stage.hawser.pass(120);
    stage.hawser.run_workers().await;
    stage.assert_dead(&ada);
    assert_eq!(stage.issuer.clients().len(), 0);
    assert_eq!(
        stage.receipt(&receipt).await["outcomes"],
        json!({"revoked": 1})
    );
}
