//! A stand-in for the operator's OpenID provider: it lets in whom the test says, once for each code, and checks PKCE.

use crate::harness::{Ground, Hawser};
use crate::upstream::soon;
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use hawser_core::auth::jwt::{KeySet, TokenConfig};
use hawser_core::domain::id::{TenantId, random};
use hawser_core::state::config::{
    DEFAULT_SCOPES, ProviderConfig, ProviderSecret, SignInConfig, SignInPlace,
};
use hawser_local::identity::Identity;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use url::Url;
use url::form_urlencoded::parse;

pub const CLIENT: &str = "hawser-client";
pub const SECRET: &str = "provider-secret-0f2c";

/// What a code stands for.
struct Issued {
    challenge: String,
    redirect_uri: String,
    claims: Value,
}

#[derive(Default)]
struct State {
    codes: HashMap<String, Issued>,
    /// The forms that its token endpoint was sent.
    asked: Vec<HashMap<String, String>>,
    /// Whom it vouches for when it is asked anew; for nobody if there are no claims.
    vouched: Option<Value>,
    /// How often it has replaced its refresh token.
    replaced: usize,
    /// Whether it fails.
    away: bool,
    /// Whether it gives no ID token when it is asked anew.
    nameless: bool,
    /// Whether it says that its answers name it (RFC 9207).
    named: bool,
    /// How often its metadata was asked for.
    described: usize,
    /// Whether it has no revocation endpoint.
    revokes_nothing: bool,
    /// The tokens that were presented at its revocation endpoint.
    revoked: Vec<String>,
}

/// The provider.
pub struct Provider {
    pub issuer: String,
    state: Arc<Mutex<State>>,
    gate: Arc<Held>,
}

/// Whether answers of its token endpoint are held back.
#[derive(Default)]
struct Held {
    held: Mutex<bool>,
    moved: Condvar,
}

impl Held {
    fn pass(&self) {
        let held = self.held.lock().unwrap();
        drop(self.moved.wait_while(held, |held| *held).unwrap());
    }

    fn set(&self, held: bool) {
        *self.held.lock().unwrap() = held;
        self.moved.notify_all();
    }
}

fn serve(mut stream: TcpStream, serving: &(String, Identity, Arc<Mutex<State>>, Arc<Held>)) {
    let (issuer, identity, state, gate) = serving;
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut first = String::new();
    let _ = reader.read_line(&mut first);
    let (mut line, mut length) = (first.clone(), 0);
    while !line.trim_end().is_empty() {
        line.clear();
        let _ = reader.read_line(&mut line);
        let header = line.to_ascii_lowercase();
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    let _ = reader.read_exact(&mut body);
    let path = first.split(' ').nth(1).unwrap_or_default();
    let (status, answer) = match path {
        "/.well-known/openid-configuration" => {
            let answer = described(issuer, &mut state.lock().unwrap());
            if answer.0 == 500 {
                gate.pass();
            }
            answer
        }
        "/keys" => (200, identity.key_set()),
        "/revoke" => revoked(&mut state.lock().unwrap(), &body),
        "/token" => {
            let answer = tokens(issuer, identity, state, &body);
            gate.pass();
            answer
        }
        _ => (404, Value::Null),
    };
    let text = answer.to_string();
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        text.len()
    );
    let _ = stream.write_all((head + &text).as_bytes());
}

/// What it says of itself.
fn described(issuer: &str, state: &mut State) -> (u16, Value) {
    state.described += 1;
    if state.away {
        return (500, Value::Null);
    }
    let mut document = metadata(issuer);
    if !state.revokes_nothing {
        document["revocation_endpoint"] = format!("{issuer}/revoke").into();
    }
    if state.named {
        document["authorization_response_iss_parameter_supported"] = true.into();
    }
    (200, document)
}

