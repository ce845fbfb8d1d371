//! Which credential a call carries, and what happens when it is refused.

use crate::harness::Hawser;
use crate::issuer::{Fault, Issuer};
use crate::proxy::consent::needs_consent;
use crate::upstream::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[tokio::test]
async fn an_api_key_and_a_stored_authorization_do_not_mix() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let auth =
        json!({"auth_data": {"type": "header", "headers": {"authorization": "Bearer stored"}}});
    let mcp = register(&hawser, "wiki", &upstream.url, auth).await;
    let grants = json!({"permissions": ["mcp-servers:invoke"]});
    let key = hawser.api_key("acme", Some("user:ada"), grants).await;
    for caller in [key, user(&hawser, "ada")] {
        assert_eq!(call(&caller, &mcp).await.status, 200);
        let seen = upstream.last();
        assert_eq!(seen.header("authorization"), Some("Bearer stored"));
        assert_eq!(seen.header("x-api-key"), None);
    }
}

/// The headers beyond those of the transport that arrive with a call of ada's.
async fn attached(hawser: &Hawser, upstream: &Upstream, mcp: &str) -> BTreeSet<(String, String)> {
    is_served(&user(hawser, "ada"), mcp).await;
    let usual = [
        "accept",
        "accept-encoding",
        "content-length",
        "hawser-hops",
        "host",
        "mcp-protocol-version",
        "user-agent",
    ];
    let headers = upstream.last().headers.into_iter();
    headers
        .filter(|(name, _)| !usual.contains(&name.as_str()))
        .collect()
}

#[tokio::test]
async fn each_call_carries_the_first_credential_there_is() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let shared = |headers: Value| json!({"auth_data": {"type": "header", "headers": headers}});
    let filled = json!({"type": "header", "auth_level": "per_user",
                        "headers": {"X-One": "a {{ONE}} b", "X-Two": "{{TWO}}", "X-Both": "{{ONE}}", "X-Fixed": "fixed"}});
    let values = json!({"type": "key_value", "values": {"ONE": "1", "TWO": "2"}});
    let cases = [
        (json!({}), Value::Null, vec![]),
        (
            json!({"additional_headers": {"X-More": "more"}}),
            Value::Null,
            vec![("x-more", "more")],
        ),
        (
            shared(json!({"X-Key": "s", "Authorization": "t"})),
            Value::Null,
            vec![("authorization", "t"), ("x-key", "s")],
        ),
        // Of two of one name that of auth_data is sent.
        (
            json!({"additional_headers": {"x-key": "more", "X-More": "more"},
                   "auth_data": {"type": "header", "headers": {"X-Key": "s"}}}),
            Value::Null,
            vec![("x-key", "s"), ("x-more", "more")],
        ),
        (
            shared(json!({"X-Key": "s"})),
            own("mine"),
            vec![("x-key", "mine")],
        ),
        (
            shared(json!({"X-Key": "s", "X-Other": "t"})),
            own("mine"),
            vec![("authorization", "mine"), ("x-key", "s"), ("x-other", "t")],
        ),
        (
            shared(json!({"X-Key": "s", "Authorization": "t"})),
            own("mine"),
            vec![("authorization", "mine"), ("x-key", "s")],
        ),
        (per_user(), own("mine"), vec![("x-key", "Key mine")]),
        (
            json!({"auth_data": filled}),
            values,
            vec![
                ("x-both", "1"),
                ("x-fixed", "fixed"),
                ("x-one", "a 1 b"),
                ("x-two", "2"),
            ],
        ),
        (
            json!({"auth_data": {"type": "oauth2"}, "additional_headers": {"X-More": "more"}}),
            own("Bearer mine"),
            vec![("authorization", "Bearer mine"), ("x-more", "more")],
        ),
    ];
    for (i, (more, value, expected)) in cases.into_iter().enumerate() {
        let mcp = register(&hawser, &format!("server-{i}"), &upstream.url, more).await;
        if !value.is_null() {
            // Someone else's must not be sent instead.
            let other = match value["type"].as_str() {
                Some("header") => own("another's"),
                _ => json!({"type": "key_value", "values": {"ONE": "x", "TWO": "y"}}),
            };
            install(&hawser, &mcp, "bob", other).await;
            install(&hawser, &mcp, "ada", value).await;
        }
        let expected = expected
            .into_iter()
            .map(|(n, v)| (n.to_owned(), v.to_owned()));
        let expected: BTreeSet<_> = expected.collect();
        assert_eq!(
            attached(&hawser, &upstream, &mcp).await,
            expected,
            "case {i}"
        );
    }
}

