//! What a login's token is for: calls to what its audience names, and nothing else unless the person allowed the application to
//! manage. Neither another resource, nor another tenant, nor what has ended is reached by it.

use crate::application_sign_in::{Stage, decide, taken_back};
use crate::harness::{Browser, Caller, Hawser};
use crate::logins::*;
use crate::upstream::{Upstream, call, is_served, register};
use serde_json::{Value, json};

const CHALLENGED: &str = "Bearer error=\"insufficient_scope\", scope=\"manage\"";

/// Tokens of an admin who has let the application call these, and manage if `scopes` say so.
async fn tokens_for(hawser: &Hawser, resources: &[String], scopes: &[&str]) -> Tokens {
    let mut allowed = allowed(hawser, "acme", "user:ada").await;
    allowed.resources = resources.to_vec();
    allowed.scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
    allowed.identity.scopes = ["mgmt.admin".to_owned()].into();
    allowed.identity.permissions = [
        "mcp-servers:read",
        "mcp-servers:create",
        "mcp-servers:invoke",
    ]
    .map(str::to_owned)
    .into();
    signed_in_as(hawser, allowed).await
}

/// One request to each part of the management: method, path, body.
fn managing(server: &str, login: &str) -> Vec<(&'static str, String, Value)> {
    let manifest = json!({"type": "mcp-server/remote", "name": "evil", "description": "d", "url": "https://evil.example/mcp"});
    let disconnect =
        json!({"authSource": "auth-override", "subjectId": "ada", "subjectType": "user"});
    let of = |path: &str| format!("/api/svc/v1/mcp/{server}{path}");
    vec![
        (
            "PUT",
            "/api/svc/v1/mcp".to_owned(),
            json!({"manifest": manifest}),
        ),
        ("GET", "/api/svc/v1/mcp".to_owned(), Value::Null),
        ("DELETE", of(""), Value::Null),
        ("DELETE", of("/auth"), disconnect),
        ("DELETE", of("/auth/tokens"), Value::Null),
        ("GET", of("/authorize"), Value::Null),
        (
            "POST",
            "/v1/deepagents/mcp-servers".to_owned(),
            json!({"name": "evil", "url": "https://evil.example/mcp"}),
        ),
        ("GET", "/v1/deepagents/mcp-servers".to_owned(), Value::Null),
        (
            "POST",
            "/api/v1/mcp-servers".to_owned(),
            json!({"mcp_server": "pipedrive", "access_type": "read", "api_key": "k"}),
        ),
        ("DELETE", "/api/v1/mcp-servers/1".to_owned(), Value::Null),
        ("GET", "/v1/receipts".to_owned(), Value::Null),
        ("GET", "/v1/audit".to_owned(), Value::Null),
        ("GET", "/v1/logins".to_owned(), Value::Null),
        ("DELETE", format!("/v1/logins/{login}"), Value::Null),
        (
            "DELETE",
            "/v1/subjects/user/ada/credentials".to_owned(),
            Value::Null,
        ),
    ]
}

/// Every request of the management is refused with this status, and nothing of the table changes.
async fn manages_nothing(hawser: &Hawser, caller: &Caller, server: &str, login: &str, status: u16) {
    let before = hawser.ground().items().await;
    for (method, path, body) in managing(server, login) {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let refused = caller.send(method, &path, &[], body.into()).await;
        assert_eq!(refused.status, status, "{method} {path}: {refused:?}");
        let challenge = refused.header("www-authenticate").unwrap();
        let expected = if status == 403 { CHALLENGED } else { "Bearer" };
        assert_eq!(challenge, expected, "{method} {path}");
    }
    assert_eq!(hawser.ground().items().await, before);
}

#[tokio::test]
async fn a_token_for_calls_manages_nothing_whatever_its_person_may() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let wiki = register(&hawser, "wiki", &upstream.url, json!({})).await;
    let whole = tokens_for(&hawser, std::slice::from_ref(&hawser.url), &["mcp"]).await;
    let login = only(&hawser.admin("acme")).await;
    is_served(&whole.caller(&hawser), &wiki).await;
    manages_nothing(&hawser, &whole.caller(&hawser), &wiki, &login, 403).await;
    // A refresh asks for no more than was allowed.
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", APPLICATION),
        ("refresh_token", whole.refresh.as_str()),
        ("scope", "mcp manage"),
    ];
    is_refused(&ask(&hawser, &form).await, 400, "invalid_scope");
    // Once its login has ended it is refused as one that is over: more scopes would not help.
    let admin = hawser.admin("acme");
    let ended = admin.delete(&format!("/v1/logins/{login}")).await;
    assert_eq!(ended.status, 200, "{ended:?}");
    manages_nothing(&hawser, &whole.caller(&hawser), &wiki, &login, 401).await;
    // Of a server, whatever the scopes say: the audience decides first.
    let at_wiki = [format!("{}/mcp/{wiki}", hawser.url)];
    let one = tokens_for(&hawser, &at_wiki, &["mcp", "manage"]).await;
    assert_eq!(call(&one.caller(&hawser), &wiki).await.status, 200);
    manages_nothing(&hawser, &one.caller(&hawser), &wiki, &login, 401).await;
}

