//! Installing an override.

use super::{
    MCP, client_credentials, disconnect, global, install, is, is_invalid, manifest, no_record,
    oauth, per_user, register, status,
};
use crate::harness::Hawser;
use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};

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
