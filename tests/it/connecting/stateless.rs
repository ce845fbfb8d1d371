//! Clients of 2026-07-28: they are asked to open a page for their user, and repeat the request.

use super::{ask_stateless, opens_urls, stateless, tool_call};
use crate::harness::{Answer, Hawser};
use crate::issuer::{Fault, Issuer};
use crate::upstream::*;
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// What a client was asked: the key of the question, the address, and the state to bring back.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    key: String,
    url: String,
    state: String,
}

#[track_caller]
fn asked(answer: &Answer) -> Asked {
    let result = answer.json()["result"].clone();
    assert_eq!(
        (answer.status, &result["resultType"]),
        (200, &json!("input_required")),
        "{answer:?}"
    );
    let requests = result["inputRequests"].as_object().unwrap();
    assert_eq!(requests.len(), 1);
    let (key, question) = requests.iter().next().unwrap();
    let (method, params) = (&question["method"], &question["params"]);
    assert_eq!(
        (method, &params["mode"]),
        (&json!("elicitation/create"), &json!("url"))
    );
    assert!(
        params["message"].as_str().unwrap().contains("wiki"),
        "{params}"
    );
    let url = params["url"].as_str().unwrap();
    assert!(url.contains("/oauth/start?session="), "{url}");
    Asked {
        key: key.clone(),
        url: url.to_owned(),
        state: result["requestState"].as_str().unwrap().to_owned(),
    }
}

/// A call of a tool by a client that opens addresses.
fn request(arguments: Value) -> Value {
    stateless(
        "tools/call",
        opens_urls(),
        json!({"name": "search", "arguments": arguments}),
    )
}

/// The same once more, with an answer.
fn retry(mut request: Value, asked: &Asked, action: &str) -> Value {
    request["params"]["inputResponses"] = json!({&asked.key: {"action": action}});
    request["params"]["requestState"] = asked.state.clone().into();
    request
}

async fn quick() -> (Hawser, Issuer, String) {
    let hawser = Hawser::start_with(|app| app.consent_wait = Duration::ZERO).await;
    let issuer = Issuer::start().await;
    let mcp = register(&hawser, "wiki", &issuer.mcp_url(), oauth()).await;
    (hawser, issuer, mcp)
}

#[tokio::test]
async fn a_client_that_opens_addresses_is_asked_and_others_are_told() {
    let (hawser, issuer, mcp) = quick().await;
    let ada = user(&hawser, "ada");
    let first = asked(&ask_stateless(&ada, &mcp, &request(json!({}))).await);
    for method in ["prompts/get", "resources/read"] {
        let body = stateless(method, opens_urls(), json!({"name": "x", "uri": "x:y"}));
        assert_eq!(
            asked(&ask_stateless(&ada, &mcp, &body).await).url,
            first.url
        );
        // Whoever does not open addresses gets it in words.
        let body = stateless(method, json!({}), json!({"name": "x", "uri": "x:y"}));
        let error = ask_stateless(&ada, &mcp, &body).await.json()["error"].clone();
        assert_eq!(error["code"], -32001, "{error}");
        assert!(
            error["message"].as_str().unwrap().contains(&first.url),
            "{error}"
        );
    }
    for forms in [
        json!({}),
        json!({"elicitation": {}}),
        json!({"elicitation": {"form": {}}}),
    ] {
        let body = stateless("tools/call", forms, json!({"name": "search"}));
        let answer = ask_stateless(&ada, &mcp, &body).await;
        assert_eq!(told(&answer).as_ref(), Some(&first.url));
        let result = &answer.json()["result"];
        assert_eq!(result["resultType"], "complete");
        assert_eq!(result["content"].as_array().unwrap().len(), 1);
    }
    // No other request may be answered by a question.
    let body = stateless("completion/complete", opens_urls(), json!({}));
    let error = ask_stateless(&ada, &mcp, &body).await.json()["error"].clone();
    assert_eq!(
        (&error["code"], &error["data"]["consentUrl"]),
        (&json!(-32001), &json!(first.url))
    );
    assert!(
        error["message"].as_str().unwrap().contains(&first.url),
        "{error}"
    );
    assert_eq!(issuer.log().len(), 0, "nobody was asked");
}

