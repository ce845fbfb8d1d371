//! Whether the issuer is as strict as it says.

use super::endpoints::s256;
use super::{Fault, Gate, Issuer, Pair, StaticClient};
use data_encoding::BASE64;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use url::{Url, form_urlencoded};

const REDIRECT: &str = "https://hawser.example/callback?from=issuer";
const VERIFIER: &str = "a-verifier-of-just-the-forty-three-letters.";

type Fields<'a> = Vec<(&'a str, String)>;

fn encode(fields: &Fields<'_>) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish()
}

/// The same fields, but for one: another value, or none.
fn but<'a>(fields: &Fields<'a>, name: &'a str, value: Option<&str>) -> Fields<'a> {
    let rest = fields.iter().filter(|(n, _)| *n != name).cloned();
    rest.chain(value.map(|value| (name, value.to_owned())))
        .collect()
}

fn http() -> reqwest::Client {
    let redirect = reqwest::redirect::Policy::none();
    let http = reqwest::Client::builder().no_proxy().redirect(redirect);
    http.build().unwrap()
}

impl Issuer {
    async fn get(&self, path: &str) -> (u16, Value) {
        let answer = http().get(format!("{}{path}", self.url)).send().await;
        read(answer.unwrap()).await
    }

    async fn post(&self, path: &str, form: &Fields<'_>) -> (u16, Value) {
        self.post_as(path, None, form).await
    }

    async fn post_as(&self, path: &str, basic: Option<&str>, form: &Fields<'_>) -> (u16, Value) {
        let mut request = http()
            .post(format!("{}{path}", self.url))
            .header("content-type", "application/x-www-form-urlencoded");
        if let Some(basic) = basic {
            let header = format!("Basic {}", BASE64.encode(basic.as_bytes()));
            request = request.header("authorization", header);
        }
        read(request.body(encode(form)).send().await.unwrap()).await
    }

    async fn registers(&self, asked: Value) -> (u16, Value) {
        let request = http().post(format!("{}/register", self.url)).json(&asked);
        read(request.send().await.unwrap()).await
    }

    /// A public client that may refresh.
    async fn public_client(&self) -> String {
        let asked = json!({"redirect_uris": [REDIRECT], "token_endpoint_auth_method": "none",
                           "grant_types": ["authorization_code", "refresh_token"]});
        let (status, answer) = self.registers(asked).await;
        assert_eq!(status, 201, "{answer}");
        answer["client_id"].as_str().unwrap().to_owned()
    }

    /// What a correct authorization request says.
    fn asks(&self, client: &str) -> Fields<'static> {
        vec![
            ("response_type", "code".to_owned()),
            ("client_id", client.to_owned()),
            ("redirect_uri", REDIRECT.to_owned()),
            ("state", "a state".to_owned()),
            ("code_challenge", s256(VERIFIER)),
            ("code_challenge_method", "S256".to_owned()),
            ("resource", self.mcp_url()),
        ]
    }

    fn page(&self, asked: &Fields<'_>) -> String {
        format!("{}/authorize?{}", self.url, encode(asked))
    }

    /// What a correct token request with a fresh code says.
    async fn code(&self, client: &str) -> Fields<'static> {
        let back = self.approve(&self.page(&self.asks(client))).await;
        let code = parameter(&back, "code").unwrap_or_else(|| panic!("{back}"));
        vec![
            ("grant_type", "authorization_code".to_owned()),
            ("client_id", client.to_owned()),
            ("code", code),
            ("code_verifier", VERIFIER.to_owned()),
            ("redirect_uri", REDIRECT.to_owned()),
            ("resource", self.mcp_url()),
        ]
    }

    async fn connect(&self, client: &str) -> Pair {
        let form = self.code(client).await;
        let (status, answer) = self.post("/token", &form).await;
        assert_eq!(status, 200, "{answer}");
        self.issued().pop().unwrap()
    }

    fn refreshing(&self, pair: &Pair) -> Fields<'static> {
        vec![
            ("grant_type", "refresh_token".to_owned()),
            ("client_id", pair.client_id.clone()),
            ("refresh_token", pair.refresh.clone().unwrap()),
            ("resource", self.mcp_url()),
        ]
    }

    async fn revokes(&self, client: &str, token: &str) -> u16 {
        let form = vec![
            ("client_id", client.to_owned()),
            ("token", token.to_owned()),
        ];
        self.post("/revoke", &form).await.0
    }

    /// What the MCP server says to a token: the status, and the challenge.
    async fn calls(&self, token: &str) -> (u16, String) {
        let request = http().post(self.mcp_url()).bearer_auth(token);
        let answer = request.body(r#"{"id": 1}"#).send().await.unwrap();
        let challenge = answer.headers().get("www-authenticate");
        let challenge = challenge.map(|text| text.to_str().unwrap().to_owned());
        (answer.status().as_u16(), challenge.unwrap_or_default())
    }
}

