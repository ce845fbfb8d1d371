//! Tokens of connections' own clients (Kambrium 13 and 15): who gets one, what it opens, and when it is over.

use crate::harness::{Answer, Caller, Hawser, per_user};
use crate::issuer::Issuer;
use crate::upstream::{MODERN, Upstream, message};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use serde_json::{Value, json};

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// A running Hawser whose one integration is an MCP server in process.
struct Scene {
    hawser: Hawser,
    upstream: Upstream,
}

/// A connection's number and the credentials of its client.
struct Client {
    number: u64,
    id: String,
    secret: String,
}

impl Scene {
    async fn new() -> Self {
        let upstream = Upstream::start().await;
        let mail = json!({"display_name": "Mail", "mcp_url": upstream.url, "api_key": {}});
        let hawser = Hawser::with_integrations(&json!({"mail": mail})).await;
        Self { hawser, upstream }
    }

    fn ada(&self) -> Caller {
        self.hawser
            .caller("acme", "ada", json!({"scope": "mgmt.read mgmt.write"}))
    }

    async fn connect(&self, access_type: &str) -> Client {
        let body = json!({"mcp_server": "mail", "access_type": access_type, "api_key": "k-1"});
        let made = self.ada().post("/api/v1/mcp-servers", body).await;
        assert_eq!(made.status, 201, "{made:?}");
        let data = made.json()["data"].clone();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        assert_eq!(
            data["oauth2_client_id"],
            data["oauth2_credentials"]["client_id"]
        );
        Client {
            number: data["id"].as_u64().unwrap(),
            id: text(&data["oauth2_credentials"]["client_id"]),
            secret: text(&data["oauth2_credentials"]["client_secret"]),
        }
    }

    /// Asks for a token with this form.
    async fn ask(&self, client: &Client, form: &str) -> Answer {
        ask(&self.hawser, &basic(&client.id, &client.secret), form).await
    }

    async fn token(&self, client: &Client) -> Caller {
        let answer = self.ask(client, "grant_type=client_credentials").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        self.bearer(answer.json()["access_token"].as_str().unwrap())
    }

    fn bearer(&self, token: &str) -> Caller {
        self.hawser
            .with(vec![("authorization", format!("Bearer {token}"))])
    }

    /// How many calls were passed on.
    fn passed_on(&self) -> usize {
        self.upstream.count()
    }
}

fn basic(id: &str, secret: &str) -> String {
    format!(
        "Basic {}",
        BASE64.encode(format!("{id}:{secret}").as_bytes())
    )
}

/// A request for a token whose client authenticates in the form.
fn in_form(id: &str, secret: &str) -> String {
    format!("grant_type=client_credentials&client_id={id}&client_secret={secret}")
}

async fn ask(hawser: &Hawser, authorization: &str, form: &str) -> Answer {
    let headers = [FORM, ("authorization", authorization)];
    let body = form.as_bytes().to_vec();
    hawser
        .anonymous()
        .send("POST", "/oauth2/token", &headers, body)
        .await
}

async fn call(caller: &Caller, server: impl std::fmt::Display) -> Answer {
    let body = message("tools/list").to_string().into_bytes();
    caller
        .send("POST", &format!("/mcp/{server}"), &[MODERN], body)
        .await
}

#[track_caller]
fn is_unauthenticated(answer: &Answer, data: Value) {
    let error = json!({"code": -32000, "message": "Authentication failed", "data": data});
    answer.is(401, json!({"jsonrpc": "2.0", "id": null, "error": error}));
    let challenge = answer.header("www-authenticate").unwrap();
    assert!(
        challenge.starts_with("Bearer error=\"invalid_token\""),
        "{challenge}"
    );
}

