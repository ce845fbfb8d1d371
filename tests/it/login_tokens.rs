//! Codes and tokens of logins: each is good once, for whom and for what it was issued, for as long as it was, and as long as
//! its login stands.

use crate::harness::{Ground, Hawser};
use crate::logins::*;
use crate::upstream::{Upstream, call, is_served, register};
use data_encoding::BASE64URL_NOPAD;
use hawser_core::domain::id::hash;
use hawser_core::operations::logins::authorize;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Value, json};

#[tokio::test]
async fn a_code_becomes_a_login_whose_token_anyone_can_verify() {
    let hawser = Hawser::start().await;
    let empty = hawser.anonymous().get("/.well-known/jwks.json").await;
    empty.is(200, json!({"keys": []}));
    assert_eq!(empty.header("cache-control").as_deref(), Some("no-store"));
    let code = code(&hawser, allowed(&hawser, "acme", "user:ada").await).await;
    let answer = redeem(&hawser, &code).await;
    let tokens = Tokens::of(&answer);
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
    let said = answer.json();
    assert_eq!(
        (&said["token_type"], &said["expires_in"], &said["scope"]),
        (&json!("Bearer"), &json!(HOUR), &json!("manage mcp"))
    );
    let published = hawser.anonymous().get("/.well-known/jwks.json").await;
    assert_eq!(
        published.header("cache-control").as_deref(),
        Some("public, max-age=300")
    );
    let set: JwkSet = serde_json::from_str(&published.text).unwrap();
    let header = decode_header(&tokens.access).unwrap();
    assert_eq!(
        (header.alg, header.typ.as_deref()),
        (Algorithm::ES256, Some("at+jwt"))
    );
    let key = set.find(&header.kid.unwrap()).unwrap();
    let mut rules = Validation::new(Algorithm::ES256);
    rules.set_audience(&[&hawser.url]);
    rules.set_issuer(&[&hawser.url]);
    let key = DecodingKey::from_jwk(key).unwrap();
    let claims = decode::<Value>(&tokens.access, &key, &rules)
        .unwrap()
        .claims;
    let id = only(&tokens.caller(&hawser)).await;
    let life = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert_eq!(
        (&claims["sub"], &claims["client_id"], &claims["sid"], life),
        (&json!("ada"), &json!(APPLICATION), &json!(id), HOUR)
    );
    assert!(claims["jti"].is_string() && claims["tenant"] == "acme");
    hawser.run_workers().await;
}

#[tokio::test]
async fn a_code_that_is_used_again_ends_the_login_that_it_became() {
    let hawser = Hawser::start().await;
    let code = code(&hawser, allowed(&hawser, "acme", "user:ada").await).await;
    let tokens = Tokens::of(&redeem(&hawser, &code).await);
    assert!(works(&hawser, &tokens).await);
    // Whoever cannot prove that it is theirs ends nothing.
    let stolen = [
        ("grant_type", "authorization_code"),
        ("client_id", APPLICATION),
        ("code", &code),
        ("redirect_uri", REDIRECT),
    ];
    is_refused(&ask(&hawser, &stolen).await, 400, "invalid_grant");
    assert!(works(&hawser, &tokens).await);
    is_refused(&redeem(&hawser, &code).await, 400, "invalid_grant");
    assert!(!works(&hawser, &tokens).await);
    is_refused(
        &refresh(&hawser, &tokens.refresh).await,
        400,
        "invalid_grant",
    );
    let ended = ends(&hawser).await;
    assert_eq!(ended.len(), 1, "{ended:?}");
    assert_eq!(ended[0]["cause"], "code-reused");
    hawser.run_workers().await;
}

#[tokio::test]
async fn of_two_that_use_a_code_at_once_neither_keeps_a_login() {
    let hawser = Hawser::start().await;
    for _ in 0..10 {
        let code = code(&hawser, allowed(&hawser, "acme", "user:ada").await).await;
        let (one, two) = tokio::join!(redeem(&hawser, &code), redeem(&hawser, &code));
        let mut statuses = [one.status, two.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 400]);
        let first = if one.status == 200 { one } else { two };
        assert!(!works(&hawser, &Tokens::of(&first)).await);
    }
    hawser.run_workers().await;
}

