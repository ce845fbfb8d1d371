//! Whoever wants to be let in as another: by a redirect URI that is not the application's, by the page of another browser, by a
//! provider's answer that belongs elsewhere, by a metadata document that lies.

use crate::application_sign_in::{Stage, decide, taken_back};
use crate::harness::{Browser, Form, Page, posted};
use crate::identity_provider::Provider;
use crate::logins::REDIRECT;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread;

/// Nothing was stored, and the browser is sent nowhere.
#[track_caller]
fn stays(page: &Page) {
    assert_eq!((page.status, &page.location), (400, &None), "{page:?}");
}

#[tokio::test]
async fn a_browser_is_sent_where_the_application_has_said_and_nowhere_else() {
    let stage = Stage::set().await;
    let secure = stage.application("https://editor.example/cb").await;
    let local = stage.application("http://127.0.0.1:1/cb").await;
    for (id, uri) in [
        (&secure, "https://editor.example/cb/"),
        (&secure, "https://editor.example/cb.evil"),
        (&secure, "https://editor.example/cb/../evil"),
        (&secure, "https://editor.example/CB"),
        (&secure, "https://EDITOR.example/cb"),
        (&secure, "https://editor.example:8443/cb"),
        (&secure, "https://editor.example.evil/cb"),
        (&secure, "https://editor.example@evil.example/cb"),
        (&secure, "https://evil.example/?https://editor.example/cb"),
        (&secure, "http://editor.example/cb"),
        (&secure, "https://editor.example/cb#x"),
        (&secure, " https://editor.example/cb"),
        (&secure, "javascript:alert(1)//https://editor.example/cb"),
        (&secure, "http://127.0.0.1:1/cb"),
        (&local, "http://127.0.0.1:1@evil.example/cb"),
        (&local, "http://127.0.0.1.evil.example:1/cb"),
        (&local, "http://127.0.0.1:99999/cb"),
        (&local, "http://localhost:1/cb"),
        (&local, "https://127.0.0.1:1/cb"),
        (&local, "http://127.0.0.1:1/cb?x=1"),
    ] {
        let address = stage.address(id, json!({"redirect_uri": uri}));
        stays(&Browser::new().open(&address).await);
    }
    stays(
        &Browser::new()
            .open(&stage.address(&local, json!({"redirect_uri": null})))
            .await,
    );
    // Twice is not once.
    let address = stage.address(&local, json!({"redirect_uri": "http://127.0.0.1:1/cb"}));
    let twice = format!("{address}&redirect_uri=https%3A%2F%2Fevil.example");
    stays(&Browser::new().open(&twice).await);
    stays(
        &Browser::new()
            .open(&format!("{address}&client_id={secure}"))
            .await,
    );
    // An id that was tampered with is nobody's.
    for id in [
        &format!("{local}x"),
        &local.replace("hwa.1.", "hwa.2."),
        "hwa.1..",
        "editor",
        "",
    ] {
        let address = stage.address(id, json!({"redirect_uri": "http://127.0.0.1:1/cb"}));
        stays(&Browser::new().open(&address).await);
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_request_goes_back_to_its_application() {
    let stage = Stage::set().await;
    let id = stage.application(REDIRECT).await;
    for (changes, error) in [
        (
            json!({"response_type": "token"}),
            "unsupported_response_type",
        ),
        (json!({"response_type": null}), "unsupported_response_type"),
        (json!({"code_challenge": null}), "invalid_request"),
        (json!({"code_challenge_method": "plain"}), "invalid_request"),
        (json!({"code_challenge_method": null}), "invalid_request"),
        (json!({"code_challenge": "short"}), "invalid_request"),
        (
            json!({"resource": "https://evil.example/mcp/wiki"}),
            "invalid_target",
        ),
        (
            json!({"resource": format!("{}.evil/mcp/wiki", stage.hawser.url)}),
            "invalid_target",
        ),
        (
            json!({"resource": format!("{}/api/svc/v1/mcp", stage.hawser.url)}),
            "invalid_target",
        ),
        (json!({"response_mode": "fragment"}), "invalid_request"),
        (json!({"request": "x.y.z"}), "request_not_supported"),
        (
            json!({"request_uri": "https://evil.example"}),
            "request_uri_not_supported",
        ),
        (json!({"scope": "x".repeat(2500)}), "invalid_request"),
    ] {
        let page = Browser::new()
            .open(&stage.address(&id, changes.clone()))
            .await;
        assert!(
            page.location.as_ref().unwrap().starts_with(REDIRECT),
            "{changes}"
        );
        let back = taken_back(&page);
        assert_eq!(
            (back["error"].as_str(), back["iss"].as_str()),
            (error, stage.hawser.url.as_str()),
            "{changes}"
        );
        assert_eq!(back["state"], "of-the-client", "{changes}");
    }
}

#[tokio::test]
async fn addresses_that_a_person_gets_do_nothing_when_they_are_fetched() {
    let stage = Stage::set().await;
    let id = stage.application(REDIRECT).await;
    let address = stage.address(&id, json!({}));
    let mut browser = Browser::new();
    let sent = browser.open(&address).await.location.unwrap();
    let back = stage.provider.approve(&sent, json!({}));
    let before = stage.hawser.ground().items().await;
    let http = reqwest::Client::builder().no_proxy();
    let http = http.redirect(reqwest::redirect::Policy::none());
    let http = http.build().unwrap();
    // An answer of the provider belongs to the browser that has begun; pages take no HEAD.
    for (url, got) in [(&address, 303), (&back, 400)] {
        for (request, status) in [
            (
                http.get(url).header("sec-purpose", "prefetch;prerender"),
                got,
            ),
            (
                http.get(url)
                    .header("user-agent", "Slackbot-LinkExpanding 1.0"),
                got,
            ),
            (http.head(url), 405),
        ] {
            let answer = Browser::new().send(request).await;
            assert_eq!(answer.status, status, "{url}: {answer:?}");
        }
    }
    assert_eq!(stage.hawser.ground().items().await, before);
    assert!(
        stage.provider.asked().is_empty(),
        "the code was not used up"
    );
    let page = browser.open(&back).await;
    assert_eq!(page.status, 200, "{page:?}");
}

#[tokio::test]
async fn only_the_browser_that_signed_in_presses_the_button() {
    let stage = Stage::set().await;
    let id = stage.application(REDIRECT).await;
    let mut ada = Browser::new();
    let (at, page) = stage
        .sign_in(&mut ada, &stage.address(&id, json!({})), json!({}))
        .await;
    let mut form = Form::of(&page);
    form.fields
        .push(("decision".to_owned(), "allow".to_owned()));
    let before = stage.hawser.ground().items().await;
    // Another browser, with nothing, or in the middle of a sign-in of its own.
    stays(&Browser::new().submit(&at, &form).await);
    let mut eve = Browser::new();
    let (eves_at, eves_page) = stage
        .sign_in(
            &mut eve,
            &stage.address(&id, json!({})),
            json!({"sub": "eve"}),
        )
        .await;
    stays(&eve.submit(&at, &form).await);
    // The page of one sign-in with the cookie of another.
    let mut mixed = Form::of(&eves_page);
    mixed.fields[0] = form.fields[0].clone();
    mixed
        .fields
        .push(("decision".to_owned(), "allow".to_owned()));
    stays(&eve.submit(&eves_at, &mixed).await);
    // From another site, and with nothing but what somebody could make up.
    let target = format!("{}/oauth/authorize", stage.hawser.url);
    let http = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("sec-fetch-site", "cross-site"),
        ("origin", "null"),
    ] {
        let request = posted(http.post(&target), &form.fields).header(name, value);
        stays(&ada.send(request).await);
    }
    let made_up = [
        ("question", "AAAA"),
        ("state", form.fields[1].1.as_str()),
        ("decision", "allow"),
    ];
    let made_up: Vec<_> = made_up
        .iter()
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
        .collect();
    stays(&ada.post(&target, &made_up).await);
    assert_eq!(stage.hawser.ground().items().await, before);
    taken_back(&decide(&mut ada, &at, &page, "allow").await);
}

#[tokio::test]
async fn the_page_is_in_no_frame_and_leads_back_alone() {
    let stage = Stage::set().await;
    let id = stage.application("https://editor.example/cb").await;
    let address = stage.address(&id, json!({"redirect_uri": "https://editor.example/cb"}));
    let mut browser = Browser::new();
    let sent = browser.open(&address).await.location.unwrap();
    let back = stage
        .provider
        .approve(&sent, json!({"sub": "ada\u{202e}<b>"}));
    let path = back.strip_prefix(&stage.hawser.url).unwrap().to_owned();
    let cookie = vec![("cookie", browser.cookie())];
    let answer = stage.hawser.with(cookie).get(&path).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let policy = answer.header("content-security-policy").unwrap();
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(policy.contains("form-action 'self' https:;"), "{policy}");
    assert!(!policy.contains("script-src"), "{policy}");
    assert_eq!(answer.header("x-frame-options").as_deref(), Some("DENY"));
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
    assert!(
        answer.text.contains("ada\\u{202E}&lt;b&gt;"),
        "{}",
        answer.text
    );
}

#[tokio::test]
async fn an_answer_of_the_provider_counts_once_where_it_belongs() {
    let stage = Stage::set().await;
    let id = stage.application(REDIRECT).await;
    let address = stage.address(&id, json!({}));
    let sign_in = async |claims: Value| {
        let mut browser = Browser::new();
        stage.sign_in(&mut browser, &address, claims).await.1
    };
    let other = Provider::start();
    for (claims, status) in [
        (json!({"nonce": "another"}), 502),
        (json!({"nonce": null}), 502),
        (json!({"aud": "another-client"}), 502),
        (json!({"aud": ["hawser-client", "x"], "azp": "x"}), 502),
        (json!({"iss": other.issuer}), 502),
        (json!({"exp": 1}), 502),
        (json!({"token_use": "access"}), 502),
        (json!({"sub": null}), 502),
        (
            json!({"aud": ["hawser-client", "x"], "azp": "hawser-client", "token_use": "id"}),
            200,
        ),
    ] {
        let page = sign_in(claims.clone()).await;
        assert_eq!(page.status, status, "{claims}: {page:?}");
    }
    // In another browser; with the state of another sign-in; with the name of another issuer; twice.
    let (mut one, mut two) = (Browser::new(), Browser::new());
    let at = one.open(&address).await.location.unwrap();
    let back = stage.provider.approve(&at, json!({}));
    stays(&two.open(&back).await);
    two.open(&address).await;
    stays(&two.open(&back).await);
    let mixed_up = one
        .open(&format!("{back}&iss=https%3A%2F%2Fevil.example"))
        .await;
    assert_eq!(mixed_up.status, 502, "{mixed_up:?}");
    assert_eq!(one.open(&back).await.status, 200);
    let again = one.open(&back).await;
    assert_eq!(again.status, 502, "{again:?}");
    // What the provider was told is bound to this deployment, and its refusals are no sign-in.
    let asked = stage.provider.asked();
    assert!(
        asked
            .iter()
            .all(|form| form["redirect_uri"] == format!("{}/oauth/signed-in", stage.hawser.url))
    );
    let mut declining = Browser::new();
    let at = declining.open(&address).await.location.unwrap();
    let back = stage.provider.approve(&at, json!({}));
    let (head, _) = back.split_once("code=").unwrap();
    let state = back.split_once("&state=").unwrap().1;
    let declined = declining
        .open(&format!("{head}error=access_denied&state={state}"))
        .await;
    assert_eq!(declined.status, 403, "{declined:?}");
}

/// Serves one document at `/client.json`, in which `BASE` is where, and counts how often.
fn publish(head: &'static str, document: Value) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let body = document.to_string().replace("BASE", &base);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::from("x");
            while !line.trim_end().is_empty() {
                line.clear();
                reader.read_line(&mut line).unwrap();
            }
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {head}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    format!("{base}/client.json")
}

#[tokio::test]
async fn a_metadata_document_is_believed_for_what_is_its_own() {
    const JSON: &str = "200 OK\r\ncontent-type: application/json";
    let stage = Stage::set().await;
    let good = json!({"client_id": "BASE/client.json", "client_name": "Assistant", "redirect_uris": [REDIRECT]});
    let with = |changes: Value| {
        let mut document = good.clone();
        document
            .as_object_mut()
            .unwrap()
            .extend(changes.as_object().unwrap().clone());
        document
    };
    let open = async |id: &str| Browser::new().open(&stage.address(id, json!({}))).await;
    let id = publish(JSON, good.clone());
    let mut browser = Browser::new();
    let (at, page) = stage
        .sign_in(&mut browser, &stage.address(&id, json!({})), json!({}))
        .await;
    let host = id
        .strip_prefix("http://")
        .unwrap()
        .strip_suffix("/client.json")
        .unwrap();
    assert!(page.text.contains("Let Assistant in?"), "{}", page.text);
    assert!(
        page.text.contains(&format!("It is published at {host}")),
        "{}",
        page.text
    );
    taken_back(&decide(&mut browser, &at, &page, "allow").await);
    // Any program could say that it has this id and listen on loopback, so it is asked again.
    let (_, page) = stage
        .sign_in(
            &mut Browser::new(),
            &stage.address(&id, json!({})),
            json!({}),
        )
        .await;
    assert_eq!(page.status, 200, "{page:?}");
    for (head, document) in [
        (
            JSON,
            with(json!({"client_id": "https://other.example/client.json"})),
        ),
        (JSON, with(json!({"client_id": "BASE/client.json/"}))),
        (JSON, with(json!({"client_secret": "s"}))),
        (
            JSON,
            with(json!({"token_endpoint_auth_method": "client_secret_basic"})),
        ),
        (JSON, with(json!({"redirect_uris": []}))),
        (
            JSON,
            with(json!({"redirect_uris": [REDIRECT, "javascript:alert(1)"]})),
        ),
        (
            JSON,
            with(json!({"redirect_uris": ["https://a.example/cb"]})),
        ),
        (JSON, with(json!({"padding": "x".repeat(20_000)}))),
        (JSON, json!([])),
        ("200 OK\r\ncontent-type: text/html", good.clone()),
        (
            "404 Not Found\r\ncontent-type: application/json",
            good.clone(),
        ),
        (
            "302 Found\r\nlocation: /other.json\r\ncontent-type: application/json",
            good.clone(),
        ),
    ] {
        let id = publish(head, document.clone());
        let page = open(&id).await;
        assert_eq!(
            (page.status, &page.location),
            (400, &None),
            "{head} {document}"
        );
    }
    // Addresses inside look like ones that do not answer.
    for id in [
        "https://169.254.169.254/latest/client.json",
        "https://10.0.0.1/client.json",
        "https://metadata.google.internal/client.json",
        "https://[fd00::1]/client.json",
    ] {
        let page = open(id).await;
        assert_eq!(page.status, 503, "{id}: {page:?}");
    }
    for id in [
        "http://10.0.0.1/client.json",
        "file:///etc/passwd",
        "https://u:p@a.example/c.json",
    ] {
        stays(&open(id).await);
    }
}
