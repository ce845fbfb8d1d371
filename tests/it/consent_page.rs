//! The page on which every consent starts: looking at it changes nothing, its button serves once and in one browser, asking
//! again gives the same address, and what goes wrong is said under one reference everywhere.

use crate::harness::{Answer, Browser, Caller, Form, Hawser, Page, posted};
use crate::issuer::{Fault, Issuer};
use serde_json::{Value, json};
use std::collections::BTreeSet;

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

// Looking changes nothing

#[tokio::test]
async fn looking_changes_nothing_and_the_address_still_serves() {
    let stage = Stage::set().await;
    let endpoint = stage.endpoint("ada").await;
    let path = endpoint.strip_prefix(&stage.hawser.url).unwrap();
    let before = stage.hawser.ground().items().await;
    let anyone = stage.hawser.anonymous();
    for (method, headers) in [
        ("HEAD", vec![]),
        (
            "GET",
            vec![
                ("sec-purpose", "prefetch;prerender"),
                ("purpose", "prefetch"),
            ],
        ),
        ("GET", vec![("user-agent", "Slackbot-LinkExpanding 1.0")]),
        ("GET", vec![("sec-fetch-site", "cross-site")]),
        ("GET", vec![]),
        ("HEAD", vec![("user-agent", "SafeLinks")]),
    ] {
        let answer = anyone.send(method, path, &headers, Vec::new()).await;
        assert_eq!(answer.status, 200, "{method} {headers:?}: {answer:?}");
        assert_eq!(answer.text.is_empty(), method == "HEAD");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("script-src"), "{policy}");
        assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
        assert_eq!(answer.header("x-frame-options").as_deref(), Some("DENY"));
    }
    assert_eq!(stage.hawser.ground().items().await, before);
    assert_eq!(stage.issuer.log().len(), 0, "nobody was asked");

    let mut browser = Browser::new();
    browser.open(&endpoint).await;
    // A reload, then the button.
    let at_issuer = browser.begin(&endpoint).await;
    let page = browser.open(&stage.issuer.approve(&at_issuer).await).await;
    assert!(page.text.contains("wiki is connected for ada."), "{page:?}");
}

#[tokio::test]
async fn a_page_names_subject_server_hosts_and_scopes() {
    let stage = Stage::set().await;
    let page = Browser::new().open(&stage.endpoint("ada").await).await;
    let host = stage.issuer.url.strip_prefix("http://").unwrap();
    for text in [
        "Connect wiki",
        "<dd>ada</dd>",
        &format!("<dd>wiki, at {host}</dd>"),
        &format!("<dd>Wherever {host} says"),
        "What the server asks for by itself",
    ] {
        assert!(page.text.contains(text), "{text}: {}", page.text);
    }
    // Once somebody has been there, it is known where one signs in.
    stage.connect("ada").await;
    let page = Browser::new().open(&stage.endpoint("bob").await).await;
    assert!(page.text.contains("<dd>bob</dd>"), "{}", page.text);
    assert!(!page.text.contains("Wherever"), "{}", page.text);
    assert!(!page.text.contains("not part of"), "{}", page.text);

    // Another host than the server's, and one that has it in its name only.
    for (url, at) in [
        ("https://login.example/authorize", "login.example"),
        (
            "https://mcp.example.evil.example/a",
            "mcp.example.evil.example",
        ),
        ("https://auth.mcp.example/a", ""),
    ] {
        let oauth = json!({"type": "oauth2", "authorization_url": url, "token_url": "https://login.example/token",
                           "client_id": "c", "scopes": ["read", "write"]});
        let name = format!("server-{}", at.len());
        let id = put(&stage.admin, &name, "https://mcp.example/mcp", oauth).await;
        let asked = stage
            .user("ada")
            .get(&format!("{MCP}/{id}/authorize"))
            .await;
        let page = Browser::new().open(&address(&asked)).await;
        assert!(page.text.contains("<dd>read, write</dd>"), "{}", page.text);
        let warned = page.text.contains(&format!(
            "You will sign in at {at}, which is not part of mcp.example."
        ));
        assert_eq!(warned, !at.is_empty(), "{}", page.text);
    }
}

