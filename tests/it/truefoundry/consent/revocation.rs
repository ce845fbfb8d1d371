//! Revoking at an issuer that is down, refuses, or has no such endpoint.

use super::{Stage, assert_nobody_says_revoked};
use crate::issuer::Fault;
use serde_json::json;

#[tokio::test]
async fn an_issuer_that_is_down_is_asked_again_until_it_answers() {
    let (stage, [ada]) = Stage::with_issuer_down(["ada"]).await;
    let receipt = stage.disconnect("ada").await;
    stage.hawser.run_workers().await;
    assert_eq!(
        stage.reason("ada").await,
        "revoked",
        "the disconnect waits for nobody"
    );
    assert_eq!(
        stage.hints(),
        ["refresh_token", "access_token"],
        "each on its own"
    );
    assert_nobody_says_revoked(&stage.receipt(&receipt).await);
    stage.assert_alive(&ada);

    stage.hawser.pass(4);
    stage.hawser.run_workers().await;
    assert_eq!(stage.hints().len(), 2, "it is left alone for a while");
    stage.hawser.pass(60);
    stage.hawser.run_workers().await;
    assert_eq!(stage.hints().len(), 4);
    assert_nobody_says_revoked(&stage.receipt(&receipt).await);

    stage.issuer.clear_faults();
    stage.hawser.pass(600);
    stage.hawser.run_workers().await;
    stage.assert_dead(&ada);
    let after = stage.receipt(&receipt).await;
    assert_eq!(
        (&after["state"], &after["outcomes"]),
        (&json!("complete"), &json!({"revoked": 1}))
    );
    let both = ["refresh_token", "access_token"];
    let expected = both.map(|token| (token.to_owned(), Some(200), "revoked".to_owned()));
    assert_eq!(stage.presented(&receipt).await, expected);
    assert_eq!(after["presented"][0]["attempts"], 3);
}

#[tokio::test]
async fn an_hour_of_503_costs_few_attempts_and_loses_nothing() {
    let (stage, _) = Stage::with_issuer_down(["ada", "bob", "eve"]).await;
    let one = stage.disconnect("ada").await;
    let all = stage.revoke_all().await;
    let all = all.header("hawser-receipt").unwrap();
    for _ in 0..60 {
        stage.hawser.run_workers().await;
        for receipt in [&one, &all] {
            let receipt = stage.receipt(receipt).await;
            assert_nobody_says_revoked(&receipt);
            assert_eq!(receipt["state"], "in_progress");
        }
        stage.hawser.pass(60);
    }
    assert_eq!(stage.issuer.live_tokens().len(), 6);
    // Pauses of 5, 20, 80, 320, 1280 seconds and a part more.
    let asked = stage.hints().len();
    assert!((3 * 2 * 4..=3 * 2 * 6).contains(&asked), "{asked}");
    stage.issuer.clear_faults();
    stage.hawser.pass(4500);
    stage.hawser.run_workers().await;
    assert_eq!(stage.issuer.live_tokens().len(), 0);
    for (receipt, grants) in [(&one, 1), (&all, 2)] {
        let receipt = stage.receipt(receipt).await;
        assert_eq!(
            (&receipt["state"], &receipt["outcomes"]),
            (&json!("complete"), &json!({"revoked": grants}))
        );
    }
}

#[tokio::test]
async fn a_connection_that_is_dropped_proves_nothing_whichever_side_of_the_work() {
    for after in [false, true] {
        let stage = Stage::by_hand().await;
        let ada = stage.connect("ada").await;
        stage.hawser.pass(1);
        stage.issuer.fault(Fault {
            drop: true,
            after,
            times: 4,
            ..Fault::once("/revoke")
        });
        let receipt = stage.disconnect("ada").await;
        for _ in 0..2 {
            stage.hawser.run_workers().await;
            let receipt = stage.receipt(&receipt).await;
            assert_nobody_says_revoked(&receipt);
            assert_eq!(receipt["state"], "in_progress", "{after}");
            stage.hawser.pass(30);
        }
        stage.hawser.run_workers().await;
        stage.assert_dead(&ada);
        let receipt = stage.receipt(&receipt).await;
        assert_eq!(
            (&receipt["state"], &receipt["outcomes"]),
            (&json!("complete"), &json!({"revoked": 1}))
        );
        assert_eq!(receipt["presented"][0]["attempts"], 3);
        assert_eq!(stage.hints().len(), 6);
    }
}

