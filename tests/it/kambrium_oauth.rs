//! Kambrium connections by consent, from the create to the purge, against an issuer that remembers everything.

use crate::harness::{Answer, Browser, Caller, Cut, Hawser, Sent, of_operator, of_trail};
use crate::issuer::{FOREIGN, Fault, Gate, Issuer, StaticClient};
use crate::kambrium::everything;
use aws_sdk_dynamodb::types::AttributeValue;
use data_encoding::BASE64URL_NOPAD;
use hawser_core::domain::credential::Grant;
use hawser_core::domain::event::Who;
use hawser_core::domain::id::{ServerId, TenantId};
use hawser_core::domain::subject::{Subject, SubjectType};
use hawser_core::operations::grants::{self, GrantAccess, TokenRequirement};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;
use url::Url;

const BASE: &str = "/api/v1/mcp-servers";
const UI: &str = "https://ui.example";
const SECRET: &str = "operator-secret-4711";

/// A Hawser whose one integration, `mail`, is protected by the issuer.
struct Scene {
    hawser: Hawser,
    issuer: Issuer,
    ada: Caller,
    browser: Mutex<Browser>,
}

impl Scene {
    /// Everything is discovered and the client registered on the spot.
    async fn discovered() -> Self {
        Self::with(|_| json!({})).await
    }

    /// With these OAuth settings.
    async fn with(oauth: impl FnOnce(&Issuer) -> Value) -> Self {
        let issuer = Issuer::start().await;
        let oauth = oauth(&issuer);
        let hawser = Hawser::offering(&catalogue(&issuer, oauth), |config| {
            config.ui_origin = Some(UI.to_owned());
        })
        .await;
        let ada = ada(&hawser);
        Self {
            hawser,
            issuer,
            ada,
            browser: Mutex::new(Browser::new()),
        }
    }

    /// Makes a connection and returns its id and where its owner consents, when the button of our page was pressed.
    async fn create(&self) -> (u64, String) {
        let made = self.ada.post(BASE, mail()).await;
        assert_eq!(made.status, 201, "{}", made.text);
        let data = &made.json()["data"];
        let url = data["authorization_url"].as_str().unwrap().to_owned();
        (data["id"].as_u64().unwrap(), self.press(&url).await)
    }

    /// Opens a consent's page and presses the button; where the issuer asks the user.
    async fn press(&self, url: &str) -> String {
        let mut browser = self.browser.lock().unwrap().clone();
        let at_issuer = browser.begin(url).await;
        self.browser.lock().unwrap().cookies.extend(browser.cookies);
        at_issuer
    }

    fn cookie(&self) -> String {
        self.browser.lock().unwrap().cookie()
    }

    /// Makes a connection whose owner has consented.
    async fn connect(&self) -> u64 {
        let (id, url) = self.create().await;
        let back = self.visit(&self.issuer.approve(&url).await).await;
        assert_eq!(back.status, 200, "{}", back.text);
        assert_eq!(self.states(id).await, ("active".into(), "verified".into()));
        id
    }

    /// The browser goes where it is sent.
    async fn visit(&self, url: &str) -> Answer {
        let path = url.strip_prefix(&self.hawser.url).unwrap();
        let cookie = self.cookie();
        let headers = [("cookie", cookie.as_str())];
        let browser = self.hawser.anonymous();
        browser.send("GET", path, &headers, Vec::new()).await
    }

    /// `oauth_status` and `api_key_verification_status`, which get, list and update agree on.
    async fn states(&self, id: u64) -> (String, String) {
        let got = self.ada.get(&at(id)).await.json()["data"].clone();
        let listed = self.ada.get(BASE).await.json()["data"].clone();
        let listed = listed.as_array().unwrap().iter();
        let listed: Vec<_> = listed.filter(|one| one["id"] == id).collect();
        assert_eq!(listed, [&got]);
        let put = self.ada.put(&at(id), json!({})).await;
        assert_eq!((put.status, &put.json()["data"]), (200, &got));
        let text = |name: &str| got[name].as_str().unwrap().to_owned();
        (text("oauth_status"), text("api_key_verification_status"))
    }

    /// The connection's id under the sibling contract.
    async fn mcp(&self) -> String {
        let servers = self.ada.get("/api/svc/v1/mcp").await.json();
        servers["data"][0]["id"].as_str().unwrap().to_owned()
    }
}

fn catalogue(issuer: &Issuer, oauth: Value) -> Value {
    let mail =
        json!({"display_name": "Mail & <Post>", "mcp_url": issuer.mcp_url(), "oauth": oauth});
    json!({"mail": mail})
}

/// Someone who may do everything with servers of their own, under every contract.
fn ada(hawser: &Hawser) -> Caller {
    let permissions = ["create", "read", "update", "delete"].map(|p| format!("mcp-servers:{p}"));
    let claims =
        json!({"scope": "mgmt.read mgmt.write", "roles": ["admin"], "permissions": permissions});
    hawser.caller("acme", "ada", claims)
}

fn mail() -> Value {
    json!({"mcp_server": "mail", "access_type": "write", "auth_method": "oauth"})
}

fn at(id: u64) -> String {
    format!("{BASE}/{id}")
}

/// Settings with a client of the operator's and, if asked for, the issuer's endpoints.
fn pre_registered(issuer: &Issuer, endpoints: bool) -> Value {
    let mut oauth =
        json!({"client_id": "operator", "client_secret": SECRET, "scopes": ["mcp:read"]});
    if endpoints {
        for (name, path) in [
            ("authorization_endpoint", "authorize"),
            ("token_endpoint", "token"),
            ("revocation_endpoint", "revoke"),
        ] {
            oauth[name] = format!("{}/{path}", issuer.url).into();
        }
    }
    oauth
}

/// Makes the issuer know that client.
fn know_operator(scene: &Scene) {
    let redirect = format!(
        "{}/api/mcp-servers/saas-oauth/mail/callback/",
        scene.hawser.url
    );
    scene.issuer.configure(|settings| {
        settings.static_clients.push(StaticClient {
            id: "operator".to_owned(),
            secret: Some(SECRET.to_owned()),
            redirect_uris: vec![redirect],
        });
    });
}

