//! Listing the integrations (Kambrium 2).

use super::{AVAILABLE, user};
use crate::harness::Hawser;
use serde_json::json;

#[tokio::test]
async fn available_lists_the_active_integrations_by_name_to_everyone_alike() {
    let hawser = Hawser::with_built_in_integrations().await;
    let got = user(&hawser, "ada").get(AVAILABLE).await;
    assert_eq!(
        (got.status, got.json()),
        (
            200,
            json!({
                "success": true,
                "data": [
                    {"name": "pipedrive", "description": "Sales CRM", "number_of_tools": 277},
                    {"name": "search", "description": "Web search with a key in a header of its own", "number_of_tools": 3},
                ],
                "message": "Found 2 available MCP server integrations",
            })
        )
    );
    let elsewhere = hawser.caller("other", "eve", json!({"scope": "mgmt.admin"}));
    assert_eq!(elsewhere.get(AVAILABLE).await.text, got.text);
}
