//! Listing the servers.

use super::{EVERYTHING, SERVERS, URL, ada, at, create, create_plain, id, is, with};
use crate::harness::Hawser;
use serde_json::{Value, json};

#[tokio::test]
async fn the_list_is_a_bare_array_of_all_servers_oldest_first() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    is(&ada.get(SERVERS).await, json!([]));
    let mut made = Vec::new();
    // Together they are more than one page of the store, and named against the order.
    for i in 0..24 {
        let value = "v".repeat(8000);
        let headers: Value = (0..8)
            .map(|n| json!({"key": format!("X-{n}"), "value": value}))
            .collect();
        let name = format!("server {}", 99 - i);
        made.push(create(&ada, json!({"name": name, "url": URL, "headers": headers})).await);
    }
    create_plain(
        &hawser.caller("globex", "bob", json!({"permissions": EVERYTHING})),
        "of another tenant",
    )
    .await;
    let answer = ada
        .send(
            "GET",
            &format!("{SERVERS}?limit=1&offset=7"),
            &[],
            b"{".to_vec(),
        )
        .await;
    is(&answer, made.into());
}

#[tokio::test]
async fn headers_are_shown_to_those_who_may_invoke_and_to_no_one_else() {
    let hawser = Hawser::start().await;
    let headers = json!([{"key": "Authorization", "value": "Bearer s3cret"}]);
    let body = json!({"name": "search", "url": URL, "headers": headers});
    let blind = with(&hawser, &EVERYTHING[..4]);
    let made = create(&blind, body).await;
    let blindly = |record: &Value| {
        let record = record.as_object().unwrap();
        assert!(!record.contains_key("headers"), "{record:?}");
        assert_eq!(record["can_invoke"], json!(false));
        assert_eq!(record.keys().next_back().unwrap(), "can_invoke");
    };
    blindly(&made);
    let path = at(id(&made));
    blindly(&blind.get(&path).await.json());
    blindly(&blind.get(SERVERS).await.json()[0]);
    let patched = blind.patch(&path, json!({"headers": headers})).await;
    blindly(&patched.json());
    assert!(!patched.text.contains("s3cret"));

    let ada = ada(&hawser);
    for record in [
        ada.get(&path).await.json(),
        ada.get(SERVERS).await.json()[0].clone(),
        ada.patch(&path, json!({})).await.json(),
    ] {
        assert_eq!(record["headers"], headers);
        assert_eq!(record.get("can_invoke"), None);
    }
    // It is the caller that decides, not the server: the same with nothing to hide.
    let made = create(&blind, json!({"name": "plain", "url": URL})).await;
    blindly(&made);
    assert_eq!(ada.get(&at(id(&made))).await.json()["headers"], json!([]));
}