/// The parameters of an address, each there once.
fn parameters(url: &str) -> BTreeMap<String, String> {
    let pairs = Url::parse(url).unwrap();
    let mut all = BTreeMap::new();
    for (name, value) in pairs.query_pairs().into_owned() {
        assert_eq!(all.insert(name, value), None, "{url}");
    }
    all
}

/// An address with other values of some parameters; `None` takes one away.
fn altered(url: &str, changes: &[(&str, Option<&str>)]) -> String {
    let mut url = Url::parse(url).unwrap();
    let mut all = parameters(url.as_str());
    for (name, value) in changes {
        match value {
            Some(value) => drop(all.insert((*name).to_owned(), (*value).to_owned())),
            None => drop(all.remove(*name)),
        }
    }
    url.query_pairs_mut().clear().extend_pairs(all);
    url.into()
}

/// What the page posts, and to whom.
fn posted(page: &Answer) -> Option<(Value, String)> {
    let (_, call) = page.text.split_once(".postMessage(")?;
    let (call, _) = call.split_once(")</script>").unwrap();
    let (message, origin): (Value, Value) = serde_json::from_str(&format!("[{call}]")).unwrap();
    Some((message, origin.as_str().unwrap().to_owned()))
}

#[track_caller]
fn assert_told(page: &Answer, message: Value) {
    assert_eq!(page.status, 200, "{}", page.text);
    assert_eq!(
        posted(page),
        Some((message, UI.to_owned())),
        "{}",
        page.text
    );
}

#[track_caller]
fn assert_error(page: &Answer, code: &str) {
    assert_told(page, json!({"type": "oauth_error", "error": code}));
    assert!(!page.text.contains(FOREIGN), "{}", page.text);
}

#[track_caller]
fn assert_bad_state(answer: &Answer) {
    let body = r#"{"success":false,"error":"Invalid state parameter","message":"OAuth state validation failed. Possible CSRF attack."}"#;
    assert_eq!((answer.status, answer.text.as_str()), (400, body));
    assert_eq!(answer.header("cache-control").unwrap(), "no-store");
}

fn failed() -> (String, String) {
    ("failed".to_owned(), "failed".to_owned())
}

fn pending() -> (String, String) {
    ("pending".to_owned(), "pending".to_owned())
}

// Create

