//! What people, applications and workers do, and what they are told. A history is drawn from a seed: who does what, when,
//! through which process, how the issuer behaves and how much goes wrong.

use crate::check;
use crate::internet::{Internet, Manners};
use crate::store;
use crate::world::{BASE, BEGINNING, Process, Rng, Weather, World, fixed};
use futures_util::future::join_all;
use hawser_core::domain::id::seeded;
use hawser_core::operations::auditor::examine;
use hawser_core::operations::trail;
use hawser_core::operations::work::work_off_due;
use http_body_util::BodyExt;
use lambda_http::http::Request;
use lambda_http::{Body, RequestExt};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::time::{Instant, sleep};

pub const TENANT: &str = "acme";
pub const SUBJECTS: [&str; 3] = ["ada", "bob", "eve"];
/// Servers with consent, and one that wants a value from each subject.
const SERVERS: [&str; 3] = ["wiki", "mail", "crm"];
const MCP: &str = "/api/svc/v1/mcp";

/// What a history is made of.
#[derive(Clone, Debug)]
pub struct Shape {
    pub manners: Manners,
    weather: Weather,
    /// The most by which a clock is off, in microseconds.
    skew: u64,
    /// Milliseconds in which all begins.
    span: u64,
    deeds: u64,
    subjects: u64,
    servers: u64,
    processes: u64,
    /// Whether all subjects are connected at first.
    connected: bool,
    /// In a thousand callers.
    impatient: u64,
}

/// What breaks the promise as long as it is not mended (docs/RELIABILITY.md): drawn only where `HAWSER_DRAW_ALL` is set.
const NOT_DRAWN: [&str; 0] = [];

/// A chance, or none if it is not drawn.
fn drawn(what: &str, chance: u64) -> u64 {
    static ALL: OnceLock<bool> = OnceLock::new();
    let all = *ALL.get_or_init(|| std::env::var_os("HAWSER_DRAW_ALL").is_some());
    if all || !NOT_DRAWN.contains(&what) {
        chance
    } else {
        0
    }
}

impl Shape {
    fn draw(rng: &mut Rng) -> Self {
        let manners = Manners {
            rotates: rng.chance(650),
            detects_reuse: rng.chance(800),
            ends_families: rng.chance(800),
            ends_by_rotated: rng.chance(300),
            revokes: rng.chance(900),
            lifetime: rng.pick(&[None, Some(1), Some(1), Some(1), Some(30), Some(3600)]),
        };
        let bad = |rng: &mut Rng, most: &[u64]| rng.pick(most);
        let weather = match rng.below(5) {
            0 => Weather::default(),
            1 => Weather {
                broken: drawn("lost answers", bad(rng, &[20, 80, 200])),
                ..Weather::default()
            },
            _ => Weather {
                refused: bad(rng, &[0, 10, 60]),
                unsent: bad(rng, &[0, 10, 40]),
                broken: drawn("lost answers", bad(rng, &[0, 10, 40])),
                silent: drawn("lost answers", bad(rng, &[0, 5, 20])),
                slow: bad(rng, &[0, 10, 40]),
                deadly: bad(rng, &[0, 2, 10]),
                frozen: drawn("freezes", bad(rng, &[0, 2, 8])),
                jumps: drawn("jumps", bad(rng, &[0, 0, 2])),
            },
        };
        Self {
            manners,
            weather,
            skew: drawn("skew", rng.pick(&[0, 0, 50_000, 3_000_000, 40_000_000])),
            span: rng.pick(&[15, 150, 2_000, 20_000, 120_000, 900_000]),
            deeds: rng.between(4, 26),
            subjects: rng.pick(&[1, 1, 1, 2, 3]),
            servers: rng.pick(&[1, 1, 1, 2, 3]),
            processes: rng.between(1, 4),
            connected: rng.chance(850),
            impatient: drawn("hang-ups", rng.pick(&[0, 0, 60, 250])),
        }
    }
}

/// A consent, as its subject sees it.
#[derive(Clone, Debug)]
pub struct Consent {
    pub subject: String,
    pub server: String,
    /// When its address was there.
    pub begun: Option<i64>,
    pub asked: i64,
    pub family: Option<usize>,
    /// Its id, once a browser has its cookie.
    pub session: Option<String>,
    /// When the page said so.
    pub connected: Option<i64>,
}

