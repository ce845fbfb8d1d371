//! Kambrium connections by consent, from the create to the purge, against an issuer that remembers everything.

mod callback;
mod create;
mod delete;
mod failures;
mod operator_client;
mod siblings;

use crate::harness::{Answer, Browser, Caller, Hawser};
use crate::issuer::{FOREIGN, Issuer, StaticClient};
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