#[tokio::test]
async fn the_button_leads_to_the_sign_in_that_the_page_named() {
    let (stage, other) = (Stage::set().await, Issuer::start().await);
    stage.connect("ada").await;
    let endpoint = stage.endpoint("bob").await;
    let mut browser = Browser::new();
    let page = browser.open(&endpoint).await;
    let named = |page: &Page, issuer: &Issuer| {
        let host = issuer.url.strip_prefix("http://").unwrap();
        page.text
            .contains(&format!("<dt>Where you sign in</dt><dd>{host}</dd>"))
    };
    assert!(named(&page, &stage.issuer), "{page:?}");
    // Meanwhile the server says that somebody else signs its users in.
    let document =
        json!({"resource": stage.issuer.mcp_url(), "authorization_servers": [other.url]});
    let at = "/.well-known/oauth-protected-resource/mcp".to_owned();
    stage
        .issuer
        .configure(|settings| drop(settings.documents.insert(at.clone(), Some(document))));
    let page = browser.press(&endpoint, &page).await;
    assert_eq!((page.status, &page.location), (200, &None), "{page:?}");
    assert!(named(&page, &other), "{page:?}");
    // Who goes on there gets there. No page serves for another sign-in than it named.
    let mut forged = Form::of(&page);
    for (name, value) in &mut forged.fields {
        if name == "sign_in" {
            *value = stage.issuer.url.clone();
        }
    }
    let refused = browser.submit(&endpoint, &forged).await;
    assert_eq!(refused.status, 403, "{refused:?}");
    let page = browser.press(&endpoint, &page).await;
    assert_eq!(page.status, 303, "{page:?}");
    assert!(page.location.unwrap().starts_with(&other.url));
    // And back again, as often as the server likes.
    stage
        .issuer
        .configure(|settings| drop(settings.documents.remove(&at)));
    let endpoint = stage.endpoint("eve").await;
    let page = browser.open(&endpoint).await;
    assert!(named(&page, &other), "{page:?}");
    let page = browser.press(&endpoint, &page).await;
    assert!(named(&page, &stage.issuer), "{page:?}");
    let page = browser.press(&endpoint, &page).await;
    assert!(page.location.unwrap().starts_with(&stage.issuer.url));
}

#[tokio::test]
async fn all_contracts_start_at_the_page_and_bind_the_browser() {
    let issuer = Issuer::start().await;
    let mail = json!({"mail": {"display_name": "Mail & <Post>", "mcp_url": issuer.mcp_url(), "oauth": {}}});
    let hawser = Hawser::with_integrations(&mail).await;
    let permissions =
        ["create", "read", "update", "delete", "invoke"].map(|p| format!("mcp-servers:{p}"));
    let claims =
        json!({"scope": "mgmt.read mgmt.write", "roles": ["admin"], "permissions": permissions});
    let ada = hawser.caller("acme", "ada", claims);

    let id = put(&ada, "wiki", &issuer.mcp_url(), json!({"type": "oauth2"})).await;
    let by_truefoundry = address(&ada.get(&format!("{MCP}/{id}/authorize")).await);
    let body = json!({"name": "search", "url": issuer.mcp_url(), "auth_type": "oauth"});
    let made = ada
        .post(&format!("{LANGSMITH}/mcp-servers"), body)
        .await
        .json();
    let path = format!(
        "{LANGSMITH}/mcp-servers/{}/oauth-provider",
        made["id"].as_str().unwrap()
    );
    let provider = ada.post(&path, json!({})).await.json()["oauth_provider_id"].clone();
    let ask = json!({"provider_id": provider, "scopes": ["mcp:read"], "strategy": "CREATE"});
    let sessions = format!("{LANGSMITH}/auth-sessions");
    let begun = ada.post(&sessions, ask.clone()).await.json();
    let by_langsmith = begun["verification_url"].as_str().unwrap().to_owned();
    let again = ada.post(&sessions, ask.clone()).await.json();
    assert_eq!(again, begun, "one consent is open at a time");
    let mut other = ask;
    other["scopes"] = json!([]);
    assert_ne!(ada.post(&sessions, other).await.json()["id"], begun["id"]);
    let body = json!({"mcp_server": "mail", "access_type": "write", "auth_method": "oauth"});
    let made = ada.post(KAMBRIUM, body).await.json();
    let by_kambrium = made["data"]["authorization_url"]
        .as_str()
        .unwrap()
        .to_owned();

    for (endpoint, name) in [
        (by_truefoundry, "wiki"),
        (by_langsmith, "search"),
        (by_kambrium, "Mail &amp; &lt;Post&gt;"),
    ] {
        assert!(endpoint.starts_with(&format!("{}/oauth/start?session=", hawser.url)));
        let mut browser = Browser::new();
        let page = browser.open(&endpoint).await;
        assert!(
            page.text.contains(&format!("<h1>Connect {name}</h1>")),
            "{}",
            page.text
        );
        assert!(page.text.contains("<dd>ada</dd>"), "{}", page.text);
        let at_issuer = browser.press(&endpoint, &page).await.location.unwrap();
        let back = issuer.approve(&at_issuer).await;
        let stranger = Browser::new().open(&back).await;
        assert_eq!(stranger.status, 400, "{stranger:?}");
        let page = browser.open(&back).await;
        assert!(page.text.contains("<h1>Connected</h1>"), "{page:?}");
    }
    hawser.run_workers().await;
}

