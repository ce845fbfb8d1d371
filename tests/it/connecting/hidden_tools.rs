//! What a connection keeps back stays hidden before the credential works.

use super::{handshake, in_session, tool_call};
use crate::harness::Hawser;
use crate::upstream::*;
use hawser_core::domain::tool::id_of;
use serde_json::{Value, json};

fn names(answer: &crate::harness::Answer) -> Vec<String> {
    let tools = answer.json()["result"]["tools"].clone();
    let names = tools
        .as_array()
        .unwrap_or_else(|| panic!("{answer:?}"))
        .iter();
    names
        .map(|tool| tool["name"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn the_list_that_is_shared_leaves_out_what_is_hidden() {
    let upstream = Upstream::start().await;
    let pipedrive = json!({"display_name": "P", "mcp_url": upstream.url, "api_key": {}});
    let hawser = Hawser::with_integrations(&json!({"pipedrive": pipedrive})).await;
    let admin = hawser.admin("acme");
    let body = json!({"mcp_server": "pipedrive", "access_type": "individual", "api_key": "k",
                      "disabled_tools": [id_of("search")]});
    let made = admin.post("/api/v1/mcp-servers", body).await.json();
    let number = made["data"]["id"].to_string();
    upstream.has_tools(json!([{"name": "search"}, {"name": "other"}, {"name": "look"}]));
    let bob = user(&hawser, "bob");
    // Its list is known once someone has called a tool.
    assert_eq!(
        send(&bob, &number, &[MODERN], tool_call("other"))
            .await
            .status,
        200
    );
    // The server takes the key no longer.
    upstream.answers(|_| Reply::new(401, Vec::new(), ""));
    let list = send(&bob, &number, &[MODERN], message("tools/list")).await;
    assert_eq!(names(&list), ["other", "look"]);
    let answer = send(&bob, &number, &[MODERN], tool_call("search")).await;
    assert_eq!(answer.json()["error"]["code"], -32002, "{answer:?}");
    assert_eq!(
        told(&send(&bob, &number, &[MODERN], tool_call("other")).await),
        None
    );
    let session = handshake(&bob, &number, json!({})).await;
    let list = in_session(&bob, &number, &session, message("tools/list")).await;
    assert_eq!(names(&list), ["other", "look"]);
    // What is hidden later is hidden there too, and a list of others is not shown.
    let path = format!("/api/v1/mcp-servers/{number}");
    let hidden = json!({"disabled_tools": [id_of("search"), id_of("other")]});
    assert_eq!(admin.put(&path, hidden).await.status, 200);
    let list = in_session(&bob, &number, &session, message("tools/list")).await;
    assert_eq!(names(&list), ["look"]);
    let rotated = admin.put(&path, json!({"api_key": "l"})).await;
    assert_eq!(rotated.status, 200, "{rotated:?}");
    let list = send(&bob, &number, &[MODERN], message("tools/list")).await;
    assert_eq!(names(&list), ["connect"], "it was listed with another key");
}

#[tokio::test]
async fn a_list_of_one_subject_is_not_shown_to_another() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    upstream.has_tools(json!([{"name": "secret"}]));
    let mcp = register(&hawser, "wiki", &upstream.url, per_user()).await;
    install(&hawser, &mcp, "ada", own("v")).await;
    // It is listed and kept for a call that names our own tool.
    let ada = user(&hawser, "ada");
    assert_eq!(
        send(&ada, &mcp, &[MODERN], tool_call("connect"))
            .await
            .status,
        200
    );
    let list = send(
        &user(&hawser, "bob"),
        &mcp,
        &[MODERN],
        message("tools/list"),
    )
    .await;
    assert_eq!(names(&list), ["connect"]);
    let stored = hawser.ground().items().await;
    let kept: Vec<&Value> = stored
        .iter()
        .filter(|item| item["entity"] == "tools")
        .collect();
    assert_eq!(kept.len(), 1);
}
