//! One client is registered at an issuer, however many consents begin at once and in however many processes.

use crate::harness::{Browser, Ground, Hawser, Page};
use crate::issuer::{Fault, Issuer};
use crate::upstream::{consent_url, oauth, register, user};
use futures_util::future::join_all;
use hawser_core::domain::id::{ServerId, TenantId};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const MCP: &str = "/api/svc/v1/mcp";

/// Two processes behind one public address.
async fn two(ground: Arc<Ground>) -> [Hawser; 2] {
    let first = Hawser::on(ground.clone()).await;
    let base = first.url.clone();
    let second = Hawser::configured(ground, |config| config.public_urls = vec![base]).await;
    [first, second]
}

/// Starts a consent at a process of this public address.
async fn open(public: &str, url: &str) -> Page {
    let mut browser = Browser::new();
    browser.origin = Some(public.to_owned());
    browser.start(url).await
}

/// How many leases of registrations are left.
async fn leases(hawser: &Hawser) -> usize {
    let items = hawser.ground().items().await;
    let leases = items.iter().filter(|item| item["entity"] == "registration");
    leases.count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_first_consents_in_two_processes_register_one_client() {
    let ground = Ground::new().await;
    let processes = two(ground).await;
    let issuer = Issuer::start().await;
    let mcp = register(&processes[0], "wiki", &issuer.mcp_url(), oauth()).await;
    issuer.fault(Fault {
        delay: Some(Duration::from_millis(200)),
        ..Fault::always("/register")
    });
    let mut urls = Vec::new();
    for i in 0..40 {
        let process = &processes[i % 2];
        let url = consent_url(process, &mcp, &format!("u{i}")).await;
        // The balancer's choice.
        urls.push(url.replace(&processes[0].url, &process.url));
    }
    let pages = join_all(urls.iter().map(|url| open(&processes[0].url, url))).await;
    for page in &pages {
        assert_eq!(page.status, 303, "{page:?}");
    }
    assert_eq!(issuer.count("POST", "/register"), 1);
    assert_eq!(issuer.clients().len(), 1);
    assert_eq!(leases(&processes[0]).await, 0, "the lease is given back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_per_subject_is_registered_once_per_subject() {
    let ground = Ground::new().await;
    let processes = two(ground).await;
    let issuer = Issuer::start().await;
    let new = json!({"name": "wiki", "url": issuer.mcp_url(), "auth_type": "oauth",
                     "oauth_mode": "per_user_dynamic_client"});
    let made = processes[0]
        .admin("acme")
        .post("/v1/deepagents/mcp-servers", new)
        .await;
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/deepagents/mcp-servers/{id}/oauth-provider");
    let callers = (0..16).map(|i| user(&processes[i % 2], &format!("u{}", i % 3)));
    let callers: Vec<_> = callers.collect();
    let answers = join_all(callers.iter().map(|one| one.post(&path, json!({})))).await;
    for answer in &answers {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(issuer.count("POST", "/register"), 3);
    assert_eq!(leases(&processes[0]).await, 0);
}

#[tokio::test]
async fn a_lease_whose_holder_is_gone_is_taken_over() {
    let wait = Duration::from_millis(200);
    let hawser = Hawser::start_with(|app| app.registration_wait = wait).await;
    let issuer = Issuer::start().await;
    let mcp = register(&hawser, "wiki", &issuer.mcp_url(), oauth()).await;
    let tenant = TenantId::parse("acme").unwrap();
    let server = ServerId::parse_prefixed(&mcp).unwrap();
    let table = &hawser.app.table;
    let take = async |lease: &str, over: Option<&str>| {
        let taken = table
            .lease_registration(&tenant, server, None, lease, over)
            .await;
        taken.unwrap()
    };
    assert!(take("dead", None).await);
    assert!(!take("other", None).await);
    assert!(!take("other", Some("gone before")).await);
    let url = consent_url(&hawser, &mcp, "ada").await;
    assert_eq!(open(&hawser.url, &url).await.status, 303);
    assert_eq!(issuer.clients().len(), 1);
    assert_eq!(leases(&hawser).await, 0);
}

#[tokio::test]
async fn a_registration_that_fails_lets_the_next_try_at_once() {
    let long = Duration::from_secs(3600);
    let hawser = Hawser::start_with(|app| app.registration_wait = long).await;
    let issuer = Issuer::start().await;
    let mcp = register(&hawser, "wiki", &issuer.mcp_url(), oauth()).await;
    for fault in [
        Fault {
            status: Some(400),
            ..Fault::once("/register")
        },
        Fault {
            status: Some(503),
            ..Fault::once("/register")
        },
        Fault {
            drop: true,
            ..Fault::once("/register")
        },
    ] {
        issuer.fault(fault);
        let url = consent_url(&hawser, &mcp, "ada").await;
        let page = open(&hawser.url, &url).await;
        assert!([502, 503].contains(&page.status), "{page:?}");
        assert_eq!(leases(&hawser).await, 0);
    }
    let url = consent_url(&hawser, &mcp, "ada").await;
    assert_eq!(open(&hawser.url, &url).await.status, 303);
    assert_eq!(issuer.clients().len(), 1);
}

#[tokio::test]
async fn a_lease_goes_with_its_server() {
    let hawser = Hawser::start().await;
    let issuer = Issuer::start().await;
    let mcp = register(&hawser, "wiki", &issuer.mcp_url(), oauth()).await;
    let tenant = TenantId::parse("acme").unwrap();
    let server = ServerId::parse_prefixed(&mcp).unwrap();
    let table = &hawser.app.table;
    assert!(
        table
            .lease_registration(&tenant, server, None, "dead", None)
            .await
            .unwrap()
    );
    let deleted = hawser.admin("acme").delete(&format!("{MCP}/{mcp}")).await;
    assert_eq!(deleted.status, 200);
    let refused = table
        .lease_registration(&tenant, server, None, "late", None)
        .await;
    assert!(
        matches!(refused, Err(hawser_core::Error::ServerNotFound)),
        "{refused:?}"
    );
    hawser.run_workers().await;
    assert_eq!(leases(&hawser).await, 0);
}