async fn read(answer: reqwest::Response) -> (u16, Value) {
    let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
    (status, serde_json::from_str(&text).unwrap_or_default())
}

fn parameter(url: &str, name: &str) -> Option<String> {
    let url = Url::parse(url).unwrap();
    let mut all = url.query_pairs().filter(|(n, _)| n == name);
    all.next().map(|(_, value)| value.into_owned())
}

#[tokio::test]
async fn issuer_plays_the_whole_flow() {
    let issuer = Issuer::start().await;
    let url = &issuer.url;
    issuer.configure(|s| s.challenge_scope = Some("mcp:read".to_owned()));
    let answer = http().post(issuer.mcp_url()).send().await.unwrap();
    let metadata = format!("{url}/.well-known/oauth-protected-resource/mcp");
    let challenge = format!("Bearer resource_metadata=\"{metadata}\", scope=\"mcp:read\"");
    assert_eq!(answer.status(), 401);
    assert_eq!(answer.headers()["www-authenticate"], *challenge);
    let (_, resource) = issuer
        .get("/.well-known/oauth-protected-resource/mcp")
        .await;
    assert_eq!(resource["resource"], issuer.mcp_url());
    assert_eq!(resource["authorization_servers"], json!([url]));
    let (_, metadata) = issuer.get("/.well-known/oauth-authorization-server").await;
    assert_eq!(metadata["issuer"], **url);
    assert_eq!(metadata["revocation_endpoint"], format!("{url}/revoke"));

    let client = issuer.public_client().await;
    let page = issuer.page(&issuer.asks(&client));
    let denied = issuer.deny(&page).await;
    assert_eq!(parameter(&denied, "error").unwrap(), "access_denied");
    let back = issuer.approve_as(&page, "grace").await;
    assert!(
        back.starts_with(&format!("{REDIRECT}&code=code-")),
        "{back}"
    );
    assert_eq!(parameter(&back, "state").unwrap(), "a state");
    assert_eq!(parameter(&back, "iss").unwrap(), *url);

    let first = issuer.connect(&client).await;
    assert_eq!(first.scopes, ["mcp:read", "mcp:write"]);
    assert_eq!((first.subject.as_str(), first.active), ("ada", true));
    assert_eq!(issuer.calls(&first.access).await.0, 200);
    let (status, answer) = issuer.post("/token", &issuer.refreshing(&first)).await;
    assert_eq!((status, &answer["expires_in"]), (200, &json!(3600)));
    let second = issuer.issued().pop().unwrap();
    assert_eq!(answer["access_token"], second.access);
    assert_eq!(second.family, first.family);
    assert!(!issuer.is_active(&first.refresh.unwrap()));
    assert!(issuer.is_active(&first.access));
    issuer.expire(&first.access);
    let (status, challenge) = issuer.calls(&first.access).await;
    assert_eq!(status, 401);
    assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");

    issuer.configure(|s| s.challenge_scope = Some("mcp:read more".to_owned()));
    let (status, challenge) = issuer.calls(&second.access).await;
    assert_eq!(status, 403);
    assert!(challenge.contains("insufficient_scope"), "{challenge}");
    assert_eq!(issuer.count("POST", "/token"), 2);
    let log = issuer.log();
    let sent = log.iter().find(|one| one.path == "/token").unwrap();
    assert_eq!(sent.field("code_verifier").unwrap(), VERIFIER);
    assert!(sent.header("content-type").is_some() && sent.status == Some(200));
    issuer.clear_log();
    assert_eq!(issuer.log().len(), 0);
}

