//! The command line makes the catalogue equal to a file.

use super::{Folder, KAMBRIUM, SECRET, by_consent, confidential, know_operator, lines, plain};
use crate::harness::Browser;
use crate::issuer::Issuer;
use crate::process::{Running, run};
use serde_json::{Value, json};

fn holds(bytes: &[u8], text: &str) -> bool {
    let mut windows = bytes.windows(text.len());
    windows.any(|window| window == text.as_bytes())
}

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
