//! What the command line `tfy` asks before it does anything: both without credentials.

use super::{is, is_invalid, refused};
use crate::harness::{Ground, Hawser};
use hawser_core::domain::id::TenantId;
use serde_json::json;

const TENANT: &str = "/api/svc/v1/tenant-id";

#[tokio::test]
async fn no_version_of_the_command_line_is_too_old() {
    let hawser = Hawser::start().await;
    let answer = hawser
        .with(Vec::new())
        .get("/api/svc/v1/min-cli-version")
        .await;
    let expected = json!({"minVersion": "0.0.0", "truefoundryCliMinVersion": "0.0.0", "useSFYServerAuthAPIs": true});
    is(&answer, (200, expected));
}

#[tokio::test]
async fn the_tenant_is_that_of_tokens_that_name_none_else_the_host() {
    let hawser = Hawser::start().await;
    let nobody = hawser.with(Vec::new());
    let asked = format!("{TENANT}?hostName=127.0.0.1:9310");
    let expected = json!({"tenantName": "127.0.0.1:9310", "auth_server_url": hawser.url});
    is(&nobody.get(&asked).await, (200, expected));
    is_invalid(&nobody.get(TENANT).await, &["hostName"]);
    is_invalid(
        &nobody.get(&format!("{TENANT}?hostName=")).await,
        &["hostName"],
    );
    is_invalid(
        &nobody.get(&format!("{TENANT}?hostName=a&hostName=b")).await,
        &["hostName"],
    );
    is_invalid(
        &nobody.get(&format!("{TENANT}?hostName=a%0ab")).await,
        &["hostName"],
    );
    for (host, status) in [
        ("null".to_owned(), 400),
        ("é".repeat(255), 200),
        ("a".repeat(256), 400),
    ] {
        let answer = nobody.get(&format!("{TENANT}?hostName={host}")).await;
        assert_eq!(answer.status, status, "{host}: {answer:?}");
    }
    let ground = Ground::new().await;
    let hawser = Hawser::by_hand_changed(ground, |app| {
        app.default_tenant = TenantId::parse("acme");
    })
    .await;
    let answer = hawser.with(Vec::new()).get(&asked).await;
    assert_eq!(answer.json()["tenantName"], "acme");
}

#[tokio::test]
async fn the_order_of_several_manifests_is_left_to_the_command_line() {
    let hawser = Hawser::start().await;
    let answer = hawser
        .admin("acme")
        .post("/api/svc/v1/dependency-tree", json!({"manifests": []}))
        .await;
    is(&answer, refused(404, "NOT_FOUND", "There is no such path."));
}
