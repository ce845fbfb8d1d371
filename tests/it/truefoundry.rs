//! The TrueFoundry contract, endpoint by endpoint.

use crate::harness::{Answer, Caller, Hawser, now};
use aws_sdk_dynamodb::types::AttributeValue;
use hawser_core::domain::credential::{Grant, RefreshOutcome};
use hawser_core::domain::id::ServerId;
use serde_json::{Value, json};

const MCP: &str = "/api/svc/v1/mcp";
const UNKNOWN: &str = "mcp-01KF0FV2HRF8BR7TAB0BC6YCDE";

fn manifest(name: &str, auth: Value) -> Value {
    let mut manifest = json!({
        "type": "mcp-server/remote", "name": name, "description": "Team wiki", "url": "https://wiki.example/mcp",
    });
    if !auth.is_null() {
        manifest["auth_data"] = auth;
    }
    manifest
}

fn per_user() -> Value {
    json!({"type": "header", "headers": {"Authorization": "Bearer {{API_KEY}}"}, "auth_level": "per_user"})
}

fn global() -> Value {
    json!({"type": "header", "headers": {"X-Key": "shared-s3cret"}})
}

fn oauth() -> Value {
    json!({"type": "oauth2"})
}

fn client_credentials() -> Value {
    json!({"type": "oauth2", "grant_type": "client_credentials", "token_url": "https://as.example/token",
           "client_id": "c-1", "client_secret": "cc-s3cret"})
}

async fn register(admin: &Caller, name: &str, auth: Value) -> String {
    let answer = admin
        .put(MCP, json!({"manifest": manifest(name, auth)}))
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["data"]["id"].as_str().unwrap().to_owned()
}

async fn install(caller: &Caller, id: &str, subject: &str, value: &str) -> Answer {
    let own = json!({"type": "header", "headerValue": value});
    let body = json!({"subjectId": subject, "subjectType": "user", "authOverride": own});
    caller.put(&format!("{MCP}/{id}/auth"), body).await
}

async fn status(caller: &Caller, id: &str, subject: &str) -> Answer {
    caller
        .get(&format!(
            "{MCP}/{id}/auth/status?subjectId={subject}&subjectType=user"
        ))
        .await
}

async fn disconnect(caller: &Caller, id: &str, subject: &str, source: &str) -> Answer {
    let body = json!({"authSource": source, "subjectId": subject, "subjectType": "user"});
    caller.delete_with(&format!("{MCP}/{id}/auth"), body).await
}

fn refused(status: u16, code: &str, message: &str) -> (u16, Value) {
    (
        status,
        json!({"statusCode": status, "message": message, "code": code}),
    )
}

fn unknown_server() -> (u16, Value) {
    refused(404, "MCP_SERVER_NOT_FOUND", "There is no such MCP server.")
}

fn no_record() -> (u16, Value) {
    refused(
        404,
        "AUTH_RECORD_NOT_FOUND",
        "This subject has no such auth record.",
    )
}

fn not_manager() -> (u16, Value) {
    refused(
        403,
        "NOT_MCP_MANAGER",
        "Acting for another subject needs MANAGE_MCP_SERVER on this MCP server.",
    )
}

fn denied(permission: &str) -> (u16, Value) {
    refused(
        403,
        "PERMISSION_DENIED",
        &format!("This call needs the permission {permission}."),
    )
}

#[track_caller]
fn is(answer: &Answer, expected: (u16, Value)) {
    assert_eq!((answer.status, answer.json()), expected);
    assert_eq!(
        answer.header("content-type").as_deref(),
        Some("application/json")
    );
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
}

/// A 400 that names these paths as faulty.
#[track_caller]
fn is_invalid(answer: &Answer, paths: &[&str]) {
    let body = answer.json();
    assert_eq!(
        (answer.status, &body["code"]),
        (400, &json!("INVALID_REQUEST")),
        "{body}"
    );
    let named: Vec<_> = body["details"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|d| d["path"].as_str().unwrap())
        .collect();
    assert_eq!(named, paths);
}

