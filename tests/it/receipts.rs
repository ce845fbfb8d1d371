//! Receipts: what was removed, by whom, and when it was settled.

use crate::harness::{Answer, Caller, Hawser, per_user};
use serde_json::{Value, json};

const MCP: &str = "/api/svc/v1/mcp";

async fn disconnect(caller: &Caller, id: &str, subject: &str) -> String {
    let body = json!({"authSource": "auth-override", "subjectId": subject, "subjectType": "user"});
    let answer = caller.delete_with(&format!("{MCP}/{id}/auth"), body).await;
    answer.json()["data"]["receiptId"]
        .as_str()
        .unwrap()
        .to_owned()
}

async fn read(caller: &Caller, receipt: &str) -> Answer {
    caller.get(&format!("/v1/receipts/{receipt}")).await
}

fn without_times(answer: Answer) -> Value {
    let mut data = answer.json()["data"].clone();
    for name in ["createdAt", "completedAt"] {
        if let Some(time) = data.as_object_mut().unwrap().remove(name) {
            assert!(time.as_str().unwrap().ends_with('Z'), "{time}");
        }
    }
    data
}

#[tokio::test]
async fn a_disconnect_has_a_complete_receipt_at_once() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let id = admin.register("wiki", per_user(), &["ada"]).await.mcp;
    let receipt = disconnect(&admin, &id, "ada").await;
    let expected = json!({"id": receipt, "serverId": id, "kind": "disconnect", "subjectId": "ada", "subjectType": "user",
        "authSource": "auth-override", "actor": {"subjectId": "root", "subjectType": "user"}, "state": "complete",
        "removed": {"oauthRecords": 0, "overrides": 1}});
    let answer = read(&admin, &receipt).await;
    assert_eq!(answer.status, 200);
    assert!(answer.json()["data"]["completedAt"].is_string());
    assert_eq!(without_times(answer), expected);
}

#[tokio::test]
async fn a_deletion_by_any_contract_names_its_receipt_which_the_purge_completes() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    for contract in 0..3 {
        let id = admin
            .register("wiki", per_user(), &["ada", "bob", "eve"])
            .await
            .mcp;
        let uuid = admin.get("/v1/deepagents/mcp-servers").await.json()[0]["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let number = admin.get("/api/v1/mcp-servers").await.json()["data"][0]["id"].clone();
        let deleted = match contract {
            0 => admin.delete(&format!("{MCP}/{id}")).await,
            1 => {
                admin
                    .delete(&format!("/v1/deepagents/mcp-servers/{uuid}"))
                    .await
            }
            _ => admin.delete(&format!("/api/v1/mcp-servers/{number}")).await,
        };
        let receipt = deleted.header("hawser-receipt").unwrap();
        let mut expected = json!({"id": receipt, "serverId": id, "kind": "delete-server", "serverName": "wiki",
            "serverNumber": number, "actor": {"subjectId": "root", "subjectType": "user"}, "state": "in_progress"});
        assert_eq!(without_times(read(&admin, &receipt).await), expected);
        hawser.run_workers().await;
        expected["state"] = json!("complete");
        expected["removed"] = json!({"oauthRecords": 0, "overrides": 3});
        assert_eq!(without_times(read(&admin, &receipt).await), expected);
    }
    let unknown = admin
        .delete("/v1/deepagents/mcp-servers/019bc0fd-8a38-7a17-83e9-4b02d86f31ae")
        .await;
    assert_eq!(
        (unknown.status, unknown.header("hawser-receipt")),
        (204, None)
    );
}

#[tokio::test]
async fn a_receipt_in_progress_can_be_waited_for() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let id = admin.register("wiki", per_user(), &["ada"]).await.mcp;
    let receipt = admin
        .delete(&format!("{MCP}/{id}"))
        .await
        .header("hawser-receipt")
        .unwrap();
    let path = format!("/v1/receipts/{receipt}?waitSeconds=25");
    let (answer, ()) = tokio::join!(admin.get(&path), hawser.run_workers());
    assert_eq!(answer.json()["data"]["state"], "complete");
    assert_eq!(
        admin.get(&path).await.json()["data"]["state"],
        "complete",
        "and this one is answered at once"
    );
}

