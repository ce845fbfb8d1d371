//! The tool gateway: registering, connecting, calling, disconnecting and deleting, as `managed-deepagents` 0.9 does it.

use super::{EVERYTHING, SERVERS, UNKNOWN, ada, error, invalid_body, is, is_json, not_found, with};
use crate::harness::{Answer, Browser, Caller, Hawser, per_user};
use crate::issuer::{Gate, Issuer};
use crate::upstream::{Reply, Upstream, install, own, soon};
use hawser_core::domain::event::Action;
use hawser_core::domain::id::TenantId;
use serde_json::{Value, json};
use std::time::Duration;

const TOOLS: &str = "/v1/managed-tools/servers";
const AUTH: &str = "/v1/agent-auth";

fn at(id: &str) -> String {
    format!("{TOOLS}/{id}")
}

async fn service_key(hawser: &Hawser) -> Caller {
    let all = json!({"permissions": EVERYTHING});
    hawser.api_key("acme", None, all).await
}

fn as_user(hawser: &Hawser, key: &Caller, user: &str) -> Caller {
    let mut headers: Vec<_> = key.headers.clone();
    headers.push(("x-langsmith-identity", user.to_owned()));
    hawser.with(headers)
}

async fn register(caller: &Caller, name: &str, url: &str, kind: &str) -> String {
    let new = json!({"name": name, "upstream_url": url, "connection": {"type": kind}});
    let made = caller.post(TOOLS, new).await;
    assert_eq!(made.status, 201, "{made:?}");
    made.json()["id"].as_str().unwrap().to_owned()
}

async fn list_tools(caller: &Caller, id: &str) -> Answer {
    let probe = json!({"jsonrpc": "2.0", "id": "mda-auth-probe", "method": "tools/list"});
    caller.post(&format!("{}/mcp", at(id)), probe).await
}

/// Follows the address of a 428 to the end of its consent.
async fn consent(issuer: &Issuer, asked: &Answer) {
    assert_eq!(asked.status, 428, "{asked:?}");
    let mut browser = Browser::new();
    let url = asked.json()["verification_url"]
        .as_str()
        .unwrap()
        .to_owned();
    let at_issuer = browser.begin(&url).await;
    let page = browser.open(&issuer.approve(&at_issuer).await).await;
    assert_eq!(page.status, 200, "{page:?}");
}

