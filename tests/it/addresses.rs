//! Addresses of servers: which can be registered, what of them is a secret, and what an operator opens besides public ones.

use crate::harness::{Answer, Caller, Ground, Hawser};
use crate::issuer::{Issuer, StaticClient};
use crate::upstream::*;
use hawser_core::domain::id::ServerId;
use hawser_core::egress::{PrivateHosts, is_public};
use serde_json::{Value, json};
use std::net::{IpAddr, UdpSocket};

const LANGSMITH: &str = "/v1/deepagents/mcp-servers";
const KAMBRIUM: &str = "/api/v1/mcp-servers";

/// The body of a registration under TrueFoundry.
fn put_body(name: &str, url: &str, more: Value) -> Value {
    let mut manifest =
        json!({"type": "mcp-server/remote", "name": name, "description": "d", "url": url});
    let fields = manifest.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    json!({"manifest": manifest})
}

async fn shown(admin: &Caller, mcp: &str) -> String {
    let answer = admin.get(&format!("{MCP}/{mcp}")).await.json();
    answer["data"]["manifest"]["url"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// The tools of the server at a URL.
async fn list(caller: &Caller, url: &str) -> Answer {
    let url: String = url::form_urlencoded::byte_serialize(url.as_bytes()).collect();
    soon(caller.get(&format!(
        "/v1/deepagents/mcp/tools?url={url}&force_refresh=true"
    )))
    .await
}

/// Asserts that no item of the store holds a text.
async fn is_nowhere(hawser: &Hawser, secret: &str) {
    for item in hawser.ground().items().await {
        assert!(!item.to_string().contains(secret), "{item}");
    }
}

#[tokio::test]
async fn values_of_a_query_are_shown_to_nobody_and_kept_on_the_way_back() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let (admin, ada) = (hawser.admin("acme"), user(&hawser, "ada"));
    for (i, (query, redacted)) in [
        ("key=s3cret-1", "key=<REDACTED>"),
        ("a=s3cret-2&&a=s3cret-3", "a=<REDACTED>&&a=<REDACTED>"),
        ("s3cret-4", "<REDACTED>"),
        ("czNjcmV0LTQ==", "<REDACTED>"),
        ("token=s3cret%2F5%3D&x=1", "token=<REDACTED>&x=<REDACTED>"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("server-{i}");
        let whole = format!("{}?{query}", upstream.url);
        let made = admin.put(MCP, put_body(&name, &whole, json!({}))).await;
        let mcp = made.json()["data"]["id"].as_str().unwrap().to_owned();
        let url = format!("{}?{redacted}", upstream.url);
        let listed = admin.get(MCP).await;
        for answer in [&made, &listed, &admin.get(&format!("{MCP}/{mcp}")).await] {
            assert!(!answer.text.contains("s3cret"), "{answer:?}");
            assert!(answer.text.contains(&url), "{answer:?}");
        }
        // Sent back as it is shown, and as a URL parser spells that.
        for sent in [url.clone(), url.replace('<', "%3C").replace('>', "%3e")] {
            let more = json!({"tags": {"sent": sent}});
            let again = admin.put(MCP, put_body(&name, &sent, more)).await;
            assert_eq!(again.status, 200, "{again:?}");
            is_served(&ada, &mcp).await;
            assert_eq!(upstream.last().path, format!("/mcp?{query}"));
        }
    }
    // Another value, another place on the same origin, and one beside a kept one.
    let put = async |url: String| admin.put(MCP, put_body("server-1", &url, json!({}))).await;
    let base = &upstream.url;
    let mcp = admin.get(&format!("{MCP}?name=server-1")).await.json()["data"][0]["id"].clone();
    let mcp = mcp.as_str().unwrap();
    for (sent, path) in [
        (
            format!("{base}?a=<REDACTED>&a=new&c=s3cret-6"),
            "/mcp?a=s3cret-2&a=new&c=s3cret-6",
        ),
        (format!("{base}/v2?c=<REDACTED>"), "/mcp/v2?c=s3cret-6"),
        (format!("{base}/v2"), "/mcp/v2"),
    ] {
        assert_eq!(put(sent.clone()).await.status, 200, "{sent}");
        call(&ada, mcp).await;
        assert_eq!(upstream.last().path, path, "{sent}");
    }
    // Nothing stands for these.
    for sent in [
        format!("{base}?c=<REDACTED>"),
        "https://elsewhere.example/?a=<REDACTED>".to_owned(),
        base.replace("127.0.0.1", "localhost") + "?a=<REDACTED>",
    ] {
        let answer = put(sent).await;
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (400, &json!("REDACTED_VALUE_UNKNOWN"))
        );
    }
    let partly = put(format!("{base}?a=x<REDACTED>")).await;
    assert_eq!(
        (partly.status, &partly.json()["code"]),
        (400, &json!("INVALID_REQUEST"))
    );
    hawser.run_workers().await;
    is_nowhere(&hawser, "s3cret").await;
}

#[tokio::test]
async fn langsmith_shows_values_to_whom_it_shows_headers() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let admin = hawser.admin("acme");
    let permissions = ["create", "read", "update"].map(|one| format!("mcp-servers:{one}"));
    let reader = hawser.caller("acme", "bob", json!({"permissions": permissions}));
    let ada = user(&hawser, "ada");
    upstream.has_tools(json!([{"name": "echo"}]));
    for (i, query) in ["key=s3cret-1", "a=s3cret-2&b=s3cret-3", "s3cret-4"]
        .into_iter()
        .enumerate()
    {
        let whole = format!("{}?{query}", upstream.url);
        let body = json!({"name": format!("s{i}"), "url": whole});
        let made = reader.post(LANGSMITH, body).await;
        assert_eq!(made.status, 201, "{made:?}");
        let path = format!("{LANGSMITH}/{}", made.json()["id"].as_str().unwrap());
        let url = made.json()["url"].as_str().unwrap().to_owned();
        assert!(
            url.contains("<REDACTED>") && !made.text.contains("s3cret"),
            "{made:?}"
        );
        for answer in [reader.get(&path).await, reader.get(LANGSMITH).await] {
            assert!(!answer.text.contains("s3cret"), "{answer:?}");
        }
        assert_eq!(admin.get(&path).await.json()["url"], whole.as_str());
        // The tools of either spelling; values that are not shown are not to be tried out.
        assert_eq!(list(&reader, &url).await.status, 200);
        assert_eq!(list(&reader, &whole).await.status, 200);
        assert_eq!(
            list(&reader, &whole.replace("s3cret", "guess"))
                .await
                .status,
            200
        );
        assert_eq!(list(&admin, &whole).await.status, 200);
        assert_eq!(
            list(&admin, &whole.replace("s3cret", "guess")).await.status,
            404
        );
        // An edit keeps them: with the redacted address, and without any.
        for edit in [
            json!({"url": url}),
            json!({"headers": [{"key": "X-Key", "value": "v"}]}),
            json!({"headers": []}),
        ] {
            let patched = reader.patch(&path, edit).await;
            assert_eq!(patched.status, 200, "{patched:?}");
            assert!(!patched.text.contains("s3cret"), "{patched:?}");
            call(&ada, made.json()["id"].as_str().unwrap()).await;
            assert_eq!(upstream.last().path, format!("/mcp?{query}"));
            assert_eq!(admin.get(&path).await.json()["url"], whole.as_str());
        }
        let moved = json!({"url": "https://elsewhere.example/?key=<REDACTED>"});
        let moved = admin.patch(&path, moved).await;
        assert_eq!(
            (moved.status, &moved.json()["code"]),
            (422, &json!("invalid_url"))
        );
    }
    let made = admin
        .post(
            LANGSMITH,
            json!({"name": "new", "url": "https://a.example/?k=<REDACTED>"}),
        )
        .await;
    assert_eq!(
        (made.status, &made.json()["code"]),
        (422, &json!("invalid_url"))
    );
    is_nowhere(&hawser, "s3cret").await;
}

