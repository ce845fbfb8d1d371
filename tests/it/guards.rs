//! Each condition of the transactions that end or begin something, by itself: with a state that the caller has not seen, nothing
//! is written. docs/RELIABILITY.md lists which test is for which condition.

use crate::harness::{Hawser, ample, per_user};
use crate::scene::Scene;
use hawser_core::domain::credential::{Credential, Grant};
use hawser_core::domain::event::Action;
use hawser_core::domain::id::Sortable;
use hawser_core::domain::idempotency::Keyed;
use hawser_core::domain::job::{Offboarding, Work};
use hawser_core::domain::reason::Reason;
use hawser_core::domain::receipt::Receipt;
use hawser_core::domain::revocation::{Revocation, RevocationOutcome};
use hawser_core::domain::session::{Phase, Session};
use hawser_core::operations::scheduler::process;
use hawser_core::table::credentials::WriteOutcome;
use hawser_core::table::reasons::StoredReason;
use hawser_core::table::revocations::Discarded;
use serde_json::json;

#[tokio::test]
async fn a_grant_is_stored_at_the_count_of_removals_that_its_consent_began_at() {
    let scene = Scene::new().await;
    let early = scene.session("exchanging").await;
    let other = scene.session("exchanging").await;
    assert_eq!(scene.put(&other, "v1").await, WriteOutcome::Done);
    scene.disconnect().await;
    assert_eq!(scene.put(&early, "v2").await, WriteOutcome::RecordMoved);
    assert!(scene.grant().await.is_none());
}

#[tokio::test]
async fn a_grant_is_stored_at_the_count_of_offboardings_that_its_consent_began_at() {
    let scene = Scene::new().await;
    let mut session = scene.session("exchanging").await;
    scene.offboard_in_part().await;
    assert_eq!(scene.put(&session, "v1").await, WriteOutcome::RecordMoved);
    session.offboardings = 1;
    assert_eq!(scene.put(&session, "v1").await, WriteOutcome::Done);
}

#[tokio::test]
async fn a_grant_is_stored_while_its_consent_is_exchanged_only() {
    for phase in ["offered", "pending", "completed", "failed"] {
        let scene = Scene::new().await;
        let session = scene.session(phase).await;
        assert_eq!(
            scene.put(&session, "v1").await,
            WriteOutcome::RecordMoved,
            "{phase}"
        );
        assert!(scene.grant().await.is_none(), "{phase}");
    }
}

#[tokio::test]
async fn a_grant_is_stored_at_the_auth_revision_of_its_consent_only() {
    let scene = Scene::new().await;
    let session = scene.session("exchanging").await;
    let path = format!("/api/svc/v1/mcp/{}/auth/tokens", scene.mcp);
    assert_eq!(scene.hawser.admin("acme").delete(&path).await.status, 200);
    assert_eq!(scene.put(&session, "v1").await, WriteOutcome::ServerMoved);
    scene.delete().await;
    assert_eq!(scene.put(&session, "v1").await, WriteOutcome::ServerMoved);
}

#[tokio::test]
async fn a_refusal_is_kept_at_the_count_of_removals_that_its_consent_began_at() {
    let scene = Scene::new().await;
    let refused = scene.session("exchanging").await;
    let other = scene.session("exchanging").await;
    assert_eq!(scene.put(&other, "v1").await, WriteOutcome::Done);
    scene.disconnect().await;
    assert!(!scene.deny(&refused).await);
}

#[tokio::test]
async fn a_refusal_is_kept_at_the_count_of_offboardings_that_its_consent_began_at() {
    let scene = Scene::new().await;
    let mut refused = scene.session("exchanging").await;
    scene.offboard_in_part().await;
    assert!(!scene.deny(&refused).await);
    refused.offboardings = 1;
    assert!(scene.deny(&refused).await);
}

#[tokio::test]
async fn a_callback_claims_a_consent_of_a_server_that_stands_only() {
    let scene = Scene::new().await;
    let (first, second) = (
        scene.session("pending").await,
        scene.session("pending").await,
    );
    let until = scene.hawser.app.now().plus_seconds(60);
    let event = scene.event(Action::SessionAnswered);
    let table = &scene.hawser.app.table;
    assert!(table.claim_session(&first, until, &event).await.unwrap());
    let event = scene.event(Action::SessionAnswered);
    assert!(
        !table.claim_session(&first, until, &event).await.unwrap(),
        "once"
    );
    scene.delete().await;
    let event = scene.event(Action::SessionAnswered);
    assert!(!table.claim_session(&second, until, &event).await.unwrap());
}