#[tokio::test]
async fn once_connected_the_server_gets_the_request_without_what_was_ours() {
    let (hawser, issuer, mcp) = quick().await;
    let ada = user(&hawser, "ada");
    let first = request(json!({"n": 1}));
    let question = asked(&ask_stateless(&ada, &mcp, &first).await);
    consent(&issuer, &question.url).await;
    let mut again = retry(first.clone(), &question, "accept");
    again["id"] = 8.into();
    again["params"]["inputResponses"]["theirs"] = json!({"action": "accept"});
    let answer = ask_stateless(&ada, &mcp, &again).await;
    assert_eq!(answer.json()["result"]["subject"], "ada", "{answer:?}");
    let log = issuer.log();
    let arrived = log.iter().rfind(|one| one.path == "/mcp").unwrap();
    let mut expected = first;
    expected["id"] = 8.into();
    expected["params"]["inputResponses"] = json!({"theirs": {"action": "accept"}});
    assert_eq!(
        serde_json::from_str::<Value>(&arrived.body).unwrap(),
        expected
    );
    // A state of the server's own goes through as it is.
    let mut theirs = request(json!({"n": 1}));
    theirs["params"]["requestState"] = "theirs".into();
    theirs["params"]["inputResponses"] = json!({"x": {"action": "decline"}});
    assert_eq!(ask_stateless(&ada, &mcp, &theirs).await.status, 200);
    let log = issuer.log();
    let arrived = log.iter().rfind(|one| one.path == "/mcp").unwrap();
    assert_eq!(arrived.body, theirs.to_string());
}

#[tokio::test]
async fn a_declined_or_cancelled_question_is_refused_with_its_reason() {
    let (hawser, issuer, mcp) = quick().await;
    let ada = user(&hawser, "ada");
    let question = asked(&ask_stateless(&ada, &mcp, &request(json!({}))).await);
    for (action, text, reason) in [
        (
            "decline",
            "Connecting to this MCP server was declined",
            "consent_declined",
        ),
        (
            "cancel",
            "Connecting to this MCP server was cancelled",
            "consent_cancelled",
        ),
    ] {
        let body = retry(request(json!({})), &question, action);
        let answer = ask_stateless(&ada, &mcp, &body).await;
        is_refused(&answer, 200, -32001, text, json!({"reason": reason}));
    }
    // An answer that is missing or unknown is asked for again.
    let mut none = retry(request(json!({})), &question, "accept");
    none["params"]["inputResponses"] = json!({});
    for body in [none, retry(request(json!({})), &question, "other")] {
        assert_eq!(
            asked(&ask_stateless(&ada, &mcp, &body).await).url,
            question.url
        );
    }
    assert_eq!(issuer.log().len(), 0);
}

#[tokio::test]
async fn who_has_not_finished_is_asked_again_with_the_same_address() {
    let (hawser, issuer, mcp) = quick().await;
    let ada = user(&hawser, "ada");
    let mut question = asked(&ask_stateless(&ada, &mcp, &request(json!({}))).await);
    let url = question.url.clone();
    for _ in 0..5 {
        let body = retry(request(json!({})), &question, "accept");
        question = asked(&ask_stateless(&ada, &mcp, &body).await);
        assert_eq!(question.url, url);
    }
    consent(&issuer, &url).await;
    let body = retry(request(json!({})), &question, "accept");
    let answer = ask_stateless(&ada, &mcp, &body).await;
    assert_eq!(answer.json()["result"]["subject"], "ada", "{answer:?}");
}

#[tokio::test]
async fn a_retry_waits_for_the_person() {
    let (hawser, issuer) = (Hawser::start().await, Issuer::start().await);
    let mcp = register(&hawser, "wiki", &issuer.mcp_url(), oauth()).await;
    let ada = user(&hawser, "ada");
    let question = asked(&ask_stateless(&ada, &mcp, &request(json!({}))).await);
    let body = retry(request(json!({})), &question, "accept");
    let waiting = tokio::spawn({
        let (ada, mcp) = (ada.clone(), mcp.clone());
        async move { ask_stateless(&ada, &mcp, &body).await }
    });
    consent(&issuer, &question.url).await;
    let answer = soon(waiting).await.unwrap();
    assert_eq!(answer.json()["result"]["subject"], "ada", "{answer:?}");
}

#[tokio::test]
async fn a_retry_does_not_wait_for_a_consent_that_has_failed() {
    let (hawser, issuer) = (Hawser::start().await, Issuer::start().await);
    let mcp = register(&hawser, "wiki", &issuer.mcp_url(), oauth()).await;
    let ada = user(&hawser, "ada");
    let question = asked(&ask_stateless(&ada, &mcp, &request(json!({}))).await);
    let mut browser = crate::harness::Browser::new();
    let at_issuer = browser.begin(&question.url).await;
    browser.open(&issuer.deny(&at_issuer).await).await;
    let body = retry(request(json!({})), &question, "accept");
    let again =
        tokio::time::timeout(Duration::from_secs(10), ask_stateless(&ada, &mcp, &body)).await;
    let again = asked(&again.expect("it waits for nothing"));
    assert_ne!(again.url, question.url, "the first one is over");
}