#[tokio::test]
async fn issuer_refuses_wrong_authorization_requests() {
    let issuer = Issuer::start().await;
    let client = issuer.public_client().await;
    let good = issuer.asks(&client);
    for (name, value, error) in [
        ("response_type", None, "invalid_request"),
        ("response_type", Some("token"), "unsupported_response_type"),
        ("code_challenge", None, "invalid_request"),
        ("code_challenge", Some(VERIFIER), "invalid_request"),
        ("code_challenge_method", None, "invalid_request"),
        ("code_challenge_method", Some("plain"), "invalid_request"),
        ("resource", None, "invalid_target"),
        ("resource", Some(&issuer.url), "invalid_target"),
        ("scope", Some("mcp:read offline_access"), "invalid_scope"),
        ("scope", Some("mcp:read  mcp:write"), "invalid_scope"),
    ] {
        let back = issuer.approve(&issuer.page(&but(&good, name, value))).await;
        let told = parameter(&back, "error");
        assert_eq!(told.as_deref(), Some(error), "{name} {value:?}");
        assert_eq!(parameter(&back, "iss").unwrap(), issuer.url);
    }
    let nowhere = [
        but(&good, "client_id", Some("another")),
        but(&good, "redirect_uri", None),
        but(
            &good,
            "redirect_uri",
            Some("https://hawser.example/callback"),
        ),
        [good.clone(), vec![("resource", issuer.mcp_url())]].concat(),
    ];
    for asked in nowhere {
        let answer = http().get(issuer.page(&asked)).send().await.unwrap();
        assert_eq!(answer.status(), 400, "{asked:?}");
    }
    issuer.configure(|s| s.wrong_iss = Some("https://other.example".to_owned()));
    let back = issuer.approve(&issuer.page(&good)).await;
    assert_eq!(parameter(&back, "iss").unwrap(), "https://other.example");
}

#[tokio::test]
async fn issuer_refuses_wrong_token_requests() {
    let issuer = Issuer::start().await;
    let (client, other) = (issuer.public_client().await, issuer.public_client().await);
    let wrong = "another-verifier-of-the-same-fine-length-as-it";
    let near = "https://hawser.example/callback";
    for (name, value, status, error) in [
        ("grant_type", None, 400, "invalid_request"),
        (
            "grant_type",
            Some("password"),
            400,
            "unsupported_grant_type",
        ),
        ("client_id", None, 401, "invalid_client"),
        ("client_id", Some(other.as_str()), 400, "invalid_grant"),
        ("client_secret", Some("any"), 401, "invalid_client"),
        ("code", Some("code-0"), 400, "invalid_grant"),
        ("code_verifier", None, 400, "invalid_request"),
        ("code_verifier", Some(wrong), 400, "invalid_grant"),
        ("redirect_uri", None, 400, "invalid_request"),
        ("redirect_uri", Some(near), 400, "invalid_grant"),
        ("resource", None, 400, "invalid_target"),
        ("resource", Some(&issuer.url), 400, "invalid_target"),
    ] {
        let form = but(&issuer.code(&client).await, name, value);
        let (told, answer) = issuer.post("/token", &form).await;
        assert_eq!(
            (told, &answer["error"]),
            (status, &json!(error)),
            "{name} {value:?}"
        );
    }
    assert_eq!(issuer.issued().len(), 0);
    let pair = issuer.connect(&client).await;
    for (name, value, error) in [
        ("client_id", Some(other.as_str()), "invalid_grant"),
        ("resource", None, "invalid_target"),
        ("resource", Some(&issuer.url), "invalid_target"),
        ("refresh_token", Some(pair.access.as_str()), "invalid_grant"),
        ("scope", Some("mcp:read more"), "invalid_scope"),
    ] {
        let form = but(&issuer.refreshing(&pair), name, value);
        let (status, answer) = issuer.post("/token", &form).await;
        assert_eq!(
            (status, &answer["error"]),
            (400, &json!(error)),
            "{name} {value:?}"
        );
    }
    let twice = [
        issuer.refreshing(&pair),
        vec![("resource", issuer.mcp_url())],
    ]
    .concat();
    assert_eq!(issuer.post("/token", &twice).await.0, 400);
    assert_eq!(
        issuer.post("/token", &issuer.refreshing(&pair)).await.0,
        200
    );
}

