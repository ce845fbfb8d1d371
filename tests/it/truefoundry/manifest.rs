//! The rules of a manifest.

use super::{MCP, is_invalid, manifest};
use crate::harness::Hawser;
use serde_json::{Value, json};

#[tokio::test]
async fn every_rule_of_the_manifest_is_enforced_with_its_path() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let with = |field: &str, value: Value| {
        let mut manifest = manifest("wiki", Value::Null);
        manifest[field] = value;
        manifest
    };
    let header = |headers: Value, level: &str| {
        with(
            "auth_data",
            json!({"type": "header", "headers": headers, "auth_level": level}),
        )
    };
    let oauth = |fields: Value| {
        let mut auth = json!({"type": "oauth2"});
        auth.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        with("auth_data", auth)
    };
    let many: serde_json::Map<_, _> = (0..33).map(|i| (format!("X-{i}"), json!("v"))).collect();
    let cases: Vec<(Value, &[&str])> = vec![
        (with("name", json!("Wiki")), &["manifest.name"]),
        (with("name", json!("ab")), &["manifest.name"]),
        (with("name", json!("wiki-")), &["manifest.name"]),
        (with("name", json!(7)), &["manifest.name"]),
        (with("description", json!("")), &["manifest.description"]),
        (
            with("description", json!("x".repeat(1001))),
            &["manifest.description"],
        ),
        (with("description", Value::Null), &["manifest.description"]),
        (with("url", json!("ftp://wiki.example")), &["manifest.url"]),
        (
            with("url", json!("https://wiki.example/a b")),
            &["manifest.url"],
        ),
        (
            with("url", json!("https://u:p@wiki.example/")),
            &["manifest.url"],
        ),
        (
            with("url", json!("https://wiki.example/#x")),
            &["manifest.url"],
        ),
        (
            with(
                "url",
                json!(format!("https://wiki.example/{}", "x".repeat(2048))),
            ),
            &["manifest.url"],
        ),
        (with("type", json!(1)), &["manifest.type"]),
        (with("display_name", json!("")), &["manifest.display_name"]),
        (with("auth_data", json!([])), &["manifest.auth_data"]),
        (with("auth_data", json!({})), &["manifest.auth_data.type"]),
        (
            with("auth_data", json!({"type": "header"})),
            &["manifest.auth_data.headers"],
        ),
        (header(json!({}), "global"), &["manifest.auth_data.headers"]),
        (
            header(Value::Object(many), "global"),
            &["manifest.auth_data.headers"],
        ),
        (
            header(json!({"A": "v"}), "both"),
            &["manifest.auth_data.auth_level"],
        ),
        (
            header(json!({"Host": "v"}), "global"),
            &["manifest.auth_data.headers.Host"],
        ),
        (
            header(json!({"a b": "v"}), "global"),
            &["manifest.auth_data.headers.a b"],
        ),
        (
            header(json!({"A": "v", "a": "w"}), "global"),
            &["manifest.auth_data.headers.a"],
        ),
        (
            header(json!({"A": "v\r\nEvil: 1"}), "global"),
            &["manifest.auth_data.headers.A"],
        ),
        (
            header(json!({"A": " v"}), "global"),
            &["manifest.auth_data.headers.A"],
        ),
        (
            header(json!({"A": "{{X}}"}), "global"),
            &["manifest.auth_data.headers.A"],
        ),
        (
            header(json!({"A": "v"}), "per_user"),
            &["manifest.auth_data.headers"],
        ),
        (
            header(json!({"A": "{{X}}{{Y}}"}), "per_user"),
            &["manifest.auth_data.headers.A", "manifest.auth_data.headers"],
        ),
        (
            header(json!({"A": "{{ X }}", "B": "{{Y}}"}), "per_user"),
            &["manifest.auth_data.headers.A"],
        ),
        (
            header(
                json!({"A": "{{mcpProxyBaseURL}}", "B": "{{Y}}"}),
                "per_user",
            ),
            &["manifest.auth_data.headers.A"],
        ),
        (
            header(json!({"A": "x<REDACTED>"}), "global"),
            &["manifest.auth_data.headers.A"],
        ),
        (
            with("additional_headers", json!({"A": "{{X}}"})),
            &["manifest.additional_headers.A"],
        ),
        (
            with("additional_headers", json!({"A": 1})),
            &["manifest.additional_headers.A"],
        ),
        (
            with(
                "collaborators",
                json!([{"subject": "user:a@b", "role_id": "owner"}]),
            ),
            &["manifest.collaborators[0].role_id"],
        ),
        (
            with(
                "collaborators",
                json!([{"subject": "group:x", "role_id": "mcp-server-user"}]),
            ),
            &["manifest.collaborators[0].subject"],
        ),
        (with("ownedBy", json!({})), &["manifest.ownedBy.account"]),
        (
            with("tls_settings", json!({"reject_unauthorized": "no"})),
            &["manifest.tls_settings.reject_unauthorized"],
        ),
        (
            with("tool_settings", json!([{"name": "a b"}])),
            &["manifest.tool_settings[0].name"],
        ),
        (
            with("tool_policy", json!({"disabled_tools": [1]})),
            &["manifest.tool_policy.disabled_tools[0]"],
        ),
        (
            with(
                "tool_metadata",
                json!({"t": {"annotations": {"readOnlyHint": 1}}}),
            ),
            &["manifest.tool_metadata.t.annotations.readOnlyHint"],
        ),
        (
            oauth(json!({"token_url": "http://as.example/token"})),
            &["manifest.auth_data.token_url"],
        ),
        (
            oauth(json!({"client_secret": "s"})),
            &["manifest.auth_data.client_secret"],
        ),
        (
            oauth(json!({"registration_url": "https://as.example/r", "client_id": "c"})),
            &["manifest.auth_data.client_id"],
        ),
        (
            oauth(json!({"scopes": ["a b"]})),
            &["manifest.auth_data.scopes[0]"],
        ),
        (
            oauth(json!({"code_challenge_methods_supported": ["plain"]})),
            &["manifest.auth_data.code_challenge_methods_supported[0]"],
        ),
        (
            oauth(json!({"additional_token_params": {"resource": "x"}})),
            &["manifest.auth_data.additional_token_params.resource"],
        ),
        (
            oauth(json!({"grant_type": "client_credentials"})),
            &[
                "manifest.auth_data.token_url",
                "manifest.auth_data.client_id",
                "manifest.auth_data.client_secret",
            ],
        ),
    ];
    for (manifest, paths) in cases {
        let answer = admin.put(MCP, json!({"manifest": manifest})).await;
        is_invalid(&answer, paths);
    }
    is_invalid(&admin.put(MCP, json!({})).await, &["manifest"]);
    is_invalid(
        &admin
            .put(
                MCP,
                json!({"manifest": manifest("wiki", Value::Null), "force": "yes"}),
            )
            .await,
        &["force"],
    );
    is_invalid(&admin.send("PUT", MCP, &[], b"[]".to_vec()).await, &[""]);
    is_invalid(&admin.send("PUT", MCP, &[], b"{".to_vec()).await, &[""]);
    assert_eq!(
        admin.get(MCP).await.json()["pagination"]["total"],
        0,
        "nothing was stored"
    );
}
