//! How long a list is kept, and for whom.

use super::{
    SERVERS, is_bad_answer, is_refused, json_reply, list, list_with, names, reader, result, tools,
};
use crate::harness::{Answer, Caller, Hawser};
use crate::issuer::{Fault, Issuer};
use crate::upstream::{
    MCP, Reply, Upstream, connect, disconnect, install, oauth, own, per_user, register, soon,
};
use serde_json::{Value, json};

#[track_caller]
fn is_unconnected(answer: &Answer) {
    let detail = "Connect to this server first: the caller has no usable token";
    is_refused(answer, 400, "oauth_connection_required", detail);
}

#[tokio::test]
async fn a_list_serves_for_five_minutes() {
    let (hawser, upstream) = (Hawser::start_by_hand().await, Upstream::start().await);
    let mcp = register(&hawser, "wiki", &upstream.url, json!({})).await;
    let ada = reader(&hawser, "ada");
    upstream.has_tools(tools(&["old"]));
    let first = list(&ada, &upstream.url).await.json();
    upstream.has_tools(tools(&["new"]));
    hawser.pass(299);
    let answer = list(&ada, &upstream.url).await;
    assert_eq!(names(&answer), ["old"]);
    assert_eq!(answer.json()["cached"], true);
    assert_eq!(answer.json()["fetched_at"], first["fetched_at"]);
    // Not kept in memory: another process has it too.
    hawser.pass(-299);
    let other = Hawser::on(hawser.ground()).await;
    assert_eq!(
        list(&reader(&other, "bob"), &upstream.url).await.json()["cached"],
        true
    );
    assert_eq!(upstream.count(), 1);
    hawser.pass(300);
    let answer = list(&ada, &upstream.url).await;
    assert_eq!(names(&answer), ["new"]);
    assert_eq!(answer.json()["cached"], false);
    // Asked for anew, it is kept anew.
    upstream.has_tools(tools(&["newer"]));
    for refresh in ["true", "TRUE", "1"] {
        hawser.pass(200);
        let answer = list_with(&ada, &upstream.url, &format!("&force_refresh={refresh}")).await;
        assert_eq!(names(&answer), ["newer"]);
    }
    hawser.pass(200);
    for kept in [
        "",
        "&force_refresh=false",
        "&force_refresh=0",
        "&force_refresh=",
    ] {
        let answer = list_with(&ada, &upstream.url, kept).await;
        assert_eq!(answer.json()["cached"], true, "{kept}");
    }
    assert_eq!(upstream.count(), 5);
    // A failure does not take its place, and is not kept either.
    upstream.reply(Reply::new(500, vec![], ""));
    is_bad_answer(&list_with(&ada, &upstream.url, "&force_refresh=true").await);
    assert_eq!(list(&ada, &upstream.url).await.json()["cached"], true);
    // Nothing of it can be read in the table, and it goes with its server.
    let kept = async |what: &str| {
        let items = hawser.ground().items().await;
        items
            .iter()
            .filter(|item| item.to_string().contains(what))
            .count()
    };
    assert_eq!((kept("newer").await, kept("TOOLS#shared").await), (0, 1));
    assert_eq!(
        hawser
            .admin("acme")
            .delete(&format!("{MCP}/{mcp}"))
            .await
            .status,
        200
    );
    let answer = list(&ada, &upstream.url).await;
    assert_eq!(answer.status, 404, "{answer:?}");
    hawser.run_workers().await;
    assert_eq!(kept("TOOLS#").await, 0);
    // Nor does its successor inherit it.
    register(&hawser, "wiki", &upstream.url, json!({})).await;
    assert_eq!(list(&ada, &upstream.url).await.json()["cached"], false);
}

