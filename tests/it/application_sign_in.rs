//! An MCP client that was given an address alone: it finds out where to sign in, registers, and gets a code for whoever the
//! operator's OpenID provider lets in, once that person has allowed it.

use crate::harness::{Answer, Browser, Form, Ground, Hawser, Page, per_user};
use crate::identity_provider::Provider;
use crate::logins::{CHALLENGE, REDIRECT};
use crate::policies::Used;
use hawser_core::state::config::ListedApplication;
use serde_json::{Value, json};
use std::collections::HashMap;
use url::Url;

/// A Hawser whose people sign in at a provider, with a server called `wiki`.
pub struct Stage {
    pub hawser: Hawser,
    pub provider: Provider,
}

impl Stage {
    pub async fn set() -> Self {
        Self::with(Vec::new(), true).await
    }

    pub async fn with(applications: Vec<ListedApplication>, registration: bool) -> Self {
        let provider = Provider::start();
        let mut settings = provider.settings();
        settings.applications = applications;
        settings.registration = registration;
        let ground = Ground::new().await;
        let hawser = Hawser::configured(ground, |config| config.sign_in = settings).await;
        let admin = hawser.admin("acme");
        admin.register("wiki", per_user(), &["ada"]).await;
        Self { hawser, provider }
    }

    pub async fn register(&self, metadata: Value) -> Answer {
        self.hawser
            .anonymous()
            .post("/oauth/register", metadata)
            .await
    }

    /// A public application with this redirect URI: its id.
    pub async fn application(&self, redirect: &str) -> String {
        let metadata = json!({"client_name": "Editor", "redirect_uris": [redirect], "token_endpoint_auth_method": "none"});
        let made = self.register(metadata).await;
        assert_eq!(made.status, 201, "{made:?}");
        made.json()["client_id"].as_str().unwrap().to_owned()
    }

    /// The address that an application sends a browser to; `changes` replace parameters, and null takes one away.
    pub fn address(&self, client_id: &str, changes: Value) -> String {
        let mut parameters = json!({
            "response_type": "code", "client_id": client_id, "redirect_uri": REDIRECT, "state": "of-the-client",
            "code_challenge": CHALLENGE, "code_challenge_method": "S256",
            "resource": format!("{}/mcp/wiki", self.hawser.url),
        });
        let all = parameters.as_object_mut().unwrap();
        all.extend(changes.as_object().unwrap().clone());
        let mut url = Url::parse(&format!("{}/oauth/authorize", self.hawser.url)).unwrap();
        for (name, value) in all.iter() {
            if let Some(value) = value.as_str() {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        url.into()
    }

    /// Asserts that nothing is remembered that anybody has allowed.
    async fn remembers_nothing(&self) {
        let mut left = self.hawser.ground().items().await;
        left.retain(|item| item["entity"] == "remembered-applications");
        assert_eq!(left, Vec::<Value>::new());
    }

    /// Signs somebody in: the page that asks, or where the browser goes at once, and the address at which it was shown.
    pub async fn sign_in(
        &self,
        browser: &mut Browser,
        address: &str,
        claims: Value,
    ) -> (String, Page) {
        let sent = browser.open(address).await;
        assert_eq!(sent.status, 303, "{sent:?}");
        let back = self.provider.approve(&sent.location.unwrap(), claims);
        let page = browser.open(&back).await;
        (back, page)
    }
}

/// Presses one of the two buttons.
pub async fn decide(browser: &mut Browser, at: &str, page: &Page, decision: &str) -> Page {
    let mut form = Form::of(page);
    form.fields
        .push(("decision".to_owned(), decision.to_owned()));
    browser.submit(at, &form).await
}

/// What a browser takes back to the application.
pub fn taken_back(page: &Page) -> HashMap<String, String> {
    assert_eq!(page.status, 303, "{page:?}");
    let location = page.location.clone().unwrap();
    let url = Url::parse(&location).unwrap();
    url.query_pairs().into_owned().collect()
}

#[tokio::test]
async fn an_address_alone_leads_to_the_sign_in() {
    let stage = Stage::set().await;
    let (url, anyone) = (&stage.hawser.url, stage.hawser.anonymous());
    for path in ["/mcp/wiki", "/mcp/v1/wiki/mcp", "/mcp/nosuch"] {
        let refused = anyone
            .post(path, json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}))
            .await;
        assert_eq!(refused.status, 401, "{refused:?}");
        let challenge = refused.header("www-authenticate").unwrap();
        let metadata = format!("/.well-known/oauth-protected-resource{path}");
        assert_eq!(
            challenge,
            format!("Bearer resource_metadata=\"{url}{metadata}\", scope=\"mcp\"")
        );
        let of_a_page = [("origin", "https://page.example")];
        let document = anyone.send("GET", &metadata, &of_a_page, Vec::new()).await;
        assert_eq!(document.status, 200, "{document:?}");
        assert_eq!(document.json()["resource"], format!("{url}{path}"));
        assert_eq!(document.json()["authorization_servers"], json!([url]));
        assert_eq!(
            document.json()["bearer_methods_supported"],
            json!(["header"])
        );
        assert_eq!(
            document.header("access-control-allow-origin").as_deref(),
            Some("*")
        );
        assert_eq!(
            document.header("cache-control").as_deref(),
            Some("public, max-age=300")
        );
    }
    let root = anyone.get("/.well-known/oauth-protected-resource").await;
    assert_eq!(root.json()["resource"], *url);
    let server = anyone
        .get("/.well-known/oauth-authorization-server")
        .await
        .json();
    assert_eq!(server["issuer"], *url);
    assert_eq!(server["code_challenge_methods_supported"], json!(["S256"]));
    assert_eq!(
        server["registration_endpoint"],
        format!("{url}/oauth/register")
    );
    assert_eq!(server["client_id_metadata_document_supported"], true);
    assert_eq!(
        server["authorization_response_iss_parameter_supported"],
        true
    );
    // What was sent and refused is said to be so; what suffices for nothing, too.
    let wrong = stage
        .hawser
        .with(vec![("authorization", "Bearer nonsense".to_owned())]);
    let challenge = wrong
        .post("/mcp/wiki", json!({}))
        .await
        .header("www-authenticate");
    assert!(
        challenge
            .unwrap()
            .starts_with("Bearer error=\"invalid_token\", resource_metadata=")
    );
    let poor = stage.hawser.caller("acme", "eve", json!({}));
    let refused = poor
        .post(
            "/mcp/wiki",
            json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}),
        )
        .await;
    assert_eq!(refused.status, 403, "{refused:?}");
    let challenge = refused.header("www-authenticate").unwrap();
    assert!(
        challenge.starts_with("Bearer error=\"insufficient_scope\""),
        "{challenge}"
    );
}