impl Provider {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let identity = Identity::ephemeral().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let gate = Arc::new(Held::default());
        let serving = Arc::new((issuer.clone(), identity, state.clone(), gate.clone()));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, serving) = (stream.unwrap(), serving.clone());
                thread::spawn(move || serve(stream, &serving));
            }
        });
        Self {
            issuer,
            state,
            gate,
        }
    }

    /// The settings of an operator whose people sign in here, all of the tenant `acme`.
    pub fn settings(&self) -> SignInConfig {
        SignInConfig {
            place: SignInPlace::Provider(Box::new(ProviderConfig {
                tokens: TokenConfig {
                    issuer: self.issuer.clone(),
                    audiences: vec![CLIENT.to_owned()],
                    audience_by_client_id: false,
                    keys: KeySet::Discovered,
                    claims: Default::default(),
                    default_tenant: TenantId::parse("acme"),
                },
                client_id: CLIENT.to_owned(),
                secret: Some(ProviderSecret::Given(SECRET.into())),
                scopes: DEFAULT_SCOPES.to_owned(),
            })),
            ..SignInConfig::default()
        }
    }

    /// Lets somebody in where a browser was sent: the address that it goes back to. `claims` replace those that would be right.
    pub fn approve(&self, at: &str, claims: Value) -> String {
        let url = Url::parse(at).unwrap();
        assert!(
            at.starts_with(&format!("{}/authorize?", self.issuer)),
            "{at}"
        );
        let query: HashMap<String, String> = url.query_pairs().into_owned().collect();
        assert_eq!(query["client_id"], CLIENT);
        assert_eq!(query["response_type"], "code");
        assert_eq!(query["code_challenge_method"], "S256");
        let mut all = json!({
            "iss": self.issuer, "aud": CLIENT, "sub": "ada", "nonce": query["nonce"],
            "exp": crate::harness::now() + 600, "iat": crate::harness::now(),
        });
        all.as_object_mut()
            .unwrap()
            .extend(claims.as_object().unwrap().clone());
        let code = HEXLOWER.encode(&random::<8>().unwrap());
        let issued = Issued {
            challenge: query["code_challenge"].clone(),
            redirect_uri: query["redirect_uri"].clone(),
            claims: all,
        };
        self.state
            .lock()
            .unwrap()
            .codes
            .insert(code.clone(), issued);
        let state = &query["state"];
        format!("{}?code={code}&state={state}", query["redirect_uri"])
    }

    /// What it says from now on when it is asked anew; nothing good if there are no claims.
    pub fn vouches_for(&self, claims: Option<Value>) {
        self.state.lock().unwrap().vouched = claims;
    }

    /// Whether it fails from now on.
    pub fn is_away(&self, away: bool) {
        self.state.lock().unwrap().away = away;
    }

    /// Whether from now on it does not say whom it vouches for.
    pub fn is_nameless(&self, nameless: bool) {
        self.state.lock().unwrap().nameless = nameless;
    }

    /// How often its metadata was asked for.
    pub fn described(&self) -> usize {
        self.state.lock().unwrap().described
    }

    /// Whether the answers of its token endpoint are held back from now on.
    pub fn holds(&self, held: bool) {
        self.gate.set(held);
    }

    /// It has no revocation endpoint from now on.
    pub fn revokes_nothing(&self) {
        self.state.lock().unwrap().revokes_nothing = true;
    }

    /// The tokens that it was told to revoke, each once, in the order of the first time.
    pub fn revoked(&self) -> Vec<String> {
        let mut all = Vec::new();
        for token in &self.state.lock().unwrap().revoked {
            if !all.contains(token) {
                all.push(token.clone());
            }
        }
        all
    }

    /// It says from now on that its answers name it.
    pub fn names_itself(&self) {
        self.state.lock().unwrap().named = true;
    }

    /// The forms that its token endpoint was sent.
    pub fn asked(&self) -> Vec<HashMap<String, String>> {
        self.state.lock().unwrap().asked.clone()
    }

    /// Returns once it has been asked.
    pub async fn is_reached(&self) {
        soon(async {
            while self.asked().is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// A process at which people sign in here. Its clock stands still.
    pub async fn hawser(&self, ground: &Arc<Ground>) -> Hawser {
        let settings = self.settings();
        Hawser::by_hand_configured(ground.clone(), |config| config.sign_in = settings).await
    }
}

fn metadata(issuer: &str) -> Value {
    json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/keys"),
        "response_types_supported": ["code"],
        "token_endpoint_auth_methods_supported": ["client_secret_post"],
    })
}

fn tokens(issuer: &str, identity: &Identity, state: &Mutex<State>, body: &[u8]) -> (u16, Value) {
    let form: HashMap<String, String> = parse(body).into_owned().collect();
    let text = |name: &str| form.get(name).cloned().unwrap_or_default();
    let mut state = state.lock().unwrap();
    state.asked.push(form.clone());
    if text("client_id") != CLIENT || text("client_secret") != SECRET {
        return (401, json!({"error": "invalid_client"}));
    }
    if text("grant_type") == "refresh_token" {
        return refreshed(identity, &mut state, &text("refresh_token"));
    }
    let Some(issued) = state.codes.remove(&text("code")) else {
        return (400, json!({"error": "invalid_grant"}));
    };
    let challenge = digest(&SHA256, text("code_verifier").as_bytes());
    let is_right = BASE64URL_NOPAD.encode(challenge.as_ref()) == issued.challenge
        && text("redirect_uri") == issued.redirect_uri;
    if !is_right {
        return (400, json!({"error": "invalid_grant"}));
    }
    let id_token = identity.token(issued.claims).unwrap();
    let answer = json!({"access_token": format!("at-of-{issuer}"), "token_type": "Bearer", "expires_in": 600,
                        "refresh_token": "provider-refresh", "id_token": id_token});
    (200, answer)
}

/// RFC 7009: it knows the client, and says yes to every token.
fn revoked(state: &mut State, body: &[u8]) -> (u16, Value) {
    if state.away {
        return (503, Value::Null);
    }
    let form: HashMap<String, String> = parse(body).into_owned().collect();
    let text = |name: &str| form.get(name).map_or("", String::as_str);
    if text("client_id") != CLIENT || text("client_secret") != SECRET {
        return (401, json!({"error": "invalid_client"}));
    }
    assert_eq!(form["token_type_hint"], "refresh_token");
    state.revoked.push(form["token"].clone());
    (200, Value::Null)
}

/// Its refresh token of this number, counted from 0.
fn refresh_token(number: usize) -> String {
    match number {
        0 => "provider-refresh".to_owned(),
        _ => format!("provider-refresh-{number}"),
    }
}

/// It takes each refresh token once.
fn refreshed(identity: &Identity, state: &mut State, token: &str) -> (u16, Value) {
    if state.away {
        return (500, Value::Null);
    }
    let is_revoked = state.revoked.iter().any(|one| one == token);
    let is_current = token == refresh_token(state.replaced) && !is_revoked;
    let Some(claims) = state.vouched.clone().filter(|_| is_current) else {
        return (400, json!({"error": "invalid_grant"}));
    };
    state.replaced += 1;
    let mut answer = json!({"access_token": "at", "token_type": "Bearer", "expires_in": 600,
                            "refresh_token": refresh_token(state.replaced)});
    if !state.nameless {
        answer["id_token"] = identity.token(claims).unwrap().into();
    }
    (200, answer)
}
