//! The operator's list of issuers: no other is told a code, a token or a secret, however a server leads to it.

use crate::harness::{Browser, Ground, Hawser};
use crate::issuer::Issuer;
use crate::upstream::{MODERN, ask, consent, consent_url, message, oauth, register, send, user};
use hawser_core::domain::allowed_issuers::AllowedIssuers;
use serde_json::{Value, json};
use std::sync::Arc;

const MCP: &str = "/api/svc/v1/mcp";

/// A process whose operator allows these.
async fn allowing(ground: &Arc<Ground>, list: &Value) -> Hawser {
    let list = AllowedIssuers::parse(&list.to_string()).unwrap();
    Hawser::configured(ground.clone(), |config| config.allowed_issuers = list).await
}

/// What an issuer was asked beyond its metadata.
fn asked(issuer: &Issuer) -> Vec<String> {
    let log = issuer.log().into_iter().map(|one| one.path);
    log.filter(|path| !path.contains(".well-known") && path != "/mcp")
        .collect()
}

fn configured(issuer: &Issuer, grant_type: &str) -> Value {
    json!({"auth_data": {
        "type": "oauth2", "grant_type": grant_type, "client_id": "c", "client_secret": "s",
        "authorization_url": format!("{}/authorize", issuer.url), "token_url": format!("{}/token", issuer.url),
    }})
}

#[tokio::test]
async fn an_issuer_that_is_discovered_has_to_be_on_the_list() {
    let ground = Ground::new().await;
    let (good, other) = (Issuer::start().await, Issuer::start().await);
    let hawser = allowing(&ground, &json!({"acme": [good.url]})).await;
    let mcp = register(&hawser, "wiki", &other.mcp_url(), oauth()).await;
    let page = Browser::new()
        .start(&consent_url(&hawser, &mcp, "ada").await)
        .await;
    assert_eq!((page.status, page.location), (502, None));
    assert_eq!(asked(&other), Vec::<String>::new());

    let mcp = register(&hawser, "docs", &good.mcp_url(), oauth()).await;
    consent(&good, &consent_url(&hawser, &mcp, "ada").await).await;

    // Nothing is said of other tenants.
    let manifest = json!({"type": "mcp-server/remote", "name": "wiki", "description": "d",
                          "url": other.mcp_url(), "auth_data": {"type": "oauth2"}});
    let made = hawser
        .admin("globex")
        .put(MCP, json!({"manifest": manifest}))
        .await;
    let mcp = made.json()["data"]["id"].as_str().unwrap().to_owned();
    let asked = hawser
        .admin("globex")
        .get(&format!("{MCP}/{mcp}/authorize"))
        .await;
    let url = asked.json()["authorization_endpoint"].clone();
    consent(&other, url.as_str().unwrap()).await;
}

