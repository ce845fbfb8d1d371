//! Random histories over all three contracts and two tenants, held against a model small enough to be seen to be right.

use crate::harness::{Caller, Hawser};
use hawser_core::operations::integrity;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const TENANTS: [&str; 2] = ["acme", "other"];
const SUBJECTS: [&str; 3] = ["ada", "bob", "a#b"];
const NAMES: [&str; 3] = ["wiki", "mail", "crm"];
const MCP: &str = "/api/svc/v1/mcp";
const LS: &str = "/v1/deepagents/mcp-servers";
const KA: &str = "/api/v1/mcp-servers";

#[derive(Clone, Debug)]
enum Step {
    /// By TrueFoundry: per-user header, shared header, or none.
    Put {
        name: usize,
        auth: usize,
        force: bool,
    },
    /// By LangSmith, with or without a header.
    Post {
        name: usize,
        header: bool,
    },
    /// By Kambrium.
    Connect,
    /// By LangSmith: another address.
    Move {
        server: usize,
        path: u8,
    },
    /// By Kambrium.
    Switch {
        server: usize,
        on: bool,
    },
    Install {
        server: usize,
        subject: usize,
    },
    Disconnect {
        server: usize,
        subject: usize,
    },
    Delete {
        server: usize,
        contract: usize,
    },
    Purge,
    Audit,
}