// The button

#[tokio::test]
async fn a_forged_press_does_nothing() {
    let stage = Stage::set().await;
    let endpoint = stage.endpoint("ada").await;
    let mut browser = Browser::new();
    let page = browser.open(&endpoint).await;
    let form = Form::of(&page);
    let mut other = Browser::new();
    let others = Form::of(&other.open(&endpoint).await);
    let before = stage.hawser.ground().items().await;
    let start = format!("{}/oauth/start", stage.hawser.url);
    let cookie = browser.cookie();
    let http = reqwest::Client::builder().no_proxy();
    let http = http
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let field = |form: &Form, name: &str| {
        let found = form.fields.iter().find(|(n, _)| n == name);
        found.unwrap().1.clone()
    };
    let (ticket, token) = (field(&form, "session"), field(&form, "token"));
    let foreign = field(&others, "token");
    let foreign_cookie = other.cookie();
    for (what, cookie, token, headers) in [
        ("no cookie", "", token.as_str(), vec![]),
        (
            "another browser's cookie",
            foreign_cookie.as_str(),
            &token,
            vec![],
        ),
        ("another browser's token", &cookie, &foreign, vec![]),
        ("no token", &cookie, "", vec![]),
        ("a token made up", &cookie, "0", vec![]),
        (
            "another site",
            &cookie,
            &token,
            vec![("origin", "https://evil.example")],
        ),
        ("no site", &cookie, &token, vec![("origin", "null")]),
        (
            "another port",
            &cookie,
            &token,
            vec![("origin", "http://127.0.0.1:1")],
        ),
        (
            "by its own word",
            &cookie,
            &token,
            vec![("sec-fetch-site", "cross-site")],
        ),
        (
            "a sibling",
            &cookie,
            &token,
            vec![("sec-fetch-site", "same-site")],
        ),
    ] {
        let mut request = http.post(&start).header("cookie", cookie);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let sent = posted(request, &[("session", ticket.as_str()), ("token", token)]);
        let answer = sent.send().await.unwrap();
        assert_eq!(answer.status(), 403, "{what}");
        assert_eq!(answer.headers().get("set-cookie"), None, "{what}");
    }
    // And what is not to be read at all.
    for fields in [
        vec![("token", token.as_str())],
        vec![("session", "x"), ("token", &token)],
        vec![
            ("session", ticket.as_str()),
            ("session", &ticket),
            ("token", &token),
        ],
    ] {
        let sent = posted(http.post(&start).header("cookie", &cookie), &fields);
        assert_eq!(sent.send().await.unwrap().status(), 400, "{fields:?}");
    }
    assert_eq!(stage.hawser.ground().items().await, before);
    assert_eq!(stage.issuer.log().len(), 0);
    assert_eq!(browser.press(&endpoint, &page).await.status, 303);
}

