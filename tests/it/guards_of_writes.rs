//! Conditions of writes that no other test is for, each by itself: what was read is not what is stored any more.
//! tests/mutants/conditions.toml says which test is for which condition.

use crate::harness::ample;
use crate::scene::Scene;
use hawser_core::domain::credential::{Credential, Grant, Override};
use hawser_core::domain::event::{Action, Worker};
use hawser_core::domain::job::{Sweep, Tombstone, Work};
use hawser_core::domain::revocation::{Revocation, RevocationOutcome};
use hawser_core::domain::server::Server;
use hawser_core::domain::session::{Phase, Session};
use hawser_core::table::credentials::WriteOutcome;
use hawser_core::table::revocations::{Discarded, keys_of_lease};
use hawser_core::table::{servers, sessions};
use serde_json::Value;

/// A grant as somebody has read it who does not see what has become of it: of another version, without the lease, or under
/// an earlier one.
fn outdated(grant: &Grant) -> [Grant; 3] {
    let version = |version: &str| Grant {
        version: version.to_owned(),
        ..grant.clone()
    };
    let lease = |lease: Option<&str>| Grant {
        lease_id: lease.map(str::to_owned),
        ..grant.clone()
    };
    [version("earlier"), lease(None), lease(Some("01EARLIER"))]
}

impl Scene {
    async fn lease(&self, read: &Grant, lease: &str) -> bool {
        let until = self.hawser.app.now().plus_seconds(20);
        let table = &self.hawser.app.table;
        let leased = table.lease_grant(&self.tenant, read, lease, until);
        leased.await.unwrap()
    }

    /// A grant that somebody refreshes.
    async fn leased(&self) -> Grant {
        let read = self.granted().await;
        assert!(self.lease(&read, "01LEASE").await);
        self.grant().await.unwrap()
    }

    async fn phase(&self, session: &Session) -> Phase {
        let key = sessions::key(&self.tenant, self.id, &session.id);
        let found = self.hawser.app.table.read(vec![key]).await.unwrap();
        let found = found.session(&self.tenant, self.id, &session.id);
        found.unwrap().unwrap().phase
    }

    async fn revoke_all(&self) {
        let path = format!("/api/svc/v1/mcp/{}/auth/tokens", self.mcp);
        assert_eq!(self.hawser.admin("acme").delete(&path).await.status, 200);
    }

    async fn tombstone(&self) -> Option<Tombstone> {
        let table = &self.hawser.app.table;
        table.tombstone(&self.tenant, self.id).await.unwrap()
    }

    /// How many items have this value of an attribute.
    async fn count_of(&self, attribute: &str, value: &str) -> usize {
        let items = self.hawser.ground().items().await;
        let of = |item: &&Value| item[attribute] == value;
        items.iter().filter(of).count()
    }
}

#[tokio::test]
async fn a_grant_replaces_what_was_read_only() {
    let scene = Scene::new().await;
    let session = scene.session("exchanging").await;
    let grant = scene.leased().await;
    let [version, unleased, earlier] = outdated(&grant).map(Some);
    for read in [None, version, unleased, earlier] {
        let put = scene.put_over(read, &session, "v2").await;
        assert_eq!(put, WriteOutcome::RecordMoved);
    }
    let put = scene.put_over(Some(grant), &session, "v2").await;
    assert_eq!(put, WriteOutcome::Done);
}

#[tokio::test]
async fn a_grant_is_stored_at_counts_above_zero_too() {
    let scene = Scene::new().await;
    let mut session = scene.session("exchanging").await;
    scene.granted().await;
    scene.disconnect().await;
    session.removals = 1;
    let again = Session {
        removals: 1,
        ..scene.session("exchanging").await
    };
    assert_eq!(scene.put(&again, "v2").await, WriteOutcome::Done);
    scene.disconnect().await;
    assert_eq!(scene.put(&session, "v3").await, WriteOutcome::RecordMoved);
    assert!(!scene.deny(&session).await);
    session.removals = 2;
    scene.offboard_in_part().await;
    session.offboardings = 1;
    scene.offboard_in_part().await;
    assert_eq!(scene.put(&session, "v3").await, WriteOutcome::RecordMoved);
    assert!(!scene.deny(&session).await);
    session.offboardings = 2;
    assert!(scene.deny(&session).await);
}

