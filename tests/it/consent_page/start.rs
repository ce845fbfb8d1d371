//! The button (hawser-start-consent) serves once and in one browser.

use super::{KAMBRIUM, LANGSMITH, MCP, Stage, address, put};
use crate::harness::{Browser, Form, Hawser, Page, posted};
use crate::issuer::Issuer;
use serde_json::json;

#[tokio::test]
async fn the_button_leads_to_the_sign_in_that_the_page_named() {
    let (stage, other) = (Stage::set().await, Issuer::start().await);
    stage.connect("ada").await;
    let endpoint = stage.endpoint("bob").await;
    let mut browser = Browser::new();
    let page = browser.open(&endpoint).await;
    let named = |page: &Page, issuer: &Issuer| {
        let host = issuer.url.strip_prefix("http://").unwrap();
        page.text
            .contains(&format!("<dt>Where you sign in</dt><dd>{host}</dd>"))
    };
    assert!(named(&page, &stage.issuer), "{page:?}");
    // Meanwhile the server says that somebody else signs its users in.
    let document =
        json!({"resource": stage.issuer.mcp_url(), "authorization_servers": [other.url]});
    let at = "/.well-known/oauth-protected-resource/mcp".to_owned();
    stage
        .issuer
        .configure(|settings| drop(settings.documents.insert(at.clone(), Some(document))));
    let page = browser.press(&endpoint, &page).await;
    assert_eq!((page.status, &page.location), (200, &None), "{page:?}");
    assert!(named(&page, &other), "{page:?}");
    // Who goes on there gets there. No page serves for another sign-in than it named.
    let mut forged = Form::of(&page);
    for (name, value) in &mut forged.fields {
        if name == "sign_in" {
            *value = stage.issuer.url.clone();
        }
    }
    let refused = browser.submit(&endpoint, &forged).await;
    assert_eq!(refused.status, 403, "{refused:?}");
    let page = browser.press(&endpoint, &page).await;
    assert_eq!(page.status, 303, "{page:?}");
    assert!(page.location.unwrap().starts_with(&other.url));
    // And back again, as often as the server likes.
    stage
        .issuer
        .configure(|settings| drop(settings.documents.remove(&at)));
    let endpoint = stage.endpoint("eve").await;
    let page = browser.open(&endpoint).await;
    assert!(named(&page, &other), "{page:?}");
    let page = browser.press(&endpoint, &page).await;
    assert!(named(&page, &stage.issuer), "{page:?}");
    let page = browser.press(&endpoint, &page).await;
    assert!(page.location.unwrap().starts_with(&stage.issuer.url));
}

#[tokio::test]
async fn all_contracts_start_at_the_page_and_bind_the_browser() {
    let issuer = Issuer::start().await;
    let mail = json!({"mail": {"display_name": "Mail & <Post>", "mcp_url": issuer.mcp_url(), "oauth": {}}});
    let hawser = Hawser::with_integrations(&mail).await;
    let permissions =
        ["create", "read", "update", "delete", "invoke"].map(|p| format!("mcp-servers:{p}"));
    let claims =
        json!({"scope": "mgmt.read mgmt.write", "roles": ["admin"], "permissions": permissions});
    let ada = hawser.caller("acme", "ada", claims);

    let id = put(&ada, "wiki", &issuer.mcp_url(), json!({"type": "oauth2"})).await;
    let by_truefoundry = address(&ada.get(&format!("{MCP}/{id}/authorize")).await);
    let body = json!({"name": "search", "url": issuer.mcp_url(), "auth_type": "oauth"});
    let made = ada
        .post(&format!("{LANGSMITH}/mcp-servers"), body)
        .await
        .json();
    let path = format!(
        "{LANGSMITH}/mcp-servers/{}/oauth-provider",
        made["id"].as_str().unwrap()
    );
    let provider = ada.post(&path, json!({})).await.json()["oauth_provider_id"].clone();
    let ask = json!({"provider_id": provider, "scopes": ["mcp:read"], "strategy": "CREATE"});
    let sessions = format!("{LANGSMITH}/auth-sessions");
    let begun = ada.post(&sessions, ask.clone()).await.json();
    let by_langsmith = begun["verification_url"].as_str().unwrap().to_owned();
    let again = ada.post(&sessions, ask.clone()).await.json();
    assert_eq!(again, begun, "one consent is open at a time");
    let mut other = ask;
    other["scopes"] = json!([]);
    assert_ne!(ada.post(&sessions, other).await.json()["id"], begun["id"]);
    let body = json!({"mcp_server": "mail", "access_type": "write", "auth_method": "oauth"});
    let made = ada.post(KAMBRIUM, body).await.json();
    let by_kambrium = made["data"]["authorization_url"]
        .as_str()
        .unwrap()
        .to_owned();

    for (endpoint, name) in [
        (by_truefoundry, "wiki"),
        (by_langsmith, "search"),
        (by_kambrium, "Mail &amp; &lt;Post&gt;"),
    ] {
        assert!(endpoint.starts_with(&format!("{}/oauth/start?session=", hawser.url)));
        let mut browser = Browser::new();
        let page = browser.open(&endpoint).await;
        assert!(
            page.text.contains(&format!("<h1>Connect {name}</h1>")),
            "{}",
            page.text
        );
        assert!(page.text.contains("<dd>ada</dd>"), "{}", page.text);
        let at_issuer = browser.press(&endpoint, &page).await.location.unwrap();
        let back = issuer.approve(&at_issuer).await;
        let stranger = Browser::new().open(&back).await;
        assert_eq!(stranger.status, 400, "{stranger:?}");
        let page = browser.open(&back).await;
        assert!(page.text.contains("<h1>Connected</h1>"), "{page:?}");
    }
    hawser.run_workers().await;
}

