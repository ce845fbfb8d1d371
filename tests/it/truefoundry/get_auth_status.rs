//! Asking whether a subject is connected.

use super::{
    MCP, client_credentials, global, grant, install, is, is_invalid, not_manager, oauth, per_user,
    register, status,
};
use crate::harness::Hawser;
use hawser_core::domain::credential::{Grant, RefreshOutcome};
use serde_json::{Value, json};

#[tokio::test]
async fn the_auth_status_is_that_of_the_contracts_table() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let over = json!({"status": "authenticated", "method": "auth-override"});
    let not_required =
        |reason: &str| json!({"status": "authentication_not_required", "reason": reason});
    let required = |method: Value, reason: &str| json!({"status": "authentication_required", "method": method, "reason": reason});
    for (name, auth, without) in [
        (
            "none",
            Value::Null,
            not_required("This MCP server has no authentication configured."),
        ),
        (
            "passthrough",
            json!({"type": "passthrough"}),
            not_required("This MCP server receives the caller's own token."),
        ),
        (
            "global",
            global(),
            not_required("This MCP server uses a header credential shared by all callers."),
        ),
        (
            "credentials",
            client_credentials(),
            not_required("This MCP server uses its own OAuth2 client credentials."),
        ),
        (
            "per-user",
            per_user(),
            required(Value::Null, "never_connected"),
        ),
        ("oauth", oauth(), required(Value::Null, "never_connected")),
    ] {
        let id = register(&admin, name, auth).await;
        status(&admin, &id, "ada").await.is(200, without);
        if install(&admin, &id, "ada", "v").await.status == 200 {
            status(&admin, &id, "ada").await.is(200, over.clone());
        }
    }
    type Change = fn(&mut Grant);
    const OVER: fn(&mut Grant) =
        |g| g.expires_at = Some(hawser_core::domain::time::Timestamp::from_micros(1));
    let ok = json!({"status": "authenticated", "method": "oauth"});
    let rows: [(&str, Change, Value); 9] = [
        ("unknown-expiry", |_| {}, ok.clone()),
        (
            "unexpired",
            |g| g.expires_at = Some(hawser_core::domain::time::Timestamp::from_micros(i64::MAX)),
            ok.clone(),
        ),
        ("refreshable", |g| OVER(g), ok.clone()),
        (
            "refreshed",
            |g| {
                OVER(g);
                g.last_refresh = Some(RefreshOutcome::Succeeded)
            },
            ok,
        ),
        (
            "no-refresh",
            |g| {
                OVER(g);
                g.refreshable = false
            },
            required(json!("oauth"), "expired"),
        ),
        (
            "bad-client",
            |g| {
                OVER(g);
                g.last_refresh = Some(RefreshOutcome::InvalidClient)
            },
            required(json!("oauth"), "invalid_client"),
        ),
        (
            "failing",
            |g| {
                OVER(g);
                g.last_refresh = Some(RefreshOutcome::Failed)
            },
            required(json!("oauth"), "refresh_failed"),
        ),
        (
            "ended",
            |g| g.last_refresh = Some(RefreshOutcome::InvalidGrant),
            required(json!("oauth"), "invalid_grant"),
        ),
        (
            "narrow",
            |g| g.scopes.clear(),
            required(json!("oauth"), "scope_insufficient"),
        ),
    ];
    for (name, change, expected) in rows {
        let scoped = if name == "narrow" {
            json!({"type": "oauth2", "scopes": ["read"]})
        } else {
            oauth()
        };
        let id = register(&admin, name, scoped).await;
        grant(&hawser, &id, change).await;
        status(&admin, &id, "ada").await.is(200, expected);
        install(&admin, &id, "ada", "v").await;
        status(&admin, &id, "ada").await.is(200, over.clone());
    }
}

#[tokio::test]
async fn status_wants_its_parameters_and_tells_nothing_of_unknown_subjects() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let id = register(&admin, "wiki", per_user()).await;
    let path = format!("{MCP}/{id}/auth");
    for (query, paths) in [
        ("", &["subjectType", "subjectId"][..]),
        ("?subjectId=ada", &["subjectType"]),
        ("?subjectId=&subjectType=user", &["subjectId"]),
        ("?subjectId=null&subjectType=user", &["subjectId"]),
        ("?subjectId=ada&subjectType=team", &["subjectType"]),
        ("?subjectId=a&subjectId=b&subjectType=user", &["subjectId"]),
        ("?subjectId=a%00&subjectType=user", &["subjectId"]),
    ] {
        is_invalid(&admin.get(&format!("{path}/status{query}")).await, paths);
        is_invalid(&admin.get(&format!("{path}/state{query}")).await, paths);
    }
    let never =
        json!({"status": "authentication_required", "method": null, "reason": "never_connected"});
    for kind in ["user", "virtualaccount", "external-identity"] {
        let asked = admin
            .get(&format!(
                "{path}/state?subjectId=no%23one&subjectType={kind}&more=1"
            ))
            .await;
        is(&asked, (200, never.clone()));
    }
    let eve = hawser.caller("acme", "eve", json!({}));
    is(
        &eve.get(&format!(
            "{path}/status?subjectId=eve&subjectType=external-identity"
        ))
        .await,
        not_manager(),
    );
}