#[tokio::test]
async fn issuer_ends_a_family_on_reuse() {
    let issuer = Issuer::start().await;
    let client = issuer.public_client().await;
    let kept = issuer.connect(&client).await;
    let first = issuer.connect(&client).await;
    assert_eq!(
        issuer.post("/token", &issuer.refreshing(&first)).await.0,
        200
    );
    for _ in 0..2 {
        let (status, answer) = issuer.post("/token", &issuer.refreshing(&first)).await;
        assert_eq!((status, &answer["error"]), (400, &json!("invalid_grant")));
        assert_eq!(issuer.families_killed(), 1);
    }
    assert_eq!(
        issuer.live_tokens(),
        [kept.access.clone(), kept.refresh.clone().unwrap()]
    );

    let code = issuer.code(&client).await;
    assert_eq!(issuer.post("/token", &code).await.0, 200);
    assert_eq!(issuer.live_tokens().len(), 4);
    assert_eq!(issuer.post("/token", &code).await.0, 400);
    assert_eq!(issuer.live_tokens().len(), 2);
    // A bad attempt uses the code up as well.
    let code = issuer.code(&client).await;
    let bad = but(
        &code,
        "redirect_uri",
        Some("https://hawser.example/callback"),
    );
    assert_eq!(issuer.post("/token", &bad).await.0, 400);
    assert_eq!(issuer.post("/token", &code).await.0, 400);

    issuer.configure(|s| s.rotate = false);
    for _ in 0..2 {
        let (status, answer) = issuer.post("/token", &issuer.refreshing(&kept)).await;
        assert_eq!((status, answer.get("refresh_token")), (200, None));
    }
    issuer.configure(|s| (s.offline_access, s.access_ttl) = (true, Some(0)));
    let pair = issuer.connect(&client).await;
    assert_eq!((pair.refresh, pair.active), (None, false));
}

#[tokio::test]
async fn issuer_revokes() {
    let issuer = Issuer::start().await;
    let (client, other) = (issuer.public_client().await, issuer.public_client().await);
    let first = issuer.connect(&client).await;
    let refresh = first.refresh.clone().unwrap();
    assert_eq!(issuer.revokes(&other, &refresh).await, 200);
    assert_eq!(issuer.revokes(&client, "rt-0").await, 200);
    assert_eq!(issuer.revokes("another", &refresh).await, 401);
    assert_eq!(issuer.live_tokens().len(), 2);
    assert_eq!(issuer.revokes(&client, &first.access).await, 200);
    assert_eq!(issuer.live_tokens().join(" "), refresh);
    assert_eq!(
        issuer.post("/token", &issuer.refreshing(&first)).await.0,
        200
    );
    assert_eq!(issuer.revokes(&client, &refresh).await, 200);
    assert_eq!(issuer.live_tokens().len(), 2, "an old token is nobody's");
    let second = issuer.issued().pop().unwrap();
    let unsupported = json!({"error": "unsupported_token_type"}).to_string();
    issuer.configure(|s| s.access_revocation_error = Some((400, unsupported)));
    assert_eq!(issuer.revokes(&client, &second.access).await, 400);
    assert!(issuer.is_active(&second.access));
    assert_eq!(issuer.revokes(&client, &second.refresh.unwrap()).await, 200);
    assert_eq!(issuer.live_tokens().len(), 0);
    assert_eq!(issuer.families_killed(), 0);
    issuer.configure(|s| s.revocation = false);
    assert_eq!(issuer.revokes(&client, &second.access).await, 404);
}