#[tokio::test]
async fn servers_of_the_sibling_contracts_are_called_alike() {
    let upstream = Upstream::start().await;
    let pipedrive = json!({"display_name": "P", "mcp_url": upstream.url,
                           "api_key": {"header": "X-Token", "template": "Token {api_key}"}});
    let hawser = Hawser::with_integrations(&json!({"pipedrive": pipedrive})).await;
    let admin = hawser.admin("acme");
    let langsmith = |name: &str, more: Value| {
        let mut body = json!({"name": name, "url": upstream.url});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    };
    let keyed = langsmith(
        "keyed",
        json!({"headers": [{"key": "X-Key", "value": " v\t"}]}),
    );
    let provider = "5b6f6a2b-2c95-4f0f-9c2b-7c3a3e4f8d11";
    let legacy = langsmith(
        "legacy",
        json!({"auth_type": "oauth", "oauth_provider_id": provider}),
    );
    for (body, expected) in [(keyed, vec![("x-key", "v")]), (legacy, vec![])] {
        let made = admin.post("/v1/deepagents/mcp-servers", body).await;
        assert_eq!(made.status, 201, "{made:?}");
        let id = made.json()["id"].as_str().unwrap().to_owned();
        let expected = expected
            .into_iter()
            .map(|(n, v)| (n.to_owned(), v.to_owned()));
        let expected: BTreeSet<_> = expected.collect();
        assert_eq!(attached(&hawser, &upstream, &id).await, expected);
    }
    let body = json!({"mcp_server": "pipedrive", "access_type": "write", "api_key": "k"});
    let made = admin.post("/api/v1/mcp-servers", body).await.json();
    let number = made["data"]["id"].to_string();
    let expected = BTreeSet::from([("x-token".to_owned(), "Token k".to_owned())]);
    assert_eq!(attached(&hawser, &upstream, &number).await, expected);
}

#[tokio::test]
async fn an_expired_token_is_refreshed_first() {
    let (hawser, issuer) = (Hawser::start().await, Issuer::start().await);
    let mcp = register(&hawser, "wiki", &issuer.mcp_url(), oauth()).await;
    issuer.configure(|s| s.access_ttl = Some(0));
    connect(&hawser, &issuer, &mcp, "ada").await;
    issuer.configure(|s| s.access_ttl = Some(3600));
    issuer.clear_log();
    assert_eq!(call(&user(&hawser, "ada"), &mcp).await.status, 200);
    assert_eq!(
        (issuer.count("POST", "/token"), issuer.count("POST", "/mcp")),
        (1, 1)
    );
    let token = issuer.issued().pop().unwrap().access;
    let arrived = issuer
        .log()
        .into_iter()
        .rfind(|one| one.path == "/mcp")
        .unwrap();
    assert_eq!(
        arrived.header("authorization"),
        Some(format!("Bearer {token}").as_str())
    );
}

#[tokio::test]
async fn a_refused_token_is_replaced_once_and_the_call_repeated_once() {
    let (hawser, issuer) = (Hawser::start_by_hand().await, Issuer::start().await);
    let mcp = register(&hawser, "wiki", &issuer.mcp_url(), oauth()).await;
    connect(&hawser, &issuer, &mcp, "ada").await;
    let ada = user(&hawser, "ada");
    issuer.expire(&issuer.issued()[0].access);
    issuer.clear_log();
    let body =
        json!({"jsonrpc": "2.0", "id": 7, "method": "x", "params": {"long": "y".repeat(100_000)}});
    assert_eq!(send(&ada, &mcp, &[MODERN], body.clone()).await.status, 200);
    assert_eq!(
        (issuer.count("POST", "/token"), issuer.count("POST", "/mcp")),
        (1, 2)
    );
    for one in issuer.log().iter().filter(|one| one.path == "/mcp") {
        assert_eq!(one.body, body.to_string());
    }
    // A server that takes no token at all is asked twice and no more, and the issuer not at every call.
    let refusal = |status: u16, challenge: &str| Fault {
        status: Some(status),
        headers: vec![("www-authenticate", challenge.to_owned())],
        body: "foreign".to_owned(),
        ..Fault::always("/mcp")
    };
    issuer.fault(refusal(401, "Bearer realm=\"upstream\""));
    for (seconds, sent) in [(29, (0, 1)), (1, (1, 2)), (0, (0, 1))] {
        hawser.pass(seconds);
        issuer.clear_log();
        needs_consent(&ask(&ada, &mcp).await, "credential_refused");
        assert_eq!(
            (issuer.count("POST", "/token"), issuer.count("POST", "/mcp")),
            sent
        );
    }
    issuer.clear_faults();
    issuer.clear_log();
    issuer.fault(refusal(
        403,
        "Bearer error=\"insufficient_scope\", scope=\"more\"",
    ));
    needs_consent(&ask(&ada, &mcp).await, "scope_insufficient");
    assert_eq!(
        (issuer.count("POST", "/token"), issuer.count("POST", "/mcp")),
        (0, 1)
    );
    issuer.clear_faults();
    // Any other 403 is the server's own answer.
    issuer.fault(refusal(403, "Bearer error=\"other\""));
    let answer = call(&ada, &mcp).await;
    assert_eq!((answer.status, answer.text.as_str()), (403, "foreign"));
    assert_eq!(answer.header("www-authenticate"), None);
    issuer.clear_faults();
    // A refresh token that is over ends it.
    hawser.pass(30);
    issuer.expire(&issuer.issued().last().unwrap().access);
    issuer.fault(Fault {
        status: Some(400),
        body: r#"{"error":"invalid_grant"}"#.to_owned(),
        ..Fault::once("/token")
    });
    needs_consent(&ask(&ada, &mcp).await, "invalid_grant");
}