#[tokio::test]
async fn the_query_values_of_an_integration_are_shown_to_no_tenant() {
    let upstream = Upstream::start().await;
    let url = format!("{}?key=s3cret", upstream.url);
    let crm = json!({"crm": {"display_name": "CRM", "mcp_url": url, "api_key": {}}});
    let hawser = Hawser::with_integrations(&crm).await;
    let admin = hawser.admin("acme");
    let body = json!({"mcp_server": "crm", "access_type": "write", "api_key": "k"});
    let made = admin.post(KAMBRIUM, body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let number = made.json()["data"]["id"].to_string();
    for path in [
        MCP,
        LANGSMITH,
        KAMBRIUM,
        &format!("{KAMBRIUM}/available"),
        "/v1/audit",
    ] {
        let answer = admin.get(path).await;
        assert_eq!(answer.status, 200);
        assert!(!answer.text.contains("s3cret"), "{answer:?}");
    }
    // Nor once a sibling contract has changed it.
    let uuid = admin.get(LANGSMITH).await.json()[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("{LANGSMITH}/{uuid}");
    let patched = admin
        .patch(&path, json!({"headers": [{"key": "X-Key", "value": "v"}]}))
        .await;
    assert_eq!(patched.status, 200);
    assert!(!patched.text.contains("s3cret"), "{patched:?}");
    assert_eq!(call(&admin, &number).await.status, 200);
    assert_eq!(upstream.last().path, "/mcp?key=s3cret");
    is_nowhere(&hawser, "s3cret").await;
}

#[tokio::test]
async fn neither_issuers_nor_browsers_are_told_the_values() {
    let (hawser, issuer) = (Hawser::start().await, Issuer::start().await);
    issuer.configure(|settings| {
        settings.static_clients.push(StaticClient {
            id: "known".to_owned(),
            secret: None,
            redirect_uris: vec![format!("{}/oauth/callback", hawser.url)],
        });
    });
    let own = json!({"auth_data": {"type": "oauth2", "client_id": "known", "scopes": ["mcp:read"],
        "authorization_url": format!("{}/authorize", issuer.url), "token_url": format!("{}/token", issuer.url)}});
    issuer.configure(|settings| settings.resource = Some(issuer.mcp_url()));
    for (i, more) in [own, oauth()].into_iter().enumerate() {
        let url = format!("{}?key=s3cret", issuer.mcp_url());
        let mcp = register(&hawser, &format!("wiki-{i}"), &url, more).await;
        let start = consent_url(&hawser, &mcp, "ada").await;
        let mut browser = crate::harness::Browser::new();
        let at_issuer = browser.begin(&start).await;
        assert!(!at_issuer.contains("s3cret"), "{at_issuer}");
        let page = browser.open(&issuer.approve(&at_issuer).await).await;
        assert_eq!(page.status, 200, "{page:?}");
        is_served(&user(&hawser, "ada"), &mcp).await;
        is_nowhere(&hawser, "s3cret").await;
    }
    let told = issuer.log();
    let called = told
        .iter()
        .filter(|one| format!("{one:?}").contains("s3cret"));
    for one in called {
        assert!(
            one.path.starts_with("/mcp")
                || one
                    .path
                    .starts_with("/.well-known/oauth-protected-resource"),
            "{one:?}"
        );
    }
}

#[tokio::test]
async fn an_address_stored_before_is_shown_redacted_and_sealed_by_the_next_change() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let (admin, ada) = (hawser.admin("acme"), user(&hawser, "ada"));
    for (i, way) in ["put", "patch", "key"].into_iter().enumerate() {
        let name = format!("server-{i}");
        let more = json!({"auth_data": {"type": "header", "auth_level": "per_user", "headers": {"X-Key": "Key {{KEY}}"}}});
        let mcp = register(&hawser, &name, &upstream.url, more.clone()).await;
        install(&hawser, &mcp, "ada", own("v")).await;
        let id = ServerId::parse_prefixed(&mcp).unwrap();
        let old = format!("{}?key=s3cret", upstream.url);
        plant(&hawser, &mcp, &old).await;
        let url = format!("{}?key=<REDACTED>", upstream.url);
        assert_eq!(shown(&admin, &mcp).await, url);
        is_served(&ada, &mcp).await;
        assert_eq!(upstream.last().path, "/mcp?key=s3cret");
        let uuid = id.uuid();
        let answer = match way {
            "put" => admin.put(MCP, put_body(&name, &url, more)).await,
            "patch" => {
                admin
                    .patch(&format!("{LANGSMITH}/{uuid}"), json!({"url": old}))
                    .await
            }
            _ => {
                admin
                    .patch(
                        &format!("{LANGSMITH}/{uuid}"),
                        json!({"auth_type": "headers"}),
                    )
                    .await
            }
        };
        assert_eq!(answer.status, 200, "{way}: {answer:?}");
        is_nowhere(&hawser, "s3cret").await;
        // It has not moved, so nobody is disconnected.
        is_served(&ada, &mcp).await;
        assert_eq!(upstream.last().path, "/mcp?key=s3cret");
        assert_eq!(shown(&admin, &mcp).await, url);
    }
}

#[tokio::test]
async fn a_changed_query_value_counts_as_a_changed_address() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let (admin, ada) = (hawser.admin("acme"), user(&hawser, "ada"));
    let auth = json!({"auth_data": {"type": "oauth2", "include_resource": true}});
    let url = |value: &str| format!("{}?key={value}", upstream.url);
    let mcp = register(&hawser, "wiki", &url("one"), auth.clone()).await;
    install(&hawser, &mcp, "ada", own("v")).await;
    let session = initialize(&ada, &mcp).await;
    let put = async |url: &str| admin.put(MCP, put_body("wiki", url, auth.clone())).await;
    // Where all of the address counts, a change of a value is one of it, and its redacted form is none.
    assert_eq!(put(&url("two")).await.status, 417);
    assert_eq!(put(&url("<REDACTED>")).await.status, 200);
    assert_eq!(put(&url("one")).await.status, 200);
    is_served(&ada, &mcp).await;
    // Sessions end with what they rest on.
    let mcp = register(&hawser, "wiki", &url("two"), auth).await;
    let headers = [(SESSION, session.as_str())];
    is_session_gone(&send(&ada, &mcp, &headers, message("ping")).await, &session);
}

