//! Whoever wants a login that is another's: by a code that is put into another's flow, by the answer of another provider, by a
//! stolen refresh token, or by addresses that something fetches before the person does.

use crate::application_sign_in::{Stage, decide, taken_back};
use crate::connecting::tool_call;
use crate::harness::{Browser, Caller, Hawser, Page};
use crate::issuer::Issuer;
use crate::logins::*;
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use url::Url;

/// The address with one parameter of another's.
fn with(address: &str, name: &str, other: &str) -> String {
    let value = |url: &Url| {
        let mut pairs = url.query_pairs();
        pairs.find(|(n, _)| n == name).map(|(_, v)| v.into_owned())
    };
    let theirs = value(&Url::parse(other).unwrap()).unwrap();
    let url = Url::parse(address).unwrap();
    let mut changed = url.clone();
    changed.query_pairs_mut().clear();
    for (n, v) in url.query_pairs() {
        let v = if n == name {
            theirs.clone()
        } else {
            v.into_owned()
        };
        changed.query_pairs_mut().append_pair(&n, &v);
    }
    changed.into()
}

#[tokio::test]
async fn a_code_of_the_provider_that_is_put_into_anothers_sign_in_lets_nobody_in() {
    let stage = Stage::set().await;
    let id = stage.application(REDIRECT).await;
    let address = stage.address(&id, json!({}));
    let (mut ada, mut eve) = (Browser::new(), Browser::new());
    let hers = ada.open(&address).await.location.unwrap();
    let hers = stage.provider.approve(&hers, json!({}));
    let eves = eve.open(&address).await.location.unwrap();
    let eves = stage.provider.approve(&eves, json!({"sub": "eve"}));
    let before = stage.hawser.ground().items().await;
    // Ada's browser with Eve's code would go on as Eve, Eve's with Ada's code as Ada.
    for (browser, own, other) in [(&mut ada, &hers, &eves), (&mut eve, &eves, &hers)] {
        let page = browser.open(&with(own, "code", other)).await;
        assert_eq!((page.status, &page.location), (502, &None), "{page:?}");
        assert!(!page.text.contains("Let Editor in?"), "{page:?}");
    }
    // The whole of another's answer: signing somebody in without their knowledge.
    let page = ada.open(&eves).await;
    assert_eq!((page.status, &page.location), (400, &None), "{page:?}");
    assert_eq!(stage.hawser.ground().items().await, before);
}

#[tokio::test]
async fn a_code_that_is_put_into_another_applications_flow_is_worth_nothing() {
    let stage = Stage::set().await;
    let id = stage.application(REDIRECT).await;
    let challenge =
        |verifier: &str| BASE64URL_NOPAD.encode(digest(&SHA256, verifier.as_bytes()).as_ref());
    let code_of = async |sub: &str, verifier: &str| {
        let mut browser = Browser::new();
        let address = stage.address(&id, json!({"code_challenge": challenge(verifier)}));
        let (at, page) = stage
            .sign_in(&mut browser, &address, json!({"sub": sub}))
            .await;
        taken_back(&decide(&mut browser, &at, &page, "allow").await)["code"].clone()
    };
    let (hers, eves) = ("a".repeat(43), "e".repeat(43));
    let (of_ada, of_eve) = (code_of("ada", &hers).await, code_of("eve", &eves).await);
    let other = stage.application(REDIRECT).await;
    let present = async |client: &str, code: &str, verifier: Option<&str>| {
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("client_id", client),
            ("code", code),
        ];
        form.extend(verifier.map(|verifier| ("code_verifier", verifier)));
        ask(&stage.hawser, &form).await
    };
    for (client, code, verifier) in [
        // In another flow of the same application, as the application presents it there.
        (&id, &of_eve, Some(hers.as_str())),
        (&id, &of_ada, Some(&eves)),
        // By another application, and without what only the right one knows.
        (&other, &of_ada, Some(&hers)),
        (&id, &of_ada, None),
        (&id, &of_ada, Some(&challenge(&hers))),
    ] {
        let refused = present(client, code, verifier).await;
        is_refused(&refused, 400, "invalid_grant");
    }
    // All of that has neither used the codes nor ended a login.
    let tokens = Tokens::of(&present(&id, &of_ada, Some(&hers)).await);
    Tokens::of(&present(&id, &of_eve, Some(&eves)).await);
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    let called = tokens.caller(&stage.hawser).post("/mcp/wiki", ping).await;
    assert_ne!(called.status, 401, "{called:?}");
}

