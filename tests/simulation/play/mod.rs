//! What people, applications and workers do, and what they are told. A history is drawn from a seed: who does what, when,
//! through which process, how the issuer behaves and how much goes wrong.

mod act;
mod consent;
mod draw;
mod log;
mod newer;
mod request;
mod settle;

pub use draw::{Shape, is_of_duels};
pub use log::{Consent, End, Install, Log, Look};
pub use newer::NEWER;

use self::newer::Scrambled;
use crate::check;
use crate::internet::Internet;
use crate::world::{BEGINNING, Process, Refusals, Rng, World, fixed, integrations};
use hawser_core::catalogue::read;
use hawser_core::domain::id::seeded;
use hawser_core::operations::integrations::apply;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

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
}