#[tokio::test]
async fn an_issuer_that_is_down_for_a_day_has_failed() {
    let (stage, [ada]) = Stage::with_issuer_down(["ada"]).await;
    let receipt = stage.disconnect("ada").await;
    for _ in 0..23 {
        stage.hawser.run_workers().await;
        assert_nobody_says_revoked(&stage.receipt(&receipt).await);
        stage.hawser.pass(3600);
    }
    stage.hawser.run_workers().await;
    assert_nobody_says_revoked(&stage.receipt(&receipt).await);
    stage.hawser.pass(2 * 3600);
    stage.hawser.run_workers().await;
    let after = stage.receipt(&receipt).await;
    assert_eq!(
        (&after["state"], &after["outcomes"]),
        (&json!("complete"), &json!({"failed": 1}))
    );
    let (token, _, outcome) = &stage.presented(&receipt).await[0];
    assert_eq!(
        (token.as_str(), outcome.as_str()),
        ("refresh_token", "failed")
    );
    assert!(!after.to_string().contains("\"revoked\""), "{after}");
    stage.assert_alive(&ada);
    stage.issuer.clear_faults();
    let asked = stage.hints().len();
    stage.hawser.pass(24 * 3600);
    stage.hawser.run_workers().await;
    assert_eq!(stage.hints().len(), asked, "its tokens are erased");
}

#[tokio::test]
async fn no_revocation_endpoint_is_unsupported_and_nothing_better() {
    let stage = Stage::set().await;
    stage.issuer.configure(|s| s.revocation = false);
    let ada = stage.connect("ada").await;
    let receipt = stage.disconnect("ada").await;
    stage.hawser.run_workers().await;
    let after = stage.receipt(&receipt).await;
    assert_eq!(
        (&after["state"], &after["outcomes"]),
        (&json!("complete"), &json!({"unsupported": 1}))
    );
    let both = ["refresh_token", "access_token"];
    let expected = both.map(|token| (token.to_owned(), None, "unsupported".to_owned()));
    assert_eq!(stage.presented(&receipt).await, expected);
    assert!(!after.to_string().contains("\"revoked\""), "{after}");
    assert_eq!(stage.reason("ada").await, "revoked");
    stage.assert_alive(&ada);
}

#[tokio::test]
async fn revocation_needs_no_metadata_any_more() {
    let stage = Stage::set().await;
    let ada = stage.connect("ada").await;
    stage
        .issuer
        .fault(Fault::answering("oauth-authorization-server", 503));
    let receipt = stage.disconnect("ada").await;
    stage.hawser.run_workers().await;
    stage.assert_dead(&ada);
    assert_eq!(
        stage.receipt(&receipt).await["outcomes"],
        json!({"revoked": 1})
    );
}

#[tokio::test]
async fn a_client_that_is_refused_three_times_has_failed() {
    let stage = Stage::by_hand().await;
    let ada = stage.connect("ada").await;
    stage.hawser.pass(1);
    let body = r#"{"error":"invalid_client"}"#.to_owned();
    stage.issuer.fault(Fault {
        status: Some(400),
        body,
        ..Fault::always("/revoke")
    });
    let receipt = stage.disconnect("ada").await;
    for attempt in 1..=3 {
        assert_nobody_says_revoked(&stage.receipt(&receipt).await);
        stage.hawser.run_workers().await;
        assert_eq!(stage.hints().len(), 2 * attempt);
        stage.hawser.pass(200);
    }
    let after = stage.receipt(&receipt).await;
    assert_eq!(
        (&after["state"], &after["outcomes"]),
        (&json!("complete"), &json!({"failed": 1}))
    );
    let both = ["refresh_token", "access_token"];
    let expected = both.map(|token| (token.to_owned(), Some(400), "failed".to_owned()));
    assert_eq!(stage.presented(&receipt).await, expected);
    stage.assert_alive(&ada);
}

#[tokio::test]
async fn an_access_token_that_cannot_be_revoked_does_not_spoil_the_outcome() {
    let stage = Stage::set().await;
    let refused = (400, r#"{"error":"unsupported_token_type"}"#.to_owned());
    stage
        .issuer
        .configure(|s| s.access_revocation_error = Some(refused));
    let ada = stage.connect("ada").await;
    let receipt = stage.disconnect("ada").await;
    stage.hawser.run_workers().await;
    assert_eq!(
        stage.receipt(&receipt).await["outcomes"],
        json!({"revoked": 1})
    );
    let expected = [
        ("refresh_token".to_owned(), Some(200), "revoked".to_owned()),
        (
            "access_token".to_owned(),
            Some(400),
            "unsupported".to_owned(),
        ),
    ];
    assert_eq!(stage.presented(&receipt).await, expected);
    stage.assert_dead(&ada);
}
