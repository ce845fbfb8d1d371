//! What an identity provider says of the person of a login counts from the refresh on at which it says so, and for a day.

use crate::harness::{Ground, Hawser};
use crate::identity_provider::{CLIENT, Provider};
use crate::logins::*;
use serde_json::json;

struct Stage {
    hawser: Hawser,
    provider: Provider,
    tokens: Tokens,
}

impl Stage {
    /// Ada has signed in as an admin, and the provider gave a refresh token.
    async fn set() -> Self {
        let provider = Provider::start();
        let settings = provider.settings();
        let ground = Ground::new().await;
        let hawser = Hawser::by_hand_configured(ground, |config| config.sign_in = settings).await;
        let mut allowed = allowed(&hawser, "acme", "user:ada").await;
        allowed.provider_token = Some("provider-refresh".into());
        let tokens = signed_in_as(&hawser, allowed).await;
        Self {
            hawser,
            provider,
            tokens,
        }
    }

    /// From now on the provider says this of whom it is asked for.
    fn vouches_for(&self, subject: &str, roles: &[&str]) {
        let end = self.hawser.app.now().seconds() + 600;
        self.provider.vouches_for(Some(json!({
            "iss": self.provider.issuer, "aud": CLIENT, "sub": subject, "roles": roles, "exp": end,
        })));
    }

    async fn refresh(&mut self) {
        self.tokens = Tokens::of(&refresh(&self.hawser, &self.tokens.refresh).await);
    }

    /// Whether the token is that of an admin.
    async fn is_admin(&self) -> bool {
        let answer = self.tokens.caller(&self.hawser).get("/v1/audit").await;
        assert!([200, 403].contains(&answer.status), "{answer:?}");
        answer.status == 200
    }

    /// The refresh tokens that the provider was sent.
    fn sent(&self) -> Vec<String> {
        let asked = self.provider.asked().into_iter();
        asked.map(|form| form["refresh_token"].clone()).collect()
    }
}

#[tokio::test]
async fn roles_are_taken_anew_at_each_refresh() {
    let mut stage = Stage::set().await;
    assert!(stage.is_admin().await);
    stage.vouches_for("ada", &[]);
    let before = stage.tokens.clone();
    stage.refresh().await;
    assert!(!stage.is_admin().await);
    // A token from before the refresh is no better.
    stage.tokens.access = before.access;
    assert!(!stage.is_admin().await);
    for _ in 0..3 {
        stage.hawser.pass(20 * HOUR);
        stage.vouches_for("ada", &["admin"]);
        stage.refresh().await;
        assert!(stage.is_admin().await, "vouched for within a day");
    }
    let expected = ["", "-1", "-2", "-3"].map(|end| format!("provider-refresh{end}"));
    assert_eq!(stage.sent(), expected);
    stage.hawser.run_workers().await;
}

#[tokio::test]
async fn a_provider_that_vouches_no_longer_or_for_another_ends_the_login() {
    for other in [None, Some("eve")] {
        let stage = Stage::set().await;
        if let Some(subject) = other {
            stage.vouches_for(subject, &["admin"]);
        }
        let refused = refresh(&stage.hawser, &stage.tokens.refresh).await;
        is_refused(&refused, 400, "invalid_grant");
        assert!(!works(&stage.hawser, &stage.tokens).await);
        let ended = ends(&stage.hawser).await;
        assert_eq!(ended.len(), 1);
        assert_eq!(ended[0]["cause"], "not-vouched");
        let admin = stage.hawser.admin("acme");
        assert_eq!(listed(&admin).await.len(), 0);
    }
}

#[tokio::test]
async fn while_the_provider_is_away_roles_serve_for_a_day() {
    let mut stage = Stage::set().await;
    stage.vouches_for("ada", &["admin"]);
    stage.provider.is_away(true);
    stage.hawser.pass(DAY - 1);
    stage.refresh().await;
    assert!(stage.is_admin().await);
    stage.hawser.pass(1);
    assert!(!stage.is_admin().await);
    stage.refresh().await;
    assert!(!stage.is_admin().await);
    stage.provider.is_away(false);
    stage.vouches_for("ada", &["admin"]);
    stage.refresh().await;
    assert!(stage.is_admin().await);
}

#[tokio::test]
async fn a_provider_that_names_nobody_is_asked_again_by_the_token_that_it_gave() {
    let mut stage = Stage::set().await;
    stage.vouches_for("ada", &["admin"]);
    stage.provider.is_nameless(true);
    stage.refresh().await;
    assert!(stage.is_admin().await, "what it said before stands");
    stage.hawser.pass(DAY);
    stage.refresh().await;
    assert!(!stage.is_admin().await, "but for a day alone");
    stage.provider.is_nameless(false);
    stage.vouches_for("ada", &["admin"]);
    stage.refresh().await;
    assert!(stage.is_admin().await);
    let expected = ["", "-1", "-2"].map(|end| format!("provider-refresh{end}"));
    assert_eq!(stage.sent(), expected);
}

#[tokio::test]
async fn of_two_refreshes_at_once_one_asks_the_provider() {
    let mut stage = Stage::set().await;
    for round in 1..=10 {
        stage.vouches_for("ada", &["admin"]);
        let all = [0; 4].map(|_| refresh(&stage.hawser, &stage.tokens.refresh));
        let all = futures_util::future::join_all(all).await;
        let all: Vec<_> = all.iter().map(Tokens::of).collect();
        assert!(all.iter().all(|one| one.refresh == all[0].refresh));
        assert_eq!(stage.sent().len(), round);
        stage.tokens = all[0].clone();
    }
    assert!(stage.is_admin().await);
}