#[tokio::test]
async fn issuer_registers_and_removes_clients() {
    let issuer = Issuer::start().await;
    let redirects = json!([REDIRECT]);
    for (asked, error) in [
        (json!({}), "invalid_redirect_uri"),
        (
            json!({"redirect_uris": ["http://a.example/"]}),
            "invalid_redirect_uri",
        ),
        (
            json!({"redirect_uris": ["http://127.0.0.1:1/"]}),
            "invalid_redirect_uri",
        ),
        (
            json!({"redirect_uris": redirects, "grant_types": ["refresh_token"]}),
            "invalid_client_metadata",
        ),
        (
            json!({"redirect_uris": redirects, "scope": "more"}),
            "invalid_client_metadata",
        ),
        (
            json!({"redirect_uris": redirects, "token_endpoint_auth_method": "private_key_jwt"}),
            "invalid_client_metadata",
        ),
    ] {
        let (status, answer) = issuer.registers(asked).await;
        assert_eq!((status, &answer["error"]), (400, &json!(error)));
    }
    let native = json!({"redirect_uris": ["http://127.0.0.1:1/"], "application_type": "native"});
    let (status, answer) = issuer.registers(native).await;
    assert_eq!(
        (status, answer["client_secret_expires_at"].as_i64()),
        (201, Some(0))
    );

    let client = issuer.public_client().await;
    let pair = issuer.connect(&client).await;
    let registered = issuer.lock().clients.last().unwrap().registered.clone();
    let (token, answer) = registered.unwrap();
    let remove = |token: &str| {
        let uri = answer["registration_client_uri"].as_str().unwrap();
        http().delete(uri).bearer_auth(token).send()
    };
    assert_eq!(remove("rat-0").await.unwrap().status(), 401);
    assert_eq!(issuer.clients().len(), 2);
    assert_eq!(remove(&token).await.unwrap().status(), 204);
    assert_eq!(remove(&token).await.unwrap().status(), 401);
    assert!(!issuer.clients().contains(&client));
    assert_eq!(issuer.revokes(&client, &pair.access).await, 401);
    assert!(issuer.is_active(&pair.access));
    issuer.configure(|s| s.dynamic_registration = false);
    assert_eq!(issuer.registers(json!({})).await.0, 404);
}

#[tokio::test]
async fn issuer_asks_for_the_registered_proof() {
    let issuer = Issuer::start().await;
    let known = StaticClient {
        id: "a client".to_owned(),
        secret: Some("a:b+c%/".to_owned()),
        redirect_uris: vec![REDIRECT.to_owned()],
    };
    issuer.configure(|s| s.static_clients.push(known));
    let form = issuer.code("a client").await;
    let posted = but(&form, "client_secret", Some("a:b+c%/"));
    let (basic, raw) = (Some("a+client:a%3Ab%2Bc%25%2F"), Some("a client:a:b+c%/"));
    assert_eq!(issuer.post("/token", &form).await.0, 401);
    assert_eq!(issuer.post_as("/token", raw, &form).await.0, 401);
    assert_eq!(issuer.post_as("/token", basic, &posted).await.0, 400);
    assert_eq!(issuer.post_as("/token", basic, &form).await.0, 200);
    issuer.configure(|s| s.client_auth = vec!["client_secret_post"]);
    let form = issuer.code("a client").await;
    let posted = but(&form, "client_secret", Some("a:b+c%/"));
    assert_eq!(issuer.post_as("/token", basic, &form).await.0, 401);
    assert_eq!(issuer.post("/token", &posted).await.0, 200);
    assert_eq!(issuer.clients().len(), 0);
}