#[tokio::test]
async fn a_code_serves_its_application_with_its_verifier_alone() {
    let hawser = Hawser::start().await;
    let code = code(&hawser, allowed(&hawser, "acme", "user:ada").await).await;
    let good = [
        ("grant_type", "authorization_code"),
        ("client_id", APPLICATION),
        ("code", &code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
    ];
    let other = "https://evil.example/client.json";
    let long = format!("{VERIFIER}{VERIFIER}");
    for (name, value) in [
        ("client_id", other),
        ("redirect_uri", "http://127.0.0.1:7777/callback/"),
        ("redirect_uri", "http://127.0.0.1:8888/callback"),
        ("code_verifier", ""),
        // As `plain` would want it.
        ("code_verifier", CHALLENGE),
        ("code_verifier", &VERIFIER[1..]),
        ("code_verifier", &long),
        ("code", &code[1..]),
    ] {
        let form = good.map(|(n, v)| (n, if n == name { value } else { v }));
        let answer = ask(&hawser, &form).await;
        is_refused(&answer, 400, "invalid_grant");
    }
    let elsewhere = [&good[..], &[("resource", "https://other.example/mcp/x")]].concat();
    is_refused(&ask(&hawser, &elsewhere).await, 400, "invalid_target");
    // None of that has used it.
    assert_eq!(ask(&hawser, &good).await.status, 200);
}

#[tokio::test]
async fn a_code_ends_after_a_minute_and_with_an_offboarding() {
    let hawser = Hawser::start_by_hand().await;
    let ada = || allowed(&hawser, "acme", "user:ada");
    let first = code(&hawser, ada().await).await;
    let second = code(&hawser, ada().await).await;
    hawser.pass(59);
    assert_eq!(redeem(&hawser, &first).await.status, 200);
    hawser.pass(1);
    is_refused(&redeem(&hawser, &second).await, 400, "invalid_grant");
    let third = code(&hawser, ada().await).await;
    let signed_in = ada().await;
    let path = "/v1/subjects/user/ada/credentials";
    assert_eq!(hawser.admin("acme").delete(path).await.status, 200);
    is_refused(&redeem(&hawser, &third).await, 400, "invalid_grant");
    let late = authorize(&hawser.app, signed_in).await.unwrap();
    assert!(late.is_none(), "signed in before the offboarding");
    assert!(works(&hawser, &signed_in_as(&hawser, ada().await).await).await);
    hawser.run_workers().await;
}

#[tokio::test]
async fn a_refresh_token_is_replaced_and_ends_the_login_when_it_comes_again() {
    let hawser = Hawser::start_by_hand().await;
    let first = sign_in(&hawser, "user:ada").await;
    let second = Tokens::of(&refresh(&hawser, &first.refresh).await);
    assert_ne!(first.refresh, second.refresh);
    // Its answer may have been lost.
    hawser.pass(59);
    let again = Tokens::of(&refresh(&hawser, &first.refresh).await);
    assert_eq!(again.refresh, second.refresh);
    let third = Tokens::of(&refresh(&hawser, &second.refresh).await);
    assert!(works(&hawser, &first).await && works(&hawser, &third).await);
    is_refused(
        &refresh(&hawser, &first.refresh).await,
        400,
        "invalid_grant",
    );
    for tokens in [&first, &second, &again, &third] {
        assert!(!works(&hawser, tokens).await);
    }
    is_refused(
        &refresh(&hawser, &third.refresh).await,
        400,
        "invalid_grant",
    );

    let first = sign_in(&hawser, "user:ada").await;
    let second = Tokens::of(&refresh(&hawser, &first.refresh).await);
    hawser.pass(60);
    is_refused(
        &refresh(&hawser, &first.refresh).await,
        400,
        "invalid_grant",
    );
    is_refused(
        &refresh(&hawser, &second.refresh).await,
        400,
        "invalid_grant",
    );
    assert!(!works(&hawser, &second).await);
    hawser.run_workers().await;
}

#[tokio::test]
async fn two_refreshes_at_once_get_the_same_refresh_token() {
    let hawser = Hawser::start().await;
    let mut tokens = sign_in(&hawser, "user:ada").await;
    for _ in 0..20 {
        let all = [0; 4].map(|_| refresh(&hawser, &tokens.refresh));
        let all = futures_util::future::join_all(all).await;
        let all: Vec<_> = all.iter().map(Tokens::of).collect();
        assert!(all.iter().all(|one| one.refresh == all[0].refresh));
        assert_ne!(all[0].refresh, tokens.refresh);
        tokens = all[0].clone();
    }
    assert!(works(&hawser, &tokens).await);
}

#[tokio::test]
async fn nobody_without_a_token_of_a_login_can_end_it() {
    let hawser = Hawser::start().await;
    let tokens = sign_in(&hawser, "user:ada").await;
    let parts: Vec<_> = tokens.refresh.split('_').collect();
    let forged = |at: usize, part: &str| {
        let mut parts = parts.clone();
        parts[at] = part;
        parts.join("_")
    };
    let secret = "a".repeat(52);
    let family = forged(3, &"a".repeat(26));
    // The id of a login is no secret: its access tokens and lists have it.
    for text in [
        family.as_str(),
        &forged(1, "n52gqzls"),
        "hwr_x",
        &tokens.access,
        "",
        &secret,
    ] {
        let status = refresh(&hawser, text).await.status;
        assert_eq!(status, 400, "{text}");
    }
    is_refused(&refresh(&hawser, &family).await, 400, "invalid_grant");
    assert_eq!(revoke(&hawser, &family).await.status, 200);
    assert!(works(&hawser, &tokens).await);
    // Another application, even with the token itself.
    let other = "https://other.example/client.json";
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", other),
        ("refresh_token", &tokens.refresh),
    ];
    is_refused(&ask(&hawser, &form).await, 400, "invalid_grant");
    for token in [&tokens.refresh, &tokens.access] {
        let form = [("client_id", other), ("token", token)];
        let answer = post(&hawser, "/oauth/revoke", &form).await;
        is_refused(&answer, 400, "invalid_grant");
    }
    assert!(works(&hawser, &tokens).await);
    // Whoever has had one of its tokens says by any other that one was stolen.
    let reused = forged(4, &secret);
    is_refused(&refresh(&hawser, &reused).await, 400, "invalid_grant");
    assert!(!works(&hawser, &tokens).await);
}

