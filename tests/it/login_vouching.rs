//! What an identity provider says of the person of a login counts from the refresh on at which it says so, and for a day.

use crate::harness::{Cut, Ground, Hawser};
use crate::identity_provider::{CLIENT, Provider};
use crate::logins::*;
use crate::upstream::soon;
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
        let hawser = provider.hawser(&Ground::new().await).await;
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

/// The application goes on with the token that a repetition gave it, while the first refresh still waits for the provider, which
/// takes each of its tokens once.
#[tokio::test]
async fn a_refresh_while_another_one_asks_the_provider_does_not_ask_it_too() {
    let mut stage = Stage::set().await;
    stage.vouches_for("ada", &[]);
    stage.provider.holds(true);
    let (first, hawser) = (stage.tokens.refresh.clone(), &stage.hawser);
    let going_on = async {
        stage.provider.is_reached().await;
        let second = Tokens::of(&refresh(hawser, &first).await);
        let third = Tokens::of(&soon(refresh(hawser, &second.refresh)).await);
        let last = Tokens::of(&soon(refresh(hawser, &third.refresh)).await);
        stage.provider.holds(false);
        (second, last)
    };
    let (asking, (second, last)) = tokio::join!(refresh(hawser, &first), going_on);
    assert_eq!(Tokens::of(&asking).refresh, second.refresh);
    assert_eq!(stage.sent(), ["provider-refresh"]);
    // What it said counts, although the login was refreshed twice meanwhile; and the next one to ask asks by what it gave.
    stage.tokens = last;
    assert!(!stage.is_admin().await);
    stage.vouches_for("ada", &["admin"]);
    stage.refresh().await;
    assert!(stage.is_admin().await);
    assert_eq!(stage.sent(), ["provider-refresh", "provider-refresh-1"]);
    stage.hawser.run_workers().await;
}

/// Whoever was to ask the provider has died before it could: the stage, and whether a lease is there.
async fn left_behind() -> (Stage, impl AsyncFn() -> bool) {
    let stage = Stage::set().await;
    stage.vouches_for("ada", &["admin"]);
    let ground = stage.hawser.ground();
    let leased = async move || {
        let items = ground.items().await;
        items.iter().any(|item| item["lease"].is_string())
    };
    let mut k = 0;
    while !leased().await {
        stage.hawser.wire.arm(Some(Cut::After(k)));
        let answer = refresh(&stage.hawser, &stage.tokens.refresh).await;
        assert!(answer.status >= 500, "{answer:?}");
        k += 1;
    }
    (stage, leased)
}

#[tokio::test]
async fn a_lease_that_a_process_sees_for_long_is_taken_over() {
    let (stage, leased) = left_behind().await;
    let next = stage.provider.hawser(&stage.hawser.ground()).await;
    // Its answer was lost; it is the same line of tokens.
    let mut tokens = Tokens::of(&refresh(&next, &stage.tokens.refresh).await);
    for pass in [0, 19] {
        next.pass(pass);
        tokens = Tokens::of(&refresh(&next, &tokens.refresh).await);
        assert_eq!(stage.sent().len(), 0, "somebody may be asking");
    }
    next.pass(1);
    Tokens::of(&refresh(&next, &tokens.refresh).await);
    assert_eq!(stage.sent(), ["provider-refresh"]);
    assert!(!leased().await);
}

#[tokio::test]
async fn a_lease_from_long_ago_is_taken_over_at_first_sight() {
    let (stage, leased) = left_behind().await;
    let start = async || stage.provider.hawser(&stage.hawser.ground()).await;
    let next = start().await;
    let tokens = Tokens::of(&refresh(&next, &stage.tokens.refresh).await);
    let tokens = Tokens::of(&refresh(&next, &tokens.refresh).await);
    assert_eq!(stage.provider.described(), 0, "somebody may be asking");
    let late = start().await;
    late.pass(600);
    stage.provider.is_away(true);
    let tokens = Tokens::of(&refresh(&late, &tokens.refresh).await);
    assert_eq!(stage.provider.described(), 1);
    assert!(!leased().await, "it is given back where nothing was said");
    stage.provider.is_away(false);
    Tokens::of(&refresh(&late, &tokens.refresh).await);
    assert_eq!(stage.sent(), ["provider-refresh"]);
}