#[tokio::test]
async fn a_tombstone_stays_for_what_was_added_since_it_was_read() {
    let scene = Scene::new().await;
    scene.delete().await;
    let table = &scene.hawser.app.table;
    let read = table
        .tombstone(&scene.tenant, scene.id)
        .await
        .unwrap()
        .unwrap();
    table.count_on_tombstone(&read, ample()).await.unwrap();
    let read = table
        .tombstone(&scene.tenant, scene.id)
        .await
        .unwrap()
        .unwrap();
    let late = scene.revocation();
    let event = scene.event(Action::CredentialDiscarded);
    let added = table.discard_recovered(&late, &event).await.unwrap();
    assert_eq!(added, Discarded::Done);
    let event = scene.event(Action::ServerPurged);
    table.finish_purge(&read, &event).await.unwrap();
    let stands = table.tombstone(&scene.tenant, scene.id).await.unwrap();
    assert!(stands.is_some(), "its data key is needed");
    let event = scene.event(Action::ServerPurged);
    table.finish_purge(&stands.unwrap(), &event).await.unwrap();
    assert!(
        table
            .tombstone(&scene.tenant, scene.id)
            .await
            .unwrap()
            .is_none()
    );
    let event = scene.event(Action::CredentialDiscarded);
    let added = table.discard_recovered(&scene.revocation(), &event).await;
    assert_eq!(added.unwrap(), Discarded::NoKey);
}

#[tokio::test]
async fn a_purge_closes_the_receipt_of_a_sweep_that_it_takes_along() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let server = admin.register("wiki", per_user(), &["ada"]).await;
    let path = server.paths()[0].clone();
    let swept = admin.delete(&format!("{path}/auth/tokens")).await;
    let receipt = swept.header("hawser-receipt").unwrap();
    assert_eq!(admin.delete(&path).await.status, 200);
    // The purge comes first, and the sweep's own turn never.
    let due = hawser.due().await;
    let tombstone = due.iter().find(|work| matches!(work, Work::Tombstone(_)));
    process(&hawser.app, tombstone.unwrap(), ample())
        .await
        .unwrap();
    let receipt = admin.get(&format!("/v1/receipts/{receipt}")).await.json();
    assert_eq!(receipt["data"]["state"], "complete", "{receipt}");
}

#[tokio::test]
async fn nothing_is_counted_on_a_receipt_that_is_closed() {
    let scene = Scene::new().await;
    let path = "/v1/subjects/user/ada/credentials";
    let closed = scene.hawser.admin("acme").delete(path).await.json();
    let receipt = closed["data"]["id"].as_str().unwrap();
    let mut session = scene.session("exchanging").await;
    session.offboardings = 1;
    assert_eq!(scene.put(&session, "v1").await, WriteOutcome::Done);
    let grant = scene.grant().await.unwrap();
    let kept = StoredReason {
        subject: &scene.subject,
        reason: Reason::Revoked,
        at: scene.hawser.app.now(),
        auth_revision: 1,
    };
    let event = scene.event(Action::CredentialRemoved);
    let table = &scene.hawser.app.table;
    let credential = Credential::Grant(Box::new(grant));
    let removed =
        table.offboard_credential(&scene.tenant, scene.id, &credential, &kept, receipt, &event);
    assert_eq!(removed.await.unwrap(), WriteOutcome::ReceiptClosed);
    assert!(scene.grant().await.is_some());
}

