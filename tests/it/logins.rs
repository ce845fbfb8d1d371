//! Signing in and having tokens, for tests: what a person has allowed, the codes and tokens that come of it, and what the
//! endpoints for these do to the store.

use crate::harness::{Answer, Caller, Hawser};
use crate::policies::Used;
use hawser_core::domain::id::TenantId;
use hawser_core::domain::login::{AllowedApplication, CodeChallenge, Identity};
use hawser_core::domain::subject::Subject;
use hawser_core::operations::logins::{Allowed, authorize};
use hawser_core::table::subjects;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::collections::BTreeSet;

pub const APPLICATION: &str = "https://agent.example/client.json";
pub const REDIRECT: &str = "http://127.0.0.1:7777/callback";
/// RFC 7636, appendix B.
pub const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
pub const HOUR: i64 = 3600;
pub const DAY: i64 = 24 * HOUR;

/// Tokens as the token endpoint gave them.
#[derive(Clone, Debug)]
pub struct Tokens {
    pub access: String,
    pub refresh: String,
}

impl Tokens {
    pub fn of(answer: &Answer) -> Self {
        assert_eq!(answer.status, 200, "{answer:?}");
        let text = |name: &str| answer.json()[name].as_str().unwrap().to_owned();
        Self {
            access: text("access_token"),
            refresh: text("refresh_token"),
        }
    }

    /// Someone who sends the access token.
    pub fn caller(&self, hawser: &Hawser) -> Caller {
        hawser.with(vec![("authorization", format!("Bearer {}", self.access))])
    }
}

/// What an admin of a tenant allows the application at this deployment as a whole, its management included.
pub async fn allowed(hawser: &Hawser, tenant: &str, user: &str) -> Allowed {
    let tenant = TenantId::parse(tenant).unwrap();
    let subject = Subject::parse(user).unwrap();
    let set = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    let keys = vec![subjects::key(&tenant, &subject)];
    let found = hawser.app.table.read(keys).await.unwrap();
    Allowed {
        offboardings: found.offboardings(&tenant, &subject).unwrap(),
        tenant,
        identity: Identity {
            subject,
            email: None,
            username: None,
            display_name: None,
            roles: set(&["admin"]),
            teams: BTreeSet::new(),
            permissions: set(&["mcp-servers:invoke"]),
            scopes: set(&["mgmt.read"]),
        },
        vouched_at: hawser.app.now(),
        provider_token: None,
        application: AllowedApplication {
            client_id: APPLICATION.to_owned(),
            name: Some("Agent".to_owned()),
            redirect_host: "127.0.0.1".to_owned(),
        },
        redirect_uri: REDIRECT.to_owned(),
        code_challenge: CodeChallenge::parse(CHALLENGE).unwrap(),
        issuer: hawser.url.clone(),
        resources: vec![hawser.url.clone()],
        scopes: set(&["manage", "mcp"]),
    }
}

/// The code for what was allowed.
pub async fn code(hawser: &Hawser, allowed: Allowed) -> String {
    let code = authorize(&hawser.app, allowed).await.unwrap();
    code.expect("offboarded").expose_secret().to_owned()
}

/// Sends a form to the token endpoint.
pub async fn ask(hawser: &Hawser, form: &[(&str, &str)]) -> Answer {
    post(hawser, "/oauth/token", form).await
}

/// Sends a form.
pub async fn post(hawser: &Hawser, path: &str, form: &[(&str, &str)]) -> Answer {
    let mut body = url::form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(form);
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let anyone = hawser.anonymous();
    anyone
        .send("POST", path, &headers, body.finish().into())
        .await
}

/// Presents a code as its application does.
pub async fn redeem(hawser: &Hawser, code: &str) -> Answer {
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", APPLICATION),
        ("code", code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
    ];
    ask(hawser, &form).await
}

