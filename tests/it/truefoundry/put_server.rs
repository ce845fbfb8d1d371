//! Registering and changing a server.

use super::{
    MCP, client_credentials, disconnect, grant, install, is, is_invalid, manifest, no_record,
    oauth, per_user, register, status,
};
use crate::harness::Hawser;
use hawser_core::domain::credential::RefreshOutcome;
use serde_json::{Value, json};

#[tokio::test]
async fn an_update_keeps_identity_and_replaces_the_manifest() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let mut first = manifest("wiki", Value::Null);
    first["tags"] = json!({"team": "docs", "n": [1, null]});
    first["unknown"] = json!("dropped");
    let created = admin.put(MCP, json!({"manifest": first})).await.json()["data"].clone();
    assert_eq!(
        created["manifest"]["tags"],
        json!({"team": "docs", "n": [1, null]})
    );
    assert_eq!(created["manifest"].get("unknown"), None);
    let again = admin
        .put(MCP, json!({"manifest": first, "force": null}))
        .await
        .json()["data"]
        .clone();
    assert_eq!(again, created, "an unchanged manifest writes nothing");
    let changed = admin
        .put(MCP, json!({"manifest": manifest("wiki", Value::Null)}))
        .await
        .json()["data"]
        .clone();
    assert_eq!(
        changed["manifest"].get("tags"),
        None,
        "an omitted field is removed"
    );
    assert_eq!(
        (&changed["id"], &changed["createdAt"]),
        (&created["id"], &created["createdAt"])
    );
}

#[tokio::test]
async fn kinds_of_server_and_authentication_that_are_not_offered_are_422() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let auth = |auth: Value| json!({"manifest": manifest("wiki", auth)});
    for (body, path) in [
        (
            json!({"manifest": {"type": "mcp-server/stdio"}}),
            "manifest.type",
        ),
        (json!({"manifest": {"type": "anything"}}), "manifest.type"),
        (
            auth(json!({"type": "aws-sigv4"})),
            "manifest.auth_data.type",
        ),
        (
            auth(json!({"type": "oauth2", "grant_type": "jwt_bearer"})),
            "manifest.auth_data.grant_type",
        ),
        (
            auth(json!({"type": "oauth2", "provider": "github"})),
            "manifest.auth_data.provider",
        ),
        (
            auth(json!({"type": "oauth2", "client_authentication": "private_key"})),
            "manifest.auth_data.client_authentication",
        ),
        (
            auth(json!({"type": "oauth2", "use_organization": true})),
            "manifest.auth_data.use_organization",
        ),
        (
            auth(json!({"type": "oauth2", "client_id": "tfy-secret://x"})),
            "manifest.auth_data.client_id",
        ),
    ] {
        let answer = admin.put(MCP, body).await;
        let expected = json!({"statusCode": 422, "message": "This kind of configuration is not supported here.",
                              "code": "UNSUPPORTED", "details": answer.json()["details"]});
        is(&answer, (422, expected));
        assert_eq!(answer.json()["details"][0]["path"], path);
    }
}

#[tokio::test]
async fn secrets_are_redacted_and_kept_by_the_marker_while_they_go_to_the_same_place() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let mut full = manifest("wiki", client_credentials());
    full["auth_data"]["additional_token_params"] = json!({"audience": "p-s3cret"});
    full["additional_headers"] = json!({"X-Extra": "h-s3cret"});
    let shown = admin.put(MCP, json!({"manifest": full})).await;
    assert!(!shown.text.contains("s3cret"), "{}", shown.text);
    let redacted = shown.json()["data"]["manifest"].clone();
    assert_eq!(redacted["auth_data"]["client_secret"], "<REDACTED>");
    assert_eq!(
        redacted["auth_data"]["additional_token_params"],
        json!({"audience": "<REDACTED>"})
    );
    assert_eq!(
        redacted["additional_headers"],
        json!({"X-Extra": "<REDACTED>"})
    );
    admin
        .put(MCP, json!({"manifest": redacted}))
        .await
        .is(200, shown.json());

    // Metadata at the authorization endpoint's origin may name a revocation endpoint, which is told the secret too.
    for (endpoint, url) in [
        ("token_url", "https://elsewhere.example/token"),
        ("authorization_url", "https://elsewhere.example/authorize"),
    ] {
        let mut moved = redacted.clone();
        moved["auth_data"][endpoint] = json!(url);
        let answer = admin.put(MCP, json!({"manifest": moved})).await;
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (400, &json!("REDACTED_VALUE_UNKNOWN")),
            "{endpoint}"
        );
        let details = answer.json()["details"].clone();
        let paths: Vec<_> = details.as_array().unwrap().iter().collect();
        let paths: Vec<_> = paths.iter().map(|detail| detail["path"].clone()).collect();
        assert_eq!(
            paths,
            [
                "manifest.auth_data.additional_token_params.audience",
                "manifest.auth_data.client_secret"
            ],
            "{endpoint}"
        );
    }
    let mut moved = redacted.clone();
    moved["url"] = json!("https://elsewhere.example/mcp");
    let answer = admin.put(MCP, json!({"manifest": moved})).await;
    assert_eq!(
        answer.json()["details"][0]["path"],
        "manifest.additional_headers.X-Extra"
    );
    assert_eq!(
        answer.json()["details"].as_array().unwrap().len(),
        1,
        "the client secret goes to the token URL"
    );
    let answer = admin.put(MCP, json!({"manifest": manifest("fresh", json!({"type": "header", "headers": {"A": "<REDACTED>"}}))})).await;
    assert_eq!(
        (answer.status, &answer.json()["code"]),
        (400, &json!("REDACTED_VALUE_UNKNOWN"))
    );
    assert_eq!(
        answer.json()["message"],
        "A redacted value was sent but no stored secret can stand in for it."
    );
}

