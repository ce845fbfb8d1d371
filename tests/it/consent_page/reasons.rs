//! Why there is no grant.

use super::{KAMBRIUM, LANGSMITH, Stage, reference, says_why};
use crate::harness::{Browser, Hawser};
use crate::issuer::{Fault, Issuer};
use serde_json::json;
use std::collections::BTreeSet;

#[tokio::test]
async fn a_consent_that_cannot_begin_says_why() {
    let status = Fault::answering;
    let metadata = |issuer: &Issuer| {
        json!({"issuer": "https://slack.example", "authorization_endpoint": format!("{}/authorize", issuer.url),
               "token_endpoint": format!("{}/token", issuer.url), "code_challenge_methods_supported": ["S256"]})
    };
    type Break = Box<dyn Fn(&Issuer)>;
    let cases: [(&str, u16, Break); 9] = [
        (
            "no_metadata",
            502,
            Box::new(move |i| i.fault(status("", 404))),
        ),
        (
            "issuer_unreachable",
            503,
            Box::new(move |i| i.fault(status("", 503))),
        ),
        (
            "registration_refused",
            502,
            Box::new(move |i| i.fault(status("/register", 403))),
        ),
        (
            "registration_refused",
            502,
            Box::new(|i| {
                i.fault(Fault {
                    status: Some(400),
                    body: json!({"error": "invalid_redirect_uri"}).to_string(),
                    ..Fault::always("/register")
                })
            }),
        ),
        (
            "no_client",
            502,
            Box::new(|i| i.configure(|s| s.dynamic_registration = false)),
        ),
        (
            "no_s256",
            502,
            Box::new(|i| i.configure(|s| s.s256 = false)),
        ),
        (
            "resource_mismatch",
            502,
            Box::new(|i| {
                i.configure(|s| s.resource = Some("https://other.example/mcp".to_owned()));
            }),
        ),
        (
            "issuer_mismatch",
            502,
            Box::new(move |i| {
                i.fault(Fault {
                    status: Some(200),
                    headers: vec![("content-type", "application/json".to_owned())],
                    body: metadata(i).to_string(),
                    ..Fault::always("/.well-known/oauth-authorization-server")
                })
            }),
        ),
        (
            "metadata_unusable",
            502,
            Box::new(|i| {
                i.fault(Fault {
                    status: Some(200),
                    headers: vec![("content-type", "application/json".to_owned())],
                    body: "{}".to_owned(),
                    ..Fault::always("/.well-known/oauth-authorization-server")
                })
            }),
        ),
    ];
    let mut sentences = BTreeSet::new();
    for (reason, status, spoil) in cases {
        let stage = Stage::set().await;
        spoil(&stage.issuer);
        let mut browser = Browser::new();
        let endpoint = stage.endpoint("ada").await;
        let page = browser.start(&endpoint).await;
        assert_eq!(page.status, status, "{reason}: {page:?}");
        let (_, sentence) = page.text.split_once("wiki cannot be connected: ").unwrap();
        sentences.insert(sentence.split("</p>").next().unwrap().to_owned());
        says_why(&stage, &page, reason).await;
        assert_eq!(browser.open(&endpoint).await.status, 400, "it is over");
    }
    assert_eq!(sentences.len(), 8, "each in its own words");
}

#[tokio::test]
async fn a_consent_that_ends_without_a_grant_says_why() {
    let token = |status, body: &str| Fault {
        status: Some(status),
        body: body.to_owned(),
        ..Fault::once("/token")
    };
    type Break = Box<dyn Fn(&Issuer)>;
    let cases: [(&str, Break); 4] = [
        (
            "wrong_issuer",
            Box::new(|i| i.configure(|s| s.wrong_iss = Some("https://evil.example".to_owned()))),
        ),
        (
            "code_refused",
            Box::new(move |i| i.fault(token(400, r#"{"error":"invalid_grant"}"#))),
        ),
        (
            "issuer_unreachable",
            Box::new(move |i| i.fault(token(503, ""))),
        ),
        (
            "token_unusable",
            Box::new(move |i| i.fault(token(200, "<html>"))),
        ),
    ];
    for (reason, spoil) in cases {
        let stage = Stage::set().await;
        spoil(&stage.issuer);
        let page = stage.connect("ada").await;
        assert!(page.text.contains("did not succeed: "), "{page:?}");
        says_why(&stage, &page, reason).await;
    }
    for (reason, change) in [
        ("issuer_error", "error=temporarily_unavailable"),
        ("no_code", ""),
        ("access_denied", "error=access_denied"),
    ] {
        let stage = Stage::set().await;
        let mut browser = Browser::new();
        let at_issuer = browser.begin(&stage.endpoint("ada").await).await;
        let back = stage.issuer.approve(&at_issuer).await;
        let mut url = url::Url::parse(&back).unwrap();
        let kept: Vec<_> = url
            .query_pairs()
            .into_owned()
            .filter(|(n, _)| n != "code")
            .collect();
        url.query_pairs_mut().clear().extend_pairs(kept);
        let page = browser.open(&format!("{url}&{change}")).await;
        says_why(&stage, &page, reason).await;
    }
}

#[tokio::test]
async fn managers_of_the_other_contracts_see_why_a_consent_failed() {
    let issuer = Issuer::start().await;
    let mail = json!({"mail": {"display_name": "Mail", "mcp_url": issuer.mcp_url(), "oauth": {}}});
    let hawser = Hawser::offering(&mail, |config| {
        config.ui_origin = Some("https://ui.example".to_owned());
    })
    .await;
    let all = ["create", "read", "update", "delete", "invoke"].map(|p| format!("mcp-servers:{p}"));
    let ada = hawser.caller(
        "acme",
        "ada",
        json!({"scope": "mgmt.read mgmt.write", "permissions": all}),
    );
    let body = json!({"mcp_server": "mail", "access_type": "write", "auth_method": "oauth"});
    let made = ada.post(KAMBRIUM, body).await.json()["data"].clone();
    issuer.configure(|s| s.s256 = false);
    let page = Browser::new()
        .start(made["authorization_url"].as_str().unwrap())
        .await;
    assert_eq!(page.status, 502, "{page:?}");
    // Whoever opened the popup hears of it.
    for text in ["postMessage(", "\"oauth_error\"", "\"server_error\""] {
        assert!(page.text.contains(text), "{}", page.text);
    }
    let shown = ada.get(&format!("{KAMBRIUM}/{}", made["id"])).await.json()["data"].clone();
    assert_eq!(shown["oauth_status"], "failed");
    let failed = &shown["last_failed_consent"];
    assert_eq!(
        (&failed["reason"], &failed["reference"]),
        (&json!("no_s256"), &json!(reference(&page)))
    );
    let servers = format!("{LANGSMITH}/mcp-servers");
    let listed = ada.get(&servers).await.json()[0].clone();
    assert_eq!(&listed["last_failed_consent"], failed);
    let reader = hawser.caller("acme", "bob", json!({"permissions": ["mcp-servers:read"]}));
    assert_eq!(
        reader.get(&servers).await.json()[0].get("last_failed_consent"),
        None
    );
}