#[tokio::test]
async fn somebody_signs_in_and_allows_an_application() {
    let stage = Stage::set().await;
    let id = stage.application("http://127.0.0.1/callback").await;
    let mut browser = Browser::new();
    let address = stage.address(&id, json!({}));
    let (at, page) = stage
        .sign_in(
            &mut browser,
            &address,
            json!({"name": "Ada L", "permissions": ["mcp-servers:invoke"]}),
        )
        .await;
    assert_eq!(page.status, 200, "{page:?}");
    for text in [
        "Let Editor in?",
        "Ada L (ada), in acme",
        "A program on this computer (127.0.0.1:7777)",
        &format!("wiki ({}/mcp/wiki)", stage.hawser.url),
        "nobody has checked its name",
    ] {
        assert!(page.text.contains(text), "{text}: {}", page.text);
    }
    let answer = decide(&mut browser, &at, &page, "allow").await;
    let back = taken_back(&answer);
    assert!(answer.location.unwrap().starts_with(REDIRECT));
    assert_eq!(back["state"], "of-the-client");
    assert_eq!(back["iss"], stage.hawser.url);
    assert!(!back["code"].is_empty());
    // The button serves once.
    let again = decide(&mut browser, &at, &page, "allow").await;
    assert_eq!(again.status, 400, "{again:?}");
    // The secret of the client at the provider, and what the provider gave, stand nowhere in the clear.
    let items = json!(stage.hawser.ground().items().await).to_string();
    for secret in [
        crate::identity_provider::SECRET,
        "provider-refresh",
        &back["code"],
    ] {
        assert!(!items.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn what_was_allowed_is_not_asked_again_unless_it_widens() {
    let stage = Stage::set().await;
    let (url, id) = (
        &stage.hawser.url,
        stage.application("http://127.0.0.1/callback").await,
    );
    let mut browser = Browser::new();
    let address = stage.address(&id, json!({}));
    let (at, page) = stage.sign_in(&mut browser, &address, json!({})).await;
    taken_back(&decide(&mut browser, &at, &page, "allow").await);
    let other_port = json!({"redirect_uri": "http://127.0.0.1:7778/callback"});
    for (changes, asked) in [
        (json!({}), false),
        (other_port, false),
        (json!({"resource": format!("{url}/mcp/other")}), true),
        (json!({"resource": null}), true),
        (json!({"scope": "mcp"}), false),
        (json!({"scope": "mcp offline_access"}), true),
    ] {
        let address = stage.address(&id, changes.clone());
        let (_, page) = stage
            .sign_in(&mut Browser::new(), &address, json!({}))
            .await;
        assert_eq!(
            page.status,
            if asked { 200 } else { 303 },
            "{changes}: {page:?}"
        );
        if !asked {
            assert!(taken_back(&page).contains_key("code"), "{changes}");
        }
    }
    // Another person, and another application, are asked.
    let (_, page) = stage
        .sign_in(&mut Browser::new(), &address, json!({"sub": "bob"}))
        .await;
    assert_eq!(page.status, 200, "{page:?}");
    let another = stage.application("http://127.0.0.1/other").await;
    let changes = json!({"redirect_uri": "http://127.0.0.1:7777/other"});
    let address = stage.address(&another, changes);
    let (_, page) = stage
        .sign_in(&mut Browser::new(), &address, json!({}))
        .await;
    assert_eq!(page.status, 200, "{page:?}");
    // An offboarded subject has allowed nothing any more.
    let admin = stage.hawser.admin("acme");
    let gone = admin.delete("/v1/subjects/user/ada/credentials").await;
    assert_eq!(gone.status, 200, "{gone:?}");
    stage.remembers_nothing().await;
    let (_, page) = stage
        .sign_in(
            &mut Browser::new(),
            &stage.address(&id, json!({})),
            json!({}),
        )
        .await;
    assert_eq!(page.status, 200, "{page:?}");
}

#[tokio::test]
async fn declining_goes_back_with_a_word() {
    let stage = Stage::set().await;
    let id = stage.application("http://127.0.0.1/callback").await;
    let mut browser = Browser::new();
    let address = stage.address(&id, json!({}));
    let (at, page) = stage.sign_in(&mut browser, &address, json!({})).await;
    let back = taken_back(&decide(&mut browser, &at, &page, "deny").await);
    assert_eq!(back["error"], "access_denied");
    assert_eq!(back["iss"], stage.hawser.url);
    assert!(!back.contains_key("code"));
    stage.remembers_nothing().await;
}

#[tokio::test]
async fn an_offboarding_between_sign_in_and_button_wins() {
    let stage = Stage::set().await;
    let id = stage.application("http://127.0.0.1/callback").await;
    let mut browser = Browser::new();
    let address = stage.address(&id, json!({}));
    let (at, page) = stage.sign_in(&mut browser, &address, json!({})).await;
    let gone = stage
        .hawser
        .admin("acme")
        .delete("/v1/subjects/user/ada/credentials")
        .await;
    assert_eq!(gone.status, 200, "{gone:?}");
    let answer = decide(&mut browser, &at, &page, "allow").await;
    assert_eq!(answer.status, 403, "{answer:?}");
    stage.remembers_nothing().await;
}

#[tokio::test]
async fn an_offboarding_voids_a_sign_in_that_has_begun() {
    let stage = Stage::set().await;
    let id = stage.application(REDIRECT).await;
    let address = stage.address(&id, json!({}));
    let mut browser = Browser::new();
    let sent = browser.open(&address).await.location.unwrap();
    let admin = stage.hawser.admin("acme");
    let gone = admin.delete("/v1/subjects/user/ada/credentials").await;
    assert_eq!(gone.status, 200, "{gone:?}");
    let back = stage.provider.approve(&sent, json!({}));
    assert_eq!(browser.open(&back).await.status, 403);
    // What begins after it is another matter.
    let (_, page) = stage.sign_in(&mut browser, &address, json!({})).await;
    assert_eq!(page.status, 200, "{page:?}");
}

#[tokio::test]
async fn a_registration_is_stored_nowhere() {
    let stage = Stage::set().await;
    stage.application(REDIRECT).await;
    let before = stage.hawser.ground().items().await;
    for i in 0..20 {
        let metadata =
            json!({"client_name": format!("E{i}"), "redirect_uris": ["https://a.example/cb"]});
        let made = stage.register(metadata).await.json();
        assert_eq!(made["token_endpoint_auth_method"], "client_secret_basic");
        assert!(made["client_secret"].as_str().unwrap().len() >= 43);
    }
    assert_eq!(stage.hawser.ground().items().await, before);
    for (metadata, error) in [
        (json!({"redirect_uris": []}), "invalid_redirect_uri"),
        (
            json!({"redirect_uris": ["javascript:alert(1)"]}),
            "invalid_redirect_uri",
        ),
        (
            json!({"redirect_uris": ["http://a.example/cb"]}),
            "invalid_redirect_uri",
        ),
        (
            json!({"redirect_uris": ["https://a.example/cb"], "token_endpoint_auth_method": "private_key_jwt"}),
            "invalid_client_metadata",
        ),
        (
            json!({"redirect_uris": ["https://a.example/cb"], "client_name": "x".repeat(101)}),
            "invalid_client_metadata",
        ),
        (
            json!({"redirect_uris": [format!("https://a.example/{}", "x".repeat(1500))]}),
            "invalid_client_metadata",
        ),
        (
            json!({"redirect_uris": ["https://a.example/cb"], "grant_types": ["implicit"]}),
            "invalid_client_metadata",
        ),
        (json!([]), "invalid_client_metadata"),
    ] {
        let refused = stage.register(metadata.clone()).await;
        assert_eq!(
            (refused.status, &refused.json()["error"]),
            (400, &json!(error)),
            "{metadata}"
        );
    }
}

#[tokio::test]
async fn an_operator_decides_which_applications_may_ask() {
    let listed = ListedApplication {
        client_id: "editor".to_owned(),
        name: "The Editor".to_owned(),
        redirect_uris: vec!["https://editor.example/cb".to_owned()],
        client_secret_sha256: None,
    };
    let open = Stage::set().await;
    let registered = open.application(REDIRECT).await;
    let ground = open.hawser.ground();
    let mut settings = open.provider.settings();
    settings.applications = vec![listed];
    settings.registration = false;
    let hawser = Hawser::configured(ground, |config| config.sign_in = settings).await;
    let closed = Stage {
        hawser,
        provider: Provider::start(),
    };
    let metadata = json!({"redirect_uris": ["https://a.example/cb"]});
    assert_eq!(closed.register(metadata).await.status, 403);
    let server = closed
        .hawser
        .anonymous()
        .get("/.well-known/oauth-authorization-server")
        .await;
    assert_eq!(server.json().get("registration_endpoint"), None);
    // One that registered before is not let in either.
    let page = Browser::new()
        .open(&closed.address(&registered, json!({})))
        .await;
    assert_eq!(page.status, 400, "{page:?}");
    let changes = json!({"redirect_uri": "https://editor.example/cb"});
    let page = Browser::new()
        .open(&closed.address("editor", changes))
        .await;
    assert_eq!(page.status, 303, "{page:?}");
    let elsewhere = Browser::new()
        .open(&closed.address("editor", json!({})))
        .await;
    assert_eq!(elsewhere.status, 400, "{elsewhere:?}");
}

#[tokio::test]
async fn without_sign_in_its_endpoints_refuse() {
    let hawser = Hawser::start().await;
    let anyone = hawser.anonymous();
    let document = anyone
        .get("/.well-known/oauth-protected-resource/mcp/wiki")
        .await;
    assert_eq!(document.status, 200);
    assert_eq!(document.json().get("authorization_servers"), None);
    for path in [
        "/.well-known/oauth-authorization-server",
        "/oauth/authorize?client_id=x",
        "/oauth/development-sign-in?state=x",
    ] {
        assert_eq!(anyone.get(path).await.status, 404, "{path}");
    }
    let metadata = json!({"redirect_uris": ["https://a.example/cb"]});
    assert_eq!(anyone.post("/oauth/register", metadata).await.status, 403);
}

/// What the endpoints of a sign-in do, for the comparison with their policies.
pub async fn use_endpoints(used: &mut Used) {
    let stage = Stage::set().await;
    let hawser = &stage.hawser;
    hawser.wire.arm(None);
    let anyone = hawser.anonymous();
    let metadata = anyone.get("/.well-known/oauth-protected-resource/mcp/wiki");
    assert_eq!(metadata.await.status, 200);
    used.note("hawser-protected-resource", hawser);
    let metadata = anyone.get("/.well-known/oauth-authorization-server").await;
    assert_eq!(metadata.status, 200);
    used.note("hawser-authorization-server", hawser);
    let id = stage.application(REDIRECT).await;
    used.note("hawser-register-application", hawser);
    // On new ground, whoever is first makes the operator's key.
    let listed = ListedApplication {
        client_id: "editor".to_owned(),
        name: "The Editor".to_owned(),
        redirect_uris: vec![REDIRECT.to_owned()],
        client_secret_sha256: None,
    };
    let fresh = Stage::with(vec![listed], true).await;
    fresh.hawser.wire.arm(None);
    let address = fresh.address("editor", json!({}));
    assert_eq!(Browser::new().open(&address).await.status, 303);
    used.note("hawser-authorize", &fresh.hawser);
    let mut browser = Browser::new();
    let sent = browser.open(&stage.address(&id, json!({}))).await.location;
    used.note("hawser-authorize", hawser);
    let back = stage.provider.approve(&sent.unwrap(), json!({}));
    let page = browser.open(&back).await;
    used.note("hawser-finish-sign-in", hawser);
    taken_back(&decide(&mut browser, &back, &page, "allow").await);
    used.note("hawser-allow-application", hawser);
    let mut again = Browser::new();
    let sent = again.open(&stage.address(&id, json!({}))).await.location;
    hawser.wire.arm(None);
    let back = stage.provider.approve(&sent.unwrap(), json!({}));
    taken_back(&again.open(&back).await);
    used.note("hawser-finish-sign-in", hawser);
}