#[tokio::test]
async fn a_request_state_serves_its_own_request_alone() {
    let hawser = Hawser::by_hand_changed(crate::harness::Ground::new().await, |app| {
        app.consent_wait = Duration::ZERO;
    })
    .await;
    let issuer = Issuer::start().await;
    let mcp = register(&hawser, "wiki", &issuer.mcp_url(), oauth()).await;
    let other = register(&hawser, "wiki-2", &issuer.mcp_url(), oauth()).await;
    let (ada, bob) = (user(&hawser, "ada"), user(&hawser, "bob"));
    let first = request(json!({"n": 1}));
    let question = asked(&ask_stateless(&ada, &mcp, &first).await);
    connect(&hawser, &issuer, &mcp, "ada").await;
    connect(&hawser, &issuer, &mcp, "bob").await;
    connect(&hawser, &issuer, &other, "ada").await;
    let before = issuer.count("POST", "/mcp");
    let good = retry(first.clone(), &question, "accept");
    let mut changed = good.clone();
    changed["params"]["arguments"]["n"] = 2.into();
    let mut method = good.clone();
    method["method"] = "prompts/get".into();
    let mut consent_differs = good.clone();
    consent_differs["params"]["inputResponses"] =
        json!({format!("{}x", question.key): {"action": "accept"}});
    let mut tampered = good.clone();
    let cut = question.state.len() - 3;
    tampered["params"]["requestState"] = question.state[..cut].into();
    for (caller, mcp, body) in [
        (&bob, &mcp, &good),
        (&ada, &other, &good),
        (&ada, &mcp, &changed),
        (&ada, &mcp, &method),
        (&ada, &mcp, &consent_differs),
        (&ada, &mcp, &tampered),
    ] {
        let answer = ask_stateless(caller, mcp, body).await;
        let text = "The requestState is over, or is not this request's";
        is_refused(&answer, 200, -32602, text, Value::Null);
    }
    assert_eq!(issuer.count("POST", "/mcp"), before);
    for (pass, code) in [(599, Value::Null), (1, json!(-32602))] {
        hawser.pass(pass);
        let answer = ask_stateless(&ada, &mcp, &good).await;
        assert_eq!(answer.json()["error"]["code"], code, "{answer:?}");
    }
}

#[tokio::test]
async fn fifty_calls_at_once_begin_one_consent() {
    let (hawser, _issuer, mcp) = quick().await;
    let ada = user(&hawser, "ada");
    let call = request(json!({}));
    let calls = (0..50).map(|_| ask_stateless(&ada, &mcp, &call));
    let urls: BTreeSet<_> = join_all(calls)
        .await
        .iter()
        .map(|one| asked(one).url)
        .collect();
    assert_eq!(urls.len(), 1);
    // The other ways of asking lead to the same page.
    let told = told(&send(&ada, &mcp, &[], tool_call("search")).await);
    assert_eq!(told.as_ref(), urls.first());
    let authorize = ada.get(&format!("{MCP}/{mcp}/authorize")).await.json();
    assert_eq!(
        authorize["authorization_endpoint"].as_str(),
        urls.first().map(String::as_str)
    );
    let items = hawser.ground().items().await;
    let sessions = items.iter().filter(|item| item["entity"] == "session");
    assert_eq!(sessions.count(), 1);
}

#[tokio::test]
async fn a_disconnect_voids_the_consent_that_was_asked_for() {
    let (hawser, issuer, mcp) = quick().await;
    connect(&hawser, &issuer, &mcp, "ada").await;
    let ada = user(&hawser, "ada");
    issuer.fault(Fault {
        status: Some(401),
        ..Fault::always("/mcp")
    });
    let question = asked(&ask_stateless(&ada, &mcp, &request(json!({}))).await);
    issuer.clear_faults();
    disconnect(&hawser, &mcp, "ada", "oauth").await;
    let page = crate::harness::Browser::new().open(&question.url).await;
    assert_eq!(page.status, 400, "{page:?}");
    let body = retry(request(json!({})), &question, "accept");
    let again = asked(&ask_stateless(&ada, &mcp, &body).await);
    assert_ne!(again.url, question.url);
}
