//! The ends of logins with the process dying at every request to the store: what was answered as done is done, and what is done is
//! told once.

use crate::harness::{Answer, Cut, Ground, Hawser, ample};
use crate::identity_provider::{CLIENT, Provider};
use crate::login_endings::{WAYS, end};
use crate::logins::*;
use hawser_core::operations::scheduler::process_due;
use serde_json::{Value, json};

type At = fn(usize) -> Cut;
const CUTS: [At; 3] = [Cut::Before, Cut::After, Cut::Answer];

/// Ends that nobody asks for, and their causes: the token endpoint finds a reason, and says that the grant is not good.
const FOUND: [(&str, &str); 2] = [
    ("by an old refresh token", "refresh-token-reused"),
    ("by its code", "code-reused"),
];

/// A login, and what it can be ended by.
struct Doomed {
    tokens: Tokens,
    id: String,
    code: String,
    /// A refresh token of it that is over for good.
    old: String,
}

/// What the provider gives for the last refresh of a doomed login.
const GIVEN: &str = "provider-refresh-2";

impl Doomed {
    async fn begin(hawser: &Hawser, provider: &Provider) -> Self {
        let mut allowed = allowed(hawser, "acme", "user:ada").await;
        allowed.identity.roles.clear();
        allowed.provider_token = Some("provider-refresh".into());
        let end = hawser.app.now().seconds() + DAY;
        provider.vouches_for(Some(json!({
            "iss": provider.issuer, "aud": CLIENT, "sub": "ada", "exp": end,
        })));
        let code = code(hawser, allowed).await;
        let first = Tokens::of(&redeem(hawser, &code).await);
        let old = first.refresh.clone();
        let second = Tokens::of(&refresh(hawser, &first.refresh).await);
        let tokens = Tokens::of(&refresh(hawser, &second.refresh).await);
        let id = only(&tokens.caller(hawser)).await;
        Self {
            tokens,
            id,
            code,
            old,
        }
    }

    /// Ends it, or tries to.
    async fn end(&self, hawser: &Hawser, how: &str) -> Answer {
        match how {
            "by an old refresh token" => refresh(hawser, &self.old).await,
            "by its code" => redeem(hawser, &self.code).await,
            _ => end(hawser, how, &self.id, &self.tokens).await,
        }
    }
}

async fn logins(ground: &Ground) -> Vec<Value> {
    let mut items = ground.items().await;
    items.retain(|item| item["SK"].as_str().unwrap().starts_with("LOGIN"));
    items
}

/// Ends a login with the wire cut at a request, restarts, and sees that it has ended or not, wholly. Returns whether the cut
/// was reached.
async fn dies_at(how: &str, cause: &str, cut: Cut, k: usize) -> bool {
    let why = format!("{how} {cut:?}");
    let is_asked_for = WAYS.iter().any(|(one, _)| *one == how);
    let (ground, provider) = (Ground::new().await, Provider::start());
    let hawser = provider.hawser(&ground).await;
    let doomed = Doomed::begin(&hawser, &provider).await;
    let other = sign_in(&hawser, "user:bob").await;
    let before = logins(&ground).await;
    let done = if is_asked_for { 200 } else { 400 };
    hawser.wire.arm(Some(cut));
    let answer = doomed.end(&hawser, how).await;
    let reached = hawser.wire.sent().len() > k;
    hawser.die().await;

    let next = provider.hawser(&ground).await;
    // What was begun durably goes on without the call.
    while process_due(&next.app, ample()).await.unwrap() {}
    assert!(works(&next, &other).await, "{why}");
    let receipts = next.admin("acme").get("/v1/receipts").await.json();
    let receipts = receipts["data"].as_array().unwrap().len();
    let told = ends(&next).await;
    if works(&next, &doomed.tokens).await {
        assert!(reached && answer.status >= 500, "{why}: {answer:?}");
        assert_eq!((logins(&ground).await, told.len()), (before, 0), "{why}");
        assert_eq!(receipts, 0, "{why}");
        assert_eq!(provider.revoked(), Vec::<String>::new(), "{why}");
        let again = doomed.end(&next, how).await;
        assert_eq!(again.status, done, "{why}");
    } else {
        assert!(
            answer.status == done || answer.status >= 500,
            "{why}: {answer:?}"
        );
        assert_eq!(
            (receipts, told.len()),
            (usize::from(is_asked_for), 1),
            "{why}"
        );
        assert_eq!(told[0]["cause"], cause, "{why}");
        assert_eq!(logins(&ground).await.len(), 2, "{why}: item and pointer");
    }
    assert!(!works(&next, &doomed.tokens).await, "{why}");
    next.run_workers().await;
    // In the end the provider knows as well.
    assert_eq!(provider.revoked(), [GIVEN], "{why}");
    reached
}