#[tokio::test]
async fn a_dry_run_answers_as_the_real_call_and_stores_nothing() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let answer = admin
        .put(
            MCP,
            json!({"manifest": manifest("wiki", oauth()), "dryRun": true}),
        )
        .await;
    let data = answer.json()["data"].clone();
    assert_eq!(answer.status, 200);
    for name in ["id", "createdAt", "updatedAt"] {
        assert_eq!(data.get(name), None);
    }
    assert_eq!(
        data["manifest"]["auth_data"],
        json!({"type": "oauth2", "grant_type": "authorization_code", "provider": "custom"})
    );
    assert_eq!(hawser.ground().items().await.len(), 0);
    let id = register(&admin, "wiki", per_user()).await;
    assert_eq!(install(&admin, &id, "ada", "k").await.status, 200);
    let dry = json!({"manifest": manifest("wiki", oauth()), "dryRun": true});
    assert_eq!(admin.put(MCP, dry).await.status, 417);
    let forced = json!({"manifest": manifest("wiki", oauth()), "dryRun": true, "force": true});
    assert_eq!(
        admin.put(MCP, forced).await.json()["data"]["manifest"]["auth_data"]["type"],
        "oauth2"
    );
    status(&admin, &id, "ada").await.is(
        200,
        json!({"status": "authenticated", "method": "auth-override"}),
    );
}

#[tokio::test]
async fn an_update_deletes_auth_records_only_when_forced() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let id = register(&admin, "wiki", oauth()).await;
    grant(&hawser, &id, |g| {
        g.last_refresh = Some(RefreshOutcome::InvalidGrant)
    })
    .await;
    install(&admin, &id, "ada", "v").await;
    install(&admin, &id, "bob", "v").await;
    let body = json!({"manifest": manifest("wiki", per_user())});
    let guarded = json!({"statusCode": 417, "code": "AUTH_RECORDS_WOULD_BE_DELETED", "details": [{"oauthRecords": 1, "overrides": 2}],
        "message": "This update would delete stored auth records; send it again with force set to true."});
    is(&admin.put(MCP, body.clone()).await, (417, guarded));
    status(&admin, &id, "bob").await.is(
        200,
        json!({"status": "authenticated", "method": "auth-override"}),
    );
    let mut forced = body.clone();
    forced["forceDelete"] = json!(true);
    assert_eq!(
        admin.put(MCP, forced).await.json()["data"]["id"],
        id.as_str()
    );
    let changed =
        json!({"status": "authentication_required", "method": null, "reason": "server_changed"});
    for settled in [false, true] {
        for subject in ["ada", "bob"] {
            status(&admin, &id, subject).await.is(200, changed.clone());
            is(
                &disconnect(&admin, &id, subject, "auth-override").await,
                no_record(),
            );
        }
        is(&disconnect(&admin, &id, "ada", "oauth").await, no_record());
        assert_eq!(
            admin.get(&format!("{MCP}/{id}/auth")).await.json()["pagination"]["total"],
            0
        );
        if !settled {
            hawser.run_workers().await;
        }
    }
    assert_eq!(install(&admin, &id, "ada", "v").await.status, 200);
    status(&admin, &id, "ada").await.is(
        200,
        json!({"status": "authenticated", "method": "auth-override"}),
    );
}

#[tokio::test]
async fn only_a_change_of_outbound_authentication_meets_the_guard() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let id = register(&admin, "wiki", per_user()).await;
    install(&admin, &id, "ada", "v").await;
    let with = |change: &dyn Fn(&mut Value)| {
        let mut manifest = manifest("wiki", per_user());
        change(&mut manifest);
        json!({"manifest": manifest})
    };
    let harmless: [&dyn Fn(&mut Value); 5] = [
        &|m| m["description"] = json!("other"),
        &|m| m["url"] = json!("https://wiki.example/other"),
        &|m| m["additional_headers"] = json!({"X": "y"}),
        &|m| m["auth_data"]["headers"] = json!({"authorization": "Key {{API_KEY}}"}),
        &|m| m["tags"] = json!({"a": 1}),
    ];
    for change in harmless {
        assert_eq!(admin.put(MCP, with(change)).await.status, 200);
    }
    let breaking: [&dyn Fn(&mut Value); 6] = [
        &|m| m["url"] = json!("https://wiki.example:8443/mcp"),
        &|m| m["url"] = json!("http://wiki.example/mcp"),
        &|m| m["auth_data"] = Value::Null,
        &|m| m["auth_data"]["auth_level"] = json!("global"),
        &|m| m["auth_data"]["headers"] = json!({"Authorization": "Bearer {{OTHER}}"}),
        &|m| m["auth_data"]["headers"]["X-More"] = json!("v"),
    ];
    for (i, change) in breaking.iter().enumerate() {
        let mut body = with(change);
        if i == 3 {
            body["manifest"]["auth_data"]["headers"] = json!({"Authorization": "v"});
        }
        assert_eq!(admin.put(MCP, body).await.status, 417, "{i}");
    }
    status(&admin, &id, "ada").await.is(
        200,
        json!({"status": "authenticated", "method": "auth-override"}),
    );
}