#[tokio::test]
async fn a_registered_server_is_shown_with_all_its_fields() {
    let hawser = Hawser::start().await;
    let admin = hawser.caller(
        "acme",
        "u-1",
        json!({"roles": ["admin"], "email": "ada@acme.example", "name": "Ada"}),
    );
    let answer = admin
        .put(MCP, json!({"manifest": manifest("wiki", per_user())}))
        .await;
    let mut data = answer.json()["data"].clone();
    let id = data["id"].as_str().unwrap().to_owned();
    assert!(ServerId::parse_prefixed(&id).is_some_and(|parsed| parsed.prefixed() == id));
    let created = data["createdAt"].as_str().unwrap().to_owned();
    assert!(
        created.ends_with('Z') && created.len() == 24 && created == data["updatedAt"],
        "{data}"
    );
    for name in ["id", "createdAt", "updatedAt"] {
        data.as_object_mut().unwrap().remove(name);
    }
    assert_eq!(
        data,
        json!({"fqn": "acme:mcp-server:wiki", "tenantName": "acme", "accountId": "acme",
               "manifest": {"type": "mcp-server/remote", "name": "wiki", "description": "Team wiki",
                            "url": "https://wiki.example/mcp", "collaborators": [], "auth_data": per_user()},
               "createdBySubject": {"subjectId": "u-1", "subjectType": "user", "subjectSlug": "ada@acme.example",
                                    "subjectDisplayName": "Ada"},
               "proxyUrl": format!("{}/mcp/v1/wiki/mcp", hawser.url),
               "isAuthOverrideSupported": true})
    );
    admin
        .get(&format!("{MCP}/{id}"))
        .await
        .is(200, answer.json());
    admin
        .get(&format!("{MCP}/{}", id.to_lowercase()))
        .await
        .is(200, answer.json());
    let page = json!({"data": [answer.json()["data"]], "pagination": {"total": 1, "offset": 0, "limit": 100}});
    admin.get(MCP).await.is(200, page);
}

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