/// As the Lambda binaries are configured, with these private hosts opened.
async fn strict(ground: std::sync::Arc<Ground>, hosts: &[&str]) -> Hawser {
    Hawser::configured(ground, |config| {
        config.allow_loopback_http = false;
        config.private_hosts = PrivateHosts::parse(hosts.iter().copied()).unwrap();
    })
    .await
}

/// Registers at an address under each contract that names one; the answers.
async fn tried(hawser: &Hawser, name: &str, url: &str) -> [Answer; 3] {
    let admin = hawser.admin("acme");
    let dry = json!({"manifest": put_body(name, url, json!({}))["manifest"], "dryRun": true});
    let dry = admin.put(MCP, dry).await;
    let put = admin.put(MCP, put_body(name, url, json!({}))).await;
    let made = json!({"name": format!("{name} ls"), "url": url});
    [dry, put, admin.post(LANGSMITH, made).await]
}

#[tokio::test]
async fn an_address_that_no_call_reaches_is_refused_when_it_is_registered() {
    let hawser = strict(
        Ground::new().await,
        &["10.20.0.0/16", "http://*.plain.corp", "db.internal"],
    )
    .await;
    let admin = hawser.admin("acme");
    for (i, (url, why)) in [
        ("https://10.0.0.1/mcp", "private"),
        ("https://192.168.1.1:8443/", "private"),
        ("https://169.254.169.254/latest", "private"),
        ("https://127.0.0.1/mcp", "private"),
        ("https://[::1]/", "private"),
        ("https://[fe80::1]/", "private"),
        ("https://[fd00:ec2::254]/", "private"),
        ("https://[::ffff:10.20.0.1]/", "private"),
        ("https://100.100.100.200/", "private"),
        ("https://localhost/mcp", "private"),
        ("https://metadata.google.internal./", "private"),
        ("http://public.example/mcp", "https"),
        ("http://10.20.0.1/mcp", "https"),
        ("http://db.internal/", "https"),
    ]
    .into_iter()
    .enumerate()
    {
        let answers = tried(&hawser, &format!("no-{i}"), url).await;
        for (answer, status) in answers.iter().zip([400, 400, 422]) {
            // A range lets names be looked up that are known to be inside ones.
            if url.contains("metadata") && answer.status < 300 {
                continue;
            }
            assert_eq!(answer.status, status, "{url}: {answer:?}");
            let words = if status == 422 && why == "https" {
                "scheme not allowed"
            } else {
                why
            };
            assert!(answer.text.contains(words), "{url}: {answer:?}");
        }
    }
    for (i, url) in [
        "https://10.20.255.1/",
        "http://a.plain.corp:81/mcp",
        "https://db.internal/",
        "https://8.8.8.8/",
    ]
    .into_iter()
    .enumerate()
    {
        let answers = tried(&hawser, &format!("yes-{i}"), url).await;
        assert_eq!(answers.map(|one| one.status), [200, 200, 201], "{url}");
    }
    // A change to such an address, and any other change of a server whose address has become one.
    let mcp = register(&hawser, "wiki", "https://10.20.0.1/mcp", json!({})).await;
    let uuid = ServerId::parse_prefixed(&mcp).unwrap().uuid();
    let put = admin
        .put(MCP, put_body("wiki", "https://10.0.0.1/", json!({})))
        .await;
    assert_eq!(put.status, 400, "{put:?}");
    let patched = admin
        .patch(
            &format!("{LANGSMITH}/{uuid}"),
            json!({"url": "https://10.0.0.1/"}),
        )
        .await;
    assert_eq!(patched.status, 422, "{patched:?}");
    let closed = strict(hawser.ground(), &[]).await;
    let described = json!({"tags": {"a": 1}});
    let put = closed
        .admin("acme")
        .put(MCP, put_body("wiki", "https://10.20.0.1/mcp", described))
        .await;
    assert_eq!(put.status, 200, "{put:?}");
    assert_eq!(call(&user(&closed, "ada"), &mcp).await.status, 502);
}