#[tokio::test]
async fn two_tabs_of_one_browser_may_look_and_one_of_them_starts() {
    let stage = Stage::set().await;
    let endpoint = stage.endpoint("ada").await;
    let mut browser = Browser::new();
    let (one, two) = (browser.open(&endpoint).await, browser.open(&endpoint).await);
    assert_eq!(browser.cookies.len(), 1);
    let started = browser.press(&endpoint, &one).await;
    assert_eq!(started.status, 303);
    let late = browser.press(&endpoint, &two).await;
    assert_eq!((late.status, late.location), (400, None));
    let back = stage.issuer.approve(&started.location.unwrap()).await;
    assert!(
        browser
            .open(&back)
            .await
            .text
            .contains("<h1>Connected</h1>")
    );

    // Two at once: one of them goes on, and nobody is connected twice.
    let endpoint = stage.endpoint("bob").await;
    let page = browser.open(&endpoint).await;
    let (mut a, mut b) = (browser.clone(), browser.clone());
    let (a, b) = tokio::join!(a.press(&endpoint, &page), b.press(&endpoint, &page));
    let mut statuses = [a.status, b.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [303, 400]);
}

#[tokio::test]
async fn what_is_used_over_or_void_shows_no_button() {
    let stage = Stage::by_hand().await;
    // Used.
    let used = stage.endpoint("ada").await;
    let mut browser = Browser::new();
    browser.begin(&used).await;
    // Over, after the page was shown and before.
    let over = stage.endpoint("eve").await;
    let shown = browser.open(&over).await;
    stage.hawser.pass(600);
    assert_eq!(browser.press(&over, &shown).await.status, 400);
    // Ended by a disconnect: the subject had an override.
    let void = stage.endpoint("bob").await;
    let shown_void = browser.open(&void).await;
    assert_eq!(
        stage.admin.install(&stage.id, "user", "bob").await.status,
        200
    );
    let body = json!({"authSource": "auth-override", "subjectId": "bob", "subjectType": "user"});
    let ended = stage
        .admin
        .delete_with(&format!("{MCP}/{}/auth", stage.id), body)
        .await;
    assert_eq!(ended.status, 200);
    assert_eq!(browser.press(&void, &shown_void).await.status, 400);
    // Changed.
    let moved = stage.endpoint("dan").await;
    stage
        .admin
        .delete(&format!("{MCP}/{}/auth/tokens", stage.id))
        .await
        .is(200, json!({"deletedCount": 0}));
    for address in [used, over, void, moved] {
        let page = browser.open(&address).await;
        assert_eq!(page.status, 400, "{page:?}");
        assert!(!page.text.contains("<form"), "{page:?}");
    }
    assert_eq!(stage.issuer.count("GET", "/authorize"), 0);
    // Who asks again gets one that serves.
    for user in ["ada", "bob", "eve", "dan"] {
        let page = stage.connect(user).await;
        assert!(page.text.contains("<h1>Connected</h1>"), "{page:?}");
    }
}