#[tokio::test]
async fn a_login_ends_after_thirty_idle_days_and_its_tokens_after_an_hour() {
    let hawser = Hawser::start_by_hand().await;
    let mut tokens = sign_in(&hawser, "user:ada").await;
    for _ in 0..3 {
        hawser.pass(HOUR - 1);
        assert!(works(&hawser, &tokens).await);
        hawser.pass(1);
        assert!(!works(&hawser, &tokens).await);
        hawser.pass(30 * DAY - HOUR - 1);
        tokens = Tokens::of(&refresh(&hawser, &tokens.refresh).await);
    }
    let admin = hawser.admin("acme");
    assert_eq!(listed(&admin).await.len(), 1);
    hawser.pass(30 * DAY);
    is_refused(
        &refresh(&hawser, &tokens.refresh).await,
        400,
        "invalid_grant",
    );
    assert_eq!(listed(&admin).await.len(), 0);
}

#[tokio::test]
async fn roles_do_not_outlive_a_day_that_nobody_vouches_for() {
    let hawser = Hawser::start_by_hand().await;
    let mut tokens = sign_in(&hawser, "user:ada").await;
    let logs = async |tokens: &Tokens| tokens.caller(&hawser).get("/v1/audit").await.status;
    assert_eq!(logs(&tokens).await, 200);
    hawser.pass(DAY - 1);
    tokens = Tokens::of(&refresh(&hawser, &tokens.refresh).await);
    assert_eq!(logs(&tokens).await, 200);
    // Without another refresh: what counts is the item.
    hawser.pass(1);
    assert_eq!(logs(&tokens).await, 403);
    tokens = Tokens::of(&refresh(&hawser, &tokens.refresh).await);
    assert_eq!(logs(&tokens).await, 403);
    assert!(works(&hawser, &tokens).await);
}