#[tokio::test]
async fn a_token_is_for_calls_to_its_connection_alone() {
    let scene = Scene::new().await;
    let client = scene.connect("write").await;
    let other = scene.connect("write").await;
    let answer = scene.ask(&client, "grant_type=client_credentials").await;
    let token = answer.json()["access_token"].clone();
    answer.is(
        200,
        json!({"access_token": token, "token_type": "Bearer", "expires_in": 3600, "scope": "mcp.read mcp.write"}),
    );
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
    let claims = token.as_str().unwrap().split('.').nth(1).unwrap();
    let claims: Value =
        serde_json::from_slice(&BASE64URL_NOPAD.decode(claims.as_bytes()).unwrap()).unwrap();
    assert_eq!(
        json!([
            claims["sub"],
            claims["client_id"],
            claims["token_use"],
            claims["mcp_server_id"],
            claims["scope"]
        ]),
        json!([
            "ada",
            client.id,
            "access",
            client.number,
            "mcp.read mcp.write"
        ])
    );
    let caller = scene.bearer(token.as_str().unwrap());
    assert_eq!(call(&caller, client.number).await.status, 200);
    assert_eq!(scene.passed_on(), 1);
    let elsewhere = call(&caller, other.number).await;
    assert_eq!(
        (elsewhere.status, scene.passed_on()),
        (404, 1),
        "{elsewhere:?}"
    );

    let managed = caller.get("/api/v1/mcp-servers").await;
    managed.is(
        403,
        json!({"detail": "You do not have permission to view connections."}),
    );
    for path in [
        "/api/svc/v1/mcp",
        "/v1/deepagents/mcp-servers",
        "/v1/receipts",
        "/v1/audit",
    ] {
        assert_eq!(caller.get(path).await.status, 401, "{path}");
    }
}

#[tokio::test]
async fn scopes_are_those_of_the_connection_or_fewer() {
    let scene = Scene::new().await;
    let (reads, writes) = (
        scene.connect("read").await,
        scene.connect("individual").await,
    );
    let scope = async |client: &Client, scope: &str| {
        let form = format!("grant_type=client_credentials&scope={scope}");
        let answer = scene.ask(client, &form).await;
        let body = answer.json();
        let word = body["scope"].as_str().or(body["error"].as_str());
        (answer.status, word.unwrap().to_owned())
    };
    let is = |status: u16, word: &str| (status, word.to_owned());
    assert_eq!(scope(&reads, "").await, is(200, "mcp.read"));
    assert_eq!(scope(&reads, "+").await, is(200, "mcp.read"));
    assert_eq!(scope(&reads, "mcp.write").await, is(400, "invalid_scope"));
    assert_eq!(scope(&writes, "mcp.write").await, is(200, "mcp.write"));
    assert_eq!(
        scope(&writes, "mcp.write+mcp.read").await,
        is(200, "mcp.read mcp.write")
    );
    for more in ["mgmt.read", "mcp.tools.execute", "mcp.read+x"] {
        assert_eq!(
            scope(&writes, more).await,
            is(400, "invalid_scope"),
            "{more}"
        );
    }
    // A token keeps no scope that its connection has lost.
    let form = "grant_type=client_credentials&scope=mcp.write";
    let token = scene.ask(&writes, form).await.json()["access_token"].clone();
    let caller = scene.bearer(token.as_str().unwrap());
    assert_eq!(call(&caller, writes.number).await.status, 200);
    let path = format!("/api/v1/mcp-servers/{}", writes.number);
    scene.ada().put(&path, json!({"access_type": "read"})).await;
    let lost = call(&caller, writes.number).await;
    assert_eq!(
        (lost.status, &lost.json()["error"]["data"]),
        (403, &json!({"required_scope": "mcp.read"}))
    );
}

