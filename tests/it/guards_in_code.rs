//! Guards in the code of operations, each by itself: in a state that only it notices. Behind most of them is a condition of
//! the table, which then refuses for as long as a process tries; so these processes try for a moment only.
//! tests/mutants/mutants.toml says which line each test is for.

use crate::harness::{self, Browser, Cut, Hawser, Page, ample, per_user};
use crate::issuer::{Fault, Gate};
use crate::refresh::{Ground, access, held_refresh, subject, tenant};
use hawser_core::domain::event::{Action, Who};
use hawser_core::domain::job::Work;
use hawser_core::domain::reason::Reason;
use hawser_core::domain::session::Phase;
use hawser_core::operations::grants::{self, GrantAccess, TokenRequirement};
use hawser_core::operations::scheduler::process;
use hawser_core::table::revocations::keys_of_lease;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

const MOMENT: Duration = Duration::from_millis(500);

async fn impatient() -> Ground {
    let store = harness::Ground::new().await;
    let hawser = Hawser::by_hand_changed(store, |app| app.keeping_limit = MOMENT).await;
    Ground::new(hawser).await
}

/// A browser that is back with a code, while the issuer holds its answer to the code back.
struct Exchange {
    gate: Arc<Gate>,
    back: JoinHandle<Page>,
}

impl Ground {
    async fn exchange(&self) -> Exchange {
        let (mut browser, callback) = self.approve("ada").await;
        let gate = Gate::closed();
        self.issuer.fault(Fault {
            hold: Some(gate.clone()),
            after: true,
            ..Fault::once("/token")
        });
        let back = tokio::spawn(async move { browser.open(&callback).await });
        gate.reached().await;
        Exchange { gate, back }
    }

    /// The issuer answers: nothing comes of the consent, and all that the issuer has given out is ended.
    async fn comes_to_nothing(&self, Exchange { gate, back }: Exchange) {
        gate.open();
        let page = back.await.unwrap();
        assert!(!is_connected(&page), "{page:?}");
        self.finish().await;
        assert_eq!(self.issuer.live_tokens(), Vec::<String>::new());
        assert_ne!(self.status("ada").await["status"], "authenticated");
    }

    /// Lets workers do what becomes due within a quarter of an hour.
    async fn finish(&self) {
        for _ in 0..8 {
            self.hawser.run_workers().await;
            self.hawser.pass(121);
        }
    }

    async fn revoke_all(&self) {
        let path = format!("/api/svc/v1/mcp/{}/auth/tokens", self.mcp);
        assert_eq!(self.hawser.admin("acme").delete(&path).await.status, 200);
    }

    /// Whether the deletion of the server goes on.
    async fn is_being_purged(&self) -> bool {
        let items = self.hawser.ground().items().await;
        items.iter().any(|item| item["entity"] == "tombstone")
    }
}

fn is_connected(page: &Page) -> bool {
    page.text.contains("is connected for")
}

#[tokio::test]
async fn a_disconnect_ends_the_consent_whose_code_is_being_exchanged() {
    let one = impatient().await;
    one.connect("ada").await;
    let exchange = one.exchange().await;
    assert_eq!(one.disconnect("ada").await, 200);
    one.comes_to_nothing(exchange).await;
}

/// Nobody has a grant, so nothing is kept for the subject: only the server has changed.
#[tokio::test]
async fn a_revoke_all_ends_the_consent_whose_code_is_being_exchanged() {
    let one = impatient().await;
    let exchange = one.exchange().await;
    one.revoke_all().await;
    one.comes_to_nothing(exchange).await;
}

/// It is written down, and reaches no server before the issuer answers.
#[tokio::test]
async fn an_offboarding_ends_the_consent_whose_code_is_being_exchanged() {
    let one = impatient().await;
    let exchange = one.exchange().await;
    let other = Hawser::by_hand(one.hawser.ground()).await;
    other.wire.arm(Some(Cut::Before(2)));
    let path = "/v1/subjects/user/ada/credentials";
    let answer = other.admin("acme").delete(path).await;
    assert!(answer.status >= 500, "{answer:?}");
    other.die().await;
    one.comes_to_nothing(exchange).await;
}

#[tokio::test]
async fn a_consent_that_was_ended_while_its_code_was_exchanged_stores_nothing() {
    let one = impatient().await;
    let exchange = one.exchange().await;
    let (table, acme) = (&one.hawser.app.table, tenant());
    let since = one.hawser.app.now().plus_seconds(-60);
    let ada = subject("ada");
    let all = table.sessions_since(&acme, one.id(), &ada, since, 10);
    let session = all.await.unwrap().remove(0);
    let ended = one.hawser.event(&acme, Action::SessionEnded);
    let failed = table.fail_session(&session, Phase::Exchanging, &ended);
    failed.await.unwrap();
    one.comes_to_nothing(exchange).await;
}

#[tokio::test]
async fn the_code_of_a_consent_from_before_a_disconnect_is_shown_to_nobody() {
    let one = impatient().await;
    one.connect("ada").await;
    let (mut browser, callback) = one.approve("ada").await;
    assert_eq!(one.disconnect("ada").await, 200);
    let asked = one.issuer.count("POST", "/token");
    assert!(!is_connected(&browser.open(&callback).await));
    assert_eq!(one.issuer.count("POST", "/token"), asked);
}

