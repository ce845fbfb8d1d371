//! Issuers whose endpoints an operator configures, or whom an operator names: that tokens are shown to their own issuer and to
//! nobody else, and that no receipt says `revoked` of a token that lives.

mod authentication;
mod browser;
mod providers;
mod settings;
mod token_endpoint;

use crate::harness::{Answer, Browser, Caller, Hawser};
use crate::issuer::{Fault, Issuer, Pair, StaticClient};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use url::Url;

const MCP: &str = "/api/svc/v1/mcp";
const SECRET: &str = "operators-own-secret";
const RESOURCE: &str = "/.well-known/oauth-protected-resource/mcp";
const ROOT: &str = "/.well-known/oauth-authorization-server";

/// What another issuer at the same host, or one that a server made up, names for revocation: it answers 200 to anything.
const ELSEWHERE: &str = "/elsewhere";

/// Hawser and an issuer that knows the operator's client.
struct Scene {
    hawser: Hawser,
    issuer: Issuer,
    admin: Caller,
}

impl Scene {
    async fn set() -> Self {
        Self::of(Hawser::start().await, Issuer::start().await)
    }

    async fn by_hand() -> Self {
        Self::of(Hawser::start_by_hand().await, Issuer::start().await)
    }

    fn of(hawser: Hawser, issuer: Issuer) -> Self {
        let redirects = [
            format!("{}/oauth/callback", hawser.url),
            format!("{}/api/mcp-servers/saas-oauth/mail/callback/", hawser.url),
        ];
        issuer.configure(|settings| {
            settings.static_clients.push(StaticClient {
                id: "operator".to_owned(),
                secret: Some(SECRET.to_owned()),
                redirect_uris: redirects.to_vec(),
            });
        });
        issuer.fault(Fault::answering(ELSEWHERE, 200));
        Self {
            admin: hawser.admin("acme"),
            hawser,
            issuer,
        }
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.issuer.url)
    }

    /// What an issuer of this name says of itself, with the endpoints that are there.
    fn metadata(&self, issuer: &str) -> Value {
        json!({
            "issuer": issuer, "authorization_endpoint": self.at("/authorize"), "token_endpoint": self.at("/token"),
            "revocation_endpoint": self.at("/revoke"), "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
        })
    }

    /// The metadata of somebody else at the same host.
    fn foreign(&self) -> Value {
        let mut all = self.metadata(&self.issuer.url);
        all["token_endpoint"] = self.at("/other/token").into();
        all["revocation_endpoint"] = self.at(ELSEWHERE).into();
        all
    }

    fn publish(&self, path: &str, document: Option<Value>) {
        let path = path.to_owned();
        self.issuer
            .configure(|settings| drop(settings.documents.insert(path, document)));
    }

    /// What the MCP server says of its issuers.
    fn protected_by(&self, issuers: &[&str]) {
        let document = json!({"resource": self.issuer.mcp_url(), "authorization_servers": issuers});
        self.publish(RESOURCE, Some(document));
    }

    /// The operator's configuration: the client, both endpoints, and more.
    fn configured(&self, more: Value) -> Value {
        let mut auth = json!({
            "type": "oauth2", "client_id": "operator", "client_secret": SECRET,
            "authorization_url": self.at("/authorize"), "token_url": self.at("/token"),
        });
        extend(&mut auth, more);
        auth
    }

    async fn put(&self, auth: Value) -> Answer {
        let manifest = json!({"type": "mcp-server/remote", "name": "wiki", "description": "d",
                              "url": self.issuer.mcp_url(), "auth_data": auth});
        self.admin.put(MCP, json!({"manifest": manifest})).await
    }

    async fn register(&self, auth: Value) -> String {
        let put = self.put(auth).await;
        assert_eq!(put.status, 200, "{put:?}");
        put.json()["data"]["id"].as_str().unwrap().to_owned()
    }

    /// Where the browser of a user is sent.
    async fn begin(&self, id: &str) -> (Browser, String) {
        let user = self.hawser.caller("acme", "ada", json!({}));
        let asked = user.get(&format!("{MCP}/{id}/authorize")).await;
        let endpoint = asked.json()["authorization_endpoint"].clone();
        let mut browser = Browser::new();
        let url = browser.begin(endpoint.as_str().unwrap()).await;
        (browser, url)
    }

    async fn connect(&self, id: &str) -> Pair {
        let (mut browser, url) = self.begin(id).await;
        let page = browser
            .open(&self.issuer.approve_as(&url, "ada").await)
            .await;
        assert_eq!(page.status, 200, "{page:?}");
        assert!(page.text.contains("<h1>Connected</h1>"), "{page:?}");
        self.issuer.issued().pop().unwrap()
    }

    async fn disconnect(&self, id: &str) -> Value {
        let body = json!({"authSource": "oauth", "subjectId": "ada", "subjectType": "user"});
        let path = format!("{MCP}/{id}/auth");
        let answer = self.admin.delete_with(&path, body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let receipt = answer.json()["data"]["receiptId"].clone();
        self.hawser.run_workers().await;
        self.receipt(receipt.as_str().unwrap()).await
    }

    async fn receipt(&self, id: &str) -> Value {
        let answer = self.admin.get(&format!("/v1/receipts/{id}")).await;
        answer.json()["data"].clone()
    }

    fn shown_elsewhere(&self) -> usize {
        self.issuer.count("POST", ELSEWHERE)
    }

    #[track_caller]
    fn assert_dead(&self) {
        assert_eq!(self.issuer.live_tokens(), Vec::<String>::new());
    }

    /// The tokens live, the receipt says so for this reason, and nobody has seen them.
    #[track_caller]
    fn assert_unsupported(&self, receipt: &Value, reason: &str) {
        assert_eq!(receipt["outcomes"], json!({"unsupported": 1}), "{receipt}");
        assert!(!receipt.to_string().contains("\"revoked\""), "{receipt}");
        for one in receipt["presented"].as_array().unwrap() {
            assert_eq!(one["reason"], reason, "{receipt}");
            assert_eq!(one["host"], Value::Null, "{receipt}");
        }
        assert_eq!(self.issuer.live_tokens().len(), 2);
        assert_eq!(self.shown_elsewhere(), 0);
        assert_eq!(self.issuer.count("POST", "/revoke"), 0);
    }
}