#[tokio::test]
async fn kinds_that_are_refused_are_422() {
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
        (
            auth(json!({"type": "header", "headers": {"A": "tfy-secret://x"}})),
            "manifest.auth_data.headers.A",
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
async fn lists_are_windows_on_what_the_caller_may_read() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let mut ids = Vec::new();
    for name in ["one", "two", "three"] {
        let mut manifest = manifest(name, Value::Null);
        manifest["collaborators"] = if name == "two" {
            json!([{"subject": "team:docs", "role_id": "mcp-server-viewer"}])
        } else {
            json!([])
        };
        ids.push(admin.put(MCP, json!({"manifest": manifest})).await.json()["data"]["id"].clone());
    }
    let names = |answer: Answer| {
        let body = answer.json();
        let names: Vec<_> = body["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| s["manifest"]["name"].as_str().unwrap().to_owned())
            .collect();
        (names, body["pagination"].clone())
    };
    let of = |names: &[&str], total: usize, offset: usize, limit: usize| {
        (
            names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>(),
            json!({"total": total, "offset": offset, "limit": limit}),
        )
    };
    assert_eq!(
        names(admin.get(MCP).await),
        of(&["one", "two", "three"], 3, 0, 100)
    );
    assert_eq!(
        names(admin.get(&format!("{MCP}?limit=1&offset=1")).await),
        of(&["two"], 3, 1, 1)
    );
    assert_eq!(
        names(admin.get(&format!("{MCP}?limit=null&offset=9")).await),
        of(&[], 3, 9, 100)
    );
    assert_eq!(
        names(admin.get(&format!("{MCP}?name=three")).await),
        of(&["three"], 1, 0, 100)
    );
    assert_eq!(
        names(
            admin
                .get(&format!("{MCP}?fqn=acme:mcp-server:one&name=two"))
                .await
        ),
        of(&[], 0, 0, 100)
    );
    assert_eq!(
        names(
            admin
                .get(&format!("{MCP}?id={}", ids[0].as_str().unwrap()))
                .await
        ),
        of(&["one"], 1, 0, 100)
    );
    assert_eq!(
        names(admin.get(&format!("{MCP}?id=one")).await),
        of(&[], 0, 0, 100)
    );
    let docs = hawser.caller("acme", "d", json!({"teams": ["docs"]}));
    assert_eq!(names(docs.get(MCP).await), of(&["two"], 1, 0, 100));
    assert_eq!(
        names(hawser.caller("acme", "x", json!({})).get(MCP).await),
        of(&[], 0, 0, 100)
    );
    assert_eq!(
        names(hawser.admin("other").get(MCP).await),
        of(&[], 0, 0, 100)
    );
    for query in [
        "limit=0",
        "limit=1001",
        "limit=1.0",
        "limit=%2B1",
        "offset=-1",
        "limit=1&limit=2",
    ] {
        let name = query.split('=').next().unwrap();
        is_invalid(&admin.get(&format!("{MCP}?{query}")).await, &[name]);
    }
    is_invalid(
        &admin
            .get(&format!(
                "{MCP}/{}?resolveTools=1",
                ids[0].as_str().unwrap()
            ))
            .await,
        &["resolveTools"],
    );
}

#[tokio::test]
async fn deletion_is_final_for_every_read_path() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let id = register(&admin, "wiki", per_user()).await;
    install(&admin, &id, "ada", "k").await;
    is(
        &admin.delete(&format!("{MCP}/{id}")).await,
        (200, json!({})),
    );
    is(
        &admin.delete(&format!("{MCP}/{id}")).await,
        unknown_server(),
    );
    is(&admin.get(&format!("{MCP}/{id}")).await, unknown_server());
    is(&status(&admin, &id, "ada").await, unknown_server());
    is(
        &disconnect(&admin, &id, "ada", "auth-override").await,
        unknown_server(),
    );
    is(&install(&admin, &id, "ada", "k").await, unknown_server());
    is(
        &admin.get(&format!("{MCP}/{id}/auth")).await,
        unknown_server(),
    );
    assert_eq!(admin.get(MCP).await.json()["pagination"]["total"], 0);
    let next = register(&admin, "wiki", per_user()).await;
    assert_ne!(next, id, "the name is free again, the id is not");
    let never =
        json!({"status": "authentication_required", "method": null, "reason": "never_connected"});
    status(&admin, &next, "ada").await.is(200, never);
}

#[tokio::test]
async fn overrides_fit_their_server_or_are_refused() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let header = || json!({"type": "header", "headerValue": "v"});
    let values = |values: Value| json!({"type": "key_value", "values": values});
    let two = json!({"type": "header", "auth_level": "per_user", "headers": {"A": "{{X}}", "B": "k {{Y}}", "C": "{{X}}"}});
    let mismatch = "AUTH_OVERRIDE_MISMATCH";
    let cases = [
        ("none", Value::Null, header(), "AUTH_OVERRIDE_NOT_SUPPORTED"),
        (
            "passthrough",
            json!({"type": "passthrough"}),
            header(),
            "AUTH_OVERRIDE_NOT_SUPPORTED",
        ),
        ("global", global(), header(), ""),
        ("global", global(), values(json!({})), mismatch),
        ("one", per_user(), header(), ""),
        ("one", per_user(), values(json!({"API_KEY": "v"})), ""),
        (
            "one",
            per_user(),
            values(json!({"API_KEY": "v", "MORE": "v"})),
            mismatch,
        ),
        ("one", per_user(), values(json!({})), mismatch),
        ("several", two.clone(), header(), mismatch),
        (
            "several",
            two.clone(),
            values(json!({"X": "1", "Y": "2"})),
            "",
        ),
        ("several", two, values(json!({"X": "1"})), mismatch),
        ("oauth", oauth(), header(), ""),
        ("oauth", oauth(), values(json!({"X": "1"})), mismatch),
        ("credentials", client_credentials(), header(), ""),
    ];
    for (name, auth, own, code) in cases {
        let id = register(&admin, name, auth).await;
        let body =
            json!({"subjectId": "ada", "subjectType": "virtualaccount", "authOverride": own});
        let answer = admin.put(&format!("{MCP}/{id}/auth"), body).await;
        match code {
            "" => assert_eq!(answer.status, 200, "{name} {own} {answer:?}"),
            _ => assert_eq!(
                (answer.status, &answer.json()["code"]),
                (400, &json!(code)),
                "{name} {own}"
            ),
        }
    }
}