#[tokio::test]
async fn a_lease_is_taken_on_the_grant_that_was_read_only() {
    let scene = Scene::new().await;
    let grant = scene.leased().await;
    for read in outdated(&grant) {
        assert!(!scene.lease(&read, "01OTHER").await);
    }
    assert!(scene.lease(&grant, "01OTHER").await, "it is taken over");
    assert!(!scene.lease(&grant, "01THIRD").await, "by one");
}

#[tokio::test]
async fn a_refreshed_grant_is_stored_under_its_lease_and_over_its_version_only() {
    let scene = Scene::new().await;
    let grant = scene.leased().await;
    let next = scene.new_grant("v2");
    let store = async |leased: &Grant| {
        let event = scene.event(Action::CredentialRefreshed);
        let table = &scene.hawser.app.table;
        let stored = table.continue_grant(&scene.tenant, leased, &next, None, &event);
        stored.await.unwrap()
    };
    let [version, _, earlier] = outdated(&grant);
    assert!(!store(&version).await);
    assert!(!store(&earlier).await);
    assert!(store(&grant).await);
}

#[tokio::test]
async fn a_grant_ends_as_it_was_read_only() {
    let scene = Scene::new().await;
    let grant = scene.leased().await;
    for read in outdated(&grant) {
        let removed = scene.remove(&Credential::Grant(Box::new(read))).await;
        assert_eq!(removed, WriteOutcome::RecordMoved);
    }
    let removed = scene.remove(&Credential::Grant(Box::new(grant))).await;
    assert_eq!(removed, WriteOutcome::Done);
}

#[tokio::test]
async fn a_sweep_ends_a_grant_as_it_was_read_at_the_server_that_was_read() {
    let scene = Scene::new().await;
    let grant = scene.leased().await;
    let table = &scene.hawser.app.table;
    let server = async || {
        let keys = vec![servers::key(&scene.tenant, scene.id)];
        let found = table.read(keys).await.unwrap();
        found.server(&scene.tenant, scene.id).unwrap().unwrap()
    };
    scene.revoke_all().await;
    let due = scene.hawser.due().await.into_iter();
    let mut sweeps = due.filter_map(|work| match work {
        Work::Sweep(sweep) => Some(sweep),
        _ => None,
    });
    let sweep: Sweep = sweeps.next().unwrap();
    let then = server().await;
    let ends = async |sweep: &Sweep, server: &Server, read: Grant| {
        let event = scene.event_of(Worker::Sweep, Action::CredentialRemoved);
        let group = [(Credential::Grant(Box::new(read)), event)];
        table
            .sweep_credentials(sweep, server, &group)
            .await
            .unwrap()
    };
    for read in outdated(&grant) {
        assert!(!ends(&sweep, &then, read).await);
    }
    // Another change: what this one makes void may be other than it was.
    scene.revoke_all().await;
    assert!(!ends(&sweep, &then, grant.clone()).await);
    let closed = scene.new_receipt();
    let gone = Sweep {
        receipt: Some(closed.id),
        ..sweep.clone()
    };
    assert!(!ends(&gone, &server().await, grant.clone()).await);
    assert!(ends(&sweep, &server().await, grant).await);
}

#[tokio::test]
async fn an_override_is_put_over_the_one_that_was_read_at_the_server_that_was_read() {
    let scene = Scene::new().await;
    let admin = scene.hawser.admin("acme");
    let installed = admin.install(&scene.mcp, "user", "ada").await;
    assert_eq!(installed.status, 200);
    let table = &scene.hawser.app.table;
    let mut all = table.overrides(&scene.tenant, scene.id).await.unwrap();
    let own = all.remove(0);
    let put = async |replacing: &str| {
        let next = Override {
            version: "next".to_owned(),
            ..own.clone()
        };
        let event = scene.event(Action::CredentialInstalled);
        let put = table.put_override(&scene.tenant, &next, Some(replacing), &event);
        put.await.unwrap()
    };
    assert_eq!(put("earlier").await, WriteOutcome::RecordMoved);
    assert_eq!(put(&own.version).await, WriteOutcome::Done);
    scene.revoke_all().await;
    assert_eq!(put("next").await, WriteOutcome::ServerMoved);
}

