//! Consents and refreshes that fail.

use super::{Scene, altered, assert_bad_state, assert_error, failed};
use crate::issuer::{FOREIGN, Fault};
use aws_sdk_dynamodb::types::AttributeValue;
use hawser_core::domain::event::Who;
use hawser_core::domain::id::{ServerId, TenantId};
use hawser_core::domain::subject::{Subject, SubjectType};
use hawser_core::operations::grants::{self, GrantAccess, TokenRequirement};
use serde_json::json;

#[tokio::test]
async fn a_denied_consent_fails_and_says_so() {
    let scene = Scene::discovered().await;
    let (id, url) = scene.create().await;
    let page = scene.visit(&scene.issuer.deny(&url).await).await;
    assert_error(&page, "access_denied");
    assert_eq!(scene.states(id).await, failed());
    assert_eq!(scene.issuer.count("POST", "/token"), 0);
    // The address is used up, even for someone who agrees now.
    assert_bad_state(&scene.visit(&scene.issuer.approve(&url).await).await);
    assert_eq!(scene.states(id).await, failed());
}

#[tokio::test]
async fn an_issuers_own_words_are_not_passed_on() {
    let scene = Scene::discovered().await;
    let long = "a".repeat(65);
    for (code, shown) in [
        ("temporarily_unavailable", "temporarily_unavailable"),
        ("</script><script>alert(1)</script>", "invalid_request"),
        ("Denied", "invalid_request"),
        (long.as_str(), "invalid_request"),
    ] {
        let (id, url) = scene.create().await;
        let denied = scene.issuer.deny(&url).await;
        let page = scene
            .visit(&altered(&denied, &[("error", Some(code))]))
            .await;
        assert_error(&page, shown);
        assert!(!page.text.contains("alert"), "{}", page.text);
        assert_eq!(scene.states(id).await, failed());
    }
    // Neither a code nor an error.
    let (id, url) = scene.create().await;
    let back = scene.issuer.approve(&url).await;
    assert_error(
        &scene.visit(&altered(&back, &[("code", None)])).await,
        "server_error",
    );
    assert_eq!(scene.states(id).await, failed());
}

#[tokio::test]
async fn a_code_is_exchanged_once_and_a_failure_is_final() {
    let scene = Scene::discovered().await;
    let refused = json!({"error": "invalid_grant", "error_description": FOREIGN}).to_string();
    for (status, body) in [
        (Some(400), refused),
        (Some(503), String::new()),
        (Some(200), "<html>".to_owned()),
        (None, String::new()),
    ] {
        let drop = status.is_none();
        scene.issuer.clear_log();
        let fault = Fault {
            status,
            body,
            drop,
            ..Fault::always("/token")
        };
        scene.issuer.fault(fault);
        let (id, url) = scene.create().await;
        let back = scene.issuer.approve(&url).await;
        assert_error(&scene.visit(&back).await, "server_error");
        assert_eq!(scene.states(id).await, failed());
        scene.issuer.clear_faults();
        assert_bad_state(&scene.visit(&back).await);
        assert_eq!(scene.issuer.count("POST", "/token"), 1);
    }
    assert_eq!(scene.issuer.issued().len(), 0);
}

#[tokio::test]
async fn a_refresh_that_is_refused_for_good_fails_the_connection() {
    let scene = Scene::discovered().await;
    let id = scene.connect().await;
    let server = ServerId::parse_prefixed(&scene.mcp().await).unwrap();
    let tenant = TenantId::parse("acme").unwrap();
    let subject = Subject::new(SubjectType::User, "ada").unwrap();
    for (error, expected) in [
        ("temporarily_unavailable", "active"),
        ("invalid_grant", "failed"),
    ] {
        scene.issuer.fault(Fault {
            status: Some(400),
            body: json!({ "error": error }).to_string(),
            ..Fault::once("/token")
        });
        // Longer than the token lives.
        let need = TokenRequirement::ValidFor(7200);
        let usable = grants::access(
            &scene.hawser.app,
            &tenant,
            &Who::Operator,
            server,
            &subject,
            need,
            grants::MAX_REFRESH_WAIT,
        )
        .await;
        assert!(
            matches!(usable, Ok(GrantAccess::Unavailable(_))),
            "{usable:?}"
        );
        assert_eq!(scene.states(id).await.0, expected);
        forget_pause(&scene).await;
    }
    assert_eq!(scene.states(id).await, failed());
}

/// Lets a grant be refreshed again at once.
async fn forget_pause(scene: &Scene) {
    let items = scene.hawser.ground().items().await;
    let grant = items.iter().find(|item| item["entity"] == "grant").unwrap();
    let text = |name: &str| AttributeValue::S(grant[name].as_str().unwrap().to_owned());
    let client = scene.hawser.ground().dynamodb();
    let update = client
        .update_item()
        .table_name(hawser_local::TABLE)
        .key("PK", text("PK"))
        .key("SK", text("SK"))
        .update_expression("REMOVE retry_at");
    update.send().await.unwrap();
}