#[tokio::test]
async fn only_a_client_gets_a_token() {
    let scene = Scene::new().await;
    let client = scene.connect("write").await;
    let sibling = scene
        .hawser
        .admin("acme")
        .register("wiki", per_user(), &[])
        .await;
    let listed = scene
        .hawser
        .admin("acme")
        .get("/api/v1/mcp-servers")
        .await
        .json();
    let of_sibling = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["id"] == sibling.number);
    let of_sibling = of_sibling.unwrap()["oauth2_client_id"].as_str().unwrap();
    let good = basic(&client.id, &client.secret);
    for authorization in [
        basic(&client.id, "0"),
        basic(&client.id, ""),
        basic(of_sibling, ""),
        basic(of_sibling, &client.secret),
        basic("hwc_x", &client.secret),
        basic(&client.id.replace("hwc", "hwk"), &client.secret),
        "Basic".to_owned(),
        "Basic !".to_owned(),
        good.replace("Basic", "Bearer"),
        format!("Basic {}", BASE64.encode(client.id.as_bytes())),
    ] {
        let answer = ask(
            &scene.hawser,
            &authorization,
            "grant_type=client_credentials",
        )
        .await;
        answer.is(401, json!({"error": "invalid_client"}));
        assert_eq!(
            answer.header("www-authenticate").as_deref(),
            Some("Basic"),
            "{authorization}"
        );
    }
    let two_methods = in_form(&client.id, &client.secret);
    for (form, word) in [
        ("", "invalid_request"),
        ("scope=mcp.read", "invalid_request"),
        ("grant_type=", "invalid_request"),
        (
            "grant_type=client_credentials&grant_type=client_credentials",
            "invalid_request",
        ),
        (
            "grant_type=client_credentials&scope=mcp.read&scope=mcp.read",
            "invalid_request",
        ),
        ("grant_type=refresh_token", "unsupported_grant_type"),
        // Two ways to authenticate at once (RFC 6749 2.3).
        (&two_methods, "invalid_request"),
        (
            "grant_type=client_credentials&client_id=hwc_other",
            "invalid_request",
        ),
    ] {
        ask(&scene.hawser, &good, form)
            .await
            .is(400, json!({"error": word}));
    }
    for (form, status, word) in [
        (in_form(&client.id, "0"), 401, "invalid_client"),
        (in_form(of_sibling, ""), 401, "invalid_client"),
        (in_form("", &client.secret), 401, "invalid_client"),
        (
            format!("{}&client_secret=x", in_form(&client.id, &client.secret)),
            400,
            "invalid_request",
        ),
    ] {
        ask(&scene.hawser, "", &form)
            .await
            .is(status, json!({"error": word}));
    }
    let headers = [("authorization", good.as_str())];
    let get = scene
        .hawser
        .anonymous()
        .send("GET", "/oauth2/token", &headers, Vec::new())
        .await;
    assert_eq!(
        (get.status, get.header("allow").as_deref()),
        (405, Some("POST"))
    );
}

#[tokio::test]
async fn with_the_connection_its_tokens_and_its_client_are_gone() {
    let scene = Scene::new().await;
    let (client, kept) = (scene.connect("write").await, scene.connect("write").await);
    let (caller, other) = (scene.token(&client).await, scene.token(&kept).await);
    let initialize = message("initialize").to_string().into_bytes();
    let path = format!("/mcp/{}", client.number);
    let opened = caller.send("POST", &path, &[], initialize).await;
    assert_eq!(opened.status, 200, "{opened:?}");
    let before = scene.passed_on();
    let gone = scene
        .ada()
        .delete(&format!("/api/v1/mcp-servers/{}", client.number))
        .await;
    assert_eq!(gone.status, 200, "{gone:?}");
    let invalid = json!({"error": "Invalid token"});
    is_unauthenticated(&call(&caller, client.number).await, invalid.clone());
    is_unauthenticated(&call(&caller, kept.number).await, invalid.clone());
    if let Some(session) = opened.header("mcp-session-id") {
        let headers = [("mcp-session-id", session.as_str())];
        let body = message("tools/list").to_string().into_bytes();
        is_unauthenticated(
            &caller.send("POST", &path, &headers, body).await,
            invalid.clone(),
        );
    }
    assert_eq!(caller.get("/api/v1/mcp-servers").await.status, 401);
    let refused = scene.ask(&client, "grant_type=client_credentials").await;
    refused.is(401, json!({"error": "invalid_client"}));
    assert_eq!(scene.passed_on(), before);
    assert_eq!(
        call(&other, kept.number).await.status,
        200,
        "others live on"
    );
}

#[tokio::test]
async fn a_token_serves_for_an_hour() {
    let upstream = Upstream::start().await;
    let mail = json!({"display_name": "Mail", "mcp_url": upstream.url, "api_key": {}});
    let hawser = Hawser::by_hand_with_integrations(&json!({"mail": mail})).await;
    let scene = Scene { hawser, upstream };
    let client = scene.connect("write").await;
    let caller = scene.token(&client).await;
    let end = scene.hawser.app.now().plus_seconds(3600).seconds_z();
    scene.hawser.pass(3590);
    assert_eq!(call(&caller, client.number).await.status, 200);
    scene.hawser.pass(11);
    let late = json!({"error": "Token expired", "expires_at": end, "refresh_required": true});
    is_unauthenticated(&call(&caller, client.number).await, late);
    // So it is with tokens of the operator's issuer.
    let claims = json!({"tenantName": "acme", "sub": "ada", "exp": 1_768_469_400});
    let late = json!({"error": "Token expired", "expires_at": "2026-01-15T09:30:00Z", "refresh_required": true});
    is_unauthenticated(
        &call(&scene.hawser.claims(claims), client.number).await,
        late,
    );
}

