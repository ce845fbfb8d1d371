//! Clients that their issuer has forgotten.

use super::{MCP, Stage, says_why};
use crate::harness::Browser;

/// Sends a user to an issuer that does not send it back.
async fn leave(stage: &Stage, user: &str) {
    let at_issuer = Browser::new().begin(&stage.endpoint(user).await).await;
    let page = reqwest::get(at_issuer).await.unwrap();
    assert_eq!(page.status(), 400, "the issuer does not know the client");
}

#[tokio::test]
async fn a_client_that_was_forgotten_is_registered_anew_when_its_subject_comes_back() {
    let stage = Stage::set().await;
    stage.connect("ada").await;
    stage.issuer.forget_clients();
    leave(&stage, "bob").await;
    let page = stage.connect("bob").await;
    assert!(page.text.contains("<h1>Connected</h1>"), "{page:?}");
    assert_eq!(stage.issuer.clients().len(), 1);
    // From now on everybody uses that one.
    for user in ["eve", "dan"] {
        assert!(
            stage
                .connect(user)
                .await
                .text
                .contains("<h1>Connected</h1>")
        );
    }
    assert_eq!(stage.issuer.clients().len(), 1);
}

#[tokio::test]
async fn a_client_is_doubted_after_ten_minutes_without_an_answer_and_not_before() {
    let stage = Stage::by_hand().await;
    stage.connect("ada").await;
    stage.hawser.pass(1);
    let first = stage.issuer.clients();
    stage.issuer.forget_clients();
    leave(&stage, "bob").await;
    stage.hawser.pass(599);
    leave(&stage, "eve").await;
    stage.hawser.pass(1);
    let page = stage.connect("dan").await;
    assert!(page.text.contains("<h1>Connected</h1>"), "{page:?}");
    assert_ne!(stage.issuer.clients(), first);
}

#[tokio::test]
async fn who_only_changes_their_mind_costs_no_client_where_others_succeed() {
    let stage = Stage::by_hand().await;
    stage.connect("ada").await;
    let known = stage.issuer.clients();
    // Bob goes away, and another one comes to an end as the same client.
    let mut browser = Browser::new();
    browser.begin(&stage.endpoint("bob").await).await;
    stage.hawser.pass(1);
    stage.connect("eve").await;
    stage.hawser.pass(700);
    browser.begin(&stage.endpoint("bob").await).await;
    stage.connect("dan").await;
    assert_eq!(stage.issuer.clients(), known);
    // One that never served anyone is not replaced again and again.
    let fresh = Stage::by_hand().await;
    for _ in 0..5 {
        browser.begin(&fresh.endpoint("bob").await).await;
    }
    assert_eq!(fresh.issuer.clients().len(), 1);
}

#[tokio::test]
async fn an_issuer_that_refuses_the_client_gets_another_at_the_next_try() {
    let stage = Stage::set().await;
    let mut browser = Browser::new();
    let back = {
        let at_issuer = browser.begin(&stage.endpoint("ada").await).await;
        stage.issuer.approve(&at_issuer).await
    };
    stage.issuer.forget_clients();
    let page = browser.open(&back).await;
    says_why(&stage, &page, "client_refused").await;
    assert!(
        stage
            .connect("ada")
            .await
            .text
            .contains("<h1>Connected</h1>")
    );
}

#[tokio::test]
async fn a_revoke_all_makes_the_next_consent_register_anew() {
    let stage = Stage::set().await;
    stage.connect("ada").await;
    stage.issuer.forget_clients();
    let revoked = stage
        .admin
        .delete(&format!("{MCP}/{}/auth/tokens", stage.id))
        .await;
    assert_eq!(revoked.status, 200);
    assert!(
        stage
            .connect("bob")
            .await
            .text
            .contains("<h1>Connected</h1>")
    );
    assert_eq!(stage.issuer.clients().len(), 1);
}
