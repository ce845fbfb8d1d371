//! Client secrets: where they are, who may fetch them, and what they are good for.

use super::{KAMBRIUM, SECRET, available, by_consent, confidential, know_operator};
use crate::harness::{Browser, Ground, Hawser, Registered, ample};
use crate::issuer::Issuer;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::types::AttributeValue;
use hawser_core::Error;
use hawser_core::operations::scheduler::process_due;
use hawser_core::secret_store::SecretStores;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Stands in for Secrets Manager and for Parameter Store.
#[derive(Clone)]
pub(crate) struct Stores {
    url: String,
    state: Arc<Mutex<StoresState>>,
}

struct StoresState {
    /// Status and body of each answer.
    answer: (u16, Value),
    asked: Vec<(String, Value)>,
}

impl Stores {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(StoresState {
            answer: (200, Value::Null),
            asked: Vec::new(),
        }));
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut read = Vec::new();
                let (head, body) = loop {
                    let mut piece = [0; 4096];
                    let count = stream.read(&mut piece).await.unwrap_or(0);
                    read.extend(&piece[..count]);
                    let text = String::from_utf8_lossy(&read).into_owned();
                    if let Some((head, body)) = text.split_once("\r\n\r\n") {
                        let head = head.to_lowercase();
                        let length = head.split("content-length: ").nth(1).unwrap();
                        let length: usize = length.lines().next().unwrap().parse().unwrap();
                        if body.len() >= length {
                            break (head, body.to_owned());
                        }
                    }
                    assert_ne!(count, 0, "a request was cut off");
                };
                let target = head.split("x-amz-target: ").nth(1).unwrap();
                let target = target.lines().next().unwrap().to_owned();
                let (status, body) = {
                    let mut state = shared.lock().unwrap();
                    state
                        .asked
                        .push((target, serde_json::from_str(&body).unwrap()));
                    state.answer.clone()
                };
                let (body, kind) = (body.to_string(), "application/x-amz-json-1.1");
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { url, state }
    }

    pub fn answers(&self, status: u16, body: Value) {
        self.state.lock().unwrap().answer = (status, body);
    }

    pub fn asked(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }

    pub fn reached(&self) -> SecretStores {
        let credentials = Credentials::new("local", "local", None, None, "local");
        let aws = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .endpoint_url(&self.url)
            .region(Region::new("us-east-1"))
            .retry_config(RetryConfig::disabled())
            .credentials_provider(SharedCredentialsProvider::new(credentials));
        SecretStores::by(aws.build())
    }
}

/// An integration whose client's secret is in a store.
struct Scene {
    hawser: Hawser,
    issuer: Issuer,
    stores: Stores,
}

impl Scene {
    async fn of(reference: Value) -> Self {
        let (issuer, stores) = (Issuer::start().await, Stores::start().await);
        let mail = json!({"display_name": "Mail", "mcp_url": issuer.mcp_url(),
                          "oauth": {"client_id": "operator", "client_secret_ref": reference}});
        let offered = json!({"mail": mail});
        let ground = Ground::new().await;
        ground.offer(&offered).await;
        let reached = stores.reached();
        let hawser = Hawser::by_hand_changed(ground, |app| app.secret_stores = reached).await;
        let callback = format!("{}/api/mcp-servers/saas-oauth/mail/callback/", hawser.url);
        know_operator(&issuer, callback, SECRET);
        Self {
            hawser,
            issuer,
            stores,
        }
    }

    /// A connection whose owner has consented; its number.
    async fn connect(&self) -> u64 {
        let admin = self.hawser.admin("acme");
        let made = admin.post(KAMBRIUM, by_consent()).await;
        assert_eq!(made.status, 201, "{made:?}");
        let data = made.json()["data"].clone();
        let mut browser = Browser::new();
        let at_issuer = browser
            .begin(data["authorization_url"].as_str().unwrap())
            .await;
        let page = browser.open(&self.issuer.approve(&at_issuer).await).await;
        assert_eq!(page.status, 200, "{page:?}");
        let id = data["id"].as_u64().unwrap();
        assert_eq!(self.status(id).await, "active");
        id
    }