fn step() -> impl Strategy<Value = (usize, Step)> {
    let server = 0usize..6;
    let subject = 0..SUBJECTS.len();
    let step = prop_oneof![
        3 => (0..NAMES.len(), 0usize..3, any::<bool>()).prop_map(|(name, auth, force)| Step::Put { name, auth, force }),
        2 => (0..NAMES.len(), any::<bool>()).prop_map(|(name, header)| Step::Post { name, header }),
        1 => Just(Step::Connect),
        1 => (server.clone(), 0u8..2).prop_map(|(server, path)| Step::Move { server, path }),
        1 => (server.clone(), any::<bool>()).prop_map(|(server, on)| Step::Switch { server, on }),
        4 => (server.clone(), subject.clone()).prop_map(|(server, subject)| Step::Install { server, subject }),
        3 => (server.clone(), subject).prop_map(|(server, subject)| Step::Disconnect { server, subject }),
        3 => (server, 0usize..3).prop_map(|(server, contract)| Step::Delete { server, contract }),
        1 => Just(Step::Purge),
        1 => Just(Step::Audit),
    ];
    (0..TENANTS.len(), step)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Auth {
    PerUser,
    Shared,
    None,
}

#[derive(Clone, Debug)]
struct Server {
    name: String,
    url: String,
    auth: Auth,
    on: bool,
    mcp: String,
    uuid: String,
    number: u64,
    overrides: BTreeSet<&'static str>,
    reasons: BTreeMap<&'static str, &'static str>,
}

impl Server {
    fn void(&mut self) {
        for subject in std::mem::take(&mut self.overrides) {
            self.reasons.insert(subject, "server_changed");
        }
    }

    fn status(&self, subject: &str) -> Value {
        let shared = "This MCP server uses a header credential shared by all callers.";
        match self.auth {
            Auth::None => {
                json!({"status": "authentication_not_required", "reason": "This MCP server has no authentication configured."})
            }
            _ if self.overrides.contains(subject) => {
                json!({"status": "authenticated", "method": "auth-override"})
            }
            Auth::Shared => json!({"status": "authentication_not_required", "reason": shared}),
            Auth::PerUser => {
                let reason = self
                    .reasons
                    .get(subject)
                    .copied()
                    .unwrap_or("never_connected");
                json!({"status": "authentication_required", "method": null, "reason": reason})
            }
        }
    }
}

#[derive(Default)]
struct Model {
    alive: Vec<Server>,
    dead: Vec<Server>,
    numbers: BTreeSet<u64>,
}

/// Steps on one tenant, checked against its model.
struct Side {
    admin: Caller,
    model: Model,
}

impl Side {
    async fn ids(&self, name: &str) -> (String, String, u64, String) {
        let listed = self.admin.get(&format!("{MCP}?name={name}")).await.json();
        let one = &listed["data"][0];
        let all = self.admin.get(LS).await.json();
        let ls = all
            .as_array()
            .unwrap()
            .iter()
            .find(|s| s["name"] == name)
            .unwrap()
            .clone();
        let all = self.admin.get(KA).await.json();
        let known: BTreeSet<u64> = self.model.alive.iter().map(|s| s.number).collect();
        let ka = all["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["id"].as_u64().unwrap())
            .find(|id| !known.contains(id));
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (
            text(&one["id"]),
            text(&ls["id"]),
            ka.unwrap(),
            text(&ls["url"]),
        )
    }

    async fn appeared(&mut self, name: &str, auth: Auth) {
        let (mcp, uuid, number, url) = self.ids(name).await;
        assert!(
            self.model.numbers.insert(number),
            "{number} was given out before"
        );
        let (overrides, reasons) = Default::default();
        let server = Server {
            name: name.to_owned(),
            url,
            auth,
            on: true,
            mcp,
            uuid,
            number,
            overrides,
            reasons,
        };
        assert!(
            self.model
                .dead
                .iter()
                .all(|dead| dead.mcp != server.mcp && dead.uuid != server.uuid)
        );
        self.model.alive.push(server);
    }

    async fn take(&mut self, step: &Step, hawser: &Hawser) {
        let count = self.model.alive.len();
        let pick = |server: &usize| {
            if count == 0 {
                None
            } else {
                Some(server % count)
            }
        };
        match step {
            Step::Put { name, auth, force } => self.put(NAMES[*name], *auth, *force).await,
            Step::Post { name, header } => {
                let headers = if *header {
                    json!([{"key": "X-Key", "value": "v"}])
                } else {
                    json!([])
                };
                let body =
                    json!({"name": NAMES[*name], "url": "https://a.example/", "headers": headers});
                let taken = self.model.alive.iter().any(|s| s.name == NAMES[*name]);
                let answer = self.admin.post(LS, body).await;
                assert_eq!(answer.status, if taken { 409 } else { 201 });
                if !taken {
                    self.appeared(
                        NAMES[*name],
                        if *header { Auth::Shared } else { Auth::None },
                    )
                    .await;
                }
            }
            Step::Connect => {
                let answer = self
                    .admin
                    .post(
                        KA,
                        json!({"mcp_server": "pipedrive", "access_type": "read", "api_key": "k"}),
                    )
                    .await;
                assert_eq!(answer.status, 201);
                let name = format!("pipedrive-{}", answer.json()["data"]["id"]);
                self.appeared(&name, Auth::Shared).await;
            }
            Step::Move { server, path } => {
                let Some(i) = pick(server) else { return };
                let server = &mut self.model.alive[i];
                let url = format!("https://a.example/{path}");
                let answer = self
                    .admin
                    .patch(&format!("{LS}/{}", server.uuid), json!({"url": url}))
                    .await;
                assert_eq!(answer.status, 200);
                if server.url != url {
                    server.void();
                    if server.name.starts_with("pipedrive")
                        && !server.url.starts_with("https://a.example/")
                    {
                        // The key of a connection does not follow it to another host.
                        server.auth = Auth::None;
                    }
                    server.url = url;
                }
            }
            Step::Switch { server, on } => {
                let Some(i) = pick(server) else { return };
                let answer = self
                    .admin
                    .put(
                        &format!("{KA}/{}", self.model.alive[i].number),
                        json!({"agent_enabled": on}),
                    )
                    .await;
                assert_eq!(answer.status, 200);
                self.model.alive[i].on = *on;
            }
            Step::Install { server, subject } => {
                let Some(i) = pick(server) else { return };
                let server = &mut self.model.alive[i];
                let body = json!({"subjectId": SUBJECTS[*subject], "subjectType": "user",
                                  "authOverride": {"type": "header", "headerValue": "v"}});
                let answer = self
                    .admin
                    .put(&format!("{MCP}/{}/auth", server.mcp), body)
                    .await;
                assert_eq!(
                    answer.status,
                    if server.auth == Auth::None { 400 } else { 200 },
                    "{answer:?}"
                );
                if server.auth != Auth::None {
                    server.overrides.insert(SUBJECTS[*subject]);
                    server.reasons.remove(SUBJECTS[*subject]);
                }
            }
            Step::Disconnect { server, subject } => {
                let Some(i) = pick(server) else { return };
                let server = &mut self.model.alive[i];
                let body = json!({"authSource": "auth-override", "subjectId": SUBJECTS[*subject], "subjectType": "user"});
                let had = server.overrides.remove(SUBJECTS[*subject]);
                let answer = self
                    .admin
                    .delete_with(&format!("{MCP}/{}/auth", server.mcp), body)
                    .await;
                assert_eq!(answer.status, if had { 200 } else { 404 });
                if had {
                    server.reasons.insert(SUBJECTS[*subject], "revoked");
                }
            }
            Step::Delete { server, contract } => {
                let Some(i) = pick(server) else { return };
                let server = self.model.alive.remove(i);
                let answer = match contract {
                    0 => self.admin.delete(&format!("{MCP}/{}", server.mcp)).await,
                    1 => self.admin.delete(&format!("{LS}/{}", server.uuid)).await,
                    _ => self.admin.delete(&format!("{KA}/{}", server.number)).await,
                };
                assert_eq!(answer.status, if *contract == 1 { 204 } else { 200 });
                self.model.dead.push(server);
            }
            Step::Purge => hawser.run_workers().await,
            Step::Audit => {
                // In the middle of everything, too.
                let (table, now) = (&hawser.app.table, hawser.app.now());
                let app = Some(&*hawser.app);
                let report = integrity::examine(table, app, now, true).await.unwrap();
                assert!(report.is_sound(), "{report:?}");
            }
        }
    }

    async fn put(&mut self, name: &str, auth: usize, force: bool) {
        let (auth, data) = [
            (
                Auth::PerUser,
                json!({"type": "header", "auth_level": "per_user", "headers": {"A": "{{KEY}}"}}),
            ),
            (
                Auth::Shared,
                json!({"type": "header", "headers": {"X-Key": "v"}}),
            ),
            (Auth::None, Value::Null),
        ][auth]
            .clone();
        let manifest = json!({"type": "mcp-server/remote", "name": name, "description": "d", "url": "https://a.example/",
                              "auth_data": data});
        let answer = self
            .admin
            .put(MCP, json!({"manifest": manifest, "force": force}))
            .await;
        let Some(server) = self.model.alive.iter_mut().find(|s| s.name == name) else {
            assert_eq!(answer.status, 200);
            return self.appeared(name, auth).await;
        };
        let changes = server.auth != auth;
        let guarded = changes && !force && !server.overrides.is_empty();
        assert_eq!(answer.status, if guarded { 417 } else { 200 }, "{answer:?}");
        if !guarded {
            if changes {
                server.void();
            }
            server.auth = auth;
            server.url = "https://a.example/".to_owned();
        }
    }

    async fn agrees(&self) {
        let names: Vec<_> = self.model.alive.iter().map(|s| json!(s.name)).collect();
        let listed = self.admin.get(MCP).await.json();
        let shown: Vec<_> = listed["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| s["manifest"]["name"].clone())
            .collect();
        assert_eq!(shown, names);
        let listed = self.admin.get(LS).await.json();
        let shown: Vec<_> = listed
            .as_array()
            .unwrap()
            .iter()
            .map(|s| (s["name"].clone(), s["url"].clone()))
            .collect();
        assert_eq!(
            shown,
            self.model
                .alive
                .iter()
                .map(|s| (json!(s.name), json!(s.url)))
                .collect::<Vec<_>>()
        );
        let listed = self.admin.get(KA).await.json();
        let shown: Vec<_> = listed["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| (c["id"].clone(), c["agent_enabled"].clone()))
            .collect();
        assert_eq!(
            shown,
            self.model
                .alive
                .iter()
                .map(|s| (json!(s.number), json!(s.on)))
                .collect::<Vec<_>>()
        );
        for server in &self.model.alive {
            for subject in SUBJECTS {
                let id = subject.replace('#', "%23");
                let path = format!(
                    "{MCP}/{}/auth/status?subjectId={id}&subjectType=user",
                    server.mcp
                );
                self.admin.get(&path).await.is(200, server.status(subject));
            }
            let overrides = self
                .admin
                .get(&format!("{MCP}/{}/auth", server.mcp))
                .await
                .json();
            let shown: BTreeSet<_> = overrides["data"]
                .as_array()
                .unwrap()
                .iter()
                .map(|o| o["subjectId"].as_str().unwrap())
                .collect();
            assert_eq!(shown, server.overrides);
        }
        for dead in &self.model.dead {
            for path in [
                format!("{MCP}/{}", dead.mcp),
                format!("{LS}/{}", dead.uuid),
                format!("{KA}/{}", dead.number),
            ] {
                assert_eq!(self.admin.get(&path).await.status, 404, "{path}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_history_agrees_with_the_model(history in prop::collection::vec(step(), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let hawser = Hawser::with_built_in_integrations().await;
            let mut sides = TENANTS.map(|tenant| Side { admin: hawser.admin(tenant), model: Model::default() });
            for (tenant, step) in &history {
                sides[*tenant].take(step, &hawser).await;
                for side in &sides {
                    side.agrees().await;
                }
            }
            hawser.run_workers().await;
            for item in hawser.ground().items().await {
                let partition = item["PK"].as_str().unwrap().to_owned();
                let alive = |s: &Server| partition.ends_with(s.mcp.trim_start_matches("mcp-"));
                let of_a_server = partition.contains("#S#");
                assert!(!of_a_server || sides.iter().any(|side| side.model.alive.iter().any(alive)), "{item}");
            }
        });
    }
}