#[tokio::test]
async fn an_override_row_is_redacted_and_the_marker_keeps_its_value() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let id = register(&admin, "wiki", per_user()).await;
    let path = format!("{MCP}/{id}/auth");
    let answer = install(&admin, &id, "ada", "own-s3cret").await;
    let mut row = answer.json()["data"].clone();
    assert!(row["updatedAt"].as_str().unwrap().ends_with('Z'));
    row.as_object_mut().unwrap().remove("updatedAt");
    assert_eq!(
        row,
        json!({"subjectId": "ada", "subjectType": "user", "authData": {"type": "header", "headerValue": "<REDACTED>"},
               "updatedBySubject": {"subjectId": "root", "subjectType": "user"}})
    );
    assert_eq!(install(&admin, &id, "ada", "<REDACTED>").await.status, 200);
    let unknown = install(&admin, &id, "bob", "<REDACTED>").await;
    assert_eq!(
        (unknown.status, &unknown.json()["code"]),
        (400, &json!("REDACTED_VALUE_UNKNOWN"))
    );
    let values = json!({"subjectId": "ada", "subjectType": "user",
                        "authOverride": {"type": "key_value", "values": {"API_KEY": "<REDACTED>"}}});
    assert_eq!(
        admin.put(&path, values).await.status,
        400,
        "a stored header is no key_value"
    );
    for (body, paths) in [
        (json!({}), &["subjectType", "subjectId", "authOverride"][..]),
        (
            json!({"subjectId": "", "subjectType": "team", "authOverride": {}}),
            &["subjectType", "subjectId", "authOverride.type"],
        ),
        (
            json!({"subjectId": "a\u{7}", "subjectType": "user", "authOverride": {"type": "header"}}),
            &["subjectId", "authOverride.headerValue"],
        ),
        (
            json!({"subjectId": "a", "subjectType": "user", "authOverride": {"type": "header", "headerValue": "a\nb"}}),
            &["authOverride.headerValue"],
        ),
    ] {
        is_invalid(&admin.put(&path, body).await, paths);
    }
    let other = json!({"subjectId": "a", "subjectType": "user", "authOverride": {"type": "env"}});
    assert_eq!(admin.put(&path, other).await.status, 422);
}

#[tokio::test]
async fn listing_overrides_filters_and_never_forbids() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let id = register(&admin, "wiki", per_user()).await;
    let path = format!("{MCP}/{id}/auth");
    for (kind, subject) in [("virtualaccount", "ci"), ("user", "bob"), ("user", "ada")] {
        let own = json!({"type": "header", "headerValue": "v"});
        admin
            .put(
                &path,
                json!({"subjectId": subject, "subjectType": kind, "authOverride": own}),
            )
            .await;
    }
    let rows = |answer: Answer| {
        let body = answer.json();
        let ids: Vec<_> = body["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| r["subjectId"].as_str().unwrap().to_owned())
            .collect();
        (
            answer.status,
            ids.join(" "),
            body["pagination"]["total"].as_u64().unwrap(),
        )
    };
    assert_eq!(
        rows(admin.get(&path).await),
        (200, "ada bob ci".to_owned(), 3)
    );
    assert_eq!(
        rows(admin.get(&format!("{path}?limit=1&offset=1")).await),
        (200, "bob".to_owned(), 3)
    );
    assert_eq!(
        rows(hawser.caller("acme", "ada", json!({})).get(&path).await),
        (200, "ada".to_owned(), 1)
    );
    assert_eq!(
        rows(hawser.caller("acme", "eve", json!({})).get(&path).await),
        (200, String::new(), 0)
    );
    is(
        &hawser.caller("other", "ada", json!({})).get(&path).await,
        unknown_server(),
    );
}

#[tokio::test]
async fn disconnect_takes_exactly_one_record_and_is_not_idempotent() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let id = register(&admin, "wiki", oauth()).await;
    grant(&hawser, &id, |_| {}).await;
    install(&admin, &id, "ada", "Bearer v").await;
    let answer = disconnect(&admin, &id, "ada", "oauth").await;
    let receipt = answer.json()["data"]["receiptId"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({"data": {"receiptId": receipt}}))
    );
    assert!((1..=64).contains(&receipt.len()));
    is(&disconnect(&admin, &id, "ada", "oauth").await, no_record());
    status(&admin, &id, "ada").await.is(
        200,
        json!({"status": "authenticated", "method": "auth-override"}),
    );
    let second = disconnect(&admin, &id, "ada", "auth-override").await;
    assert_eq!(second.status, 200);
    assert_ne!(second.json()["data"]["receiptId"], receipt);
    is(
        &disconnect(&admin, &id, "ada", "auth-override").await,
        no_record(),
    );
    let revoked = json!({"status": "authentication_required", "method": null, "reason": "revoked"});
    status(&admin, &id, "ada").await.is(200, revoked);
    is(
        &disconnect(&admin, &id, "never", "oauth").await,
        no_record(),
    );
    is(
        &disconnect(&admin, UNKNOWN, "ada", "oauth").await,
        unknown_server(),
    );
}

