//! The catalogue of integrations in the table: how it is made equal to a file, what is read of it and when, where the secrets of its
//! clients are, and that no mistake, crash or second writer leaves something between.

use crate::harness::{Answer, Browser, Caller, Cut, Ground, Hawser, Registered, Wire, ample, now};
use crate::issuer::{Issuer, StaticClient};
use crate::process::{Running, line, run};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::types::AttributeValue;
use hawser_core::catalogue::{self, Offer};
use hawser_core::domain::id::TenantId;
use hawser_core::operations::audit_log;
use hawser_core::operations::integrations::{self, Kind};
use hawser_core::operations::integrity::examine;
use hawser_core::operations::scheduler::process_due;
use hawser_core::secret_store::SecretStores;
use hawser_core::{App, Error};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Output;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const KAMBRIUM: &str = "/api/v1/mcp-servers";
const SECRET: &str = "planted-client-secret-7f3a9c";

fn plain(title: &str) -> Value {
    json!({"display_name": title, "mcp_url": "https://x.example/mcp", "api_key": {}})
}

fn confidential(title: &str, secret: &str) -> Value {
    json!({"display_name": title, "mcp_url": "https://x.example/mcp",
           "oauth": {"client_id": "operator", "client_secret": secret}})
}

/// A folder for the command line.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Runs `hawser integrations ...` with this file.
    fn apply_text(&self, text: &str, more: &[&str]) -> Output {
        let file = self.path().join("file.json");
        std::fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap();
        let output = run(
            self.path(),
            &[&["integrations", "apply", file], more].concat(),
        );
        // What the folder holds besides is looked into.
        std::fs::remove_file(file).unwrap();
        output
    }

    fn apply(&self, integrations: Value) -> Vec<Value> {
        let text = json!({"integrations": integrations}).to_string();
        lines(self.apply_text(&text, &[]))
    }

    fn list(&self) -> Vec<Value> {
        lines(run(self.path(), &["integrations", "list"]))
    }

    fn events(&self) -> Vec<Value> {
        lines(run(self.path(), &["integrations", "events"]))
    }

    /// Every file in it.
    fn bytes(&self) -> Vec<u8> {
        let (mut bytes, mut folders) = (Vec::new(), vec![self.path().to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => bytes.extend(std::fs::read(&path).unwrap()),
                }
            }
        }
        bytes
    }
}

fn lines(output: Output) -> Vec<Value> {
    let text = line(output);
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    let mut windows = bytes.windows(text.len());
    windows.any(|window| window == text.as_bytes())
}

// The command line