#[tokio::test]
async fn create_answers_where_its_owner_consents_this_once() {
    let scene = Scene::discovered().await;
    let made = scene.ada.post(BASE, mail()).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let body = made.json();
    let data = body["data"].as_object().unwrap();
    let names: Vec<_> = data.keys().map(String::as_str).collect();
    let expected = [
        "id",
        "mcp_server_name",
        "api_key_verification_status",
        "oauth2_client_id",
        "oauth2_scopes",
        "agent_enabled",
        "disabled_tools",
        "created_at",
        "access_type",
        "auth_method",
        "oauth_status",
        "oauth2_credentials",
        "authorization_url",
        "message",
    ];
    assert_eq!(names, expected);
    assert_eq!(data["mcp_server_name"], "Mail & <Post>");
    assert_eq!(data["auth_method"], "oauth");
    assert_eq!(data["oauth_status"], "pending");
    assert_eq!(data["api_key_verification_status"], "pending");
    assert_eq!(
        data["message"],
        "Open authorization_url in a browser to connect"
    );
    assert_eq!(
        body["message"],
        "MCP server connection created successfully"
    );

    let ours = data["authorization_url"].as_str().unwrap();
    let start = format!("{}/oauth/start?session=", scene.hawser.url);
    assert!(ours.starts_with(&start), "{ours}");
    let url = &scene.press(ours).await;
    assert!(
        url.starts_with(&format!("{}/authorize?", scene.issuer.url)),
        "{url}"
    );
    let mut asked = parameters(url);
    let state = asked.remove("state").unwrap();
    let challenge = asked.remove("code_challenge").unwrap();
    assert_eq!(
        BASE64URL_NOPAD.decode(challenge.as_bytes()).unwrap().len(),
        32
    );
    let secret = state.rsplit('.').next().unwrap();
    assert_eq!(BASE64URL_NOPAD.decode(secret.as_bytes()).unwrap().len(), 32);
    let expected = [
        ("client_id", scene.issuer.clients().remove(0)),
        ("code_challenge_method", "S256".to_owned()),
        (
            "redirect_uri",
            format!(
                "{}/api/mcp-servers/saas-oauth/mail/callback/",
                scene.hawser.url
            ),
        ),
        ("resource", scene.issuer.mcp_url()),
        ("response_type", "code".to_owned()),
        ("scope", "mcp:read mcp:write".to_owned()),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(asked, BTreeMap::from(expected));

    assert_eq!(scene.states(1).await, pending());
    for answer in [scene.ada.get(&at(1)).await, scene.ada.get(BASE).await] {
        assert!(
            !answer.text.contains("authorization_url"),
            "{}",
            answer.text
        );
        assert!(!answer.text.contains(&state), "{}", answer.text);
    }
    let stored = everything(&scene.hawser).await;
    assert!(!stored.contains(secret), "the state is stored as a hash");
    let (_, second) = scene.create().await;
    assert_ne!(parameters(&second)["state"], state);
}

#[tokio::test]
async fn create_refuses_in_the_order_of_the_table() {
    const UNKNOWN: &str = "Invalid MCP server or access type specified";
    const METHOD: &str = "Authentication method not supported by this integration";
    const TOOLS: &str = "disabled_tools requires access type individual";
    let issuer = Issuer::start().await;
    let entry = |more: Value| {
        let mut entry = json!({"display_name": "X", "mcp_url": issuer.mcp_url()});
        entry
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        entry
    };
    let hawser = Hawser::with_integrations(&json!({
        "both": entry(json!({"api_key": {}, "oauth": {}})),
        "consent": entry(json!({"oauth": {}})),
        "key": entry(json!({"api_key": {}})),
        "neither": entry(json!({})),
        "off": entry(json!({"oauth": {}, "active": false})),
    }))
    .await;
    let ada = ada(&hawser);
    let oauth = |fields: Value| {
        let mut body = json!({"access_type": "write", "auth_method": "oauth"});
        body.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        body
    };
    for (body, detail) in [
        (oauth(json!({"mcp_server": "off"})), UNKNOWN),
        (
            oauth(json!({"mcp_server": "nowhere", "disabled_tools": [1]})),
            UNKNOWN,
        ),
        (
            oauth(json!({"mcp_server": "consent", "access_type": "all"})),
            UNKNOWN,
        ),
        (
            oauth(json!({"mcp_server": "key", "disabled_tools": [1]})),
            METHOD,
        ),
        (oauth(json!({"mcp_server": "neither"})), METHOD),
        (
            json!({"mcp_server": "neither", "access_type": "write", "api_key": "k"}),
            METHOD,
        ),
        (
            json!({"mcp_server": "consent", "access_type": "write", "api_key": "k"}),
            METHOD,
        ),
        (
            oauth(json!({"mcp_server": "consent", "disabled_tools": [1]})),
            TOOLS,
        ),
    ] {
        let answer = ada.post(BASE, body.clone()).await;
        assert_eq!(
            (answer.status, answer.json()),
            (400, json!({"detail": detail})),
            "{body}"
        );
    }
    assert_eq!(issuer.log().len(), 0, "nobody was asked");
    assert_eq!(ada.get(BASE).await.json()["data"], json!([]));
    let by_key = json!({"mcp_server": "both", "access_type": "write", "api_key": "k"});
    for (body, method) in [
        (oauth(json!({"mcp_server": "both"})), "oauth"),
        (by_key, "api_key"),
    ] {
        let made = ada.post(BASE, body).await;
        assert_eq!(
            (made.status, &made.json()["data"]["auth_method"]),
            (201, &json!(method))
        );
    }
}

#[tokio::test]
async fn an_issuer_that_cannot_be_used_leaves_nothing_behind() {
    let scene = Scene::discovered().await;
    let detail = "Failed to create connection: authorization server unavailable";
    let fault = |path, status| Fault {
        status: Some(status),
        ..Fault::once(path)
    };
    let resource = "/oauth-protected-resource/mcp";
    for faults in [
        vec![fault("/mcp", 503)],
        vec![fault("/oauth-authorization-server", 500)],
        vec![fault("/register", 403)],
        vec![fault("/register", 503)],
        vec![Fault {
            drop: true,
            ..Fault::once("/register")
        }],
        vec![
            Fault {
                times: 9,
                ..fault("/mcp", 404)
            },
            Fault {
                times: 9,
                ..fault(resource, 404)
            },
        ],
    ] {
        faults.into_iter().for_each(|one| scene.issuer.fault(one));
        let answer = scene.ada.post(BASE, mail()).await;
        assert_eq!(
            (answer.status, answer.json()),
            (502, json!({"detail": detail}))
        );
        scene.issuer.clear_faults();
    }
    scene.issuer.configure(|settings| settings.s256 = false);
    assert_eq!(scene.ada.post(BASE, mail()).await.status, 502);
    scene.issuer.configure(|settings| {
        settings.s256 = true;
        settings.dynamic_registration = false;
    });
    assert_eq!(scene.ada.post(BASE, mail()).await.status, 502);
    let items = scene.hawser.ground().items().await;
    let mut left: Vec<_> = items
        .iter()
        .filter(|item| !of_operator(item))
        .map(|item| item["entity"].as_str().unwrap())
        .collect();
    left.sort_unstable();
    assert_eq!(left, ["counter", "tenant-key"], "an id may be skipped");
    assert_eq!(scene.issuer.clients(), [""; 0]);
}

#[tokio::test]
async fn a_client_whose_connection_could_not_be_stored_is_removed_again() {
    let scene = Scene::discovered().await;
    scene.connect().await;
    let known = scene.issuer.clients();
    scene.hawser.wire.arm(None);
    scene.create().await;
    let sent = scene.hawser.wire.operations();
    let commit = sent
        .iter()
        .position(|one| one == "TransactWriteItems")
        .unwrap();
    let known_then = scene.issuer.clients();
    assert_eq!(known_then.len(), known.len() + 1);
    let never = Cut::Cancel(8, "TransactionConflict");
    scene.hawser.wire.arm(Some(never));
    let answer = scene.ada.post(BASE, mail()).await;
    let detail = "Failed to create connection: database error";
    assert_eq!(
        (answer.status, answer.json()),
        (500, json!({"detail": detail}))
    );
    scene.hawser.wire.arm(None);
    assert_eq!(scene.issuer.clients(), known_then);
    assert_eq!(
        scene.ada.get(BASE).await.json()["data"]
            .as_array()
            .unwrap()
            .len(),
        2
    );

    // An answer that is lost is read back: the connection exists, and its client stays.
    scene.hawser.wire.arm(Some(Cut::Answer(commit)));
    let (id, url) = scene.create().await;
    scene.hawser.wire.arm(None);
    assert_eq!(scene.issuer.clients().len(), known_then.len() + 1);
    scene.visit(&scene.issuer.approve(&url).await).await;
    assert_eq!(scene.states(id).await.0, "active");
}

#[tokio::test]
async fn without_a_public_address_there_is_nowhere_to_come_back_to() {
    let issuer = Issuer::start().await;
    let hawser = Hawser::offering(&catalogue(&issuer, json!({})), |config| {
        config.public_urls.clear();
    })
    .await;
    let answer = ada(&hawser).post(BASE, mail()).await;
    let detail = "Failed to create connection: database error";
    assert_eq!(
        (answer.status, answer.json()),
        (500, json!({"detail": detail}))
    );
    assert_eq!(issuer.log().len(), 0);
}

// The whole way

#[tokio::test]
async fn a_consent_makes_the_connection_active_and_tells_the_opener() {
    let scene = Scene::discovered().await;
    let (id, url) = scene.create().await;
    let back = scene.issuer.approve(&url).await;
    let page = scene.visit(&back).await;
    let message = json!({"type": "oauth_success", "providerName": "Mail & <Post>"});
    assert_told(&page, message);
    assert!(page.text.contains(
        "<p>Mail &amp; &lt;Post&gt; is connected for ada. You can close this window.</p>"
    ));
    assert_eq!(
        page.header("content-type").unwrap(),
        "text/html; charset=utf-8"
    );
    assert_eq!(page.header("cache-control").unwrap(), "no-store");
    assert_eq!(page.header("referrer-policy").unwrap(), "no-referrer");
    assert_eq!(
        page.header("cross-origin-opener-policy").unwrap(),
        "unsafe-none"
    );
    assert_eq!(page.header("x-content-type-options").unwrap(), "nosniff");
    let policy = page.header("content-security-policy").unwrap();
    let (_, nonce) = page.text.split_once("<script nonce=\"").unwrap();
    let (nonce, _) = nonce.split_once('"').unwrap();
    let expected = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'"
    );
    assert_eq!(policy, expected);
    assert!(nonce.len() >= 22);
    assert_eq!(scene.states(id).await, ("active".into(), "verified".into()));
    let exchange = scene
        .issuer
        .log()
        .into_iter()
        .find(|one| one.path == "/token")
        .unwrap();
    assert_eq!(exchange.field("resource").unwrap(), scene.issuer.mcp_url());

    // Other settings do not touch the consent.
    let put = scene
        .ada
        .put(
            &at(id),
            json!({"access_type": "read", "agent_enabled": false}),
        )
        .await;
    assert_eq!(put.json()["data"]["oauth_status"], "active");
    let refused = scene.ada.put(&at(id), json!({"api_key": "k"})).await;
    let detail = "api_key cannot be changed on this connection";
    assert_eq!(
        (refused.status, refused.json()),
        (400, json!({"detail": detail}))
    );
}

