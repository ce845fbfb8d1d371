//! What the SDK and `tfy apply` send: create or update by a manifest.

use super::{MCP, global, install, is, is_invalid, manifest, per_user, refused};
use crate::harness::{Answer, Caller, Hawser};
use serde_json::{Value, json};

pub(super) const APPLY: &str = "/api/svc/v1/apply";

async fn apply(caller: &Caller, manifest: &Value, dry_run: bool, force: bool) -> Answer {
    let body = json!({"manifest": manifest, "dryRun": dry_run, "force": force});
    caller.put(APPLY, body).await
}

#[tokio::test]
async fn a_manifest_creates_a_server_and_updates_it_and_the_answer_says_which() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let wiki = manifest("wiki", global());
    let made = apply(&admin, &wiki, false, false).await.json();
    assert_eq!(made["existingManifest"], Value::Null);
    assert_eq!(made["action"], "CREATE");
    let shown = admin.get(MCP).await.json()["data"][0].clone();
    assert_eq!(made["data"], shown);
    for required in ["accountId", "createdBySubject", "isAuthOverrideSupported"] {
        assert!(!made["data"][required].is_null(), "{required}: {made}");
    }
    let same = apply(&admin, &wiki, false, false).await.json();
    assert_eq!(same["action"], "UPDATE");
    assert_eq!(same["existingManifest"], shown["manifest"]);
    assert_eq!(
        same["existingManifest"]["auth_data"]["auth_level"],
        "global"
    );
    assert_eq!(same["data"], shown, "an unchanged manifest is not written");
    let mut other = wiki.clone();
    other["description"] = "Another".into();
    let changed = apply(&admin, &other, false, false).await.json();
    assert_eq!(changed["existingManifest"], shown["manifest"]);
    assert_eq!(changed["data"]["manifest"]["description"], "Another");
    assert_eq!(changed["data"]["id"], shown["id"]);
    assert!(!changed.to_string().contains("shared-s3cret"), "{changed}");
}

#[tokio::test]
async fn a_dry_run_says_what_would_come_and_stores_nothing() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let wiki = manifest("wiki", global());
    let would = apply(&admin, &wiki, true, false).await.json();
    assert_eq!(
        (&would["existingManifest"], &would["action"]),
        (&Value::Null, &json!("CREATE"))
    );
    assert_eq!(would["data"]["id"], Value::Null);
    assert_eq!(would["data"]["manifest"]["name"], "wiki");
    assert_eq!(admin.get(MCP).await.json()["pagination"]["total"], 0);
    let made = apply(&admin, &wiki, false, false).await.json();
    let mut other = wiki;
    other["description"] = "Another".into();
    let would = apply(&admin, &other, true, false).await.json();
    assert_eq!(would["action"], "UPDATE");
    assert_eq!(would["existingManifest"], made["data"]["manifest"]);
    assert_eq!(would["data"]["manifest"]["description"], "Another");
    assert_eq!(admin.get(MCP).await.json()["data"][0], made["data"]);
}

#[tokio::test]
async fn the_guard_and_the_permissions_are_those_of_the_other_way() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let made = apply(&admin, &manifest("wiki", per_user()), false, false).await;
    let id = made.json()["data"]["id"].as_str().unwrap().to_owned();
    install(&admin, &id, "ada", "k").await;
    for dry_run in [true, false] {
        let guarded = apply(&admin, &manifest("wiki", global()), dry_run, false).await;
        assert_eq!(
            (guarded.status, &guarded.json()["code"]),
            (417, &json!("AUTH_RECORDS_WOULD_BE_DELETED"))
        );
    }
    let forced = apply(&admin, &manifest("wiki", global()), false, true).await;
    assert_eq!(forced.status, 200, "{forced:?}");
    let member = hawser.caller("acme", "ada", json!({}));
    let needs = |name| {
        refused(
            403,
            "PERMISSION_DENIED",
            &format!("This call needs the permission {name}."),
        )
    };
    let denied = apply(&member, &manifest("other", Value::Null), true, false).await;
    is(&denied, needs("CREATE_MCP_SERVER"));
    let denied = apply(&member, &manifest("wiki", Value::Null), true, false).await;
    is(&denied, needs("MANAGE_MCP_SERVER"));
    is_invalid(
        &admin.put(APPLY, json!({"dryRun": false})).await,
        &["manifest"],
    );
    let team = json!({"type": "team", "name": "crew"});
    let answer = apply(&admin, &team, false, false).await;
    assert_eq!(
        (answer.status, &answer.json()["code"]),
        (422, &json!("UNSUPPORTED"))
    );
}
