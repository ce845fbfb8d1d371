//! MCP servers and the issuer that protects them, as far as Hawser and browsers talk to them. They remember which tokens
//! were given out, which of them still work, and what each call carried.

use crate::world::{BASE, Gone, Kind, Process, World};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hawser_core::egress::{Failure, InProcess};
use lambda_http::http;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use tokio::time::Instant;
use url::{Url, form_urlencoded};

/// Where the issuer is.
pub const ISSUER: &str = "https://as.example";
/// How long Hawser waits for an exchange with an issuer, in seconds.
const PATIENCE: u64 = 10;

/// How the issuer behaves.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// Each refresh token serves once.
    pub rotates: bool,
    /// One that serves twice ends its family.
    pub detects_reuse: bool,
    /// Ending a refresh token ends all that came of the same consent.
    pub ends_families: bool,
    /// The same of a refresh token that was rotated away.
    pub ends_by_rotated: bool,
    /// There is a revocation endpoint.
    pub revokes: bool,
    /// Seconds; `None`: access tokens never end by themselves.
    pub lifetime: Option<i64>,
    /// Clients register themselves; else our metadata document serves.
    pub registers: bool,
    /// Those that do get a secret.
    pub secrets: bool,
}

/// A client that has registered itself.
#[derive(Clone, Debug)]
pub struct Registered {
    secret: Option<String>,
    /// Whether a browser has come as it.
    pub used: bool,
    /// Not any more where the issuer has forgotten it, or was told to.
    pub known: bool,
    forgotten: bool,
}

impl Registered {
    /// Whether the issuer still has it, though nobody may need it.
    pub fn is_left(&self) -> bool {
        self.used && self.known && !self.forgotten
    }
}

/// All that came of one consent.
#[derive(Clone, Debug, Default)]
pub struct Family {
    pub subject: String,
    pub host: String,
    /// The number of the consent.
    pub consent: usize,
    /// Whether any process has had an answer with tokens of it.
    pub delivered: bool,
    /// Whether an answer about it was lost on its way, or whoever had it was killed or stood still.
    pub disturbed: bool,
    /// Who asked for its tokens.
    askers: Vec<Arc<Process>>,
}

impl Family {
    /// Whether a process that asked for its tokens has died.
    pub fn asker_died(&self) -> bool {
        self.askers.iter().any(|process| process.is_dead())
    }

    /// Whether it may have come to harm that nobody at Hawser can know of.
    pub fn is_disturbed(&self) -> bool {
        self.disturbed || self.askers.iter().any(|process| process.has_stumbled())
    }
}

#[derive(Clone, Debug)]
pub struct Token {
    pub family: usize,
    pub refresh: bool,
    /// Neither rotated away nor revoked.
    pub live: bool,
    rotated: bool,
    ends: Option<i64>,
}

/// What one call to an MCP server carried.
#[derive(Clone, Debug)]
pub struct Served {
    pub at: i64,
    /// The number of the call.
    pub call: u64,
    pub host: String,
    pub family: Option<usize>,
    /// The value of an override.
    pub own: Option<String>,
}

struct Code {
    family: usize,
    used: bool,
}

/// Everything outside.
pub struct Internet {
    pub manners: Manners,
    pub families: Vec<Family>,
    pub tokens: BTreeMap<String, Token>,
    codes: BTreeMap<String, Code>,
    pub clients: BTreeMap<String, Registered>,
    pub served: Vec<Served>,
    made: u64,
}

/// One request.
struct Asked {
    method: String,
    url: Url,
    bearer: Option<String>,
    key: Option<String>,
    body: String,
}