#[tokio::test]
async fn a_callback_is_taken_from_the_browser_that_began_only() {
    let one = impatient().await;
    let (mut browser, callback) = one.approve("ada").await;
    assert!(!is_connected(&Browser::new().open(&callback).await));
    assert_eq!(one.issuer.count("POST", "/token"), 0);
    assert!(is_connected(&browser.open(&callback).await));
}

/// The other process has not seen the lease for as long as one lasts.
#[tokio::test]
async fn a_refresh_by_another_process_is_waited_for() {
    let one = impatient().await;
    one.connect("ada").await;
    let (gate, refresh) = held_refresh(&one).await;
    let other = Hawser::by_hand(one.hawser.ground()).await;
    let (who, ada) = (Who::Operator, subject("ada"));
    let longer = TokenRequirement::ValidFor(100_000);
    let usable = grants::access(&other.app, &tenant(), &who, one.id(), &ada, longer, MOMENT).await;
    assert!(
        matches!(usable, Ok(GrantAccess::Unavailable(Reason::RefreshFailed))),
        "{usable:?}"
    );
    assert_eq!(one.refreshes(), 1);
    gate.open();
    refresh.await.unwrap().unwrap();
}

/// The stream brings it to a worker at once, and a clock may be fast.
#[tokio::test]
async fn a_revocation_waits_for_a_refresh_however_early_a_worker_comes() {
    let one = impatient().await;
    one.connect("ada").await;
    let (gate, refresh) = held_refresh(&one).await;
    assert_eq!(one.disconnect("ada").await, 200);
    let items = one.hawser.ground().items().await;
    let lease = items.iter().find(|item| item["entity"] == "revocation");
    let lease = lease.unwrap()["id"].as_str().unwrap();
    let keys = keys_of_lease(&tenant(), one.id(), &subject("ada"), lease);
    let found = one.hawser.app.table.read(keys).await.unwrap();
    let waiting = found.revocation_of_lease(&tenant(), one.id(), lease);
    let early = Work::Revocation(Box::new(waiting.unwrap().unwrap()));
    process(&one.hawser.app, &early, ample()).await.unwrap();
    assert_eq!(one.issuer.count("POST", "/revoke"), 0);
    gate.open();
    let _ = refresh.await.unwrap();
    one.finish().await;
    assert_eq!(one.issuer.live_tokens(), Vec::<String>::new());
}

/// As long as the issuer can still answer, what it answers can be written down: its revocation outlives an outage.
#[tokio::test]
async fn a_purge_waits_for_the_code_that_is_being_exchanged() {
    let one = impatient().await;
    let exchange = one.exchange().await;
    assert_eq!(one.delete().await, 200);
    one.hawser.run_workers().await;
    assert!(one.is_being_purged().await);
    one.issuer.fault(Fault {
        times: 6,
        ..Fault::answering("/revoke", 503)
    });
    one.comes_to_nothing(exchange).await;
    assert!(!one.is_being_purged().await);
}

#[tokio::test]
async fn a_purge_ends_after_the_last_revocation() {
    let one = impatient().await;
    one.connect("ada").await;
    one.issuer.fault(Fault {
        times: 4,
        ..Fault::answering("/revoke", 503)
    });
    assert_eq!(one.delete().await, 200);
    one.hawser.run_workers().await;
    assert!(one.is_being_purged().await, "its data key is needed");
    one.finish().await;
    assert!(!one.is_being_purged().await);
    assert_eq!(one.issuer.live_tokens(), Vec::<String>::new());
}

#[tokio::test]
async fn a_purge_deregisters_clients_until_the_issuer_does_it() {
    let one = impatient().await;
    one.connect("ada").await;
    let client = one.issuer.clients().remove(0);
    one.issuer.fault(Fault::answering(client.leak(), 503));
    assert_eq!(one.delete().await, 200);
    one.finish().await;
    assert_eq!(one.issuer.live_tokens(), Vec::<String>::new());
    assert!(one.is_being_purged().await);
    one.issuer.clear_faults();
    one.finish().await;
    assert_eq!(one.issuer.clients().len(), 0);
    assert!(!one.is_being_purged().await);
}

/// Workers rest: nothing is swept yet.
#[tokio::test]
async fn an_override_is_void_with_the_answer_to_a_revoke_all() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let server = admin.register("wiki", per_user(), &["ada"]).await;
    let path = server.paths()[0].clone();
    let status = async || -> Value {
        let of_ada = format!("{path}/auth/status?subjectId=ada&subjectType=user");
        admin.get(&of_ada).await.json()
    };
    assert_eq!(status().await["status"], "authenticated");
    let answer = admin.delete(&format!("{path}/auth/tokens")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let after = status().await;
    assert_eq!(after["reason"], "revoked", "{after}");
}

/// Workers rest: nothing is swept yet. Without the guard it would be taken for one that has only become old.
#[tokio::test]
async fn a_grant_is_gone_with_the_answer_to_a_revoke_all() {
    let one = impatient().await;
    one.connect("ada").await;
    one.revoke_all().await;
    assert_eq!(one.status("ada").await["reason"], "revoked");
    let usable = access(&one.hawser.app, one.id(), TokenRequirement::Valid).await;
    assert!(
        matches!(usable, Ok(GrantAccess::Unavailable(Reason::Revoked))),
        "{usable:?}"
    );
}