#[tokio::test]
async fn nothing_that_is_shown_can_run_or_hide() {
    let stage = Stage::set().await;
    for subject in [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "ada\u{202e}nimda",
        "a\u{200b}da' onclick='x",
    ] {
        let page = Browser::new().open(&stage.endpoint(subject).await).await;
        assert_eq!(page.status, 200);
        for bad in ["<script", "<img", "\u{202e}", "\u{200b}", "' onclick"] {
            assert!(!page.text.contains(bad), "{subject}: {}", page.text);
        }
    }
    let page = Browser::new()
        .open(&stage.endpoint("x\u{202e}y").await)
        .await;
    assert!(page.text.contains("x\\u{202E}y"), "{}", page.text);
    // The ticket of an address is echoed too.
    let bad = format!(
        "{}/oauth/start?session=%22%3E%3Cscript%3E",
        stage.hawser.url
    );
    let page = Browser::new().open(&bad).await;
    assert_eq!(page.status, 400);
    assert!(!page.text.contains("<script"), "{page:?}");
    // And what a server and an integration are called.
    let issuer = &stage.issuer;
    issuer.configure(|settings| settings.scopes = vec!["a<b>".to_owned()]);
    let bad = "</h1><script>alert(1)</script>\u{202e}";
    let mail = json!({"mail": {"display_name": bad, "mcp_url": issuer.mcp_url(), "oauth": {"scopes": ["a<b>"]}}});
    let hawser = Hawser::with_integrations(&mail).await;
    let ada = hawser.caller("acme", "ada", json!({"scope": "mgmt.read mgmt.write"}));
    let body = json!({"mcp_server": "mail", "access_type": "write", "auth_method": "oauth"});
    let made = ada.post(KAMBRIUM, body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let page = Browser::new()
        .open(made.json()["data"]["authorization_url"].as_str().unwrap())
        .await;
    assert!(
        !page.text.contains("<script") && !page.text.contains('\u{202e}'),
        "{}",
        page.text
    );
}

// One consent is open at a time

#[tokio::test]
async fn who_retries_gets_one_consent_and_is_not_locked_out() {
    let stage = Stage::set().await;
    let ada = stage.user("ada");
    let proxy = format!("/mcp/{}", stage.id);
    let message =
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "x"}});
    let mut addresses = BTreeSet::new();
    for _ in 0..25 {
        addresses.insert(crate::upstream::told(&ada.post(&proxy, message.clone()).await).unwrap());
    }
    // The person's own click on Connect, whatever it returns to.
    addresses.insert(stage.endpoint("ada").await);
    assert_eq!(addresses.len(), 1);
    assert_eq!(stage.sessions().await, 1);
    let begun = stage.events().await;
    assert_eq!(begun.len(), 1, "{begun:?}");
    // Others have their own.
    assert!(!addresses.contains(&stage.endpoint("bob").await));
    // And so has another server.
    let page = stage.connect("ada").await;
    assert!(page.text.contains("wiki is connected for ada."), "{page:?}");

    // Many at once.
    let calls = (0..12).map(|_| {
        let (eve, proxy, message) = (stage.user("eve"), proxy.clone(), message.clone());
        tokio::spawn(async move { eve.post(&proxy, message).await })
    });
    let mut addresses = BTreeSet::new();
    for call in calls.collect::<Vec<_>>() {
        // Whoever lost every race gets it with the next try.
        addresses.extend(crate::upstream::told(&call.await.unwrap()));
    }
    assert_eq!(addresses.len(), 1);
    assert_eq!(stage.sessions().await, 3, "ada's, bob's, eve's");
}

#[tokio::test]
async fn only_presses_count_against_the_limit() {
    let stage = Stage::by_hand().await;
    let mut browser = Browser::new();
    for _ in 0..20 {
        browser.begin(&stage.endpoint("ada").await).await;
    }
    let endpoint = stage.endpoint("ada").await;
    assert_eq!(stage.endpoint("ada").await, endpoint);
    let refused = browser.start(&endpoint).await;
    assert_eq!((refused.status, refused.location), (429, None));
    assert!(
        refused.text.contains("Wait ten minutes"),
        "{}",
        refused.text
    );
    // Nobody else is held up, nor is ada for longer than that.
    browser.begin(&stage.endpoint("bob").await).await;
    stage.hawser.pass(599);
    let endpoint = stage.endpoint("ada").await;
    stage.hawser.pass(2);
    browser.begin(&endpoint).await;
}

