//! Processes, their clocks, and the one way in which anything happens between them and the rest of the world: a step.

use crate::internet::Internet;
use crate::{conditions, store};
use dynoxide::Database;
use hawser_core::App;
use hawser_core::domain::time::Clock;
use hawser_core::egress::Egress;
use hawser_core::seal::KeyService;
use hawser_core::state::config::{Config, KeyServiceConfig};
use hawser_local::identity::Identity;
use hawser_local::template::{Router, Template};
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// When every history begins, in microseconds since the epoch.
pub const BEGINNING: i64 = 1_790_000_000_000_000;
/// Under which Hawser is reached from outside.
pub const BASE: &str = "https://hawser.example";

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x5851_f42d_4c95_7f2d)
    }

    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Less than `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.word() % end
    }

    pub fn between(&mut self, start: u64, end: u64) -> u64 {
        start + self.below(end - start)
    }

    /// True this many times in a thousand.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }
}

/// Whom a process asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Store,
    Keys,
    Network,
}

/// How much goes wrong, each in a thousand steps.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// The peer refuses: too busy, a transaction in the way, 503.
    pub refused: u64,
    /// Nothing arrives, and the caller learns it.
    pub unsent: u64,
    /// It is carried out, and the answer is lost.
    pub broken: u64,
    /// The same, and nobody learns it: the caller waits in vain.
    pub silent: u64,
    /// Takes seconds.
    pub slow: u64,
    /// The process dies before it is sent, or after it is carried out.
    pub deadly: u64,
    /// The process stands still when the answer is there.
    pub frozen: u64,
    /// A process's clock jumps.
    pub jumps: u64,
}

/// What happens to one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    Answered,
    Refused,
    Unsent,
    Broken,
    Silent,
    DiesBefore,
    DiesAfter,
}

/// No answer: the connection broke.
#[derive(Debug)]
pub struct Gone;

/// Which step of a process is to be late, so that others come between it and the step before.
#[derive(Clone, Copy, Debug)]
pub struct Hold {
    /// Steps that go first.
    pub after: u32,
    /// Whether writes alone count.
    pub writes: bool,
    /// Whether its request is late, or its answer.
    pub request: bool,
    pub by: Duration,
}

/// How often a condition has refused a write.
#[derive(Clone, Debug, Default)]
pub struct Refusals {
    /// As the only one.
    pub alone: u64,
    /// Beside which others, and how often.
    pub beside: BTreeMap<String, u64>,
}

/// One process of Hawser.
pub struct Process {
    pub name: String,
    clock: Arc<AtomicI64>,
    /// Microseconds that have passed, which no clock that jumps changes.
    passed: Arc<AtomicI64>,
    /// Microseconds by which its clock is ahead.
    skew: AtomicI64,
    dead: AtomicBool,
    died: Notify,
    frozen_until: Mutex<Option<Instant>>,
    born: Instant,
    /// Whether it ever stood still.
    froze: AtomicBool,
    /// One step of its that is to be late.
    hold: Mutex<Option<Hold>>,
    app: Mutex<Option<Arc<App>>>,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Process {
    pub fn app(&self) -> Arc<App> {
        self.app.lock().unwrap().clone().unwrap()
    }

    /// Whether it died or stood still.
    pub fn has_stumbled(&self) -> bool {
        self.is_dead() || self.froze.load(Ordering::SeqCst)
    }

    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Holds one of its next steps up, or none.
    pub fn hold(&self, hold: Option<Hold>) {
        *self.hold.lock().unwrap() = hold;
    }

    /// Whether the step that comes now is held up.
    fn next_held(&self, is_write: bool) -> Option<Hold> {
        let mut hold = self.hold.lock().unwrap();
        let now = hold.as_mut().filter(|hold| is_write || !hold.writes)?;
        if now.after == 0 {
            return hold.take();
        }
        now.after -= 1;
        None
    }

    fn die(&self) {
        self.dead.store(true, Ordering::SeqCst);
        self.died.notify_waiters();
    }

    /// Sets its clock to what it shows now.
    fn tick(&self) {
        let passed = i64::try_from(self.born.elapsed().as_micros()).unwrap();
        let shown = BEGINNING + passed + self.skew.load(Ordering::SeqCst);
        self.clock.store(shown, Ordering::SeqCst);
        self.passed.store(passed, Ordering::SeqCst);
    }

    fn frozen_until(&self) -> Option<Instant> {
        let until = *self.frozen_until.lock().unwrap();
        until.filter(|until| Instant::now() < *until)
    }

    /// Goes on only in a process that lives and moves.
    async fn goes_on(&self) {
        while let Some(until) = self.frozen_until() {
            sleep_until(until).await;
        }
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
        self.tick();
    }

    /// Runs something in this process. `None` if the process dies, or the caller hangs up after so many polls.
    pub async fn host<F: Future>(&self, hangs_up_after: Option<u32>, work: F) -> Option<F::Output> {
        let died = self.died.notified();
        let mut died = pin!(died);
        died.as_mut().enable();
        if self.is_dead() {
            return None;
        }
        let hosted = Hosted {
            process: self,
            polls: hangs_up_after,
            thaw: None,
            work: Box::pin(work),
        };
        tokio::select! {
            biased;
            () = died => None,
            ended = hosted => ended,
        }
    }
}

/// Work in a process: not polled while the process is frozen, dropped when its caller hangs up.
struct Hosted<'a, F> {
    process: &'a Process,
    polls: Option<u32>,
    thaw: Option<Pin<Box<Sleep>>>,
    work: Pin<Box<F>>,
}

impl<F: Future> Future for Hosted<'_, F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        while let Some(until) = self.process.frozen_until() {
            let mut thaw = Box::pin(sleep_until(until));
            if thaw.as_mut().poll(cx).is_pending() {
                self.thaw = Some(thaw);
                return Poll::Pending;
            }
        }
        self.thaw = None;
        if let Some(left) = &mut self.polls {
            if *left == 0 {
                return Poll::Ready(None);
            }
            *left -= 1;
        }
        self.process.tick();
        self.work.as_mut().poll(cx).map(Some)
    }
}

/// What was done, to be told apart from another history by one number.
#[derive(Default)]
struct Trace {
    hash: u64,
    endings: BTreeMap<Ending, usize>,
    lines: Option<Vec<String>>,
}

/// Everything there is.
pub struct World {
    rng: Mutex<Rng>,
    weather: Mutex<Weather>,
    trace: Mutex<Trace>,
    born: Instant,
    pub store: Database,
    pub internet: Mutex<Internet>,
    /// Whether the SDK repeats what failed, as it does on AWS.
    retries: bool,
    /// The condition that is left out.
    without: Option<String>,
    /// The names of all conditions.
    guards: Mutex<BTreeSet<String>>,
    refusals: Mutex<BTreeMap<String, Refusals>>,
    processes: Mutex<Vec<Arc<Process>>>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

/// The integrations of Kambrium's connections: one for each connection that a history makes.
pub const INTEGRATIONS: u64 = 6;

/// A file of integrations, as an operator applies it.
pub fn integrations() -> String {
    let all: serde_json::Map<String, serde_json::Value> = (0..INTEGRATIONS)
        .map(|number| {
            let url = format!("https://k{number}-1.example/mcp");
            let own = serde_json::json!({"display_name": "K", "mcp_url": url, "oauth": {}});
            (format!("k{number}"), own)
        })
        .collect();
    serde_json::json!({ "integrations": all }).to_string()
}

/// What all histories share: keys that are slow to make, and the template.
pub struct Fixed {
    pub identity: Identity,
    pub template: Template,
    pub router: Router,
}

/// Made once, before any seed is set.
pub fn fixed() -> &'static Fixed {
    static FIXED: OnceLock<Fixed> = OnceLock::new();
    FIXED.get_or_init(|| {
        let template = Template::load().unwrap();
        Fixed {
            identity: Identity::ephemeral().unwrap(),
            router: template.router().unwrap(),
            template,
        }
    })
}

impl World {
    /// A calm world with an empty table.
    pub async fn new(
        mut rng: Rng,
        internet: Internet,
        told: bool,
        without: Option<&str>,
    ) -> Arc<Self> {
        let retries = rng.chance(500);
        let world = Arc::new(Self {
            rng: Mutex::new(rng),
            weather: Mutex::default(),
            trace: Mutex::new(Trace {
                hash: 0,
                endings: BTreeMap::new(),
                lines: told.then(Vec::new),
            }),
            born: Instant::now(),
            store: Database::memory().unwrap(),
            internet: Mutex::new(internet),
            retries,
            without: without.map(str::to_owned),
            guards: Mutex::default(),
            refusals: Mutex::default(),
            processes: Mutex::default(),
        });
        let maker = world.start("maker", 0);
        let client = store::dynamodb(&world, &maker, false);
        let table = hawser_local::TABLE;
        fixed().template.create_table(&client, table).await.unwrap();
        world
    }

    pub fn now(&self) -> i64 {
        i64::try_from(self.born.elapsed().as_micros()).unwrap()
    }

    pub fn draw<T>(&self, of: impl FnOnce(&mut Rng) -> T) -> T {
        of(&mut self.rng.lock().unwrap())
    }

    pub fn set_weather(&self, weather: Weather) {
        *self.weather.lock().unwrap() = weather;
    }

    /// A new process whose clock is ahead by so many microseconds.
    pub fn start(self: &Arc<Self>, name: &str, skew: i64) -> Arc<Process> {
        let number = self.processes.lock().unwrap().len();
        let process = Arc::new(Process {
            name: format!("{name}{number}"),
            clock: Arc::default(),
            passed: Arc::default(),
            skew: AtomicI64::new(skew),
            dead: AtomicBool::new(false),
            died: Notify::new(),
            frozen_until: Mutex::default(),
            born: self.born,
            froze: AtomicBool::new(false),
            hold: Mutex::default(),
            app: Mutex::default(),
        });
        process.tick();
        let config = Config {
            key_service: KeyServiceConfig::Kms("key".to_owned()),
            public_urls: vec![BASE.to_owned()],
            gateway_url: Some(BASE.to_owned()),
            sign_in: Default::default(),
            allow_loopback_http: false,
            ..hawser_local::config(&fixed().identity).unwrap()
        };
        let dynamodb = store::dynamodb(self, &process, self.retries);
        let kms = |key_id| KeyService::Kms {
            client: store::kms(self, &process, self.retries),
            key_id,
        };
        let egress = Egress::in_process(crate::internet::network(self, &process));
        let mut app = App::with_egress(config, dynamodb, kms, egress).unwrap();
        app.clock = Clock::Simulated(process.clock.clone(), process.passed.clone());
        *process.app.lock().unwrap() = Some(app.share());
        self.processes.lock().unwrap().push(process.clone());
        self.tell(|| format!("{} starts, {} ms ahead", process.name, skew / 1000));
        process
    }

    /// Takes all processes apart. Each holds what leads back to it.
    pub fn end(&self) {
        for process in self.processes.lock().unwrap().iter() {
            process.die();
            process.app.lock().unwrap().take();
        }
    }

    /// Kills a process between two steps.
    pub fn kill(&self, process: &Process) {
        self.tell(|| format!("{} is killed", process.name));
        process.die();
    }

    /// Notes what happens. Part of the hash: it must follow from the seed alone.
    pub fn tell(&self, what: impl FnOnce() -> String) {
        let what = what();
        let now = self.now();
        let mut trace = self.trace.lock().unwrap();
        let mut hasher = DefaultHasher::new();
        (trace.hash, now, &what).hash(&mut hasher);
        trace.hash = hasher.finish();
        if let Some(lines) = &mut trace.lines {
            lines.push(format!("{:>12.6} {what}", now as f64 / 1e6));
        }
    }

    /// Notes what only a reader needs.
    pub fn explain(&self, what: impl FnOnce() -> String) {
        let now = self.now();
        if let Some(lines) = &mut self.trace.lock().unwrap().lines {
            lines.push(format!("{:>12.6}   {}", now as f64 / 1e6, what()));
        }
    }

    /// A request to the store as it is to arrive there.
    pub fn guarded(&self, operation: &str, body: String) -> String {
        let (names, changed) = conditions::look(operation, &body, self.without.as_deref());
        self.guards.lock().unwrap().extend(names);
        changed.unwrap_or(body)
    }

    /// The names of all conditions that were sent.
    pub fn guards(&self) -> BTreeSet<String> {
        self.guards.lock().unwrap().clone()
    }

    /// Counts which conditions have refused a write.
    pub fn note_refusal(&self, unmet: &BTreeSet<String>) {
        let mut refusals = self.refusals.lock().unwrap();
        for one in unmet {
            let counted = refusals.entry(one.clone()).or_default();
            counted.alone += u64::from(unmet.len() == 1);
            for other in unmet.iter().filter(|other| *other != one) {
                *counted.beside.entry(other.clone()).or_default() += 1;
            }
        }
    }

    pub fn refusals(&self) -> BTreeMap<String, Refusals> {
        self.refusals.lock().unwrap().clone()
    }

    fn count(&self, ending: Ending) {
        let mut trace = self.trace.lock().unwrap();
        *trace.endings.entry(ending).or_default() += 1;
    }

    /// How steps ended.
    pub fn tally(&self) -> Vec<(String, usize)> {
        let trace = self.trace.lock().unwrap();
        let endings = trace.endings.iter();
        endings
            .map(|(ending, times)| (format!("{ending:?}"), *times))
            .collect()
    }

    pub fn is_told(&self) -> bool {
        self.trace.lock().unwrap().lines.is_some()
    }

    pub fn trace(&self) -> (u64, Vec<String>) {
        let trace = self.trace.lock().unwrap();
        (trace.hash, trace.lines.clone().unwrap_or_default())
    }

    fn fate(&self, process: &Process) -> (Duration, Duration, Ending) {
        let weather = *self.weather.lock().unwrap();
        let mut rng = self.rng.lock().unwrap();
        let rng = &mut *rng;
        let travel = |rng: &mut Rng| Duration::from_micros(rng.between(200, 6000));
        let (mut there, mut back) = (travel(rng), travel(rng));
        let mut ending = Ending::Answered;
        for (chance, what) in [
            (weather.refused, Ending::Refused),
            (weather.unsent, Ending::Unsent),
            (weather.broken, Ending::Broken),
            (weather.silent, Ending::Silent),
            (weather.deadly, Ending::DiesAfter),
        ] {
            if rng.chance(chance) {
                ending = what;
            }
        }
        if ending == Ending::DiesAfter && rng.chance(500) {
            ending = Ending::DiesBefore;
        }
        if rng.chance(weather.slow) {
            // Longer than the patience of one attempt, of an operation, of a lease.
            let seconds = rng.pick(&[1, 4, 8, 12, 19, 26, 45]);
            let late = Duration::from_millis(seconds * 1000 + rng.below(1000));
            *(if rng.chance(500) {
                &mut there
            } else {
                &mut back
            }) = late;
        }
        if rng.chance(weather.frozen) {
            let millis = rng.pick(&[30, 900, 6000, 21_000, 40_000, 70_000]);
            let until = Instant::now() + Duration::from_millis(millis + rng.below(1000));
            *process.frozen_until.lock().unwrap() = Some(until);
            process.froze.store(true, Ordering::SeqCst);
        }
        if rng.chance(weather.jumps) {
            let jump = rng.between(0, 60_000_000) as i64 - 30_000_000;
            process.skew.fetch_add(jump, Ordering::SeqCst);
        }
        (there, back, ending)
    }

    /// A request of a process, to whomever `work` plays.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn step<T: Send + 'static>(
        self: &Arc<Self>,
        process: &Arc<Process>,
        kind: Kind,
        what: String,
        work: impl FnOnce() -> T + Send + 'static,
        refusal: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Gone> {
        process.goes_on().await;
        let (mut there, mut back, ending) = self.fate(process);
        let is_write = what.starts_with("TransactWrite") || what.starts_with("UpdateItem");
        if let Some(hold) = process.next_held(is_write) {
            self.explain(|| format!("{process:?} is held up: {hold:?}"));
            *(if hold.request { &mut there } else { &mut back }) += hold.by;
        }
        self.tell(|| format!("{process:?} {kind:?} {what} -> {ending:?}"));
        self.count(ending);
        if ending == Ending::DiesBefore {
            process.die();
            std::future::pending::<()>().await;
        }
        let (say, said) = oneshot::channel();
        let (world, asker) = (self.clone(), process.clone());
        // Apart from whoever asks: what has been sent arrives, even if its sender is gone.
        tokio::spawn(async move {
            sleep(there).await;
            let answer = match ending {
                Ending::Unsent => return,
                Ending::Refused => refusal(),
                _ => work(),
            };
            world.tell(|| format!("  done for {asker:?}: {what}"));
            if ending == Ending::DiesAfter {
                asker.die();
            }
            sleep(back).await;
            match ending {
                Ending::Broken => {}
                Ending::Silent => {
                    std::future::pending::<()>().await;
                    drop(say);
                }
                _ => {
                    let _ = say.send(answer);
                }
            }
        });
        let answer = said.await;
        process.goes_on().await;
        answer.map_err(|_| Gone)
    }
}
