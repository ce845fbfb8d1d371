//! Showing the page (hawser-show-consent) changes nothing.

use super::{KAMBRIUM, MCP, Stage, address, put};
use crate::harness::{Browser, Hawser};
use serde_json::json;

#[tokio::test]
async fn looking_changes_nothing_and_the_address_still_serves() {
    let stage = Stage::set().await;
    let endpoint = stage.endpoint("ada").await;
    let path = endpoint.strip_prefix(&stage.hawser.url).unwrap();
    let before = stage.hawser.ground().items().await;
    let anyone = stage.hawser.anonymous();
    for (method, headers) in [
        ("HEAD", vec![]),
        (
            "GET",
            vec![
                ("sec-purpose", "prefetch;prerender"),
                ("purpose", "prefetch"),
            ],
        ),
        ("GET", vec![("user-agent", "Slackbot-LinkExpanding 1.0")]),
        ("GET", vec![("sec-fetch-site", "cross-site")]),
        ("GET", vec![]),
        ("HEAD", vec![("user-agent", "SafeLinks")]),
    ] {
        let answer = anyone.send(method, path, &headers, Vec::new()).await;
        assert_eq!(answer.status, 200, "{method} {headers:?}: {answer:?}");
        assert_eq!(answer.text.is_empty(), method == "HEAD");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("script-src"), "{policy}");
        assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
        assert_eq!(answer.header("x-frame-options").as_deref(), Some("DENY"));
    }
    assert_eq!(stage.hawser.ground().items().await, before);
    assert_eq!(stage.issuer.log().len(), 0, "nobody was asked");

    let mut browser = Browser::new();
    browser.open(&endpoint).await;
    // A reload, then the button.
    let at_issuer = browser.begin(&endpoint).await;
    let page = browser.open(&stage.issuer.approve(&at_issuer).await).await;
    assert!(page.text.contains("wiki is connected for ada."), "{page:?}");
}

#[tokio::test]
async fn a_page_names_subject_server_hosts_and_scopes() {
    let stage = Stage::set().await;
    let page = Browser::new().open(&stage.endpoint("ada").await).await;
    let host = stage.issuer.url.strip_prefix("http://").unwrap();
    for text in [
        "Connect wiki",
        "<dd>ada</dd>",
        &format!("<dd>wiki, at {host}</dd>"),
        &format!("<dd>Wherever {host} says"),
        "What the server asks for by itself",
    ] {
        assert!(page.text.contains(text), "{text}: {}", page.text);
    }
    // Once somebody has been there, it is known where one signs in.
    stage.connect("ada").await;
    let page = Browser::new().open(&stage.endpoint("bob").await).await;
    assert!(page.text.contains("<dd>bob</dd>"), "{}", page.text);
    assert!(!page.text.contains("Wherever"), "{}", page.text);
    assert!(!page.text.contains("not part of"), "{}", page.text);

    // Another host than the server's, and one that has it in its name only.
    for (url, at) in [
        ("https://login.example/authorize", "login.example"),
        (
            "https://mcp.example.evil.example/a",
            "mcp.example.evil.example",
        ),
        ("https://auth.mcp.example/a", ""),
    ] {
        let oauth = json!({"type": "oauth2", "authorization_url": url, "token_url": "https://login.example/token",
                           "client_id": "c", "scopes": ["read", "write"]});
        let name = format!("server-{}", at.len());
        let id = put(&stage.admin, &name, "https://mcp.example/mcp", oauth).await;
        let asked = stage
            .user("ada")
            .get(&format!("{MCP}/{id}/authorize"))
            .await;
        let page = Browser::new().open(&address(&asked)).await;
        assert!(page.text.contains("<dd>read, write</dd>"), "{}", page.text);
        let warned = page.text.contains(&format!(
            "You will sign in at {at}, which is not part of mcp.example."
        ));
        assert_eq!(warned, !at.is_empty(), "{}", page.text);
    }
}

#[tokio::test]
async fn what_is_used_over_or_void_shows_no_button() {
    let stage = Stage::by_hand().await;
    // Used.
    let used = stage.endpoint("ada").await;
    let mut browser = Browser::new();
    browser.begin(&used).await;
    // Over, after the page was shown and before.
    let over = stage.endpoint("eve").await;
    let shown = browser.open(&over).await;
    stage.hawser.pass(600);
    assert_eq!(browser.press(&over, &shown).await.status, 400);
    // Ended by a disconnect: the subject had an override.
    let void = stage.endpoint("bob").await;
    let shown_void = browser.open(&void).await;
    assert_eq!(
        stage.admin.install(&stage.id, "user", "bob").await.status,
        200
    );
    let body = json!({"authSource": "auth-override", "subjectId": "bob", "subjectType": "user"});
    let ended = stage
        .admin
        .delete_with(&format!("{MCP}/{}/auth", stage.id), body)
        .await;
    assert_eq!(ended.status, 200);
    assert_eq!(browser.press(&void, &shown_void).await.status, 400);
    // Changed.
    let moved = stage.endpoint("dan").await;
    stage
        .admin
        .delete(&format!("{MCP}/{}/auth/tokens", stage.id))
        .await
        .is(200, json!({"deletedCount": 0}));
    for address in [used, over, void, moved] {
        let page = browser.open(&address).await;
        assert_eq!(page.status, 400, "{page:?}");
        assert!(!page.text.contains("<form"), "{page:?}");
    }
    assert_eq!(stage.issuer.count("GET", "/authorize"), 0);
    // Who asks again gets one that serves.
    for user in ["ada", "bob", "eve", "dan"] {
        let page = stage.connect(user).await;
        assert!(page.text.contains("<h1>Connected</h1>"), "{page:?}");
    }
}

#[tokio::test]
async fn nothing_that_is_shown_can_run_or_hide() {
    let stage = Stage::set().await;
    for subject in [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "ada\u{202e}nimda",
        "a\u{200b}da' onclick='x",
    ] {
        let page = Browser::new().open(&stage.endpoint(subject).await).await;
        assert_eq!(page.status, 200);
        for bad in ["<script", "<img", "\u{202e}", "\u{200b}", "' onclick"] {
            assert!(!page.text.contains(bad), "{subject}: {}", page.text);
        }
    }
    let page = Browser::new()
        .open(&stage.endpoint("x\u{202e}y").await)
        .await;
    assert!(page.text.contains("x\\u{202E}y"), "{}", page.text);
    // The ticket of an address is echoed too.
    let bad = format!(
        "{}/oauth/start?session=%22%3E%3Cscript%3E",
        stage.hawser.url
    );
    let page = Browser::new().open(&bad).await;
    assert_eq!(page.status, 400);
    assert!(!page.text.contains("<script"), "{page:?}");
    // And what a server and an integration are called.
    let issuer = &stage.issuer;
    issuer.configure(|settings| settings.scopes = vec!["a<b>".to_owned()]);
    let bad = "</h1><script>alert(1)</script>\u{202e}";
    let mail = json!({"mail": {"display_name": bad, "mcp_url": issuer.mcp_url(), "oauth": {"scopes": ["a<b>"]}}});
    let hawser = Hawser::with_integrations(&mail).await;
    let ada = hawser.caller("acme", "ada", json!({"scope": "mgmt.read mgmt.write"}));
    let body = json!({"mcp_server": "mail", "access_type": "write", "auth_method": "oauth"});
    let made = ada.post(KAMBRIUM, body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let page = Browser::new()
        .open(made.json()["data"]["authorization_url"].as_str().unwrap())
        .await;
    assert!(
        !page.text.contains("<script") && !page.text.contains('\u{202e}'),
        "{}",
        page.text
    );
}