/// A provider that does not answer is asked by one of those who wait for it, and the others go on by what was known.
#[tokio::test]
async fn a_provider_that_is_away_is_asked_for_its_metadata_by_one_at_a_time() {
    let stage = Stage::set().await;
    let hawser = &stage.hawser;
    let mut all = vec![stage.tokens.clone()];
    for user in ["bob", "eve", "dan", "fay", "gus", "hal", "ida"] {
        let mut allowed = allowed(hawser, "acme", &format!("user:{user}")).await;
        allowed.provider_token = Some("provider-refresh".into());
        all.push(signed_in_as(hawser, allowed).await);
    }
    stage.vouches_for("ada", &["admin"]);
    refresh(hawser, &all.remove(0).refresh).await;
    hawser.pass(300);
    stage.provider.is_away(true);
    stage.provider.holds(true);
    let before = stage.provider.described();
    let refreshes = all.iter().map(|tokens| refresh(hawser, &tokens.refresh));
    let waiting = async {
        let leases = async || {
            let items = hawser.ground().items().await;
            items
                .iter()
                .filter(|item| item["lease"].is_string())
                .count()
        };
        while leases().await < all.len() {}
        stage.provider.holds(false);
    };
    let (answers, ()) = tokio::join!(futures_util::future::join_all(refreshes), waiting);
    for answer in &answers {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let asked = stage.provider.described() - before;
    assert!((1..=2).contains(&asked), "{asked}");
}

/// Nobody waits for a provider that does not answer as long as what it has said of itself lately serves.
#[tokio::test]
async fn a_provider_that_is_away_is_asked_for_its_metadata_again_after_a_while() {
    let mut stage = Stage::set().await;
    stage.vouches_for("ada", &["admin"]);
    stage.refresh().await;
    stage.hawser.pass(300);
    stage.provider.is_away(true);
    let before = stage.provider.described();
    for _ in 0..3 {
        stage.refresh().await;
    }
    assert_eq!(stage.provider.described() - before, 1);
    stage.hawser.pass(9);
    stage.refresh().await;
    assert_eq!(stage.provider.described() - before, 1);
    stage.hawser.pass(1);
    stage.refresh().await;
    assert_eq!(stage.provider.described() - before, 2);
    stage.provider.is_away(false);
    stage.hawser.pass(10);
    stage.refresh().await;
    assert_eq!(stage.provider.described() - before, 3);
    assert!(stage.is_admin().await);
    // A day after it was last read it serves no more.
    stage.hawser.pass(DAY);
    stage.provider.is_away(true);
    stage.refresh().await;
    stage.refresh().await;
    assert_eq!(stage.provider.described() - before, 5);
}

/// The store is away while the provider says that it does not let the person in any more.
#[tokio::test]
async fn that_a_provider_vouches_no_longer_is_stored_when_the_store_is_back() {
    let stage = Stage::set().await;
    stage.provider.holds(true);
    let (hawser, provider) = (&stage.hawser, &stage.provider);
    let going_on = async {
        provider.is_reached().await;
        hawser.wire.arm(Some(Cut::Away(0, 3)));
        provider.holds(false);
    };
    let (refused, ()) = tokio::join!(refresh(hawser, &stage.tokens.refresh), going_on);
    is_refused(&refused, 400, "invalid_grant");
    assert!(hawser.wire.sent().len() > 3, "the store was away");
    assert!(!works(hawser, &stage.tokens).await);
    assert_eq!(ends(hawser).await[0]["cause"], "not-vouched");
    hawser.run_workers().await;
}

/// What a provider says of roles counts from when it was asked.
#[tokio::test]
async fn a_slow_answer_makes_roles_no_younger() {
    let mut stage = Stage::set().await;
    stage.vouches_for("ada", &["admin"]);
    stage.provider.holds(true);
    let (hawser, provider) = (&stage.hawser, &stage.provider);
    let going_on = async {
        provider.is_reached().await;
        hawser.pass(60);
        provider.holds(false);
    };
    let (next, ()) = tokio::join!(refresh(hawser, &stage.tokens.refresh), going_on);
    stage.tokens = Tokens::of(&next);
    stage.hawser.pass(DAY - 61);
    stage.provider.is_away(true);
    stage.refresh().await;
    assert!(stage.is_admin().await);
    stage.hawser.pass(1);
    assert!(!stage.is_admin().await);
}
