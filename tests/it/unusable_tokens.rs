//! Tokens that no header can carry: refused where they come from, and revoked, instead of stored.

use crate::harness::{Browser, Hawser};
use crate::issuer::{Fault, Issuer};
use crate::upstream::{
    MODERN, consent, consent_url, is_served, message, oauth, register, send, user,
};
use serde_json::{Value, json};

const MCP: &str = "/api/svc/v1/mcp";

const UNUSABLE: [&str; 7] = [
    "at\r\nX-Other: 1",
    "at\nX-Other: 1",
    "at\r",
    "at\u{0}",
    "at\u{7f}",
    "tokén",
    " at",
];

/// An answer of the token endpoint with this access token.
fn granting(access: &str, refresh: Option<&str>) -> Fault {
    let mut body = json!({"access_token": access, "token_type": "Bearer", "expires_in": 3600});
    if let Some(refresh) = refresh {
        body["refresh_token"] = refresh.into();
    }
    Fault {
        status: Some(200),
        headers: vec![("content-type", "application/json".to_owned())],
        body: body.to_string(),
        ..Fault::once("/token")
    }
}

/// What was presented for revocation.
fn presented(issuer: &Issuer) -> Vec<String> {
    let log = issuer.log();
    let revocations = log.iter().filter(|one| one.path == "/revoke");
    revocations.filter_map(|one| one.field("token")).collect()
}

async fn status(hawser: &Hawser, mcp: &str, name: &str) -> Value {
    let path = format!("{MCP}/{mcp}/auth/status?subjectId={name}&subjectType=user");
    hawser.admin("acme").get(&path).await.json()
}

#[tokio::test]
async fn unusable_tokens_of_an_exchange_are_revoked_and_the_consent_fails() {
    let hawser = Hawser::start().await;
    let issuer = Issuer::start().await;
    let mcp = register(&hawser, "wiki", &issuer.mcp_url(), oauth()).await;
    for (i, token) in UNUSABLE.into_iter().enumerate() {
        let name = format!("u{i}");
        let mut browser = Browser::new();
        let at_issuer = browser
            .begin(&consent_url(&hawser, &mcp, &name).await)
            .await;
        let back = issuer.approve(&at_issuer).await;
        issuer.clear_log();
        issuer.fault(granting(token, Some("rt-1")));
        let page = browser.open(&back).await;
        assert!(page.text.contains("did not succeed"), "{token:?}: {page:?}");
        let status = status(&hawser, &mcp, &name).await;
        assert_eq!(status["reason"], "never_connected", "{token:?}: {status}");
        hawser.run_workers().await;
        assert_eq!(presented(&issuer), ["rt-1", token], "{token:?}");
        let items = hawser.ground().items().await;
        assert!(
            items.iter().all(|item| item["entity"] != "grant"),
            "{token:?}"
        );
    }
    consent(&issuer, &consent_url(&hawser, &mcp, "ada").await).await;
    is_served(&user(&hawser, "ada"), &mcp).await;
}

#[tokio::test]
async fn unusable_tokens_of_a_refresh_are_revoked_and_what_serves_is_kept() {
    for (token, refresh) in [
        ("at\r\nX-Other: 1", Some("rt-2")),
        ("at\n", None),
        ("\u{0}", Some("rt-2")),
    ] {
        let hawser = Hawser::start_by_hand().await;
        let issuer = Issuer::start().await;
        let mcp = register(&hawser, "wiki", &issuer.mcp_url(), oauth()).await;
        consent(&issuer, &consent_url(&hawser, &mcp, "ada").await).await;
        let ada = user(&hawser, "ada");
        hawser.pass(3590);
        issuer.clear_log();
        issuer.fault(granting(token, refresh));
        let first = issuer.issued().pop().unwrap();
        // It was early: what is stored serves until its end.
        let answer = send(&ada, &mcp, &[MODERN], message("tools/list")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        hawser.run_workers().await;
        // Where a refresh token goes on serving the access token is left to expire: to some issuers its end is the end of both.
        assert_eq!(presented(&issuer), [""; 0], "{token:?}");
        assert!(issuer.is_active(&first.access), "{token:?}");
        let connected = json!({"status": "authenticated", "method": "oauth"});
        assert_eq!(status(&hawser, &mcp, "ada").await, connected, "{token:?}");
        // The next refresh is after a pause, and with the refresh token that came beside it, if one did.
        hawser.pass(60);
        issuer.clear_log();
        let answer = send(&ada, &mcp, &[MODERN], message("tools/list")).await;
        let log = issuer.log();
        let asked = log.iter().find(|one| one.path == "/token").unwrap();
        let serves = refresh.map(str::to_owned).or(first.refresh);
        assert_eq!(asked.field("refresh_token"), serves, "{token:?}");
        if refresh.is_none() {
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_ne!(issuer.issued().pop().unwrap().access, first.access);
        }
    }
}