#[tokio::test]
async fn racing_writers_of_one_name_make_one_server() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let put = |i: usize| {
        let admin = admin.clone();
        async move {
            let mut manifest = manifest("wiki", Value::Null);
            manifest["description"] = json!(format!("by {i}"));
            admin.put(MCP, json!({"manifest": manifest})).await
        }
    };
    let answers = tokio::join!(put(0), put(1), put(2), put(3));
    let answers = [answers.0, answers.1, answers.2, answers.3];
    let ids: std::collections::BTreeSet<_> = answers
        .iter()
        .map(|a| a.json()["data"]["id"].to_string())
        .collect();
    assert!(answers.iter().all(|a| a.status == 200), "{answers:?}");
    assert_eq!(ids.len(), 1);
    assert_eq!(admin.get(MCP).await.json()["pagination"]["total"], 1);
}

#[tokio::test]
async fn an_address_that_is_not_vouched_for_makes_no_collaborator() {
    let hawser = Hawser::start().await;
    let mut shared = manifest("wiki", Value::Null);
    shared["collaborators"] =
        json!([{"subject": "user:mia@acme.example", "role_id": "mcp-server-viewer"}]);
    let made = hawser
        .admin("acme")
        .put(MCP, json!({"manifest": shared}))
        .await;
    let path = format!("{MCP}/{}", made.json()["data"]["id"].as_str().unwrap());
    for (claims, status) in [
        (json!({"email": "mia@acme.example"}), 200),
        (
            json!({"email": "mia@acme.example", "email_verified": true}),
            200,
        ),
        (
            json!({"email": "mia@acme.example", "email_verified": false}),
            403,
        ),
        (
            json!({"username": "mia@acme.example", "email_verified": false}),
            403,
        ),
        (
            json!({"email": "mia@acme.example", "email_verified": "true"}),
            200,
        ),
        (
            json!({"email": "mia@acme.example", "email_verified": "false"}),
            403,
        ),
        (
            json!({"username": "mia@acme.example", "email_verified": "no"}),
            403,
        ),
    ] {
        assert_eq!(
            hawser
                .caller("acme", "m", claims.clone())
                .get(&path)
                .await
                .status,
            status,
            "{claims}"
        );
    }
}

#[tokio::test]
async fn the_owner_of_a_connection_that_was_moved_cannot_send_the_next_key_there() {
    let hawser = Hawser::with_built_in_integrations().await;
    let admin = hawser.admin("acme");
    let new = json!({"mcp_server": "pipedrive", "access_type": "write", "api_key": "k-1"});
    let number = admin.post("/api/v1/mcp-servers", new).await.json()["data"]["id"].clone();
    let rotate = format!("/api/v1/mcp-servers/{number}");
    assert_eq!(
        admin.put(&rotate, json!({"api_key": "k-2"})).await.status,
        200
    );
    let auth = json!({"type": "header", "headers": {"Authorization": "Bearer x"}});
    let mut moved = manifest(&format!("pipedrive-{number}"), auth);
    moved["url"] = json!("https://evil.example/mcp");
    assert_eq!(admin.put(MCP, json!({"manifest": moved})).await.status, 200);
    let refused = admin.put(&rotate, json!({"api_key": "k-3"})).await;
    refused.is(
        400,
        json!({"detail": "api_key cannot be changed on this connection"}),
    );
}

#[tokio::test]
async fn a_name_of_another_kind_is_refused_by_a_sentence_with_an_example() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    for name in ["GitHub", "my_server", "linear.app", "ab", "ends-", "9lives"] {
        let answer = admin
            .put(MCP, json!({"manifest": manifest(name, Value::Null)}))
            .await;
        is_invalid(&answer, &["manifest.name"]);
        let said = answer.json()["details"][0]["message"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(
            said.contains("such as my-server") && !said.contains('^'),
            "{said}"
        );
        // Where people give servers their names, these are names.
        let new = json!({"name": name, "url": "https://x.example/mcp"});
        let made = admin.post("/v1/deepagents/mcp-servers", new).await;
        assert_eq!(made.status, 201, "{made:?}");
    }
}
