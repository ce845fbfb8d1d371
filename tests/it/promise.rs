//! What was ended stays ended and nothing lives on untold, where answers are lost, processes die or wait at the worst moment.

use crate::harness::{Cut, Hawser};
use crate::issuer::{Fault, Gate};
use crate::refresh::{Ground, access, dies_while_refreshing, held_refresh, subject, tenant, token};
use hawser_core::domain::event::Action;
use hawser_core::operations::grants::TokenRequirement;
use hawser_core::table::credentials::record_keys;
use serde_json::{Value, json};
use std::time::Duration;

const MOMENT: Duration = Duration::from_secs(30);

impl Ground {
    /// The only receipt that there is.
    async fn receipt(&self) -> Value {
        let listed = self.hawser.admin("acme").get("/v1/receipts").await.json();
        assert_eq!(listed["data"].as_array().unwrap().len(), 1, "{listed}");
        listed["data"][0].clone()
    }

    /// Processes everything that is or becomes due within minutes.
    async fn run_workers(&self) {
        for _ in 0..4 {
            self.hawser.run_workers().await;
            self.hawser.pass(61);
        }
    }

    /// Nothing that the issuer has given out works, and the receipt says this of its one grant.
    async fn ended_as(&self, outcome: &str) {
        self.run_workers().await;
        let receipt = self.receipt().await;
        let expected = json!({outcome: 1});
        assert_eq!(
            (&receipt["state"], &receipt["outcomes"]),
            (&json!("complete"), &expected),
            "{receipt}"
        );
        assert_eq!(self.issuer.live_tokens(), Vec::<String>::new(), "{receipt}");
    }
}

async fn ground() -> Ground {
    Ground::new(Hawser::start_by_hand().await).await
}

#[tokio::test]
async fn tokens_that_come_after_the_disconnect_are_on_its_receipt() {
    for rotate in [true, false] {
        let one = ground().await;
        one.issuer.configure(|s| s.rotate = rotate);
        one.connect("ada").await;
        let (gate, refresh) = held_refresh(&one).await;
        assert_eq!(one.disconnect("ada").await, 200);
        one.hawser.run_workers().await;
        let receipt = one.receipt().await;
        assert_eq!(
            (&receipt["state"], &receipt["outcomes"]),
            (&json!("in_progress"), &Value::Null),
            "nothing is claimed while an answer may come"
        );
        assert_eq!(one.issuer.count("POST", "/revoke"), 0);
        gate.open();
        refresh.await.unwrap().unwrap();
        one.ended_as("revoked").await;
        let presented = one.receipt().await["presented"].clone();
        let tokens = if rotate { 4 } else { 3 };
        assert_eq!(presented.as_array().unwrap().len(), tokens, "{presented}");
    }
}

#[tokio::test]
async fn a_disconnect_after_a_refresher_died_says_what_can_be_known() {
    // Nobody was asked: the refresh is done once more, and all that there ever was is revoked.
    let one = ground().await;
    one.connect("ada").await;
    one.issuer.fault(Fault {
        drop: true,
        ..Fault::once("/token")
    });
    dies_while_refreshing(&one).await;
    assert_eq!(one.disconnect("ada").await, 200);
    one.ended_as("revoked").await;

    // The issuer has rotated, and nobody has what it gave out.
    let one = ground().await;
    one.connect("ada").await;
    dies_while_refreshing(&one).await;
    assert_eq!(one.issuer.issued().len(), 2);
    assert_eq!(one.disconnect("ada").await, 200);
    one.ended_as("unknown").await;
    let presented = one.receipt().await["presented"].clone();
    assert_eq!(presented.as_array().unwrap().len(), 2, "{presented}");

    // It goes on taking the same refresh token.
    let one = ground().await;
    one.issuer.configure(|s| s.rotate = false);
    one.connect("ada").await;
    dies_while_refreshing(&one).await;
    assert_eq!(one.disconnect("ada").await, 200);
    one.ended_as("revoked").await;
}

#[tokio::test]
async fn the_doubt_outlives_a_refresh_that_is_refused() {
    let one = ground().await;
    one.connect("ada").await;
    dies_while_refreshing(&one).await;
    one.access(TokenRequirement::Valid).await;
    one.hawser.pass(20);
    one.access(TokenRequirement::ValidFor(100_000)).await;
    one.hawser.run_workers().await;
    assert_eq!(one.disconnect("ada").await, 200);
    one.ended_as("unknown").await;

    // Without a lost answer there is none.
    let one = ground().await;
    one.connect("ada").await;
    one.issuer.fault(Fault {
        status: Some(400),
        body: r#"{"error":"invalid_grant"}"#.to_owned(),
        ..Fault::once("/token")
    });
    one.access(TokenRequirement::ValidFor(100_000)).await;
    one.hawser.run_workers().await;
    assert_eq!(one.disconnect("ada").await, 200);
    one.ended_as("alreadyInvalid").await;
}