/// An override, as whoever installs it sees it.
#[derive(Clone, Debug)]
pub struct Install {
    pub subject: String,
    pub server: String,
    pub sent: i64,
    /// With a 2xx.
    pub installed: Option<i64>,
}

/// What was said to end something.
#[derive(Clone, Debug)]
pub struct End {
    pub what: &'static str,
    /// All of them if none is named.
    pub server: Option<String>,
    pub subject: Option<String>,
    /// `oauth` or `auth-override`; both if none is named.
    pub source: Option<&'static str>,
    pub sent: i64,
    /// With a 2xx.
    pub ended: Option<i64>,
    pub receipt: Option<String>,
}

impl End {
    pub fn covers(&self, server: &str, subject: &str, source: &str) -> bool {
        self.server.as_deref().is_none_or(|one| one == server)
            && self.subject.as_deref().is_none_or(|one| one == subject)
            && self.source.is_none_or(|one| one == source)
    }
}

/// A call, or a look at a status.
#[derive(Clone, Debug)]
pub struct Look {
    pub subject: String,
    pub server: String,
    pub sent: i64,
    pub status: Option<u16>,
    /// `oauth` or `auth-override`, where a status says that the subject is authenticated.
    pub method: Option<String>,
}

/// What everybody was told.
#[derive(Debug, Default)]
pub struct Log {
    pub consents: Vec<Consent>,
    pub installs: Vec<Install>,
    pub ends: Vec<End>,
    pub calls: Vec<Look>,
    pub looks: Vec<Look>,
    pub violations: Vec<String>,
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter().filter(|(n, _)| n == name);
        all.next().map(|(_, value)| value.as_str())
    }

    fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// One history on its way.
pub struct Play {
    pub world: Arc<World>,
    pub shape: Shape,
    slots: Mutex<Vec<Arc<Process>>>,
    /// By name: the id that was last heard of.
    servers: Mutex<BTreeMap<String, String>>,
    hosts: Mutex<u64>,
    pub log: Mutex<Log>,
    tokens: BTreeMap<String, String>,
}

/// What one seed came to.
pub struct Outcome {
    pub violations: Vec<String>,
    pub hash: u64,
    pub trace: Vec<String>,
    /// What happened, and how often.
    pub tally: BTreeMap<String, u64>,
    /// The conditions of its writes.
    pub guards: BTreeSet<String>,
}

/// Lives through one history, from its seed alone; with one condition left out of all writes if it is named.
pub fn live(seed: u64, told: bool, without: Option<&str>) -> Outcome {
    fixed();
    seeded::set(Some(seed));
    let runtime = tokio::runtime::Builder::new_current_thread()
        // No network: a socket would panic.
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let outcome = runtime.block_on(act(seed, told, without));
    drop(runtime);
    seeded::set(None);
    outcome
}