#[tokio::test]
async fn a_user_registers_connects_calls_disconnects_and_deletes() {
    let (hawser, issuer) = (Hawser::start_by_hand().await, Issuer::start().await);
    let ada = ada(&hawser);
    let id = register(&ada, "search", &issuer.mcp_url(), "oauth").await;
    let shown = ada.get(&at(&id)).await.json();
    assert_eq!(shown["connection"], json!({"type": "oauth"}));
    assert_eq!(shown["connected"], false);
    assert_eq!(shown["upstream_url"], issuer.mcp_url());
    let asked = list_tools(&ada, &id).await;
    let first = asked.json();
    let expected = ["search", "search", "oauth2", "credential_required"];
    let got = ["slug", "display_name", "kind", "code"].map(|name| first[name].clone());
    assert_eq!(got, expected.map(Value::from));
    let session = format!(
        "/v1/deepagents/auth-sessions/{}",
        first["auth_id"].as_str().unwrap()
    );
    assert_eq!(
        list_tools(&ada, &id).await.json()["auth_id"],
        first["auth_id"],
        "one consent is open at a time"
    );
    consent(&issuer, &asked).await;
    assert_ne!(ada.get(&session).await.status, 500);
    let mut headers = ada.headers.clone();
    headers.push(("accept", "application/json".to_owned()));
    let listed = list_tools(&hawser.with(headers), &id).await;
    assert_eq!(listed.status, 200, "{listed:?}");
    let log = issuer.log();
    let called = log
        .iter()
        .rfind(|one| one.path == "/mcp" && one.method == "POST");
    let accepted = called
        .unwrap()
        .headers
        .iter()
        .find(|(name, _)| name == "accept");
    assert_eq!(
        accepted.unwrap().1,
        "application/json, text/event-stream",
        "servers insist on both"
    );
    assert_eq!(ada.get(&at(&id)).await.json()["connected"], true);
    assert_eq!(ada.get(TOOLS).await.json()["items"][0]["connected"], true);
    let bob = hawser.caller("acme", "bob", json!({"permissions": EVERYTHING}));
    assert_eq!(bob.get(TOOLS).await.json()["items"][0]["connected"], false);
    assert_eq!(list_tools(&bob, &id).await.status, 428);
    let credential = format!("{}/credential", at(&id));
    let would = ada.delete(&format!("{credential}?dryRun=true")).await;
    assert_eq!(would.status, 200, "{would:?}");
    let gone = ada.delete(&credential).await;
    assert_eq!(gone.status, 204, "{gone:?}");
    let receipt = gone.header("hawser-receipt").unwrap();
    let receipt = ada.get(&format!("/v1/receipts/{receipt}")).await.json();
    assert_eq!(receipt["data"]["kind"], "disconnect", "{receipt}");
    assert_eq!(list_tools(&ada, &id).await.status, 428);
    hawser.run_workers().await;
    assert_eq!(
        issuer.live_tokens(),
        [""; 0],
        "nothing serves any more at the issuer"
    );
    let again = ada.delete(&credential).await;
    assert_eq!((again.status, again.header("hawser-receipt")), (204, None));
    assert_eq!(ada.delete(&at(&id)).await.status, 204);
    assert_eq!(ada.delete(&at(&id)).await.status, 204);
    let gone = not_found();
    assert_eq!(ada.get(&at(&id)).await.json(), gone);
    assert_eq!(list_tools(&ada, &id).await.json(), gone);
    assert_eq!(ada.delete(&credential).await.json(), gone);
}

#[tokio::test]
async fn a_service_key_acts_as_the_user_whom_it_names_and_nobody_else_does() {
    let (hawser, issuer) = (Hawser::start().await, Issuer::start().await);
    let key = service_key(&hawser).await;
    let id = register(&key, "search", &issuer.mcp_url(), "oauth").await;
    let for_ada = as_user(&hawser, &key, "ada");
    consent(&issuer, &list_tools(&for_ada, &id).await).await;
    assert_eq!(list_tools(&for_ada, &id).await.status, 200);
    assert_eq!(
        list_tools(&ada(&hawser), &id).await.status,
        200,
        "what ada has is hers"
    );
    assert_eq!(
        list_tools(&key, &id).await.status,
        428,
        "the key itself has nothing"
    );
    assert_eq!(
        list_tools(&as_user(&hawser, &key, "bob"), &id).await.status,
        428
    );
    // A user who names another acts as themselves.
    let bob = hawser.caller("acme", "bob", json!({"permissions": EVERYTHING}));
    let posing = as_user(&hawser, &bob, "ada");
    assert_eq!(list_tools(&posing, &id).await.status, 428);
    assert_eq!(posing.get(&at(&id)).await.json()["connected"], false);
    assert_eq!(
        posing
            .delete(&format!("{}/credential", at(&id)))
            .await
            .status,
        204
    );
    assert_eq!(
        list_tools(&for_ada, &id).await.status,
        200,
        "hers is left alone"
    );
    let principal = |subject: &str| json!({"provider": "oidc", "issuer": "https://idp.example", "subject": subject});
    let path = format!("{AUTH}/principals");
    is(
        &key.post(&path, principal("ada")).await,
        json!({"principal": {"id": "ada"}}),
    );
    is(
        &bob.post(&path, principal("ada")).await,
        json!({"principal": {"id": "bob"}}),
    );
    let credential = format!("{}/credential", at(&id));
    assert_eq!(for_ada.delete(&credential).await.status, 204);
    assert_eq!(list_tools(&ada(&hawser), &id).await.status, 428);
}