#[tokio::test]
async fn an_address_lives_on_while_it_is_asked_for_and_not_for_ever() {
    let stage = Stage::by_hand().await;
    let first = stage.endpoint("ada").await;
    stage.hawser.pass(299);
    assert_eq!(stage.endpoint("ada").await, first);
    stage.hawser.pass(300);
    assert_eq!(stage.endpoint("ada").await, first, "just before its end");
    stage.hawser.pass(599);
    let mut browser = Browser::new();
    let page = browser.open(&first).await;
    assert_eq!(page.status, 200, "it had its whole time again");
    stage.hawser.pass(1);
    assert_eq!(browser.press(&first, &page).await.status, 400);
    let mut address = stage.endpoint("ada").await;
    assert_ne!(address, first);
    // At most an hour.
    let (start, mut lived) = (address.clone(), 0);
    while address == start {
        stage.hawser.pass(300);
        lived += 300;
        assert!(lived <= 3600, "{lived}");
        address = stage.endpoint("ada").await;
    }
    assert!(lived > 3000, "{lived}");
    assert_eq!(stage.sessions().await, 3);
}

#[tokio::test]
async fn an_address_returns_where_it_was_last_asked_to() {
    let origins = vec!["https://app.example".to_owned()];
    let hawser = Hawser::start_with(|app| app.return_origins = origins).await;
    let stage = Stage::on(hawser).await;
    let path = format!("{MCP}/{}/authorize", stage.id);
    let ada = stage.user("ada");
    let plain = stage.endpoint("ada").await;
    let query = "redirectURL=https%3A%2F%2Fapp.example%2Fdone";
    assert_eq!(address(&ada.get(&format!("{path}?{query}")).await), plain);
    assert_eq!(
        stage.endpoint("ada").await,
        plain,
        "which keeps what is known"
    );
    let mut browser = Browser::new();
    let at_issuer = browser.begin(&plain).await;
    let page = browser.open(&stage.issuer.approve(&at_issuer).await).await;
    assert_eq!(page.status, 303);
    assert!(
        page.location
            .unwrap()
            .starts_with("https://app.example/done?")
    );
}

// Why there is no grant

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

#[tokio::test]
async fn a_consent_that_cannot_begin_says_why() {
    let status = |path, status| Fault {
        status: Some(status),
        ..Fault::always(path)
    };
    let metadata = |issuer: &Issuer| {
        json!({"issuer": "https://slack.example", "authorization_endpoint": format!("{}/authorize", issuer.url),
               "token_endpoint": format!("{}/token", issuer.url), "code_challenge_methods_supported": ["S256"]})
    };
    type Break = Box<dyn Fn(&Issuer)>;
    let cases: [(&str, u16, Break); 9] = [
        (
            "no_metadata",
            502,
            Box::new(move |i| i.fault(status("", 404))),
        ),
        (
            "issuer_unreachable",
            503,
            Box::new(move |i| i.fault(status("", 503))),
        ),
        (
            "registration_refused",
            502,
            Box::new(move |i| i.fault(status("/register", 403))),
        ),
        (
            "registration_refused",
            502,
            Box::new(|i| {
                i.fault(Fault {
                    status: Some(400),
                    body: json!({"error": "invalid_redirect_uri"}).to_string(),
                    ..Fault::always("/register")
                })
            }),
        ),
        (
            "no_client",
            502,
            Box::new(|i| i.configure(|s| s.dynamic_registration = false)),
        ),
        (
            "no_s256",
            502,
            Box::new(|i| i.configure(|s| s.s256 = false)),
        ),
        (
            "resource_mismatch",
            502,
            Box::new(|i| {
                i.configure(|s| s.resource = Some("https://other.example/mcp".to_owned()));
            }),
        ),
        (
            "issuer_mismatch",
            502,
            Box::new(move |i| {
                i.fault(Fault {
                    status: Some(200),
                    headers: vec![("content-type", "application/json".to_owned())],
                    body: metadata(i).to_string(),
                    ..Fault::always("/.well-known/oauth-authorization-server")
                })
            }),
        ),
        (
            "metadata_unusable",
            502,
            Box::new(|i| {
                i.fault(Fault {
                    status: Some(200),
                    headers: vec![("content-type", "application/json".to_owned())],
                    body: "{}".to_owned(),
                    ..Fault::always("/.well-known/oauth-authorization-server")
                })
            }),
        ),
    ];
    let mut sentences = BTreeSet::new();
    for (reason, status, spoil) in cases {
        let stage = Stage::set().await;
        spoil(&stage.issuer);
        let mut browser = Browser::new();
        let endpoint = stage.endpoint("ada").await;
        let page = browser.start(&endpoint).await;
        assert_eq!(page.status, status, "{reason}: {page:?}");
        let (_, sentence) = page.text.split_once("wiki cannot be connected: ").unwrap();
        sentences.insert(sentence.split("</p>").next().unwrap().to_owned());
        says_why(&stage, &page, reason).await;
        assert_eq!(browser.open(&endpoint).await.status, 400, "it is over");
    }
    assert_eq!(sentences.len(), 8, "each in its own words");
}