#[tokio::test]
async fn a_token_serves_the_resource_that_it_is_for() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let wiki = register(&hawser, "wiki", &upstream.url, json!({})).await;
    let mail = register(&hawser, "mail", &upstream.url, json!({})).await;
    let for_one = async |resources: &[String]| {
        let mut allowed = allowed(&hawser, "acme", "user:ada").await;
        allowed.resources = resources.to_vec();
        signed_in_as(&hawser, allowed).await
    };
    let at_wiki = format!("{}/mcp/{wiki}", hawser.url);
    let tokens = for_one(std::slice::from_ref(&at_wiki)).await;
    let ada = tokens.caller(&hawser);
    assert_eq!(call(&ada, &wiki).await.status, 200);
    assert_eq!(upstream.count(), 1);
    let servers = "/api/svc/v1/mcp".to_owned();
    for path in [servers, "/v1/deepagents/mcp-servers".to_owned()] {
        assert_eq!(ada.get(&path).await.status, 401, "{path}");
    }
    for path in ["/api/v1/mcp-servers", "/v1/receipts", "/v1/logins"] {
        assert_eq!(ada.get(path).await.status, 401, "{path}");
    }
    assert_eq!(call(&ada, &mail).await.status, 401);
    let by_name = ada.post("/mcp/v1/wiki/mcp", json!({})).await;
    assert_eq!(by_name.status, 401, "another spelling is another resource");
    let whole = for_one(std::slice::from_ref(&hawser.url))
        .await
        .caller(&hawser);
    for server in [&wiki, &mail] {
        is_served(&whole, server).await;
    }
    // Some of what was allowed.
    let at_mail = format!("{}/mcp/{mail}", hawser.url);
    let both = for_one(&[at_wiki.clone(), at_mail.clone()]).await;
    let form = |resource| {
        [
            ("grant_type", "refresh_token"),
            ("client_id", APPLICATION),
            ("refresh_token", both.refresh.as_str()),
            ("resource", resource),
        ]
    };
    let root = hawser.url.clone();
    is_refused(&ask(&hawser, &form(&root)).await, 400, "invalid_target");
    let narrow = Tokens::of(&ask(&hawser, &form(&at_mail)).await);
    let narrow = narrow.caller(&hawser);
    is_served(&narrow, &mail).await;
    assert_eq!(call(&narrow, &wiki).await.status, 401);
    // Some libraries add a slash to a host alone.
    let slashed = for_one(std::slice::from_ref(&hawser.url)).await;
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", APPLICATION),
        ("refresh_token", slashed.refresh.as_str()),
        ("resource", &format!("{}/", hawser.url)),
    ];
    let slashed = Tokens::of(&ask(&hawser, &form).await);
    is_served(&slashed.caller(&hawser), &mail).await;
    for server in [&wiki, &mail] {
        is_served(&both.caller(&hawser), server).await;
    }
}

#[tokio::test]
async fn a_token_of_one_tenant_reaches_nothing_of_another() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let wiki = register(&hawser, "wiki", &upstream.url, json!({})).await;
    let mine = sign_in(&hawser, "user:ada").await;
    let theirs = allowed(&hawser, "other", "user:ada").await;
    let theirs = signed_in_as(&hawser, theirs).await;
    let (ada, stranger) = (mine.caller(&hawser), theirs.caller(&hawser));
    assert_eq!(call(&ada, &wiki).await.status, 200);
    let refused = call(&stranger, &wiki).await.json()["error"]["code"].clone();
    assert_eq!((refused, upstream.count()), (json!(-32001), 1));
    let id = only(&ada).await;
    assert_ne!(id, only(&stranger).await);
    let gone = stranger.delete(&format!("/v1/logins/{id}")).await;
    assert_eq!(gone.status, 404);
    assert!(works(&hawser, &mine).await);
}