#[tokio::test]
async fn apply_makes_the_catalogue_equal_to_a_file() {
    let folder = Folder::new();
    let figures = |added, changed, removed, unchanged| json!({"added": added, "changed": changed, "removed": removed, "unchanged": unchanged});
    let first = json!({"crm": plain("CRM"), "mail": confidential("Mail", SECRET)});
    let text = json!({"integrations": first}).to_string();
    let added = [
        json!({"integration": "crm", "change": "added"}),
        json!({"integration": "mail", "change": "added"}),
        figures(2, 0, 0, 0),
    ];
    assert_eq!(lines(folder.apply_text(&text, &["--dry-run"])), added);
    assert_eq!(folder.list(), Vec::<Value>::new(), "nothing was written");
    assert_eq!(folder.events(), Vec::<Value>::new());
    assert_eq!(folder.apply(first.clone()), added);
    let listed = folder.list();
    assert_eq!(
        listed,
        [
            json!({"integration": "crm", "displayName": "CRM", "mcpUrl": "https://x.example/mcp", "active": true,
                   "apiKey": true, "oauth": false, "clientId": null, "clientSecret": null}),
            json!({"integration": "mail", "displayName": "Mail", "mcpUrl": "https://x.example/mcp", "active": true,
                   "apiKey": false, "oauth": true, "clientId": "operator", "clientSecret": "sealed"}),
        ]
    );
    assert_eq!(folder.apply(first), [figures(0, 0, 0, 2)]);
    let mut second = json!({"mail": confidential("Mail", "another secret"), "wiki": plain("Wiki")});
    second["mail"]["active"] = false.into();
    second["mail"]["oauth"]["scopes"] = json!(["read"]);
    let fields = ["active", "oauth.client_secret", "oauth.scopes"];
    assert_eq!(
        folder.apply(second.clone()),
        [
            json!({"integration": "crm", "change": "removed"}),
            json!({"integration": "mail", "change": "changed", "fields": fields}),
            json!({"integration": "wiki", "change": "added"}),
            figures(1, 1, 1, 0),
        ]
    );
    // Another value in an address.
    second["wiki"]["mcp_url"] = "https://x.example/mcp?key=planted-key".into();
    let changed = json!({"integration": "wiki", "change": "changed", "fields": ["mcp_url"]});
    assert_eq!(folder.apply(second.clone())[0], changed);
    let shown = folder.list()[1]["mcpUrl"].clone();
    assert_eq!(shown, "https://x.example/mcp?key=<REDACTED>");
    second["wiki"]["mcp_url"] = "https://x.example/mcp?key=planted-other".into();
    assert_eq!(folder.apply(second.clone())[0], changed);
    assert_eq!(folder.apply(second.clone()), [figures(0, 0, 0, 2)]);
    // A reference in place of the secret.
    second["mail"]["oauth"]
        .as_object_mut()
        .unwrap()
        .remove("client_secret");
    second["mail"]["oauth"]["client_secret_ref"] = json!({"ssm": "/hawser/mail"});
    let changed =
        json!({"integration": "mail", "change": "changed", "fields": ["oauth.client_secret"]});
    assert_eq!(folder.apply(second.clone())[0], changed);
    assert_eq!(folder.apply(second), [figures(0, 0, 0, 2)]);
    let shown = &folder.list()[0]["clientSecret"];
    assert_eq!(*shown, json!({"ssm": "/hawser/mail", "jsonKey": null}));
    let removed = run(folder.path(), &["integrations", "remove", "wiki"]);
    assert!(removed.status.success());
    let again = run(folder.path(), &["integrations", "remove", "wiki"]);
    assert!(!again.status.success());

    let events = folder.events();
    let mut told: Vec<_> = events
        .iter()
        .map(|event| {
            (
                event["action"].as_str().unwrap(),
                event["integration"].as_str().unwrap(),
            )
        })
        .collect();
    told.reverse();
    assert_eq!(
        told,
        [
            ("integration.added", "crm"),
            ("integration.added", "mail"),
            ("integration.removed", "crm"),
            ("integration.changed", "mail"),
            ("integration.added", "wiki"),
            ("integration.changed", "wiki"),
            ("integration.changed", "wiki"),
            ("integration.changed", "mail"),
            ("integration.removed", "wiki"),
        ]
    );
    assert!(
        events
            .iter()
            .all(|event| event["actor"] == json!({"type": "operator"}))
    );
    // The server chains them; then the audit log is whole.
    let log = folder.path().join("log");
    let mut running = Running::start(folder.path(), &log);
    while folder.events().iter().any(|event| event["seq"].is_null()) {}
    assert_eq!(running.signal("TERM"), Some(0));
    let report = lines(run(folder.path(), &["audit"]));
    assert_eq!(report[0]["orphans"], 0, "{report:?}");
    assert_eq!(report[0]["items"]["integration"], 1);
    for secret in [SECRET, "another secret", "planted-key", "planted-other"] {
        assert!(!holds(&folder.bytes(), secret), "{secret}");
    }
}