#[tokio::test]
async fn a_consent_that_ends_without_a_grant_says_why() {
    let token = |status, body: &str| Fault {
        status: Some(status),
        body: body.to_owned(),
        ..Fault::once("/token")
    };
    type Break = Box<dyn Fn(&Issuer)>;
    let cases: [(&str, Break); 4] = [
        (
            "wrong_issuer",
            Box::new(|i| i.configure(|s| s.wrong_iss = Some("https://evil.example".to_owned()))),
        ),
        (
            "code_refused",
            Box::new(move |i| i.fault(token(400, r#"{"error":"invalid_grant"}"#))),
        ),
        (
            "issuer_unreachable",
            Box::new(move |i| i.fault(token(503, ""))),
        ),
        (
            "token_unusable",
            Box::new(move |i| i.fault(token(200, "<html>"))),
        ),
    ];
    for (reason, spoil) in cases {
        let stage = Stage::set().await;
        spoil(&stage.issuer);
        let page = stage.connect("ada").await;
        assert!(page.text.contains("did not succeed: "), "{page:?}");
        says_why(&stage, &page, reason).await;
    }
    for (reason, change) in [
        ("issuer_error", "error=temporarily_unavailable"),
        ("no_code", ""),
        ("access_denied", "error=access_denied"),
    ] {
        let stage = Stage::set().await;
        let mut browser = Browser::new();
        let at_issuer = browser.begin(&stage.endpoint("ada").await).await;
        let back = stage.issuer.approve(&at_issuer).await;
        let mut url = url::Url::parse(&back).unwrap();
        let kept: Vec<_> = url
            .query_pairs()
            .into_owned()
            .filter(|(n, _)| n != "code")
            .collect();
        url.query_pairs_mut().clear().extend_pairs(kept);
        let page = browser.open(&format!("{url}&{change}")).await;
        says_why(&stage, &page, reason).await;
    }
}

#[tokio::test]
async fn managers_of_the_other_contracts_see_it_too() {
    let issuer = Issuer::start().await;
    let mail = json!({"mail": {"display_name": "Mail", "mcp_url": issuer.mcp_url(), "oauth": {}}});
    let hawser = Hawser::offering(&mail, |config| {
        config.ui_origin = Some("https://ui.example".to_owned());
    })
    .await;
    let all = ["create", "read", "update", "delete", "invoke"].map(|p| format!("mcp-servers:{p}"));
    let ada = hawser.caller(
        "acme",
        "ada",
        json!({"scope": "mgmt.read mgmt.write", "permissions": all}),
    );
    let body = json!({"mcp_server": "mail", "access_type": "write", "auth_method": "oauth"});
    let made = ada.post(KAMBRIUM, body).await.json()["data"].clone();
    issuer.configure(|s| s.s256 = false);
    let page = Browser::new()
        .start(made["authorization_url"].as_str().unwrap())
        .await;
    assert_eq!(page.status, 502, "{page:?}");
    // Whoever opened the popup hears of it.
    for text in ["postMessage(", "\"oauth_error\"", "\"server_error\""] {
        assert!(page.text.contains(text), "{}", page.text);
    }
    let shown = ada.get(&format!("{KAMBRIUM}/{}", made["id"])).await.json()["data"].clone();
    assert_eq!(shown["oauth_status"], "failed");
    let failed = &shown["last_failed_consent"];
    assert_eq!(
        (&failed["reason"], &failed["reference"]),
        (&json!("no_s256"), &json!(reference(&page)))
    );
    let servers = format!("{LANGSMITH}/mcp-servers");
    let listed = ada.get(&servers).await.json()[0].clone();
    assert_eq!(&listed["last_failed_consent"], failed);
    let reader = hawser.caller("acme", "bob", json!({"permissions": ["mcp-servers:read"]}));
    assert_eq!(
        reader.get(&servers).await.json()[0].get("last_failed_consent"),
        None
    );
}

// Clients that their issuer has forgotten

/// Sends a user to an issuer that does not send it back.
async fn leave(stage: &Stage, user: &str) {
    let at_issuer = Browser::new().begin(&stage.endpoint(user).await).await;
    let page = reqwest::get(at_issuer).await.unwrap();
    assert_eq!(page.status(), 400, "the issuer does not know the client");
}

#[tokio::test]
async fn a_client_that_was_forgotten_is_registered_anew_when_its_subject_comes_back() {
    let stage = Stage::set().await;
    stage.connect("ada").await;
    stage.issuer.forget_clients();
    leave(&stage, "bob").await;
    let page = stage.connect("bob").await;
    assert!(page.text.contains("<h1>Connected</h1>"), "{page:?}");
    assert_eq!(stage.issuer.clients().len(), 1);
    // From now on everybody uses that one.
    for user in ["eve", "dan"] {
        assert!(
            stage
                .connect(user)
                .await
                .text
                .contains("<h1>Connected</h1>")
        );
    }
    assert_eq!(stage.issuer.clients().len(), 1);
}

#[tokio::test]
async fn a_client_is_doubted_after_ten_minutes_without_an_answer_and_not_before() {
    let stage = Stage::by_hand().await;
    stage.connect("ada").await;
    stage.hawser.pass(1);
    let first = stage.issuer.clients();
    stage.issuer.forget_clients();
    leave(&stage, "bob").await;
    stage.hawser.pass(599);
    leave(&stage, "eve").await;
    stage.hawser.pass(1);
    let page = stage.connect("dan").await;
    assert!(page.text.contains("<h1>Connected</h1>"), "{page:?}");
    assert_ne!(stage.issuer.clients(), first);
}

#[tokio::test]
async fn who_only_changes_their_mind_costs_no_client_where_others_succeed() {
    let stage = Stage::by_hand().await;
    stage.connect("ada").await;
    let known = stage.issuer.clients();
    // Bob goes away, and another one comes to an end as the same client.
    let mut browser = Browser::new();
    browser.begin(&stage.endpoint("bob").await).await;
    stage.hawser.pass(1);
    stage.connect("eve").await;
    stage.hawser.pass(700);
    browser.begin(&stage.endpoint("bob").await).await;
    stage.connect("dan").await;
    assert_eq!(stage.issuer.clients(), known);
    // One that never served anyone is not replaced again and again.
    let fresh = Stage::by_hand().await;
    for _ in 0..5 {
        browser.begin(&fresh.endpoint("bob").await).await;
    }
    assert_eq!(fresh.issuer.clients().len(), 1);
}

#[tokio::test]
async fn an_issuer_that_refuses_the_client_gets_another_at_the_next_try() {
    let stage = Stage::set().await;
    let mut browser = Browser::new();
    let back = {
        let at_issuer = browser.begin(&stage.endpoint("ada").await).await;
        stage.issuer.approve(&at_issuer).await
    };
    stage.issuer.forget_clients();
    let page = browser.open(&back).await;
    says_why(&stage, &page, "client_refused").await;
    assert!(
        stage
            .connect("ada")
            .await
            .text
            .contains("<h1>Connected</h1>")
    );
}

#[tokio::test]
async fn a_revoke_all_makes_the_next_consent_register_anew() {
    let stage = Stage::set().await;
    stage.connect("ada").await;
    stage.issuer.forget_clients();
    let revoked = stage
        .admin
        .delete(&format!("{MCP}/{}/auth/tokens", stage.id))
        .await;
    assert_eq!(revoked.status, 200);
    assert!(
        stage
            .connect("bob")
            .await
            .text
            .contains("<h1>Connected</h1>")
    );
    assert_eq!(stage.issuer.clients().len(), 1);
}