#[tokio::test]
async fn the_issuer_answers_by_get_and_by_post_with_and_without_a_slash() {
    let scene = Scene::discovered().await;
    for (method, slash) in [
        ("GET", true),
        ("GET", false),
        ("POST", true),
        ("POST", false),
    ] {
        let (id, url) = scene.create().await;
        let back = scene.issuer.approve(&url).await;
        let (path, query) = back
            .strip_prefix(&scene.hawser.url)
            .unwrap()
            .split_once('?')
            .unwrap();
        let path = if slash {
            path
        } else {
            path.strip_suffix('/').unwrap()
        };
        let (path, body) = match method {
            "GET" => (format!("{path}?{query}"), String::new()),
            _ => (path.to_owned(), query.to_owned()),
        };
        let kind = ("content-type", "application/x-www-form-urlencoded");
        let browser = scene.hawser.anonymous();
        if method == "POST" {
            // From the issuer's site it comes without the cookie: the browser is sent here once more, with it.
            let fields: Vec<_> = parameters(&back).into_iter().collect();
            let url = format!("{}{path}", scene.hawser.url);
            let sent = Browser::new().post(&url, &fields).await;
            assert_eq!(sent.status, 303, "{sent:?}");
            let again = Url::parse(&back).unwrap();
            let again = again.join(&sent.location.unwrap()).unwrap();
            assert_eq!(parameters(again.as_str()), parameters(&back));
            assert_eq!(scene.states(id).await.0, "pending");
        }
        let cookie = scene.cookie();
        let headers = [kind, ("cookie", cookie.as_str())];
        let page = browser
            .send(method, &path, &headers, body.into_bytes())
            .await;
        assert_eq!(page.status, 200, "{method} {slash}: {}", page.text);
        assert_eq!(scene.states(id).await.0, "active");
    }
    let path = "/api/mcp-servers/saas-oauth/mail/callback/";
    let other = scene.hawser.anonymous().put(path, json!({})).await;
    assert_eq!(
        (other.status, other.json()),
        (405, json!({"detail": "Method Not Allowed"}))
    );
    assert_eq!(other.header("allow").unwrap(), "GET, POST");
}

#[tokio::test]
async fn a_client_of_the_operators_is_used_as_it_is() {
    for endpoints in [false, true] {
        let scene = Scene::with(|issuer| pre_registered(issuer, endpoints)).await;
        know_operator(&scene);
        // Where everything is configured nobody is asked what the server calls itself.
        scene.issuer.configure(|settings| {
            settings.resource_needed = !endpoints;
            settings.dynamic_registration = false;
        });
        let (id, url) = scene.create().await;
        assert_eq!(scene.issuer.log().is_empty(), endpoints);
        let asked = parameters(&url);
        assert_eq!(asked["client_id"], "operator");
        assert_eq!(asked["scope"], "mcp:read");
        assert_eq!(asked.contains_key("resource"), !endpoints);
        assert_eq!(
            scene.visit(&scene.issuer.approve(&url).await).await.status,
            200
        );
        assert_eq!(scene.states(id).await, ("active".into(), "verified".into()));
        assert_eq!(scene.issuer.issued()[0].client_id, "operator");

        let shown = scene.ada.get("/api/svc/v1/mcp").await;
        assert!(!shown.text.contains(SECRET), "{}", shown.text);
        assert_eq!(scene.ada.delete(&at(id)).await.status, 200);
        scene.hawser.run_workers().await;
        assert_eq!(scene.issuer.live_tokens(), [""; 0]);
    }
}

#[tokio::test]
async fn parameters_of_the_operators_are_added_and_override_none() {
    let own = json!({
        "prompt": "consent", "state": "mine", "redirect_uri": "https://evil.example/", "client_id": "evil", "scope": "all",
        "code_challenge": "x", "code_challenge_method": "plain", "response_type": "token", "resource": "https://evil.example/",
    });
    let plain = Scene::with(|_| json!({ "authorize_params": own })).await;
    let (_, url) = plain.create().await;
    let asked = parameters(&url);
    assert_eq!(asked["prompt"], "consent");
    assert_eq!(asked["code_challenge_method"], "S256");
    assert_eq!(asked["resource"], plain.issuer.mcp_url());
    assert!(
        !url.contains("evil") && !url.contains("mine") && !url.contains("plain"),
        "{url}"
    );
    plain.visit(&plain.issuer.approve(&url).await).await;
    assert_eq!(plain.states(1).await.0, "active");

    // Not even those that are not sent.
    let bare = Scene::with(|issuer| {
        let mut oauth = pre_registered(issuer, true);
        oauth["pkce"] = false.into();
        oauth["scopes"] = json!([]);
        oauth["authorize_params"] = own;
        oauth
    })
    .await;
    let (_, url) = bare.create().await;
    let names: Vec<_> = parameters(&url).into_keys().collect();
    assert_eq!(
        names,
        [
            "client_id",
            "prompt",
            "redirect_uri",
            "response_type",
            "state"
        ]
    );
    assert_eq!(parameters(&url)["client_id"], "operator");
}

