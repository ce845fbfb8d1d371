//! A server that leads back to Hawser makes no call many, and nobody's calls take all places.

use crate::harness::Hawser;
use crate::upstream::*;
use serde_json::{Value, json};

const HOPS: &str = "hawser-hops";
const LANGSMITH: &str = "/v1/deepagents/mcp-servers";

#[tokio::test]
async fn an_address_of_this_deployment_is_no_server() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let port = hawser.url.rsplit(':').next().unwrap();
    for (i, url) in [
        format!("{}/mcp/x", hawser.url),
        format!("http://LOCALHOST:{port}/"),
        format!("http://[::1]:{port}/mcp/v1/wiki/mcp?a=b"),
        format!("http://127.0.0.2:{port}/elsewhere"),
    ]
    .into_iter()
    .enumerate()
    {
        let manifest = json!({"type": "mcp-server/remote", "name": format!("server-{i}"), "description": "d", "url": url});
        let put = admin.put(MCP, json!({"manifest": manifest})).await;
        assert_eq!(put.status, 400, "{url}: {put:?}");
        assert!(
            put.text.contains("leads back to this deployment"),
            "{put:?}"
        );
        let made = admin
            .post(LANGSMITH, json!({"name": "a", "url": url}))
            .await;
        // Another spelling of loopback is refused for that already.
        assert_eq!(made.status, 422, "{url}: {made:?}");
    }
    let good = admin
        .post(LANGSMITH, json!({"name": "a", "url": "https://a.example/"}))
        .await
        .json();
    let path = format!("{LANGSMITH}/{}", good["id"].as_str().unwrap());
    let moved = admin
        .patch(&path, json!({"url": format!("{}/mcp/x", hawser.url)}))
        .await;
    assert_eq!(moved.status, 422, "{moved:?}");
    let one = json!({"me": {"display_name": "Me", "mcp_url": format!("{}/mcp/x", hawser.url), "api_key": {}}});
    let url = hawser.url.clone();
    let ground = hawser.ground();
    ground.offer(&one).await;
    let other = Hawser::configured(ground, |config| {
        config.public_urls = vec![url];
    })
    .await;
    let body = json!({"mcp_server": "me", "access_type": "write", "api_key": "k"});
    let made = other.admin("acme").post("/api/v1/mcp-servers", body).await;
    assert_eq!(made.status, 400, "{made:?}");
}

#[tokio::test]
async fn a_call_is_marked_and_refused_when_it_has_come_through_twice() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let headers = json!({"auth_data": {"type": "header", "headers": {"Hawser-Hops": "0"}}});
    let mcp = register(&hawser, "wiki", &upstream.url, headers).await;
    let ada = user(&hawser, "ada");
    for (sent, arrives) in [(None, "1"), (Some("0"), "1"), (Some("1"), "2")] {
        let hops = sent.map(|sent| (HOPS, sent));
        let headers: Vec<_> = hops.into_iter().chain([MODERN]).collect();
        let answer = send(&ada, &mcp, &headers, message("ping")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(upstream.last().header(HOPS), Some(arrives));
    }
    let before = upstream.count();
    for sent in ["2", "3", "255", "256", "-1", "x", "", "1, 1"] {
        let answer = send(&ada, &mcp, &[(HOPS, sent), MODERN], message("ping")).await;
        assert_eq!(answer.status, 508, "{sent}: {answer:?}");
    }
    let twice = send(
        &ada,
        &mcp,
        &[(HOPS, "1"), (HOPS, "0"), MODERN],
        message("ping"),
    )
    .await;
    assert_eq!(twice.status, 508);
    assert_eq!(upstream.count(), before);
    // The lister and discovery mark what they send as well.
    let path = "/v1/deepagents/mcp/tools?url=";
    let url: String = url::form_urlencoded::byte_serialize(upstream.url.as_bytes()).collect();
    hawser.admin("acme").get(&format!("{path}{url}")).await;
    assert_eq!(upstream.last().header(HOPS), Some("1"));
}

#[tokio::test]
async fn servers_that_lead_to_each_other_end_a_call_after_two() {
    let front = Hawser::start().await;
    // Each is registered where the other is behind an address that neither knows to be its own.
    let key = front
        .api_key(
            "acme",
            Some("user:root"),
            json!({"permissions": ["mcp-servers:invoke"]}),
        )
        .await;
    let key = key.headers[0].1.clone();
    let auth = json!({"auth_data": {"type": "header", "headers": {"X-Api-Key": key}}});
    for name in ["wiki", "loop", "more"] {
        let unaware = Hawser::configured(front.ground(), |config| {
            config.public_urls = vec!["https://elsewhere.example".to_owned()];
            config.gateway_url = None;
        })
        .await;
        let url = format!("{}/mcp/v1/{name}/mcp", front.url);
        let mcp = register(&unaware, name, &url, auth.clone()).await;
        let answer = soon(call(&user(&front, "ada"), &mcp)).await;
        assert_eq!(answer.status, 508, "{answer:?}");
        assert!(answer.text.contains("come through Hawser"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_server_and_a_tenant_have_their_share_of_the_calls() {
    let upstream = Upstream::start().await;
    let hawser = Hawser::start_with(|app| {
        app.call_limits.per_tenant = 3;
        app.call_limits.per_server = 2;
    })
    .await;
    let mut servers = Vec::new();
    for name in ["one", "two", "three"] {
        servers.push(register(&hawser, name, &upstream.url, json!({})).await);
    }
    let ada = user(&hawser, "ada");
    let text = "The service cannot answer now";
    let hold = async |mcp: &str| {
        let (reply, events) = Reply::stream();
        upstream.reply(reply);
        (open(&hawser, &ada, "POST", mcp, &[MODERN]).await, events)
    };
    let mut held = vec![hold(&servers[0]).await, hold(&servers[0]).await];
    is_refused(
        &call(&ada, &servers[0]).await,
        503,
        -32603,
        text,
        Value::Null,
    );
    held.push(hold(&servers[1]).await);
    for mcp in &servers {
        is_refused(&call(&ada, mcp).await, 503, -32603, text, Value::Null);
    }
    // Another tenant has places of its own.
    let manifest = json!({"type": "mcp-server/remote", "name": "wiki", "description": "d", "url": upstream.url});
    let made = hawser
        .admin("other")
        .put(MCP, json!({"manifest": manifest}))
        .await
        .json();
    let theirs = made["data"]["id"].as_str().unwrap().to_owned();
    let bob = hawser.caller(
        "other",
        "bob",
        json!({"permissions": ["mcp-servers:invoke"]}),
    );
    is_served(&bob, &theirs).await;
    // Whoever goes makes room.
    let (answer, events) = held.remove(0);
    drop(events);
    soon(answer.text()).await.unwrap();
    for mcp in &servers {
        is_served(&ada, mcp).await;
    }
}
