//! Creating a server (LangSmith 2.1).

use super::{
    SERVERS, URL, ada, at, auth_of, create, create_plain, cut_is_after_the_last, error, id, is,
    put_mcp, tenant_uuid,
};
use crate::harness::{Cut, Hawser};
use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::json;

#[tokio::test]
async fn create_answers_201_with_the_whole_record_in_the_contracts_order() {
    let hawser = Hawser::start().await;
    let body = json!({
        "name": "  Search 2.0 \n",
        "url": "HTTPS://MCP.Example.com:443/mcp/?q=%7e",
        "headers": [{"key": "X-B", "value": " b "}, {"key": "Authorization", "value": "Bearer s3cret"}],
        "auth_type": "headers",
        "vendor_id": "v-1",
        "external_system_id": "",
        "nonsense": {"a": 1},
    });
    let answer = ada(&hawser).post(SERVERS, body).await;
    let made = answer.json();
    let created_at = made["created_at"].as_str().unwrap();
    let expected = format!(
        r#"{{"id":"{}","tenant_id":"{}","name":"Search 2.0","url":"HTTPS://MCP.Example.com:443/mcp/?q=%7e","headers":[{{"key":"X-B","value":" b "}},{{"key":"Authorization","value":"Bearer s3cret"}}],"auth_type":"headers","oauth_mode":"","created_at":"{created_at}","updated_at":"{created_at}","mcp_vendor_id":null,"vendor_id":"v-1","external_system_id":null}}"#,
        id(&made),
        tenant_uuid("acme"),
    );
    assert_eq!((answer.status, answer.text.as_str()), (201, &*expected));
    assert_eq!(answer.header("content-type").unwrap(), "application/json");
    assert_eq!(answer.header("cache-control").unwrap(), "no-store");
    let (clock, offset) = created_at.split_at(26);
    assert_eq!((clock.find('.'), offset), (Some(19), "+00:00"));
    let uuid: Vec<_> = id(&made).split('-').map(str::len).collect();
    assert_eq!(uuid, [8, 4, 4, 4, 12]);
    assert_eq!(id(&made).as_bytes()[14], b'7');
    assert_eq!(id(&made), id(&made).to_lowercase());
    assert_eq!(ada(&hawser).get(&at(id(&made))).await.text, expected);
    assert_eq!(
        ada(&hawser).get(SERVERS).await.text,
        format!("[{expected}]")
    );
}

#[tokio::test]
async fn create_oauth_shows_the_provider_id_in_its_place() {
    let hawser = Hawser::start().await;
    let body = json!({"name": "o", "url": URL, "auth_type": "oauth"});
    let answer = ada(&hawser).post(SERVERS, body).await;
    let keys: Vec<_> = answer.json().as_object().unwrap().keys().cloned().collect();
    let expected = [
        "id",
        "tenant_id",
        "name",
        "url",
        "headers",
        "auth_type",
        "oauth_provider_id",
        "oauth_mode",
        "created_at",
        "updated_at",
        "mcp_vendor_id",
        "vendor_id",
        "external_system_id",
    ];
    assert_eq!(keys, expected);
}

#[tokio::test]
async fn create_takes_each_combination_of_auth_fields_that_makes_sense() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let provider = "0191C0FD-8A38-7A17-83E9-4B02D86F31AE";
    let (legacy, per_user) = ("legacy_shared_provider", "per_user_dynamic_client");
    let header = json!([{"key": "A", "value": ""}]);
    for (i, (sent, shown)) in [
        (json!({}), json!(["", "", [], "absent"])),
        (
            json!({"auth_type": null, "oauth_mode": null, "oauth_provider_id": null,
                "headers": null, "vendor_id": null, "external_system_id": null}),
            json!(["", "", [], "absent"]),
        ),
        (
            json!({"auth_type": "", "oauth_mode": "", "headers": []}),
            json!(["", "", [], "absent"]),
        ),
        (
            json!({"auth_type": "headers"}),
            json!(["headers", "", [], "absent"]),
        ),
        (
            json!({"headers": header}),
            json!(["", "", header, "absent"]),
        ),
        (
            json!({"auth_type": "oauth", "headers": []}),
            json!(["oauth", per_user, [], null]),
        ),
        (
            json!({"auth_type": "oauth", "oauth_mode": per_user, "oauth_provider_id": provider}),
            json!(["oauth", per_user, [], null]),
        ),
        (
            json!({"auth_type": "oauth", "oauth_mode": "", "oauth_provider_id": provider}),
            json!(["oauth", legacy, [], provider.to_lowercase()]),
        ),
        (
            json!({"auth_type": "oauth", "oauth_mode": legacy}),
            json!(["oauth", legacy, [], null]),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let mut body = json!({"name": format!("server {i}"), "url": URL});
        body.as_object_mut()
            .unwrap()
            .extend(sent.as_object().unwrap().clone());
        let made = create(&ada, body).await;
        assert_eq!(auth_of(&made), shown, "{sent}");
        is(&ada.get(&at(id(&made))).await, made);
    }
}