// Ways to fail

#[tokio::test]
async fn a_denied_consent_fails_and_says_so() {
    let scene = Scene::discovered().await;
    let (id, url) = scene.create().await;
    let page = scene.visit(&scene.issuer.deny(&url).await).await;
    assert_error(&page, "access_denied");
    assert_eq!(scene.states(id).await, failed());
    assert_eq!(scene.issuer.count("POST", "/token"), 0);
    // The address is used up, even for someone who agrees now.
    assert_bad_state(&scene.visit(&scene.issuer.approve(&url).await).await);
    assert_eq!(scene.states(id).await, failed());
}

#[tokio::test]
async fn an_issuers_own_words_are_not_passed_on() {
    let scene = Scene::discovered().await;
    let long = "a".repeat(65);
    for (code, shown) in [
        ("temporarily_unavailable", "temporarily_unavailable"),
        ("</script><script>alert(1)</script>", "invalid_request"),
        ("Denied", "invalid_request"),
        (long.as_str(), "invalid_request"),
    ] {
        let (id, url) = scene.create().await;
        let denied = scene.issuer.deny(&url).await;
        let page = scene
            .visit(&altered(&denied, &[("error", Some(code))]))
            .await;
        assert_error(&page, shown);
        assert!(!page.text.contains("alert"), "{}", page.text);
        assert_eq!(scene.states(id).await, failed());
    }
    // Neither a code nor an error.
    let (id, url) = scene.create().await;
    let back = scene.issuer.approve(&url).await;
    assert_error(
        &scene.visit(&altered(&back, &[("code", None)])).await,
        "server_error",
    );
    assert_eq!(scene.states(id).await, failed());
}

#[tokio::test]
async fn a_code_is_exchanged_once_and_a_failure_is_final() {
    let scene = Scene::discovered().await;
    let refused = json!({"error": "invalid_grant", "error_description": FOREIGN}).to_string();
    for (status, body) in [
        (Some(400), refused),
        (Some(503), String::new()),
        (Some(200), "<html>".to_owned()),
        (None, String::new()),
    ] {
        let drop = status.is_none();
        scene.issuer.clear_log();
        let fault = Fault {
            status,
            body,
            drop,
            ..Fault::always("/token")
        };
        scene.issuer.fault(fault);
        let (id, url) = scene.create().await;
        let back = scene.issuer.approve(&url).await;
        assert_error(&scene.visit(&back).await, "server_error");
        assert_eq!(scene.states(id).await, failed());
        scene.issuer.clear_faults();
        assert_bad_state(&scene.visit(&back).await);
        assert_eq!(scene.issuer.count("POST", "/token"), 1);
    }
    assert_eq!(scene.issuer.issued().len(), 0);
}

#[tokio::test]
async fn a_callback_serves_once() {
    let scene = Scene::discovered().await;
    let (id, url) = scene.create().await;
    let back = scene.issuer.approve(&url).await;
    let (one, other) = tokio::join!(scene.visit(&back), scene.visit(&back));
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400], "of two at once");
    assert_bad_state(&scene.visit(&back).await);
    assert_eq!(scene.issuer.count("POST", "/token"), 1);
    assert_eq!(scene.states(id).await.0, "active");
    assert_eq!(
        scene.issuer.live_tokens().len(),
        2,
        "nothing was taken back"
    );
}

#[tokio::test]
async fn an_answer_that_does_not_fit_leaves_the_state_usable() {
    let scene = Scene::discovered().await;
    let (id, url) = scene.create().await;
    let back = scene.issuer.approve(&url).await;
    let state = parameters(&back)["state"].clone();
    let (head, secret) = state.rsplit_once('.').unwrap();
    let forged = format!("{head}.{}", BASE64URL_NOPAD.encode(&[7; 32]));
    let elsewhere = state.replacen("YWNtZQ", "b3RoZXI", 1);
    assert_ne!(elsewhere, state);
    let before = scene.hawser.ground().items().await;
    for wrong in [
        back.replace("saas-oauth/mail/", "saas-oauth/pipedrive/"),
        back.replace("saas-oauth/mail/", "saas-oauth/Mail/"),
        back.replace(
            "/api/mcp-servers/saas-oauth/mail/callback/",
            "/oauth/callback",
        ),
        altered(&back, &[("state", Some(&forged))]),
        altered(&back, &[("state", Some(&elsewhere))]),
        altered(&back, &[("state", Some(secret))]),
        altered(&back, &[("state", Some(""))]),
        altered(&back, &[("state", None)]),
        format!("{back}&state={state}"),
        format!("{back}&code=x"),
        format!("{back}&iss=x"),
        format!("{back}&error=a&error=b"),
    ] {
        let answer = scene.visit(&wrong).await;
        if wrong.contains("/oauth/callback") {
            assert_eq!(answer.status, 400, "the page of the other contracts");
        } else {
            assert_bad_state(&answer);
        }
    }
    assert_eq!(scene.hawser.ground().items().await, before);
    assert_eq!(scene.issuer.count("POST", "/token"), 0);
    assert_eq!(scene.visit(&back).await.status, 200);
    assert_eq!(scene.states(id).await.0, "active");
}

#[tokio::test]
async fn an_answer_of_another_issuer_is_not_believed() {
    let scene = Scene::discovered().await;
    for (deny, changes) in [
        (false, ("iss", Some("https://evil.example"))),
        (false, ("iss", Some(""))),
        (false, ("iss", None)),
        (true, ("iss", Some("https://evil.example"))),
    ] {
        let (id, url) = scene.create().await;
        let back = match deny {
            true => scene.issuer.deny(&url).await,
            false => scene.issuer.approve(&url).await,
        };
        // Not even that it was denied.
        assert_error(
            &scene.visit(&altered(&back, &[changes])).await,
            "server_error",
        );
        assert_eq!(scene.states(id).await, failed());
    }
    assert_eq!(
        scene.issuer.count("POST", "/token"),
        0,
        "no code went anywhere"
    );
}