#[tokio::test]
async fn a_token_with_the_scope_manages_what_its_person_may() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let wiki = register(&hawser, "wiki", &upstream.url, json!({})).await;
    let base = hawser.url.clone();
    let at_wiki = format!("{base}/mcp/{wiki}");
    let tokens = tokens_for(
        &hawser,
        &[base.clone(), at_wiki.clone()],
        &["mcp", "manage"],
    )
    .await;
    let login = only(&hawser.admin("acme")).await;
    for (method, path, body) in managing(&wiki, "00000000000000000000000000") {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let caller = tokens.caller(&hawser);
        if (method, path.as_str()) == ("DELETE", "/v1/subjects/user/ada/credentials") {
            continue;
        }
        let answer = caller.send(method, &path, &[], body.into()).await;
        assert!(
            ![401, 403].contains(&answer.status),
            "{method} {path}: {answer:?}"
        );
    }
    // A token that was narrowed to calls, by its scope or by its resource, is one for calls.
    let form = |name, value| {
        [
            ("grant_type", "refresh_token"),
            ("client_id", APPLICATION),
            ("refresh_token", tokens.refresh.as_str()),
            (name, value),
        ]
    };
    let narrow = Tokens::of(&ask(&hawser, &form("scope", "mcp")).await);
    manages_nothing(&hawser, &narrow.caller(&hawser), &wiki, &login, 403).await;
    let narrow = Tokens::of(&ask(&hawser, &form("resource", &at_wiki)).await);
    manages_nothing(&hawser, &narrow.caller(&hawser), &wiki, &login, 401).await;
}

#[tokio::test]
async fn the_page_names_management_and_gives_it_to_those_that_ask_for_all() {
    let stage = Stage::set().await;
    let id = stage.application(REDIRECT).await;
    let base = stage.hawser.url.clone();
    let scope_of = async |page: &crate::harness::Page| {
        let code = taken_back(page)["code"].clone();
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", &id),
            ("code", &code),
            ("code_verifier", VERIFIER),
        ];
        ask(&stage.hawser, &form).await.json()["scope"].clone()
    };
    for (changes, scope) in [
        (json!({"scope": "mcp manage"}), "mcp"),
        (
            json!({"scope": "mcp manage", "resource": base}),
            "manage mcp",
        ),
        (
            json!({"scope": "manage offline_access", "resource": null}),
            "manage mcp offline_access",
        ),
        (
            json!({"scope": "mcp MANAGE manage.all", "resource": null}),
            "mcp",
        ),
        (json!({"resource": null}), "mcp"),
    ] {
        let mut browser = Browser::new();
        let address = stage.address(&id, changes.clone());
        // Not remembered from the round before: whoever ends a login is asked again.
        let (at, page) = stage.sign_in(&mut browser, &address, json!({})).await;
        assert_eq!(page.status, 200, "{changes}: {page:?}");
        let manages = scope.contains("manage");
        assert_eq!(
            page.text.contains("This service itself"),
            manages,
            "{changes}"
        );
        assert_eq!(page.text.contains("call and manage"), manages, "{changes}");
        let back = decide(&mut browser, &at, &page, "allow").await;
        assert_eq!(scope_of(&back).await, scope, "{changes}");
        let admin = stage.hawser.admin("acme");
        let login = only(&admin).await;
        assert_eq!(
            admin.delete(&format!("/v1/logins/{login}")).await.status,
            200
        );
    }
    // Who was let in for calls is asked about before it may manage.
    let calls = stage.address(&id, json!({"resource": null}));
    let mut browser = Browser::new();
    let (at, page) = stage.sign_in(&mut browser, &calls, json!({})).await;
    taken_back(&decide(&mut browser, &at, &page, "allow").await);
    let (_, page) = stage.sign_in(&mut Browser::new(), &calls, json!({})).await;
    assert_eq!(page.status, 303, "allowed before");
    let more = stage.address(&id, json!({"resource": null, "scope": "manage"}));
    let (_, page) = stage.sign_in(&mut Browser::new(), &more, json!({})).await;
    assert_eq!(page.status, 200, "{page:?}");
}

#[tokio::test]
async fn a_client_that_takes_every_scope_that_is_published_does_not_manage() {
    let stage = Stage::set().await;
    let anyone = stage.hawser.anonymous();
    for path in [
        "/.well-known/oauth-authorization-server",
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/mcp/wiki",
    ] {
        let scopes = anyone.get(path).await.json()["scopes_supported"].to_string();
        assert!(
            scopes.contains("\"mcp\"") && !scopes.contains("manage"),
            "{path}: {scopes}"
        );
    }
    let metadata = json!({"redirect_uris": [REDIRECT], "token_endpoint_auth_method": "none", "scope": "mcp manage"});
    let scope = stage.register(metadata).await.json()["scope"].clone();
    assert_eq!(scope, "mcp offline_access");
}
