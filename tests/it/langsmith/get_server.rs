//! Reading a server.

use super::{URL, ada, at, create, id, invalid_path, is, is_empty_204, not_found};
use crate::harness::Hawser;
use serde_json::json;

#[tokio::test]
async fn an_id_has_one_form_in_any_case() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let made = create(&ada, json!({"name": "search", "url": URL})).await;
    let upper = id(&made).to_uppercase();
    is(&ada.get(&at(&upper)).await, made.clone());
    is(&ada.patch(&at(&upper), json!({})).await, made.clone());
    let simple = id(&made).replace('-', "");
    for malformed in [
        simple.clone(),
        format!("%7B{}%7D", id(&made)),
        format!("urn:uuid:{}", id(&made)),
        format!("{}g", &id(&made)[..35]),
        format!("{}-", &id(&made)[..35]),
        format!("{}%20", id(&made)),
        "1".to_owned(),
        "mcp-01KF0FV2HRF8BR7TAB0BC6YCDE".to_owned(),
    ] {
        is(&ada.get(&at(&malformed)).await, invalid_path());
        is(&ada.patch(&at(&malformed), json!({})).await, invalid_path());
        is(&ada.delete(&at(&malformed)).await, invalid_path());
    }
    // Version and variant do not matter.
    for unknown in [
        "00000000-0000-0000-0000-000000000000",
        "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
    ] {
        is(&ada.get(&at(unknown)).await, not_found());
        is_empty_204(&ada.delete(&at(unknown)).await);
    }
    is_empty_204(&ada.delete(&at(&upper)).await);
    is(&ada.get(&at(id(&made))).await, not_found());
}