#[tokio::test]
async fn an_answer_that_another_issuer_names_itself_in_is_not_taken_to_the_provider() {
    let stage = Stage::set().await;
    stage.provider.names_itself();
    let id = stage.application(REDIRECT).await;
    let address = stage.address(&id, json!({}));
    let mut browser = Browser::new();
    let at = browser.open(&address).await.location.unwrap();
    let back = stage.provider.approve(&at, json!({}));
    let named = |iss: &str| {
        let mut url = Url::parse(&back).unwrap();
        url.query_pairs_mut().append_pair("iss", iss);
        String::from(url)
    };
    let issuer = &stage.provider.issuer;
    let refusal = format!("{}&error=access_denied", back.replace("code=", "x="));
    for wrong in [
        // It says that its answers name it, so that one that does not is none of its.
        back.clone(),
        named("https://evil.example"),
        named(&format!("{issuer}/")),
        named(""),
        // Neither is a refusal.
        refusal,
    ] {
        let page = browser.open(&wrong).await;
        assert_eq!(
            (page.status, &page.location),
            (502, &None),
            "{wrong}: {page:?}"
        );
    }
    assert_eq!(
        stage.provider.asked().len(),
        0,
        "no code was shown to anybody"
    );
    let page = browser.open(&named(issuer)).await;
    assert_eq!(page.status, 200, "{page:?}");
}

/// Somebody has a refresh token from before, and its application goes on at the same moment.
#[tokio::test]
async fn an_old_refresh_token_that_two_use_at_once_ends_the_login_once() {
    let hawser = Hawser::start_by_hand().await;
    for round in 1..=20 {
        let first = sign_in(&hawser, "user:ada").await;
        let second = Tokens::of(&refresh(&hawser, &first.refresh).await);
        let third = Tokens::of(&refresh(&hawser, &second.refresh).await);
        let (one, two, own) = tokio::join!(
            refresh(&hawser, &first.refresh),
            refresh(&hawser, &first.refresh),
            refresh(&hawser, &third.refresh),
        );
        for thief in [&one, &two] {
            is_refused(thief, 400, "invalid_grant");
        }
        let mut all = vec![first, second, third];
        if own.status == 200 {
            all.push(Tokens::of(&own));
        }
        for tokens in &all {
            assert!(!works(&hawser, tokens).await, "{round}");
            is_refused(
                &refresh(&hawser, &tokens.refresh).await,
                400,
                "invalid_grant",
            );
        }
        let ended = ends(&hawser).await;
        let causes: BTreeSet<_> = ended.iter().map(|one| one["cause"].to_string()).collect();
        assert_eq!((ended.len(), causes.len()), (round, 1), "{ended:?}");
        assert_eq!(ended[0]["cause"], "refresh-token-reused");
    }
    hawser.run_workers().await;
}

/// Fetches an address as previews, prefetches and scanners do. None of these has the cookies of the browser.
async fn is_fetched(url: &str) -> Vec<u16> {
    let http = reqwest::Client::builder().no_proxy();
    let http = http
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let mut statuses = Vec::new();
    for request in [
        http.get(url).header("sec-purpose", "prefetch;prerender"),
        http.get(url)
            .header("user-agent", "Slackbot-LinkExpanding 1.0"),
        http.get(url).header("sec-fetch-site", "cross-site"),
        http.head(url),
        http.head(url).header("user-agent", "SafeLinks"),
    ] {
        let answer = request.send().await.unwrap();
        let framed = answer.headers().get("content-security-policy");
        let framed = framed.map(|policy| policy.to_str().unwrap().to_owned());
        let status = answer.status().as_u16();
        assert!(status < 500, "{url}: {answer:?}");
        let is_page = answer
            .headers()
            .get("content-type")
            .is_some_and(|kind| kind == "text/html; charset=utf-8");
        if is_page {
            assert!(
                framed
                    .unwrap_or_default()
                    .contains("frame-ancestors 'none'"),
                "{url}"
            );
        }
        statuses.push(status);
    }
    statuses
}

/// The first address of ours in a text.
#[track_caller]
fn address_in(text: &str) -> String {
    let at = text
        .find("http://127.0.0.1")
        .unwrap_or_else(|| panic!("{text}"));
    let end = text[at..].find(|c: char| c.is_whitespace() || "\"\\".contains(c));
    text[at..]
        .split_at(end.unwrap_or(text.len() - at))
        .0
        .to_owned()
}