#[tokio::test]
async fn a_refused_header_is_not_sent_again() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let shared = json!({"auth_data": {"type": "header", "headers": {"X-Key": "s"}}});
    for (i, more) in [json!({}), shared].into_iter().enumerate() {
        let mcp = register(&hawser, &format!("server-{i}"), &upstream.url, more).await;
        let challenge = ("www-authenticate", "Bearer realm=upstream".to_owned());
        upstream.reply(Reply::new(401, vec![challenge], "foreign"));
        let answer = ask(&user(&hawser, "ada"), &mcp).await;
        let text = "This MCP server needs a credential that is not stored here";
        is_refused(
            &answer,
            200,
            -32001,
            text,
            json!({"reason": "credential_refused"}),
        );
        assert_eq!(answer.header("www-authenticate"), None);
        assert_eq!(upstream.count(), i + 1);
    }
}

#[tokio::test]
async fn a_servers_own_client_gets_its_token_once() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let tokens = Upstream::start().await;
    let auth = json!({"auth_data": {"type": "oauth2", "grant_type": "client_credentials", "token_url": tokens.url,
                                    "client_id": "c", "client_secret": "s", "scopes": ["a", "b"],
                                    "additional_token_params": {"audience": "x"}}});
    let mcp = register(&hawser, "wiki", &upstream.url, auth.clone()).await;
    let json = || vec![("content-type", "application/json".to_owned())];
    let token = |value: &str| {
        let body = json!({"access_token": value, "token_type": "Bearer", "expires_in": 3600});
        tokens.reply(Reply::new(200, json(), body.to_string()));
    };
    token("one");
    for caller in ["ada", "bob", "ada"] {
        assert_eq!(call(&user(&hawser, caller), &mcp).await.status, 200);
        assert_eq!(upstream.last().header("authorization"), Some("Bearer one"));
    }
    assert_eq!(tokens.count(), 1);
    let asked = String::from_utf8(tokens.last().body).unwrap();
    let form: BTreeSet<_> = url::form_urlencoded::parse(asked.as_bytes())
        .into_owned()
        .collect();
    let expected = [
        ("audience", "x"),
        ("grant_type", "client_credentials"),
        ("resource", upstream.url.as_str()),
        ("scope", "a b"),
    ];
    assert_eq!(
        form,
        expected.map(|(n, v)| (n.to_owned(), v.to_owned())).into()
    );
    assert_eq!(tokens.last().header("authorization"), Some("Basic Yzpz"));
    // One that is refused is replaced once.
    token("two");
    upstream.reply(Reply::new(401, Vec::new(), ""));
    assert_eq!(call(&user(&hawser, "ada"), &mcp).await.status, 200);
    assert_eq!(upstream.last().header("authorization"), Some("Bearer two"));
    assert_eq!((tokens.count(), upstream.count()), (2, 5));
    // A subject's own header comes first.
    install(&hawser, &mcp, "bob", own("Bearer mine")).await;
    assert_eq!(call(&user(&hawser, "bob"), &mcp).await.status, 200);
    assert_eq!(upstream.last().header("authorization"), Some("Bearer mine"));
    // Another secret, another token; one that is not given is nobody's fault here.
    let mut changed = auth;
    changed["auth_data"]["client_secret"] = "t".into();
    register(&hawser, "wiki", &upstream.url, changed).await;
    tokens.reply(Reply::new(401, json(), r#"{"error":"invalid_client"}"#));
    let text = "This MCP server needs a credential that is not stored here";
    let answer = ask(&user(&hawser, "ada"), &mcp).await;
    is_refused(
        &answer,
        200,
        -32001,
        text,
        json!({"reason": "invalid_client"}),
    );
    assert_eq!((tokens.count(), upstream.count()), (3, 6));
}

#[tokio::test]
async fn a_caller_s_own_token_goes_nowhere() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let mcp = register(
        &hawser,
        "wiki",
        &upstream.url,
        json!({"auth_data": {"type": "passthrough"}}),
    )
    .await;
    let answer = call(&user(&hawser, "ada"), &mcp).await;
    let text = "This MCP server wants the caller's own token, which is never passed on";
    is_refused(
        &answer,
        200,
        -32001,
        text,
        json!({"reason": "passthrough_not_supported"}),
    );
    assert_eq!(upstream.count(), 0);
}
