//! Changing a server.

use super::{
    UNKNOWN, URL, ada, at, auth_of, conflicting, create, create_plain, id, invalid_body,
    invalid_url, invalid_value, is, is_empty_204, mcp_path, missing, not_found,
};
use crate::harness::Hawser;
use serde_json::{Value, json};

#[tokio::test]
async fn an_empty_patch_changes_nothing() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let headers = json!([{"key": "A", "value": "b"}]);
    for (i, auth) in [
        json!({}),
        json!({"headers": headers}),
        json!({"auth_type": "headers", "headers": headers}),
        json!({"auth_type": "oauth"}),
        json!({"auth_type": "oauth", "oauth_provider_id": UNKNOWN}),
    ]
    .into_iter()
    .enumerate()
    {
        let mut body = json!({"name": format!("server {i}"), "url": URL, "vendor_id": "v"});
        body.as_object_mut()
            .unwrap()
            .extend(auth.as_object().unwrap().clone());
        let made = create(&ada, body).await;
        let path = at(id(&made));
        let nulls = json!({"url": null, "headers": null, "auth_type": null, "oauth_mode": null});
        let foreign = json!({"name": 7, "vendor_id": "w", "external_system_id": [], "x": 1});
        // The whole record can be sent back.
        for patch in [json!({}), nulls, foreign, made.clone()] {
            is(&ada.patch(&path, patch).await, made.clone());
            is(&ada.get(&path).await, made.clone());
        }
    }
}

#[tokio::test]
async fn a_patch_changes_what_it_names_and_the_time() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let headers = json!([{"key": "A", "value": "1"}, {"key": "B", "value": "2"}]);
    let body = json!({"name": "search", "url": URL, "headers": headers, "vendor_id": "v"});
    let mut expected = create(&ada, body).await;
    let path = at(id(&expected));
    for (field, value) in [
        ("url", json!("https://Other.example/%7Emcp")),
        ("url", json!("http://LOCALHOST:9001/mcp")),
        ("headers", json!([{"key": "B", "value": "3"}])),
        ("headers", json!([{"key": "b", "value": "3"}])),
        (
            "headers",
            json!([{"key": "C", "value": ""}, {"key": "A", "value": "1"}]),
        ),
        ("headers", json!([])),
        ("headers", json!([{"key": "A", "value": "{{X}}"}])),
        ("auth_type", json!("headers")),
        ("auth_type", json!("")),
    ] {
        let answer = ada.patch(&path, json!({field: value})).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let patched = answer.json();
        assert!(
            patched["updated_at"].as_str().unwrap() > expected["updated_at"].as_str().unwrap(),
            "{field} {value}"
        );
        expected[field] = value;
        expected["updated_at"] = patched["updated_at"].clone();
        is(&answer, expected.clone());
        is(&ada.get(&path).await, expected.clone());
    }
}

#[tokio::test]
async fn a_patch_refuses_what_a_create_refuses() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let made = create(&ada, json!({"name": "search", "url": URL})).await;
    let path = at(id(&made));
    for body in ["", "{", "[]", "null", "7"] {
        let answer = ada.send("PATCH", &path, &[], body.into()).await;
        is(&answer, invalid_body());
    }
    for (body, expected) in [
        (json!({"url": 7}), invalid_body()),
        (json!({"headers": {}}), invalid_body()),
        (json!({"headers": [["A", "b"]]}), invalid_body()),
        (json!({"auth_type": 7}), invalid_body()),
        (json!({"oauth_mode": false}), invalid_body()),
        (json!({"oauth_provider_id": 7}), invalid_body()),
        (json!({"url": ""}), missing("url")),
        (json!({"url": " "}), missing("url")),
        (
            json!({"headers": [{"value": "a"}]}),
            missing("headers[0].key"),
        ),
        (json!({"url": "ftp://h"}), invalid_url("scheme not allowed")),
        (json!({"auth_type": "none"}), invalid_value("auth_type")),
        (json!({"oauth_mode": "x"}), invalid_value("oauth_mode")),
        (
            json!({"oauth_provider_id": "x"}),
            invalid_value("oauth_provider_id"),
        ),
    ] {
        is(&ada.patch(&path, body).await, expected);
    }
    is(&ada.get(&path).await, made);
    is(&ada.patch(&at(UNKNOWN), json!({})).await, not_found());
}