#[tokio::test]
async fn a_state_is_valid_for_ten_minutes() {
    let scene = Scene::discovered().await;
    for (seconds, valid) in [(590, true), (600, false)] {
        let (id, url) = scene.create().await;
        let back = scene.issuer.approve(&url).await;
        let items = scene.hawser.ground().items().await;
        let session = items
            .into_iter()
            .find(|item| item["entity"] == "session" && item["phase"] == "pending")
            .unwrap();
        let text = |name: &str| AttributeValue::S(session[name].as_str().unwrap().to_owned());
        let begun = session["at"].as_i64().unwrap() - seconds * 1_000_000;
        let client = scene.hawser.ground().dynamodb();
        let update = client
            .update_item()
            .table_name(hawser_local::TABLE)
            .key("PK", text("PK"))
            .key("SK", text("SK"))
            .update_expression("SET #at = :at")
            .expression_attribute_names("#at", "at")
            .expression_attribute_values(":at", AttributeValue::N(begun.to_string()));
        update.send().await.unwrap();
        let page = scene.visit(&back).await;
        if valid {
            assert_eq!(page.status, 200, "{}", page.text);
        } else {
            assert_bad_state(&page);
            assert_eq!(scene.states(id).await, pending());
        }
    }
}

#[tokio::test]
async fn a_refresh_that_is_refused_for_good_fails_the_connection() {
    let scene = Scene::discovered().await;
    let id = scene.connect().await;
    let server = ServerId::parse_prefixed(&scene.mcp().await).unwrap();
    let tenant = TenantId::parse("acme").unwrap();
    let subject = Subject::new(SubjectType::User, "ada").unwrap();
    for (error, expected) in [
        ("temporarily_unavailable", "active"),
        ("invalid_grant", "failed"),
    ] {
        scene.issuer.fault(Fault {
            status: Some(400),
            body: json!({ "error": error }).to_string(),
            ..Fault::once("/token")
        });
        // Longer than the token lives.
        let need = TokenRequirement::ValidFor(7200);
        let usable = grants::access(
            &scene.hawser.app,
            &tenant,
            &Who::Operator,
            server,
            &subject,
            need,
            grants::MAX_REFRESH_WAIT,
        )
        .await;
        assert!(
            matches!(usable, Ok(GrantAccess::Unavailable(_))),
            "{usable:?}"
        );
        assert_eq!(scene.states(id).await.0, expected);
        forget_pause(&scene).await;
    }
    assert_eq!(scene.states(id).await, failed());
}

/// Lets a grant be refreshed again at once.
async fn forget_pause(scene: &Scene) {
    let items = scene.hawser.ground().items().await;
    let grant = items.iter().find(|item| item["entity"] == "grant").unwrap();
    let text = |name: &str| AttributeValue::S(grant[name].as_str().unwrap().to_owned());
    let client = scene.hawser.ground().dynamodb();
    let update = client
        .update_item()
        .table_name(hawser_local::TABLE)
        .key("PK", text("PK"))
        .key("SK", text("SK"))
        .update_expression("REMOVE retry_at");
    update.send().await.unwrap();
}