#[tokio::test]
async fn a_name_is_taken_once_in_a_tenant_by_exact_comparison() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let taken = |name: &str| {
        let detail = format!("Choose another name: an MCP server named '{name}' already exists");
        error(409, "mcp_server_name_conflict", &detail)
    };
    create_plain(&ada, "Search").await;
    let again = ada.post(SERVERS, json!({"name": " Search", "url": "https://h"}));
    is(&again.await, taken("Search"));
    // Neither its case nor its URL makes it the same.
    create_plain(&ada, "search").await;
    put_mcp(&hawser, "by-truefoundry", json!({})).await;
    let again = ada.post(SERVERS, json!({"name": "by-truefoundry", "url": URL}));
    is(&again.await, taken("by-truefoundry"));
    assert_eq!(ada.get(SERVERS).await.json().as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn of_parallel_creates_of_one_name_one_succeeds() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let create = || ada.post(SERVERS, json!({"name": "search", "url": URL}));
    let (a, b, c, d) = tokio::join!(create(), create(), create(), create());
    let mut statuses = [a.status, b.status, c.status, d.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409]);
    assert_eq!(ada.get(SERVERS).await.json().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn header_values_are_nowhere_in_the_clear_in_the_store() {
    let hawser = Hawser::start().await;
    let headers = json!([{"key": "Authorization", "value": "Bearer s3cret-value"}]);
    create(
        &ada(&hawser),
        json!({"name": "search", "url": URL, "headers": headers}),
    )
    .await;
    let stored = stored_bytes(&hawser).await;
    let holds = |text: &str| {
        stored
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    assert!(holds("Authorization") && holds(URL));
    assert!(!holds("s3cret-value"));
}

/// Every text and every binary value in the table, one after the other.
#[expect(
    clippy::disallowed_methods,
    reason = "a test looks at everything there is"
)]
async fn stored_bytes(hawser: &Hawser) -> Vec<u8> {
    let store = hawser.ground().dynamodb();
    let table = store.scan().table_name(hawser_local::TABLE);
    let mut items = table.into_paginator().items().send();
    let mut all = Vec::new();
    while let Some(item) = items.next().await {
        gather(&AttributeValue::M(item.unwrap()), &mut all);
    }
    all
}

fn gather(value: &AttributeValue, all: &mut Vec<u8>) {
    match value {
        AttributeValue::S(text) => all.extend_from_slice(text.as_bytes()),
        AttributeValue::B(bytes) => all.extend_from_slice(bytes.as_ref()),
        AttributeValue::L(list) => list.iter().for_each(|value| gather(value, all)),
        AttributeValue::M(map) => map.values().for_each(|value| gather(value, all)),
        AttributeValue::N(_) | AttributeValue::Bool(_) | AttributeValue::Null(_) => {}
        other => panic!("not looked into: {other:?}"),
    }
}

#[tokio::test]
async fn a_create_ends_with_its_one_write() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    create_plain(&ada, "first").await;
    hawser.wire.arm(None);
    let headers = json!([{"key": "A", "value": "b"}]);
    create(
        &ada,
        json!({"name": "second", "url": URL, "headers": headers}),
    )
    .await;
    let requests = hawser.wire.operations();
    let write = "TransactWriteItems";
    assert_eq!(
        requests.iter().position(|r| r == write),
        Some(requests.len() - 1)
    );
}

#[tokio::test]
async fn a_create_that_is_cut_off_has_happened_whole_or_not_at_all() {
    // The requests of a tenant's first create, which makes the tenant's key too.
    let hawser = Hawser::start().await;
    hawser.wire.arm(None);
    create_plain(&ada(&hawser), "search").await;
    let requests = hawser.wire.operations().len();
    let body = json!({"name": "search", "url": URL, "headers": [{"key": "A", "value": "b"}]});
    for at_request in 0..requests {
        for cut in [Cut::Before(at_request), Cut::After(at_request)] {
            let hawser = Hawser::start().await;
            let ada = ada(&hawser);
            hawser.wire.arm(Some(cut));
            let broken = ada.post(SERVERS, body.clone()).await;
            assert_eq!(broken.status, 503, "{cut:?} {broken:?}");
            hawser.wire.arm(None);
            let listed = ada.get(SERVERS).await.json();
            let written = cut_is_after_the_last(cut, requests);
            assert_eq!(listed.as_array().unwrap().len(), usize::from(written));
            let again = ada.post(SERVERS, body.clone()).await;
            assert_eq!(again.status, if written { 409 } else { 201 }, "{cut:?}");
            let path = at(id(&ada.get(SERVERS).await.json()[0]));
            assert_eq!(ada.get(&path).await.json()["headers"], body["headers"]);
        }
    }
}