#[tokio::test]
async fn what_rests_on_a_subjects_own_credential_is_its_own() {
    let hawser = Hawser::start().await;
    let (issuer, upstream) = (Issuer::start().await, Upstream::start().await);
    let mcp = register(&hawser, "mail", &issuer.mcp_url(), oauth()).await;
    let (ada, bob) = (reader(&hawser, "ada"), reader(&hawser, "bob"));
    is_unconnected(&list(&ada, &issuer.mcp_url()).await);
    connect(&hawser, &issuer, &mcp, "ada").await;
    connect(&hawser, &issuer, &mcp, "bob").await;
    issuer.clear_log();
    let found = async |caller: &Caller| names(&list(caller, &issuer.mcp_url()).await);
    let (of_ada, of_bob) = (found(&ada).await, found(&bob).await);
    assert_ne!(of_ada, of_bob);
    assert_eq!((found(&ada).await, found(&bob).await), (of_ada, of_bob));
    assert_eq!(issuer.count("POST", "/mcp"), 2);
    is_unconnected(&list(&reader(&hawser, "eve"), &issuer.mcp_url()).await);

    // Overrides likewise; who has none shares with the others who have none.
    let header = json!({"auth_data": {"type": "header", "headers": {"X-Key": "shared"}}});
    let wiki = register(&hawser, "wiki", &upstream.url, header).await;
    install(&hawser, &wiki, "ada", own("ada's")).await;
    upstream.answers(|seen| {
        let tool = json!({"name": seen.header("x-key")});
        json_reply(
            200,
            &result(&seen.message()["id"], json!({"tools": [tool]})),
        )
    });
    let eve = reader(&hawser, "eve");
    for (caller, name, cached) in [
        (&bob, "shared", false),
        (&ada, "ada's", false),
        (&eve, "shared", true),
        (&ada, "ada's", true),
    ] {
        let answer = list(caller, &upstream.url).await;
        assert_eq!(names(&answer), [name]);
        assert_eq!(answer.json()["cached"], cached, "{name}");
    }
    install(&hawser, &wiki, "ada", own("new")).await;
    assert_eq!(names(&list(&ada, &upstream.url).await), ["new"]);
    disconnect(&hawser, &wiki, "ada", "auth-override").await;
    let answer = list(&ada, &upstream.url).await;
    assert_eq!(
        (names(&answer), answer.json()["cached"].clone()),
        (vec!["shared".to_owned()], json!(true))
    );
    // Where each brings its own, who brings none is told so.
    let filled = register(&hawser, "own", &format!("{}/2", upstream.url), per_user()).await;
    let url = format!("{}/2", upstream.url);
    is_unconnected(&list(&ada, &url).await);
    install(&hawser, &filled, "ada", own("k")).await;
    assert_eq!(names(&list(&ada, &url).await), ["Key k"]);
    is_unconnected(&list(&bob, &url).await);
}

#[tokio::test]
async fn a_list_ends_with_what_it_rests_on() {
    let (hawser, issuer) = (Hawser::start().await, Issuer::start().await);
    let admin = hawser.admin("acme");
    let mcp = register(&hawser, "mail", &issuer.mcp_url(), oauth()).await;
    let ada = reader(&hawser, "ada");
    let cached = async || list(&ada, &issuer.mcp_url()).await.json()["cached"].clone();
    let asked = || issuer.count("POST", "/mcp");
    connect(&hawser, &issuer, &mcp, "ada").await;
    assert_eq!(
        (cached().await, cached().await),
        (json!(false), json!(true))
    );
    // A refresh changes nothing.
    issuer.expire(&issuer.issued().last().unwrap().access);
    assert_eq!(
        list_with(&ada, &issuer.mcp_url(), "&force_refresh=1")
            .await
            .status,
        200
    );
    assert_eq!(cached().await, json!(true));
    // A new consent does.
    let before = asked();
    disconnect(&hawser, &mcp, "ada", "oauth").await;
    is_unconnected(&list(&ada, &issuer.mcp_url()).await);
    assert_eq!(asked(), before, "nothing was sent");
    connect(&hawser, &issuer, &mcp, "ada").await;
    assert_eq!(
        (cached().await, cached().await),
        (json!(false), json!(true))
    );
    let before = asked();
    assert_eq!(
        admin
            .delete(&format!("{MCP}/{mcp}/auth/tokens"))
            .await
            .status,
        200
    );
    is_unconnected(&list(&ada, &issuer.mcp_url()).await);
    assert_eq!(asked(), before);
    connect(&hawser, &issuer, &mcp, "ada").await;
    assert_eq!(
        (cached().await, cached().await),
        (json!(false), json!(true))
    );
    // And so does the end of a grant that nobody here has ended.
    issuer.expire(&issuer.issued().last().unwrap().access);
    issuer.fault(Fault {
        status: Some(400),
        body: json!({"error": "invalid_grant"}).to_string(),
        ..Fault::always("/token")
    });
    is_unconnected(&list_with(&ada, &issuer.mcp_url(), "&force_refresh=1").await);
    is_unconnected(&list(&ada, &issuer.mcp_url()).await);

    let upstream = Upstream::start().await;
    upstream.has_tools(json!([]));
    let new =
        json!({"name": "wiki", "url": upstream.url, "headers": [{"key": "X-Key", "value": "a"}]});
    let made = admin.post(SERVERS, new).await;
    let path = format!("{SERVERS}/{}", made.json()["id"].as_str().unwrap());
    let url = std::cell::RefCell::new(upstream.url.clone());
    let cached = async || {
        let at = url.borrow().clone();
        list(&ada, &at).await.json()["cached"].clone()
    };
    assert_eq!(
        (cached().await, cached().await),
        (json!(false), json!(true))
    );
    let moved = format!("{}?b", upstream.url);
    for patch in [
        json!({"headers": [{"key": "X-Key", "value": "b"}]}),
        json!({"auth_type": "headers"}),
        json!({"url": moved}),
        json!({"url": upstream.url}),
        json!({"headers": []}),
    ] {
        assert_eq!(admin.patch(&path, patch.clone()).await.status, 200);
        if let Some(at) = patch["url"].as_str() {
            *url.borrow_mut() = at.to_owned();
        }
        assert_eq!(
            (cached().await, cached().await),
            (json!(false), json!(true)),
            "{patch}"
        );
    }
    // What is no change is none.
    assert_eq!(admin.patch(&path, json!({"headers": []})).await.status, 200);
    assert_eq!(cached().await, json!(true));
    hawser.run_workers().await;
}