#[tokio::test]
async fn refreshed_tokens_are_revoked_only_where_they_are_not_and_cannot_be_stored() {
    let scene = Scene::new().await;
    let session = scene.session("exchanging").await;
    assert_eq!(scene.put(&session, "v1").await, WriteOutcome::Done);
    let read = scene.grant().await.unwrap();
    let (table, tenant) = (&scene.hawser.app.table, &scene.tenant);
    let until = scene.hawser.app.now().plus_seconds(20);
    assert!(
        table
            .lease_grant(tenant, &read, "01LEASE", until)
            .await
            .unwrap()
    );
    let leased = scene.grant().await.unwrap();
    let next = scene.new_grant("v2");
    let late = scene.revocation();
    let discard = async |no_pending_write| {
        let event = scene.event(Action::CredentialDiscarded);
        let discarded =
            table.discard_refreshed(&late, &next, "01LEASE", None, no_pending_write, &event);
        discarded.await.unwrap()
    };
    assert_eq!(
        discard(false).await,
        Discarded::Moved,
        "a write may yet happen"
    );
    let event = scene.event(Action::CredentialRefreshed);
    let stored = table.continue_grant(tenant, &leased, &next, None, &event);
    assert!(stored.await.unwrap());
    for no_pending_write in [false, true] {
        assert_eq!(discard(no_pending_write).await, Discarded::Moved, "it has");
    }
    let event = scene.event(Action::CredentialRefreshed);
    let third = scene.new_grant("v3");
    let again = table.continue_grant(tenant, &leased, &third, None, &event);
    assert!(!again.await.unwrap(), "the lease is over");
    scene.disconnect().await;
    assert_eq!(discard(false).await, Discarded::Done);
}

#[tokio::test]
async fn exchanged_tokens_are_revoked_only_where_their_consent_can_complete_no_more() {
    let scene = Scene::new().await;
    let table = &scene.hawser.app.table;
    let discard = async |session: &Session| {
        let discarded = scene.event(Action::CredentialDiscarded);
        let ended = scene.event(Action::SessionEnded);
        let late = scene.revocation();
        let done = table.discard_exchanged(&late, session, &discarded, &ended);
        done.await.unwrap()
    };
    let stored = scene.session("exchanging").await;
    assert_eq!(scene.put(&stored, "v1").await, WriteOutcome::Done);
    assert_eq!(discard(&stored).await, Discarded::Moved);
    let open = scene.session("exchanging").await;
    assert_eq!(discard(&open).await, Discarded::Done);
    assert_eq!(
        scene.put(&open, "v2").await,
        WriteOutcome::RecordMoved,
        "it is ended"
    );
    let failed = scene.session("exchanging").await;
    let ended = scene.event(Action::SessionEnded);
    let done = table.fail_session(&failed, Phase::Exchanging, &ended);
    done.await.unwrap();
    assert_eq!(discard(&failed).await, Discarded::Done);
}

#[tokio::test]
async fn a_credential_of_a_deleted_server_is_its_purges_alone() {
    let scene = Scene::new().await;
    let grant = scene.granted().await;
    scene.delete().await;
    let credential = Credential::Grant(Box::new(grant));
    assert_eq!(scene.remove(&credential).await, WriteOutcome::ServerMoved);
}

#[tokio::test]
async fn an_override_is_taken_away_as_it_was_read_only() {
    let scene = Scene::new().await;
    let admin = scene.hawser.admin("acme");
    let installed = async || {
        let own = json!({"type": "header", "headerValue": "Bearer x"});
        let body = json!({"subjectId": "ada", "subjectType": "user", "authOverride": own});
        let path = format!("/api/svc/v1/mcp/{}/auth", scene.mcp);
        assert_eq!(admin.put(&path, body).await.status, 200);
        let table = &scene.hawser.app.table;
        let mut all = table.overrides(&scene.tenant, scene.id).await.unwrap();
        Credential::Override(Box::new(all.remove(0)))
    };
    let before = installed().await;
    let after = installed().await;
    assert_eq!(scene.remove(&before).await, WriteOutcome::RecordMoved);
    assert_eq!(scene.remove(&after).await, WriteOutcome::Done);
}

/// Whether an offboarding of this number begins.
async fn begins(scene: &Scene, number: u64, request: Option<&Keyed>) -> bool {
    let receipt = Receipt {
        closed: false,
        ..scene.new_receipt()
    };
    let offboarding = Offboarding {
        tenant: scene.tenant.clone(),
        subject: scene.subject.clone(),
        receipt: receipt.id.clone(),
        number,
        at: receipt.at,
        after: None,
    };
    let event = scene.event(Action::SubjectOffboarded);
    let table = &scene.hawser.app.table;
    let begun = table.begin_offboarding(&offboarding, &receipt, &event, request);
    begun.await.unwrap()
}

#[tokio::test]
async fn two_offboardings_at_once_have_numbers_of_their_own() {
    let scene = Scene::new().await;
    assert!(begins(&scene, 1, None).await);
    assert!(!begins(&scene, 1, None).await);
    assert!(begins(&scene, 2, None).await);
    assert!(!begins(&scene, 2, None).await);
}