#[tokio::test]
async fn consents_of_the_sibling_contracts_hold_to_the_list_too() {
    let other = Issuer::start().await;
    let list = AllowedIssuers::parse(r#"{"*":["https://login.example"]}"#).unwrap();
    let mail = json!({"display_name": "Mail", "mcp_url": other.mcp_url(), "oauth": {}});
    let hawser = Hawser::offering(&json!({"mail": mail}), |config| {
        config.allowed_issuers = list;
    })
    .await;
    let admin = hawser.admin("acme");
    let new = json!({"name": "wiki", "url": other.mcp_url(), "auth_type": "oauth",
                     "oauth_mode": "per_user_dynamic_client"});
    let made = admin.post("/v1/deepagents/mcp-servers", new).await;
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let provider = format!("/v1/deepagents/mcp-servers/{id}/oauth-provider");
    let refused = admin.post(&provider, json!({})).await;
    assert_eq!(refused.status, 400, "{refused:?}");
    assert_eq!(refused.json()["code"], "oauth_discovery_failed");
    let new = json!({"mcp_server": "mail", "access_type": "write", "auth_method": "oauth"});
    let refused = admin.post("/api/v1/mcp-servers", new).await;
    assert!(refused.status >= 400, "{refused:?}");
    assert_eq!(asked(&other), Vec::<String>::new());
}

#[tokio::test]
async fn configured_endpoints_are_judged_by_where_they_are() {
    let ground = Ground::new().await;
    let (good, other) = (Issuer::start().await, Issuer::start().await);
    let hawser = allowing(&ground, &json!({"acme": [format!("{}/", good.url)]})).await;
    let consents = configured(&other, "authorization_code");
    let mcp = register(&hawser, "wiki", &good.mcp_url(), consents).await;
    let page = Browser::new()
        .start(&consent_url(&hawser, &mcp, "ada").await)
        .await;
    assert_eq!((page.status, page.location), (502, None));

    let own = configured(&other, "client_credentials");
    let mcp = register(&hawser, "docs", &good.mcp_url(), own).await;
    let answer = ask(&user(&hawser, "ada"), &mcp).await;
    assert_eq!(
        answer.json()["error"]["data"]["reason"],
        "refresh_failed",
        "{answer:?}"
    );
    assert_eq!(asked(&other), Vec::<String>::new());

    // Where the browser or what ends would go elsewhere.
    for (i, member) in ["authorization_url", "revocation_url"].iter().enumerate() {
        let mut consents = configured(&good, "authorization_code");
        consents["auth_data"][member] = format!("{}/x", other.url).into();
        let mcp = register(&hawser, &format!("mixed-{i}"), &good.mcp_url(), consents).await;
        let page = Browser::new()
            .start(&consent_url(&hawser, &mcp, "ada").await)
            .await;
        assert_eq!((page.status, page.location), (502, None), "{member}");
    }
    assert_eq!(asked(&other), Vec::<String>::new());

    let consents = configured(&good, "authorization_code");
    let mcp = register(&hawser, "files", &good.mcp_url(), consents).await;
    let page = Browser::new()
        .start(&consent_url(&hawser, &mcp, "ada").await)
        .await;
    assert_eq!(page.status, 303, "{page:?}");
}

#[tokio::test]
async fn an_issuer_that_is_taken_off_the_list_gets_no_code() {
    let ground = Ground::new().await;
    let issuer = Issuer::start().await;
    let before = Hawser::on(ground.clone()).await;
    let mcp = register(&before, "wiki", &issuer.mcp_url(), oauth()).await;
    let mut browser = Browser::new();
    let at_issuer = browser
        .begin(&consent_url(&before, &mcp, "ada").await)
        .await;
    let back = issuer.approve(&at_issuer).await;
    let after = allowing(&ground, &json!({"acme": ["https://login.example"]})).await;
    let page = browser.open(&back.replace(&before.url, &after.url)).await;
    assert!(page.text.contains("did not succeed"), "{page:?}");
    assert_eq!(issuer.count("POST", "/token"), 0);
}

#[tokio::test]
async fn an_issuer_that_is_taken_off_the_list_refreshes_nothing_and_is_still_told_the_end() {
    let ground = Ground::new().await;
    let issuer = Issuer::start().await;
    let before = Hawser::by_hand(ground.clone()).await;
    let mcp = register(&before, "wiki", &issuer.mcp_url(), oauth()).await;
    consent(&issuer, &consent_url(&before, &mcp, "ada").await).await;
    let ada = user(&before, "ada");
    before.pass(3590);
    // The same process, as if its operator had started it anew.
    let list = AllowedIssuers::parse(r#"{"acme":[]}"#).unwrap();
    let clock = before.app.clock.clone();
    let after = Hawser::restarted(
        ground,
        |config| config.allowed_issuers = list,
        |app| app.clock = clock,
    )
    .await;
    let ada = after.with(ada.headers.clone());
    let answer = send(&ada, &mcp, &[MODERN], message("tools/list")).await;
    assert_eq!(
        answer.status, 200,
        "what is stored serves until its end: {answer:?}"
    );
    before.pass(60);
    let answer = ask(&ada, &mcp).await;
    assert_eq!(
        answer.json()["error"]["data"]["reason"],
        "refresh_failed",
        "{answer:?}"
    );
    assert_eq!(issuer.count("POST", "/token"), 1);
    let body = json!({"authSource": "oauth", "subjectId": "ada", "subjectType": "user"});
    let ended = after
        .admin("acme")
        .delete_with(&format!("{MCP}/{mcp}/auth"), body)
        .await;
    assert_eq!(ended.status, 200, "{ended:?}");
    after.run_workers().await;
    assert_eq!(issuer.live_tokens(), Vec::<String>::new());
}