#[tokio::test]
async fn issuer_reads_metadata_documents() {
    let issuer = Issuer::start().await;
    issuer.configure(|s| s.metadata_documents = true);
    let here = format!("{}/client.json", issuer.url);
    let document = json!({"client_id": here, "client_name": "Hawser", "redirect_uris": [REDIRECT],
                          "token_endpoint_auth_method": "none"});
    let page = issuer.page(&issuer.asks(&here));
    let fetch = || async { http().get(&page).send().await.unwrap().status().as_u16() };
    assert_eq!(fetch().await, 400, "no document");
    for (name, value) in [
        ("client_id", "other"),
        ("token_endpoint_auth_method", "client_secret_post"),
    ] {
        let mut document = document.clone();
        document[name] = value.into();
        let (status, body) = (Some(200), document.to_string());
        issuer.fault(Fault {
            status,
            body,
            ..Fault::once("/client.json")
        });
        assert_eq!(fetch().await, 400, "{name}");
    }
    let (status, body) = (Some(200), document.to_string());
    issuer.fault(Fault {
        status,
        body,
        ..Fault::once("/client.json")
    });
    assert_eq!(issuer.connect(&here).await.client_id, here);
    let far = "https://hawser.example/client.json";
    let mut document = document;
    document["client_id"] = far.into();
    issuer.configure(|s| {
        drop(
            s.trusted_metadata_documents
                .insert(far.to_owned(), document),
        )
    });
    // The document does not ask for the refresh grant.
    assert_eq!(issuer.connect(far).await.refresh, None);
}

#[tokio::test]
async fn issuer_fails_as_told() {
    let issuer = Issuer::start().await;
    let client = issuer.public_client().await;
    let metadata = "/.well-known/oauth-authorization-server";
    issuer.fault(Fault {
        status: Some(503),
        ..Fault::once("-server")
    });
    issuer.fault(Fault {
        delay: Some(Duration::from_millis(30)),
        ..Fault::once("-server")
    });
    assert_eq!(issuer.get(metadata).await.0, 503);
    let begun = Instant::now();
    assert_eq!(issuer.get(metadata).await.0, 200);
    assert!(begun.elapsed() >= Duration::from_millis(30));
    issuer.fault(Fault {
        drop: true,
        ..Fault::always("")
    });
    assert!(http().get(&issuer.url).send().await.is_err());
    issuer.clear_faults();

    // The answer waits while the tokens are already there.
    let first = issuer.connect(&client).await;
    let gate = Gate::closed();
    let hold = Some(gate.clone());
    issuer.fault(Fault {
        hold,
        after: true,
        ..Fault::once("/token")
    });
    let (asking, form) = (issuer.clone(), issuer.refreshing(&first));
    let answer = tokio::spawn(async move { asking.post("/token", &form).await });
    gate.reached().await;
    let second = issuer.issued().pop().unwrap();
    assert_eq!(
        (second.family, issuer.log().pop().unwrap().status),
        (first.family, None)
    );
    gate.open();
    let (status, answer) = answer.await.unwrap();
    assert_eq!(
        (status, &answer["access_token"]),
        (200, &json!(second.access))
    );
    assert_eq!(issuer.log().pop().unwrap().status, Some(200));

    // The answer is lost: who then asks again with what it has is taken for a thief.
    issuer.fault(Fault {
        status: Some(502),
        after: true,
        ..Fault::once("/token")
    });
    let form = issuer.refreshing(&second);
    assert_eq!(issuer.post("/token", &form).await.0, 502);
    assert_eq!(issuer.issued().len(), 3);
    assert_eq!(issuer.post("/token", &form).await.0, 400);
    assert_eq!(
        (issuer.families_killed(), issuer.live_tokens().len()),
        (1, 0)
    );
}