#[tokio::test]
async fn a_token_that_we_did_not_sign_is_none() {
    let hawser = Hawser::start().await;
    let tokens = sign_in(&hawser, "user:ada").await;
    let other = Hawser::start().await;
    let foreign = sign_in(&other, "user:ada").await;
    let parts: Vec<_> = tokens.access.split('.').collect();
    let theirs: Vec<_> = foreign.access.split('.').collect();
    let none =
        BASE64URL_NOPAD.encode(br#"{"alg":"none","typ":"at+jwt","kid":"hwj_1_0000000000000000"}"#);
    let unsigned = parts[0].to_owned();
    for forged in [
        foreign.access.clone(),
        format!("{}.{}.{}", parts[0], parts[1], theirs[2]),
        format!("{}.{}.{}", parts[0], theirs[1], parts[2]),
        format!("{none}.{}.", parts[1]),
        format!("{unsigned}.{}.", parts[1]),
        tokens.refresh.clone(),
    ] {
        let tokens = Tokens {
            access: forged.clone(),
            refresh: String::new(),
        };
        assert!(!works(&hawser, &tokens).await, "{forged}");
    }
    assert!(works(&hawser, &tokens).await);
}

#[tokio::test]
async fn processes_that_start_at_once_sign_with_one_key() {
    let ground = Ground::new().await;
    let mut all = Vec::new();
    for _ in 0..4 {
        all.push(Hawser::on(ground.clone()).await);
    }
    let tokens = all.iter().map(|hawser| sign_in(hawser, "user:ada"));
    let tokens = futures_util::future::join_all(tokens).await;
    let kids = tokens
        .iter()
        .map(|one| decode_header(&one.access).unwrap().kid);
    let kids: std::collections::BTreeSet<_> = kids.collect();
    assert_eq!(kids.len(), 1, "{kids:?}");
    let set = all[0]
        .anonymous()
        .get("/.well-known/jwks.json")
        .await
        .json();
    assert_eq!(set["keys"].as_array().unwrap().len(), 1);
    all[0].run_workers().await;
}

#[tokio::test]
async fn the_table_has_hashes_of_codes_and_refresh_tokens_and_nothing_to_use_them_by() {
    let hawser = Hawser::start().await;
    let mut allowed = allowed(&hawser, "acme", "user:ada").await;
    allowed.provider_token = Some("the-providers-own".to_owned().into());
    let code = code(&hawser, allowed).await;
    let first = Tokens::of(&redeem(&hawser, &code).await);
    let second = Tokens::of(&refresh(&hawser, &first.refresh).await);
    let items = hawser.ground().items().await;
    let text = Value::from(items).to_string();
    assert!(text.contains(&hash(&code)) && text.contains(&hash(&second.refresh)));
    let family = second.refresh.split('_').nth(3).unwrap();
    for secret in [
        code.as_str(),
        &first.refresh,
        &second.refresh,
        &second.access,
        family,
        VERIFIER,
        "the-providers-own",
    ] {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn requests_that_are_not_as_they_should_be_are_refused_in_the_words_of_the_rfc() {
    let hawser = Hawser::start().await;
    let tokens = sign_in(&hawser, "user:ada").await;
    let (kind, client) = (("grant_type", "refresh_token"), ("client_id", APPLICATION));
    let token = ("refresh_token", tokens.refresh.as_str());
    for (form, status, error) in [
        (vec![client, token], 400, "invalid_request"),
        (
            vec![("grant_type", "password"), client],
            400,
            "unsupported_grant_type",
        ),
        (vec![kind, token], 400, "invalid_request"),
        (vec![kind, client], 400, "invalid_request"),
        (vec![kind, client, token, token], 400, "invalid_request"),
        (vec![kind, client, client, token], 400, "invalid_request"),
        (
            vec![kind, client, token, ("client_secret", "x")],
            401,
            "invalid_client",
        ),
        (
            vec![kind, client, token, ("scope", "mcp more")],
            400,
            "invalid_scope",
        ),
    ] {
        let answer = ask(&hawser, &form).await;
        is_refused(&answer, status, error);
        assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
        let challenge = answer.header("www-authenticate");
        assert_eq!(challenge.is_some(), status == 401, "{challenge:?}");
    }
    is_refused(
        &post(&hawser, "/oauth/revoke", &[client]).await,
        400,
        "invalid_request",
    );
    assert!(works(&hawser, &tokens).await);
}
