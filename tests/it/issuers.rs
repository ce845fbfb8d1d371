//! Issuers whose endpoints an operator configures, or whom an operator names: that tokens are shown to their own issuer and to
//! nobody else, and that no receipt says `revoked` of a token that lives.

use crate::harness::{Answer, Browser, Caller, Hawser};
use crate::issuer::{FOREIGN, Fault, Issuer, Pair, StaticClient};
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
        issuer.fault(Fault {
            status: Some(200),
            ..Fault::always(ELSEWHERE)
        });
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

/// An issuer whose name ends in a slash, as Auth0's do.
fn with_a_slash(scene: &Scene) {
    let issuer = scene.at("/");
    scene.publish(ROOT, Some(scene.metadata(&issuer)));
    scene
        .issuer
        .configure(|settings| settings.wrong_iss = Some(issuer));
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

// Whose the token endpoint is

#[tokio::test]
async fn configured_endpoints_are_revoked_at_their_own_issuer() {
    for kind in 0..3 {
        let scene = Scene::set().await;
        let _other = match kind {
            0 => {
                with_a_path(&scene);
                None
            }
            1 => {
                with_a_slash(&scene);
                None
            }
            _ => Some(at_another_host(&scene).await),
        };
        let id = scene.register(scene.configured(json!({}))).await;
        scene.connect(&id).await;
        assert_eq!(scene.issuer.live_tokens().len(), 2);
        let receipt = scene.disconnect(&id).await;
        assert_revoked(&receipt);
        scene.assert_dead();
        assert_eq!(scene.shown_elsewhere(), 0, "{kind}");
    }
}

#[tokio::test]
async fn what_cannot_be_known_is_unsupported_and_the_receipt_says_why() {
    // Nobody says whose the endpoints are, and somebody else is at their host.
    let scene = Scene::set().await;
    scene.publish(ROOT, Some(scene.foreign()));
    scene.protected_by(&[]);
    let id = scene.register(scene.configured(json!({}))).await;
    scene.connect(&id).await;
    let receipt = scene.disconnect(&id).await;
    scene.assert_unsupported(&receipt, "issuerUnknown");

    // The issuer is known, and has no revocation endpoint.
    let scene = Scene::set().await;
    scene
        .issuer
        .configure(|settings| settings.revocation = false);
    let id = scene.register(scene.configured(json!({}))).await;
    scene.connect(&id).await;
    let receipt = scene.disconnect(&id).await;
    scene.assert_unsupported(&receipt, "noEndpoint");
}

#[tokio::test]
async fn a_server_does_not_choose_who_else_sees_the_operators_secret() {
    // The server names an issuer of its own, which claims the operator's token endpoint.
    let (scene, hostile) = (Scene::set().await, Issuer::start().await);
    let mut claim = scene.metadata(&hostile.url);
    claim["revocation_endpoint"] = format!("{}{ELSEWHERE}", hostile.url).into();
    hostile.configure(|settings| drop(settings.documents.insert(ROOT.to_owned(), Some(claim))));
    scene.publish(ROOT, Some(scene.foreign()));
    scene.protected_by(&[&hostile.url]);
    let id = scene.register(scene.configured(json!({}))).await;
    scene.connect(&id).await;
    let receipt = scene.disconnect(&id).await;
    scene.assert_unsupported(&receipt, "endpointElsewhere");
    // Where the operator has configured the token endpoint alone, no consent begins.
    let mut auth = scene.configured(json!({}));
    auth.as_object_mut().unwrap().remove("authorization_url");
    scene.register(auth).await;
    let user = scene.hawser.caller("acme", "ada", json!({}));
    let asked = user.get(&format!("{MCP}/{id}/authorize")).await;
    let endpoint = asked.json()["authorization_endpoint"].clone();
    let page = Browser::new().start(endpoint.as_str().unwrap()).await;
    assert_eq!(page.status, 502, "{page:?}");
    assert_eq!(hostile.count("POST", ELSEWHERE), 0);
    let log = format!("{:?}", hostile.log());
    assert!(!log.contains(SECRET), "nor does it see the client's secret");
}

#[tokio::test]
async fn a_kind_of_token_that_is_not_revoked_says_so() {
    let scene = Scene::set().await;
    scene.issuer.configure(|settings| {
        let body = r#"{"error":"unsupported_token_type"}"#.to_owned();
        settings.access_revocation_error = Some((400, body));
    });
    let id = scene.register(scene.configured(json!({}))).await;
    scene.connect(&id).await;
    let receipt = scene.disconnect(&id).await;
    let presented = receipt["presented"].as_array().unwrap();
    assert_eq!(presented[0].get("reason"), None, "{receipt}");
    assert_eq!(presented[1]["outcome"], "unsupported");
    assert_eq!(presented[1]["reason"], "tokenKind");
}

/// Grants from before carry the origin of their token endpoint for an issuer, and no revocation endpoint.
async fn with_a_guessed_issuer() -> (Scene, String) {
    let scene = Scene::set().await;
    scene
        .issuer
        .configure(|settings| settings.revocation = false);
    let id = scene.register(scene.configured(json!({}))).await;
    scene.connect(&id).await;
    scene
        .issuer
        .configure(|settings| settings.revocation = true);
    (scene, id)
}

#[tokio::test]
async fn a_guess_that_a_grant_carries_is_not_believed() {
    let (scene, id) = with_a_guessed_issuer().await;
    scene.publish(ROOT, Some(scene.foreign()));
    scene.protected_by(&[]);
    let receipt = scene.disconnect(&id).await;
    scene.assert_unsupported(&receipt, "issuerUnknown");

    let (scene, id) = with_a_guessed_issuer().await;
    with_a_path(&scene);
    assert_revoked(&scene.disconnect(&id).await);
    scene.assert_dead();
    assert_eq!(scene.shown_elsewhere(), 0);

    let (scene, id) = with_a_guessed_issuer().await;
    let _name = at_another_host(&scene).await;
    let deleted = scene.admin.delete(&format!("{MCP}/{id}")).await;
    assert_eq!(deleted.status, 200);
    scene.hawser.run_workers().await;
    scene.assert_dead();
    assert_eq!(scene.shown_elsewhere(), 0, "also when the server is gone");

    let (scene, id) = with_a_guessed_issuer().await;
    assert_revoked(&scene.disconnect(&id).await);
    scene.assert_dead();
}

#[tokio::test]
async fn an_issuer_is_looked_for_until_it_answers() {
    let scene = Scene::by_hand().await;
    let issuer = with_a_path(&scene);
    scene.issuer.fault(Fault {
        status: Some(503),
        ..Fault::always("openid-configuration")
    });
    let id = scene.register(scene.configured(json!({}))).await;
    scene.connect(&id).await;
    let receipt = scene.disconnect(&id).await;
    assert_eq!(receipt["state"], "in_progress", "{receipt}");
    assert_eq!(receipt.get("outcomes"), None, "{receipt}");
    scene.issuer.clear_faults();
    scene.hawser.pass(3600);
    scene.hawser.run_workers().await;
    let receipt = scene.receipt(receipt["id"].as_str().unwrap()).await;
    assert_revoked(&receipt);
    scene.assert_dead();
    assert_eq!(scene.issuer.count("POST", ELSEWHERE), 0, "{issuer}");
}

#[tokio::test]
async fn an_answer_in_another_issuers_name_is_refused_also_where_nobody_is_named() {
    for (iss, is_taken) in [
        ("BASE/oauth2/default", true),
        ("BASE", true),
        ("https://other.example", false),
        ("", false),
    ] {
        let scene = Scene::set().await;
        scene.publish(ROOT, None);
        scene.protected_by(&[]);
        let iss = iss.replace("BASE", &scene.issuer.url);
        scene
            .issuer
            .configure(|settings| settings.wrong_iss = Some(iss.clone()));
        let id = scene.register(scene.configured(json!({}))).await;
        let (mut browser, url) = scene.begin(&id).await;
        let back = scene.issuer.approve_as(&url, "ada").await;
        let page = browser.open(&back).await;
        let connected = page.text.contains("<h1>Connected</h1>");
        assert_eq!(connected, is_taken, "{iss}: {page:?}");
        assert!(!page.text.contains(FOREIGN));
    }
}

// What the operator says

#[tokio::test]
async fn an_operator_names_the_issuer_beside_its_endpoints() {
    let scene = Scene::set().await;
    let name = at_another_host(&scene).await;
    scene.protected_by(&[]);
    let auth = scene.configured(json!({"issuer": name.url}));
    let id = scene.register(auth).await;
    scene.connect(&id).await;
    assert_revoked(&scene.disconnect(&id).await);
    scene.assert_dead();

    // Named only after the grant was given.
    let scene = Scene::set().await;
    let name = at_another_host(&scene).await;
    scene.protected_by(&[]);
    scene
        .issuer
        .configure(|settings| settings.wrong_iss = Some(settings_url(&scene)));
    let id = scene.register(scene.configured(json!({}))).await;
    scene.connect(&id).await;
    let named = scene.configured(json!({"issuer": name.url}));
    assert_eq!(scene.register(named).await, id, "which voids nothing");
    assert_revoked(&scene.disconnect(&id).await);
    scene.assert_dead();
}

fn settings_url(scene: &Scene) -> String {
    scene.issuer.url.clone()
}

#[tokio::test]
async fn an_operator_names_the_revocation_endpoint() {
    for late in [false, true] {
        let scene = Scene::set().await;
        scene.publish(ROOT, Some(scene.foreign()));
        scene.protected_by(&[]);
        let named = scene.configured(json!({"revocation_url": scene.at("/revoke")}));
        let first = if late {
            scene.configured(json!({}))
        } else {
            named.clone()
        };
        let id = scene.register(first).await;
        scene.connect(&id).await;
        scene.register(named).await;
        assert_revoked(&scene.disconnect(&id).await);
        scene.assert_dead();
        assert_eq!(scene.shown_elsewhere(), 0);
    }
}

#[tokio::test]
async fn who_edits_a_registration_cannot_have_older_tokens_sent_to_another_host() {
    for field in ["revocation_url", "issuer"] {
        let (scene, hostile) = (Scene::set().await, Issuer::start().await);
        let mut claim = scene.metadata(&hostile.url);
        claim["revocation_endpoint"] = format!("{}{ELSEWHERE}", hostile.url).into();
        hostile.configure(|settings| drop(settings.documents.insert(ROOT.to_owned(), Some(claim))));
        scene.publish(ROOT, None);
        scene.protected_by(&[]);
        let id = scene.register(scene.configured(json!({}))).await;
        scene.connect(&id).await;
        let url = match field {
            "issuer" => hostile.url.clone(),
            _ => format!("{}{ELSEWHERE}", hostile.url),
        };
        let kept = scene.configured(json!({"client_secret": "<REDACTED>", field: url}));
        let refused = scene.put(kept).await;
        let code = refused.json()["code"].clone();
        assert_eq!(
            (refused.status, code),
            (400, json!("REDACTED_VALUE_UNKNOWN")),
            "{field}"
        );
        let id = scene.register(scene.configured(json!({field: url}))).await;
        let receipt = scene.disconnect(&id).await;
        assert_eq!(
            receipt["outcomes"],
            json!({"unsupported": 1}),
            "{field}: {receipt}"
        );
        assert_eq!(hostile.count("POST", ELSEWHERE), 0, "{field}");
        assert_eq!(scene.issuer.live_tokens().len(), 2);
    }
}

#[tokio::test]
async fn discovery_starts_at_the_issuer_that_the_operator_names() {
    for resource in [
        // Another issuer, none, no metadata, metadata of something else.
        Some(json!({"resource": "MCP", "authorization_servers": ["https://other.example"]})),
        Some(json!({"resource": "MCP"})),
        None,
        Some(json!({"resource": "https://other.example/mcp"})),
    ] {
        let scene = Scene::set().await;
        let issuer = with_a_path(&scene);
        let mcp = scene.issuer.mcp_url();
        let document = resource
            .map(|one| serde_json::from_str(&one.to_string().replace("MCP", &mcp)).unwrap());
        scene.publish(RESOURCE, document);
        let auth = json!({"type": "oauth2", "issuer": issuer, "client_id": "operator", "client_secret": SECRET});
        let id = scene.register(auth).await;
        scene.connect(&id).await;
        assert_revoked(&scene.disconnect(&id).await);
        scene.assert_dead();
    }
}

#[tokio::test]
async fn naming_another_issuer_to_discover_voids_what_the_first_one_gave() {
    let scene = Scene::set().await;
    let client = json!({"type": "oauth2", "client_id": "operator", "client_secret": SECRET});
    let id = scene.register(client.clone()).await;
    scene.connect(&id).await;
    let mut named = client;
    named["issuer"] = "https://other.example".into();
    assert_eq!(scene.put(named).await.status, 417);
    assert_revoked(&scene.disconnect(&id).await);
}

#[tokio::test]
async fn an_integration_names_its_issuer_too() {
    let issuer = Issuer::start().await;
    let oauth = json!({"client_id": "operator", "client_secret": SECRET, "scopes": ["mcp:read"],
                       "issuer": format!("{}/oauth2/default", issuer.url)});
    let mail = json!({"display_name": "Mail", "mcp_url": issuer.mcp_url(), "oauth": oauth});
    let hawser = Hawser::with_integrations(&json!({"mail": mail})).await;
    let scene = Scene::of(hawser, issuer);
    with_a_path(&scene);
    scene.publish(RESOURCE, None);
    let ada = scene.hawser.caller(
        "acme",
        "ada",
        json!({"scope": "mgmt.read mgmt.write", "roles": ["admin"]}),
    );
    let body = json!({"mcp_server": "mail", "access_type": "write", "auth_method": "oauth"});
    let made = ada.post("/api/v1/mcp-servers", body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let url = made.json()["data"]["authorization_url"].clone();
    let mut browser = Browser::new();
    let at_issuer = browser.begin(url.as_str().unwrap()).await;
    let back = scene.issuer.approve(&at_issuer).await;
    assert_eq!(browser.open(&back).await.status, 200);
    assert_eq!(scene.issuer.live_tokens().len(), 2);
    assert_eq!(ada.delete("/api/v1/mcp-servers/1").await.status, 200);
    scene.hawser.run_workers().await;
    scene.assert_dead();
    assert_eq!(scene.shown_elsewhere(), 0);
}

// Authentication at each endpoint

#[tokio::test]
async fn each_endpoint_is_authenticated_at_as_it_says() {
    const BASIC: &str = "client_secret_basic";
    const POST: &str = "client_secret_post";
    for (token, revocation) in [
        (BASIC, Some(vec![POST])),
        (POST, Some(vec![BASIC])),
        (BASIC, Some(vec!["private_key_jwt", POST])),
        (POST, Some(vec!["none"])),
        (POST, Some(vec![BASIC, POST])),
        (BASIC, None),
    ] {
        for endpoints in [true, false] {
            let scene = Scene::set().await;
            scene.issuer.configure(|settings| {
                settings.client_auth = vec![token];
                settings.revocation_auth.clone_from(&revocation);
            });
            let client =
                json!({"type": "oauth2", "client_id": "operator", "client_secret": SECRET});
            let auth = if endpoints {
                scene.configured(json!({}))
            } else {
                client
            };
            let id = scene.register(auth).await;
            scene.connect(&id).await;
            assert_revoked(&scene.disconnect(&id).await);
            scene.assert_dead();
            // At the first attempt, not by trying about.
            assert_eq!(
                scene.issuer.count("POST", "/revoke"),
                2,
                "{token} {revocation:?}"
            );
        }
    }
}

#[tokio::test]
async fn an_operator_says_how_to_authenticate_where_nobody_else_does() {
    for (token, revocation) in [
        ("client_secret_post", "client_secret_basic"),
        ("client_secret_basic", "client_secret_post"),
        ("client_secret_post", "none"),
    ] {
        let scene = Scene::set().await;
        scene.issuer.configure(|settings| {
            settings.client_auth = vec![token];
            settings.revocation_auth = Some(vec![revocation]);
        });
        scene.publish(ROOT, None);
        scene.protected_by(&[]);
        let auth = scene.configured(json!({
            "token_endpoint_auth_method": token, "revocation_endpoint_auth_method": revocation,
            "revocation_url": scene.at("/revoke"),
        }));
        let id = scene.register(auth).await;
        scene.connect(&id).await;
        assert_eq!(scene.issuer.count("POST", "/token"), 1, "{token}");
        assert_revoked(&scene.disconnect(&id).await);
        scene.assert_dead();
        assert_eq!(scene.issuer.count("POST", "/revoke"), 2, "{revocation}");
    }
}

#[tokio::test]
async fn a_client_that_is_refused_authenticates_in_another_way() {
    let scene = Scene::by_hand().await;
    scene.issuer.configure(|settings| {
        settings.client_auth = vec!["client_secret_basic"];
        settings.revocation_auth = Some(vec!["client_secret_post"]);
    });
    let mut silent = scene.metadata(&scene.issuer.url);
    silent["token_endpoint_auth_methods_supported"] = json!(["client_secret_basic"]);
    scene.publish(ROOT, Some(silent));
    let id = scene.register(scene.configured(json!({}))).await;
    scene.connect(&id).await;
    let receipt = scene.disconnect(&id).await;
    assert_eq!(receipt["state"], "in_progress", "{receipt}");
    scene.hawser.pass(60);
    scene.hawser.run_workers().await;
    let receipt = scene.receipt(receipt["id"].as_str().unwrap()).await;
    assert_revoked(&receipt);
    scene.assert_dead();
}

// Providers' own ways

/// A provider's way, where its stand-in has it, and whether there are refresh tokens.
fn ways() -> [(&'static str, &'static str, bool); 3] {
    [
        ("github", "/applications", false),
        ("hubspot", "/oauth/v1/refresh-tokens", true),
        ("slack", "/api/auth.revoke", false),
    ]
}

#[tokio::test]
async fn providers_without_a_standard_endpoint_revoke_in_their_own_way() {
    for (method, path, refresh) in ways() {
        let scene = Scene::set().await;
        scene.publish(ROOT, None);
        scene.protected_by(&[]);
        scene
            .issuer
            .configure(|settings| settings.refresh_tokens = refresh);
        let auth = scene.configured(
            json!({"revocation": {"method": method}, "revocation_url": scene.at(path)}),
        );
        let id = scene.register(auth).await;
        let pair = scene.connect(&id).await;
        let receipt = scene.disconnect(&id).await;
        assert_revoked(&receipt);
        let presented = receipt["presented"].as_array().unwrap();
        if method == "hubspot" {
            // Documented: what the refresh token has fetched goes on until it ends, and the receipt says so.
            assert_eq!(scene.issuer.live_tokens(), [pair.access]);
            assert_eq!(presented[0]["outcome"], "revoked", "{receipt}");
            assert_eq!(presented[1]["outcome"], "unsupported", "{receipt}");
            assert_eq!(presented[1]["reason"], "tokenKind", "{receipt}");
        } else {
            scene.assert_dead();
            assert_eq!(presented.len(), 1, "{receipt}");
        }
        assert_eq!(scene.issuer.count("POST", "/revoke"), 0);
        assert!(
            !receipt.to_string().contains("rt-") && !receipt.to_string().contains("at-"),
            "{receipt}"
        );
    }
}

#[tokio::test]
async fn a_provider_that_does_not_confirm_has_not_revoked() {
    let ok = |body: &str| (200, body.to_owned());
    for (method, path, answer, outcome) in [
        ("github", "/applications/operator/token", ok(""), "failed"),
        (
            "github",
            "/applications/operator/token",
            (404, "<html>".to_owned()),
            "failed",
        ),
        (
            "github",
            "/applications/operator/token",
            (422, "{}".to_owned()),
            "failed",
        ),
        (
            "slack",
            "/api/auth.revoke",
            ok(r#"{"ok":true,"revoked":false}"#),
            "failed",
        ),
        (
            "slack",
            "/api/auth.revoke",
            ok(r#"{"ok":false,"error":"invalid_auth"}"#),
            "failed",
        ),
        ("slack", "/api/auth.revoke", ok("<html>"), "failed"),
        ("rfc7009", "/revoke", ok(r#"{"error":"unknown"}"#), "failed"),
        ("rfc7009", "/revoke", ok(r#"{"ok":false}"#), "failed"),
        (
            "rfc7009",
            "/revoke",
            ok(r#"{"error":{"code":500}}"#),
            "failed",
        ),
        (
            "rfc7009",
            "/revoke",
            ok(r#"{"error":"unsupported_token_type"}"#),
            "unsupported",
        ),
    ] {
        let scene = Scene::set().await;
        scene
            .issuer
            .configure(|settings| settings.refresh_tokens = false);
        scene.issuer.fault(Fault {
            status: Some(answer.0),
            body: answer.1.clone(),
            ..Fault::always(path)
        });
        let base = path.strip_suffix("/operator/token").unwrap_or(path);
        let auth = scene.configured(
            json!({"revocation": {"method": method}, "revocation_url": scene.at(base)}),
        );
        let id = scene.register(auth).await;
        scene.connect(&id).await;
        let receipt = scene.disconnect(&id).await;
        let expected = json!({outcome: 1});
        assert_eq!(
            receipt["outcomes"], expected,
            "{method} {answer:?}: {receipt}"
        );
        assert!(!receipt.to_string().contains("\"revoked\""), "{receipt}");
        assert_eq!(scene.issuer.live_tokens().len(), 1);
    }
}

#[tokio::test]
async fn a_refresh_token_that_a_provider_cannot_revoke_is_no_success() {
    for (method, path) in [("github", "/applications"), ("slack", "/api/auth.revoke")] {
        let scene = Scene::set().await;
        let auth = scene.configured(
            json!({"revocation": {"method": method}, "revocation_url": scene.at(path)}),
        );
        let id = scene.register(auth).await;
        let pair = scene.connect(&id).await;
        let receipt = scene.disconnect(&id).await;
        assert_eq!(receipt["outcomes"], json!({"unsupported": 1}), "{receipt}");
        assert_eq!(receipt["presented"][0]["reason"], "tokenKind");
        assert_eq!(receipt["presented"][1]["outcome"], "revoked");
        assert_eq!(scene.issuer.live_tokens(), [pair.refresh.unwrap()]);
    }
}

#[tokio::test]
async fn a_catalogue_names_the_way_also_for_grants_that_are_older() {
    for (method, path, refresh) in ways() {
        let issuer = Issuer::start().await;
        let oauth = json!({
            "client_id": "operator", "client_secret": SECRET,
            "authorization_endpoint": format!("{}/authorize", issuer.url),
            "token_endpoint": format!("{}/token", issuer.url),
            "revocation_endpoint": format!("{}{path}", issuer.url), "revocation": {"method": method},
            "include_resource": true,
        });
        let mail = json!({"display_name": "Mail", "mcp_url": issuer.mcp_url(), "oauth": oauth});
        let hawser = Hawser::with_integrations(&json!({"mail": mail})).await;
        let scene = Scene::of(hawser, issuer);
        scene
            .issuer
            .configure(|settings| settings.refresh_tokens = refresh);
        scene.publish(ROOT, None);
        scene.publish(RESOURCE, None);
        let ada = scene.hawser.caller(
            "acme",
            "ada",
            json!({"scope": "mgmt.read mgmt.write", "roles": ["admin"]}),
        );
        let body = json!({"mcp_server": "mail", "access_type": "write", "auth_method": "oauth"});
        let made = ada.post("/api/v1/mcp-servers", body).await;
        let url = made.json()["data"]["authorization_url"].clone();
        let mut browser = Browser::new();
        let at_issuer = browser.begin(url.as_str().unwrap()).await;
        let asked = parameters(&at_issuer);
        assert_eq!(asked["resource"], scene.issuer.mcp_url());
        let back = scene.issuer.approve(&at_issuer).await;
        assert_eq!(browser.open(&back).await.status, 200);
        // As a grant is that was given before the catalogue said anything.
        let servers = ada.get(MCP).await.json();
        let id = servers["data"][0]["id"].as_str().unwrap().to_owned();
        let receipt = scene.disconnect(&id).await;
        assert_revoked(&receipt);
        let left = usize::from(method == "hubspot");
        assert_eq!(scene.issuer.live_tokens().len(), left, "{method}");
    }
}

// What goes into the browser

#[tokio::test]
async fn an_operator_adds_parameters_and_leaves_the_resource_out() {
    let scene = Scene::set().await;
    scene
        .issuer
        .configure(|settings| settings.resource_needed = false);
    let params = json!({"audience": "https://api.example", "prompt": "consent", "owner": "user"});
    let auth = scene
        .configured(json!({"additional_authorization_params": params, "include_resource": false}));
    let id = scene.register(auth).await;
    let (_, url) = scene.begin(&id).await;
    let asked = parameters(&url);
    assert_eq!(asked["audience"], "https://api.example");
    assert_eq!(
        (asked["prompt"].as_str(), asked["owner"].as_str()),
        ("consent", "user")
    );
    assert!(!asked.contains_key("resource") && asked.contains_key("code_challenge"));
    scene.connect(&id).await;
    let token = scene
        .issuer
        .log()
        .into_iter()
        .find(|call| call.path == "/token")
        .unwrap();
    assert_eq!(token.field("resource"), None);
}

#[tokio::test]
async fn google_is_asked_for_what_a_refresh_token_takes() {
    let scene = Scene::set().await;
    let google = "https://accounts.google.com/o/oauth2/v2/auth";
    for (more, access_type, prompt) in [
        (json!({}), "offline", "consent"),
        (
            json!({"prompt": "select_account"}),
            "offline",
            "select_account",
        ),
        (json!({"access_type": "online"}), "online", "consent"),
    ] {
        let auth = scene.configured(
            json!({"authorization_url": google, "issuer": scene.issuer.url,
                                           "additional_authorization_params": more}),
        );
        let id = scene.register(auth).await;
        let (_, url) = scene.begin(&id).await;
        let asked = parameters(&url);
        assert_eq!(
            (&*asked["access_type"], &*asked["prompt"]),
            (access_type, prompt)
        );
    }
}

#[tokio::test]
async fn s256_is_taken_as_supported_where_the_operator_says_so() {
    for (said, connects) in [
        (Some(json!(["S256"])), true),
        (None, false),
        (Some(json!([])), false),
    ] {
        let scene = Scene::set().await;
        scene.issuer.configure(|settings| settings.s256 = false);
        let mut auth = json!({"type": "oauth2", "client_id": "operator", "client_secret": SECRET});
        if let Some(said) = said {
            auth["code_challenge_methods_supported"] = said;
        }
        let id = scene.register(auth).await;
        let user = scene.hawser.caller("acme", "ada", json!({}));
        let asked = user.get(&format!("{MCP}/{id}/authorize")).await.json();
        let endpoint = asked["authorization_endpoint"].as_str().unwrap();
        let page = Browser::new().start(endpoint).await;
        let url = page.location.unwrap_or_default();
        assert_eq!(
            url.contains("code_challenge_method=S256"),
            connects,
            "{url}"
        );
    }
}

// The manifest

#[tokio::test]
async fn a_manifest_shows_what_it_says_of_the_issuer() {
    let scene = Scene::set().await;
    let said = json!({
        "issuer": "https://as.example/tenant", "revocation_url": "https://as.example/revoke",
        "revocation": {"method": "slack"}, "token_endpoint_auth_method": "client_secret_post",
        "revocation_endpoint_auth_method": "none",
        "additional_authorization_params": {"audience": "x", "prompt": "consent"},
    });
    let put = scene.put(scene.configured(said.clone())).await;
    assert_eq!(put.status, 200, "{put:?}");
    let shown = put.json()["data"]["manifest"]["auth_data"].clone();
    for (name, value) in said.as_object().unwrap() {
        assert_eq!(&shown[name], value, "{name}");
    }
    let again = scene.put(scene.configured(said)).await.json();
    assert_eq!(again["data"]["updatedAt"], put.json()["data"]["updatedAt"]);
    let plain = scene.put(scene.configured(json!({}))).await.json();
    let shown = &plain["data"]["manifest"]["auth_data"];
    assert_eq!(shown.get("issuer"), None);
    assert_eq!(shown.get("additional_authorization_params"), None);
}

#[tokio::test]
async fn a_manifest_that_says_odd_things_of_the_issuer_is_refused() {
    let scene = Scene::set().await;
    for (more, status, path) in [
        (json!({"issuer": "ftp://as.example"}), 400, "issuer"),
        (json!({"issuer": "http://as.example"}), 400, "issuer"),
        (json!({"issuer": "https://as.example/?x=1"}), 400, "issuer"),
        (json!({"issuer": 7}), 400, "issuer"),
        (
            json!({"revocation_url": "http://as.example/r"}),
            400,
            "revocation_url",
        ),
        (json!({"revocation": "slack"}), 400, "revocation"),
        (json!({"revocation": {}}), 400, "revocation.method"),
        (
            json!({"revocation": {"method": "fax"}}),
            422,
            "revocation.method",
        ),
        (
            json!({"client_secret": null, "revocation": {"method": "github"}}),
            400,
            "revocation.method",
        ),
        (
            json!({"token_endpoint_auth_method": "private_key_jwt"}),
            422,
            "token_endpoint_auth_method",
        ),
        (
            json!({"token_endpoint_auth_method": 1}),
            400,
            "token_endpoint_auth_method",
        ),
        (
            json!({"client_secret": null, "token_endpoint_auth_method": "client_secret_post"}),
            400,
            "token_endpoint_auth_method",
        ),
        (
            json!({"additional_authorization_params": {"state": "x"}}),
            400,
            "additional_authorization_params.state",
        ),
        (
            json!({"additional_authorization_params": {"request_uri": "x"}}),
            400,
            "additional_authorization_params.request_uri",
        ),
        (
            json!({"additional_authorization_params": {"prompt": 1}}),
            400,
            "additional_authorization_params.prompt",
        ),
        (
            json!({"additional_authorization_params": ["x"]}),
            400,
            "additional_authorization_params",
        ),
    ] {
        let refused = scene.put(scene.configured(more.clone())).await;
        assert_eq!(refused.status, status, "{more}: {refused:?}");
        let faults = refused.json()["details"].clone();
        let at = format!("manifest.auth_data.{path}");
        assert!(
            faults
                .as_array()
                .unwrap()
                .iter()
                .any(|one| one["path"] == at),
            "{more}: {faults}"
        );
    }
}