#[tokio::test]
async fn a_file_with_a_mistake_changes_nothing_and_says_where_it_is() {
    let folder = Folder::new();
    folder.apply(json!({"crm": plain("CRM")}));
    let (listed, events) = (folder.list(), folder.events());
    let with = |change: &dyn Fn(&mut Value)| {
        let mut mail = confidential("Mail", SECRET);
        change(&mut mail);
        json!({"integrations": {"crm": plain("Other"), "mail": mail}}).to_string()
    };
    for (file, said) in [
        ("{".to_owned(), "the file is not JSON"),
        (
            json!({"crm": plain("CRM")}).to_string(),
            "the file: integrations is missing",
        ),
        (
            json!({"integrations": {"No Name": plain("N")}}).to_string(),
            "No Name: the name must match",
        ),
        (
            with(&|mail| mail["mcp_url"] = "http://x.example/mcp".into()),
            "mail: mcp_url must be an https URL",
        ),
        (
            with(&|mail| mail["mcp_url"] = Value::Null),
            "mail: mcp_url is missing",
        ),
        (
            with(&|mail| mail["oauth"]["client_secrets"] = SECRET.into()),
            "mail.oauth: client_secrets is not known",
        ),
        (
            with(&|mail| mail["oauth"]["client_secret"] = json!([SECRET])),
            "mail.oauth: client_secret must be text",
        ),
        (
            with(&|mail| mail["oauth"]["pkce"] = SECRET.into()),
            "mail.oauth: pkce must be true or false",
        ),
        (
            with(&|mail| mail["oauth"]["client_id"] = Value::Null),
            "mail.oauth: client_id is missing",
        ),
        (
            with(&|mail| mail["oauth"]["token_endpoint"] = "https://x.example/t".into()),
            "mail.oauth: authorization_endpoint and token_endpoint",
        ),
        (
            with(&|mail| mail["oauth"]["client_secret_ref"] = json!({"ssm": "/a"})),
            "mail.oauth: client_secret_ref stands beside",
        ),
        (
            with(&|mail| mail["api_key"] = json!({"header": "Host"})),
            "mail.api_key: header",
        ),
        (
            with(&|mail| mail["description"] = "x".repeat(380 << 10).into()),
            "mail: is larger than 380 KiB",
        ),
    ] {
        let refused = folder.apply_text(&file, &[]);
        let error = String::from_utf8(refused.stderr).unwrap();
        assert!(
            !refused.status.success() && refused.stdout.is_empty(),
            "{said}"
        );
        assert!(error.contains(said), "{said}: {error}");
        assert!(!error.contains(SECRET), "{error}");
    }
    assert_eq!((folder.list(), folder.events()), (listed, events));
    let missing = run(folder.path(), &["integrations", "apply", "nowhere.json"]);
    assert!(!missing.status.success());
    // On AWS a secret needs a key to be sealed under, before anything is asked.
    let keyless = folder.apply_text(&with(&|_| {}), &["--table", "t"]);
    let error = String::from_utf8(keyless.stderr).unwrap();
    assert!(error.contains("--kms-key-id"), "{error}");
}

