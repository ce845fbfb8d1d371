//! Listing the tools of a server (LangSmith 2.7).

use super::consent::{Scene, provider, user};
use super::{
    EVERYTHING, SERVERS, UNKNOWN, at, error, is, is_json, is_unauthorized, lacks, missing,
    not_found,
};
use crate::harness::{Answer, Caller, Hawser};
use crate::issuer::Fault;
use crate::upstream::{Reply, Upstream};
use serde_json::{Value, json};

async fn tools(caller: &Caller, url: &str, more: &str) -> Answer {
    let url: String = url::form_urlencoded::byte_serialize(url.as_bytes()).collect();
    let path = format!("/v1/deepagents/mcp/tools?url={url}{more}");
    caller.get(&path).await
}

fn unknown_provider() -> Value {
    let detail = "Verify 'oauth_provider_id': it is not a provider of this caller for this server";
    error(404, "oauth_provider_not_found", detail)
}

#[tokio::test]
async fn tools_take_credentials_and_the_permission_to_read() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    upstream.has_tools(json!([]));
    let new = json!({"name": "wiki", "url": upstream.url});
    assert_eq!(user(&hawser, "ada").post(SERVERS, new).await.status, 201);
    let but_read: Vec<_> = EVERYTHING
        .into_iter()
        .filter(|one| *one != "mcp-servers:read")
        .collect();
    let others = hawser.caller("acme", "ada", json!({"permissions": but_read}));
    let only = json!({"permissions": ["mcp-servers:read"]});
    let key = hawser.api_key("acme", Some("user:ada"), only.clone()).await;
    let only = hawser.caller("acme", "ada", only);
    for more in ["", "&force_refresh=x"] {
        is_unauthorized(&tools(&hawser.anonymous(), &upstream.url, more).await);
        lacks(
            &tools(&others, &upstream.url, more).await,
            "mcp-servers:read",
        );
        let (elsewhere, path) = ([("x-tenant-id", UNKNOWN)], "/v1/deepagents/mcp/tools?url=x");
        let answer = only.send("GET", path, &elsewhere, Vec::new()).await;
        is_json(&answer, 403, json!({"error": "Forbidden"}));
    }
    for caller in [&only, &key] {
        assert_eq!(tools(caller, &upstream.url, "").await.status, 200);
    }
    assert_eq!(upstream.count(), 1);
    // Another tenant has no server there.
    let stranger = hawser.caller("other", "ada", json!({"permissions": EVERYTHING}));
    is(&tools(&stranger, &upstream.url, "").await, not_found());
}

#[tokio::test]
async fn what_is_wrong_in_a_question_for_tools_is_said() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    upstream.has_tools(json!([]));
    let ada = user(&hawser, "ada");
    ada.post(SERVERS, json!({"name": "wiki", "url": upstream.url}))
        .await;
    for query in [
        "",
        "?url",
        "?url=",
        "?url=%20%09",
        "?URL=x",
        "?url=x&url=",
        "?force_refresh=x",
    ] {
        let answer = ada.get(&format!("/v1/deepagents/mcp/tools{query}")).await;
        is(&answer, missing("url"));
    }
    let wrong = error(
        400,
        "invalid_query_parameter",
        "Set 'force_refresh' to true or false: the given value is not valid",
    );
    for value in ["x", "2", "yes", "null", "truee", "%20true"] {
        let answer = tools(&ada, "nowhere", &format!("&force_refresh={value}")).await;
        is(&answer, wrong.clone());
    }
    for url in [
        "nowhere",
        "7",
        "https://mcp.example.com",
        &format!("{}/more", upstream.url),
    ] {
        is(&tools(&ada, url, "").await, not_found());
        is(&tools(&ada, url, "&oauth_provider_id=x").await, not_found());
    }
    for id in ["x", UNKNOWN, "%F0%9F%98%80"] {
        let answer = tools(&ada, &upstream.url, &format!("&oauth_provider_id={id}")).await;
        is(&answer, unknown_provider());
    }
    // Who is no service key acts for nobody else.
    for more in ["", "&oauth_provider_id=", "&ls_user_id=%07", "&else=7"] {
        assert_eq!(tools(&ada, &upstream.url, more).await.status, 200);
    }
    let read = json!({"permissions": ["mcp-servers:read"]});
    let service = hawser.api_key("acme", None, read).await;
    let answer = tools(&service, &upstream.url, "&ls_user_id=%07").await;
    assert_eq!(
        answer.json()["code"],
        "invalid_query_parameter",
        "{answer:?}"
    );
}