#[tokio::test]
async fn a_consent_begins_and_is_renewed_at_the_server_that_was_read() {
    let scene = Scene::new().await;
    let table = &scene.hawser.app.table;
    let offered = scene.session("offered").await;
    let renew = async |read: &Session| {
        let event = scene.event(Action::SessionBegun);
        table.renew_session(read, read, &event).await.unwrap()
    };
    let earlier = Session {
        at: offered.at.plus_seconds(-1),
        ..offered.clone()
    };
    assert!(!renew(&earlier).await, "somebody else has renewed it");
    assert!(renew(&offered).await);
    let mut opened = scene.session("pending").await;
    opened.phase = Phase::Offered;
    assert!(!renew(&opened).await, "it has been opened");
    scene.revoke_all().await;
    assert!(!renew(&offered).await);
    let place = serde_json::json!({"kambrium": {"integration": "another"}});
    let late = Session {
        id: "0123456789abcdef01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(),
        origin: serde_json::from_value(place).unwrap(),
        ..offered
    };
    let event = scene.event(Action::SessionBegun);
    assert!(!table.add_session(&late, None, &event).await.unwrap());
}

#[tokio::test]
async fn a_callback_claims_a_consent_by_its_own_secret() {
    let scene = Scene::new().await;
    let table = &scene.hawser.app.table;
    let pending = scene.session("pending").await;
    let other = Session {
        secret_hash: "another".to_owned(),
        ..pending.clone()
    };
    let until = scene.hawser.app.now().plus_seconds(60);
    for (session, claims) in [(&other, false), (&pending, true)] {
        let event = scene.event(Action::SessionAnswered);
        let claimed = table.claim_session(session, until, &event).await;
        assert_eq!(claimed.unwrap(), claims);
    }
}

#[tokio::test]
async fn a_refusal_ends_a_consent_in_exchange_at_the_server_that_was_read() {
    let scene = Scene::new().await;
    for phase in ["completed", "failed"] {
        let over = scene.session(phase).await;
        assert!(!scene.deny(&over).await, "{phase}");
    }
    let refused = scene.session("exchanging").await;
    scene.revoke_all().await;
    assert!(!scene.deny(&refused).await);
}

#[tokio::test]
async fn a_consent_that_is_complete_does_not_fail() {
    let scene = Scene::new().await;
    let complete = scene.session("completed").await;
    let ended = scene.event(Action::SessionEnded);
    let table = &scene.hawser.app.table;
    let failed = table.fail_session(&complete, Phase::Exchanging, &ended);
    failed.await.unwrap();
    assert_eq!(scene.phase(&complete).await, Phase::Completed);
}

#[tokio::test]
async fn late_tokens_join_the_revocation_that_was_read_only() {
    let scene = Scene::new().await;
    let leased = scene.leased().await;
    let removed = scene.remove(&Credential::Grant(Box::new(leased))).await;
    assert_eq!(removed, WriteOutcome::Done);
    let table = &scene.hawser.app.table;
    let keys = keys_of_lease(&scene.tenant, scene.id, &scene.subject, "01LEASE");
    let found = table.read(keys).await.unwrap();
    let waiting = found.revocation_of_lease(&scene.tenant, scene.id, "01LEASE");
    let waiting: Revocation = waiting.unwrap().unwrap();
    let next = scene.new_grant("v2");
    let discard = async |read: Option<&Revocation>| {
        let event = scene.event(Action::CredentialDiscarded);
        let late = scene.revocation();
        let discarded = table.discard_refreshed(&late, &next, "01LEASE", read, true, &event);
        discarded.await.unwrap()
    };
    let earlier = Revocation {
        version: "earlier".to_owned(),
        ..waiting.clone()
    };
    assert_eq!(discard(None).await, Discarded::Moved, "they belong there");
    assert_eq!(discard(Some(&earlier)).await, Discarded::Moved);
    let join = async |read: &str| {
        let event = scene.event(Action::CredentialDiscarded);
        let now = scene.hawser.app.now();
        let joined = Revocation {
            version: "joined".to_owned(),
            ..waiting.clone()
        };
        table.join_revocation(read, &joined, now, &event).await
    };
    assert!(!join("earlier").await.unwrap());
    assert!(join(&waiting.version).await.unwrap());
}

