//! One consent is open at a time.

use super::{MCP, Stage, address};
use crate::harness::{Browser, Hawser};
use serde_json::json;
use std::collections::BTreeSet;

#[tokio::test]
async fn who_retries_gets_one_consent_and_is_not_locked_out() {
    let stage = Stage::set().await;
    let ada = stage.user("ada");
    let proxy = format!("/mcp/{}", stage.id);
    let message =
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "x"}});
    let mut addresses = BTreeSet::new();
    for _ in 0..25 {
        addresses.insert(crate::upstream::told(&ada.post(&proxy, message.clone()).await).unwrap());
    }
    // The person's own click on Connect, whatever it returns to.
    addresses.insert(stage.endpoint("ada").await);
    assert_eq!(addresses.len(), 1);
    assert_eq!(stage.sessions().await, 1);
    let begun = stage.events().await;
    assert_eq!(begun.len(), 1, "{begun:?}");
    // Others have their own.
    assert!(!addresses.contains(&stage.endpoint("bob").await));
    // And so has another server.
    let page = stage.connect("ada").await;
    assert!(page.text.contains("wiki is connected for ada."), "{page:?}");

    // Many at once.
    let calls = (0..12).map(|_| {
        let (eve, proxy, message) = (stage.user("eve"), proxy.clone(), message.clone());
        tokio::spawn(async move { eve.post(&proxy, message).await })
    });
    let mut addresses = BTreeSet::new();
    for call in calls.collect::<Vec<_>>() {
        // Whoever lost every race gets it with the next try.
        addresses.extend(crate::upstream::told(&call.await.unwrap()));
    }
    assert_eq!(addresses.len(), 1);
    assert_eq!(stage.sessions().await, 3, "ada's, bob's, eve's");
}

#[tokio::test]
async fn only_presses_count_against_the_limit() {
    let stage = Stage::by_hand().await;
    let mut browser = Browser::new();
    for _ in 0..20 {
        browser.begin(&stage.endpoint("ada").await).await;
    }
    let endpoint = stage.endpoint("ada").await;
    assert_eq!(stage.endpoint("ada").await, endpoint);
    let refused = browser.start(&endpoint).await;
    assert_eq!((refused.status, refused.location), (429, None));
    assert!(
        refused.text.contains("Wait ten minutes"),
        "{}",
        refused.text
    );
    // Nobody else is held up, nor is ada for longer than that.
    browser.begin(&stage.endpoint("bob").await).await;
    stage.hawser.pass(599);
    let endpoint = stage.endpoint("ada").await;
    stage.hawser.pass(2);
    browser.begin(&endpoint).await;
}

#[tokio::test]
async fn an_address_lives_on_while_it_is_asked_for_and_not_for_ever() {
    let stage = Stage::by_hand().await;
    let first = stage.endpoint("ada").await;
    stage.hawser.pass(299);
    assert_eq!(stage.endpoint("ada").await, first);
    stage.hawser.pass(300);
    assert_eq!(stage.endpoint("ada").await, first, "just before its end");
    stage.hawser.pass(599);
    let mut browser = Browser::new();
    let page = browser.open(&first).await;
    assert_eq!(page.status, 200, "it had its whole time again");
    stage.hawser.pass(1);
    assert_eq!(browser.press(&first, &page).await.status, 400);
    let mut address = stage.endpoint("ada").await;
    assert_ne!(address, first);
    // At most an hour.
    let (start, mut lived) = (address.clone(), 0);
    while address == start {
        stage.hawser.pass(300);
        lived += 300;
        assert!(lived <= 3600, "{lived}");
        address = stage.endpoint("ada").await;
    }
    assert!(lived > 3000, "{lived}");
    assert_eq!(stage.sessions().await, 3);
}

#[tokio::test]
async fn an_address_returns_where_it_was_last_asked_to() {
    let origins = vec!["https://app.example".to_owned()];
    let hawser = Hawser::start_with(|app| app.return_origins = origins).await;
    let stage = Stage::on(hawser).await;
    let path = format!("{MCP}/{}/authorize", stage.id);
    let ada = stage.user("ada");
    let plain = stage.endpoint("ada").await;
    let query = "redirectURL=https%3A%2F%2Fapp.example%2Fdone";
    assert_eq!(address(&ada.get(&format!("{path}?{query}")).await), plain);
    assert_eq!(
        stage.endpoint("ada").await,
        plain,
        "which keeps what is known"
    );
    let mut browser = Browser::new();
    let at_issuer = browser.begin(&plain).await;
    let page = browser.open(&stage.issuer.approve(&at_issuer).await).await;
    assert_eq!(page.status, 303);
    assert!(
        page.location
            .unwrap()
            .starts_with("https://app.example/done?")
    );
}