#[tokio::test]
async fn an_integration_at_an_address_that_no_call_reaches_cannot_be_connected() {
    let entry = |url: &str| json!({"display_name": "I", "mcp_url": url, "api_key": {}});
    let integrations = json!({"one": entry("https://10.0.0.1/"), "two": entry("https://localhost/"),
                              "three": entry("https://169.254.169.254/"), "good": entry("https://8.8.8.8/")});
    let hawser = Hawser::offering(&integrations, |config| {
        config.allow_loopback_http = false;
    })
    .await;
    for (name, status) in [("one", 400), ("two", 400), ("three", 400), ("good", 201)] {
        let body = json!({"mcp_server": name, "access_type": "write", "api_key": "k"});
        let made = hawser.admin("acme").post(KAMBRIUM, body).await;
        assert_eq!(made.status, status, "{made:?}");
        assert!(
            status == 201 || made.text.contains("not allowed here"),
            "{made:?}"
        );
    }
}

#[tokio::test]
async fn an_opened_range_is_judged_by_the_address_that_is_connected_to() {
    // Loopback is never opened by a list, so only a refusal can be seen here; that ranges open what they say is seen where
    // addresses are judged. `localhost` stands for any name that leads inside.
    let ground = Ground::new().await;
    let upstream = Upstream::start().await;
    let open = Hawser::on(ground.clone()).await;
    for (i, host) in ["127.0.0.1", "localhost", "[::1]"].into_iter().enumerate() {
        let url = upstream.url.replace("127.0.0.1", host);
        let mcp = register(&open, &format!("server-{i}"), &url, json!({})).await;
        let all = [
            "http://0.0.0.0/0",
            "http://::/0",
            "http://localhost",
            "http://*.localhost",
        ];
        let listed = strict(ground.clone(), &all).await;
        let before = upstream.count();
        is_refused(
            &call(&user(&listed, "ada"), &mcp).await,
            502,
            -32603,
            "The MCP server cannot be reached",
            Value::Null,
        );
        assert_eq!(upstream.count(), before, "{host}");
    }
}