fn extend(object: &mut Value, more: Value) {
    let Value::Object(more) = more else { panic!() };
    object.as_object_mut().unwrap().extend(more);
}

#[track_caller]
fn assert_revoked(receipt: &Value) {
    assert_eq!(receipt["outcomes"], json!({"revoked": 1}), "{receipt}");
}

fn parameters(url: &str) -> BTreeMap<String, String> {
    let url = Url::parse(url).unwrap();
    url.query_pairs().into_owned().collect()
}

/// An issuer with a path beside another one at the root of its host, as Okta has them.
fn with_a_path(scene: &Scene) -> String {
    let issuer = scene.at("/oauth2/default");
    scene.publish(ROOT, Some(scene.foreign()));
    scene.publish(
        "/oauth2/default/.well-known/openid-configuration",
        Some(scene.metadata(&issuer)),
    );
    scene.protected_by(&[&issuer]);
    scene
        .issuer
        .configure(|settings| settings.wrong_iss = Some(issuer.clone()));
    issuer
}

/// An issuer at another host than its endpoints, as Google's is, and somebody else at theirs.
async fn at_another_host(scene: &Scene) -> Issuer {
    let name = Issuer::start().await;
    let document = scene.metadata(&name.url);
    name.configure(|settings| drop(settings.documents.insert(ROOT.to_owned(), Some(document))));
    scene.publish(ROOT, Some(scene.foreign()));
    scene.protected_by(&[&name.url]);
    scene
        .issuer
        .configure(|settings| settings.wrong_iss = Some(name.url.clone()));
    name
}