    pub(super) async fn status(&self, id: u64) -> String {
        let got = self
            .hawser
            .admin("acme")
            .get(&format!("{KAMBRIUM}/{id}"))
            .await;
        got.json()["data"]["oauth_status"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    async fn delete(&self, id: u64) {
        let path = format!("{KAMBRIUM}/{id}");
        assert_eq!(self.hawser.admin("acme").delete(&path).await.status, 200);
        self.hawser.run_workers().await;
    }
}

const ARN: &str = "arn:aws:secretsmanager:us-east-1:123456789012:secret:mail-AbCdEf";

#[tokio::test]
async fn a_secret_of_secrets_manager_is_fetched_when_it_is_needed_and_for_a_minute() {
    let scene = Scene::of(json!({"secretsmanager": ARN, "json_key": "oauth"})).await;
    let kept = json!({"user": "u", "oauth": SECRET}).to_string();
    scene.stores.answers(
        200,
        json!({"ARN": ARN, "Name": "mail", "SecretString": kept}),
    );
    let list = format!("{KAMBRIUM}/available");
    assert_eq!(
        available(&scene.hawser.admin("acme").get(&list).await),
        ["mail"]
    );
    assert_eq!(scene.stores.asked(), [], "a list needs no secret");
    scene.connect().await;
    let asked = (
        "secretsmanager.getsecretvalue".to_owned(),
        json!({"SecretId": ARN}),
    );
    assert_eq!(scene.stores.asked(), std::slice::from_ref(&asked));
    scene.hawser.pass(50);
    scene.connect().await;
    assert_eq!(scene.stores.asked(), []);
    scene.hawser.pass(11);
    scene.connect().await;
    assert_eq!(scene.stores.asked(), [asked]);
    for item in scene.hawser.ground().items().await {
        assert!(!item.to_string().contains(SECRET), "{item}");
    }
}

#[tokio::test]
async fn a_parameter_serves_as_well_and_a_bad_reference_is_an_error() {
    let scene = Scene::of(json!({"ssm": "/hawser/mail"})).await;
    let parameter =
        json!({"Parameter": {"Name": "/hawser/mail", "Type": "SecureString", "Value": SECRET}});
    let no_client = |status: u16, kind: &str| {
        scene
            .stores
            .answers(status, json!({"__type": kind, "message": SECRET}));
    };
    let admin = || scene.hawser.admin("acme");
    for (status, kind) in [
        (400, "ParameterNotFound"),
        (400, "AccessDeniedException"),
        (400, "ThrottlingException"),
        (500, "InternalServerError"),
    ] {
        no_client(status, kind);
        let refused = admin().post(KAMBRIUM, by_consent()).await;
        refused.is(
            500,
            json!({"detail": "Failed to create connection: database error"}),
        );
    }
    scene.stores.answers(
        200,
        json!({"Parameter": {"Name": "/hawser/mail", "Value": ""}}),
    );
    assert_eq!(admin().post(KAMBRIUM, by_consent()).await.status, 500);
    scene.stores.asked();
    scene.stores.answers(200, parameter.clone());
    let id = scene.connect().await;
    let asked = json!({"Name": "/hawser/mail", "WithDecryption": true});
    assert_eq!(
        scene.stores.asked(),
        [("amazonssm.getparameter".to_owned(), asked)]
    );
    // A token that has to be refreshed meanwhile.
    scene.hawser.pass(7200);
    no_client(400, "ParameterNotFound");
    let tools = format!("{KAMBRIUM}/{id}/tools");
    assert_eq!(admin().get(&tools).await.status, 500);
    assert_eq!(scene.status(id).await, "active", "the grant is left alone");
    no_client(500, "InternalServerError");
    assert!(admin().get(&tools).await.status >= 500);
    scene.stores.answers(200, parameter);
    assert_eq!(admin().get(&tools).await.status, 200);
}

/// The functions that the template lets read client secrets.
fn readers() -> BTreeSet<String> {
    let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../template.yaml");
    let template = std::fs::read_to_string(template).unwrap();
    let functions = template.split("BuildProperties: { Binary: ").skip(1);
    functions
        .filter(|function| function.contains("!Ref ClientSecretsPolicy"))
        .map(|function| function.split(' ').next().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn exactly_those_functions_ask_for_secrets_that_may() {
    let scene = Scene::of(json!({"ssm": "/hawser/mail"})).await;
    let parameter =
        json!({"Parameter": {"Name": "/hawser/mail", "Type": "SecureString", "Value": SECRET}});
    scene.stores.answers(200, parameter);
    // So short that a token is refreshed at every use.
    scene
        .issuer
        .configure(|settings| settings.access_ttl = Some(30));
    let mut asked = BTreeSet::new();
    let mut silent = BTreeSet::new();
    let mut note = |name: &str, seconds: i64| {
        let set = match scene.stores.asked().is_empty() {
            true => &mut silent,
            false => &mut asked,
        };
        set.insert(name.to_owned());
        // Nothing that was read before serves the next one.
        scene.hawser.pass(seconds);
    };
    let admin = || scene.hawser.admin("acme");
    let made = admin().post(KAMBRIUM, by_consent()).await;
    assert_eq!(made.status, 201, "{made:?}");
    note("kambrium-create-connection", 61);
    let data = made.json()["data"].clone();
    let mut browser = Browser::new();
    let url = data["authorization_url"].as_str().unwrap();
    let page = browser.open(url).await;
    note("hawser-show-consent", 61);
    let at_issuer = browser.press(url, &page).await.location.unwrap();
    note("hawser-start-consent", 61);
    let page = browser.open(&scene.issuer.approve(&at_issuer).await).await;
    assert_eq!(page.status, 200, "{page:?}");
    note("kambrium-finish-consent", 61);
    let mcp = admin().get("/api/svc/v1/mcp").await.json()["data"][0]["id"].clone();
    let mcp = mcp.as_str().unwrap();
    let listed = admin().get("/v1/deepagents/mcp-servers").await.json();
    let server = Registered {
        mcp: mcp.to_owned(),
        uuid: listed[0]["id"].as_str().unwrap().to_owned(),
        number: data["id"].as_u64().unwrap(),
    };
    let [truefoundry, langsmith, kambrium] = server.paths();
    let provider = admin()
        .post(&format!("{langsmith}/oauth-provider"), json!({}))
        .await;
    note("langsmith-register-provider", 61);
    let provider = provider.json()["oauth_provider_id"].clone();
    let tools = format!("/v1/deepagents/mcp/tools?url={}", scene.issuer.mcp_url());
    let reuse = json!({"provider_id": provider, "scopes": [], "strategy": "REUSE"});
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    for (name, method, path, body) in [
        (
            "kambrium-list-tools",
            "GET",
            format!("{kambrium}/tools"),
            Value::Null,
        ),
        ("langsmith-list-tools", "GET", tools, Value::Null),
        (
            "langsmith-create-auth-session",
            "POST",
            "/v1/deepagents/auth-sessions".to_owned(),
            reuse,
        ),
        (
            "langsmith-call-tool-server",
            "POST",
            format!("/v1/managed-tools/servers/{}/mcp", server.uuid),
            ping.clone(),
        ),
        ("hawser-invoke", "POST", format!("/mcp/{mcp}"), ping),
        (
            "kambrium-list-integrations",
            "GET",
            format!("{KAMBRIUM}/available"),
            Value::Null,
        ),
        (
            "kambrium-get-connection",
            "GET",
            kambrium.clone(),
            Value::Null,
        ),
        (
            "kambrium-list-connections",
            "GET",
            KAMBRIUM.to_owned(),
            Value::Null,
        ),
        (
            "truefoundry-get-server",
            "GET",
            truefoundry.clone(),
            Value::Null,
        ),
        (
            "truefoundry-authorize",
            "GET",
            format!("{truefoundry}/authorize"),
            Value::Null,
        ),
        ("langsmith-get-server", "GET", langsmith, Value::Null),
        (
            "kambrium-update-connection",
            "PUT",
            kambrium.clone(),
            json!({"agent_enabled": true}),
        ),
        (
            "truefoundry-disconnect-subject",
            "DELETE",
            format!("{truefoundry}/auth"),
            json!({"authSource": "oauth", "subjectId": "root", "subjectType": "user"}),
        ),
    ] {
        let body = match body {
            Value::Null => Vec::new(),
            body => body.to_string().into_bytes(),
        };
        let answer = admin().send(method, &path, &[], body).await;
        assert!(answer.status < 300, "{name}: {answer:?}");
        // Nor does a list of tools.
        note(name, 310);
    }
    while process_due(&scene.hawser.app, ample()).await.unwrap() {}
    note("workers-purge", 61);
    assert_eq!(admin().delete(&kambrium).await.status, 200);
    note("kambrium-delete-connection", 61);
    // Both carry out whatever is due.
    asked.insert("workers-sweep".to_owned());
    assert_eq!(asked, readers(), "silent were {silent:?}");
}

#[tokio::test]
async fn grants_end_by_the_secret_that_they_were_given_with_where_there_is_no_other() {
    let parameter =
        json!({"Parameter": {"Name": "/hawser/mail", "Type": "SecureString", "Value": SECRET}});
    // A reference that leads nowhere, and an integration that is gone.
    for is_gone in [false, true] {
        let scene = Scene::of(json!({"ssm": "/hawser/mail"})).await;
        scene.stores.answers(200, parameter.clone());
        let id = scene.connect().await;
        if is_gone {
            scene.hawser.ground().offer(&json!({})).await;
        }
        scene.hawser.pass(61);
        scene
            .stores
            .answers(400, json!({"__type": "ParameterNotFound"}));
        let refused = scene
            .hawser
            .admin("acme")
            .post(KAMBRIUM, by_consent())
            .await;
        assert_eq!(refused.status, if is_gone { 400 } else { 500 });
        assert_eq!(
            scene.status(id).await,
            "active",
            "those that were made go on"
        );
        scene.delete(id).await;
        assert_eq!(scene.issuer.live_tokens(), [""; 0]);
    }
}

#[tokio::test]
async fn a_revocation_waits_for_a_store_that_does_not_answer() {
    let scene = Scene::of(json!({"ssm": "/hawser/mail"})).await;
    let parameter =
        json!({"Parameter": {"Name": "/hawser/mail", "Type": "SecureString", "Value": SECRET}});
    scene.stores.answers(200, parameter.clone());
    let id = scene.connect().await;
    scene.hawser.pass(61);
    scene
        .stores
        .answers(500, json!({"__type": "InternalServerError"}));
    let mcp = scene
        .hawser
        .admin("acme")
        .get("/api/svc/v1/mcp")
        .await
        .json()["data"][0]["id"]
        .clone();
    let body = json!({"authSource": "oauth", "subjectId": "root", "subjectType": "user"});
    let path = format!("/api/svc/v1/mcp/{}/auth", mcp.as_str().unwrap());
    assert_eq!(
        scene
            .hawser
            .admin("acme")
            .delete_with(&path, body)
            .await
            .status,
        200
    );
    let worked = process_due(&scene.hawser.app, ample()).await;
    assert!(matches!(worked, Err(Error::Unavailable(_))), "{worked:?}");
    assert_eq!(scene.issuer.live_tokens().len(), 2);
    scene.stores.answers(200, parameter);
    scene.hawser.pass(61);
    scene.delete(id).await;
    assert_eq!(scene.issuer.live_tokens(), [""; 0]);
}

#[tokio::test]
async fn a_secret_does_not_open_for_another_address() {
    let issuer = Issuer::start().await;
    let mut mail = confidential("Mail", SECRET);
    mail["mcp_url"] = issuer.mcp_url().into();
    mail["oauth"]["authorization_endpoint"] = format!("{}/authorize", issuer.url).into();
    mail["oauth"]["token_endpoint"] = format!("{}/token", issuer.url).into();
    let hawser = Hawser::with_integrations(&json!({"mail": mail})).await;
    let client = hawser.ground().dynamodb();
    let key = [("PK", "CATALOGUE"), ("SK", "I#mail")]
        .map(|(n, v)| (n.to_owned(), AttributeValue::S(v.to_owned())));
    let update = client.update_item().table_name(hawser_local::TABLE);
    let update = update.set_key(Some(key.into()));
    let update = update.update_expression("SET integration.oauth.token_endpoint = :evil");
    let evil = AttributeValue::S("https://evil.example/token".to_owned());
    update
        .expression_attribute_values(":evil", evil)
        .send()
        .await
        .unwrap();
    assert_eq!(
        hawser
            .admin("acme")
            .post(KAMBRIUM, by_consent())
            .await
            .status,
        500
    );
    assert_eq!(issuer.count("POST", "/token"), 0);
}