#[tokio::test]
async fn auth_rules_of_a_patch_run_on_the_merged_record() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let (legacy, per_user) = ("legacy_shared_provider", "per_user_dynamic_client");
    let header = json!([{"key": "A", "value": "b"}]);
    let (plain, with_header) = (json!({}), json!({"headers": header}));
    let oauth = json!({"auth_type": "oauth"});
    let shared = json!({"auth_type": "oauth", "oauth_provider_id": UNKNOWN});
    let unset = json!(["", "", [], "absent"]);
    let own = json!(["oauth", per_user, [], null]);
    let no = Value::Null;
    let cases = [
        // Towards OAuth.
        (&plain, oauth.clone(), own.clone()),
        (
            &plain,
            shared.clone(),
            json!(["oauth", legacy, [], UNKNOWN]),
        ),
        (
            &plain,
            json!({"auth_type": "oauth", "oauth_mode": legacy}),
            json!(["oauth", legacy, [], null]),
        ),
        (&with_header, oauth.clone(), no.clone()),
        (
            &with_header,
            json!({"auth_type": "oauth", "headers": []}),
            own.clone(),
        ),
        (
            &plain,
            json!({"auth_type": "oauth", "headers": header}),
            no.clone(),
        ),
        // Away from it.
        (
            &oauth,
            json!({"auth_type": "headers"}),
            json!(["headers", "", [], "absent"]),
        ),
        (&shared, json!({"auth_type": ""}), unset.clone()),
        (
            &shared,
            json!({"auth_type": "headers", "headers": header}),
            json!(["headers", "", header, "absent"]),
        ),
        (
            &shared,
            json!({"auth_type": "", "oauth_mode": "", "oauth_provider_id": null}),
            unset.clone(),
        ),
        (
            &shared,
            json!({"auth_type": "headers", "oauth_mode": legacy}),
            no.clone(),
        ),
        (
            &shared,
            json!({"auth_type": "", "oauth_provider_id": UNKNOWN}),
            no.clone(),
        ),
        // Within it.
        (&oauth, json!({"headers": header}), no.clone()),
        (&oauth, json!({"headers": []}), own.clone()),
        (&oauth, json!({"oauth_provider_id": UNKNOWN}), own.clone()),
        (
            &oauth,
            json!({"oauth_mode": "", "oauth_provider_id": UNKNOWN}),
            json!(["oauth", legacy, [], UNKNOWN]),
        ),
        (
            &shared,
            json!({"oauth_provider_id": null}),
            json!(["oauth", legacy, [], null]),
        ),
        (
            &shared,
            json!({"oauth_mode": ""}),
            json!(["oauth", legacy, [], UNKNOWN]),
        ),
        (
            &shared,
            json!({"oauth_mode": "", "oauth_provider_id": null}),
            own.clone(),
        ),
        (&shared, json!({"oauth_mode": per_user}), own.clone()),
        // Outside of it.
        (&plain, json!({"oauth_mode": per_user}), no.clone()),
        (&plain, json!({"oauth_provider_id": UNKNOWN}), no.clone()),
        (
            &plain,
            json!({"oauth_mode": "", "oauth_provider_id": null}),
            unset,
        ),
    ];
    for (i, (before, patch, shown)) in cases.into_iter().enumerate() {
        let mut body = json!({"name": format!("server {i}"), "url": URL});
        body.as_object_mut()
            .unwrap()
            .extend(before.as_object().unwrap().clone());
        let made = create(&ada, body).await;
        let answer = ada.patch(&at(id(&made)), patch.clone()).await;
        if shown.is_null() {
            is(&answer, conflicting());
            is(&ada.get(&at(id(&made))).await, made);
        } else {
            assert_eq!(auth_of(&answer.json()), shown, "{before} {patch}");
            is(&ada.get(&at(id(&made))).await, answer.json());
        }
    }
}