#[tokio::test]
async fn a_call_for_a_user_ends_with_the_service_key_that_makes_it() {
    let hawser = Hawser::start_with(|app| app.stream_check = Duration::from_millis(10)).await;
    let upstream = Upstream::start().await;
    let key = service_key(&hawser).await;
    let id = register(&key, "plain", &upstream.url, "none").await;
    let gate = Gate::closed();
    let (reply, _endless) = Reply::stream();
    upstream.reply(reply.behind(&gate));
    let for_ada = as_user(&hawser, &key, "ada");
    let under_way = async {
        gate.reached().await;
        gate.open();
        remove_key(&hawser, &key).await;
    };
    let (ended, ()) = soon(async { tokio::join!(list_tools(&for_ada, &id), under_way) }).await;
    // The stream of the server goes on; of an answer that has begun nothing more is passed on.
    assert!(ended.status == 503 || ended.text.is_empty(), "{ended:?}");
    assert_eq!(list_tools(&for_ada, &id).await.status, 403);
}

async fn remove_key(hawser: &Hawser, key: &Caller) {
    let id = key.headers[0].1.split('_').nth(2).unwrap().to_uppercase();
    let tenant = TenantId::parse("acme").unwrap();
    let removed = hawser.event(&tenant, Action::KeyRemoved);
    let gone = hawser.app.table.remove_api_key(&tenant, &id, &removed);
    assert!(gone.await.unwrap());
}

#[tokio::test]
async fn a_grant_and_an_override_end_together() {
    let (hawser, issuer) = (Hawser::start().await, Issuer::start().await);
    let ada = ada(&hawser);
    let id = register(&ada, "search", &issuer.mcp_url(), "oauth").await;
    consent(&issuer, &list_tools(&ada, &id).await).await;
    let admin = hawser.admin("acme");
    let found = admin.get("/api/svc/v1/mcp?name=search").await;
    let mcp = found.json()["data"][0]["id"].clone();
    install(&hawser, mcp.as_str().unwrap(), "ada", own("Bearer hers")).await;
    let credential = format!("{}/credential", at(&id));
    let would = ada.delete(&format!("{credential}?dryRun=true")).await;
    let counted = would.json()["removed"].clone();
    assert_eq!(counted["oauthRecords"], 1, "{would:?}");
    assert_eq!(counted["overrides"], 1, "{would:?}");
    assert_eq!(ada.get(&at(&id)).await.json()["connected"], true);
    assert_eq!(ada.delete(&credential).await.status, 204);
    assert_eq!(ada.get(&at(&id)).await.json()["connected"], false);
}