#[tokio::test]
async fn a_request_with_a_key_is_carried_out_once() {
    let scene = Scene::new().await;
    let request = Keyed::new(&scene.subject, "key", &["offboard"]);
    assert!(begins(&scene, 1, Some(&request)).await);
    assert!(!begins(&scene, 2, Some(&request)).await);
    assert!(begins(&scene, 2, None).await);
}

#[tokio::test]
async fn a_consent_is_opened_once_and_as_it_was_offered_only() {
    let scene = Scene::new().await;
    let table = &scene.hawser.app.table;
    let open = async |session: &Session, hash: &str| {
        let opened = Session {
            phase: Phase::Pending,
            ..session.clone()
        };
        let event = scene.event(Action::SessionOpened);
        table.open_session(&opened, hash, &event).await.unwrap()
    };
    let offered = scene.session("offered").await;
    assert!(!open(&offered, "another").await);
    assert!(open(&offered, "h").await);
    assert!(!open(&offered, "h").await);
    let ended = scene.session("failed").await;
    assert!(!open(&ended, "h").await);
}

#[tokio::test]
async fn one_consent_is_begun_of_those_who_ask_alike_at_once() {
    let scene = Scene::new().await;
    let first = scene.session("offered").await;
    let table = &scene.hawser.app.table;
    let begin = async |replacing: Option<&str>| {
        let now = scene.hawser.app.now();
        let next = Session {
            id: Sortable::new(now).unwrap().ulid(),
            ..first.clone()
        };
        let event = scene.event(Action::SessionBegun);
        let begun = table.add_session(&next, replacing, &event).await.unwrap();
        (begun, next.id)
    };
    assert!(!begin(None).await.0, "somebody was first");
    let (begun, second) = begin(Some(&first.id)).await;
    assert!(begun);
    assert!(!begin(Some(&first.id)).await.0, "it was replaced");
    assert!(begin(Some(&second)).await.0);
}

#[tokio::test]
async fn a_purge_ends_a_grant_with_the_lease_that_was_read() {
    let scene = Scene::new().await;
    let read = scene.granted().await;
    let (table, tenant) = (&scene.hawser.app.table, &scene.tenant);
    let until = scene.hawser.app.now().plus_seconds(20);
    let leased = table.lease_grant(tenant, &read, "01LEASE", until).await;
    assert!(leased.unwrap());
    scene.delete().await;
    let end = async |grant: Grant| {
        let now = scene.hawser.app.now();
        let revocation = Revocation::of(tenant, &grant, None, now).unwrap();
        let event = scene.event(Action::CredentialRemoved);
        let group = [(Box::new(grant), revocation, event)];
        table.end_remaining_grants(&group).await.unwrap()
    };
    assert!(!end(read).await, "somebody refreshes it by now");
    assert!(end(scene.grant().await.unwrap()).await);
}

#[tokio::test]
async fn a_revocation_goes_on_and_ends_as_it_was_read_only() {
    let scene = Scene::new().await;
    let grant = scene.granted().await;
    assert_eq!(
        scene.remove(&Credential::Grant(Box::new(grant))).await,
        WriteOutcome::Done
    );
    let (table, now) = (&scene.hawser.app.table, scene.hawser.app.now());
    let due = scene.hawser.due().await;
    let read = due.iter().find_map(|work| match work {
        Work::Revocation(one) => Some(one.clone()),
        _ => None,
    });
    let read = read.unwrap();
    let next = Revocation {
        version: "next".to_owned(),
        ..(*read).clone()
    };
    let went_on = table.continue_revocation(&read.version, &next, now);
    assert!(went_on.await.unwrap());
    let went_on = table.continue_revocation(&read.version, &next, now);
    assert!(!went_on.await.unwrap(), "another worker has gone on");
    for (version, total) in [(&read.version, 0), (&next.version, 1), (&next.version, 1)] {
        let event = scene.event(Action::RevocationSettled);
        let ended =
            table.finish_revocation(version, &next, RevocationOutcome::Revoked, None, &event);
        ended.await.unwrap();
        let receipt = next.receipt.as_deref().unwrap();
        let key = hawser_core::table::receipts::key(&scene.tenant, receipt);
        let found = table.read(vec![key]).await.unwrap();
        let receipt = found.receipt(&scene.tenant, receipt).unwrap().unwrap();
        assert_eq!(receipt.outcomes.total(), total, "each exactly once");
    }
}