/// Presents a refresh token as its application does.
pub async fn refresh(hawser: &Hawser, token: &str) -> Answer {
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", APPLICATION),
        ("refresh_token", token),
    ];
    ask(hawser, &form).await
}

/// Says that a token is over, as its application does.
pub async fn revoke(hawser: &Hawser, token: &str) -> Answer {
    let form = [("client_id", APPLICATION), ("token", token)];
    post(hawser, "/oauth/revoke", &form).await
}

/// The tokens for what was allowed.
pub async fn signed_in_as(hawser: &Hawser, allowed: Allowed) -> Tokens {
    let code = code(hawser, allowed).await;
    Tokens::of(&redeem(hawser, &code).await)
}

/// The tokens of an admin of `acme` for the deployment as a whole.
pub async fn sign_in(hawser: &Hawser, user: &str) -> Tokens {
    signed_in_as(hawser, allowed(hawser, "acme", user).await).await
}

/// The logins that a caller sees.
pub async fn listed(caller: &Caller) -> Vec<Value> {
    let answer = caller.get("/v1/logins").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["data"].as_array().unwrap().clone()
}

/// The id of the only login that a caller sees.
pub async fn only(caller: &Caller) -> String {
    let listed = listed(caller).await;
    assert_eq!(listed.len(), 1, "{listed:?}");
    listed[0]["id"].as_str().unwrap().to_owned()
}

/// The events of logins of `acme` that have ended, newest first.
pub async fn ends(hawser: &Hawser) -> Vec<Value> {
    let answer = hawser.admin("acme").get("/v1/audit").await.json();
    let mut events = answer["data"].as_array().unwrap().clone();
    events.retain(|event| event["action"] == "login.ended");
    events
}

/// Whether an access token is taken.
pub async fn works(hawser: &Hawser, tokens: &Tokens) -> bool {
    let status = tokens.caller(hawser).get("/v1/receipts").await.status;
    assert!([200, 401].contains(&status), "{status}");
    status == 200
}

#[track_caller]
pub fn is_refused(answer: &Answer, status: u16, error: &str) {
    let said = answer.json()["error"].clone();
    assert_eq!((answer.status, said), (status, json!(error)), "{answer:?}");
}

/// What the functions for logins do.
pub async fn use_endpoints(used: &mut Used, hawser: &Hawser) {
    let code = code(hawser, allowed(hawser, "acme", "user:eve").await).await;
    hawser.wire.arm(None);
    let first = Tokens::of(&redeem(hawser, &code).await);
    let next = Tokens::of(&refresh(hawser, &first.refresh).await);
    assert_eq!(redeem(hawser, &code).await.status, 400);
    assert_eq!(refresh(hawser, &next.refresh).await.status, 400);
    used.note("hawser-issue-token", hawser);
    let keys = hawser.anonymous().get("/.well-known/jwks.json").await;
    assert_eq!(keys.status, 200);
    used.note("hawser-list-token-keys", hawser);
    for by in ["revoke", "delete"] {
        let tokens = sign_in(hawser, "user:eve").await;
        let own = "/v1/logins?subjectType=user&subjectId=eve";
        hawser.wire.arm(None);
        let listed = tokens.caller(hawser).get(own).await.json();
        used.note("hawser-list-logins", hawser);
        let id = listed["data"][0]["id"].as_str().unwrap();
        if by == "revoke" {
            assert_eq!(revoke(hawser, &tokens.access).await.status, 200);
            used.note("hawser-revoke-token", hawser);
        } else {
            let path = format!("/v1/logins/{id}");
            assert_eq!(tokens.caller(hawser).delete(&path).await.status, 200);
            used.note("hawser-end-login", hawser);
        }
    }
    // What an offboarding ends, too.
    sign_in(hawser, "user:eve").await;
    hawser.wire.arm(None);
    let path = "/v1/subjects/user/eve/credentials";
    assert_eq!(hawser.admin("acme").delete(path).await.status, 200);
    used.note("hawser-offboard-subject", hawser);
}