#[tokio::test]
async fn an_end_survives_a_crash_anywhere() {
    for (how, cause) in WAYS.into_iter().chain(FOUND) {
        for cut in CUTS {
            let mut k = 0;
            while dies_at(how, cause, cut(k), k).await {
                k += 1;
            }
            assert!(
                k > 1,
                "{how}: an end reads and writes, which is not {k} requests"
            );
        }
    }
}

/// The provider vouches for nobody any more, and the process dies on the way to ending the login.
#[tokio::test]
async fn an_end_by_the_provider_survives_a_crash_anywhere() {
    for cut in CUTS {
        for k in 0.. {
            let (ground, provider) = (Ground::new().await, Provider::start());
            let hawser = provider.hawser(&ground).await;
            let mut allowed = allowed(&hawser, "acme", "user:ada").await;
            allowed.provider_token = Some("provider-refresh".into());
            let tokens = signed_in_as(&hawser, allowed).await;
            hawser.wire.arm(Some(cut(k)));
            let answer = refresh(&hawser, &tokens.refresh).await;
            let reached = hawser.wire.sent().len() > k;
            hawser.die().await;

            let next = provider.hawser(&ground).await;
            let why = format!("{:?}: {answer:?}", cut(k));
            if works(&next, &tokens).await {
                assert!(reached && answer.status >= 500, "{why}");
                // Not told that it is over, the application goes on, and the provider is asked by the next refresh, once the one
                // that has died can be asking no more.
                let mut last = refresh(&next, &tokens.refresh).await;
                if last.status == 200 {
                    next.pass(600);
                    last = refresh(&next, &Tokens::of(&last).refresh).await;
                }
                is_refused(&last, 400, "invalid_grant");
            }
            assert!(!works(&next, &tokens).await, "{why}");
            let told = ends(&next).await;
            assert_eq!(
                (told.len(), &told[0]["cause"]),
                (1, &"not-vouched".into()),
                "{why}"
            );
            assert_eq!(logins(&ground).await, Vec::<Value>::new(), "{why}");
            next.run_workers().await;
            assert_eq!(provider.revoked(), ["provider-refresh"], "{why}");
            if !reached {
                assert!(k > 3, "{k} requests");
                break;
            }
        }
    }
}

#[tokio::test]
async fn tokens_that_are_asked_for_while_the_process_dies_are_one_line_of_tokens() {
    for cut in [Cut::Before as fn(usize) -> Cut, Cut::After, Cut::Answer] {
        for k in 0.. {
            let ground = Ground::new().await;
            let hawser = Hawser::on(ground.clone()).await;
            let code = code(&hawser, allowed(&hawser, "acme", "user:ada").await).await;
            hawser.wire.arm(Some(cut(k)));
            let redeemed = redeem(&hawser, &code).await;
            let mut reached = hawser.wire.sent().len() > k;
            hawser.wire.arm(None);
            if redeemed.status != 200 {
                // Nothing begun, or a login whose tokens nobody got, which ends when the code comes again.
                redeem(&hawser, &code).await;
            }
            let tokens = sign_in(&hawser, "user:bob").await;
            hawser.wire.arm(Some(cut(k)));
            let first = refresh(&hawser, &tokens.refresh).await;
            reached |= hawser.wire.sent().len() > k;
            hawser.die().await;
            let next = Hawser::on(ground.clone()).await;
            assert!([200, 503, 500].contains(&first.status), "{first:?}");
            // Its answer was lost, or it was not carried out: asking again helps either way.
            let again = Tokens::of(&refresh(&next, &tokens.refresh).await);
            if first.status == 200 {
                assert_eq!(again.refresh, Tokens::of(&first).refresh);
            }
            let last = Tokens::of(&refresh(&next, &again.refresh).await);
            assert!(works(&next, &last).await);
            next.run_workers().await;
            if !reached {
                assert!(k > 2);
                break;
            }
        }
    }
}