#[tokio::test]
async fn disconnect_needs_its_whole_body() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let id = register(&admin, "wiki", per_user()).await;
    install(&admin, &id, "ada", "k").await;
    let path = format!("{MCP}/{id}/auth");
    is_invalid(&admin.delete(&path).await, &[""]);
    is_invalid(
        &admin.send("DELETE", &path, &[], b"null".to_vec()).await,
        &[""],
    );
    for (body, paths) in [
        (json!({}), &["authSource", "subjectType", "subjectId"][..]),
        (
            json!({"authSource": "all", "subjectId": "ada", "subjectType": "user"}),
            &["authSource"],
        ),
        (
            json!({"authSource": "auth-override", "subjectId": "ada", "subjectType": "external-identity"}),
            &["subjectType"],
        ),
        (
            json!({"authSource": "auth-override", "subjectId": null, "subjectType": "user"}),
            &["subjectId"],
        ),
        (
            json!({"authSource": "auth-override", "subjectId": ["ada"], "subjectType": "user"}),
            &["subjectId"],
        ),
        (
            json!({"authSource": "auth-override", "subjectId": "a".repeat(256), "subjectType": "user"}),
            &["subjectId"],
        ),
    ] {
        is_invalid(&admin.delete_with(&path, body).await, paths);
    }
    status(&admin, &id, "ada").await.is(
        200,
        json!({"status": "authenticated", "method": "auth-override"}),
    );
}

async fn grant(hawser: &Hawser, id: &str, change: impl FnOnce(&mut Grant)) {
    hawser.give_grant(id, "ada", change).await;
}