#[tokio::test]
async fn parallel_patches_all_take_effect() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let path = at(&create_plain(&ada, "search").await);
    let headers = json!([{"key": "A", "value": "b"}]);
    let (url, auth, secret) = tokio::join!(
        ada.patch(&path, json!({"url": "https://other.example"})),
        ada.patch(&path, json!({"auth_type": "headers"})),
        ada.patch(&path, json!({"headers": headers})),
    );
    assert_eq!([url.status, auth.status, secret.status], [200, 200, 200]);
    let now = ada.get(&path).await.json();
    assert_eq!(now["url"], "https://other.example");
    assert_eq!(auth_of(&now), json!(["headers", "", headers, "absent"]));
}

#[tokio::test]
async fn a_changed_address_or_kind_of_auth_takes_users_credentials_with_it() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let oauth = json!({"name": "oauth", "url": URL, "auth_type": "oauth"});
    for (patch, kept) in [
        (json!({"url": URL}), 1),
        (json!({"auth_type": "oauth"}), 1),
        // The same origin: only its bytes differ.
        (json!({"url": "https://mcp.example.com/mcp"}), 0),
        (json!({"url": "https://mcp.example.com:443/mcp/"}), 0),
        (json!({"auth_type": "headers"}), 0),
        (json!({"oauth_mode": "legacy_shared_provider"}), 0),
    ] {
        let made = create(&ada, oauth.clone()).await;
        let overrides = format!("{}/auth", mcp_path(&hawser, "oauth").await);
        let secret = json!({"type": "header", "headerValue": "Bearer own"});
        let body = json!({"subjectType": "user", "subjectId": "ada", "authOverride": secret});
        let admin = hawser.admin("acme");
        let answer = admin.put(&overrides, body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(ada.patch(&at(id(&made)), patch.clone()).await.status, 200);
        // Back to a kind that takes overrides, so that only their own absence can hide them.
        ada.patch(
            &at(id(&made)),
            json!({"auth_type": "oauth", "oauth_mode": ""}),
        )
        .await;
        let left = admin.get(&overrides).await.json();
        assert_eq!(left["data"].as_array().unwrap().len(), kept, "{patch}");
        is_empty_204(&ada.delete(&at(id(&made))).await);
    }
}

#[tokio::test]
async fn a_secret_that_its_caller_cannot_read_does_not_move_to_another_host() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let manifest = json!({"type": "mcp-server/remote", "name": "wiki", "description": "d",
        "url": "https://wiki.example/mcp", "additional_headers": {"X-Extra": "unreadable"},
        "auth_data": {"type": "header", "headers": {"X-Key": "readable"}}});
    admin
        .put("/api/svc/v1/mcp", json!({"manifest": manifest}))
        .await;
    let listed = admin.get("/v1/deepagents/mcp-servers").await.json();
    let path = format!(
        "/v1/deepagents/mcp-servers/{}",
        listed[0]["id"].as_str().unwrap()
    );
    let editor = hawser.caller(
        "acme",
        "eve",
        json!({"permissions": ["mcp-servers:update"]}),
    );
    let to = |url: &str| json!({"url": url});
    assert_eq!(
        editor
            .patch(&path, to("https://wiki.example/other"))
            .await
            .status,
        200
    );
    let refused = editor.patch(&path, to("https://evil.example/mcp")).await;
    assert_eq!(
        (refused.status, refused.text.as_str()),
        (403, "missing permission mcp-servers:invoke")
    );
    let manifest = admin.get("/api/svc/v1/mcp").await.json()["data"][0]["manifest"].clone();
    assert_eq!(
        manifest["additional_headers"],
        json!({"X-Extra": "<REDACTED>"})
    );
    let moved = admin
        .patch(&path, to("https://new.example/mcp"))
        .await
        .json();
    assert_eq!(
        moved["headers"],
        json!([{"key": "X-Key", "value": "readable"}])
    );
    let manifest = admin.get("/api/svc/v1/mcp").await.json()["data"][0]["manifest"].clone();
    assert_eq!(
        manifest.get("additional_headers"),
        None,
        "it did not follow"
    );
}

