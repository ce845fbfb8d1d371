//! Servers of the sibling contracts, seen and changed here.

use super::{
    SERVERS, ada, at, auth_of, connection_path, create_plain, id, is, is_empty_204, mcp_path,
    not_found, put_mcp, tenant_uuid,
};
use crate::harness::{Caller, Hawser};
use serde_json::{Value, json};

async fn manifest(hawser: &Hawser, name: &str) -> Value {
    let path = mcp_path(hawser, name).await;
    hawser.admin("acme").get(&path).await.json()["data"]["manifest"].clone()
}

async fn find(caller: &Caller, name: &str) -> Value {
    let listed = caller.get(SERVERS).await.json();
    let found = listed.as_array().unwrap().iter();
    found
        .clone()
        .find(|one| one["name"] == name)
        .unwrap_or_else(|| panic!("not listed: {listed}"))
        .clone()
}

fn header_auth(level: &str, headers: Value) -> Value {
    json!({"auth_data": {"type": "header", "auth_level": level, "headers": headers}})
}

#[tokio::test]
async fn servers_of_the_truefoundry_contract_are_shown_in_this_ones_words() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let client_credentials = json!({"auth_data": {
        "type": "oauth2", "grant_type": "client_credentials", "provider": "custom",
        "token_url": "https://as.example/token", "client_id": "c", "client_secret": "s",
    }});
    let authorization_code = json!({"auth_data": {
        "type": "oauth2", "grant_type": "authorization_code", "provider": "custom",
        "authorization_url": "https://as.example/authorize", "token_url": "https://as.example/token",
        "client_id": "c",
    }});
    let mixed = json!({"X-Key": "{{KEY}}", "X-Shared": "s"});
    let nothing = json!(["", "", [], "absent"]);
    for (name, more, shown) in [
        ("none", json!({}), nothing.clone()),
        (
            "passthrough",
            json!({"auth_data": {"type": "passthrough"}}),
            nothing.clone(),
        ),
        ("client-credentials", client_credentials, nothing.clone()),
        (
            "authorization-code",
            authorization_code,
            json!(["oauth", "per_user_dynamic_client", [], null]),
        ),
        (
            "shared",
            header_auth("global", json!({"Authorization": "Bearer a"})),
            json!(["", "", [{"key": "Authorization", "value": "Bearer a"}], "absent"]),
        ),
        (
            "mixed",
            header_auth("per_user", mixed),
            json!(["", "", [{"key": "X-Shared", "value": "s"}], "absent"]),
        ),
        (
            "own-only",
            header_auth("per_user", json!({"X-Key": "{{KEY}}"})),
            nothing,
        ),
    ] {
        put_mcp(&hawser, name, more).await;
        let record = find(&ada, name).await;
        assert_eq!(auth_of(&record), shown, "{name}");
        is(&ada.get(&at(id(&record))).await, record.clone());
        assert_eq!(record["tenant_id"], json!(tenant_uuid("acme")));
        assert_eq!(record["vendor_id"], json!(null));
        assert_eq!(record["external_system_id"], json!(null));

        // What the record shows can be sent back, and a patch of the URL leaves the rest alone.
        let before = manifest(&hawser, name).await;
        is(
            &ada.patch(&at(id(&record)), record.clone()).await,
            record.clone(),
        );
        assert_eq!(manifest(&hawser, name).await, before, "{name}");
        let url = "https://mcp.example.com/other";
        let patched = ada.patch(&at(id(&record)), json!({"url": url})).await;
        assert_eq!(auth_of(&patched.json()), shown, "{name}");
        let mut expected = before;
        expected["url"] = url.into();
        assert_eq!(manifest(&hawser, name).await, expected, "{name}");

        // It goes by either contract.
        is_empty_204(&ada.delete(&at(id(&record))).await);
        let listed = hawser.admin("acme").get("/api/svc/v1/mcp").await.json();
        assert_eq!(listed["data"], json!([]), "{name}");
    }
}

#[tokio::test]
async fn a_patch_replaces_a_siblings_auth_where_it_says_so_and_keeps_its_additional_headers() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let extra = json!({"additional_headers": {"X-Extra": "e"}});
    let header = json!([{"key": "X-New", "value": "n"}]);
    let new = json!({"type": "header", "auth_level": "global", "headers": {"X-New": "<REDACTED>"}});
    let keyed = header_auth("per_user", json!({"X-Key": "{{KEY}}", "X-Shared": "s"}));
    let passthrough = json!({"auth_data": {"type": "passthrough"}});
    for (i, (auth, patch, expected)) in [
        (&passthrough, json!({"headers": header}), new.clone()),
        (&passthrough, json!({"auth_type": "headers"}), Value::Null),
        (&keyed, json!({"headers": header}), new),
        // Both kinds of headers stay where only their type is named.
        (
            &keyed,
            json!({"auth_type": "headers"}),
            json!({"type": "header", "auth_level": "per_user",
                "headers": {"X-Key": "{{KEY}}", "X-Shared": "<REDACTED>"}}),
        ),
        (&keyed, json!({"headers": []}), Value::Null),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("server-{i}");
        let mut more = auth.clone();
        more["additional_headers"] = extra["additional_headers"].clone();
        put_mcp(&hawser, &name, more).await;
        let record = find(&ada, &name).await;
        let answer = ada.patch(&at(id(&record)), patch.clone()).await;
        for (field, value) in patch.as_object().unwrap() {
            assert_eq!(&answer.json()[field], value);
        }
        let now = manifest(&hawser, &name).await;
        assert_eq!(now["auth_data"], expected, "{patch}");
        assert_eq!(now["additional_headers"], json!({"X-Extra": "<REDACTED>"}));
        // The values behind the marks are still there: they can be kept.
        let answer = hawser
            .admin("acme")
            .put("/api/svc/v1/mcp", json!({"manifest": now}))
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        is(&ada.get(&at(id(&record))).await, find(&ada, &name).await);
    }
}

#[tokio::test]
async fn a_server_made_here_can_be_deleted_by_the_sibling_contracts() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let first = create_plain(&admin, "first").await;
    let second = create_plain(&admin, "second").await;
    let path = mcp_path(&hawser, "first").await;
    assert_eq!(admin.delete(&path).await.status, 200);
    is(&admin.get(&at(&first)).await, not_found());
    let path = connection_path(&hawser, "second").await;
    assert_eq!(admin.delete(&path).await.status, 200);
    is(&admin.get(&at(&second)).await, not_found());
    is(&admin.get(SERVERS).await, json!([]));
    is_empty_204(&admin.delete(&at(&first)).await);
    is_empty_204(&admin.delete(&at(&second)).await);
}