#[tokio::test]
async fn a_forged_press_does_nothing() {
    let stage = Stage::set().await;
    let endpoint = stage.endpoint("ada").await;
    let mut browser = Browser::new();
    let page = browser.open(&endpoint).await;
    let form = Form::of(&page);
    let mut other = Browser::new();
    let others = Form::of(&other.open(&endpoint).await);
    let before = stage.hawser.ground().items().await;
    let start = format!("{}/oauth/start", stage.hawser.url);
    let cookie = browser.cookie();
    let http = reqwest::Client::builder().no_proxy();
    let http = http
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let field = |form: &Form, name: &str| {
        let found = form.fields.iter().find(|(n, _)| n == name);
        found.unwrap().1.clone()
    };
    let (ticket, token) = (field(&form, "session"), field(&form, "token"));
    let foreign = field(&others, "token");
    let foreign_cookie = other.cookie();
    for (what, cookie, token, headers) in [
        ("no cookie", "", token.as_str(), vec![]),
        (
            "another browser's cookie",
            foreign_cookie.as_str(),
            &token,
            vec![],
        ),
        ("another browser's token", &cookie, &foreign, vec![]),
        ("no token", &cookie, "", vec![]),
        ("a token made up", &cookie, "0", vec![]),
        (
            "another site",
            &cookie,
            &token,
            vec![("origin", "https://evil.example")],
        ),
        ("no site", &cookie, &token, vec![("origin", "null")]),
        (
            "another port",
            &cookie,
            &token,
            vec![("origin", "http://127.0.0.1:1")],
        ),
        (
            "by its own word",
            &cookie,
            &token,
            vec![("sec-fetch-site", "cross-site")],
        ),
        (
            "a sibling",
            &cookie,
            &token,
            vec![("sec-fetch-site", "same-site")],
        ),
    ] {
        let mut request = http.post(&start).header("cookie", cookie);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let sent = posted(request, &[("session", ticket.as_str()), ("token", token)]);
        let answer = sent.send().await.unwrap();
        assert_eq!(answer.status(), 403, "{what}");
        assert_eq!(answer.headers().get("set-cookie"), None, "{what}");
    }
    // And what is not to be read at all.
    for fields in [
        vec![("token", token.as_str())],
        vec![("session", "x"), ("token", &token)],
        vec![
            ("session", ticket.as_str()),
            ("session", &ticket),
            ("token", &token),
        ],
    ] {
        let sent = posted(http.post(&start).header("cookie", &cookie), &fields);
        assert_eq!(sent.send().await.unwrap().status(), 400, "{fields:?}");
    }
    assert_eq!(stage.hawser.ground().items().await, before);
    assert_eq!(stage.issuer.log().len(), 0);
    assert_eq!(browser.press(&endpoint, &page).await.status, 303);
}

#[tokio::test]
async fn two_tabs_of_one_browser_may_look_and_one_of_them_starts() {
    let stage = Stage::set().await;
    let endpoint = stage.endpoint("ada").await;
    let mut browser = Browser::new();
    let (one, two) = (browser.open(&endpoint).await, browser.open(&endpoint).await);
    assert_eq!(browser.cookies.len(), 1);
    let started = browser.press(&endpoint, &one).await;
    assert_eq!(started.status, 303);
    let late = browser.press(&endpoint, &two).await;
    assert_eq!((late.status, late.location), (400, None));
    let back = stage.issuer.approve(&started.location.unwrap()).await;
    assert!(
        browser
            .open(&back)
            .await
            .text
            .contains("<h1>Connected</h1>")
    );

    // Two at once: one of them goes on, and nobody is connected twice.
    let endpoint = stage.endpoint("bob").await;
    let page = browser.open(&endpoint).await;
    let (mut a, mut b) = (browser.clone(), browser.clone());
    let (a, b) = tokio::join!(a.press(&endpoint, &page), b.press(&endpoint, &page));
    let mut statuses = [a.status, b.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [303, 400]);
}
