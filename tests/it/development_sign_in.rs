//! The local server's page for development, and the consents that ask whoever opens them to sign in first.

use crate::application_sign_in::{decide, taken_back};
use crate::harness::{Browser, Form, Ground, Hawser, Page, of_operator, per_user, posted};
use crate::issuer::Issuer;
use crate::logins::{self, CHALLENGE, Tokens};
use crate::upstream::Upstream;
use hawser_core::state::config::{SignInConfig, SignInPlace};
use serde_json::{Value, json};

async fn start() -> Hawser {
    let settings = SignInConfig {
        place: SignInPlace::Development,
        ..SignInConfig::default()
    };
    Hawser::configured(Ground::new().await, |config| config.sign_in = settings).await
}

/// Signs in where a browser was sent, as this name or as the admin.
async fn continue_as(browser: &mut Browser, at: &str, name: Option<&str>) -> Page {
    let page = browser.open(at).await;
    assert_eq!(page.status, 200, "{page:?}");
    assert!(
        page.text.contains("This page is for development."),
        "{}",
        page.text
    );
    let mut form = Form::of(&page);
    form.fields.retain(|(field, _)| field == "state");
    form.fields
        .push(("name".to_owned(), name.unwrap_or_default().to_owned()));
    let who = name.map_or("admin", |_| "name");
    form.fields.push(("as".to_owned(), who.to_owned()));
    browser.submit(at, &form).await
}

/// An application's address, and what it leads to.
async fn asked(hawser: &Hawser, browser: &mut Browser) -> String {
    let metadata = json!({"client_name": "Editor", "redirect_uris": ["http://127.0.0.1/cb"], "token_endpoint_auth_method": "none"});
    let made = hawser
        .anonymous()
        .post("/oauth/register", metadata)
        .await
        .json();
    let page = browser
        .open(&address(hawser, made["client_id"].as_str().unwrap()))
        .await;
    assert_eq!(page.status, 303, "{page:?}");
    page.location.unwrap()
}

/// The address that an application sends a browser to.
fn address(hawser: &Hawser, client_id: &str) -> String {
    let mut url = url::Url::parse(&format!("{}/oauth/authorize", hawser.url)).unwrap();
    url.query_pairs_mut()
        .append_pair("response_type", "code")
        .append_pair("client_id", client_id)
        .append_pair("redirect_uri", "http://127.0.0.1:7000/cb")
        .append_pair("code_challenge", CHALLENGE)
        .append_pair("code_challenge_method", "S256")
        .append_pair("resource", &format!("{}/mcp/wiki", hawser.url));
    url.into()
}

#[tokio::test]
async fn a_new_machine_has_somewhere_to_sign_in() {
    let hawser = start().await;
    hawser
        .admin("local")
        .register("wiki", per_user(), &[])
        .await;
    let mut browser = Browser::new();
    let at = asked(&hawser, &mut browser).await;
    assert!(
        at.starts_with(&format!("{}/oauth/development-sign-in?state=", hawser.url)),
        "{at}"
    );
    let page = continue_as(&mut browser, &at, None).await;
    assert!(
        page.text.contains("Let Editor in?") && page.text.contains("admin, in local"),
        "{page:?}"
    );
    let back = taken_back(&decide(&mut browser, &at, &page, "allow").await);
    assert!(back.contains_key("code"), "{back:?}");

    let mut other = Browser::new();
    let at = asked(&hawser, &mut other).await;
    // Nobody is let in without a name, from another browser or from another site.
    assert_eq!(continue_as(&mut other, &at, Some(" ")).await.status, 200);
    let stranger = Browser::new().open(&at).await;
    assert_eq!(stranger.status, 400, "{stranger:?}");
    let state = at.split_once("state=").unwrap().1;
    let fields = [("state", state), ("name", "ada"), ("as", "admin")];
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let forged = posted(http.post(&at), &fields).header("origin", "https://evil.example");
    assert_eq!(other.send(forged).await.status, 400);
    let page = continue_as(&mut other, &at, Some("bob")).await;
    assert!(page.text.contains("bob, in local"), "{page:?}");
}

