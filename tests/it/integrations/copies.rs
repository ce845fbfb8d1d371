//! What a process remembers of the catalogue, and for how long.

use super::{KAMBRIUM, available, plain};
use crate::harness::{Caller, Cut, Ground, Hawser};
use serde_json::json;

async fn url_of_new(admin: &Caller, name: &str) -> Result<String, u16> {
    let new = json!({"mcp_server": name, "access_type": "write", "api_key": "k"});
    let made = admin.post(KAMBRIUM, new).await;
    if made.status != 201 {
        return Err(made.status);
    }
    let listed = admin.get("/v1/deepagents/mcp-servers").await.json();
    let newest = listed
        .as_array()
        .unwrap()
        .iter()
        .max_by_key(|one| one["created_at"].to_string());
    Ok(newest.unwrap()["url"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_change_is_seen_after_a_minute_and_what_is_new_at_once() {
    let hawser =
        Hawser::by_hand_with_integrations(&json!({"crm": plain("CRM"), "old": plain("Old")})).await;
    let list = format!("{KAMBRIUM}/available");
    let admin = || hawser.admin("acme");
    assert_eq!(available(&admin().get(&list).await), ["crm", "old"]);
    assert_eq!(
        url_of_new(&admin(), "crm").await.unwrap(),
        "https://x.example/mcp"
    );
    let mut moved = plain("CRM");
    moved["mcp_url"] = "https://moved.example/mcp".into();
    hawser
        .ground()
        .offer(&json!({"crm": moved, "new": plain("New")}))
        .await;
    hawser.pass(59);
    hawser.wire.arm(None);
    assert_eq!(available(&admin().get(&list).await), ["crm", "old"]);
    assert_eq!(hawser.wire.operations(), [""; 0], "a copy costs nothing");
    assert_eq!(
        url_of_new(&admin(), "crm").await.unwrap(),
        "https://x.example/mcp"
    );
    assert_eq!(
        url_of_new(&admin(), "new").await.unwrap(),
        "https://x.example/mcp"
    );
    assert_eq!(url_of_new(&admin(), "none").await, Err(400));
    hawser.pass(2);
    hawser.wire.arm(None);
    assert_eq!(available(&admin().get(&list).await), ["crm", "new"]);
    assert_eq!(hawser.wire.operations(), ["Query"]);
    assert_eq!(
        url_of_new(&admin(), "crm").await.unwrap(),
        "https://moved.example/mcp"
    );
    assert_eq!(url_of_new(&admin(), "old").await, Err(400));
}

#[tokio::test]
async fn an_earlier_copy_serves_for_ten_minutes_while_the_store_is_silent() {
    let ground = Ground::new().await;
    ground.offer(&json!({"crm": plain("CRM")})).await;
    let list = format!("{KAMBRIUM}/available");
    let document = "/oauth/client-metadata.json";
    let hawser = Hawser::by_hand_configured(ground.clone(), |config| {
        config.client_metadata_url = Some("https://hawser.example/client".to_owned());
    })
    .await;
    let admin = || hawser.admin("acme");
    // Without any copy there is no answer, rather than an empty one.
    hawser.wire.arm(Some(Cut::Before(0)));
    assert_eq!(admin().get(&list).await.status, 500);
    let silent = hawser.anonymous().get(document).await;
    assert_eq!(
        (silent.status, silent.header("retry-after").as_deref()),
        (503, Some("5"))
    );
    hawser.wire.arm(None);
    assert_eq!(available(&admin().get(&list).await), ["crm"]);
    hawser.wire.arm(Some(Cut::Before(0)));
    for (seconds, status) in [(61, 200), (530, 200), (10, 500)] {
        hawser.pass(seconds);
        assert_eq!(admin().get(&list).await.status, status, "{seconds}");
    }
    hawser.wire.arm(None);
    assert_eq!(available(&admin().get(&list).await), ["crm"]);
}

#[tokio::test]
async fn of_calls_that_need_the_catalogue_at_once_one_reads_it() {
    let hawser = Hawser::with_integrations(&json!({"crm": plain("CRM")})).await;
    hawser.wire.arm(None);
    let list = format!("{KAMBRIUM}/available");
    let admin = hawser.admin("acme");
    let all = (0..20).map(|_| admin.get(&list));
    for answer in futures_util::future::join_all(all).await {
        assert_eq!(available(&answer), ["crm"]);
    }
    assert_eq!(hawser.wire.operations(), ["Query"]);
}
