//! Changing a connection (Kambrium 6).

use super::{all, assert_refused, at, connect, shown, stored, user};
use crate::harness::Hawser;
use hawser_core::Error;
use hawser_core::domain::server::KeyCheck;
use hawser_core::operations::Permitted;
use hawser_core::operations::servers::{self, Change, Voiding};
use serde_json::json;

#[tokio::test]
async fn update_changes_what_is_sent_and_keeps_the_rest() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let id = connect(&ada).await;
    let mut expected = shown(&ada, id).await;
    let steps = [
        (
            json!({"agent_enabled": false}),
            vec![("agent_enabled", json!(false))],
        ),
        (
            json!({"access_type": "individual", "disabled_tools": [9, 2, 9]}),
            vec![
                ("access_type", json!("individual")),
                ("disabled_tools", json!([2, 9])),
            ],
        ),
        (
            json!({"agent_enabled": true}),
            vec![("agent_enabled", json!(true))],
        ),
        (
            json!({"disabled_tools": [5]}),
            vec![("disabled_tools", json!([5]))],
        ),
        (json!({}), vec![]),
        (
            json!({"agent_enabled": null, "access_type": null, "api_key": null, "disabled_tools": null}),
            vec![],
        ),
        (
            json!({"id": 9, "auth_method": "oauth", "mcp_server": 5, "mcp_server_name": "x", "created_at": "x"}),
            vec![],
        ),
        (
            json!({"access_type": "read"}),
            vec![
                ("access_type", json!("read")),
                ("oauth2_scopes", json!(["mcp.read"])),
                ("disabled_tools", json!([])),
            ],
        ),
        (
            json!({"access_type": "individual"}),
            vec![
                ("access_type", json!("individual")),
                ("oauth2_scopes", json!(["mcp.read", "mcp.write"])),
            ],
        ),
        (
            json!({"disabled_tools": [4]}),
            vec![("disabled_tools", json!([4]))],
        ),
        (
            json!({"disabled_tools": []}),
            vec![("disabled_tools", json!([]))],
        ),
        (
            json!({"access_type": "write", "disabled_tools": []}),
            vec![("access_type", json!("write"))],
        ),
        (json!({"api_key": "another"}), vec![]),
    ];
    for (body, changes) in steps {
        for (name, value) in changes {
            expected[name] = value;
        }
        let put = ada.put(&at(id), body).await;
        assert_eq!(
            (put.status, put.json()),
            (
                200,
                json!({"success": true, "data": expected, "message": "MCP server connection updated successfully"})
            )
        );
        assert_eq!(shown(&ada, id).await, expected);
    }
}

#[tokio::test]
async fn update_refuses_in_the_order_of_the_table_and_changes_nothing() {
    const TYPE: &str = "Invalid access type specified";
    const TOOLS: &str = "disabled_tools requires access type individual";
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let id = connect(&ada).await;
    let before = shown(&ada, id).await;
    let rows = [
        (json!({"access_type": "admin"}), TYPE),
        (json!({"access_type": ""}), TYPE),
        (
            json!({"access_type": "admin", "disabled_tools": [1], "agent_enabled": false}),
            TYPE,
        ),
        (
            json!({"disabled_tools": [1], "agent_enabled": false}),
            TOOLS,
        ),
        (json!({"access_type": "read", "disabled_tools": [1]}), TOOLS),
    ];
    for (body, detail) in rows {
        assert_refused(&ada.put(&at(id), body).await, 400, detail);
    }
    assert_eq!(shown(&ada, id).await, before);
    // Judged against the type that results, so leaving `individual` with tools is refused too.
    let individual = json!({"access_type": "individual", "disabled_tools": [1]});
    assert_eq!(ada.put(&at(id), individual).await.status, 200);
    let leaving = json!({"access_type": "write", "disabled_tools": [1]});
    assert_refused(&ada.put(&at(id), leaving).await, 400, TOOLS);
    assert_eq!(shown(&ada, id).await["disabled_tools"], json!([1]));
}

#[tokio::test]
async fn updates_at_the_same_moment_both_take_effect() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let id = connect(&ada).await;
    for round in [false, true, false, true] {
        let kind = if round { "read" } else { "write" };
        let path = at(id);
        let (one, other) = tokio::join!(
            ada.put(&path, json!({"agent_enabled": round})),
            ada.put(&path, json!({"access_type": kind})),
        );
        assert_eq!((one.status, other.status), (200, 200));
        let now = shown(&ada, id).await;
        assert_eq!(
            (&now["agent_enabled"], &now["access_type"]),
            (&json!(round), &json!(kind))
        );
    }
}

#[tokio::test]
async fn a_new_api_key_is_pending_again_and_nothing_else_makes_it_so() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let id = connect(&ada).await;
    let before = stored(&hawser).await;
    let mut after = before.clone();
    after.connection.key_check = KeyCheck::Verified;
    let caller = hawser.authenticated_caller("acme", "ada").await;
    let verified = async || {
        Ok::<_, Error>(Change {
            at: Permitted {
                caller: caller.clone(),
                found: before.clone(),
            },
            after: after.clone(),
            secrets: None,
            voiding: Voiding::Refused,
        })
    };
    servers::change(&hawser.app, verified, false).await.unwrap();
    for (body, status) in [
        (json!({}), "verified"),
        (json!({"agent_enabled": false}), "verified"),
        // The same key, sent again, is checked anew.
        (json!({"api_key": "k-4711"}), "pending"),
    ] {
        let put = ada.put(&at(id), body).await.json();
        assert_eq!(put["data"]["api_key_verification_status"], status, "{put}");
    }
}

#[tokio::test]
async fn an_update_that_changes_nothing_writes_nothing() {
    let hawser = Hawser::with_built_in_integrations().await;
    let ada = user(&hawser, "ada");
    let id = connect(&ada).await;
    let before = all(&hawser).await;
    hawser.wire.arm(None);
    for body in [
        json!({}),
        json!({"agent_enabled": true, "access_type": "write"}),
    ] {
        assert_eq!(ada.put(&at(id), body).await.status, 200);
    }
    assert!(!hawser.wire.operations().is_empty());
    assert!(
        hawser
            .wire
            .operations()
            .iter()
            .all(|one| one == "BatchGetItem")
    );
    assert_eq!(all(&hawser).await, before);
}
