//! What is before and what is after is said by the table: no clock, no late worker and no lost answer brings back what was
//! ended, and none ends what came later.

use crate::harness::{Browser, Cut, Hawser, ample};
use crate::issuer::Issuer;
use crate::refresh::Ground;
use aws_sdk_dynamodb::types::AttributeValue;
use hawser_core::operations::scheduler::{process, process_due};
use serde_json::json;

const ADA: &str = "/v1/subjects/user/ada/credentials";

impl Ground {
    /// Comes back from the issuer; whether that connected.
    async fn comes_back(&self, (browser, callback): &(Browser, String)) -> bool {
        let page = browser.clone().open(callback).await;
        page.text.contains("is connected for")
    }

    async fn is_connected(&self) -> bool {
        self.status("ada").await["status"] == "authenticated"
    }

    /// Changes the server's outbound auth by force, there and back, so that what was stored is void and a sweep pending.
    async fn forced_change(&self) {
        let admin = self.hawser.admin("acme");
        for url in ["https://elsewhere.example/mcp", &self.issuer.mcp_url()] {
            let manifest = json!({"type": "mcp-server/remote", "name": "wiki", "description": "d",
                                  "url": url, "auth_data": {"type": "oauth2"}});
            let body = json!({"manifest": manifest, "force": true});
            assert_eq!(admin.put("/api/svc/v1/mcp", body).await.status, 200);
        }
    }

    /// As older versions have written it: consents begun until then are void.
    async fn set_fence(&self, field: &str, at: i64) {
        let text = |text: String| AttributeValue::S(text);
        let pk = format!("T#acme#S#{}", self.mcp.trim_start_matches("mcp-"));
        let client = self.hawser.ground().dynamodb();
        let update = client
            .update_item()
            .table_name(hawser_local::TABLE)
            .key("PK", text(pk))
            .key("SK", text(format!("C#user#ada{field}")))
            .update_expression("SET fence = :at")
            .expression_attribute_values(":at", AttributeValue::N(at.to_string()));
        update.send().await.unwrap();
    }

    async fn settle_in_order(&self) {
        for _ in 0..3 {
            self.hawser.run_workers().await;
            self.hawser.pass(61);
        }
    }
}

async fn ground() -> Ground {
    Ground::new(Hawser::start_by_hand().await).await
}

#[tokio::test]
async fn a_late_sweep_opens_no_way_back() {
    let one = ground().await;
    one.connect("ada").await;
    let admin = one.hawser.admin("acme");
    assert_eq!(admin.install(&one.mcp, "user", "ada").await.status, 200);
    one.forced_change().await;
    let early = one.approve("ada").await;
    one.hawser.pass(1);
    let second = one.approve("ada").await;
    assert!(one.comes_back(&second).await);
    one.hawser.pass(1);
    assert_eq!(one.disconnect("ada").await, 200);
    // Only now the void override is swept, with the reason and the time of the change.
    one.settle_in_order().await;
    assert_eq!(
        one.status("ada").await["reason"],
        "revoked",
        "the last word"
    );
    assert!(!one.comes_back(&early).await);
    assert!(!one.is_connected().await);
    one.settle_in_order().await;
    assert_eq!(one.issuer.live_tokens(), Vec::<String>::new());
}

#[tokio::test]
async fn a_sweep_ends_no_consent_that_was_begun_after_the_change() {
    let one = ground().await;
    one.connect("ada").await;
    one.forced_change().await;
    let callback = one.approve("ada").await;
    one.settle_in_order().await;
    assert_eq!(one.status("ada").await["reason"], "server_changed");
    assert!(one.comes_back(&callback).await);
}

#[tokio::test]
async fn a_consent_is_void_after_a_disconnect_whatever_the_clocks_say() {
    for skew in [-3600, -2, 0, 2, 3600] {
        let one = ground().await;
        one.connect("ada").await;
        let callback = one.approve("ada").await;
        let other = Hawser::by_hand(one.hawser.ground()).await;
        other.pass(skew);
        let body = json!({"authSource": "oauth", "subjectId": "ada", "subjectType": "user"});
        let path = format!("/api/svc/v1/mcp/{}/auth", one.mcp);
        let answer = other.admin("acme").delete_with(&path, body).await;
        assert_eq!(answer.status, 200, "{skew}");
        assert!(!one.comes_back(&callback).await, "{skew}");
        assert!(!one.is_connected().await, "{skew}");
        // And one that is begun after it stands.
        let callback = one.approve("ada").await;
        assert!(one.comes_back(&callback).await, "{skew}");
    }
}

#[tokio::test]
async fn a_consent_from_before_replaces_no_grant_from_after() {
    let one = ground().await;
    one.connect("ada").await;
    let early = one.approve("ada").await;
    assert_eq!(one.disconnect("ada").await, 200);
    one.connect("ada").await;
    let live = one.issuer.live_tokens();
    assert!(!one.comes_back(&early).await);
    assert!(one.is_connected().await);
    one.settle_in_order().await;
    assert!(live[2..].iter().all(|token| one.issuer.is_active(token)));
}

#[tokio::test]
async fn a_refusal_from_before_a_disconnect_says_nothing() {
    let one = ground().await;
    one.connect("ada").await;
    let (mut browser, at_issuer) = one.begin("ada").await;
    assert_eq!(one.disconnect("ada").await, 200);
    let refused = one.issuer.deny(&at_issuer).await;
    browser.open(&refused).await;
    assert_eq!(one.status("ada").await["reason"], "revoked");
}