#[tokio::test]
async fn the_api_key_of_a_connection_is_neither_shown_nor_moved() {
    let hawser = Hawser::with_built_in_integrations().await;
    let admin = hawser.admin("acme");
    let new = json!({"mcp_server": "pipedrive", "access_type": "write", "api_key": "k-4711"});
    let number = admin.post("/api/v1/mcp-servers", new).await.json()["data"]["id"].clone();
    let shown = admin.get("/v1/deepagents/mcp-servers").await;
    assert!(!shown.text.contains("k-4711"), "{}", shown.text);
    assert_eq!(shown.json()[0]["headers"], json!([]));
    let path = format!(
        "/v1/deepagents/mcp-servers/{}",
        shown.json()[0]["id"].as_str().unwrap()
    );
    let own = json!([{"key": "X-Own", "value": "v"}]);
    let patched = admin.patch(&path, json!({"headers": own})).await;
    assert_eq!((patched.status, &patched.json()["headers"]), (200, &own));
    let manifest = admin.get("/api/svc/v1/mcp").await.json()["data"][0]["manifest"].clone();
    let both = json!({"X-Own": "<REDACTED>", "Authorization": "<REDACTED>"});
    assert_eq!(
        manifest["auth_data"]["headers"], both,
        "the key stays beside them"
    );
    let changed = admin
        .put(
            &format!("/api/v1/mcp-servers/{number}"),
            json!({"api_key": "k-2"}),
        )
        .await;
    assert_eq!(changed.status, 200);

    assert_eq!(
        admin
            .patch(&path, json!({"url": "https://evil.example/"}))
            .await
            .status,
        200
    );
    let manifest = admin.get("/api/svc/v1/mcp").await.json()["data"][0]["manifest"].clone();
    assert_eq!(
        manifest["auth_data"]["headers"],
        json!({"X-Own": "<REDACTED>"}),
        "the key did not follow"
    );
    let refused = admin
        .put(
            &format!("/api/v1/mcp-servers/{number}"),
            json!({"api_key": "k-3"}),
        )
        .await;
    refused.is(
        400,
        json!({"detail": "api_key cannot be changed on this connection"}),
    );
}

#[tokio::test]
async fn a_header_that_only_has_the_name_of_a_former_key_is_its_authors_own() {
    let hawser = Hawser::with_built_in_integrations().await;
    let admin = hawser.admin("acme");
    let new = json!({"mcp_server": "pipedrive", "access_type": "write", "api_key": "k-1"});
    let number = admin.post("/api/v1/mcp-servers", new).await.json()["data"]["id"].clone();
    let manifest = json!({"type": "mcp-server/remote", "name": format!("pipedrive-{number}"),
        "description": "d", "url": "https://mcp.pipedrive.example/mcp"});
    let dropped = admin
        .put("/api/svc/v1/mcp", json!({"manifest": manifest}))
        .await;
    assert_eq!(dropped.status, 200);
    let listed = admin.get("/v1/deepagents/mcp-servers").await.json();
    let path = format!(
        "/v1/deepagents/mcp-servers/{}",
        listed[0]["id"].as_str().unwrap()
    );
    let own = json!([{"key": "Authorization", "value": "Bearer own"}]);
    let patched = admin.patch(&path, json!({"headers": own})).await;
    assert_eq!((patched.status, &patched.json()["headers"]), (200, &own));
    assert_eq!(admin.get(&path).await.json()["headers"], own);
}
