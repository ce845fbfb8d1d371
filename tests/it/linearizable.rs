//! Connecting, disconnecting and asking for a status, through real processes on one store that are killed meanwhile: for
//! each subject and server what everybody was told fits one order of all operations, in which each takes effect at one
//! instant between its request and its answer (Wing and Gong 1993). What was not answered may have happened or not.

use crate::harness::{Form, Page, posted};
use crate::issuer::Issuer;
use hawser_local::identity::Identity;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

const MCP: &str = "/api/svc/v1/mcp";
const SUBJECTS: [&str; 4] = ["ada", "bob", "cyd", "dan"];
const CLIENTS: usize = 6;
/// What each client does, one after the other.
const DEEDS: usize = 40;
/// After how many operations of all together a process is killed.
const KILL_AFTER: usize = 30;

/// What was done and what was said to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Deed {
    /// An override was installed.
    Connect,
    /// A consent was begun, for there was no grant.
    Begin,
    /// The consent that was begun by the operation of this number ended.
    Finish(usize, Finished),
    Disconnect(Option<bool>),
    Status(bool),
}

/// How a consent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Finished {
    Connected,
    /// The subject was disconnected meanwhile.
    Void,
    Unknown,
}

#[derive(Clone, Debug)]
struct Operation {
    deed: Deed,
    asked: u64,
    /// Never, if there was no answer.
    answered: u64,
}

const NEVER: u64 = u64::MAX;

/// What one subject has at one server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Register {
    connected: bool,
    /// Rises with each disconnect; a consent of another one is void.
    epoch: usize,
    /// The epoch in which each consent was begun.
    begun: Vec<(usize, usize)>,
}

impl Register {
    /// What an operation may make of it; nothing if it cannot have been said what was said.
    fn after(&self, number: usize, deed: &Deed) -> Vec<Self> {
        let connected = Self {
            connected: true,
            ..self.clone()
        };
        let ended = Self {
            connected: false,
            epoch: self.epoch + 1,
            ..self.clone()
        };
        match deed {
            Deed::Connect => vec![connected],
            Deed::Begin if self.connected => Vec::new(),
            Deed::Begin => {
                let mut next = self.clone();
                next.begun.push((number, self.epoch));
                vec![next]
            }
            Deed::Finish(of, how) => {
                let begun = self.begun.iter().find(|(number, _)| number == of);
                let Some((_, epoch)) = begun else {
                    return Vec::new();
                };
                let stands = *epoch == self.epoch;
                match how {
                    Finished::Connected if stands => vec![connected],
                    Finished::Void if !stands => vec![self.clone()],
                    Finished::Unknown if stands => vec![connected, self.clone()],
                    Finished::Unknown => vec![self.clone()],
                    _ => Vec::new(),
                }
            }
            Deed::Disconnect(Some(removed)) if *removed != self.connected => Vec::new(),
            Deed::Disconnect(Some(false)) => vec![self.clone()],
            Deed::Disconnect(_) if self.connected => vec![ended],
            Deed::Disconnect(_) => vec![self.clone()],
            Deed::Status(shown) if *shown == self.connected => vec![self.clone()],
            Deed::Status(_) => Vec::new(),
        }
    }
}

/// Whether there is an order of these operations that explains all answers.
fn is_linearizable(history: &[Operation]) -> bool {
    assert!(history.len() <= 128, "one bit each");
    let mut tried = HashSet::new();
    let mut open = vec![(0u128, Register::default())];
    while let Some((done, register)) = open.pop() {
        let left = history.iter().enumerate();
        let left: Vec<_> = left
            .filter(|(number, _)| done & (1 << number) == 0)
            .collect();
        if left.iter().all(|(_, one)| one.answered == NEVER) {
            return true;
        }
        let first_answer = left.iter().map(|(_, one)| one.answered).min();
        let first_answer = first_answer.unwrap_or(NEVER);
        for (number, one) in left {
            // Nothing takes effect before what had been answered when it was asked for.
            if one.asked > first_answer {
                continue;
            }
            for next in register.after(number, &one.deed) {
                let state = (done | (1 << number), next);
                if tried.insert(state.clone()) {
                    open.push(state);
                }
            }
        }
    }
    false
}

