//! Every way a grant ends, with the process dying at every effect it has outside itself - a request to the store, a request
//! to the issuer: whatever was answered as done is done, every token ends up revoked, and each is counted exactly once.

use crate::harness::{Answer, Browser, Cut, Ground, Hawser, Registered, ample};
use crate::issuer::{Fault, Gate, Issuer};
use hawser_core::domain::id::{ServerId, TenantId};
use hawser_core::domain::subject::Subject;
use hawser_core::operations::consent;
use hawser_core::operations::scheduler::process_due;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::sync::Arc;

/// Who has a grant at the server.
const USERS: [&str; 2] = ["ada", "bob"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Disconnect,
    RevokeAll,
    ForcedUpdate,
    Patch,
    DeleteByTruefoundry,
    DeleteByLangsmith,
    DeleteByKambrium,
    Offboard,
}

/// Where the process dies.
#[derive(Clone, Copy, Debug)]
enum Death {
    BeforeStore(usize),
    AfterStore(usize),
    BeforeIssuer(usize),
    AfterIssuer(usize),
}

impl Way {
    /// Whose grants it ends.
    fn victims(self) -> &'static [&'static str] {
        match self {
            Self::Disconnect | Self::Offboard => &USERS[..1],
            _ => &USERS,
        }
    }

    fn has_receipt(self) -> bool {
        !matches!(self, Self::ForcedUpdate | Self::Patch)
    }

    fn deletes(self) -> bool {
        matches!(
            self,
            Self::DeleteByTruefoundry | Self::DeleteByLangsmith | Self::DeleteByKambrium
        )
    }

    async fn go(self, hawser: &Hawser, server: &Registered) -> Answer {
        let admin = hawser.admin("acme");
        let [tf, ls, ka] = server.paths();
        match self {
            Self::Disconnect => {
                let body =
                    json!({"authSource": "oauth", "subjectId": "ada", "subjectType": "user"});
                admin.delete_with(&format!("{tf}/auth"), body).await
            }
            Self::RevokeAll => admin.delete(&format!("{tf}/auth/tokens")).await,
            Self::ForcedUpdate => {
                let body =
                    json!({"manifest": manifest("https://elsewhere.example/mcp"), "force": true});
                admin.put("/api/svc/v1/mcp", body).await
            }
            Self::Patch => {
                admin
                    .patch(&ls, json!({"url": "https://elsewhere.example/mcp"}))
                    .await
            }
            Self::DeleteByTruefoundry => admin.delete(&tf).await,
            Self::DeleteByLangsmith => admin.delete(&ls).await,
            Self::DeleteByKambrium => admin.delete(&ka).await,
            Self::Offboard => admin.delete("/v1/subjects/user/ada/credentials").await,
        }
    }
}

fn manifest(url: &str) -> Value {
    json!({"type": "mcp-server/remote", "name": "wiki", "description": "d", "url": url,
           "auth_data": {"type": "oauth2"}})
}

/// Gives a user of tenant `acme` a grant by a real consent.
pub async fn connect(hawser: &Hawser, issuer: &Issuer, server: &Registered, user: &str) {
    let tenant = TenantId::parse("acme").unwrap();
    let id = ServerId::parse_prefixed(&server.mcp).unwrap();
    let subject = Subject::parse(&format!("user:{user}")).unwrap();
    let keys = vec![hawser_core::table::servers::key(&tenant, id)];
    let found = hawser.app.table.read(keys).await.unwrap();
    let found = found.server(&tenant, id).unwrap().unwrap();
    let provider = serde_json::from_value(json!("019bc0fd-8a38-7a17-83e9-4b02d86f31ae")).unwrap();
    let url = &hawser.url;
    let caller = hawser.authenticated_caller("acme", user).await;
    let begun =
        consent::start_provider_consent(&hawser.app, &caller, &found, &subject, provider, url, &[]);
    let begun = begun.await.unwrap();
    let mut browser = Browser::new();
    let at_issuer = browser.begin(begun.url.expose_secret()).await;
    let page = browser.open(&issuer.approve(&at_issuer).await).await;
    assert_eq!(page.status, 200, "{page:?}");
}

async fn status(hawser: &Hawser, server: &Registered, user: &str) -> Answer {
    let path = format!(
        "/api/svc/v1/mcp/{}/auth/status?subjectId={user}&subjectType=user",
        server.mcp
    );
    hawser.admin("acme").get(&path).await
}

async fn receipts(ground: &Arc<Ground>) -> Vec<Value> {
    let items = ground.items().await;
    items
        .into_iter()
        .filter(|item| item["entity"] == "receipt")
        .collect()
}

/// No receipt says that more was revoked than the issuer has ended.
async fn claims_no_more_than_was_confirmed(ground: &Arc<Ground>, issuer: &Issuer, why: &str) {
    let ended = issuer.issued().iter().filter(|pair| !pair.active).count();
    for receipt in receipts(ground).await {
        let claimed = receipt["outcomes"]["revoked"].as_u64().unwrap();
        assert!(claimed as usize <= ended, "{why}: {receipt}");
    }
}

