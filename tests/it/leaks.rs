//! What has ended is not used again: a call that its caller sends after the answer of the ending call never reaches the
//! server with the old credential, whichever process it goes through. The judge is the server's own log.

use crate::connecting::with_sessions;
use crate::harness::{Answer, Caller, Ground, Hawser, Registered};
use crate::issuer::{Gate, Issuer, StaticClient};
use crate::upstream::*;
use hawser_core::domain::id::{ServerId, TenantId};
use hawser_core::table::servers;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::task::JoinSet;

/// How what a call carries, or the right to make it, ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The subject's override is removed.
    Disconnect,
    /// The subject's grant is removed.
    DisconnectGrant,
    DeleteByTruefoundry,
    DeleteByLangsmith,
    DeleteByKambrium,
    RevokeAll,
    Offboard,
    /// `agent_enabled: false`.
    SwitchOff,
    /// The subject's override is replaced.
    Replace,
    /// The server's own header gets another value.
    Rotate,
    /// The server gets another address.
    Move,
}

const ENDS: [End; 11] = [
    End::Disconnect,
    End::DisconnectGrant,
    End::DeleteByTruefoundry,
    End::DeleteByLangsmith,
    End::DeleteByKambrium,
    End::RevokeAll,
    End::Offboard,
    End::SwitchOff,
    End::Replace,
    End::Rotate,
    End::Move,
];

impl End {
    /// Whether sessions are over with it. With another credential alone they are opened anew.
    fn is_of_server(self) -> bool {
        !matches!(
            self,
            Self::Disconnect | Self::DisconnectGrant | Self::Offboard | Self::Replace
        )
    }
}

/// Two processes on one store before one server and its issuer.
struct Stage {
    processes: [Hawser; 2],
    upstream: Upstream,
    issuer: Issuer,
}

impl Stage {
    async fn new() -> Self {
        let ground = Ground::new().await;
        let processes = [Hawser::on(ground.clone()).await, Hawser::on(ground).await];
        let (upstream, issuer) = (Upstream::start().await, Issuer::start().await);
        with_sessions(&upstream, "2025-11-25");
        issuer.configure(|settings| {
            settings.resource = Some(upstream.url.clone());
            settings.static_clients.push(StaticClient {
                id: "known".to_owned(),
                secret: None,
                redirect_uris: processes
                    .iter()
                    .map(|one| format!("{}/oauth/callback", one.url))
                    .collect(),
            });
        });
        Self {
            processes,
            upstream,
            issuer,
        }
    }

    /// Where calls are ended.
    fn here(&self) -> &Hawser {
        &self.processes[0]
    }

    fn auth(&self, end: End, value: &str) -> Value {
        match end {
            End::DisconnectGrant => json!({"auth_data": {"type": "oauth2", "client_id": "known",
                "authorization_url": format!("{}/authorize", self.issuer.url),
                "token_url": format!("{}/token", self.issuer.url), "scopes": ["mcp:read"]}}),
            End::Rotate => json!({"auth_data": {"type": "header", "headers": {"X-Key": value}}}),
            _ => per_user(),
        }
    }

    /// A server at which these users can call.
    async fn set(&self, end: End, name: &str, users: &BTreeSet<String>) -> Registered {
        let here = self.here();
        let mcp = register(here, name, &self.upstream.url, self.auth(end, "old")).await;
        for user in users {
            match end {
                End::DisconnectGrant => connect(here, &self.issuer, &mcp, user).await,
                End::Rotate => {}
                _ => install(here, &mcp, user, own("old")).await,
            }
        }
        let (tenant, id) = (
            TenantId::parse("acme").unwrap(),
            ServerId::parse_prefixed(&mcp).unwrap(),
        );
        let found = here.app.table.read(vec![servers::key(&tenant, id)]).await;
        let server = found.unwrap().server(&tenant, id).unwrap().unwrap();
        Registered {
            uuid: id.uuid().to_string(),
            number: server.number,
            mcp,
        }
    }

