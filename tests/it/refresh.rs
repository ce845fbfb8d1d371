//! Grants in use: one refresh at a time over all processes, and none that outlives its grant.

use crate::harness::{Browser, Cut, Hawser};
use crate::issuer::{Fault, Gate, Issuer};
use hawser_core::App;
use hawser_core::domain::event::Who;
use hawser_core::domain::id::{ServerId, TenantId};
use hawser_core::domain::reason::Reason;
use hawser_core::domain::subject::Subject;
use hawser_core::operations::consent;
use hawser_core::operations::grants::{self, GrantAccess, TokenRequirement};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::task::JoinSet;

/// A server behind an issuer, registered with `acme`.
pub struct Ground {
    pub hawser: Hawser,
    pub issuer: Issuer,
    pub mcp: String,
}

pub fn tenant() -> TenantId {
    TenantId::parse("acme").unwrap()
}

pub fn subject(user: &str) -> Subject {
    Subject::parse(&format!("user:{user}")).unwrap()
}

impl Ground {
    pub async fn new(hawser: Hawser) -> Self {
        let issuer = Issuer::start().await;
        let admin = hawser.admin("acme");
        let manifest = json!({"type": "mcp-server/remote", "name": "wiki", "description": "d",
                              "url": issuer.mcp_url(), "auth_data": {"type": "oauth2"}});
        let made = admin
            .put("/api/svc/v1/mcp", json!({"manifest": manifest}))
            .await;
        assert_eq!(made.status, 200, "{made:?}");
        let mcp = made.json()["data"]["id"].as_str().unwrap().to_owned();
        Self {
            hawser,
            issuer,
            mcp,
        }
    }

    pub fn id(&self) -> ServerId {
        ServerId::parse_prefixed(&self.mcp).unwrap()
    }

    /// Sends a user to the issuer: the browser, and where it comes back to.
    pub async fn approve(&self, user: &str) -> (Browser, String) {
        let (browser, at_issuer) = self.begin(user).await;
        (browser, self.issuer.approve(&at_issuer).await)
    }

    /// Begins a consent: the browser, and where the issuer would ask the user.
    pub async fn begin(&self, user: &str) -> (Browser, String) {
        let app = &self.hawser.app;
        let keys = vec![hawser_core::table::servers::key(&tenant(), self.id())];
        let found = app.table.read(keys).await.unwrap();
        let server = found.server(&tenant(), self.id()).unwrap().unwrap();
        let caller = self.hawser.authenticated_caller("acme", user).await;
        let begun = consent::start_provider_consent(
            app,
            &caller,
            &server,
            &subject(user),
            serde_json::from_value(json!("019bc0fd-8a38-7a17-83e9-4b02d86f31ae")).unwrap(),
            &self.hawser.url,
            &[],
        )
        .await
        .unwrap();
        let mut browser = Browser::new();
        let at_issuer = browser.begin(begun.url.expose_secret()).await;
        (browser, at_issuer)
    }

    pub async fn connect(&self, user: &str) {
        let (mut browser, callback) = self.approve(user).await;
        let page = browser.open(&callback).await;
        assert_eq!(page.status, 200);
        assert_eq!(self.status(user).await["status"], "authenticated");
    }

    pub async fn status(&self, user: &str) -> Value {
        let path = format!(
            "/api/svc/v1/mcp/{}/auth/status?subjectId={user}&subjectType=user",
            self.mcp
        );
        self.hawser.admin("acme").get(&path).await.json()
    }

    pub async fn disconnect(&self, user: &str) -> u16 {
        let body = json!({"authSource": "oauth", "subjectId": user, "subjectType": "user"});
        let path = format!("/api/svc/v1/mcp/{}/auth", self.mcp);
        self.hawser
            .admin("acme")
            .delete_with(&path, body)
            .await
            .status
    }

    pub async fn delete(&self) -> u16 {
        let path = format!("/api/svc/v1/mcp/{}", self.mcp);
        self.hawser.admin("acme").delete(&path).await.status
    }

    pub async fn access(&self, need: TokenRequirement<'_>) -> GrantAccess {
        access(&self.hawser.app, self.id(), need).await.unwrap()
    }