#[tokio::test]
async fn an_answer_lost_on_its_way_from_the_issuer_leaves_a_doubt_too() {
    for lost in [
        Fault {
            drop: true,
            after: true,
            ..Fault::once("/token")
        },
        Fault {
            status: Some(502),
            after: true,
            ..Fault::once("/token")
        },
        Fault {
            status: Some(200),
            body: r#"{"access_token":"at"#.to_owned(),
            after: true,
            ..Fault::once("/token")
        },
    ] {
        let one = ground().await;
        one.connect("ada").await;
        one.issuer.fault(lost);
        one.access(TokenRequirement::ValidFor(100_000)).await;
        assert_eq!(one.issuer.issued().len(), 2);
        assert_eq!(one.disconnect("ada").await, 200);
        one.ended_as("unknown").await;
    }
}

#[tokio::test]
async fn a_deletion_and_a_revoke_all_wait_for_a_refresh_as_a_disconnect_does() {
    for all in [true, false] {
        let one = ground().await;
        one.connect("ada").await;
        let (gate, refresh) = held_refresh(&one).await;
        let path = format!("/api/svc/v1/mcp/{}", one.mcp);
        let path = if all {
            format!("{path}/auth/tokens")
        } else {
            path
        };
        assert_eq!(one.hawser.admin("acme").delete(&path).await.status, 200);
        one.hawser.run_workers().await;
        assert_eq!(one.receipt().await["state"], "in_progress");
        gate.open();
        let _ = refresh.await.unwrap();
        one.ended_as("revoked").await;
    }
}

#[tokio::test]
async fn a_lease_taken_since_it_was_read_is_not_overlooked() {
    let one = ground().await;
    one.connect("ada").await;
    let (table, acme) = (&one.hawser.app.table, tenant());
    let keys = record_keys(&acme, one.id(), &subject("ada"));
    let read = table.read(keys.into()).await.unwrap();
    let grant = read.grant(&acme, one.id(), &subject("ada"));
    let grant = grant.unwrap().unwrap();
    let until = one.hawser.app.now().plus_seconds(20);
    let taken = table.lease_grant(&acme, &grant, "01LEASE", until);
    assert!(taken.await.unwrap());
    let again = table.lease_grant(&acme, &grant, "01OTHER", until);
    assert!(!again.await.unwrap(), "one at a time");
    // What ends a grant has to know of the lease.
    let event = one.hawser.event(&acme, Action::CredentialRemoved);
    let revocation =
        hawser_core::domain::revocation::Revocation::of(&acme, &grant, None, until).unwrap();
    let group = [(Box::new(grant), revocation, event)];
    assert!(!table.end_remaining_grants(&group).await.unwrap());
}

/// What may end a grant while it is refreshed.
#[derive(Clone, Copy, Debug)]
enum Meets {
    Disconnect,
    Consent,
    RevokeAll,
}

#[tokio::test]
async fn a_lost_read_after_a_refused_write_leaks_nothing() {
    for meets in [Meets::Disconnect, Meets::Consent, Meets::RevokeAll] {
        for (lost, requests) in [(0, 0), (1, 0), (2, 0), (0, 3), (1, 4)] {
            let why = format!("{meets:?} {lost} {requests}");
            let one = ground().await;
            one.connect("ada").await;
            let (gate, refresh) = held_refresh(&one).await;
            match meets {
                Meets::Disconnect => assert_eq!(one.disconnect("ada").await, 200),
                Meets::Consent => one.connect("ada").await,
                Meets::RevokeAll => {
                    let path = format!("/api/svc/v1/mcp/{}/auth/tokens", one.mcp);
                    assert_eq!(one.hawser.admin("acme").delete(&path).await.status, 200);
                }
            }
            one.hawser.wire.arm(Some(Cut::Away(lost, requests)));
            gate.open();
            let _ = refresh.await.unwrap();
            one.hawser.app.tasks.finish(MOMENT).await;
            one.hawser.wire.arm(None);
            one.run_workers().await;
            let live = one.issuer.live_tokens().len();
            let expected = if matches!(meets, Meets::Consent) {
                2
            } else {
                0
            };
            assert_eq!(live, expected, "{why}");
            if expected > 0 {
                let usable = one.access(TokenRequirement::Valid).await;
                assert!(one.issuer.is_active(token(&usable)), "{why}");
            }
        }
    }
}

#[tokio::test]
async fn a_refresh_survives_the_store_being_away_at_any_moment() {
    let mut k = 0;
    loop {
        let one = ground().await;
        one.connect("ada").await;
        one.hawser.wire.arm(Some(Cut::Away(k, 3)));
        let _ = access(
            &one.hawser.app,
            one.id(),
            TokenRequirement::ValidFor(100_000),
        )
        .await;
        one.hawser.app.tasks.finish(MOMENT).await;
        let reached = one.hawser.wire.sent().len() > k;
        one.hawser.wire.arm(None);
        // Unless nobody was asked, a lease is left for a while.
        one.access(TokenRequirement::Valid).await;
        one.hawser.pass(20);
        let usable = one.access(TokenRequirement::ValidFor(100_000)).await;
        assert!(one.issuer.is_active(token(&usable)), "{k}");
        assert_eq!(one.issuer.families_killed(), 0, "{k}");
        one.hawser.run_workers().await;
        if !reached {
            break;
        }
        k += 1;
    }
    assert!(k >= 3, "{k}");
}