type Reply = (u16, Vec<(&'static str, String)>, String);

fn reply(status: u16, body: Value) -> Reply {
    let kind = ("content-type", "application/json".to_owned());
    (status, vec![kind], body.to_string())
}

impl Asked {
    fn field(&self, name: &str) -> String {
        let mut pairs = form_urlencoded::parse(self.body.as_bytes());
        let pair = pairs.find(|(n, _)| n == name);
        pair.map(|(_, value)| value.into_owned())
            .unwrap_or_default()
    }
}

impl Internet {
    pub fn new(manners: Manners) -> Self {
        Self {
            manners,
            families: Vec::new(),
            tokens: BTreeMap::new(),
            codes: BTreeMap::new(),
            clients: BTreeMap::new(),
            served: Vec::new(),
            made: 0,
        }
    }

    /// Plays a browser at the issuer: where it is sent back to, and what the consent is the origin of. Nowhere, if the issuer
    /// does not know who sent it.
    pub fn approve(
        &mut self,
        location: &str,
        subject: &str,
        consent: usize,
        denies: bool,
    ) -> Option<(String, Option<usize>)> {
        let url = Url::parse(location).unwrap();
        let asked: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
        if self.manners.registers {
            let client = self.clients.get_mut(&asked["client_id"])?;
            if !client.known {
                return None;
            }
            client.used = true;
        }
        let mut back = Url::parse(&asked["redirect_uri"]).unwrap();
        let mut query = back.query_pairs_mut();
        query.append_pair("state", &asked["state"]);
        query.append_pair("iss", ISSUER);
        if denies {
            query.append_pair("error", "access_denied");
            drop(query);
            return Some((back.into(), None));
        }
        let family = self.families.len();
        let host = Url::parse(&asked["resource"]).unwrap();
        self.families.push(Family {
            subject: subject.to_owned(),
            host: host.host_str().unwrap().to_owned(),
            consent,
            ..Family::default()
        });
        let code = format!("code-{family}");
        query.append_pair("code", &code);
        drop(query);
        self.codes.insert(
            code,
            Code {
                family,
                used: false,
            },
        );
        Some((back.into(), Some(family)))
    }

    /// Every client is forgotten, as by a restart; what was given out to them goes on working.
    pub fn forget_clients(&mut self) {
        for client in self.clients.values_mut() {
            (client.forgotten, client.known) = (client.known, false);
        }
        for family in &mut self.families {
            family.disturbed = true;
        }
    }

    /// Whether a client says who it is.
    fn knows(&self, asked: &Asked) -> bool {
        if !self.manners.registers {
            return true;
        }
        let client = self.clients.get(&asked.field("client_id"));
        let secret = asked.field("client_secret");
        client.is_some_and(|one| one.known && one.secret.as_deref().unwrap_or_default() == secret)
    }

    fn register(&mut self) -> Reply {
        self.made += 1;
        let id = format!("c-{}", self.made);
        let secret = self.manners.secrets.then(|| format!("s-{}", self.made));
        let mut body = json!({"client_id": id, "registration_client_uri": format!("{ISSUER}/clients/{id}"),
                              "registration_access_token": format!("m-{id}")});
        if let Some(secret) = &secret {
            body["client_secret"] = secret.as_str().into();
        }
        let client = Registered {
            secret,
            used: false,
            known: true,
            forgotten: false,
        };
        self.clients.insert(id, client);
        reply(201, body)
    }

    /// What is said under the address of a client.
    fn manage(&mut self, id: &str, asked: &Asked) -> Reply {
        let client = self.clients.get_mut(id).filter(|client| client.known);
        match client {
            Some(client) if asked.bearer.as_deref() == Some(&format!("m-{id}")) => {
                assert_eq!(asked.method, "DELETE");
                client.known = false;
                reply(204, Value::Null)
            }
            _ => reply(401, Value::Null),
        }
    }

    fn mint(&mut self, family: usize, refresh: bool, ends: Option<i64>) -> String {
        self.made += 1;
        let text = format!(
            "{}-{family}-{}",
            if refresh { "rt" } else { "at" },
            self.made
        );
        let token = Token {
            family,
            refresh,
            live: true,
            rotated: false,
            ends,
        };
        self.tokens.insert(text.clone(), token);
        text
    }

    fn end_family(&mut self, family: usize) {
        let own = self.tokens.values_mut().filter(|one| one.family == family);
        own.for_each(|one| one.live = false);
    }

    /// Whether a token works.
    pub fn works(token: &Token, now: i64) -> bool {
        token.live && token.ends.is_none_or(|ends| now < ends)
    }

    /// The family that a request to the token endpoint is about.
    fn family_of(&self, asked: &Asked) -> Option<usize> {
        if asked.url.path() != "/token" {
            return None;
        }
        let code = self.codes.get(&asked.field("code")).map(|code| code.family);
        let token = self.tokens.get(&asked.field("refresh_token"));
        code.or(token.map(|token| token.family))
    }

    fn answer(&mut self, now: i64, asked: &Asked) -> Reply {
        let host = asked.url.host_str().unwrap_or_default().to_owned();
        let path = asked.url.path();
        if host != "as.example" {
            return match path {
                "/mcp" => self.serve(now, &host, asked),
                "/.well-known/oauth-protected-resource/mcp" => reply(
                    200,
                    json!({"resource": format!("https://{host}/mcp"), "authorization_servers": [ISSUER]}),
                ),
                _ => reply(404, Value::Null),
            };
        }
        match path {
            "/.well-known/oauth-authorization-server" => {
                let mut metadata = json!({
                    "issuer": ISSUER,
                    "authorization_endpoint": format!("{ISSUER}/authorize"),
                    "token_endpoint": format!("{ISSUER}/token"),
                    "response_types_supported": ["code"],
                    "token_endpoint_auth_methods_supported": ["none"],
                    "code_challenge_methods_supported": ["S256"],
                    "authorization_response_iss_parameter_supported": true,
                    "client_id_metadata_document_supported": true,
                });
                if self.manners.registers {
                    metadata["registration_endpoint"] = format!("{ISSUER}/register").into();
                    metadata["client_id_metadata_document_supported"] = false.into();
                    let way = match self.manners.secrets {
                        true => "client_secret_post",
                        false => "none",
                    };
                    metadata["token_endpoint_auth_methods_supported"] = json!([way]);
                }
                if self.manners.revokes {
                    metadata["revocation_endpoint"] = format!("{ISSUER}/revoke").into();
                }
                reply(200, metadata)
            }
            "/register" => self.register(),
            "/token" | "/revoke" if !self.knows(asked) => {
                reply(401, json!({"error": "invalid_client"}))
            }
            "/token" => self.token(now, asked),
            "/revoke" => {
                self.revoke(&asked.field("token"));
                reply(200, json!({}))
            }
            path => match path.strip_prefix("/clients/") {
                Some(id) => self.manage(id, asked),
                None => reply(404, Value::Null),
            },
        }
    }

    fn token(&mut self, now: i64, asked: &Asked) -> Reply {
        assert_eq!(asked.method, "POST");
        let refuse = || reply(400, json!({"error": "invalid_grant"}));
        let ends = self.manners.lifetime.map(|life| now + life * 1_000_000);
        let (family, refresh) = match asked.field("grant_type").as_str() {
            "authorization_code" => {
                let Some(code) = self.codes.get_mut(&asked.field("code")) else {
                    return refuse();
                };
                let family = code.family;
                if std::mem::replace(&mut code.used, true) {
                    self.end_family(family);
                    return refuse();
                }
                (family, Some(self.mint(family, true, None)))
            }
            _ => {
                let text = asked.field("refresh_token");
                let Some(old) = self.tokens.get(&text).filter(|one| one.refresh).cloned() else {
                    return refuse();
                };
                if !old.live {
                    if old.rotated && self.manners.detects_reuse {
                        self.end_family(old.family);
                    }
                    return refuse();
                }
                let new = self.manners.rotates.then(|| {
                    let rotated = self.tokens.get_mut(&text).unwrap();
                    (rotated.live, rotated.rotated) = (false, true);
                    self.mint(old.family, true, None)
                });
                (old.family, new)
            }
        };
        let access = self.mint(family, false, ends);
        let mut body = json!({"access_token": access, "token_type": "Bearer", "scope": "mcp"});
        if let Some(refresh) = refresh {
            body["refresh_token"] = refresh.into();
        }
        if let Some(life) = self.manners.lifetime {
            body["expires_in"] = life.into();
        }
        reply(200, body)
    }

    fn revoke(&mut self, text: &str) {
        let Some(token) = self.tokens.get(text).cloned() else {
            return;
        };
        let by_rotated = token.rotated && self.manners.ends_by_rotated;
        if token.refresh && (token.live || by_rotated) && self.manners.ends_families {
            self.end_family(token.family);
        }
        self.tokens.get_mut(text).unwrap().live = false;
    }

    /// A call to an MCP server, or what it answers to who brings nothing.
    fn serve(&mut self, now: i64, host: &str, asked: &Asked) -> Reply {
        let message: Value = serde_json::from_str(&asked.body).unwrap_or_default();
        let family = asked.bearer.as_ref().and_then(|text| {
            let token = self.tokens.get(text).filter(|one| Self::works(one, now))?;
            (!token.refresh).then_some(token.family)
        });
        let sent = asked.key.clone().or_else(|| asked.bearer.clone());
        let own = sent.filter(|value| value.starts_with("own-"));
        if family.is_none() && own.is_none() {
            let metadata = format!("https://{host}/.well-known/oauth-protected-resource/mcp");
            let challenge = format!("Bearer resource_metadata=\"{metadata}\"");
            let (status, mut headers, body) = reply(401, json!({}));
            headers.push(("www-authenticate", challenge));
            return (status, headers, body);
        }
        self.served.push(Served {
            at: now,
            call: message["id"].as_u64().unwrap_or_default(),
            host: host.to_owned(),
            family,
            own,
        });
        reply(
            200,
            json!({"jsonrpc": "2.0", "id": message["id"], "result": {}}),
        )
    }
}

/// The way out of one process.
pub fn network(world: &Arc<World>, process: &Arc<Process>) -> Arc<dyn InProcess> {
    Arc::new(Network {
        world: Arc::downgrade(world),
        process: process.clone(),
    })
}

#[derive(Debug)]
struct Network {
    world: Weak<World>,
    process: Arc<Process>,
}

/// Notices when a request about a family's tokens does not come to an answer.
struct Asking {
    world: Arc<World>,
    family: Option<usize>,
    since: Instant,
    answered: bool,
}

impl Drop for Asking {
    fn drop(&mut self) {
        let Some(family) = self.family.filter(|_| !self.answered) else {
            return;
        };
        // A caller who hangs up is no excuse; an issuer that is not there is one.
        if self.since.elapsed().as_secs() >= PATIENCE {
            self.world.internet.lock().unwrap().families[family].disturbed = true;
        }
    }
}

impl InProcess for Network {
    fn send(
        &self,
        request: reqwest::Request,
    ) -> BoxFuture<'static, Result<reqwest::Response, Failure>> {
        let (world, process) = (self.world.upgrade().unwrap(), self.process.clone());
        let header = |name: &str| {
            let value = request.headers().get(name)?;
            Some(value.to_str().unwrap().to_owned())
        };
        let bearer = header("authorization");
        let bearer = bearer.and_then(|value| Some(value.strip_prefix("Bearer ")?.to_owned()));
        let body = request.body().and_then(reqwest::Body::as_bytes);
        let asked = Asked {
            method: request.method().to_string(),
            url: request.url().clone(),
            bearer,
            key: header("x-key"),
            body: String::from_utf8(body.unwrap_or_default().to_vec()).unwrap(),
        };
        async move {
            assert!(!asked.url.as_str().starts_with(BASE));
            let family = {
                let mut internet = world.internet.lock().unwrap();
                let family = internet.family_of(&asked);
                if let Some(family) = family {
                    internet.families[family].askers.push(process.clone());
                }
                family
            };
            let mut asking = Asking {
                world: world.clone(),
                family,
                since: Instant::now(),
                answered: false,
            };
            let host = asked.url.host_str().unwrap_or_default();
            let token = [asked.field("token"), asked.field("refresh_token")].concat();
            let token = asked.bearer.clone().unwrap_or(token);
            // The tokens of processes are secrets that follow from the operating system's generator, or too long.
            let token = if token.len() < 20 {
                token
            } else {
                String::new()
            };
            let what = format!("{} {host}{} {token}", asked.method, asked.url.path());
            let outside = world.clone();
            let work = move || {
                let now = outside.now();
                outside.internet.lock().unwrap().answer(now, &asked)
            };
            let refusal = || (503, Vec::new(), String::new());
            let answer = world
                .step(&process, Kind::Network, what, work, refusal)
                .await;
            let (status, headers, body) = match answer {
                Ok(answer) => answer,
                Err(Gone) => {
                    if let Some(family) = family {
                        world.internet.lock().unwrap().families[family].disturbed = true;
                    }
                    return Err(Failure::Unreachable);
                }
            };
            asking.answered = true;
            if let Some(family) = family.filter(|_| status == 200) {
                world.internet.lock().unwrap().families[family].delivered = true;
            }
            let mut response = http::Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            Ok(response.body(body).unwrap().into())
        }
        .boxed()
    }
}