#[tokio::test]
async fn receipts_are_for_managers_for_who_did_it_and_for_whom_it_was_done_to() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let id = admin
        .register("wiki", per_user(), &["ada", "bob"])
        .await
        .mcp;
    let ada = hawser.caller("acme", "ada", json!({}));
    let own = disconnect(&ada, &id, "ada").await;
    let bobs = disconnect(&admin, &id, "bob").await;
    let deleted = admin
        .delete(&format!("{MCP}/{id}"))
        .await
        .header("hawser-receipt")
        .unwrap();
    let manager = hawser.caller("acme", "m", json!({"roles": ["mcp-server-manager"]}));
    let key = hawser.api_key("acme", Some("user:ada"), json!({})).await;
    let cases = [
        ("admin", admin.clone(), [200, 200, 200]),
        ("manager", manager, [200, 200, 200]),
        ("ada", ada, [200, 404, 404]),
        ("ada's key", key, [200, 404, 404]),
        (
            "bob",
            hawser.caller("acme", "bob", json!({})),
            [404, 200, 404],
        ),
        (
            "an account named bob",
            hawser.caller("acme", "bob", json!({"subjectType": "virtualaccount"})),
            [404, 404, 404],
        ),
        (
            "eve",
            hawser.caller("acme", "eve", json!({"roles": ["mcp-server-user"]})),
            [404, 404, 404],
        ),
        ("another tenant", hawser.admin("other"), [404, 404, 404]),
    ];
    let missing = json!({"type": "about:blank", "title": "Not Found", "status": 404, "code": "RECEIPT_NOT_FOUND",
                         "detail": "There is no such receipt."});
    for (who, caller, statuses) in cases {
        for (receipt, status) in [&own, &bobs, &deleted].into_iter().zip(statuses) {
            let answer = read(&caller, receipt).await;
            assert_eq!(answer.status, status, "{who}: {answer:?}");
            if status == 404 {
                answer.is(404, missing.clone());
            }
        }
        let listed = caller.get("/v1/receipts").await.json();
        let seen = statuses.iter().filter(|status| **status == 200).count();
        assert_eq!(listed["data"].as_array().unwrap().len(), seen, "{who}");
    }
    read(&admin, "nonsense#%23").await.is(404, missing);
}

#[tokio::test]
async fn lists_are_newest_first_and_come_in_pages() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let id = admin
        .register("wiki", per_user(), &["ada", "bob"])
        .await
        .mcp;
    let other = admin.register("mail", per_user(), &["ada"]).await.mcp;
    let mut receipts = Vec::new();
    for (server, subject) in [(&id, "ada"), (&id, "bob"), (&other, "ada")] {
        receipts.push(disconnect(&admin, server, subject).await);
    }
    receipts.push(
        admin
            .delete(&format!("{MCP}/{id}"))
            .await
            .header("hawser-receipt")
            .unwrap(),
    );
    // Ids of one millisecond are in no order; the list's own order is that of the ids.
    receipts.sort_by(|a, b| b.cmp(a));
    let ids = |body: &Value| {
        body["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| r["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let all = admin.get("/v1/receipts").await.json();
    assert_eq!((ids(&all), &all["next"]), (receipts.clone(), &Value::Null));
    let mut paged = Vec::new();
    let mut path = "/v1/receipts?limit=1".to_owned();
    loop {
        let page = admin.get(&path).await.json();
        paged.extend(ids(&page));
        let Some(next) = page["next"].as_str() else {
            break;
        };
        path = format!("/v1/receipts?limit=1&before={next}");
    }
    assert_eq!(paged, receipts);
    let of_server = admin
        .get(&format!("/v1/receipts?serverId={other}"))
        .await
        .json();
    assert_eq!(ids(&of_server).len(), 1);
    let of_ada = admin
        .get("/v1/receipts?subjectType=user&subjectId=ada")
        .await
        .json();
    assert_eq!(ids(&of_ada).len(), 2);
}

#[tokio::test]
async fn bad_input_and_bad_credentials_are_refused() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    for (path, parameter) in [
        ("/v1/receipts/x?waitSeconds=26", "waitSeconds"),
        ("/v1/receipts/x?waitSeconds=-1", "waitSeconds"),
        ("/v1/receipts/x?waitSeconds=1&waitSeconds=1", "waitSeconds"),
        ("/v1/receipts?limit=0", "limit"),
        ("/v1/receipts?limit=1001", "limit"),
        ("/v1/receipts?before=x", "before"),
        ("/v1/receipts?serverId=wiki", "serverId"),
        ("/v1/receipts?subjectId=ada", "subjectType"),
        ("/v1/receipts?subjectType=user", "subjectId"),
    ] {
        let message = format!("The value of {parameter} is not valid.");
        admin
            .get(path)
            .await
            .is(400, json!({"type": "about:blank", "title": "Bad Request", "status": 400, "code": "INVALID_REQUEST", "detail": message}));
        let answer = hawser.anonymous().get(path).await;
        assert_eq!(answer.header("www-authenticate").as_deref(), Some("Bearer"));
        answer.is(
            401,
            json!({"type": "about:blank", "title": "Unauthorized", "status": 401, "code": "UNAUTHORIZED",
                   "detail": "Valid credentials are required."}),
        );
    }
}