#[tokio::test]
async fn without_a_ui_origin_the_page_is_text_alone() {
    let issuer = Issuer::start().await;
    for ui_origin in [None, Some("*"), Some("null"), Some("ui.example")] {
        let hawser = Hawser::offering(&catalogue(&issuer, json!({})), |config| {
            config.ui_origin = ui_origin.map(str::to_owned);
        })
        .await;
        let ada = ada(&hawser);
        let scene = Scene {
            hawser,
            issuer: issuer.clone(),
            ada,
            browser: Mutex::new(Browser::new()),
        };
        let (_, url) = scene.create().await;
        let page = scene.visit(&issuer.approve(&url).await).await;
        assert_eq!((page.status, posted(&page)), (200, None));
        assert!(!page.text.contains("<script"), "{}", page.text);
        let policy = page.header("content-security-policy").unwrap();
        assert!(!policy.contains("script-src"), "{policy}");
    }
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_a_500_without_a_page() {
    let scene = Scene::discovered().await;
    let (_, url) = scene.create().await;
    let back = scene.issuer.approve(&url).await;
    scene.hawser.wire.arm(Some(Cut::Before(0)));
    let answer = scene.visit(&back).await;
    scene.hawser.wire.arm(None);
    let detail = "Failed to complete OAuth connection: database error";
    assert_eq!(
        (answer.status, answer.json()),
        (500, json!({"detail": detail}))
    );
    assert_eq!(
        scene.visit(&back).await.status,
        200,
        "the state was not taken"
    );
}

// Deletion

#[tokio::test]
async fn a_callback_after_the_delete_stores_nothing() {
    let scene = Scene::discovered().await;
    let (id, url) = scene.create().await;
    let back = scene.issuer.approve(&url).await;
    assert_eq!(scene.ada.delete(&at(id)).await.status, 200);
    assert_bad_state(&scene.visit(&back).await);
    scene.hawser.run_workers().await;
    assert_bad_state(&scene.visit(&back).await);
    assert_eq!(scene.issuer.count("POST", "/token"), 0);
    let items = scene.hawser.ground().items().await;
    let mut left: Vec<_> = items
        .iter()
        .filter(|item| !of_trail(item) && !of_operator(item))
        .map(|item| item["entity"].as_str().unwrap())
        .collect();
    left.sort_unstable();
    assert_eq!(left, ["counter", "receipt", "tenant-key"]);
    assert_eq!(scene.issuer.clients(), [""; 0]);
}

#[tokio::test]
async fn what_an_issuer_answers_after_the_delete_is_revoked() {
    let scene = Scene::discovered().await;
    let (id, url) = scene.create().await;
    let back = scene.issuer.approve(&url).await;
    let gate = Gate::closed();
    let held = Fault {
        hold: Some(gate.clone()),
        after: true,
        ..Fault::once("/token")
    };
    scene.issuer.fault(held);
    let late = async {
        gate.reached().await;
        assert_eq!(scene.ada.delete(&at(id)).await.status, 200);
        scene.hawser.run_workers().await;
        assert_eq!(
            scene.issuer.live_tokens().len(),
            2,
            "issued, and still under way to us"
        );
        gate.open();
    };
    let (page, ()) = tokio::join!(scene.visit(&back), late);
    assert_bad_state(&page);
    scene.hawser.run_workers().await;
    assert_eq!(scene.issuer.live_tokens(), [""; 0]);
    assert_eq!(scene.issuer.clients(), [""; 0]);
    assert_eq!(scene.ada.get(&at(id)).await.status, 404);
}

#[tokio::test]
async fn a_deletion_ends_tokens_and_client_at_the_issuer() {
    let scene = Scene::discovered().await;
    let (id, other) = (scene.connect().await, scene.connect().await);
    assert_eq!(scene.issuer.live_tokens().len(), 4);
    assert_eq!(
        scene.issuer.clients().len(),
        2,
        "each connection has its own"
    );
    assert_eq!(scene.ada.delete(&at(id)).await.status, 200);
    scene.hawser.run_workers().await;
    assert_eq!(scene.issuer.live_tokens().len(), 2);
    assert_eq!(scene.issuer.clients().len(), 1);
    assert_eq!(scene.states(other).await.0, "active");
    assert_eq!(scene.ada.delete(&at(other)).await.status, 200);
    scene.hawser.run_workers().await;
    assert_eq!(scene.issuer.live_tokens(), [""; 0]);
    assert_eq!(scene.issuer.clients(), [""; 0]);
}

// What the sibling contracts see, and what they change

#[tokio::test]
async fn sibling_contracts_see_the_same_connection() {
    let scene = Scene::with(|issuer| pre_registered(issuer, false)).await;
    know_operator(&scene);
    let id = scene.connect().await;
    let mcp = scene.mcp().await;
    let path = format!("/api/svc/v1/mcp/{mcp}");
    let server = scene.ada.get(&path).await.json()["data"].clone();
    let manifest = &server["manifest"];
    assert_eq!(manifest["name"], format!("mail-{id}"));
    assert_eq!(manifest["url"], scene.issuer.mcp_url());
    assert_eq!(manifest["auth_data"]["type"], "oauth2");
    assert_eq!(manifest["auth_data"]["client_id"], "operator");
    assert_eq!(manifest["auth_data"]["scopes"], json!(["mcp:read"]));
    let status = format!("{path}/auth/status?subjectId=ada&subjectType=user");
    let status = scene.ada.get(&status).await;
    assert_eq!(
        status.json(),
        json!({"status": "authenticated", "method": "oauth"})
    );
    let listed = scene.ada.get("/v1/deepagents/mcp-servers").await.json();
    assert_eq!(listed[0]["name"], format!("mail-{id}"));
    assert_eq!(listed[0]["auth_type"], "oauth");

    let body = json!({"authSource": "oauth", "subjectId": "ada", "subjectType": "user"});
    let gone = scene.ada.delete_with(&format!("{path}/auth"), body).await;
    assert_eq!(gone.status, 200, "{}", gone.text);
    assert_eq!(scene.states(id).await, pending());
    scene.hawser.run_workers().await;
    assert_eq!(scene.issuer.live_tokens(), [""; 0]);
}

#[tokio::test]
async fn a_disconnect_voids_a_consent_that_is_under_way() {
    let scene = Scene::discovered().await;
    let (id, url) = scene.create().await;
    let back = scene.issuer.approve(&url).await;
    let gone = scene.ada.delete("/v1/subjects/user/ada/credentials").await;
    assert_eq!(gone.status, 200, "{}", gone.text);
    assert_bad_state(&scene.visit(&back).await);
    assert_eq!(scene.states(id).await, pending());
    assert_eq!(scene.issuer.live_tokens(), [""; 0]);
}

#[tokio::test]
async fn a_siblings_oauth_server_shows_its_owners_consent() {
    let scene = Scene::discovered().await;
    let oauth = json!({"type": "oauth2", "grant_type": "authorization_code", "jwt_source": "access_token",
                       "authorization_url": "https://as.example/a", "token_url": "https://as.example/t", "client_id": "c"});
    let manifest = json!({"type": "mcp-server/remote", "name": "wiki", "description": "d", "url": "https://x.example/",
                          "auth_data": oauth});
    let made = scene
        .ada
        .put("/api/svc/v1/mcp", json!({"manifest": manifest}))
        .await;
    assert_eq!(made.status, 200, "{}", made.text);
    let mcp = scene.mcp().await;
    scene.hawser.give_grant(&mcp, "bob", |_| {}).await;
    assert_eq!(scene.states(1).await, pending(), "the owner's counts");
    scene.hawser.give_grant(&mcp, "ada", |_| {}).await;
    assert_eq!(scene.states(1).await, ("active".into(), "verified".into()));
    // What she has set for herself says nothing of her consent.
    assert_eq!(scene.ada.install(&mcp, "user", "ada").await.status, 200);
    assert_eq!(scene.states(1).await, ("active".into(), "verified".into()));
    let expired = |grant: &mut Grant| {
        grant.version = "v2".to_owned();
        grant.refreshable = false;
        grant.expires_at = Some(grant.obtained_at);
    };
    scene.hawser.give_grant(&mcp, "ada", expired).await;
    assert_eq!(scene.states(1).await, pending());
}

#[tokio::test]
async fn where_nobody_has_to_consent_the_connection_is_active() {
    let scene = Scene::discovered().await;
    let oauth = json!({"type": "oauth2", "grant_type": "client_credentials", "jwt_source": "access_token",
                       "token_url": "https://as.example/t", "client_id": "c", "client_secret": "s"});
    let manifest = json!({"type": "mcp-server/remote", "name": "wiki", "description": "d", "url": "https://x.example/",
                          "auth_data": oauth});
    let body = json!({ "manifest": manifest });
    let made = scene.ada.put("/api/svc/v1/mcp", body).await;
    assert_eq!(made.status, 200, "{}", made.text);
    assert_eq!(scene.states(1).await, ("active".into(), "verified".into()));
}

#[tokio::test]
async fn an_integrations_client_is_for_the_integrations_server() {
    let scene = Scene::with(|issuer| {
        let mut oauth = pre_registered(issuer, false);
        oauth["authorize_params"] = json!({"prompt": "consent"});
        oauth
    })
    .await;
    know_operator(&scene);
    let id = scene.connect().await;
    let path = format!("/api/svc/v1/mcp/{}", scene.mcp().await);
    let manifest = scene.ada.get(&path).await.json()["data"]["manifest"].clone();
    let put = |manifest: Value| {
        let body = json!({"manifest": manifest, "force": true});
        let ada = scene.ada.clone();
        async move { ada.put("/api/svc/v1/mcp", body).await }
    };
    let mut shown = manifest.clone();
    shown["auth_data"]["jwt_source"] = "access_token".into();
    shown["description"] = "other words".into();
    shown["auth_data"]["scopes"] = json!(["mcp:read", "more"]);
    let put_back = put(shown.clone()).await;
    assert_eq!(put_back.status, 200, "{}", put_back.text);
    assert_eq!(
        scene.states(id).await.0,
        "active",
        "the catalogue decides on scopes"
    );
    let integration = || async {
        let items = scene.hawser.ground().items().await;
        let server = items
            .into_iter()
            .find(|item| item["entity"] == "server")
            .unwrap();
        server["connection"]["integration"].clone()
    };
    assert_eq!(integration().await, "mail");
    shown["url"] = "https://evil.example/mcp".into();
    let moved = put(shown).await;
    assert_eq!(moved.status, 200, "{}", moved.text);
    assert_eq!(integration().await, Value::Null);
    assert_eq!(scene.states(id).await, pending());
    scene.hawser.run_workers().await;
    assert_eq!(scene.issuer.live_tokens(), [""; 0]);
}

#[tokio::test]
async fn an_integration_that_is_no_longer_offered_serves_what_was_made_from_it() {
    let scene = Scene::with(|issuer| pre_registered(issuer, false)).await;
    know_operator(&scene);
    let (id, url) = scene.create().await;
    let mut offered = catalogue(&scene.issuer, pre_registered(&scene.issuer, false));
    offered["mail"]["active"] = false.into();
    scene.hawser.ground().offer(&offered).await;
    let later = Hawser::on(scene.hawser.ground()).await;
    let back = scene.issuer.approve(&url).await;
    let path = back.strip_prefix(&scene.hawser.url).unwrap();
    let cookie = scene.cookie();
    let headers = [("cookie", cookie.as_str())];
    let page = later
        .anonymous()
        .send("GET", path, &headers, Vec::new())
        .await;
    assert_eq!(page.status, 200);
    assert_eq!(ada(&later).post(BASE, mail()).await.status, 400);
    assert_eq!(scene.states(id).await.0, "active");
}

// What it costs, and what is nowhere to be seen

#[tokio::test]
async fn a_list_reads_the_consents_of_its_own_oauth_connections_in_batches() {
    let scene = Scene::with(|issuer| pre_registered(issuer, true)).await;
    for _ in 0..34 {
        scene.create().await;
    }
    scene.hawser.wire.arm(None);
    let listed = scene.ada.get(BASE).await;
    assert_eq!(listed.json()["data"].as_array().unwrap().len(), 34);
    assert_eq!(
        scene.hawser.wire.operations(),
        ["Query", "BatchGetItem", "BatchGetItem"]
    );
    let asked = |sent: &Sent| {
        let keys = &sent.body["RequestItems"]["hawser"]["Keys"];
        keys.as_array().map(Vec::len)
    };
    let keys: Vec<_> = scene.hawser.wire.sent().iter().filter_map(asked).collect();
    assert_eq!(keys, [99, 3]);
    scene.hawser.wire.arm(None);
    scene.ada.get(&at(7)).await;
    assert_eq!(
        scene.hawser.wire.operations(),
        ["BatchGetItem", "BatchGetItem"]
    );
    let others = scene
        .hawser
        .caller("acme", "bob", json!({"scope": "mgmt.read"}));
    scene.hawser.wire.arm(None);
    assert_eq!(others.get(BASE).await.json()["data"], json!([]));
    assert_eq!(scene.hawser.wire.operations(), ["Query"]);
}

#[tokio::test]
async fn no_secret_is_answered_or_stored_in_the_clear() {
    let registered = Scene::discovered().await;
    let operated = Scene::with(|issuer| pre_registered(issuer, false)).await;
    know_operator(&operated);
    for scene in [registered, operated] {
        let (id, url) = scene.create().await;
        let state = parameters(&url)["state"].clone();
        let back = scene.issuer.approve(&url).await;
        let code = parameters(&back)["code"].clone();
        let page = scene.visit(&back).await;
        let mut secrets = scene.issuer.live_tokens();
        assert_eq!(secrets.len(), 2);
        secrets.extend([SECRET.to_owned(), code, state]);
        let exchange = scene
            .issuer
            .log()
            .into_iter()
            .find(|one| one.path == "/token")
            .unwrap();
        secrets.extend(exchange.field("code_verifier"));
        secrets.extend(exchange.field("client_secret"));
        let server = format!("/api/svc/v1/mcp/{}", scene.mcp().await);
        let mut answers = vec![page.text];
        for path in [
            BASE,
            &at(id),
            "/api/v1/mcp-servers/available",
            "/api/svc/v1/mcp",
            &server,
            "/v1/deepagents/mcp-servers",
            "/v1/receipts",
        ] {
            answers.push(scene.ada.get(path).await.text);
        }
        answers.push(
            scene
                .ada
                .put(&at(id), json!({"agent_enabled": false}))
                .await
                .text,
        );
        answers.push(everything(&scene.hawser).await);
        let items = scene.hawser.ground().items().await;
        answers.push(json!(items).to_string());
        assert_eq!(scene.ada.delete(&at(id)).await.status, 200);
        answers.push(everything(&scene.hawser).await);
        scene.hawser.run_workers().await;
        answers.push(everything(&scene.hawser).await);
        for secret in secrets {
            assert!(
                answers.iter().all(|text| !text.contains(&secret)),
                "{secret}"
            );
        }
    }
}