async fn act(seed: u64, told: bool, without: Option<&str>) -> Outcome {
    let mut rng = Rng::new(seed);
    let shape = Shape::draw(&mut rng);
    let internet = Internet::new(shape.manners);
    let world = World::new(rng, internet, told, without).await;
    world.tell(|| format!("{shape:?}"));
    let play = Arc::new(Play::new(world.clone(), shape));
    play.set_up().await;
    let mut deeds = Vec::new();
    let clusters = world.draw(|rng| {
        let count = rng.between(1, 7);
        (0..count)
            .map(|_| rng.below(play.shape.span))
            .collect::<Vec<_>>()
    });
    for number in 0..play.shape.deeds {
        // Much at once, and then nothing for a while.
        let at = world.draw(|rng| {
            let width = rng.pick(&[10, 60, 400]);
            rng.pick(&clusters) + rng.below(width)
        });
        let deed = world.draw(Deed::draw);
        let play = play.clone();
        deeds.push(tokio::spawn(async move {
            sleep(Duration::from_millis(at)).await;
            play.world.tell(|| format!("deed {number}: {deed:?}"));
            play.perform(deed).await;
        }));
    }
    world.set_weather(play.shape.weather);
    for deed in deeds {
        if deed.await.is_err() {
            play.complain("a deed panicked".to_owned());
        }
    }
    play.settle().await;
    check::all(&play);
    world.end();
    let (hash, trace) = world.trace();
    let violations = std::mem::take(&mut play.log.lock().unwrap().violations);
    Outcome {
        violations,
        hash,
        trace,
        tally: play.tally(),
        guards: world.guards(),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Consent,
    Call,
    /// Several at once.
    Calls,
    Status,
    Disconnect,
    Install,
    Uninstall,
    RevokeAll,
    Move,
    Delete,
    Offboard,
    Work,
    Repair,
    Kill,
}

impl Deed {
    fn draw(rng: &mut Rng) -> Self {
        let all = [
            (28, Self::Consent),
            (24, Self::Call),
            (16, Self::Calls),
            (5, Self::Status),
            (14, Self::Disconnect),
            (4, Self::Install),
            (2, Self::Uninstall),
            (3, Self::RevokeAll),
            (3, Self::Move),
            (1, Self::Delete),
            (4, Self::Offboard),
            (10, Self::Work),
            (1, Self::Repair),
            (3, Self::Kill),
        ];
        let mut left = rng.below(all.iter().map(|(weight, _)| weight).sum());
        for (weight, deed) in all {
            if left < weight {
                return deed;
            }
            left -= weight;
        }
        Self::Work
    }
}

impl Play {
    fn new(world: Arc<World>, shape: Shape) -> Self {
        let end = BEGINNING / 1_000_000 + 10 * 365 * 86_400;
        let token = |subject: &str, more: Value| {
            let mut claims = json!({"tenantName": TENANT, "sub": subject, "exp": end});
            let fields = claims.as_object_mut().unwrap();
            fields.extend(more.as_object().unwrap().clone());
            format!("Bearer {}", fixed().identity.token(claims).unwrap())
        };
        let permissions =
            ["create", "read", "update", "delete", "invoke"].map(|p| format!("mcp-servers:{p}"));
        let everything = json!({"roles": ["admin"], "permissions": permissions,
                                "scope": "mgmt.read mgmt.write mgmt.admin"});
        let mut tokens = BTreeMap::from([("root".to_owned(), token("root", everything))]);
        for subject in SUBJECTS {
            let own = json!({"permissions": ["mcp-servers:invoke"]});
            tokens.insert(subject.to_owned(), token(subject, own));
        }
        Self {
            world,
            shape,
            slots: Mutex::default(),
            servers: Mutex::default(),
            hosts: Mutex::default(),
            log: Mutex::default(),
            tokens,
        }
    }

    fn tally(&self) -> BTreeMap<String, u64> {
        let mut tally = BTreeMap::new();
        let mut count =
            |what: String, times: usize| *tally.entry(what).or_default() += times as u64;
        let log = self.log.lock().unwrap();
        let internet = self.world.internet.lock().unwrap();
        count("consents".to_owned(), log.consents.len());
        let connected = log.consents.iter().filter(|one| one.connected.is_some());
        count("consents that connected".to_owned(), connected.count());
        count("calls".to_owned(), log.calls.len());
        count("calls served".to_owned(), internet.served.len());
        let installed = log.installs.iter().filter(|one| one.installed.is_some());
        count("overrides installed".to_owned(), installed.count());
        count("tokens issued".to_owned(), internet.tokens.len());
        for end in &log.ends {
            let how = if end.ended.is_some() {
                "done"
            } else {
                "not done, or unknown"
            };
            count(format!("{} {how}", end.what), 1);
        }
        for (what, times) in self.world.tally() {
            count(format!("steps: {what}"), times);
        }
        tally
    }

    pub fn complain(&self, what: String) {
        self.world.tell(|| format!("VIOLATION: {what}"));
        self.log.lock().unwrap().violations.push(what);
    }

    fn skew(&self) -> i64 {
        let most = self.shape.skew;
        let drawn = self.world.draw(|rng| rng.below(2 * most + 1));
        drawn as i64 - most as i64
    }

    async fn set_up(&self) {
        for _ in 0..self.shape.processes {
            let process = self.world.start("p", self.skew());
            self.slots.lock().unwrap().push(process);
        }
        for name in &SERVERS[..self.shape.servers as usize] {
            let process = self.process();
            self.put_server(name, Some(&process)).await;
            assert!(self.servers.lock().unwrap().contains_key(*name));
        }
        let servers = self.servers.lock().unwrap().clone();
        for (server, id) in servers.iter().filter(|(name, _)| *name != "crm") {
            for subject in &SUBJECTS[..self.shape.subjects as usize] {
                if self.shape.connected {
                    let (server, subject) = (server.clone(), (*subject).to_owned());
                    self.consent(server, id, subject).await;
                }
            }
        }
    }

    /// A process that somebody's request reaches: a new one where one has died.
    fn process(&self) -> Arc<Process> {
        let count = self.slots.lock().unwrap().len();
        let slot = self.world.draw(|rng| rng.below(count as u64)) as usize;
        let mut process = self.slots.lock().unwrap()[slot].clone();
        if process.is_dead() {
            process = self.world.start("p", self.skew());
            self.slots.lock().unwrap()[slot] = process.clone();
        }
        process
    }

    /// A request through any process; `None` if there is no answer.
    async fn ask(
        &self,
        who: &str,
        method: &str,
        target: &str,
        more: &[(&str, &str)],
        body: Value,
    ) -> Option<Answer> {
        let process = self.process();
        let impatient = self.shape.impatient;
        let hangs_up = self
            .world
            .draw(|rng| rng.chance(impatient).then(|| rng.below(40) as u32));
        self.ask_at(&process, hangs_up, who, method, target, more, body)
            .await
    }

    #[expect(clippy::too_many_arguments, reason = "a request has that many parts")]
    async fn ask_at(
        &self,
        process: &Arc<Process>,
        hangs_up: Option<u32>,
        who: &str,
        method: &str,
        target: &str,
        more: &[(&str, &str)],
        body: Value,
    ) -> Option<Answer> {
        let path = target.split('?').next().unwrap_or_default();
        let (endpoint, parameters) = fixed().router.find(method, path);
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{BASE}{target}"));
        if let Some(token) = self.tokens.get(who) {
            request = request.header("authorization", token);
        }
        for (name, value) in more {
            request = request.header(*name, *value);
        }
        let body = match body {
            Value::Null => Body::Empty,
            Value::String(form) => Body::Text(form),
            body => Body::Text(body.to_string()),
        };
        let request = request.body(body).unwrap().with_path_parameters(parameters);
        self.world.tell(|| {
            format!(
                "{process:?} <- {who} {}, hangs up {hangs_up:?}",
                endpoint.name
            )
        });
        let app = process.app();
        let answering = async move {
            let (parts, body) = endpoint.answer(&app, request).await.into_parts();
            let text = body.collect().await.map(|body| body.to_bytes());
            let text = String::from_utf8(text.unwrap_or_default().into()).unwrap();
            let headers = parts.headers.iter();
            let headers = headers
                .map(|(n, v)| {
                    (
                        n.to_string(),
                        String::from_utf8_lossy(v.as_bytes()).into_owned(),
                    )
                })
                .collect();
            let status = parts.status.as_u16();
            Answer {
                status,
                headers,
                text,
            }
        };
        let answer = process.host(hangs_up, answering).await;
        self.world.tell(|| {
            let status = answer.as_ref().map(|answer| answer.status);
            format!("{process:?} -> {who} {}: {status:?}", endpoint.name)
        });
        if let Some(answer) = &answer {
            let text = answer.text.clone();
            self.world
                .explain(|| text.chars().filter(|c| *c != '\n').take(600).collect());
        }
        answer
    }

    fn draw_subject(&self) -> String {
        let count = self.shape.subjects as usize;
        self.world
            .draw(|rng| rng.pick(&SUBJECTS[..count]))
            .to_owned()
    }

    /// A server, by name and id.
    fn draw_server(&self) -> (String, String) {
        let servers = self.servers.lock().unwrap().clone();
        let all: Vec<_> = servers.into_iter().collect();
        self.world.draw(|rng| rng.pick(&all))
    }

    async fn perform(&self, deed: Deed) {
        match deed {
            Deed::Consent => {
                let (server, id) = self.draw_server();
                let subject = self.draw_subject();
                self.consent(server, &id, subject).await;
            }
            Deed::Call => {
                let (server, id) = self.draw_server();
                let subject = self.draw_subject();
                self.call(&server, &id, &subject, None).await;
            }
            Deed::Calls => {
                let (server, id) = self.draw_server();
                let subject = self.draw_subject();
                let count = self.world.draw(|rng| rng.between(2, 5));
                let calls = (0..count).map(|_| self.call(&server, &id, &subject, None));
                join_all(calls).await;
            }
            Deed::Status => {
                let (server, id) = self.draw_server();
                let subject = self.draw_subject();
                self.look(&server, &id, &subject, None).await;
            }
            Deed::Disconnect => self.disconnect("oauth").await,
            Deed::Uninstall => self.disconnect("auth-override").await,
            Deed::Install => self.install().await,
            Deed::RevokeAll => {
                let (server, id) = self.draw_server();
                let end = self.ending("revoke-all", Some(&server), None, None);
                let path = format!("{MCP}/{id}/auth/tokens");
                let answer = self.ask("root", "DELETE", &path, &[], Value::Null).await;
                self.ended(end, answer.as_ref());
            }
            Deed::Move => {
                let (server, _) = self.draw_server();
                let end = self.ending("move", Some(&server), None, None);
                let answer = self.put_server(&server, None).await;
                self.ended(end, answer.as_ref());
            }
            Deed::Delete => {
                let (server, id) = self.draw_server();
                let end = self.ending("delete", Some(&server), None, None);
                let path = format!("{MCP}/{id}");
                let answer = self.ask("root", "DELETE", &path, &[], Value::Null).await;
                self.ended(end, answer.as_ref());
                // Mostly there is one of the same name again.
                self.think().await;
                if self.world.draw(|rng| rng.chance(700)) {
                    self.put_server(&server, None).await;
                }
            }
            Deed::Offboard => self.offboard().await,
            Deed::Work => {
                let process = self.process();
                self.work(&process).await;
            }
            Deed::Repair => {
                let process = self.process();
                let app = process.app();
                let repairing = async {
                    let now = app.now();
                    drop(examine(&app.table, Some(&app), now, true).await);
                };
                process.host(None, repairing).await;
            }
            Deed::Kill => {
                let process = self.process();
                self.world.kill(&process);
            }
        }
    }

    /// Registers a server, or moves it to another host, which voids all that is stored for it.
    async fn put_server(&self, name: &str, at: Option<&Arc<Process>>) -> Option<Answer> {
        let host = {
            let mut hosts = self.hosts.lock().unwrap();
            *hosts += 1;
            format!("{name}-{hosts}.example")
        };
        let auth = match name {
            "crm" => {
                json!({"type": "header", "headers": {"X-Key": "{{KEY}}"}, "auth_level": "per_user"})
            }
            _ => json!({"type": "oauth2"}),
        };
        let manifest = json!({"type": "mcp-server/remote", "name": name, "description": "d",
                              "url": format!("https://{host}/mcp"), "auth_data": auth});
        let body = json!({"manifest": manifest, "force": true});
        let answer = match at {
            Some(process) => {
                self.ask_at(process, None, "root", "PUT", MCP, &[], body)
                    .await
            }
            None => self.ask("root", "PUT", MCP, &[], body).await,
        };
        if let Some(answer) = answer.as_ref().filter(|answer| answer.is_success()) {
            let id = answer.json()["data"]["id"].as_str().unwrap().to_owned();
            self.servers.lock().unwrap().insert(name.to_owned(), id);
        }
        answer
    }

    fn ending(
        &self,
        what: &'static str,
        server: Option<&str>,
        subject: Option<&str>,
        source: Option<&'static str>,
    ) -> usize {
        let mut log = self.log.lock().unwrap();
        log.ends.push(End {
            what,
            server: server.map(str::to_owned),
            subject: subject.map(str::to_owned),
            source,
            sent: self.world.now(),
            ended: None,
            receipt: None,
        });
        log.ends.len() - 1
    }

    fn ended(&self, end: usize, answer: Option<&Answer>) {
        let Some(answer) = answer.filter(|answer| answer.is_success()) else {
            return;
        };
        let mut log = self.log.lock().unwrap();
        let end = &mut log.ends[end];
        end.ended = Some(self.world.now());
        let body = answer.json();
        let receipt = body["data"]["receiptId"]
            .as_str()
            .or(body["data"]["id"].as_str());
        let receipt = receipt.or(answer.header("hawser-receipt"));
        end.receipt = receipt.filter(|_| end.what != "move").map(str::to_owned);
    }

    async fn disconnect(&self, source: &'static str) {
        let (server, id) = self.draw_server();
        let subject = self.draw_subject();
        let end = self.ending("disconnect", Some(&server), Some(&subject), Some(source));
        let body = json!({"authSource": source, "subjectId": subject, "subjectType": "user"});
        let answer = self
            .ask("root", "DELETE", &format!("{MCP}/{id}/auth"), &[], body)
            .await;
        self.ended(end, answer.as_ref());
    }

    async fn offboard(&self) {
        let subject = self.draw_subject();
        let end = self.ending("offboard", None, Some(&subject), None);
        let path = format!("/v1/subjects/user/{subject}/credentials");
        let answer = self.ask("root", "DELETE", &path, &[], Value::Null).await;
        // What is still being removed has not ended.
        let answer = answer.filter(|answer| answer.json()["data"]["state"] == "complete");
        self.ended(end, answer.as_ref());
    }

    async fn install(&self) {
        let (server, id) = self.draw_server();
        let subject = self.draw_subject();
        let number = {
            let mut log = self.log.lock().unwrap();
            log.installs.push(Install {
                subject: subject.clone(),
                server: server.clone(),
                sent: self.world.now(),
                installed: None,
            });
            log.installs.len() - 1
        };
        let value = match server.as_str() {
            "crm" => format!("own-{number}"),
            _ => format!("Bearer own-{number}"),
        };
        let own = json!({"type": "header", "headerValue": value});
        let body = json!({"subjectId": subject, "subjectType": "user", "authOverride": own});
        let answer = self
            .ask("root", "PUT", &format!("{MCP}/{id}/auth"), &[], body)
            .await;
        if answer.is_some_and(|answer| answer.is_success()) {
            self.log.lock().unwrap().installs[number].installed = Some(self.world.now());
        }
    }

    /// Calls a server; answers the number of the call and its status.
    async fn call(
        &self,
        server: &str,
        id: &str,
        subject: &str,
        at: Option<&Arc<Process>>,
    ) -> (u64, Option<u16>) {
        let number = {
            let mut log = self.log.lock().unwrap();
            log.calls.push(Look {
                subject: subject.to_owned(),
                server: server.to_owned(),
                sent: self.world.now(),
                status: None,
                method: None,
            });
            log.calls.len() - 1
        };
        let message = json!({"jsonrpc": "2.0", "id": number, "method": "tools/list", "params": {}});
        let modern = [("mcp-protocol-version", "2026-07-28")];
        let path = format!("/mcp/{id}");
        let answer = match at {
            Some(process) => {
                self.ask_at(process, None, subject, "POST", &path, &modern, message)
                    .await
            }
            None => self.ask(subject, "POST", &path, &modern, message).await,
        };
        let status = answer.map(|answer| answer.status);
        self.log.lock().unwrap().calls[number].status = status;
        (number as u64, status)
    }

    /// Looks at a status.
    async fn look(&self, server: &str, id: &str, subject: &str, at: Option<&Arc<Process>>) {
        let sent = self.world.now();
        let path = format!("{MCP}/{id}/auth/status?subjectId={subject}&subjectType=user");
        let answer = match at {
            Some(process) => {
                self.ask_at(process, None, "root", "GET", &path, &[], Value::Null)
                    .await
            }
            None => self.ask("root", "GET", &path, &[], Value::Null).await,
        };
        let Some(answer) = answer else { return };
        let body = answer.json();
        let method = (body["status"] == "authenticated")
            .then(|| body["method"].as_str().unwrap_or_default().to_owned());
        self.log.lock().unwrap().looks.push(Look {
            subject: subject.to_owned(),
            server: server.to_owned(),
            sent,
            status: Some(answer.status),
            method,
        });
    }

    async fn think(&self) {
        let millis = self.world.draw(|rng| {
            let most = rng.pick(&[1, 20, 100, 100, self.shape.span, 90_000]);
            rng.below(most)
        });
        sleep(Duration::from_millis(millis)).await;
    }

    /// A consent from the first question to the last page, unless its subject loses interest.
    async fn consent(&self, server: String, id: &str, subject: String) {
        let number = {
            let mut log = self.log.lock().unwrap();
            log.consents.push(Consent {
                subject: subject.clone(),
                server: server.clone(),
                begun: None,
                asked: self.world.now(),
                family: None,
                session: None,
                connected: None,
            });
            log.consents.len() - 1
        };
        let offered = self
            .ask(
                &subject,
                "GET",
                &format!("{MCP}/{id}/authorize"),
                &[],
                Value::Null,
            )
            .await;
        let Some(offered) = offered else { return };
        let offered = offered.json();
        let Some(address) = offered["authorization_endpoint"].as_str() else {
            return;
        };
        self.log.lock().unwrap().consents[number].begun = Some(self.world.now());
        self.think().await;
        let target = address.strip_prefix(BASE).unwrap();
        let Some(page) = self.ask("browser", "GET", target, &[], Value::Null).await else {
            return;
        };
        let (Some(cookie), Some(form)) = (page.header("set-cookie"), form_of(&page.text)) else {
            return;
        };
        let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
        self.think().await;
        let path = target.split('?').next().unwrap_or_default();
        let more = [
            ("cookie", cookie.as_str()),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        let Some(started) = self.ask("browser", "POST", path, &more, form).await else {
            return;
        };
        let Some(location) = started.header("location") else {
            return;
        };
        let session = cookie.split_once('=').map(|(name, _)| name.to_owned());
        self.log.lock().unwrap().consents[number].session = session;
        self.think().await;
        let denies = self.world.draw(|rng| rng.chance(60));
        let (back, family) = {
            let mut internet = self.world.internet.lock().unwrap();
            internet.approve(location, &subject, number, denies)
        };
        self.log.lock().unwrap().consents[number].family = family;
        self.think().await;
        let target = back.strip_prefix(BASE).unwrap();
        let page = self
            .ask("browser", "GET", target, &[("cookie", cookie)], Value::Null)
            .await;
        if page.is_some_and(|page| page.text.contains("<h1>Connected</h1>")) {
            self.log.lock().unwrap().consents[number].connected = Some(self.world.now());
        }
    }

    /// What a worker does when it is called.
    async fn work(&self, process: &Arc<Process>) {
        let app = process.app();
        let working = async {
            let until = Instant::now() + Duration::from_secs(600);
            drop(work_off_due(&app, until).await);
            drop(trail::chain_all(&app, until).await);
        };
        process.host(None, working).await;
    }

    /// The weather clears, every process is a new one, and all that is due is done. Then everybody looks once more.
    async fn settle(&self) {
        self.world.tell(|| "the weather clears".to_owned());
        self.world.set_weather(Weather::default());
        // What was sent arrives, and whoever waits gives up.
        sleep(Duration::from_secs(400)).await;
        let process = self.world.start("last", 0);
        for round in 0.. {
            self.work(&process).await;
            let Some(due) = self.next_due() else { break };
            let now = BEGINNING + self.world.now();
            let wait = u64::try_from(due - now).unwrap_or(0) + 1_000_000;
            if round == 300 {
                self.complain("the work never ends".to_owned());
                break;
            }
            sleep(Duration::from_micros(wait)).await;
        }
        let servers = self.servers.lock().unwrap().clone();
        for (server, id) in &servers {
            for subject in &SUBJECTS[..self.shape.subjects as usize] {
                self.look(server, id, subject, Some(&process)).await;
                let (call, status) = self.call(server, id, subject, Some(&process)).await;
                check::last_call(self, server, subject, call, status);
            }
        }
        self.work(&process).await;
        let app = process.app();
        let examined = examine(&app.table, Some(&app), app.now(), false).await;
        match examined {
            Ok(report) if report.is_sound() => {}
            Ok(report) => self.complain(format!(
                "the integrity check finds {:?} and {:?}",
                report.orphans, report.flaws
            )),
            Err(error) => self.complain(format!("the integrity check fails: {error:?}")),
        }
    }

    /// When something is due next.
    fn next_due(&self) -> Option<i64> {
        let items = store::items(&self.world.store);
        let due = items.iter().filter(|item| item["GSI2PK"] == "DUE");
        due.filter_map(|item| item["GSI2SK"].as_str()?.parse().ok())
            .min()
    }
}

/// The form of a page, as its button sends it.
fn form_of(page: &str) -> Option<Value> {
    let between = |text: &str, start: &str| {
        let (_, rest) = text.split_once(start)?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    for input in page.split("<input").skip(1) {
        form.append_pair(&between(input, "name=\"")?, &between(input, "value=\"")?);
    }
    page.contains("<form").then(|| form.finish().into())
}