/// Ends grants with the process dying on the way, then lets another one finish. Returns whether that point was reached.
async fn dies(way: Way, death: Death) -> bool {
    let why = format!("{way:?} {death:?}");
    let issuer = Issuer::start().await;
    let ground = Ground::new().await;
    let hawser = Hawser::by_hand(ground.clone()).await;
    let admin = hawser.admin("acme");
    let made = admin
        .put(
            "/api/svc/v1/mcp",
            json!({"manifest": manifest(&issuer.mcp_url())}),
        )
        .await;
    let server = admin
        .registered(made.json()["data"]["id"].as_str().unwrap())
        .await;
    for user in USERS {
        connect(&hawser, &issuer, &server, user).await;
    }
    hawser.run_workers().await;
    issuer.clear_log();

    let gate = Gate::closed();
    let (store_cut, at_issuer) = match death {
        Death::BeforeStore(k) => (Some(Cut::Before(k)), None),
        Death::AfterStore(k) => (Some(Cut::After(k)), None),
        Death::BeforeIssuer(k) => (None, Some((k, false))),
        Death::AfterIssuer(k) => (None, Some((k, true))),
    };
    hawser.wire.arm(store_cut);
    if let Some((k, after)) = at_issuer {
        if k > 0 {
            issuer.fault(Fault {
                times: k,
                ..Fault::once("/revoke")
            });
        }
        issuer.fault(Fault {
            hold: Some(gate.clone()),
            after,
            ..Fault::once("/revoke")
        });
    }
    let answer = way.go(&hawser, &server).await;
    let app = hawser.app.clone();
    let mut work =
        tokio::spawn(async move { while process_due(&app, ample()).await.unwrap_or(false) {} });
    let reached = tokio::select! {
        _ = &mut work => match death {
            Death::BeforeStore(k) | Death::AfterStore(k) => hawser.wire.sent().len() > k,
            _ => false,
        },
        () = gate.reached() => {
            work.abort();
            true
        }
    };
    drop(hawser);
    claims_no_more_than_was_confirmed(&ground, &issuer, &why).await;

    issuer.clear_faults();
    let next = Hawser::by_hand(ground.clone()).await;
    let mut done = true;
    for user in way.victims() {
        let status = status(&next, &server, user).await;
        let gone = status.status == 404 || status.json()["status"] == "authentication_required";
        assert!(
            gone || answer.status >= 500,
            "{why}: {answer:?}, then {status:?}"
        );
        done &= gone;
    }
    if !done && way.go(&next, &server).await.status >= 300 {
        // It has happened after all, between the two looks; only an offboarding that was written down does.
        assert_eq!(way, Way::Offboard, "{why}");
    }
    for _ in 0..3 {
        next.run_workers().await;
        next.pass(61);
    }
    claims_no_more_than_was_confirmed(&ground, &issuer, &why).await;
    for pair in issuer.issued() {
        let ended = way.victims().len() == USERS.len() || pair.subject == "ada";
        let first = issuer.issued()[0].access == pair.access;
        let victim = way.victims().len() == USERS.len() || first;
        assert_eq!(pair.active, !(ended && victim), "{why}: {pair:?}");
    }
    let receipts = receipts(&ground).await;
    let counted: u64 = receipts
        .iter()
        .map(|receipt| receipt["outcomes"]["revoked"].as_u64().unwrap())
        .sum();
    if way.has_receipt() {
        assert_eq!(counted as usize, way.victims().len(), "{why}: {receipts:?}");
        assert!(receipts.iter().all(|receipt| receipt["closed"] == true));
    } else {
        assert_eq!(receipts.len(), 0, "{why}");
    }
    let items = ground.items().await;
    let left = items.iter().filter(|item| item["entity"] == "revocation");
    assert_eq!(left.count(), 0, "{why}: sealed tokens are erased");
    if way.deletes() {
        let left: Vec<_> = items.iter().filter(|item| server.holds(item)).collect();
        assert_eq!(left.len(), 0, "{why}: {left:?}");
        assert_eq!(issuer.clients(), Vec::<String>::new(), "{why}");
    }
    reached
}

async fn survives(way: Way) {
    let deaths: [fn(usize) -> Death; 4] = [
        Death::BeforeStore,
        Death::AfterStore,
        Death::BeforeIssuer,
        Death::AfterIssuer,
    ];
    for death in deaths {
        let mut k = 0;
        while dies(way, death(k)).await {
            k += 1;
        }
        assert!(k >= 2, "{way:?} has several effects, not {k}");
    }
}

macro_rules! ways {
    ($($name:ident $way:ident;)*) => {$(
        #[tokio::test]
        async fn $name() {
            survives(Way::$way).await;
        }
    )*};
}

ways! {
    a_disconnect_ends_once_whatever_dies Disconnect;
    a_revoke_all_ends_once_whatever_dies RevokeAll;
    a_forced_update_ends_once_whatever_dies ForcedUpdate;
    a_patch_ends_once_whatever_dies Patch;
    a_truefoundry_deletion_ends_once_whatever_dies DeleteByTruefoundry;
    a_langsmith_deletion_ends_once_whatever_dies DeleteByLangsmith;
    a_kambrium_deletion_ends_once_whatever_dies DeleteByKambrium;
    an_offboarding_ends_once_whatever_dies Offboard;
}