/// A `hawser` process on the data folder.
struct Running {
    child: Child,
    url: String,
}

impl Running {
    fn start(data: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_hawser"))
            .current_dir(data)
            .args(["--no-sign-in", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data)
            .env("RUST_LOG", "error")
            .env_remove("AWS_PROFILE")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = child.stdout.as_mut().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let url = ready["url"].as_str().unwrap().to_owned();
        Self { child, url }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SIGKILL: nothing is finished first.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Real processes, and all that was asked of them.
struct Stage {
    data: TempDir,
    processes: Mutex<Vec<Running>>,
    identity: Identity,
    issuer: Issuer,
    http: reqwest::Client,
    /// A server with consent and one with overrides.
    servers: [String; 2],
    clock: AtomicU64,
    done: AtomicUsize,
    /// By server and subject.
    history: Mutex<Vec<((usize, usize), Operation)>>,
}

impl Stage {
    async fn set() -> Arc<Self> {
        let data = TempDir::new().unwrap();
        let processes = vec![Running::start(data.path()), Running::start(data.path())];
        let mut stage = Self {
            identity: Identity::open(data.path()).unwrap(),
            data,
            processes: Mutex::new(processes),
            issuer: Issuer::start().await,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            servers: Default::default(),
            clock: AtomicU64::new(0),
            done: AtomicUsize::new(0),
            history: Mutex::default(),
        };
        let own = json!({"type": "header", "headers": {"A": "{{KEY}}"}, "auth_level": "per_user"});
        for (i, auth) in [json!({"type": "oauth2"}), own].into_iter().enumerate() {
            let manifest = json!({"type": "mcp-server/remote", "name": format!("server-{i}"), "description": "d",
                                  "url": stage.issuer.mcp_url(), "auth_data": auth});
            let body = json!({"manifest": manifest});
            let (status, made) = stage.ask(0, "root", "PUT", MCP, body).await.unwrap();
            assert_eq!(status, 200, "{made}");
            made["data"]["id"]
                .as_str()
                .unwrap()
                .clone_into(&mut stage.servers[i]);
        }
        Arc::new(stage)
    }

    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    fn url(&self, process: usize) -> String {
        self.processes.lock().unwrap()[process].url.clone()
    }

    /// Status and body; nothing if there is no answer.
    async fn ask(
        &self,
        process: usize,
        who: &str,
        method: &str,
        path: &str,
        body: Value,
    ) -> Option<(u16, Value)> {
        let end = std::time::SystemTime::UNIX_EPOCH
            .elapsed()
            .unwrap()
            .as_secs()
            + 3600;
        let roles: &[&str] = if who == "root" { &["admin"] } else { &[] };
        let claims = json!({"tenantName": "local", "sub": who, "exp": end, "roles": roles});
        let token = self.identity.token(claims).unwrap();
        let url = format!("{}{path}", self.url(process));
        let request = self
            .http
            .request(method.parse().unwrap(), url)
            .bearer_auth(token);
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let answer = request.body(body).send().await.ok()?;
        let status = answer.status().as_u16();
        let text = answer.text().await.ok()?;
        Some((status, serde_json::from_str(&text).unwrap_or_default()))
    }

    /// Writes an operation down; the number that it has in the history of its register.
    fn note(&self, register: (usize, usize), deed: Deed, asked: u64, is_answered: bool) -> usize {
        let answered = if is_answered { self.now() } else { NEVER };
        let operation = Operation {
            deed,
            asked,
            answered,
        };
        let mut history = self.history.lock().unwrap();
        let number = history.iter().filter(|(of, _)| *of == register).count();
        history.push((register, operation));
        number
    }

    async fn perform(&self, process: usize, register: (usize, usize), what: usize) {
        let (server, subject) = register;
        let (id, name) = (&self.servers[server], SUBJECTS[subject]);
        let auth = format!("{MCP}/{id}/auth");
        let asked = self.now();
        match (what, server) {
            (0..4, 1) => {
                let own = json!({"type": "header", "headerValue": "v"});
                let body = json!({"subjectId": name, "subjectType": "user", "authOverride": own});
                let answer = self.ask(process, "root", "PUT", &auth, body).await;
                let done = answer.is_some_and(|(status, _)| status == 200);
                self.note(register, Deed::Connect, asked, done);
            }
            (0..4, _) => self.consent(process, register).await,
            (4..7, _) => {
                let source = ["oauth", "auth-override"][server];
                let body = json!({"authSource": source, "subjectId": name, "subjectType": "user"});
                let answer = self.ask(process, "root", "DELETE", &auth, body).await;
                let removed = answer.and_then(|(status, _)| match status {
                    200 => Some(true),
                    404 => Some(false),
                    _ => None,
                });
                self.note(
                    register,
                    Deed::Disconnect(removed),
                    asked,
                    removed.is_some(),
                );
            }
            _ => {
                let path = format!("{auth}/status?subjectId={name}&subjectType=user");
                let answer = self.ask(process, "root", "GET", &path, Value::Null).await;
                if let Some((200, body)) = answer {
                    let shown = body["status"] == "authenticated";
                    self.note(register, Deed::Status(shown), asked, true);
                }
            }
        }
    }

    /// From the first question to the last page, as far as the processes live.
    async fn consent(&self, process: usize, register: (usize, usize)) {
        let (server, subject) = register;
        let (path, name) = (
            format!("{MCP}/{}/authorize", self.servers[server]),
            SUBJECTS[subject],
        );
        let asked = self.now();
        let Some((200, body)) = self.ask(process, name, "GET", &path, Value::Null).await else {
            return;
        };
        let Some(address) = body["authorization_endpoint"].as_str() else {
            self.note(register, Deed::Status(true), asked, true);
            return;
        };
        let begun = self.note(register, Deed::Begin, asked, true);
        let http = reqwest::Client::builder().no_proxy();
        let http = http
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        let Ok(shown) = http.get(address).send().await else {
            return;
        };
        let cookie = shown.headers().get("set-cookie").cloned();
        let page = Page {
            status: shown.status().as_u16(),
            location: None,
            text: shown.text().await.unwrap_or_default(),
        };
        // Another may have pressed its button, or ended it, before.
        let (200, Some(cookie)) = (page.status, cookie) else {
            return;
        };
        let form = Form::of(&page);
        let target = url::Url::parse(address).unwrap().join(&form.action);
        let press = posted(http.post(target.unwrap()), &form.fields);
        let cookie = cookie.to_str().unwrap().split(';').next().unwrap();
        let Ok(started) = press.header("cookie", cookie).send().await else {
            return;
        };
        let header = |name: &str| {
            let value = started.headers().get(name)?;
            Some(value.to_str().unwrap().to_owned())
        };
        let (Some(location), Some(cookie)) = (header("location"), header("set-cookie")) else {
            return;
        };
        let back = self.issuer.approve_as(&location, name).await;
        let back = url::Url::parse(&back).unwrap();
        let asked = self.now();
        let cookie = cookie.split(';').next().unwrap();
        let target = format!(
            "{}{}?{}",
            self.url(process),
            back.path(),
            back.query().unwrap()
        );
        let page = match http.get(target).header("cookie", cookie).send().await {
            Ok(answer) => answer.text().await.unwrap_or_default(),
            Err(_) => String::new(),
        };
        let how = if page.contains("<h1>Connected</h1>") {
            Finished::Connected
        } else if page.contains("changed or disconnected meanwhile") {
            Finished::Void
        } else {
            Finished::Unknown
        };
        let answered = how != Finished::Unknown;
        self.note(register, Deed::Finish(begun, how), asked, answered);
    }

    /// Kills a process, and starts another in its place.
    fn kill(&self, process: usize) {
        let next = Running::start(self.data.path());
        let killed = std::mem::replace(&mut self.processes.lock().unwrap()[process], next);
        drop(killed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_of_a_credential_fits_one_order_though_processes_are_killed() {
    let stage = Stage::set().await;
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let stage = stage.clone();
        clients.spawn(async move {
            let mut state = 0x9e37_79b9 + client as u64;
            let mut below = |end: usize| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 33) as usize % end
            };
            for _ in 0..DEEDS {
                let register = (below(2), below(SUBJECTS.len()));
                let (process, what) = (below(2), below(10));
                let done = stage.done.fetch_add(1, Ordering::SeqCst);
                if done % KILL_AFTER == KILL_AFTER - 1 {
                    let stage = stage.clone();
                    let killing = tokio::task::spawn_blocking(move || stage.kill(process));
                    killing.await.unwrap();
                }
                stage.perform(process, register, what).await;
            }
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    let all = stage.history.lock().unwrap().clone();
    assert!(all.len() > CLIENTS * DEEDS / 2, "{} operations", all.len());
    for server in 0..2 {
        for (subject, name) in SUBJECTS.iter().enumerate() {
            let own = all.iter().filter(|(of, _)| *of == (server, subject));
            let own: Vec<_> = own.map(|(_, operation)| operation.clone()).collect();
            assert!(is_linearizable(&own), "{server} {name}: {own:#?}");
        }
    }
}

fn history(deeds: &[(u64, u64, Deed)]) -> Vec<Operation> {
    let operation = |(asked, answered, deed): &(u64, u64, Deed)| Operation {
        deed: deed.clone(),
        asked: *asked,
        answered: *answered,
    };
    deeds.iter().map(operation).collect()
}

#[test]
fn the_checker_tells_orders_from_disorder() {
    use Deed::{Begin, Connect, Disconnect, Finish, Status};
    for good in [
        vec![(0, 1, Connect), (2, 3, Status(true))],
        // Both at once: either order.
        vec![(0, 3, Connect), (1, 2, Status(false)), (4, 5, Status(true))],
        vec![(0, 3, Connect), (1, 2, Status(true))],
        // Not answered, and done late.
        vec![
            (0, NEVER, Connect),
            (1, 2, Status(false)),
            (3, 4, Status(true)),
        ],
        vec![
            (0, NEVER, Connect),
            (1, 2, Status(false)),
            (3, 4, Status(false)),
        ],
        vec![
            (0, 1, Connect),
            (2, NEVER, Disconnect(None)),
            (3, 4, Status(false)),
        ],
        vec![
            (0, 1, Begin),
            (2, 3, Finish(0, Finished::Connected)),
            (4, 5, Status(true)),
        ],
        vec![
            (0, 1, Connect),
            (2, 5, Disconnect(Some(true))),
            (3, 4, Disconnect(Some(false))),
        ],
    ] {
        assert!(is_linearizable(&history(&good)), "{good:?}");
    }
    for bad in [
        vec![(0, 1, Connect), (2, 3, Status(false))],
        vec![(0, 1, Connect), (2, 3, Disconnect(Some(false)))],
        vec![
            (0, 1, Connect),
            (2, 3, Disconnect(Some(true))),
            (4, 5, Disconnect(Some(true))),
        ],
        // Seen, and then no more.
        vec![
            (0, NEVER, Connect),
            (1, 2, Status(true)),
            (3, 4, Status(false)),
        ],
        // Begun before a disconnect, and stored after it.
        vec![
            (0, 1, Begin),
            (2, 3, Connect),
            (4, 5, Disconnect(Some(true))),
            (6, 7, Finish(0, Finished::Connected)),
        ],
        vec![(0, 1, Begin), (2, 3, Finish(0, Finished::Void))],
    ] {
        assert!(!is_linearizable(&history(&bad)), "{bad:?}");
    }
}