#[tokio::test]
async fn of_several_servers_at_a_url_the_nearest_and_newest_is_asked() {
    let (hawser, upstream) = (Hawser::start_by_hand().await, Upstream::start().await);
    let ada = user(&hawser, "ada");
    upstream.answers(|seen| {
        let tool = json!({"name": seen.header("x-server")});
        let body = json!({"jsonrpc": "2.0", "id": 1, "result": {"tools": [tool]}});
        let headers = vec![("content-type", "application/json".to_owned())];
        Reply::new(200, headers, body.to_string())
    });
    let asked = async |url: &str| {
        let answer = tools(&ada, url, "").await;
        answer.json()["tools"][0]["name"].clone()
    };
    let upper = upstream.url.replace("/mcp", "/MCP");
    for (name, url) in [
        ("old", upstream.url.clone()),
        ("new", upstream.url.clone()),
        ("slash", format!("{}/", upstream.url)),
        ("upper", upper.clone()),
    ] {
        hawser.pass(1);
        let headers = json!([{"key": "X-Server", "value": name}]);
        let new = json!({"name": name, "url": url, "headers": headers});
        assert_eq!(ada.post(SERVERS, new).await.status, 201);
    }
    assert_eq!(asked(&upstream.url).await, "new");
    assert_eq!(asked(&format!("{}/", upstream.url)).await, "slash");
    assert_eq!(asked(&upper).await, "upper");
    // None is spelt like this.
    for near in [
        format!("{}//", upstream.url),
        format!(" {}\t", upstream.url),
        upper.replace("http", "HTTP"),
    ] {
        assert_eq!(asked(&near).await, "upper", "{near}");
    }
}

#[tokio::test]
async fn a_provider_tells_servers_of_one_url_apart() {
    let scene = Scene::new().await;
    let (ada, issuer, url) = (&scene.ada, &scene.issuer, scene.issuer.mcp_url());
    let unconnected = error(
        400,
        "oauth_connection_required",
        "Connect to this server first: the caller has no usable token",
    );
    is(&tools(ada, &url, "").await, unconnected.clone());
    scene.connect(&[]).await;
    let (own, of_family) = (format!("&oauth_provider_id={}", scene.provider), "of-0");
    let answer = tools(ada, &url, &own).await;
    assert_eq!(answer.json()["tools"][0]["name"], of_family, "{answer:?}");
    // A newer one at the same place, without a connection.
    let newer = json!({"name": "newer", "url": url, "auth_type": "oauth"});
    let newer = ada.post(SERVERS, newer).await.json();
    let other = provider(ada, newer["id"].as_str().unwrap()).await;
    is(&tools(ada, &url, "").await, unconnected.clone());
    assert_eq!(tools(ada, &url, &own).await.status, 200);
    let other = format!("&oauth_provider_id={}", other.to_uppercase());
    is(&tools(ada, &url, &other).await, unconnected.clone());
    // Nobody else's provider is of use; a service key acts for whom it names.
    let bob = user(&scene.hawser, "bob");
    is(&tools(&bob, &url, &own).await, unknown_provider());
    let read = json!({"permissions": ["mcp-servers:read"]});
    let service = scene.hawser.api_key("acme", None, read).await;
    is(&tools(&service, &url, &own).await, unknown_provider());
    let answer = tools(&service, &url, &format!("{own}&ls_user_id=ada")).await;
    assert_eq!(answer.json()["tools"][0]["name"], of_family, "{answer:?}");
    assert_eq!(answer.json()["cached"], true);
    is(
        &tools(&service, &url, &format!("{own}&ls_user_id=bob")).await,
        unknown_provider(),
    );
    // A legacy server has the id that was stored, and is asked without a token.
    let upstream = Upstream::start().await;
    upstream.has_tools(json!([]));
    let legacy = json!({"name": "legacy", "url": upstream.url, "auth_type": "oauth", "oauth_provider_id": UNKNOWN});
    assert_eq!(ada.post(SERVERS, legacy).await.status, 201);
    let plain = json!({"name": "plain", "url": upstream.url});
    assert_eq!(ada.post(SERVERS, plain).await.status, 201);
    let answer = tools(
        &bob,
        &upstream.url,
        &format!("&oauth_provider_id={UNKNOWN}"),
    )
    .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    is(&tools(&bob, &upstream.url, &own).await, unknown_provider());
    assert_eq!(upstream.last().header("authorization"), None);
    // A provider that its server no longer stands behind is none.
    let moved = json!({"url": format!("{url}?a")});
    assert_eq!(ada.patch(&at(&scene.server), moved).await.status, 200);
    is(
        &tools(ada, &format!("{url}?a"), &own).await,
        unknown_provider(),
    );
    assert_eq!(issuer.issued().len(), 1);
}

#[tokio::test]
async fn a_token_is_refreshed_once_before_a_list_is_given_up() {
    let scene = Scene::by_hand().await;
    let url = scene.issuer.mcp_url();
    scene.connect(&[]).await;
    scene.issuer.expire(&scene.issuer.issued()[0].access);
    scene.issuer.clear_log();
    assert_eq!(tools(&scene.ada, &url, "").await.status, 200);
    let log = scene.issuer.log();
    let paths: Vec<_> = log.iter().map(|one| one.path.as_str()).collect();
    assert_eq!(paths, ["/mcp", "/token", "/mcp"]);
    // A server that takes neither the old nor the new one, some time later.
    scene.hawser.pass(60);
    scene.issuer.fault(Fault {
        status: Some(401),
        times: 2,
        ..Fault::once("/mcp")
    });
    scene.issuer.clear_log();
    let answer = tools(&scene.ada, &url, "&force_refresh=true").await;
    let refused =
        "Check the stored credentials or connect again: the MCP server rejected the request";
    is(&answer, error(502, "upstream_auth_failed", refused));
    assert_eq!(scene.issuer.log().len(), 3);
}