#[tokio::test]
async fn one_address_leads_to_a_call_until_the_login_ends() {
    let (hawser, upstream) = (start().await, Upstream::start().await);
    let manifest = json!({"type": "mcp-server/remote", "name": "wiki", "description": "d", "url": upstream.url,
                          "auth_data": {"type": "header", "headers": {"X-Key": "stored"}}});
    let admin = hawser.admin("local");
    let made = admin
        .put("/api/svc/v1/mcp", json!({"manifest": manifest}))
        .await;
    assert_eq!(made.status, 200, "{made:?}");
    let metadata = json!({"client_name": "Editor", "redirect_uris": ["http://127.0.0.1/cb"]});
    let client = hawser
        .anonymous()
        .post("/oauth/register", metadata)
        .await
        .json();
    let text = |name: &str| client[name].as_str().unwrap().to_owned();
    let address = address(&hawser, &text("client_id"));
    let mut browser = Browser::new();
    let at = browser.open(&address).await.location.unwrap();
    let page = continue_as(&mut browser, &at, None).await;
    let code = taken_back(&decide(&mut browser, &at, &page, "allow").await)["code"].clone();
    let (id, secret) = (text("client_id"), text("client_secret"));
    let form = |secret: &str| {
        [
            ("grant_type", "authorization_code"),
            ("client_id", &id),
            ("client_secret", secret),
            ("code", &code),
            ("redirect_uri", "http://127.0.0.1:7000/cb"),
            ("code_verifier", logins::VERIFIER),
        ]
        .map(|(name, value)| (name, value.to_owned()))
    };
    for wrong in ["", "wrong", &secret[1..]] {
        let fields = form(wrong);
        let fields: Vec<_> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
        assert_eq!(logins::ask(&hawser, &fields).await.status, 401, "{wrong}");
    }
    let fields = form(&secret);
    let fields: Vec<_> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let tokens = Tokens::of(&logins::ask(&hawser, &fields).await);
    let application = tokens.caller(&hawser);
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    assert_eq!(
        application.post("/mcp/wiki", ping.clone()).await.status,
        200
    );
    assert_eq!(upstream.last().header("x-key"), Some("stored"));
    // Not at the same server by another address, not at another one, and nowhere else.
    for path in ["/mcp/v1/wiki/mcp", "/mcp/other"] {
        assert_eq!(
            application.post(path, ping.clone()).await.status,
            401,
            "{path}"
        );
    }
    assert_eq!(application.get("/api/svc/v1/mcp").await.status, 401);

    let mut again = Browser::new();
    let at = again.open(&address).await.location.unwrap();
    assert_eq!(
        continue_as(&mut again, &at, None).await.status,
        303,
        "it was allowed before"
    );
    let listed = admin.get("/v1/logins").await.json();
    let login = listed["data"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(
        admin.delete(&format!("/v1/logins/{login}")).await.status,
        200
    );
    assert_eq!(application.post("/mcp/wiki", ping).await.status, 401);
    let at = again.open(&address).await.location.unwrap();
    assert_eq!(
        continue_as(&mut again, &at, None).await.status,
        200,
        "it is asked again"
    );
}

struct Consent {
    hawser: Hawser,
    issuer: Issuer,
    id: String,
}

impl Consent {
    async fn set() -> Self {
        let (hawser, issuer) = (start().await, Issuer::start().await);
        let admin = hawser.admin("local");
        let manifest = json!({"type": "mcp-server/remote", "name": "wiki", "description": "d", "url": issuer.mcp_url(),
                              "auth_data": {"type": "oauth2"}});
        let made = admin
            .put("/api/svc/v1/mcp", json!({"manifest": manifest}))
            .await
            .json();
        let id = made["data"]["id"].as_str().unwrap().to_owned();
        Self { hawser, issuer, id }
    }

    async fn address(&self, claims: Value) -> String {
        let mut may = json!({"permissions": ["mcp-servers:invoke"]});
        may.as_object_mut()
            .unwrap()
            .extend(claims.as_object().unwrap().clone());
        let caller = self.hawser.caller("local", "ada", may);
        let answer = caller
            .get(&format!("/api/svc/v1/mcp/{}/authorize", self.id))
            .await
            .json();
        answer["authorization_endpoint"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

#[tokio::test]
async fn a_consent_goes_on_for_its_subject_alone() {
    let stage = Consent::set().await;
    let endpoint = stage.address(json!({})).await;
    let mut ada = Browser::new();
    let page = ada.open(&endpoint).await;
    assert!(page.text.contains(">Sign in</button>"), "{}", page.text);
    let of_tenants = async || {
        let mut items = stage.hawser.ground().items().await;
        items.retain(|item| !of_operator(item));
        items
    };
    let before = of_tenants().await;
    let to_sign_in = ada.press(&endpoint, &page).await;
    assert_eq!(to_sign_in.status, 303, "{to_sign_in:?}");
    assert_eq!(of_tenants().await, before, "nothing has begun");
    let back = continue_as(&mut ada, &to_sign_in.location.unwrap(), Some("ada")).await;
    assert_eq!(
        (back.status, back.location.as_deref()),
        (303, Some(endpoint.as_str())),
        "{back:?}"
    );

    // A stranger who was lured here learns whose it is.
    let mut eve = Browser::new();
    let page = eve.open(&endpoint).await;
    let at = eve.press(&endpoint, &page).await.location.unwrap();
    continue_as(&mut eve, &at, Some("eve")).await;
    let refused = eve.open(&endpoint).await;
    assert_eq!(refused.status, 403, "{refused:?}");
    assert!(
        refused
            .text
            .contains("This address is for ada, and you have signed in as eve."),
        "{}",
        refused.text
    );
    let forced = eve.press(&endpoint, &page).await;
    assert_eq!(forced.status, 403, "{forced:?}");
    let mut admin = Browser::new();
    let page = admin.open(&endpoint).await;
    let at = admin.press(&endpoint, &page).await.location.unwrap();
    continue_as(&mut admin, &at, None).await;
    assert_eq!(
        admin.open(&endpoint).await.status,
        403,
        "an admin is not ada"
    );

    let at_issuer = ada.begin(&endpoint).await;
    let page = ada.open(&stage.issuer.approve(&at_issuer).await).await;
    assert!(page.text.contains("wiki is connected for ada."), "{page:?}");
}

#[tokio::test]
async fn a_virtual_accounts_consent_is_for_those_who_manage_the_tenant() {
    let stage = Consent::set().await;
    let endpoint = stage
        .address(json!({"sub": "ci", "subjectType": "virtualaccount"}))
        .await;
    for (name, status) in [(Some("ada"), 403), (None, 200)] {
        let mut browser = Browser::new();
        let page = browser.open(&endpoint).await;
        assert!(
            page.text.contains("ci is a virtual account"),
            "{}",
            page.text
        );
        let at = browser.press(&endpoint, &page).await.location.unwrap();
        continue_as(&mut browser, &at, name).await;
        let page = browser.open(&endpoint).await;
        assert_eq!(page.status, status, "{name:?}: {page:?}");
    }
}

#[tokio::test]
async fn an_offboarded_subject_is_signed_in_nowhere() {
    let stage = Consent::set().await;
    let endpoint = stage.address(json!({})).await;
    let mut ada = Browser::new();
    let page = ada.open(&endpoint).await;
    let at = ada.press(&endpoint, &page).await.location.unwrap();
    continue_as(&mut ada, &at, Some("ada")).await;
    assert!(
        ada.open(&endpoint)
            .await
            .text
            .contains(">Continue</button>")
    );
    let admin = stage.hawser.admin("local");
    let gone = admin.delete("/v1/subjects/user/ada/credentials").await;
    assert_eq!(gone.status, 200, "{gone:?}");
    let endpoint = stage.address(json!({})).await;
    assert!(ada.open(&endpoint).await.text.contains(">Sign in</button>"));
}