#[tokio::test]
async fn a_consent_survives_the_store_being_away_at_any_moment() {
    let mut k = 0;
    loop {
        let one = ground().await;
        let (mut browser, callback) = one.approve("ada").await;
        one.hawser.wire.arm(Some(Cut::Away(k, 3)));
        let page = browser.open(&callback).await;
        one.hawser.app.tasks.finish(MOMENT).await;
        let reached = one.hawser.wire.sent().len() > k;
        one.hawser.wire.arm(None);
        one.run_workers().await;
        let connected = one.status("ada").await["status"] == "authenticated";
        assert_eq!(
            page.text.contains("is connected for"),
            connected,
            "{k} {page:?}"
        );
        let live = one.issuer.live_tokens().len();
        assert_eq!(live, if connected { 2 } else { 0 }, "{k}");
        if !one.issuer.issued().is_empty() {
            assert!(connected, "{k}: what was exchanged is kept");
        }
        if !reached {
            break;
        }
        k += 1;
    }
    assert!(k >= 5, "{k}");
}

#[tokio::test]
async fn a_caller_who_goes_takes_no_tokens_along() {
    let one = ground().await;
    one.connect("ada").await;
    let (gate, refresh) = held_refresh(&one).await;
    refresh.abort();
    assert!(refresh.await.unwrap_err().is_cancelled());
    gate.open();
    one.hawser.app.tasks.finish(MOMENT).await;
    assert_eq!(one.issuer.issued().len(), 2);
    let usable = one.access(TokenRequirement::ValidFor(100_000)).await;
    assert!(one.issuer.is_active(token(&usable)));
    assert_eq!(one.issuer.families_killed(), 0);
}

#[tokio::test]
async fn a_browser_that_goes_takes_no_tokens_along() {
    let one = ground().await;
    let (mut browser, callback) = one.approve("ada").await;
    let gate = Gate::closed();
    one.issuer.fault(Fault {
        hold: Some(gate.clone()),
        after: true,
        ..Fault::once("/token")
    });
    let browser = tokio::spawn(async move { browser.open(&callback).await });
    gate.reached().await;
    browser.abort();
    assert!(browser.await.unwrap_err().is_cancelled());
    gate.open();
    while one.status("ada").await["status"] != "authenticated" {
        tokio::task::yield_now().await;
    }
    let usable = one.access(TokenRequirement::Valid).await;
    assert!(one.issuer.is_active(token(&usable)));
}

#[tokio::test]
async fn a_frozen_refresher_presents_nothing_that_a_standing_grant_uses() {
    let one = ground().await;
    one.issuer.configure(|s| s.rotate = false);
    one.connect("ada").await;
    let (gate, refresh) = held_refresh(&one).await;
    // Another process takes over, and wins.
    let other = Hawser::by_hand(one.hawser.ground()).await;
    let sees = access(&other.app, one.id(), TokenRequirement::Valid)
        .await
        .unwrap();
    other.pass(20);
    let won = access(&other.app, one.id(), TokenRequirement::ValidFor(100_000))
        .await
        .unwrap();
    assert_ne!(token(&sees), token(&won));
    gate.open();
    let late = refresh.await.unwrap().unwrap();
    assert_eq!(token(&late), token(&won), "what is stored");
    one.run_workers().await;
    assert_eq!(one.issuer.count("POST", "/revoke"), 0);
    let usable = access(&other.app, one.id(), TokenRequirement::ValidFor(200_000))
        .await
        .unwrap();
    assert!(one.issuer.is_active(token(&usable)), "it lives on");
    assert_eq!(one.disconnect("ada").await, 200);
    one.ended_as("revoked").await;
}

#[tokio::test]
async fn a_clock_that_is_wrong_lets_no_second_refresh_begin() {
    for skew in [25, 3000, -3600] {
        let one = ground().await;
        one.connect("ada").await;
        let (gate, refresh) = held_refresh(&one).await;
        let other = Hawser::by_hand(one.hawser.ground()).await;
        other.pass(skew);
        let usable = access(&other.app, one.id(), TokenRequirement::Valid)
            .await
            .unwrap();
        assert!(
            one.issuer.is_active(token(&usable)),
            "the token that there is"
        );
        assert_eq!(one.refreshes(), 1, "{skew}");
        other.pass(19);
        access(&other.app, one.id(), TokenRequirement::Valid)
            .await
            .unwrap();
        assert_eq!(one.refreshes(), 1, "{skew}");
        gate.open();
        refresh.await.unwrap().unwrap();
        assert_eq!(one.issuer.families_killed(), 0, "{skew}");
    }
}