/// The address that this machine would send from, where it is a private one.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!is_public(own) && !own.is_loopback()).then_some(own)
}

#[tokio::test]
async fn an_opened_private_server_is_called() {
    let Some(own) = own_address() else {
        return;
    };
    let upstream = Upstream::start_at(&own.to_string()).await;
    upstream.has_tools(json!([{"name": "echo"}]));
    let ground = Ground::new().await;
    for (i, entry) in [
        format!("http://{own}"),
        format!("http://{own}/8"),
        "http://0.0.0.0/0".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        let hawser = strict(ground.clone(), &[entry]).await;
        let mcp = register(&hawser, &format!("server-{i}"), &upstream.url, json!({})).await;
        is_served(&user(&hawser, "ada"), &mcp).await;
        assert_eq!(list(&hawser.admin("acme"), &upstream.url).await.status, 200);
        // The list counts when a call is made, not when its server was registered.
        let before = upstream.count();
        for hosts in [&[][..], &["http://203.0.113.0/24"], &["http://other.corp"]] {
            let closed = strict(ground.clone(), hosts).await;
            assert_eq!(call(&user(&closed, "ada"), &mcp).await.status, 502);
        }
        assert_eq!(upstream.count(), before);
    }
}

#[tokio::test]
async fn tags_come_back_as_they_were_sent_whatever_their_length() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    for (i, tags) in [
        r#"{"n":123456789012345678901234567890}"#,
        r#"{"a":[-9223372036854775809,18446744073709551615,18446744073709551616,{"b":1}],"c":null}"#,
        r#"{"a":1.5,"b":"99999999999999999999","c":99999999999999999999,"d":true,"e":{}}"#,
        "{}",
    ]
    .into_iter()
    .enumerate()
    {
        let body = format!(
            r#"{{"manifest":{{"type":"mcp-server/remote","name":"server-{i}","description":"d","url":"https://a.example","tags": {tags} }}}}"#
        );
        let made = admin.send("PUT", MCP, &[], body.clone().into_bytes()).await;
        assert_eq!(made.status, 200, "{made:?}");
        let mcp = made.json()["data"]["id"].as_str().unwrap().to_owned();
        let whole = format!("\"tags\":{tags}");
        let dry = body.replace("}}", "},\"dryRun\":true}").into_bytes();
        let dry = admin.send("PUT", MCP, &[], if tags.contains("}}") { body.clone().into_bytes() } else { dry }).await;
        for answer in [made, dry, admin.get(&format!("{MCP}/{mcp}")).await, admin.get(MCP).await] {
            assert!(answer.text.contains(&whole), "{answer:?}");
        }
        let stamp = async || admin.get(&format!("{MCP}/{mcp}")).await.json()["data"]["updatedAt"].clone();
        let before = stamp().await;
        admin.send("PUT", MCP, &[], body.into_bytes()).await;
        assert_eq!(stamp().await, before, "nothing has changed");
    }
    // Other values than objects are none.
    let body = json!({"manifest": {"type": "mcp-server/remote", "name": "wiki", "description": "d", "url": "https://a.example", "tags": [1]}});
    assert_eq!(admin.put(MCP, body).await.status, 400);
}