/// Every address at which a consent of ada's starts: one of each contract, and the one that a call tells of.
async fn addresses(ada: &Caller, issuer: &Issuer) -> Vec<(&'static str, String)> {
    let manifest = json!({"type": "mcp-server/remote", "name": "wiki", "description": "d", "url": issuer.mcp_url(),
                          "auth_data": {"type": "oauth2"}});
    let made = ada
        .put("/api/svc/v1/mcp", json!({"manifest": manifest}))
        .await
        .json();
    let id = made["data"]["id"].as_str().unwrap().to_owned();
    let begun = ada
        .get(&format!("/api/svc/v1/mcp/{id}/authorize"))
        .await
        .json();
    let by_truefoundry = begun["authorization_endpoint"].as_str().unwrap().to_owned();

    let servers = "/v1/deepagents/mcp-servers";
    let body = json!({"name": "search", "url": issuer.mcp_url(), "auth_type": "oauth"});
    let made = ada.post(servers, body).await.json();
    let path = format!("{servers}/{}/oauth-provider", made["id"].as_str().unwrap());
    let provider = ada.post(&path, json!({})).await.json()["oauth_provider_id"].clone();
    let body = json!({"provider_id": provider, "scopes": [], "strategy": "CREATE"});
    let begun = ada.post("/v1/deepagents/auth-sessions", body).await.json();
    let by_langsmith = begun["verification_url"].as_str().unwrap().to_owned();

    let body = json!({"mcp_server": "mail", "access_type": "write", "auth_method": "oauth"});
    let made = ada.post("/api/v1/mcp-servers", body).await.json();
    let by_kambrium = made["data"]["authorization_url"]
        .as_str()
        .unwrap()
        .to_owned();

    let manifest = json!({"type": "mcp-server/remote", "name": "notes", "description": "d", "url": issuer.mcp_url(),
                          "auth_data": {"type": "oauth2"}});
    ada.put("/api/svc/v1/mcp", json!({"manifest": manifest}))
        .await;
    let told = ada.post("/mcp/notes", tool_call("search")).await;
    vec![
        ("truefoundry", by_truefoundry),
        ("langsmith", by_langsmith),
        ("kambrium", by_kambrium),
        ("call", address_in(&told.text)),
    ]
}

#[tokio::test]
async fn every_address_of_a_consent_still_serves_after_it_was_fetched() {
    let issuer = Issuer::start().await;
    let mail = json!({"mail": {"display_name": "Mail", "mcp_url": issuer.mcp_url(), "oauth": {}}});
    let hawser = Hawser::with_integrations(&mail).await;
    let permissions = ["create", "read", "update", "invoke"].map(|p| format!("mcp-servers:{p}"));
    let claims =
        json!({"scope": "mgmt.read mgmt.write", "roles": ["admin"], "permissions": permissions});
    let ada = hawser.caller("acme", "ada", claims);
    let connected = |page: &Page| page.text.contains("<h1>Connected</h1>");
    for (contract, start) in addresses(&ada, &issuer).await {
        let asked = issuer.log().len();
        let before = hawser.ground().items().await;
        assert_eq!(is_fetched(&start).await, [200; 5], "{contract}");
        assert_eq!(hawser.ground().items().await, before, "{contract}");
        assert_eq!(issuer.log().len(), asked, "{contract}: nobody was asked");
        let mut browser = Browser::new();
        let at_issuer = browser.begin(&start).await;
        // What the issuer answers, on its way through the browser.
        let back = issuer.approve(&at_issuer).await;
        let asked = issuer.count("POST", "/token");
        let before = hawser.ground().items().await;
        for status in is_fetched(&back).await {
            assert!([400, 405].contains(&status), "{contract}: {status}");
        }
        assert_eq!(hawser.ground().items().await, before, "{contract}");
        assert_eq!(
            issuer.count("POST", "/token"),
            asked,
            "{contract}: the code was not used"
        );
        let page = browser.open(&back).await;
        assert!(connected(&page), "{contract}: {page:?}");
    }
    hawser.run_workers().await;
}

#[tokio::test]
async fn every_address_of_a_sign_in_still_serves_after_it_was_fetched() {
    let stage = Stage::set().await;
    let id = stage.application(REDIRECT).await;
    let address = stage.address(&id, json!({}));
    let mut browser = Browser::new();
    let before = stage.hawser.ground().items().await;
    for status in is_fetched(&address).await {
        assert!([303, 405].contains(&status), "{status}");
    }
    let at = browser.open(&address).await.location.unwrap();
    let back = stage.provider.approve(&at, json!({}));
    for status in is_fetched(&back).await {
        assert!([400, 405].contains(&status), "{status}");
    }
    // The page itself, reloaded by somebody else.
    let decided = format!("{}/oauth/authorize", stage.hawser.url);
    for status in is_fetched(&decided).await {
        assert!([400, 405].contains(&status), "{status}");
    }
    assert_eq!(
        stage.provider.asked(),
        Vec::<std::collections::HashMap<_, _>>::new()
    );
    assert_eq!(stage.hawser.ground().items().await, before);
    let page = browser.open(&back).await;
    assert_eq!(page.status, 200, "{page:?}");
    let sent = taken_back(&decide(&mut browser, &back, &page, "allow").await);
    assert!(sent.contains_key("code"), "{sent:?}");
    assert_ne!(Value::from(sent["iss"].clone()), Value::Null);
}
