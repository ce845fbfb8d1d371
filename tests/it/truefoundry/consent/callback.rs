//! The browser comes back from the issuer.

use super::{APP, Stage};
use crate::harness::{Browser, Hawser};
use crate::issuer::Fault;
use url::Url;

fn parameter(url: &str, name: &str) -> Option<String> {
    let url = Url::parse(url).unwrap();
    let mut all = url.query_pairs().filter(|(n, _)| n == name);
    all.next().map(|(_, value)| value.into_owned())
}

#[tokio::test]
async fn the_browser_goes_back_with_status_and_reason() {
    let hawser = Hawser::start_with(|app| app.return_origins = vec![APP.to_owned()]).await;
    let stage = Stage::on(hawser).await;
    let query = "?redirectURL=https%3A%2F%2Fapp.example%2Fdone%3Fx%3D1%2526";
    let id = &stage.id;

    let mut browser = Browser::new();
    let at_issuer = browser.begin(&stage.endpoint("ada", query).await).await;
    let denied = browser.open(&stage.issuer.deny(&at_issuer).await).await;
    let to = format!(
        "{APP}/done?x=1%26&mcpServerId={id}&status=authentication_required&reason=consent_denied"
    );
    assert_eq!((denied.status, denied.location), (303, Some(to)));

    let at_issuer = browser.begin(&stage.endpoint("ada", query).await).await;
    let approved = browser.open(&stage.issuer.approve(&at_issuer).await).await;
    let to = format!("{APP}/done?x=1%26&mcpServerId={id}&status=authenticated");
    assert_eq!((approved.status, approved.location), (303, Some(to)));
}

#[tokio::test]
async fn a_denial_is_kept_until_there_is_a_grant_and_harms_none() {
    let stage = Stage::set().await;
    let mut browser = Browser::new();
    let at_issuer = browser.begin(&stage.endpoint("ada", "").await).await;
    let page = browser.open(&stage.issuer.deny(&at_issuer).await).await;
    assert!(
        page.text.contains("Access to wiki was declined."),
        "{page:?}"
    );
    assert!(!page.text.contains(crate::issuer::FOREIGN), "{page:?}");
    assert_eq!(stage.reason("ada").await, "consent_denied");
    assert_eq!(stage.reason("bob").await, "never_connected");

    let at_issuer = browser.begin(&stage.endpoint("ada", "").await).await;
    let first = stage.connect("ada").await;
    stage.assert_connected("ada").await;
    browser.open(&stage.issuer.deny(&at_issuer).await).await;
    stage.assert_connected("ada").await;
    stage.hawser.run_workers().await;
    stage.assert_alive(&first);

    stage.disconnect("ada").await;
    assert_eq!(stage.reason("ada").await, "revoked");
    let at_issuer = browser.begin(&stage.endpoint("ada", "").await).await;
    browser.open(&stage.issuer.deny(&at_issuer).await).await;
    assert_eq!(
        stage.reason("ada").await,
        "consent_denied",
        "the latest event"
    );
}

#[tokio::test]
async fn a_consent_that_fails_otherwise_changes_no_reason() {
    let stage = Stage::set().await;
    stage.connect("ada").await;
    stage.disconnect("ada").await;
    for break_it in [
        Fault {
            status: Some(400),
            body: r#"{"error":"invalid_grant"}"#.to_owned(),
            ..Fault::once("/token")
        },
        Fault {
            status: Some(500),
            ..Fault::once("/token")
        },
        Fault {
            drop: true,
            ..Fault::once("/token")
        },
    ] {
        let (mut browser, back) = stage.approved("ada").await;
        stage.issuer.fault(break_it);
        let page = browser.open(&back).await;
        assert_eq!(page.status, 200);
        assert!(page.text.contains("did not succeed"), "{page:?}");
        assert_eq!(stage.reason("ada").await, "revoked");
        assert_eq!(browser.open(&back).await.status, 400, "a code serves once");
    }
    stage
        .issuer
        .configure(|s| s.wrong_iss = Some("https://evil.example".to_owned()));
    let before = stage.issuer.count("POST", "/token");
    for deny in [false, true] {
        let mut browser = Browser::new();
        let at_issuer = browser.begin(&stage.endpoint("ada", "").await).await;
        let back = match deny {
            false => stage.issuer.approve(&at_issuer).await,
            true => stage.issuer.deny(&at_issuer).await,
        };
        assert_eq!(parameter(&back, "iss").unwrap(), "https://evil.example");
        browser.open(&back).await;
        assert_eq!(stage.reason("ada").await, "revoked", "denied: {deny}");
    }
    assert_eq!(stage.issuer.count("POST", "/token"), before);
}

#[tokio::test]
async fn consenting_again_revokes_the_grant_that_is_replaced() {
    let stage = Stage::set().await;
    let again = stage.approved("ada").await;
    let first = stage.connect("ada").await;
    let second = stage.finish(again).await;
    assert_ne!(first.access, second.access);
    stage.hawser.run_workers().await;
    stage.assert_dead(&first);
    stage.assert_alive(&second);
    stage.assert_connected("ada").await;
    stage.disconnect("ada").await;
    stage.hawser.run_workers().await;
    assert_eq!(stage.issuer.live_tokens().len(), 0);
}