#[tokio::test]
async fn status_follows_its_table_row_by_row() {
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

#[tokio::test]
async fn the_guard_keeps_records_until_it_is_forced() {
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
async fn who_may_do_what_is_the_matrix_of_roles() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let collaborators = json!([
        {"subject": "user:mia@acme.example", "role_id": "mcp-server-manager"},
        {"subject": "team:docs", "role_id": "mcp-server-user"},
        {"subject": "team:everyone", "role_id": "mcp-server-viewer"},
        {"subject": "serviceaccount:robot", "role_id": "mcp-server-manager"},
    ]);
    let tenant_role = |role: &str| hawser.caller("acme", role, json!({"roles": [role]}));
    let robot = hawser.caller(
        "acme",
        "r-1",
        json!({"subjectType": "serviceaccount", "username": "robot"}),
    );
    let account = hawser.caller("acme", "a-1", json!({"subjectType": "virtualaccount"}));
    // create, read, manage others, delete
    let cases: Vec<(&str, Caller, [bool; 4])> = vec![
        ("admin", admin.clone(), [true, true, true, true]),
        (
            "manager",
            tenant_role("mcp-server-manager"),
            [true, true, true, true],
        ),
        (
            "user",
            tenant_role("mcp-server-user"),
            [false, true, false, false],
        ),
        (
            "viewer",
            tenant_role("mcp-server-viewer"),
            [false, true, false, false],
        ),
        ("member", tenant_role("member"), [false, true, false, false]),
        (
            "collaborating manager",
            hawser.caller("acme", "mia", json!({"email": "Mia@Acme.Example"})),
            [false, true, true, true],
        ),
        ("collaborating account", robot, [false, true, true, true]),
        (
            "collaborating team",
            hawser.caller("acme", "d", json!({"teams": ["docs"]})),
            [false, true, false, false],
        ),
        (
            "an account is not everyone",
            account,
            [false, false, false, false],
        ),
        (
            "API key of an admin",
            hawser
                .api_key("acme", Some("user:key"), json!({"roles": ["admin"]}))
                .await,
            [true, true, true, true],
        ),
        (
            "API key without roles",
            hawser.api_key("acme", None, json!({})).await,
            [false, false, false, false],
        ),
    ];
    for (who, caller, [create, read, manage, delete]) in cases {
        let mut body = json!({"manifest": manifest("shared", per_user())});
        body["manifest"]["collaborators"] = collaborators.clone();
        let id = admin.put(MCP, body).await.json()["data"]["id"]
            .as_str()
            .unwrap()
            .to_owned();
        install(&admin, &id, "zoe", "k").await;
        let check = |what: &str, answer: Answer, allowed: bool, refusal: (u16, Value)| {
            if allowed {
                assert_eq!(answer.status, 200, "{who}: {what}: {answer:?}")
            } else {
                is(&answer, refusal)
            }
        };
        let new = caller
            .put(
                MCP,
                json!({"manifest": manifest("brand-new", Value::Null), "dryRun": true}),
            )
            .await;
        check("create", new, create, denied("CREATE_MCP_SERVER"));
        check(
            "read",
            caller.get(&format!("{MCP}/{id}")).await,
            read,
            denied("READ_MCP_SERVER"),
        );
        check(
            "status of another",
            status(&caller, &id, "zoe").await,
            manage,
            not_manager(),
        );
        check(
            "override of another",
            install(&caller, &id, "zoe", "k").await,
            manage,
            not_manager(),
        );
        check(
            "disconnect of another",
            disconnect(&caller, &id, "zoe", "auth-override").await,
            manage,
            not_manager(),
        );
        let dry = json!({"manifest": manifest("shared", per_user()), "dryRun": true});
        check(
            "update",
            caller.put(MCP, dry).await,
            manage,
            denied("MANAGE_MCP_SERVER"),
        );
        check(
            "delete",
            caller.delete(&format!("{MCP}/{id}")).await,
            delete,
            denied("DELETE_MCP_SERVER"),
        );
        admin.delete(&format!("{MCP}/{id}")).await;
    }
}

#[tokio::test]
async fn everyone_acts_for_oneself_and_nobody_for_another_tenant() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let id = register(&admin, "wiki", per_user()).await;
    let ada = hawser.caller("acme", "ada", json!({}));
    assert_eq!(install(&ada, &id, "ada", "k").await.status, 200);
    status(&ada, &id, "ada").await.is(
        200,
        json!({"status": "authenticated", "method": "auth-override"}),
    );
    is(&status(&ada, &id, "Ada").await, not_manager());
    let account =
        json!({"authSource": "auth-override", "subjectId": "ada", "subjectType": "virtualaccount"});
    is(
        &ada.delete_with(&format!("{MCP}/{id}/auth"), account).await,
        not_manager(),
    );
    let stranger = hawser.admin("other");
    for answer in [
        stranger.get(&format!("{MCP}/{id}")).await,
        stranger.delete(&format!("{MCP}/{id}")).await,
        status(&stranger, &id, "ada").await,
        install(&stranger, &id, "ada", "k").await,
        disconnect(&stranger, &id, "ada", "auth-override").await,
    ] {
        is(&answer, unknown_server());
    }
    let twin = hawser.caller("other", "ada", json!({}));
    is(
        &disconnect(&twin, &id, "ada", "auth-override").await,
        unknown_server(),
    );
    assert_eq!(
        disconnect(&ada, &id, "ada", "auth-override").await.status,
        200
    );
}

