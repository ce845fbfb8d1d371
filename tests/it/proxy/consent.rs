//! What a caller is told that has no credential at a server.

use crate::harness::{Answer, Hawser};
use crate::issuer::{Fault, Issuer};
use crate::upstream::*;
use serde_json::json;

/// Asserts that a call failed for want of a credential; the consent URL.
#[track_caller]
pub fn needs_consent(answer: &Answer, reason: &str) -> String {
    let body = answer.json();
    let url = body["error"]["data"]["consentUrl"]
        .as_str()
        .unwrap_or_default();
    let text = format!("This MCP server needs a credential: open {url} to connect, then try again");
    is_refused(
        answer,
        200,
        -32001,
        &text,
        json!({"reason": reason, "consentUrl": url}),
    );
    assert!(url.contains("/oauth/start?session="), "{url}");
    assert_eq!(answer.header("www-authenticate"), None);
    url.to_owned()
}

#[tokio::test]
async fn without_a_credential_the_caller_is_told_where_to_get_one() {
    let (hawser, issuer) = (Hawser::start().await, Issuer::start().await);
    let mcp = register(&hawser, "wiki", &issuer.mcp_url(), oauth()).await;
    let ada = user(&hawser, "ada");
    let url = needs_consent(&ask(&ada, &mcp).await, "never_connected");
    assert_eq!(issuer.log().len(), 0, "nobody was asked");
    consent(&issuer, &url).await;
    let answer = call(&ada, &mcp).await;
    assert_eq!(answer.json()["result"]["subject"], "ada", "{answer:?}");
    let bob = ask(&user(&hawser, "bob"), &mcp).await;
    needs_consent(&bob, "never_connected");
    disconnect(&hawser, &mcp, "ada", "oauth").await;
    let before = issuer.count("POST", "/mcp");
    needs_consent(&ask(&ada, &mcp).await, "revoked");
    assert_eq!(issuer.count("POST", "/mcp"), before);
    // Where only a manager can help there is no address.
    let upstream = Upstream::start().await;
    let mcp = register(&hawser, "keyed", &upstream.url, per_user()).await;
    install(&hawser, &mcp, "bob", own("v")).await;
    let text = "This MCP server needs a credential that is not stored here";
    let data = json!({"reason": "never_connected"});
    is_refused(&ask(&ada, &mcp).await, 200, -32001, text, data);
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn who_goes_on_calling_without_a_credential_is_told_the_same_each_time() {
    let (hawser, issuer) = (Hawser::start().await, Issuer::start().await);
    let mcp = register(&hawser, "wiki", &issuer.mcp_url(), oauth()).await;
    let ada = user(&hawser, "ada");
    let first = needs_consent(&ask(&ada, &mcp).await, "never_connected");
    for _ in 0..24 {
        let again = needs_consent(&ask(&ada, &mcp).await, "never_connected");
        assert_eq!(again, first);
    }
}

#[tokio::test]
async fn a_step_up_asks_for_what_is_wanted_besides_and_is_not_repeated() {
    let (hawser, issuer) = (Hawser::start().await, Issuer::start().await);
    issuer.configure(|s| s.challenge_scope = Some("mcp:read".to_owned()));
    let mcp = register(&hawser, "wiki", &issuer.mcp_url(), oauth()).await;
    connect(&hawser, &issuer, &mcp, "ada").await;
    assert_eq!(issuer.issued()[0].scopes, ["mcp:read"]);
    let ada = user(&hawser, "ada");
    let challenge = "Bearer error=\"insufficient_scope\", scope=\"mcp:write\"";
    issuer.fault(Fault {
        status: Some(403),
        headers: vec![("www-authenticate", challenge.to_owned())],
        ..Fault::always("/mcp")
    });
    let url = needs_consent(&ask(&ada, &mcp).await, "scope_insufficient");
    issuer.clear_faults();
    consent(&issuer, &url).await;
    let mut granted = issuer.issued().last().unwrap().scopes.clone();
    granted.sort_unstable();
    assert_eq!(granted, ["mcp:read", "mcp:write"]);
    is_served(&ada, &mcp).await;
    // Refused all the same: another consent would end like this one.
    issuer.fault(Fault {
        status: Some(403),
        headers: vec![("www-authenticate", challenge.to_owned())],
        ..Fault::always("/mcp")
    });
    let data = ask(&ada, &mcp).await.json()["error"]["data"].clone();
    assert_eq!(data, json!({"reason": "scope_insufficient"}));
}