#[tokio::test]
async fn a_token_that_was_tampered_with_opens_nothing() {
    let scene = Scene::new().await;
    let (one, two) = (scene.connect("write").await, scene.connect("write").await);
    let text = async |client: &Client| {
        let answer = scene.ask(client, "grant_type=client_credentials").await;
        answer.json()["access_token"].as_str().unwrap().to_owned()
    };
    let (of_one, of_two) = (text(&one).await, text(&two).await);
    let parts: Vec<_> = of_one.split('.').collect();
    let others: Vec<_> = of_two.split('.').collect();
    let encode = |value: Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let decode = |part: &str| -> Value {
        serde_json::from_slice(&BASE64URL_NOPAD.decode(part.as_bytes()).unwrap()).unwrap()
    };
    let mut wider = decode(parts[1]);
    wider["mcp_server_id"] = two.number.into();
    let none = encode(json!({"alg": "none", "kid": one.id}));
    let symmetric = encode(json!({"alg": "HS256", "kid": one.id}));
    for token in [
        [parts[0], &encode(wider), parts[2]].join("."),
        [parts[0], parts[1], others[2]].join("."),
        [others[0], parts[1], parts[2]].join("."),
        [parts[0], others[1], others[2]].join("."),
        [none.as_str(), parts[1], ""].join("."),
        [symmetric.as_str(), parts[1], parts[2]].join("."),
        [parts[0], parts[1]].join("."),
    ] {
        for client in [&one, &two] {
            let answer = call(&scene.bearer(&token), client.number).await;
            is_unauthenticated(&answer, json!({"error": "Invalid token"}));
        }
    }
    assert_eq!(scene.passed_on(), 0);
}

#[tokio::test]
async fn nobody_is_sent_to_consent_in_the_owners_place() {
    let issuer = Issuer::start().await;
    let mail = json!({"display_name": "Mail", "mcp_url": issuer.mcp_url(), "oauth": {}});
    let hawser = Hawser::with_integrations(&json!({"mail": mail})).await;
    let scopes = json!({"scope": "mgmt.write mcp.write"});
    let ada = hawser.caller("acme", "ada", scopes);
    let body = json!({"mcp_server": "mail", "access_type": "write", "auth_method": "oauth"});
    let data = ada.post("/api/v1/mcp-servers", body).await.json()["data"].clone();
    let credentials = &data["oauth2_credentials"];
    let [id, secret] =
        ["client_id", "client_secret"].map(|name| credentials[name].as_str().unwrap());
    let answer = ask(&hawser, &basic(id, secret), "grant_type=client_credentials")
        .await
        .json();
    let token = answer["access_token"].as_str().unwrap();
    let client = hawser.with(vec![("authorization", format!("Bearer {token}"))]);
    let refused = |answer: &Answer| answer.json()["error"]["data"].clone();
    let of_client = refused(&call(&client, &data["id"]).await);
    assert_eq!(of_client, json!({"reason": "never_connected"}));
    let of_owner = refused(&call(&ada, &data["id"]).await);
    assert!(of_owner["consentUrl"].is_string(), "{of_owner}");
}

// Personal access tokens

#[tokio::test]
async fn a_personal_token_acts_as_its_subject_with_its_scopes() {
    let scene = Scene::new().await;
    let client = scene.connect("write").await;
    let scopes = json!({"scopes": ["mgmt.read", "mcp.read"]});
    let token = scene
        .hawser
        .personal("acme", "user:ada", scopes.clone())
        .await;
    let listed = token.get("/api/v1/mcp-servers").await.json();
    assert_eq!(listed["data"][0]["id"], client.number);
    assert_eq!(call(&token, client.number).await.status, 200);
    let body = json!({"mcp_server": "mail", "access_type": "write", "api_key": "k"});
    let refused = token.post("/api/v1/mcp-servers", body).await;
    refused.is(
        403,
        json!({"detail": "You do not have permission to create connections."}),
    );
    let of_bob = scene.hawser.personal("acme", "user:bob", scopes).await;
    assert_eq!(
        of_bob.get("/api/v1/mcp-servers").await.json()["data"],
        json!([])
    );
    assert_eq!(call(&of_bob, client.number).await.status, 404);

    let made_up = format!("pat_{}", "A".repeat(43));
    for text in [made_up.as_str(), "pat_", "pat_x"] {
        let answer = scene.bearer(text).get("/api/v1/mcp-servers").await;
        answer.is(401, json!({"detail": "Token validation failed"}));
    }
    // As an API key it is none.
    let text = token.headers[0].1.replace("Bearer ", "");
    let as_key = scene.hawser.with(vec![("x-api-key", text)]);
    assert_eq!(as_key.get("/api/v1/mcp-servers").await.status, 401);
}