#[tokio::test]
async fn bad_credentials_are_401_before_anything_else() {
    let hawser = Hawser::start().await;
    let key = hawser
        .api_key("acme", None, json!({"roles": ["admin"]}))
        .await;
    let key = key.headers[0].1.clone();
    let end = now() + 600;
    let token = |claims: Value| hawser.claims(claims);
    let bearer = |text: &str| hawser.with(vec![("authorization", text.to_owned())]);
    let callers = vec![
        ("nothing", hawser.anonymous()),
        ("another scheme", bearer("Basic YTpi")),
        ("no token", bearer("Bearer ")),
        ("rubbish", bearer("Bearer abc.def.ghi")),
        (
            "rubbish beside a good key",
            hawser.with(vec![
                ("authorization", "Bearer x".to_owned()),
                ("x-api-key", key.clone()),
            ]),
        ),
        (
            "expired",
            token(json!({"tenantName": "acme", "sub": "a", "exp": now() - 120})),
        ),
        ("no end", token(json!({"tenantName": "acme", "sub": "a"}))),
        (
            "not yet",
            token(json!({"tenantName": "acme", "sub": "a", "exp": end, "nbf": now() + 300})),
        ),
        ("no tenant", token(json!({"sub": "a", "exp": end}))),
        (
            "empty tenant",
            token(json!({"tenantName": "", "sub": "a", "exp": end})),
        ),
        (
            "no subject",
            token(json!({"tenantName": "acme", "exp": end})),
        ),
        (
            "subject type",
            token(json!({"tenantName": "acme", "sub": "a", "exp": end, "subjectType": "team"})),
        ),
        (
            "issuer",
            token(json!({"tenantName": "acme", "sub": "a", "exp": end, "iss": "other"})),
        ),
        (
            "audience",
            token(json!({"tenantName": "acme", "sub": "a", "exp": end, "aud": "other"})),
        ),
        (
            "no key",
            hawser.with(vec![("x-api-key", "hwk_x".to_owned())]),
        ),
        (
            "wrong secret",
            hawser.with(vec![(
                "x-api-key",
                format!("{}aaaa", &key[..key.len() - 4]),
            )]),
        ),
        (
            "other tenant's key",
            hawser.with(vec![(
                "x-api-key",
                key.replacen("hwk_mfrw2zi", "hwk_nf2gq2lt", 1),
            )]),
        ),
    ];
    for (why, caller) in callers {
        for answer in [
            caller.get(MCP).await,
            caller.send("PUT", MCP, &[], vec![b'x'; 300_000]).await,
            caller.delete(&format!("{MCP}/{UNKNOWN}")).await,
            caller.delete(&format!("{MCP}/{UNKNOWN}/auth")).await,
            caller.get(&format!("{MCP}/{UNKNOWN}/auth/status")).await,
        ] {
            assert_eq!(
                answer.header("www-authenticate").as_deref(),
                Some("Bearer"),
                "{why}"
            );
            is(
                &answer,
                refused(401, "UNAUTHORIZED", "Valid credentials are required."),
            );
        }
    }
    assert_eq!(
        hawser.with(vec![("x-api-key", key)]).get(MCP).await.status,
        200
    );
}

#[tokio::test]
async fn checks_come_in_the_order_of_the_contract() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let id = register(&admin, "wiki", Value::Null).await;
    let eve = hawser.caller("acme", "eve", json!({}));
    let key = hawser.api_key("acme", Some("user:eve"), json!({})).await;
    for caller in [&eve, &key] {
        let large = caller
            .send(
                "DELETE",
                &format!("{MCP}/{UNKNOWN}/auth"),
                &[],
                vec![b' '; 262_145],
            )
            .await;
        is(
            &large,
            refused(
                413,
                "BODY_TOO_LARGE",
                "The request body is larger than 256 KiB.",
            ),
        );
        let bad = caller
            .delete_with(&format!("{MCP}/{UNKNOWN}/auth"), json!({}))
            .await;
        assert_eq!(bad.status, 400, "the body before the server");
        is(
            &disconnect(caller, UNKNOWN, "zoe", "oauth").await,
            unknown_server(),
        );
        is(
            &disconnect(caller, "wiki", "zoe", "oauth").await,
            unknown_server(),
        );
        is(
            &disconnect(caller, &id, "zoe", "oauth").await,
            not_manager(),
        );
        is(&disconnect(caller, &id, "eve", "oauth").await, no_record());
        is(&install(caller, &id, "zoe", "k").await, not_manager());
        let answer = install(caller, &id, "eve", "k").await;
        is(
            &answer,
            refused(
                400,
                "AUTH_OVERRIDE_NOT_SUPPORTED",
                "This MCP server takes no auth override.",
            ),
        );
    }
    let exact = admin.send("PUT", MCP, &[], vec![b' '; 262_144]).await;
    assert_eq!(exact.status, 400, "exactly 256 KiB is read");
}

