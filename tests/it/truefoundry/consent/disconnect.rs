//! Disconnecting a subject.

use super::{Stage, assert_nobody_says_revoked};
use crate::issuer::{Fault, Gate};
use serde_json::json;

#[tokio::test]
async fn a_disconnect_voids_consents_that_are_pending() {
    let stage = Stage::set().await;
    let (mut browser, back) = stage.approved("ada").await;
    stage.connect("ada").await;
    stage.disconnect("ada").await;
    let page = browser.open(&back).await;
    assert_eq!((page.status, page.location), (400, None), "{}", page.text);
    assert_eq!(stage.reason("ada").await, "revoked");
    assert_eq!(stage.issuer.count("POST", "/token"), 1, "the grant's own");
    stage.hawser.run_workers().await;
    assert_eq!(stage.issuer.live_tokens().len(), 0);
    stage.connect("ada").await;
}

#[tokio::test]
async fn tokens_that_arrive_after_the_disconnect_are_revoked() {
    let stage = Stage::set().await;
    let (mut browser, back) = stage.approved("ada").await;
    let first = stage.connect("ada").await;
    let gate = Gate::closed();
    stage.issuer.fault(Fault {
        hold: Some(gate.clone()),
        after: true,
        ..Fault::once("/token")
    });
    let receipt = async {
        gate.reached().await;
        let receipt = stage.disconnect("ada").await;
        gate.open();
        receipt
    };
    let (page, receipt) = tokio::join!(browser.open(&back), receipt);
    assert!(
        page.text.contains("changed or disconnected meanwhile"),
        "{page:?}"
    );
    assert_eq!(stage.issuer.issued().len(), 2);
    stage.hawser.run_workers().await;
    assert_eq!(stage.issuer.live_tokens().len(), 0);
    stage.assert_dead(&first);
    assert_eq!(stage.reason("ada").await, "revoked");
    let receipt = stage.receipt(&receipt).await;
    assert_eq!(
        (&receipt["state"], &receipt["outcomes"]),
        (&json!("complete"), &json!({"revoked": 1}))
    );
}

#[tokio::test]
async fn a_disconnect_revokes_one_family_the_refresh_token_first() {
    let stage = Stage::set().await;
    let ada = stage.connect("ada").await;
    let others = [stage.connect("bob").await, stage.connect("eve").await];
    let receipt = stage.disconnect("ada").await;
    let before = stage.receipt(&receipt).await;
    assert_nobody_says_revoked(&before);
    assert_eq!(
        before["removed"],
        json!({"oauthRecords": 1, "overrides": 0})
    );
    assert_eq!(stage.reason("ada").await, "revoked");
    stage.assert_alive(&ada);

    stage.hawser.run_workers().await;
    stage.assert_dead(&ada);
    for other in &others {
        stage.assert_alive(other);
        stage.assert_connected(&other.subject).await;
    }
    let after = stage.receipt(&receipt).await;
    assert_eq!(
        (&after["state"], &after["outcomes"]),
        (&json!("complete"), &json!({"revoked": 1}))
    );
    let presented = after["presented"].as_array().unwrap();
    assert_eq!(presented.len(), 2);
    for (one, token) in presented.iter().zip(["refresh_token", "access_token"]) {
        let at = one["at"].as_str().unwrap();
        let expected = json!({"token": token, "host": "127.0.0.1", "httpStatus": 200, "outcome": "revoked",
                              "attempts": 1, "at": at});
        assert_eq!(*one, expected);
    }
    assert_eq!(stage.hints(), ["refresh_token", "access_token"]);
    assert!(!after.to_string().contains(&ada.access));
    assert!(!after.to_string().contains(ada.refresh.as_ref().unwrap()));
}