#[tokio::test]
async fn a_personal_token_that_is_bound_reaches_one_connection() {
    let scene = Scene::new().await;
    let (own, other) = (scene.connect("write").await, scene.connect("write").await);
    let bound = json!({"scopes": ["mgmt.read", "mgmt.write", "mgmt.admin", "mcp.write"], "bound_to": own.number});
    let token = scene.hawser.personal("acme", "user:ada", bound).await;
    let path = |number: u64| format!("/api/v1/mcp-servers/{number}");
    let listed = token.get("/api/v1/mcp-servers").await.json();
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    assert_eq!(token.get("/api/v1/mcp-servers/available").await.status, 200);
    assert_eq!(token.get(&path(own.number)).await.status, 200);
    assert_eq!(token.get(&path(other.number)).await.status, 404);
    assert_eq!(token.delete(&path(other.number)).await.status, 404);
    let body = json!({"mcp_server": "mail", "access_type": "write", "api_key": "k"});
    assert_eq!(token.post("/api/v1/mcp-servers", body).await.status, 403);
    assert_eq!(call(&token, own.number).await.status, 200);
    assert_eq!(call(&token, other.number).await.status, 404);
    for path in [
        "/api/svc/v1/mcp",
        "/v1/deepagents/mcp-servers",
        "/v1/receipts",
    ] {
        assert_eq!(token.get(path).await.status, 401, "{path}");
    }
}

#[tokio::test]
async fn a_personal_token_ends_with_its_connection_or_its_time() {
    let upstream = Upstream::start().await;
    let mail = json!({"display_name": "Mail", "mcp_url": upstream.url, "api_key": {}});
    let hawser = Hawser::by_hand_with_integrations(&json!({"mail": mail})).await;
    let scene = Scene { hawser, upstream };
    let client = scene.connect("write").await;
    let grants = |more: Value| {
        let mut grants = json!({"scopes": ["mgmt.read", "mcp.write"]});
        grants
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        grants
    };
    let brief = scene
        .hawser
        .personal("acme", "user:ada", grants(json!({"expires_in": 60})))
        .await;
    assert_eq!(call(&brief, client.number).await.status, 200);
    let end = scene.hawser.app.now().plus_seconds(60).seconds_z();
    scene.hawser.pass(60);
    let late = json!({"error": "Token expired", "expires_at": end, "refresh_required": true});
    is_unauthenticated(&call(&brief, client.number).await, late);

    let free = scene
        .hawser
        .personal("acme", "user:ada", grants(json!({})))
        .await;
    let bound = grants(json!({"bound_to": client.number}));
    let bound = scene.hawser.personal("acme", "user:ada", bound).await;
    assert_eq!(call(&bound, client.number).await.status, 200);
    scene
        .ada()
        .delete(&format!("/api/v1/mcp-servers/{}", client.number))
        .await;
    for settled in [false, true] {
        let invalid = json!({"error": "Invalid token"});
        is_unauthenticated(&call(&bound, client.number).await, invalid);
        assert_eq!(
            bound.get("/api/v1/mcp-servers").await.status,
            401,
            "{settled}"
        );
        assert_eq!(free.get("/api/v1/mcp-servers").await.status, 200);
        assert_eq!(call(&free, client.number).await.status, 404);
        scene.hawser.run_workers().await;
    }
    let items = scene.hawser.ground().items().await;
    let count = |entity: &str| items.iter().filter(|item| item["entity"] == entity).count();
    assert_eq!(
        (count("api-key"), count("personal-lead")),
        (2, 2),
        "the bound one is gone"
    );
    let removed = items
        .iter()
        .find(|item| item["action"] == "key.removed")
        .unwrap();
    assert_eq!(removed["actor"]["worker"], "purge");
}