#[tokio::test]
async fn unserved_paths_and_methods_are_told_apart() {
    let hawser = Hawser::start().await;
    let nobody = hawser.anonymous();
    let missing = refused(404, "NOT_FOUND", "There is no such path.");
    for path in [
        "/api/svc/v1",
        "/api/svc/v1/mcp/",
        "/api/svc/v1/mcp-servers",
        "/api/svc/v1/mcp/x/auth/",
    ] {
        is(&nobody.get(path).await, missing.clone());
    }
    let wrong = refused(
        405,
        "METHOD_NOT_ALLOWED",
        "This path does not take this method.",
    );
    for (method, path, allow) in [
        ("POST", "/api/svc/v1/mcp".to_owned(), "GET, HEAD, PUT"),
        ("PATCH", format!("{MCP}/{UNKNOWN}"), "DELETE, GET, HEAD"),
        (
            "POST",
            format!("{MCP}/{UNKNOWN}/auth"),
            "DELETE, GET, HEAD, PUT",
        ),
        (
            "DELETE",
            format!("{MCP}/{UNKNOWN}/auth/status"),
            "GET, HEAD",
        ),
    ] {
        let answer = nobody.send(method, &path, &[], Vec::new()).await;
        assert_eq!(answer.header("allow").as_deref(), Some(allow));
        is(&answer, wrong.clone());
    }
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
async fn subjects_that_look_like_keys_stay_apart() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let id = register(&admin, "wiki", per_user()).await;
    let odd = [
        "a#override",
        "a",
        "a%23override",
        "#",
        "é".repeat(255).leak(),
        "😀".repeat(255).leak(),
        "a b/c?d&e",
    ];
    for (i, subject) in odd.iter().enumerate() {
        assert_eq!(
            install(&admin, &id, subject, &format!("v{i}")).await.status,
            200
        );
    }
    assert_eq!(
        admin.get(&format!("{MCP}/{id}/auth")).await.json()["pagination"]["total"],
        odd.len()
    );
    for (i, subject) in odd.iter().enumerate() {
        assert_eq!(
            disconnect(&admin, &id, subject, "auth-override")
                .await
                .status,
            200
        );
        assert_eq!(
            admin.get(&format!("{MCP}/{id}/auth")).await.json()["pagination"]["total"],
            odd.len() - i - 1
        );
    }
}

#[tokio::test]
async fn an_override_that_raced_a_change_is_void_and_cleared_away() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let id = register(&admin, "wiki", per_user()).await;
    install(&admin, &id, "ada", "v").await;
    let stored = hawser.ground().items().await;
    let raced = stored
        .iter()
        .find(|item| item["entity"] == "override")
        .unwrap();
    // What a change that counted before ada's override was stored leaves behind.
    let client = hawser.ground().dynamodb();
    let old = client.get_item().table_name(hawser_local::TABLE);
    let old = old.key(
        "PK",
        AttributeValue::S(raced["PK"].as_str().unwrap().to_owned()),
    );
    let old = old.key(
        "SK",
        AttributeValue::S(raced["SK"].as_str().unwrap().to_owned()),
    );
    let old = old.send().await.unwrap().item.unwrap();
    disconnect(&admin, &id, "ada", "auth-override").await;
    let changed = admin
        .put(MCP, json!({"manifest": manifest("wiki", oauth())}))
        .await;
    assert_eq!(changed.status, 200);
    client
        .put_item()
        .table_name(hawser_local::TABLE)
        .set_item(Some(old))
        .send()
        .await
        .unwrap();
    let void =
        json!({"status": "authentication_required", "method": null, "reason": "server_changed"});
    status(&admin, &id, "ada").await.is(200, void.clone());
    is(
        &disconnect(&admin, &id, "ada", "auth-override").await,
        no_record(),
    );
    hawser.run_workers().await;
    assert!(
        hawser
            .ground()
            .items()
            .await
            .iter()
            .all(|item| item["entity"] != "override")
    );
    status(&admin, &id, "ada").await.is(200, void);
}

#[tokio::test]
async fn tokens_bound_to_one_connection_are_none_of_this_contract() {
    let hawser = Hawser::start().await;
    let bound = hawser.caller(
        "acme",
        "ada",
        json!({"roles": ["admin"], "mcp_server_id": 1}),
    );
    assert_eq!(bound.get(MCP).await.status, 401);
    assert_eq!(bound.get("/v1/deepagents/mcp-servers").await.status, 401);
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