#[tokio::test]
async fn a_running_server_takes_up_what_is_applied_and_keeps_it() {
    let folder = Folder::new();
    let log = folder.path().join("log");
    let mut running = Running::start(folder.path(), &log);
    let names = async |running: &Running| {
        let (status, answer) = running
            .call("GET", &format!("{KAMBRIUM}/available"), Value::Null)
            .await;
        assert_eq!(status, 200);
        let all = answer["data"].as_array().unwrap().iter();
        all.map(|one| one["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(&running).await,
        ["pipedrive", "search"],
        "the built-in ones"
    );
    folder.apply(json!({"crm": plain("CRM")}));
    let new = json!({"mcp_server": "crm", "access_type": "write", "api_key": "k"});
    assert_eq!(running.call("POST", KAMBRIUM, new).await.0, 201);
    assert_eq!(running.signal("TERM"), Some(0));
    let mut again = Running::start(folder.path(), &log);
    assert_eq!(
        names(&again).await,
        ["crm"],
        "the built-in ones do not come back"
    );
    again.signal("TERM");
}

#[tokio::test]
async fn the_secret_reaches_the_issuer_and_is_written_nowhere() {
    let issuer = Issuer::start().await;
    let folder = Folder::new();
    let log = folder.path().join("log");
    let mut running = Running::start(folder.path(), &log);
    let callback = format!(
        "{}/api/mcp-servers/saas-oauth/mail/callback/",
        running.text("url")
    );
    know_operator(&issuer, callback, SECRET);
    let mut mail = confidential("Mail", SECRET);
    mail["mcp_url"] = issuer.mcp_url().into();
    let mut printed = format!("{:?}", folder.apply(json!({"mail": mail})));
    printed += &format!("{:?}{:?}", folder.list(), folder.events());
    let available = running
        .call("GET", &format!("{KAMBRIUM}/available"), Value::Null)
        .await;
    let (status, made) = running.call("POST", KAMBRIUM, by_consent()).await;
    assert_eq!(status, 201);
    printed += &format!("{available:?}{made}");
    let mut browser = Browser::new();
    let at_issuer = browser
        .begin(made["data"]["authorization_url"].as_str().unwrap())
        .await;
    let page = browser.open(&issuer.approve(&at_issuer).await).await;
    assert_eq!(page.status, 200, "{page:?}");
    assert_eq!(running.signal("TERM"), Some(0));
    assert_eq!(issuer.live_tokens().len(), 2, "the client was who it said");
    assert!(!printed.contains(SECRET));
    let bytes = folder.bytes();
    assert!(holds(&bytes, "integration.added") && !holds(&bytes, SECRET));
}

// Copies

/// Names and what is said of them.
fn available(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let data = answer.json()["data"].clone();
    let all = data.as_array().unwrap().iter();
    all.map(|one| one["name"].as_str().unwrap().to_owned())
        .collect()
}

async fn url_of_new(admin: &Caller, name: &str) -> Result<String, u16> {
    let new = json!({"mcp_server": name, "access_type": "write", "api_key": "k"});
    let made = admin.post(KAMBRIUM, new).await;
    if made.status != 201 {
        return Err(made.status);
    }
    let listed = admin.get("/v1/deepagents/mcp-servers").await.json();
    let newest = listed
        .as_array()
        .unwrap()
        .iter()
        .max_by_key(|one| one["created_at"].to_string());
    Ok(newest.unwrap()["url"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_change_is_seen_after_a_minute_and_what_is_new_at_once() {
    let hawser =
        Hawser::by_hand_with_integrations(&json!({"crm": plain("CRM"), "old": plain("Old")})).await;
    let list = format!("{KAMBRIUM}/available");
    let admin = || hawser.admin("acme");
    assert_eq!(available(&admin().get(&list).await), ["crm", "old"]);
    assert_eq!(
        url_of_new(&admin(), "crm").await.unwrap(),
        "https://x.example/mcp"
    );
    let mut moved = plain("CRM");
    moved["mcp_url"] = "https://moved.example/mcp".into();
    hawser
        .ground()
        .offer(&json!({"crm": moved, "new": plain("New")}))
        .await;
    hawser.pass(59);
    hawser.wire.arm(None);
    assert_eq!(available(&admin().get(&list).await), ["crm", "old"]);
    assert_eq!(hawser.wire.operations(), [""; 0], "a copy costs nothing");
    assert_eq!(
        url_of_new(&admin(), "crm").await.unwrap(),
        "https://x.example/mcp"
    );
    assert_eq!(
        url_of_new(&admin(), "new").await.unwrap(),
        "https://x.example/mcp"
    );
    assert_eq!(url_of_new(&admin(), "none").await, Err(400));
    hawser.pass(2);
    hawser.wire.arm(None);
    assert_eq!(available(&admin().get(&list).await), ["crm", "new"]);
    assert_eq!(hawser.wire.operations(), ["Query"]);
    assert_eq!(
        url_of_new(&admin(), "crm").await.unwrap(),
        "https://moved.example/mcp"
    );
    assert_eq!(url_of_new(&admin(), "old").await, Err(400));
}

#[tokio::test]
async fn an_earlier_copy_serves_for_ten_minutes_while_the_store_is_silent() {
    let ground = Ground::new().await;
    ground.offer(&json!({"crm": plain("CRM")})).await;
    let list = format!("{KAMBRIUM}/available");
    let document = "/oauth/client-metadata.json";
    let hawser = Hawser::by_hand_configured(ground.clone(), |config| {
        config.client_metadata_url = Some("https://hawser.example/client".to_owned());
    })
    .await;
    let admin = || hawser.admin("acme");
    // Without any copy there is no answer, rather than an empty one.
    hawser.wire.arm(Some(Cut::Before(0)));
    assert_eq!(admin().get(&list).await.status, 500);
    let silent = hawser.anonymous().get(document).await;
    assert_eq!(
        (silent.status, silent.header("retry-after").as_deref()),
        (503, Some("5"))
    );
    hawser.wire.arm(None);
    assert_eq!(available(&admin().get(&list).await), ["crm"]);
    hawser.wire.arm(Some(Cut::Before(0)));
    for (seconds, status) in [(61, 200), (530, 200), (10, 500)] {
        hawser.pass(seconds);
        assert_eq!(admin().get(&list).await.status, status, "{seconds}");
    }
    hawser.wire.arm(None);
    assert_eq!(available(&admin().get(&list).await), ["crm"]);
}

#[tokio::test]
async fn one_reads_and_the_others_wait() {
    let hawser = Hawser::with_integrations(&json!({"crm": plain("CRM")})).await;
    hawser.wire.arm(None);
    let list = format!("{KAMBRIUM}/available");
    let admin = hawser.admin("acme");
    let all = (0..20).map(|_| admin.get(&list));
    for answer in futures_util::future::join_all(all).await {
        assert_eq!(available(&answer), ["crm"]);
    }
    assert_eq!(hawser.wire.operations(), ["Query"]);
}

// Writers that die, and two at once

fn offers(integrations: Value) -> BTreeMap<String, Offer> {
    let file = json!({"integrations": integrations}).to_string();
    catalogue::read(&file, true).unwrap()
}

fn set_of(prefix: &str, secret: &str) -> Value {
    let all = (0..3).map(|i| (format!("{prefix}{i}"), confidential(prefix, secret)));
    let mut all: Map<_, _> = all.collect();
    all.insert("shared".to_owned(), confidential(prefix, secret));
    all.into()
}

/// What the catalogue holds: each name with its title.
async fn titles(ground: &Ground) -> BTreeMap<String, String> {
    let items = ground.items().await.into_iter();
    let integrations = items.filter(|item| item["entity"] == "integration");
    let title = |item: Value| {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (
            text(&item["name"]),
            text(&item["integration"]["display_name"]),
        )
    };
    integrations.map(title).collect()
}

fn titles_of(integrations: &Value) -> BTreeMap<String, String> {
    let all = integrations.as_object().unwrap().iter();
    all.map(|(name, one)| {
        (
            name.clone(),
            one["display_name"].as_str().unwrap().to_owned(),
        )
    })
    .collect()
}

fn app(ground: &Ground, wire: &Wire) -> Arc<App> {
    ground.app(wire, "http://unused.example", |_| {}, |_| {})
}

#[tokio::test]
async fn a_writer_that_dies_anywhere_is_made_up_for_by_the_next() {
    let (before, after) = (set_of("old", SECRET), set_of("new", SECRET));
    let (old, new) = (titles_of(&before), titles_of(&after));
    for cut in [Cut::Before as fn(usize) -> Cut, Cut::After] {
        let (mut reached, mut k) = (true, 0);
        while reached {
            let ground = Ground::new().await;
            ground.offer(&before).await;
            let wire = Wire::default();
            wire.arm(Some(cut(k)));
            let dying = app(&ground, &wire);
            let applied = integrations::apply(&dying, &offers(after.clone()), false).await;
            reached = wire.sent().len() > k;
            // Each integration is what it was or what it is to be, and each change has its event.
            let left = titles(&ground).await;
            for (name, title) in &left {
                assert!(
                    old.get(name) == Some(title) || new.get(name) == Some(title),
                    "{cut:?}"
                );
            }
            let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
            let changed = names
                .iter()
                .filter(|name| old.get(**name) != left.get(**name))
                .count();
            let events = async || {
                let items = ground.items().await.into_iter();
                items.filter(|item| item["entity"] == "event").count()
            };
            assert_eq!(events().await, old.len() + changed, "{k}");
            if applied.is_ok() {
                assert_eq!(left, new);
            }
            let next = Hawser::on(ground.clone()).await;
            integrations::apply(&next.app, &offers(after.clone()), false)
                .await
                .unwrap();
            assert_eq!(titles(&ground).await, new, "{k}");
            assert_eq!(events().await, old.len() + names.len());
            next.run_workers().await;
            k += 1;
        }
        assert!(k > 8, "an apply makes several requests, not {k}");
    }
}

#[tokio::test]
async fn of_two_writers_at_once_one_is_what_stays() {
    let mut refused = 0;
    for _ in 0..8 {
        let ground = Ground::new().await;
        let files = [set_of("one", "1"), set_of("two", "2"), set_of("three", "3")];
        let (at_first, wire) = (offers(files[0].clone()), Wire::default());
        integrations::apply(&app(&ground, &wire), &at_first, false)
            .await
            .unwrap();
        let writers = files.iter().skip(1).map(|file| {
            let (app, offers) = (app(&ground, &wire), offers(file.clone()));
            tokio::spawn(async move { integrations::apply(&app, &offers, false).await })
        });
        let mut ends = Vec::new();
        for writer in writers.collect::<Vec<_>>() {
            ends.push(writer.await.unwrap());
        }
        assert!(ends.iter().any(Result::is_ok), "{ends:?}");
        let left = titles(&ground).await;
        let stays: Vec<_> = (files.iter().skip(1))
            .zip(&ends)
            .filter(|(file, _)| titles_of(file) == left)
            .collect();
        assert!(matches!(stays[..], [(_, Ok(_))]), "{left:?}: {ends:?}");
        refused += ends
            .iter()
            .filter(|end| matches!(end, Err(Error::Contended)))
            .count();
    }
    assert!(refused > 0, "they never met");
}

#[tokio::test]
async fn a_thousand_integrations_fit() {
    let all: Map<_, _> = (0..1000)
        .map(|i| {
            (
                format!("i{i}"),
                confidential(&format!("Integration {i}"), &format!("{SECRET}-{i}")),
            )
        })
        .collect();
    let ground = Ground::new().await;
    let offers = offers(all.into());
    let app = app(&ground, &Wire::default());
    let changes = integrations::apply(&app, &offers, false).await.unwrap();
    assert!(changes.len() == 1000 && changes.iter().all(|one| one.change == Kind::Added));
    assert_eq!(integrations::apply(&app, &offers, false).await.unwrap(), []);
    let hawser = Hawser::on(ground).await;
    let listed = hawser
        .admin("acme")
        .get(&format!("{KAMBRIUM}/available"))
        .await;
    assert_eq!(available(&listed).len(), 1000);
    hawser.run_workers().await;
}

// The operator's own audit log and key

#[tokio::test]
async fn nobody_is_the_operator() {
    let hawser = Hawser::with_integrations(&json!({"mail": confidential("Mail", SECRET)})).await;
    let operator = TenantId::operator();
    let admin = hawser.admin(operator.as_str());
    // As a token that names no tenant at all.
    let nameless = hawser.claims(json!({"sub": "root", "exp": now() + 600}));
    for path in ["/v1/audit", "/v1/deepagents/mcp-servers", KAMBRIUM] {
        let refused = admin.get(path).await;
        assert!([401, 403].contains(&refused.status), "{path}: {refused:?}");
        assert_eq!(refused.text, nameless.get(path).await.text);
    }
    let (events, _) = audit_log::list(&hawser.app, &operator, None, 10, |_| true)
        .await
        .unwrap();
    assert!(
        matches!(&events[..], [one] if one.chain.is_some()),
        "{events:?}"
    );
    hawser
        .admin("acme")
        .get("/v1/audit")
        .await
        .is(200, json!({"data": [], "next": null}));
    let folder = Folder::new();
    let args = ["api-key", "create", "--tenant", operator.as_str()];
    assert!(!run(folder.path(), &args).status.success());
}

#[tokio::test]
async fn the_integrity_check_knows_what_the_catalogue_rests_on() {
    let hawser = Hawser::with_integrations(
        &json!({"crm": plain("CRM"), "mail": confidential("Mail", SECRET)}),
    )
    .await;
    hawser.run_workers().await;
    let ground = hawser.ground();
    let found = async || {
        let report = examine(&hawser.app.table, Some(&hawser.app), hawser.app.now(), true)
            .await
            .unwrap();
        let orphans = report.orphans.into_iter();
        orphans
            .map(|(orphan, _)| (orphan.kind.as_str(), orphan.key.unwrap()))
            .collect::<Vec<_>>()
    };
    assert_eq!(found().await, []);
    let key = |pk: &str, sk: &str| {
        [("PK", pk), ("SK", sk)].map(|(n, v)| (n.to_owned(), AttributeValue::S(v.to_owned())))
    };
    let client = ground.dynamodb();
    let update = client.update_item().table_name(hawser_local::TABLE);
    let update = update.set_key(Some(key("CATALOGUE", "I#crm").into()));
    let update = update.update_expression("REMOVE integration.mcp_url");
    update.send().await.unwrap();
    assert_eq!(found().await, [("unreadable", "I#crm".to_owned())]);
    // The others are there all the same, and to apply the file again puts it right.
    let next = Hawser::on(ground.clone()).await;
    let list = format!("{KAMBRIUM}/available");
    assert_eq!(available(&next.admin("acme").get(&list).await), ["mail"]);
    ground
        .offer(&json!({"crm": plain("CRM"), "mail": confidential("Mail", SECRET)}))
        .await;
    assert_eq!(found().await, []);
    let delete = client.delete_item().table_name(hawser_local::TABLE);
    let delete = delete.set_key(Some(key("T#hawser:operator", "TENANTKEY#1").into()));
    delete.send().await.unwrap();
    assert_eq!(found().await, [("key-missing", "TENANTKEY#1".to_owned())]);
}

// Where secrets are

fn know_operator(issuer: &Issuer, callback: String, secret: &str) {
    issuer.configure(|settings| {
        settings.static_clients.push(StaticClient {
            id: "operator".to_owned(),
            secret: Some(secret.to_owned()),
            redirect_uris: vec![callback],
        });
    });
}

fn by_consent() -> Value {
    json!({"mcp_server": "mail", "access_type": "write", "auth_method": "oauth"})
}

/// Stands in for Secrets Manager and for Parameter Store.
#[derive(Clone)]
struct Stores {
    url: String,
    state: Arc<Mutex<StoresState>>,
}

struct StoresState {
    /// Status and body of each answer.
    answer: (u16, Value),
    asked: Vec<(String, Value)>,
}

impl Stores {
    async fn start() -> Self {
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

    fn answers(&self, status: u16, body: Value) {
        self.state.lock().unwrap().answer = (status, body);
    }

    fn asked(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }

    fn reached(&self) -> SecretStores {
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

    async fn status(&self, id: u64) -> String {
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