/// A server is asked, and before it answers something happens here. Who asked before that has the answer in any case.
async fn meanwhile(upstream: &Upstream, caller: &Caller, change: impl Future<Output = ()>) {
    let (reply, events) = Reply::stream();
    let before = upstream.count();
    upstream.reply(reply);
    let (caller, url) = (caller.clone(), upstream.url.clone());
    let asking = tokio::spawn(async move { list(&caller, &url).await });
    soon(async {
        while upstream.count() == before {
            tokio::task::yield_now().await;
        }
    })
    .await;
    change.await;
    let late = "data: {\"id\":1,\"result\":{\"tools\":[{\"name\":\"late\"}]}}\n\n";
    events.send(late);
    drop(events);
    assert_eq!(names(&asking.await.unwrap()), ["late"]);
}

#[tokio::test]
async fn a_late_list_brings_nothing_back() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let admin = hawser.admin("acme");
    let ada = reader(&hawser, "ada");
    let kept = async || {
        let items = hawser.ground().items().await;
        items
            .iter()
            .filter(|item| item["SK"].as_str().unwrap().starts_with("TOOLS#"))
            .count()
    };
    upstream.has_tools(tools(&["now"]));

    // The server moves: by its revision the write is refused.
    let header = |name: &str, value: &str| json!({"auth_data": {"type": "header", "headers": {name: value}}});
    let change = async |auth: Value| register(&hawser, "wiki", &upstream.url, auth).await;
    let mcp = change(header("X-Key", "a")).await;
    meanwhile(&upstream, &ada, async {
        drop(change(header("X-Other", "a")).await)
    })
    .await;
    assert_eq!(kept().await, 0);
    assert_eq!(names(&list(&ada, &upstream.url).await), ["now"]);
    // A secret changes: the write happens, and by its fingerprint nobody believes it.
    change(header("X-Other", "b")).await;
    meanwhile(&upstream, &ada, async {
        drop(change(header("X-Other", "c")).await)
    })
    .await;
    assert_eq!(kept().await, 1);
    assert_eq!(names(&list(&ada, &upstream.url).await), ["now"]);
    // The subject is disconnected, and gets something else later.
    install(&hawser, &mcp, "ada", own("x")).await;
    meanwhile(
        &upstream,
        &ada,
        disconnect(&hawser, &mcp, "ada", "auth-override"),
    )
    .await;
    assert_eq!(kept().await, 2);
    assert_eq!(names(&list(&ada, &upstream.url).await), ["now"]);
    install(&hawser, &mcp, "ada", own("x")).await;
    assert_eq!(names(&list(&ada, &upstream.url).await), ["now"]);
    // The server is deleted, and cleared away.
    install(&hawser, &mcp, "ada", own("y")).await;
    meanwhile(&upstream, &ada, async {
        assert_eq!(admin.delete(&format!("{MCP}/{mcp}")).await.status, 200);
        hawser.run_workers().await;
    })
    .await;
    assert_eq!(kept().await, 0);
    hawser.run_workers().await;
}

#[tokio::test]
async fn long_lists_are_kept_if_they_fit() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    register(&hawser, "wiki", &upstream.url, json!({})).await;
    let ada = reader(&hawser, "ada");
    let tool =
        |number: usize, text: &str| json!({"name": format!("tool {number}"), "description": text});
    // Two megabytes that repeat themselves.
    let long = "All work and no play makes Jack a dull boy. ".repeat(50);
    upstream.has_tools((0..1000).map(|number| tool(number, &long)).collect());
    for cached in [false, true] {
        let answer = list(&ada, &upstream.url).await;
        assert_eq!(names(&answer).len(), 1000);
        assert_eq!(answer.json()["cached"], cached);
    }
    // One that does not.
    let mut state = 7u64;
    let mut noise = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        format!("{:016x}", state)
    };
    let noise: String = (0..100_000).map(|_| noise()).collect();
    upstream.has_tools(json!([tool(1, &noise)]));
    for _ in 0..2 {
        let answer = list_with(&ada, &upstream.url, "&force_refresh=true").await;
        assert_eq!(answer.json()["tools"][0]["description"], noise.as_str());
        assert_eq!(answer.json()["cached"], false);
    }
}