/// Items as an older version wrote them: no counts, but times.
#[tokio::test]
async fn what_an_older_version_wrote_still_voids() {
    for (field, entity) in [("#reason", "reason"), ("#oauth", "grant")] {
        let one = ground().await;
        one.connect("ada").await;
        if entity == "reason" {
            assert_eq!(one.disconnect("ada").await, 200);
        }
        let callback = one.approve("ada").await;
        let ground = one.hawser.ground();
        let items = ground.items().await;
        let session = items.iter().rfind(|item| item["entity"] == "session");
        let at = session.unwrap()["at"].as_i64().unwrap();
        one.set_fence(field, at).await;
        assert!(!one.comes_back(&callback).await, "{entity}");
    }
}

/// A new grant takes over until when an older version has made consents void.
#[tokio::test]
async fn a_grant_inherits_what_an_older_version_wrote() {
    let one = ground().await;
    one.connect("ada").await;
    let early = one.approve("ada").await;
    one.hawser.pass(1);
    one.set_fence("#oauth", one.hawser.app.now().micros()).await;
    one.hawser.pass(1);
    one.connect("ada").await;
    assert!(!one.comes_back(&early).await);
}

#[tokio::test]
async fn an_offboarding_voids_the_consents_begun_before_it_and_no_others() {
    let one = ground().await;
    one.connect("ada").await;
    let early = one.approve("ada").await;
    // It is written down, and the process dies.
    let other = Hawser::by_hand(one.hawser.ground()).await;
    other.wire.arm(Some(Cut::Before(2)));
    let answer = other.admin("acme").delete(ADA).await;
    assert!(answer.status >= 500, "{answer:?}");
    other.die().await;
    assert!(
        !one.comes_back(&early).await,
        "at a server that is not reached yet"
    );
    let callback = one.approve("ada").await;
    assert!(
        one.comes_back(&callback).await,
        "one that was begun after it"
    );
    let later = one.approve("ada").await;
    one.settle_in_order().await;
    assert!(one.is_connected().await, "the worker leaves it");
    assert!(one.comes_back(&later).await, "and the open one");
    let listed = one.hawser.admin("acme").get("/v1/receipts").await.json();
    assert_eq!(listed["data"][0]["state"], "complete", "{listed}");
    one.settle_in_order().await;
    let live = one.issuer.live_tokens();
    assert_eq!(live.len(), 2, "{live:?}");
}

#[tokio::test]
async fn a_consent_at_a_server_made_meanwhile_is_void_too() {
    let one = ground().await;
    let callback = one.approve("ada").await;
    // Nothing is stored for her anywhere, so no server has a reason to refuse.
    let answer = one.hawser.admin("acme").delete(ADA).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(!one.comes_back(&callback).await);
    assert!(!one.is_connected().await);
    one.settle_in_order().await;
    assert_eq!(one.issuer.live_tokens(), Vec::<String>::new());
}

#[tokio::test]
async fn an_offboarding_says_200_only_when_nothing_can_be_read() {
    let mut k = 0;
    let mut seen = Vec::new();
    loop {
        let issuer = Issuer::start().await;
        let hawser = Hawser::start().await;
        let admin = hawser.admin("acme");
        let mut servers = Vec::new();
        for name in ["one", "two", "three"] {
            let auth =
                json!({"type": "header", "headers": {"A": "{{KEY}}"}, "auth_level": "per_user"});
            servers.push(admin.register(name, auth, &["ada"]).await.mcp);
        }
        hawser.wire.arm(Some(Cut::Away(k, 2)));
        let answer = admin.delete(ADA).await;
        let reached = hawser.wire.sent().len() > k;
        hawser.wire.arm(None);
        seen.push(answer.status);
        if answer.status == 200 {
            for id in &servers {
                let path =
                    format!("/api/svc/v1/mcp/{id}/auth/status?subjectId=ada&subjectType=user");
                let status = admin.get(&path).await.json();
                assert_eq!(status["reason"], "revoked", "{k}: {answer:?}");
            }
            assert_ne!(answer.json()["data"]["state"], "removing", "{k}");
        } else if answer.status == 202 {
            assert_eq!(answer.json()["data"]["state"], "removing", "{k}");
        }
        hawser.run_workers().await;
        drop(issuer);
        if !reached {
            break;
        }
        k += 1;
    }
    assert!(
        seen.iter().filter(|status| **status == 200).count() > 4,
        "{seen:?}"
    );
}

#[tokio::test]
async fn an_offboarding_that_goes_on_says_so() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let auth = json!({"type": "header", "headers": {"A": "{{KEY}}"}, "auth_level": "per_user"});
    admin.register("wiki", auth, &["ada"]).await;
    hawser.wire.arm(Some(Cut::Before(2)));
    let answer = admin.delete(ADA).await;
    assert!(answer.status >= 500);
    hawser.wire.arm(None);
    let listed = admin.get("/v1/receipts").await.json();
    assert_eq!(listed["data"][0]["state"], "removing");
    for work in hawser.due().await {
        process(&hawser.app, &work, ample()).await.unwrap();
    }
    let listed = admin.get("/v1/receipts").await.json();
    assert_eq!(listed["data"][0]["state"], "complete");
    assert!(!process_due(&hawser.app, ample()).await.unwrap());
}