    /// Ends it; returns when that has been answered.
    async fn end(&self, end: End, name: &str, server: &Registered, user: &str) {
        let here = self.here();
        let admin = here.admin("acme");
        let [tf, ls, ka] = server.paths();
        let elsewhere = format!("{}/elsewhere", self.upstream.url);
        let answer = match end {
            End::Disconnect => return disconnect(here, &server.mcp, user, "auth-override").await,
            End::DisconnectGrant => return disconnect(here, &server.mcp, user, "oauth").await,
            End::Replace => return install(here, &server.mcp, user, own("new")).await,
            End::Rotate => {
                register(here, name, &self.upstream.url, self.auth(end, "new")).await;
                return;
            }
            End::DeleteByTruefoundry => admin.delete(&tf).await,
            End::DeleteByLangsmith => admin.delete(&ls).await,
            End::DeleteByKambrium => admin.delete(&ka).await,
            End::RevokeAll => admin.delete(&format!("{tf}/auth/tokens")).await,
            End::Offboard => {
                admin
                    .delete(&format!("/v1/subjects/user/{user}/credentials"))
                    .await
            }
            End::SwitchOff => admin.put(&ka, json!({"agent_enabled": false})).await,
            End::Move => admin.patch(&ls, json!({"url": elsewhere})).await,
        };
        assert!(answer.status < 300, "{end:?}: {answer:?}");
    }

    /// What was carried to the server, by round and by whether the call was sent after the end.
    fn carried(&self) -> BTreeMap<(u64, bool), BTreeSet<String>> {
        let mut carried: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for seen in self.upstream.seen() {
            let message = seen.message();
            let credential = seen.header("x-key").or(seen.header("authorization"));
            let credential = credential.unwrap_or_default().to_owned();
            if let Some(round) = message["params"]["round"].as_u64() {
                let late = message["method"] == "late";
                carried.entry((round, late)).or_default().insert(credential);
            }
        }
        carried
    }
}

/// A call that says when it was sent.
fn marked(round: u64, ended: bool) -> Value {
    let method = if ended { "late" } else { "early" };
    json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": {"round": round}})
}

/// Asserts that a call which was sent after the end says why it is not passed on, or carried something else.
#[track_caller]
fn says_why(answer: &Answer, end: End, session: Option<&str>) {
    if let Some(session) = session.filter(|_| end.is_of_server()) {
        return is_session_gone(answer, session);
    }
    match end {
        End::Replace | End::Rotate => assert_eq!(answer.status, 200, "{end:?}: {answer:?}"),
        End::DeleteByTruefoundry | End::DeleteByLangsmith | End::DeleteByKambrium => {
            let text = "MCP server not found or not accessible";
            is_refused(answer, 200, -32001, text, Value::Null);
        }
        End::SwitchOff => {
            let data = json!({"error": "Connection disabled"});
            is_refused(answer, 200, -32001, "Access denied", data);
        }
        _ => {
            assert_eq!(answer.status, 200, "{end:?}: {answer:?}");
            let reason = answer.json()["error"]["data"]["reason"].clone();
            let moved = [End::Move].contains(&end);
            let expected = if moved { "server_changed" } else { "revoked" };
            assert_eq!(reason, expected, "{end:?}");
        }
    }
}

/// One open session, an end between two of its calls, and others that race with it.
async fn round(stage: &Stage, number: u64, end: End) {
    let (name, user_name) = (format!("server-{number}"), format!("user-{number}"));
    let users = BTreeSet::from([user_name.clone()]);
    let server = stage.set(end, &name, &users).await;
    let callers = [0, 1].map(|i| user(&stage.processes[i], &user_name));
    let session = initialize(&callers[0], &server.mcp).await;
    let of_session = [(SESSION, session.as_str())];
    let (mcp, ended) = (server.mcp.as_str(), &AtomicBool::new(false));
    for caller in &callers {
        let answer = send(caller, mcp, &of_session, marked(number, false)).await;
        assert_eq!(answer.status, 200, "{end:?}: {answer:?}");
    }
    let racing = async |caller: &Caller| {
        for headers in [&of_session[..], &[MODERN]] {
            let ended = ended.load(Ordering::SeqCst);
            send(caller, mcp, headers, marked(number, ended)).await;
        }
    };
    let ending = async {
        stage.end(end, &name, &server, &user_name).await;
        ended.store(true, Ordering::SeqCst);
        for (i, headers) in [&of_session[..], &[MODERN]].into_iter().enumerate() {
            let answer = send(&callers[1 - i], mcp, headers, marked(number, true)).await;
            says_why(&answer, end, (i == 0).then_some(&session));
        }
    };
    tokio::join!(ending, racing(&callers[0]), racing(&callers[1]));
}

