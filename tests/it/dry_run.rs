//! `dryRun=true` on everything that destroys: what would go is counted, and nothing changes.

use crate::harness::{Hawser, per_user};
use serde_json::{Value, json};

fn dry_run_response(overrides: u64) -> Value {
    json!({"dryRun": true, "removed": {"oauthRecords": 0, "overrides": overrides}, "subjects": overrides, "issuers": []})
}

#[tokio::test]
async fn each_contract_counts_in_its_own_envelope_and_changes_nothing() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let [truefoundry, langsmith, kambrium] = admin
        .register("wiki", per_user(), &["ada", "bob"])
        .await
        .paths();
    let before = hawser.ground().items().await;
    admin
        .delete(&format!("{truefoundry}?dryRun=true"))
        .await
        .is(200, json!({"data": dry_run_response(2)}));
    admin
        .delete(&format!("{langsmith}?dryRun=true"))
        .await
        .is(200, dry_run_response(2));
    let body = json!({"success": true, "data": dry_run_response(2), "message": "Dry run: nothing was deleted"});
    admin
        .delete(&format!("{kambrium}?dryRun=true"))
        .await
        .is(200, body);
    let ada = json!({"authSource": "auth-override", "subjectId": "ada", "subjectType": "user"});
    let path = format!("{truefoundry}/auth?dryRun=true");
    admin
        .delete_with(&path, ada.clone())
        .await
        .is(200, json!({"data": dry_run_response(1)}));
    let oauth = json!({"authSource": "oauth", "subjectId": "ada", "subjectType": "user"});
    assert_eq!(
        admin.delete_with(&path, oauth).await.json()["code"],
        "AUTH_RECORD_NOT_FOUND"
    );
    assert_eq!(hawser.ground().items().await, before);

    let real = format!("{truefoundry}/auth?dryRun=false");
    assert_eq!(admin.delete_with(&real, ada).await.status, 200);
    admin
        .delete(&format!("{langsmith}?dryRun=true"))
        .await
        .is(200, dry_run_response(1));
    assert_eq!(
        admin
            .delete(&format!("{kambrium}?dryRun=false"))
            .await
            .status,
        200
    );
    admin
        .delete(&format!("{langsmith}?dryRun=true"))
        .await
        .is(200, dry_run_response(0));
    assert_eq!(
        admin
            .delete(&format!("{truefoundry}?dryRun=true"))
            .await
            .status,
        404
    );
    assert_eq!(
        admin
            .delete(&format!("{kambrium}?dryRun=true"))
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn a_misspelt_dry_run_deletes_nothing() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let paths = admin
        .register("wiki", per_user(), &["ada", "bob"])
        .await
        .paths();
    let before = hawser.ground().items().await;
    for query in [
        "dryRun=1",
        "dryRun=True",
        "dryRun=",
        "dryRun",
        "dryRun=true&dryRun=true",
        "dryrun=true",
        "dry_run=true",
    ] {
        for (path, status) in paths.iter().zip([400, 400, 422]) {
            let answer = admin.delete(&format!("{path}?{query}")).await;
            assert_eq!(answer.status, status, "{path}?{query}: {answer:?}");
        }
    }
    let fault = json!({"detail": [{"type": "bool_parsing", "loc": ["query", "dryRun"],
                       "msg": "Input should be a valid boolean, unable to interpret input", "input": "[redacted]"}]});
    admin
        .delete(&format!("{}?dryRun=1", paths[2]))
        .await
        .is(422, fault);
    assert_eq!(hawser.ground().items().await, before);
}

#[tokio::test]
async fn a_dry_run_takes_the_permission_of_the_real_call() {
    let hawser = Hawser::start().await;
    let paths = hawser
        .admin("acme")
        .register("wiki", per_user(), &["ada", "bob"])
        .await
        .paths();
    let bob = hawser.caller(
        "acme",
        "bob",
        json!({"roles": ["mcp-server-user"], "permissions": ["mcp-servers:read"],
                                                   "scope": "mgmt.read"}),
    );
    for path in &paths {
        assert_eq!(
            bob.delete(&format!("{path}?dryRun=true")).await.status,
            403,
            "{path}"
        );
    }
    let stranger = hawser.admin("other");
    for (path, status) in paths.iter().zip([404, 200, 404]) {
        let answer = stranger.delete(&format!("{path}?dryRun=true")).await;
        assert_eq!(answer.status, status, "{path}");
        if status == 200 {
            answer.is(200, dry_run_response(0));
        }
    }
}

#[tokio::test]
async fn an_update_counts_what_it_would_void_if_it_were_forced() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    admin.register("wiki", per_user(), &["ada", "bob"]).await;
    let before = hawser.ground().items().await;
    let manifest = |name: &str, url: &str| json!({"type": "mcp-server/remote", "name": name, "description": "d", "url": url, "auth_data": per_user()});
    for (name, url, force, voided) in [
        ("wiki", "https://elsewhere.example/mcp", true, 2),
        ("wiki", "https://elsewhere.example/mcp", false, 2),
        ("wiki", "https://x.example/mcp", true, 0),
        ("new", "https://x.example/mcp", true, 0),
    ] {
        let body = json!({"manifest": manifest(name, url), "force": force});
        let answer = admin.put("/api/svc/v1/mcp?dryRun=true", body).await;
        answer.is(200, json!({"data": dry_run_response(voided)}));
    }
    let body =
        json!({"manifest": manifest("wiki", "https://elsewhere.example/mcp"), "force": true});
    let misspelt = admin.put("/api/svc/v1/mcp?dry_run=true", body).await;
    assert_eq!(misspelt.status, 400, "{misspelt:?}");
    assert_eq!(hawser.ground().items().await, before);
}

#[tokio::test]
async fn a_patch_counts_what_it_would_void() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let [_, langsmith, _] = admin
        .register("wiki", per_user(), &["ada", "bob"])
        .await
        .paths();
    let before = hawser.ground().items().await;
    let path = format!("{langsmith}?dryRun=true");
    for (change, voided) in [
        (json!({"url": "https://elsewhere.example/mcp"}), 2),
        (json!({"url": "https://x.example/mcp?other"}), 2),
        (json!({"url": "https://x.example/mcp"}), 0),
        (json!({}), 0),
    ] {
        admin
            .patch(&path, change)
            .await
            .is(200, dry_run_response(voided));
    }
    let misspelt = format!("{langsmith}?dryrun=true");
    let refused = admin
        .patch(&misspelt, json!({"url": "https://elsewhere.example/"}))
        .await;
    assert_eq!(refused.status, 400, "{refused:?}");
    assert_eq!(hawser.ground().items().await, before);
}