/// A receipt may be deleted by hand. It does not come back as a piece of one.
#[tokio::test]
async fn an_outcome_makes_no_receipt() {
    let scene = Scene::new().await;
    let table = &scene.hawser.app.table;
    let mut one = scene.revocation();
    one.receipt = Some("01GONE".to_owned());
    let event = scene.event(Action::CredentialDiscarded);
    let added = table.discard_recovered(&one, &event).await.unwrap();
    assert_eq!(added, Discarded::Done);
    let event = scene.event_of(Worker::Revocation, Action::RevocationSettled);
    let outcome = RevocationOutcome::Revoked;
    let ended = table.finish_revocation(&one.version, &one, outcome, None, &event);
    ended.await.unwrap();
    assert_eq!(scene.count_of("SK", "R#01GONE").await, 0);
}

#[tokio::test]
async fn a_purge_ends_what_was_read_and_once() {
    let scene = Scene::new().await;
    let admin = scene.hawser.admin("acme");
    let installed = admin.install(&scene.mcp, "user", "ada").await;
    assert_eq!(installed.status, 200);
    let grant = scene.leased().await;
    let (table, tenant) = (&scene.hawser.app.table, &scene.tenant);
    let mut overrides = table.overrides(tenant, scene.id).await.unwrap();
    let own = Box::new(overrides.remove(0));
    scene.delete().await;
    let uncounted = scene.tombstone().await.unwrap();
    table.count_on_tombstone(&uncounted, ample()).await.unwrap();
    let counts = scene.tombstone().await.unwrap().counts();
    let removed = || scene.event_of(Worker::Purge, Action::CredentialRemoved);
    let end = async |grant: Grant| {
        let now = scene.hawser.app.now();
        let revocation = Revocation::of(tenant, &grant, None, now).unwrap();
        let group = [(Box::new(grant), revocation, removed())];
        table.end_remaining_grants(&group).await.unwrap()
    };
    for read in outdated(&grant) {
        assert!(!end(read).await);
    }
    assert!(end(grant).await);
    for ended in [true, false] {
        let group = [(own.clone(), removed())];
        let all = table.end_remaining_overrides(tenant, &group).await;
        assert_eq!(all.unwrap(), ended, "one event for one end");
    }
    // A worker that has read it before the count.
    table.count_on_tombstone(&uncounted, ample()).await.unwrap();
    assert_eq!(scene.tombstone().await.unwrap().counts(), counts);
}

#[tokio::test]
async fn a_purge_is_over_once_and_as_it_was_read() {
    let scene = Scene::new().await;
    scene.delete().await;
    let table = &scene.hawser.app.table;
    let touch = async || {
        let event = scene.event(Action::CredentialDiscarded);
        let added = table.discard_recovered(&scene.revocation(), &event).await;
        assert_eq!(added.unwrap(), Discarded::Done);
        scene.tombstone().await.unwrap()
    };
    let read = touch().await;
    let latest = touch().await;
    let finish = async |read: &Tombstone| {
        let event = scene.event_of(Worker::Purge, Action::ServerPurged);
        table.finish_purge(read, &event).await.unwrap();
    };
    finish(&read).await;
    assert!(scene.tombstone().await.is_some());
    finish(&latest).await;
    assert!(scene.tombstone().await.is_none());
    let untouched = Tombstone {
        touched: None,
        ..latest.clone()
    };
    // Work that is over is not begun again by whoever has read it before.
    finish(&latest).await;
    finish(&untouched).await;
    let later = scene.hawser.app.now().plus_seconds(60);
    table.count_on_tombstone(&untouched, ample()).await.unwrap();
    let deferred = table.defer(&Work::Tombstone(latest), later).await;
    assert!(!deferred.unwrap());
    assert!(scene.tombstone().await.is_none());
    assert_eq!(scene.count_of("SK", "TOMBSTONE").await, 0);
    assert_eq!(scene.count_of("action", "server.purged").await, 1);
}

#[tokio::test]
async fn a_tenants_key_is_made_once() {
    let scene = Scene::new().await;
    let table = &scene.hawser.app.table;
    let made = table.tenant_key(&scene.tenant, 1).await.unwrap().unwrap();
    let again = table.add_tenant_key(&scene.tenant, &made).await;
    assert!(!again.unwrap(), "what it has sealed opens with it alone");
}
