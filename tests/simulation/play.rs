//! What people, applications and workers do, and what they are told. A history is drawn from a seed: who does what, when,
//! through which process, how the issuer behaves and how much goes wrong.

use crate::check;
use crate::internet::{Internet, Manners};
use crate::store;
use crate::world::{
    BASE, BEGINNING, Hold, INTEGRATIONS, Process, Refusals, Rng, Weather, World, fixed,
    integrations,
};
use futures_util::future::join_all;
use hawser_core::catalogue::read;
use hawser_core::domain::id::{ServerId, seeded};
use hawser_core::operations::audit_log;
use hawser_core::operations::integrations::apply;
use hawser_core::operations::integrity::examine;
use hawser_core::operations::scheduler::process_due;
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
const LANGSMITH: &str = "/v1/deepagents";
const KAMBRIUM: &str = "/api/v1/mcp-servers";

tokio::task_local! {
    /// The process that all requests of a task reach, where it is not drawn for each.
    static AT: Arc<Process>;
}

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
    /// Two or three at a time, on the same subject and server.
    duels: bool,
    /// A newer version writes, too.
    newer: bool,
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
            registers: rng.chance(350),
            secrets: rng.chance(500),
        };
        let duels = rng.chance(400);
        let bad = |rng: &mut Rng, most: &[u64]| rng.pick(most);
        let weather = match rng.below(5) {
            0 => Weather::default(),
            1..4 if duels => Weather::default(),
            _ if duels => Weather {
                refused: bad(rng, &[0, 0, 20]),
                broken: drawn("lost answers", bad(rng, &[0, 10, 30])),
                deadly: bad(rng, &[0, 0, 10]),
                ..Weather::default()
            },
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
        if duels {
            return Self {
                manners,
                weather,
                skew: drawn("skew", rng.pick(&[0, 0, 0, 3_000_000])),
                span: 15,
                deeds: rng.between(3, 8),
                subjects: rng.pick(&[1, 1, 1, 2]),
                servers: rng.pick(&[1, 1, 1, 1, 2, 3]),
                processes: 3,
                connected: rng.chance(700),
                impatient: 0,
                duels,
                newer: rng.chance(60),
            };
        }
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
            duels,
            newer: rng.chance(150),
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

/// A consent whose subject comes back from the issuer.
struct Return {
    number: usize,
    target: String,
    cookie: String,
}

/// A word of a newer version, where there was another one.
#[derive(Clone, Debug)]
pub struct Scrambled {
    pub key: Value,
    field: &'static str,
    before: Option<Value>,
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
    /// By name: the host that was last written.
    moved_to: Mutex<BTreeMap<String, String>>,
    connections: Mutex<u64>,
    scrambled: Mutex<Vec<Scrambled>>,
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
    /// Those that refused one.
    pub refusals: BTreeMap<String, Refusals>,
}

/// Whether a seed's history consists of duels.
pub fn is_of_duels(seed: u64) -> bool {
    Shape::draw(&mut Rng::new(seed)).duels
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
    if play.shape.duels {
        play.duel().await;
    } else {
        play.mill_about().await;
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
        refusals: world.refusals(),
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
    /// A consent that has been to the issuer comes back.
    Return,
    Install,
    Uninstall,
    RevokeAll,
    Move,
    /// A change that voids nothing.
    Touch,
    Delete,
    /// A connection of Kambrium's.
    Connection,
    Offboard,
    Work,
    Repair,
    Kill,
    /// The issuer forgets its clients.
    Forget,
    /// A newer version writes a word into an item that this one does not know.
    Scramble,
}

impl Deed {
    fn draw(rng: &mut Rng, shape: &Shape) -> Self {
        let newer = if shape.newer { 3 } else { 0 };
        let forgets = if shape.manners.registers { 1 } else { 0 };
        let anytime = [
            (28, Self::Consent),
            (24, Self::Call),
            (16, Self::Calls),
            (5, Self::Status),
            (14, Self::Disconnect),
            (4, Self::Install),
            (2, Self::Uninstall),
            (3, Self::RevokeAll),
            (3, Self::Move),
            (1, Self::Touch),
            (1, Self::Delete),
            (2, Self::Connection),
            (4, Self::Offboard),
            (10, Self::Work),
            (1, Self::Repair),
            (3, Self::Kill),
            (forgets, Self::Forget),
            (newer, Self::Scramble),
        ];
        let mut left = rng.below(anytime.iter().map(|(weight, _)| weight).sum());
        for (weight, deed) in anytime {
            if left < weight {
                return deed;
            }
            left -= weight;
        }
        Self::Work
    }

    /// Two that are in each other's way, and now and then a third.
    fn draw_fight(rng: &mut Rng, shape: &Shape) -> Vec<Self> {
        // Each with how often; the same twice means against itself.
        const PAIRS: [(u64, Deed, Deed); 33] = [
            (6, Deed::Return, Deed::Return),
            (8, Deed::Return, Deed::Disconnect),
            (5, Deed::Return, Deed::Offboard),
            (5, Deed::Return, Deed::RevokeAll),
            (5, Deed::Return, Deed::Move),
            (5, Deed::Return, Deed::Delete),
            (5, Deed::Return, Deed::Call),
            (3, Deed::Return, Deed::Work),
            (2, Deed::Return, Deed::Touch),
            (6, Deed::Call, Deed::Disconnect),
            (3, Deed::Call, Deed::Offboard),
            (3, Deed::Call, Deed::RevokeAll),
            (3, Deed::Call, Deed::Delete),
            (3, Deed::Call, Deed::Move),
            (4, Deed::Calls, Deed::Call),
            (3, Deed::Disconnect, Deed::Disconnect),
            (3, Deed::Disconnect, Deed::Offboard),
            (3, Deed::Disconnect, Deed::RevokeAll),
            (3, Deed::Disconnect, Deed::Delete),
            (4, Deed::Work, Deed::Work),
            (4, Deed::Work, Deed::Call),
            (3, Deed::Work, Deed::Disconnect),
            (2, Deed::Work, Deed::Delete),
            (3, Deed::Offboard, Deed::Offboard),
            (2, Deed::Offboard, Deed::Install),
            (3, Deed::Offboard, Deed::Consent),
            (4, Deed::Consent, Deed::Consent),
            (3, Deed::Consent, Deed::Delete),
            (3, Deed::Consent, Deed::RevokeAll),
            (3, Deed::Install, Deed::Move),
            (3, Deed::Install, Deed::Delete),
            (2, Deed::Uninstall, Deed::Uninstall),
            (3, Deed::Uninstall, Deed::Install),
        ];
        let mut left = rng.below(PAIRS.iter().map(|(weight, ..)| weight).sum());
        let mut fight = Vec::new();
        for (weight, one, other) in PAIRS {
            if left < weight {
                fight = vec![one, other];
                break;
            }
            left -= weight;
        }
        if rng.chance(500) {
            fight.reverse();
        }
        let third = match rng.below(10) {
            0..5 => Self::Work,
            5..7 => Self::draw(rng, shape),
            _ => return fight,
        };
        fight.push(third);
        fight
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
            let own =
                json!({"permissions": ["mcp-servers:invoke"], "scope": "mgmt.read mgmt.write"});
            tokens.insert(subject.to_owned(), token(subject, own));
        }
        Self {
            world,
            shape,
            slots: Mutex::default(),
            servers: Mutex::default(),
            hosts: Mutex::default(),
            moved_to: Mutex::default(),
            connections: Mutex::default(),
            scrambled: Mutex::default(),
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
        let (process, offers) = (self.process(), read(&integrations(), false).unwrap());
        let app = process.app();
        let applied = process.host(None, apply(&app, &offers, false)).await;
        assert!(applied.is_some_and(|applied| applied.is_ok()));
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

    /// Everybody does what they do at times of their own.
    async fn mill_about(self: &Arc<Self>) {
        let mut deeds = Vec::new();
        let clusters = self.world.draw(|rng| {
            let count = rng.between(1, 7);
            (0..count)
                .map(|_| rng.below(self.shape.span))
                .collect::<Vec<_>>()
        });
        for number in 0..self.shape.deeds {
            // Much at once, and then nothing for a while.
            let at = self.world.draw(|rng| {
                let width = rng.pick(&[10, 60, 400]);
                rng.pick(&clusters) + rng.below(width)
            });
            let deed = self.world.draw(|rng| Deed::draw(rng, &self.shape));
            let play = self.clone();
            deeds.push(tokio::spawn(async move {
                sleep(Duration::from_millis(at)).await;
                play.world.tell(|| format!("deed {number}: {deed:?}"));
                play.perform(deed).await;
            }));
        }
        self.world.set_weather(self.shape.weather);
        self.await_all(deeds).await;
    }

    async fn await_all(&self, deeds: Vec<tokio::task::JoinHandle<()>>) {
        for deed in deeds {
            if deed.await.is_err() {
                self.complain("a deed panicked".to_owned());
            }
        }
    }

    /// Round after round, two or three do something to the same subject and server at once, each in a process of its own.
    /// One of them is held up before one of its steps, so that the others come between that and what was read before.
    async fn duel(self: &Arc<Self>) {
        self.world.set_weather(self.shape.weather);
        let mut deeds = Vec::new();
        for round in 0..self.shape.deeds {
            if self.world.draw(|rng| rng.chance(600)) {
                self.perform(Deed::Consent).await;
            }
            let mut fight = Vec::new();
            for deed in self.world.draw(|rng| Deed::draw_fight(rng, &self.shape)) {
                let away = match deed {
                    Deed::Return => {
                        let (server, id) = self.draw_server();
                        let subject = self.draw_subject();
                        self.leave(server, &id, subject).await
                    }
                    _ => None,
                };
                fight.push((deed, away));
            }
            // Until a token is due, or not.
            let rest = self.world.draw(|rng| rng.pick(&[1, 200, 700, 1100]));
            sleep(Duration::from_millis(rest)).await;
            let held = self.world.draw(|rng| rng.below(2)) as usize;
            let hold = self.world.draw(|rng| Hold {
                after: rng.pick(&[0, 0, 0, 1, 1, 2, 3, 5, 8]),
                writes: rng.chance(750),
                request: rng.chance(800),
                by: Duration::from_millis(rng.pick(&[60, 200, 600, 1500, 4000, 9000])),
            });
            for (number, (deed, away)) in fight.into_iter().enumerate() {
                let process = self.process_in(number);
                process.hold((number == held).then_some(hold));
                // What the second leaves to be done is done while the first is held up.
                let late = if number > 1 { 40 } else { 0 };
                let start = self.world.draw(|rng| {
                    let most = rng.pick(&[1, 10, 60, 60]);
                    rng.below(most) + rng.below(late * 4 + 1)
                });
                let play = self.clone();
                let acting = async move {
                    sleep(Duration::from_millis(start)).await;
                    play.world.tell(|| format!("round {round}: {deed:?}"));
                    match (deed, away) {
                        (Deed::Return, Some(away)) => play.come_back(away).await,
                        _ => play.perform(deed).await,
                    }
                };
                deeds.push(tokio::spawn(AT.scope(process, acting)));
            }
            let pause = self.world.draw(|rng| rng.pick(&[80, 400, 2000, 12_000]));
            sleep(Duration::from_millis(pause)).await;
        }
        self.await_all(deeds).await;
    }

    /// A process that somebody's request reaches: a new one where one has died.
    fn process(&self) -> Arc<Process> {
        if let Ok(process) = AT.try_with(Arc::clone) {
            return process;
        }
        let count = self.slots.lock().unwrap().len();
        self.process_in(self.world.draw(|rng| rng.below(count as u64)) as usize)
    }

    fn process_in(&self, slot: usize) -> Arc<Process> {
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
        // Whoever keeps to one process stays to the end.
        let impatient = match AT.try_with(|_| ()) {
            Ok(()) => 0,
            Err(_) => self.shape.impatient,
        };
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
            Deed::Return => {
                let (server, id) = self.draw_server();
                let subject = self.draw_subject();
                self.consent(server, &id, subject).await;
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
                if is_connection(&server) {
                    return;
                }
                let end = self.ending("move", Some(&server), None, None);
                let answer = self.put_server(&server, None).await;
                self.ended(end, answer.as_ref());
            }
            Deed::Touch => {
                let (server, _) = self.draw_server();
                let host = self.moved_to.lock().unwrap().get(&server).cloned();
                if let Some(host) = host {
                    let number = self.world.draw(|rng| rng.below(1000));
                    let described = format!("{number} things");
                    // Whoever moves it meanwhile is overtaken: it is as if it had moved once more.
                    let end = self.ending("move", Some(&server), None, None);
                    let answer = self.put_manifest(&server, &host, &described, None).await;
                    drop(answer);
                    self.log.lock().unwrap().ends[end].ended = None;
                }
            }
            Deed::Connection => self.connection().await,
            Deed::Forget => {
                self.world
                    .tell(|| "the issuer forgets its clients".to_owned());
                self.world.internet.lock().unwrap().forget_clients();
            }
            Deed::Scramble => self.scramble(),
            Deed::Delete => {
                let (server, id) = self.draw_server();
                let end = self.ending("delete", Some(&server), None, None);
                let path = format!("{MCP}/{id}");
                let answer = self.ask("root", "DELETE", &path, &[], Value::Null).await;
                self.ended(end, answer.as_ref());
                // Mostly there is one of the same name again.
                self.think().await;
                let again = self.world.draw(|rng| rng.chance(700)) || self.shape.duels;
                if again && !is_connection(&server) {
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
        let moved = self
            .moved_to
            .lock()
            .unwrap()
            .insert(name.to_owned(), host.clone());
        drop(moved);
        self.put_manifest(name, &host, "d", at).await
    }

    async fn put_manifest(
        &self,
        name: &str,
        host: &str,
        described: &str,
        at: Option<&Arc<Process>>,
    ) -> Option<Answer> {
        let auth = match name {
            "crm" => {
                json!({"type": "header", "headers": {"X-Key": "{{KEY}}"}, "auth_level": "per_user"})
            }
            _ => json!({"type": "oauth2"}),
        };
        let manifest = json!({"type": "mcp-server/remote", "name": name, "description": described,
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

    /// Calls a server; returns the number of the call and its status.
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

    /// A subject makes a connection of Kambrium's, and perhaps consents.
    async fn connection(&self) {
        let number = {
            let mut connections = self.connections.lock().unwrap();
            *connections += 1;
            *connections - 1
        };
        if number >= INTEGRATIONS {
            return;
        }
        let (name, subject) = (format!("k{number}"), self.draw_subject());
        let body = json!({"mcp_server": name, "access_type": "write", "auth_method": "oauth"});
        let consent = self.ask_for_consent(&name, &subject);
        let made = self.ask(&subject, "POST", KAMBRIUM, &[], body).await;
        let Some(made) = made.filter(Answer::is_success) else {
            return;
        };
        let made = made.json();
        let items = store::items(&self.world.store);
        let mut own = items.iter();
        let own =
            own.find(|item| item["entity"] == "server" && item["number"] == made["data"]["id"]);
        if let Some(ulid) = own.and_then(|item| item["SK"].as_str()?.strip_prefix("S#")) {
            let id = format!("mcp-{ulid}");
            self.servers.lock().unwrap().insert(name, id);
        }
        let address = made["data"]["authorization_url"]
            .as_str()
            .unwrap_or_default();
        if let Some(away) = self.go_away(consent, &subject, address).await {
            self.think().await;
            self.come_back(away).await;
        }
        // Its owner may end it by the same contract.
        if self.world.draw(|rng| rng.chance(200)) {
            let end = self.ending("delete", Some(&format!("k{number}")), None, None);
            let path = format!("{KAMBRIUM}/{}", made["data"]["id"]);
            let answer = self.ask(&subject, "DELETE", &path, &[], Value::Null).await;
            self.ended(end, answer.as_ref());
        }
    }

    /// A newer version writes a word that this one does not know.
    fn scramble(&self) {
        let items = store::items(&self.world.store);
        let place = |item: &Value| match item["entity"].as_str() {
            Some("grant") => Some("last_refresh"),
            Some("override") => Some("shape"),
            Some("session") => Some("origin"),
            Some("revocation") => Some("access"),
            _ => None,
        };
        let all: Vec<_> = items
            .iter()
            .filter_map(|item| Some((item, place(item)?)))
            .filter(|(item, field)| item[*field] != NEWER)
            .collect();
        if all.is_empty() {
            return;
        }
        let (item, field) = self.world.draw(|rng| rng.pick(&all));
        let key = json!({"PK": {"S": item["PK"]}, "SK": {"S": item["SK"]}});
        self.world
            .tell(|| format!("a newer version writes {field} of {}", item["entity"]));
        let get = json!({"RequestItems": {hawser_local::TABLE: {"Keys": [key]}}});
        let (_, read) = store::table(&self.world.store, "BatchGetItem", &get.to_string());
        let read: Value = serde_json::from_str(&read).unwrap();
        let before = read["Responses"][hawser_local::TABLE][0]
            .get(field)
            .cloned();
        let set = json!({"TableName": hawser_local::TABLE, "Key": key, "UpdateExpression": "SET #f = :word",
                         "ExpressionAttributeNames": {"#f": field},
                         "ExpressionAttributeValues": {":word": {"S": NEWER}}});
        let (status, answer) = store::table(&self.world.store, "UpdateItem", &set.to_string());
        assert_eq!(status, 200, "{answer}");
        let scrambled = Scrambled { key, field, before };
        self.scrambled.lock().unwrap().push(scrambled);
    }

    /// A version that reads them takes all such words away again.
    fn unscramble(&self) {
        // The last first, should an item have been given two.
        for one in std::mem::take(&mut *self.scrambled.lock().unwrap())
            .iter()
            .rev()
        {
            let mut update = json!({"TableName": hawser_local::TABLE, "Key": one.key, "ConditionExpression": "#f = :word",
                                    "ExpressionAttributeNames": {"#f": one.field},
                                    "ExpressionAttributeValues": {":word": {"S": NEWER}}});
            match &one.before {
                Some(before) => {
                    update["UpdateExpression"] = "SET #f = :before".into();
                    update["ExpressionAttributeValues"][":before"] = before.clone();
                }
                None => update["UpdateExpression"] = "REMOVE #f".into(),
            }
            store::table(&self.world.store, "UpdateItem", &update.to_string());
        }
    }

    async fn think(&self) {
        if self.shape.duels || AT.try_with(|_| ()).is_ok() {
            let millis = self.world.draw(|rng| rng.below(4));
            return sleep(Duration::from_millis(millis)).await;
        }
        let millis = self.world.draw(|rng| {
            let most = rng.pick(&[1, 20, 100, 100, self.shape.span, 90_000]);
            rng.below(most)
        });
        sleep(Duration::from_millis(millis)).await;
    }

    /// A consent from the first question to the last page, unless its subject loses interest.
    async fn consent(&self, server: String, id: &str, subject: String) {
        if let Some(away) = self.leave(server, id, subject).await {
            self.think().await;
            self.come_back(away).await;
        }
    }

    fn ask_for_consent(&self, server: &str, subject: &str) -> usize {
        let mut log = self.log.lock().unwrap();
        log.consents.push(Consent {
            subject: subject.to_owned(),
            server: server.to_owned(),
            begun: None,
            asked: self.world.now(),
            family: None,
            session: None,
            connected: None,
        });
        log.consents.len() - 1
    }

    /// A consent up to where the issuer sends the browser back.
    async fn leave(&self, server: String, id: &str, subject: String) -> Option<Return> {
        let number = self.ask_for_consent(&server, &subject);
        let address = match self.world.draw(|rng| rng.chance(200)) {
            true => self.offer_of_langsmith(id, &subject).await?,
            false => {
                let path = format!("{MCP}/{id}/authorize");
                let offered = self.ask(&subject, "GET", &path, &[], Value::Null).await?;
                let offered = offered.json();
                offered["authorization_endpoint"].as_str()?.to_owned()
            }
        };
        self.go_away(number, &subject, &address).await
    }

    async fn offer_of_langsmith(&self, id: &str, subject: &str) -> Option<String> {
        let uuid = ServerId::parse_prefixed(id)?.uuid();
        let path = format!("{LANGSMITH}/mcp-servers/{uuid}/oauth-provider");
        let provider = self.ask(subject, "POST", &path, &[], json!({})).await?;
        let provider = provider.json()["oauth_provider_id"].clone();
        let strategy = self.world.draw(|rng| rng.pick(&["REUSE", "CREATE"]));
        let body = json!({"provider_id": provider, "scopes": [], "strategy": strategy});
        let path = format!("{LANGSMITH}/auth-sessions");
        let begun = self.ask(subject, "POST", &path, &[], body).await?;
        Some(begun.json()["verification_url"].as_str()?.to_owned())
    }

    /// From the address of a consent to the issuer, and to where that sends the browser back.
    async fn go_away(&self, number: usize, subject: &str, address: &str) -> Option<Return> {
        let target = address.strip_prefix(BASE)?;
        {
            // Whoever gets the address of an open consent shares its beginning.
            let id = session_of(target)?;
            let mut log = self.log.lock().unwrap();
            let mut earlier = log.consents.iter();
            let first = earlier.find(|one| one.session.as_deref() == Some(&id));
            let begun = first.and_then(|one| one.begun).unwrap_or(self.world.now());
            let consent = &mut log.consents[number];
            (consent.begun, consent.session) = (Some(begun), Some(id));
        }
        self.think().await;
        let page = self.ask("browser", "GET", target, &[], Value::Null).await?;
        let form = form_of(&page.text)?;
        let cookie = page.header("set-cookie")?.split(';').next()?.to_owned();
        self.think().await;
        let path = target.split('?').next()?;
        let more = [
            ("cookie", cookie.as_str()),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        let started = self.ask("browser", "POST", path, &more, form).await?;
        let location = started.header("location")?;
        self.think().await;
        let denies = self.world.draw(|rng| rng.chance(60));
        let (back, family) = {
            let mut internet = self.world.internet.lock().unwrap();
            internet.approve(location, subject, number, denies)?
        };
        self.log.lock().unwrap().consents[number].family = family;
        let target = back.strip_prefix(BASE).unwrap().to_owned();
        Some(Return {
            number,
            target,
            cookie,
        })
    }

    /// The browser comes back, now and then twice.
    async fn come_back(&self, away: Return) {
        let Return {
            number,
            target,
            cookie,
        } = away;
        let more = [("cookie", cookie.as_str())];
        let times = 1 + usize::from(self.world.draw(|rng| rng.chance(120)));
        let coming = (0..times).map(|_| self.ask("browser", "GET", &target, &more, Value::Null));
        let pages = join_all(coming).await;
        let is_connected = |page: &Answer| page.text.contains("<h1>Connected</h1>");
        let connected = pages
            .iter()
            .flatten()
            .filter(|page| is_connected(page))
            .count();
        if connected > 0 {
            self.log.lock().unwrap().consents[number].connected = Some(self.world.now());
        }
        if connected > 1 {
            self.complain(format!("consent {number} connected twice"));
        }
    }

    /// What a worker does when it is called.
    async fn work(&self, process: &Arc<Process>) {
        let app = process.app();
        let working = async {
            let until = Instant::now() + Duration::from_secs(600);
            drop(process_due(&app, until).await);
            drop(audit_log::chain_all(&app, until).await);
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
        if !self.scrambled.lock().unwrap().is_empty() {
            for _ in 0..6 {
                self.work(&process).await;
                sleep(Duration::from_secs(61)).await;
            }
            check::nothing_void_is_left(self, &store::items(&self.world.store));
            self.world
                .tell(|| "what could not be read can be read".to_owned());
            self.unscramble();
        }
        self.work_to_the_end(&process).await;
        let servers = self.servers.lock().unwrap().clone();
        for (server, id) in &servers {
            for subject in &SUBJECTS[..self.shape.subjects as usize] {
                self.look(server, id, subject, Some(&process)).await;
                let (call, status) = self.call(server, id, subject, Some(&process)).await;
                check::last_call(self, server, subject, call, status);
            }
        }
        self.connect_once_more(&process).await;
        self.work_to_the_end(&process).await;
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

    /// Works until nothing is due any more.
    async fn work_to_the_end(&self, process: &Arc<Process>) {
        for round in 0.. {
            self.work(process).await;
            let Some(due) = self.next_due() else { break };
            let now = BEGINNING + self.world.now();
            let wait = u64::try_from(due - now).unwrap_or(0) + 1_000_000;
            if round == 300 {
                self.complain("the work never ends".to_owned());
                break;
            }
            sleep(Duration::from_micros(wait)).await;
        }
    }

    /// Whoever is not connected now can connect, whatever has been left behind.
    async fn connect_once_more(&self, process: &Arc<Process>) {
        let looks = self.log.lock().unwrap().looks.clone();
        let servers = self.servers.lock().unwrap().clone();
        let unconnected = looks
            .iter()
            .rev()
            .take(servers.len() * self.shape.subjects as usize);
        let mut unconnected =
            unconnected.filter(|look| look.status == Some(200) && look.method.is_none());
        let Some(look) = unconnected.rfind(|look| look.server != "crm") else {
            return;
        };
        // Consents of before count for ten minutes.
        sleep(Duration::from_secs(700)).await;
        let (server, subject) = (look.server.clone(), look.subject.clone());
        let id = &servers[&server];
        let number = self.log.lock().unwrap().consents.len();
        let mut is_needed = true;
        let consenting = async {
            let path = format!("{MCP}/{id}/authorize");
            let number = self.ask_for_consent(&server, &subject);
            let offered = self.ask(&subject, "GET", &path, &[], Value::Null).await?;
            let offered = offered.json();
            // A refresh that failed is tried again.
            is_needed = offered["status"] != "authenticated";
            let address = offered["authorization_endpoint"].as_str()?;
            let away = self.go_away(number, &subject, address).await?;
            self.come_back(away).await;
            Some(())
        };
        AT.scope(process.clone(), consenting).await;
        if !is_needed {
            return;
        }
        let consent = self.log.lock().unwrap().consents[number].clone();
        // Sometimes the subject says no.
        if consent.connected.is_none() && (consent.begun.is_none() || consent.family.is_some()) {
            self.complain(format!(
                "{subject} cannot connect {server} any more: {consent:?}"
            ));
        }
        let (call, status) = self.call(&server, id, &subject, Some(process)).await;
        let internet = self.world.internet.lock().unwrap();
        let served = internet.served.iter().any(|one| one.call == call);
        drop(internet);
        if consent.connected.is_some() && !served {
            self.complain(format!("{subject} has just connected {server}: {status:?}"));
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

/// A word of a newer version.
pub const NEWER: &str = "of-a-newer-version";

/// Whether a server is one of Kambrium's connections, which have one host and one life each.
fn is_connection(name: &str) -> bool {
    name.starts_with('k')
}

/// The session that an address of ours leads to.
fn session_of(target: &str) -> Option<String> {
    let (_, ticket) = target.split_once("session=")?;
    let mut parts = ticket.split('.');
    // A server's id has 26 characters.
    Some(parts.nth(1)?.get(26..)?.to_owned())
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