/// 50 callers at once, each with an end of its own; then what the server has seen.
async fn rounds(numbers: std::ops::Range<u64>) {
    let stage = Arc::new(Stage::new().await);
    let mut callers = JoinSet::new();
    for number in numbers.clone() {
        let stage = stage.clone();
        callers.spawn(async move { round(&stage, number, end_of(number)).await });
    }
    callers.join_all().await;
    let carried = stage.carried();
    for number in numbers {
        let end = end_of(number);
        let early = &carried[&(number, false)];
        let late = carried.get(&(number, true)).cloned().unwrap_or_default();
        assert!(!early.contains(""), "round {number}, {end:?}: without any");
        if matches!(end, End::Replace | End::Rotate) {
            // One that raced may have carried the new one, which sorts before the old.
            let new = early.last().unwrap().replace("old", "new");
            assert_eq!(late, BTreeSet::from([new]), "round {number}, {end:?}");
        } else {
            assert_eq!(late, BTreeSet::new(), "round {number}, {end:?}: a leak");
            assert_eq!(early.len(), 1, "round {number}, {end:?}");
        }
    }
}

const fn end_of(number: u64) -> End {
    ENDS[number as usize % ENDS.len()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_second_call_of_a_session_carries_what_ended_between_them() {
    const CALLERS: u64 = 50;
    for batch in 0..1000 / CALLERS {
        rounds(batch * CALLERS..(batch + 1) * CALLERS).await;
    }
}

/// 50 callers are at one server, each with a session of its own, when it ends.
async fn herd(end: End) {
    const CALLERS: usize = 50;
    let stage = Stage::new().await;
    let of_one = [
        End::Disconnect,
        End::DisconnectGrant,
        End::Replace,
        End::Offboard,
    ];
    let users = if of_one.contains(&end) { 1 } else { 10 };
    let users: BTreeSet<String> = (0..users).map(|i| format!("user-{i}")).collect();
    let server = stage.set(end, "wiki", &users).await;
    let ended = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for (i, name) in users.iter().cycle().take(CALLERS).enumerate() {
        let caller = user(&stage.processes[i % 2], name);
        let session = initialize(&caller, &server.mcp).await;
        let (mcp, ended) = (server.mcp.clone(), ended.clone());
        callers.spawn(async move {
            let (mut served, mut refused) = (0, 0);
            while refused < 2 {
                let late = ended.load(Ordering::SeqCst);
                let headers = [(SESSION, session.as_str())];
                let answer = send(&caller, &mcp, &headers, marked(0, late)).await;
                let is_refused = answer.json()["error"].is_object();
                match (is_refused, late) {
                    (true, _) => refused += 1,
                    (false, false) => served += 1,
                    // By the credential that has taken the place of the old one.
                    (false, true) if end == End::Replace => refused += 1,
                    _ => panic!("{end:?}, {late}: {answer:?}"),
                }
            }
            served
        });
    }
    // Each has been served before, so that there is something to end.
    soon(async {
        while stage.upstream.count() < 2 * CALLERS {
            tokio::task::yield_now().await;
        }
    })
    .await;
    stage.end(end, "wiki", &server, "user-0").await;
    ended.store(true, Ordering::SeqCst);
    let served: Vec<i32> = callers.join_all().await;
    assert!(served.iter().sum::<i32>() > 0);
    let late = stage.carried().remove(&(0, true));
    let new = (end == End::Replace).then(|| BTreeSet::from(["Key new".to_owned()]));
    assert_eq!(late, new, "{end:?}: a leak");
    stage.here().run_workers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_many_callers_arrives_once_it_is_over() {
    for end in ENDS {
        herd(end).await;
    }
}

#[tokio::test]
async fn a_call_on_its_way_may_finish_and_leaves_nothing_behind() {
    for end in [End::DeleteByKambrium, End::Disconnect, End::SwitchOff] {
        let stage = Stage::new().await;
        let users = BTreeSet::from(["ada".to_owned()]);
        let server = stage.set(end, "wiki", &users).await;
        let gate = Gate::closed();
        for _ in 0..2 {
            let session = vec![(SESSION, "theirs".to_owned())];
            let reply = Reply::new(200, session, "{}").behind(&gate);
            stage.upstream.reply(reply);
        }
        let pending = ["tools/call", "initialize"].map(|method| {
            let (caller, mcp) = (user(stage.here(), "ada"), server.mcp.clone());
            let call = async move { send(&caller, &mcp, &[], message(method)).await };
            (method, tokio::spawn(call))
        });
        soon(gate.reached()).await;
        soon(gate.reached()).await;
        stage.end(end, "wiki", &server, "ada").await;
        gate.open();
        let mut sessions = Vec::new();
        for (method, call) in pending {
            let answer = soon(call).await.unwrap();
            if method == "tools/call" || end != End::DeleteByKambrium {
                assert_eq!((answer.status, answer.text.as_str()), (200, "{}"));
            } else {
                // There is no session of a deleted server.
                let text = "MCP server not found or not accessible";
                is_refused(&answer, 200, -32001, text, Value::Null);
            }
            sessions.extend(answer.header(SESSION));
        }
        stage.here().run_workers().await;
        let items = stage.here().ground().items().await;
        let kept = items.iter().filter(|item| item["entity"] == "mcp-session");
        assert_eq!(kept.count(), sessions.len());
        assert_eq!(sessions.is_empty(), end == End::DeleteByKambrium);
        let before = stage.upstream.count();
        for session in sessions {
            let headers = [(SESSION, session.as_str())];
            let caller = user(stage.here(), "ada");
            let answer = send(&caller, &server.mcp, &headers, message("late")).await;
            says_why(&answer, end, Some(&session));
        }
        assert_eq!(stage.upstream.count(), before, "{end:?}");
    }
}

#[tokio::test]
async fn a_session_stays_over_when_its_server_is_switched_on_again() {
    let stage = Stage::new().await;
    let users = BTreeSet::from(["ada".to_owned()]);
    let server = stage.set(End::SwitchOff, "wiki", &users).await;
    let ada = user(stage.here(), "ada");
    let session = initialize(&ada, &server.mcp).await;
    let headers = [(SESSION, session.as_str())];
    switch(stage.here(), true).await;
    let answer = send(&ada, &server.mcp, &headers, message("early")).await;
    assert_eq!(answer.status, 200, "it was on: {answer:?}");
    stage.end(End::SwitchOff, "wiki", &server, "ada").await;
    switch(stage.here(), true).await;
    let before = stage.upstream.count();
    let answer = send(&ada, &server.mcp, &headers, message("late")).await;
    is_session_gone(&answer, &session);
    assert_eq!(stage.upstream.count(), before);
    // The credential has stayed.
    initialize(&ada, &server.mcp).await;
    assert_eq!(stage.upstream.last().header("x-key"), Some("Key old"));
}

#[tokio::test]
async fn a_session_is_no_session_in_another_tenant() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let mut opened = Vec::new();
    for tenant in ["acme", "other"] {
        let manifest = json!({"type": "mcp-server/remote", "name": "wiki", "description": "d", "url": upstream.url});
        let body = json!({"manifest": manifest});
        let made = hawser.admin(tenant).put(MCP, body).await.json();
        let id = made["data"]["id"].as_str().unwrap().to_owned();
        let permissions = json!({"permissions": ["mcp-servers:invoke"]});
        let ada = hawser.caller(tenant, "ada", permissions);
        let session = initialize(&ada, &id).await;
        opened.push((ada, id, session));
    }
    let before = upstream.count();
    for (i, (ada, own, session)) in opened.iter().enumerate() {
        let (_, theirs, foreign) = &opened[1 - i];
        for (server, session) in [(own, foreign), (theirs, foreign), (theirs, session)] {
            let headers = [(SESSION, session.as_str())];
            let answer = send(ada, server, &headers, message("a")).await;
            is_session_gone(&answer, session);
        }
        assert_eq!(upstream.count(), before);
    }
}