    /// How often the issuer was asked to refresh.
    pub fn refreshes(&self) -> usize {
        let log = self.issuer.log();
        log.iter()
            .filter(|one| one.path == "/token" && one.body.contains("grant_type=refresh_token"))
            .count()
    }
}

pub async fn access(
    app: &App,
    id: ServerId,
    need: TokenRequirement<'_>,
) -> hawser_core::Result<GrantAccess> {
    let patience = grants::MAX_REFRESH_WAIT;
    grants::access(
        app,
        &tenant(),
        &Who::Operator,
        id,
        &subject("ada"),
        need,
        patience,
    )
    .await
}

pub fn token(usable: &GrantAccess) -> &str {
    match usable {
        GrantAccess::Token { token, .. } => token.expose_secret(),
        GrantAccess::Unavailable(reason) => panic!("not usable: {reason:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_200_uses_at_once_one_refreshes_and_all_succeed() {
    let one = Ground::new(Hawser::start().await).await;
    one.issuer.configure(|s| s.access_ttl = Some(0));
    let (mut browser, callback) = one.approve("ada").await;
    assert_eq!(browser.open(&callback).await.status, 200);
    one.issuer.configure(|s| s.access_ttl = Some(3600));
    let mut processes = vec![one.hawser.app.clone()];
    let mut others = Vec::new();
    for _ in 0..3 {
        let other = Hawser::on(one.hawser.ground()).await;
        processes.push(other.app.clone());
        others.push(other);
    }
    let gate = Gate::closed();
    one.issuer.fault(Fault {
        hold: Some(gate.clone()),
        after: true,
        ..Fault::once("/token")
    });
    let mut uses = JoinSet::new();
    for i in 0..200 {
        let (app, id) = (processes[i % processes.len()].clone(), one.id());
        uses.spawn(async move { access(&app, id, TokenRequirement::Valid).await.unwrap() });
    }
    gate.reached().await;
    gate.open();
    let mut tokens = Vec::new();
    while let Some(used) = uses.join_next().await {
        tokens.push(token(&used.unwrap()).to_owned());
    }
    tokens.dedup();
    assert_eq!((tokens.len(), one.refreshes()), (1, 1));
    assert!(one.issuer.is_active(&tokens[0]));
    assert_eq!(one.issuer.families_killed(), 0);
    let next = one.access(TokenRequirement::ValidFor(100_000)).await;
    assert!(one.issuer.is_active(token(&next)), "and the grant lives on");
    assert_eq!(one.refreshes(), 2);
}

#[tokio::test]
async fn a_valid_token_is_used_without_asking_anyone() {
    let one = Ground::new(Hawser::start().await).await;
    one.connect("ada").await;
    one.issuer.clear_log();
    one.hawser.wire.arm(None);
    let usable = one.access(TokenRequirement::Valid).await;
    assert!(one.issuer.is_active(token(&usable)));
    assert_eq!(one.issuer.log().len(), 0);
    assert_eq!(one.hawser.wire.operations(), ["BatchGetItem"]);
}

#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    let one = Ground::new(Hawser::start().await).await;
    one.connect("ada").await;
    let GrantAccess::Token { token: old, grant } = one.access(TokenRequirement::Valid).await else {
        panic!("not usable")
    };
    let new = one
        .access(TokenRequirement::OtherThan(&grant.version))
        .await;
    assert_ne!(token(&new), old.expose_secret());
    let same = one
        .access(TokenRequirement::OtherThan(&grant.version))
        .await;
    assert_eq!(token(&same), token(&new));
    assert_eq!(one.refreshes(), 1);
}

/// Starts a refresh whose answer the issuer holds back until the gate opens.
pub async fn held_refresh(
    one: &Ground,
) -> (
    Arc<Gate>,
    tokio::task::JoinHandle<hawser_core::Result<GrantAccess>>,
) {
    let gate = Gate::closed();
    one.issuer.fault(Fault {
        hold: Some(gate.clone()),
        after: true,
        ..Fault::once("/token")
    });
    let (app, id) = (one.hawser.app.clone(), one.id());
    let refresh =
        tokio::spawn(async move { access(&app, id, TokenRequirement::ValidFor(100_000)).await });
    gate.reached().await;
    (gate, refresh)
}

#[tokio::test]
async fn a_refresh_that_finishes_after_the_disconnect_brings_nothing_back() {
    let one = Ground::new(Hawser::start().await).await;
    one.connect("ada").await;
    let (gate, refresh) = held_refresh(&one).await;
    assert_eq!(one.disconnect("ada").await, 200);
    gate.open();
    let ended = refresh.await.unwrap().unwrap();
    assert!(
        matches!(ended, GrantAccess::Unavailable(Reason::Revoked)),
        "{ended:?}"
    );
    assert_eq!(one.status("ada").await["reason"], "revoked");
    one.hawser.run_workers().await;
    assert_eq!(one.issuer.issued().len(), 2);
    assert_eq!(one.issuer.live_tokens(), Vec::<String>::new());
}

#[tokio::test]
async fn a_refresh_that_finishes_after_the_deletion_brings_nothing_back() {
    let one = Ground::new(Hawser::start_by_hand().await).await;
    one.connect("ada").await;
    let (gate, refresh) = held_refresh(&one).await;
    assert_eq!(one.delete().await, 200);
    one.hawser.run_workers().await;
    gate.open();
    let ended = refresh.await.unwrap();
    assert!(
        matches!(
            ended,
            Err(hawser_core::Error::ServerNotFound) | Ok(GrantAccess::Token { .. })
        ),
        "{ended:?}"
    );
    one.hawser.pass(61);
    one.hawser.run_workers().await;
    assert_eq!(one.issuer.live_tokens(), Vec::<String>::new());
    let items = one.hawser.ground().items().await;
    let left = items.iter().filter(|item| {
        let pk = item["PK"].as_str().unwrap();
        pk.contains("#S#")
    });
    assert_eq!(left.count(), 0, "the partition is empty");
}

#[tokio::test]
async fn a_refresh_does_not_overwrite_a_newer_consent() {
    let one = Ground::new(Hawser::start().await).await;
    one.connect("ada").await;
    let (gate, refresh) = held_refresh(&one).await;
    one.connect("ada").await;
    gate.open();
    let usable = refresh.await.unwrap().unwrap();
    assert!(one.issuer.is_active(token(&usable)));
    one.hawser.run_workers().await;
    let live: Vec<_> = one
        .issuer
        .issued()
        .into_iter()
        .filter(|p| p.active)
        .collect();
    assert_eq!(live.len(), 1, "{live:?}");
    assert_eq!(live[0].access, token(&usable), "that of the newer consent");
    assert_eq!(one.issuer.families_killed(), 0);
}

/// Lets another process take the lease, ask the issuer and die before it can write anything down.
pub async fn dies_while_refreshing(one: &Ground) {
    let other = Hawser::by_hand(one.hawser.ground()).await;
    // The lease is written, then nothing gets through to the store any more.
    other.wire.arm(Some(Cut::Before(3)));
    let (app, id) = (other.app.clone(), one.id());
    let asked = one.issuer.log().len();
    let refresh =
        tokio::spawn(async move { access(&app, id, TokenRequirement::ValidFor(100_000)).await });
    let tried = || {
        let log = one.issuer.log().split_off(asked);
        let answered = log
            .iter()
            .any(|one| one.path == "/token" && one.status.is_some());
        answered || other.wire.sent().len() > 3
    };
    while !tried() {
        tokio::task::yield_now().await;
    }
    other.die().await;
    assert!(refresh.await.unwrap().is_err());
}

#[tokio::test]
async fn a_holder_that_dies_before_the_issuer_answered_is_succeeded() {
    let one = Ground::new(Hawser::start_by_hand().await).await;
    one.connect("ada").await;
    one.issuer.fault(Fault {
        drop: true,
        ..Fault::once("/token")
    });
    dies_while_refreshing(&one).await;
    // Others have to see the lease for as long as it lasts.
    one.access(TokenRequirement::Valid).await;
    one.hawser.pass(20);
    let usable = one.access(TokenRequirement::ValidFor(100_000)).await;
    assert!(one.issuer.is_active(token(&usable)));
}

#[tokio::test]
async fn a_holder_that_dies_after_the_issuer_answered_leaves_an_honest_reason() {
    let one = Ground::new(Hawser::start_by_hand().await).await;
    one.connect("ada").await;
    // The issuer has rotated, and what it answered dies with the process.
    dies_while_refreshing(&one).await;
    one.access(TokenRequirement::Valid).await;
    one.hawser.pass(20);
    let usable = one.access(TokenRequirement::ValidFor(100_000)).await;
    assert!(
        matches!(usable, GrantAccess::Unavailable(Reason::InvalidGrant)),
        "{usable:?}"
    );
    assert_eq!(one.status("ada").await["reason"], "invalid_grant");
    one.hawser.run_workers().await;
    assert_eq!(
        one.issuer.live_tokens(),
        Vec::<String>::new(),
        "reuse ended the family"
    );
}

/// What the issuer answers a refresh with, what the subject is told once its token is over, and how often it is asked again.
#[tokio::test]
async fn a_failure_keeps_what_it_should_and_says_why() {
    let json = |error: &str| format!("{{\"error\":\"{error}\"}}");
    let faults = [
        (400, json("invalid_grant"), "invalid_grant", false),
        (401, json("invalid_client"), "invalid_client", true),
        (400, json("unauthorized_client"), "invalid_client", true),
        (400, json("invalid_target"), "refresh_failed", true),
        (503, String::new(), "refresh_failed", true),
        (429, String::new(), "refresh_failed", true),
        (
            200,
            "<html>maintenance</html>".to_owned(),
            "refresh_failed",
            true,
        ),
        (
            200,
            "{\"access_token\":\"at".to_owned(),
            "refresh_failed",
            true,
        ),
        (200, "x".repeat(2 << 20), "refresh_failed", true),
        (302, String::new(), "refresh_failed", true),
    ];
    for (status, body, reason, recovers) in faults {
        let one = Ground::new(Hawser::start_by_hand().await).await;
        one.connect("ada").await;
        one.issuer.fault(Fault {
            status: Some(status),
            body: body.clone(),
            ..Fault::once("/token")
        });
        let early = one.access(TokenRequirement::ValidFor(100_000)).await;
        assert!(
            matches!(early, GrantAccess::Unavailable(_)),
            "{status} {early:?}"
        );
        if recovers {
            // Nothing is lost: the token that there is still serves.
            assert!(
                one.issuer
                    .is_active(token(&one.access(TokenRequirement::Valid).await))
            );
            assert_eq!(one.status("ada").await["status"], "authenticated");
        }
        one.hawser.pass(3601);
        assert_eq!(
            one.status("ada").await["reason"],
            reason,
            "{status} {body:.40}"
        );
        let asked = one.refreshes();
        if recovers {
            let usable = one.access(TokenRequirement::Valid).await;
            assert!(one.issuer.is_active(token(&usable)), "{status}: it heals");
            assert_eq!(one.status("ada").await["status"], "authenticated");
            assert_eq!(one.refreshes(), asked + 1);
        } else {
            let usable = one.access(TokenRequirement::Valid).await;
            assert!(matches!(
                usable,
                GrantAccess::Unavailable(Reason::InvalidGrant)
            ));
            assert_eq!(
                one.refreshes(),
                asked,
                "never presented again to be refreshed"
            );
        }
    }
}

#[tokio::test]
async fn a_broken_issuer_is_not_stormed() {
    let one = Ground::new(Hawser::start_by_hand().await).await;
    one.connect("ada").await;
    one.hawser.pass(3601);
    one.issuer.fault(Fault {
        status: Some(429),
        headers: vec![("retry-after", "120".to_owned())],
        ..Fault::always("/token")
    });
    for _ in 0..5 {
        let usable = one.access(TokenRequirement::Valid).await;
        assert!(matches!(
            usable,
            GrantAccess::Unavailable(Reason::RefreshFailed)
        ));
    }
    assert_eq!(one.refreshes(), 1);
    one.hawser.pass(119);
    one.access(TokenRequirement::Valid).await;
    assert_eq!(one.refreshes(), 1, "as long as it asked to be left alone");
    one.hawser.pass(20);
    one.access(TokenRequirement::Valid).await;
    assert_eq!(one.refreshes(), 2);
}

#[tokio::test]
async fn without_rotation_the_refresh_token_goes_on_serving() {
    let one = Ground::new(Hawser::start_by_hand().await).await;
    one.issuer.configure(|s| s.rotate = false);
    one.connect("ada").await;
    for _ in 0..3 {
        one.hawser.pass(3601);
        let usable = one.access(TokenRequirement::Valid).await;
        assert!(one.issuer.is_active(token(&usable)));
    }
    assert_eq!(one.refreshes(), 3);
}

#[tokio::test]
async fn without_an_expiry_a_token_serves_until_it_is_refused() {
    let one = Ground::new(Hawser::start_by_hand().await).await;
    one.issuer.configure(|s| s.access_ttl = None);
    one.connect("ada").await;
    one.hawser.pass(1_000_000);
    one.access(TokenRequirement::Valid).await;
    assert_eq!(one.refreshes(), 0);
    assert_eq!(one.status("ada").await["status"], "authenticated");
}

#[tokio::test]
async fn without_a_refresh_token_a_grant_expires() {
    let one = Ground::new(Hawser::start_by_hand().await).await;
    one.issuer.configure(|s| s.refresh_tokens = false);
    one.connect("ada").await;
    one.hawser.pass(3601);
    assert_eq!(one.status("ada").await["reason"], "expired");
    let usable = one.access(TokenRequirement::Valid).await;
    assert!(matches!(usable, GrantAccess::Unavailable(Reason::Expired)));
    assert_eq!(one.refreshes(), 0);
}

/// What may meet a refresh.
#[derive(Clone, Copy, Debug)]
enum Meets {
    Disconnect,
    Deletion,
    Consent,
}

/// Starts refreshes, and the other call once they have come so far: another place in each round.
async fn meet(meets: Meets, round: usize) {
    let one = Ground::new(Hawser::start_by_hand().await).await;
    one.connect("ada").await;
    let callback = match meets {
        Meets::Consent => Some(one.approve("ada").await),
        _ => None,
    };
    let (app, id) = (one.hawser.app.clone(), one.id());
    let uses = tokio::spawn(async move {
        for _ in 0..3 {
            if access(&app, id, TokenRequirement::ValidFor(100_000))
                .await
                .is_err()
            {
                break;
            }
        }
    });
    let steps = one.hawser.wire.sent().len();
    while one.hawser.wire.sent().len() < steps + round && !uses.is_finished() {
        tokio::task::yield_now().await;
    }
    match meets {
        Meets::Disconnect => assert_eq!(one.disconnect("ada").await, 200),
        Meets::Deletion => assert_eq!(one.delete().await, 200),
        Meets::Consent => {
            let (mut browser, callback) = callback.unwrap();
            assert_eq!(browser.open(&callback).await.status, 200);
        }
    }
    uses.await.unwrap();
    one.hawser.run_workers().await;
    one.hawser.pass(61);
    one.hawser.run_workers().await;
    let issued = one.issuer.issued();
    let live: Vec<_> = issued.iter().filter(|pair| pair.active).collect();
    match meets {
        Meets::Disconnect | Meets::Deletion => {
            assert_eq!(
                one.issuer.live_tokens(),
                Vec::<String>::new(),
                "{meets:?} {round}"
            );
        }
        Meets::Consent => {
            // Only the newer consent is left, refreshed or not, and it works.
            let newest = issued.iter().map(|pair| pair.family).max();
            assert!(
                live.iter().all(|pair| Some(pair.family) == newest),
                "{round}: {live:?}"
            );
            let usable = one.access(TokenRequirement::Valid).await;
            assert!(one.issuer.is_active(token(&usable)), "{round}");
            assert_eq!(one.issuer.families_killed(), 0, "{round}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_and_a_disconnect_in_any_order_leave_nothing_alive() {
    for round in 0..24 {
        meet(Meets::Disconnect, round % 12).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_and_a_deletion_in_any_order_leave_nothing_alive() {
    for round in 0..24 {
        meet(Meets::Deletion, round % 12).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_and_a_new_consent_in_any_order_leave_the_consent() {
    for round in 0..24 {
        meet(Meets::Consent, round % 12).await;
    }
}
