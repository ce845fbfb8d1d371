//! Moving and deleting a server.

use super::{MCP, Stage, USERS, assert_nobody_says_revoked, populated, put_server};
use crate::issuer::Issuer;
use serde_json::json;

#[tokio::test]
async fn a_forced_move_revokes_at_the_issuer_that_was() {
    let stage = Stage::set().await;
    let ada = stage.connect("ada").await;
    let pending = stage.approved("bob").await;
    let other = Issuer::start().await;
    let refused = put_server(&stage.admin, &other.mcp_url(), false).await;
    assert_eq!(
        (refused.status, &refused.json()["details"]),
        (417, &json!([{"oauthRecords": 1, "overrides": 0}]))
    );
    stage.hawser.run_workers().await;
    stage.assert_alive(&ada);

    let forced = put_server(&stage.admin, &other.mcp_url(), true).await;
    assert_eq!(forced.status, 200, "{forced:?}");
    assert_eq!(stage.reason("ada").await, "server_changed");
    let (mut browser, back) = pending;
    assert_eq!(browser.open(&back).await.status, 400);
    stage.hawser.run_workers().await;
    assert_eq!(stage.issuer.live_tokens().len(), 0);
    assert_eq!(stage.reason("ada").await, "server_changed");
    assert_eq!(stage.reason("bob").await, "never_connected");
    assert_eq!(
        other.log().len(),
        0,
        "nothing of the old issuer's goes to the new one"
    );

    let at_issuer = browser.begin(&stage.endpoint("ada", "").await).await;
    let page = browser.open(&other.approve(&at_issuer).await).await;
    assert_eq!(page.status, 200, "{page:?}");
    stage.assert_connected("ada").await;
    assert_eq!(other.live_tokens().len(), 2);
}

#[tokio::test]
async fn deleting_a_server_revokes_all_grants_and_then_its_client() {
    let (stage, pairs) = populated().await;
    let pending = stage.approved("zed").await;
    assert_eq!(stage.issuer.clients().len(), 1);
    let deleted = stage.admin.delete(&format!("{MCP}/{}", stage.id)).await;
    deleted.is(200, json!({}));
    let receipt = deleted.header("hawser-receipt").unwrap();
    assert_nobody_says_revoked(&stage.receipt(&receipt).await);
    let (mut browser, back) = pending;
    assert_eq!(browser.open(&back).await.status, 400);

    stage.hawser.run_workers().await;
    for pair in &pairs {
        stage.assert_dead(pair);
    }
    assert_eq!(stage.issuer.live_tokens().len(), 0);
    assert_eq!(stage.issuer.clients().len(), 0);
    let end = format!("#S#{}", stage.id.strip_prefix("mcp-").unwrap());
    let items = stage.hawser.ground().items().await;
    let left = items
        .iter()
        .filter(|item| item["PK"].as_str().unwrap().ends_with(&end));
    assert_eq!(left.count(), 0);
    let after = stage.receipt(&receipt).await;
    assert_eq!(
        (&after["state"], &after["removed"], &after["outcomes"]),
        (
            &json!("complete"),
            &json!({"oauthRecords": 3, "overrides": 2}),
            &json!({"revoked": 3})
        )
    );

    let put = put_server(&stage.admin, &stage.issuer.mcp_url(), false).await;
    let again = Stage {
        id: put.json()["data"]["id"].as_str().unwrap().to_owned(),
        ..stage
    };
    for user in USERS {
        assert_eq!(again.reason(user).await, "never_connected", "{user}");
    }
}

#[tokio::test]
async fn a_client_is_deregistered_only_after_the_last_revocation() {
    let (stage, [ada]) = Stage::with_issuer_down(["ada"]).await;
    let deleted = stage.admin.delete(&format!("{MCP}/{}", stage.id)).await;
    let receipt = deleted.header("hawser-receipt").unwrap();
    stage.hawser.run_workers().await;
    assert_nobody_says_revoked(&stage.receipt(&receipt).await);
    assert_eq!(stage.issuer.clients().len(), 1, "it is needed to revoke");
    stage.assert_alive(&ada);
    stage.issuer.clear_faults();
    stage.hawser.pass(120);
    stage.hawser.run_workers().await;
    stage.assert_dead(&ada);
    assert_eq!(stage.issuer.clients().len(), 0);
    assert_eq!(
        stage.receipt(&receipt).await["outcomes"],
        json!({"revoked": 1})
    );
}