#[tokio::test]
async fn a_consent_is_started_for_a_connection_by_its_slug() {
    let (hawser, issuer) = (Hawser::start().await, Issuer::start().await);
    let ada = ada(&hawser);
    let id = register(&ada, "search", &issuer.mcp_url(), "oauth").await;
    register(&ada, "open", "https://open.example/mcp", "none").await;
    let listed = ada
        .get(&format!("{AUTH}/connections?page_size=100"))
        .await
        .json();
    let expected = json!({"id": id, "slug": "search", "display_name": "search", "owner_policy": "user",
                          "kind": "oauth2", "credential": {"kind": "oauth2"}});
    assert_eq!(listed, json!({"items": [expected], "next_cursor": null}));
    let sessions = format!("{AUTH}/oauth-authorization-sessions");
    let ask = |owner: &str| json!({"connection_id": id, "owner_type": "user", "owner_id": owner});
    let begun = ada.post(&sessions, ask("ada")).await;
    assert_eq!(
        (begun.status, &begun.json()["status"]),
        (201, &json!("PENDING")),
        "{begun:?}"
    );
    let mut browser = Browser::new();
    let at_issuer = browser
        .begin(begun.json()["verification_url"].as_str().unwrap())
        .await;
    browser.open(&issuer.approve(&at_issuer).await).await;
    assert_eq!(list_tools(&ada, &id).await.status, 200);
    is_json(
        &ada.post(&sessions, ask("bob")).await,
        403,
        json!({"error": "Forbidden"}),
    );
    let key = service_key(&hawser).await;
    assert_eq!(key.post(&sessions, ask("bob")).await.status, 201);
    for (wrong, status) in [
        (
            json!({"connection_id": id, "owner_type": "agent", "owner_id": "ada"}),
            400,
        ),
        (json!({"connection_id": id, "owner_id": "ada"}), 400),
        (
            json!({"connection_id": UNKNOWN, "owner_type": "user", "owner_id": "ada"}),
            404,
        ),
        (
            json!({"connection_id": "x", "owner_type": "user", "owner_id": "ada"}),
            404,
        ),
    ] {
        let answer = ada.post(&sessions, wrong).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
}

#[tokio::test]
async fn it_is_the_registry_of_the_other_routes_in_other_words() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let id = register(
        &ada,
        "My Server",
        "https://x.example/mcp?key=s3cret",
        "none",
    )
    .await;
    let shown = ada.get(&at(&id)).await;
    assert!(!shown.text.contains("s3cret"), "{shown:?}");
    assert_eq!(shown.json()["connection"], json!({"type": "none"}));
    assert_eq!(shown.json()["connected"], true);
    let older = ada.get(&format!("{SERVERS}/{id}")).await.json();
    assert_eq!(
        (&older["name"], &older["auth_type"]),
        (&json!("My Server"), &json!(""))
    );
    let admin = hawser.admin("acme");
    admin.register("keyed", per_user(), &[]).await;
    let listed = ada.get(TOOLS).await.json();
    assert_eq!(listed["items"][1]["connection"], json!({"type": "secret"}));
    assert_eq!(listed["items"][1]["connected"], false);
    let keyed = listed["items"][1]["id"].as_str().unwrap();
    let asked = list_tools(&ada, keyed).await;
    assert_eq!(
        (asked.status, &asked.json()["kind"]),
        (428, &json!("secret"))
    );
    assert_eq!(asked.json()["verification_url"], Value::Null);
    for (body, status, code) in [
        (json!({"name": "n"}), 400, "missing_required_field"),
        (
            json!({"upstream_url": "https://x.example/"}),
            400,
            "missing_required_field",
        ),
        (
            json!({"name": "n", "upstream_url": "https://x.example/", "connection": {}}),
            400,
            "missing_required_field",
        ),
        (
            json!({"name": "n", "upstream_url": "https://x.example/", "connection": "oauth"}),
            400,
            "invalid_request_body",
        ),
        (
            json!({"name": "n", "upstream_url": "https://x.example/", "connection": {"type": "secret"}}),
            422,
            "invalid_field_value",
        ),
        (
            json!({"name": "n", "upstream_url": "ftp://x.example/"}),
            422,
            "invalid_url",
        ),
        (
            json!({"name": "My Server", "upstream_url": "https://x.example/"}),
            409,
            "mcp_server_name_conflict",
        ),
    ] {
        let answer = ada.post(TOOLS, body).await;
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (status, &json!(code)),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn who_can_be_no_user_is_told_so_after_the_permission() {
    let hawser = Hawser::start().await;
    let nobody = "x".repeat(256);
    let key = service_key(&hawser).await;
    let id = register(&key, "search", "https://x.example/mcp", "oauth").await;
    let reads = json!({"permissions": ["mcp-servers:read"]});
    let reader = hawser.api_key("acme", None, reads).await;
    let said = "Set 'X-LangSmith-Identity' to the id of a user: the given value is not valid";
    for caller in [&key, &reader] {
        let answer = as_user(&hawser, caller, &nobody).get(&at(&id)).await;
        is(&answer, error(400, "invalid_query_parameter", said));
    }
    let sessions = format!("{AUTH}/oauth-authorization-sessions");
    let asked = json!({"connection_id": id, "owner_type": "user", "owner_id": nobody});
    is(&key.post(&sessions, asked.clone()).await, invalid_body());
    let credential = format!("{}/credential", at(&id));
    for refused in [
        reader.post(&sessions, asked).await,
        as_user(&hawser, &reader, &nobody).delete(&credential).await,
        list_tools(&as_user(&hawser, &reader, &nobody), &id).await,
    ] {
        let said = (refused.status, refused.text.as_str());
        assert_eq!(said, (403, "missing permission mcp-servers:invoke"));
    }
}

#[tokio::test]
async fn what_a_server_refuses_is_passed_on_as_it_is() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let upstream = Upstream::start().await;
    let id = register(&ada, "plain", &upstream.url, "none").await;
    for (status, kind, text) in [
        (400, "text/plain", "no"),
        (413, "application/json", r#"{"code": "much"}"#),
        (415, "text/plain", "no"),
        (428, "application/json", r#"{"code": "first"}"#),
    ] {
        upstream.reply(Reply::new(
            status,
            vec![("content-type", kind.to_owned())],
            text,
        ));
        let answer = list_tools(&ada, &id).await;
        assert_eq!((answer.status, answer.text.as_str()), (status, text));
    }
}

#[tokio::test]
async fn pages_add_up_to_the_whole_list() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let mut made = Vec::new();
    for i in 0..5 {
        made.push(register(&ada, &format!("s{i}"), "https://x.example/mcp", "none").await);
    }
    let mut seen = Vec::new();
    let mut path = format!("{TOOLS}?page_size=2");
    loop {
        let page = ada.get(&path).await.json();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 2, "{page}");
        seen.extend(
            items
                .iter()
                .map(|one| one["id"].as_str().unwrap().to_owned()),
        );
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        path = format!("{TOOLS}?page_size=2&cursor={cursor}");
    }
    assert_eq!(seen, made);
    assert_eq!(
        ada.get(&format!("{TOOLS}?page_size=&cursor=")).await.json()["items"],
        ada.get(TOOLS).await.json()["items"],
        "what is empty counts as absent"
    );
    for wrong in ["page_size=0", "page_size=101", "page_size=x", "cursor=x"] {
        let answer = ada.get(&format!("{TOOLS}?{wrong}")).await;
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (400, &json!("invalid_query_parameter"))
        );
    }
}

#[tokio::test]
async fn the_permissions_are_those_of_the_other_routes() {
    let hawser = Hawser::start().await;
    let id = register(&ada(&hawser), "search", "https://x.example/mcp", "none").await;
    let reader = with(&hawser, &["mcp-servers:read"]);
    assert_eq!(reader.get(&at(&id)).await.status, 200);
    let refused = list_tools(&reader, &id).await;
    assert_eq!(
        (refused.status, refused.text.as_str()),
        (403, "missing permission mcp-servers:invoke")
    );
    assert_eq!(reader.delete(&at(&id)).await.status, 403);
    assert_eq!(
        reader
            .delete(&format!("{}/credential", at(&id)))
            .await
            .status,
        403
    );
    let theirs = hawser.caller("beta", "ada", json!({"permissions": EVERYTHING}));
    assert_eq!(theirs.get(&at(&id)).await.status, 404);
    assert_eq!(list_tools(&theirs, &id).await.status, 404);
    assert_eq!(theirs.get(TOOLS).await.json()["items"], json!([]));
    let get = reader.get(&format!("{}/mcp", at(&id))).await;
    assert_eq!(
        (get.status, get.header("allow").as_deref()),
        (405, Some("DELETE, POST")),
        "there is no stream here"
    );
}
