//! What people, applications and workers do.

use super::draw::Deed;
use super::request::Answer;
use super::{AT, End, Install, KAMBRIUM, Look, MCP, Play, SUBJECTS};
use crate::store;
use crate::world::{Hold, INTEGRATIONS, Process};
use futures_util::future::join_all;
use hawser_core::operations::audit_log;
use hawser_core::operations::integrity::examine;
use hawser_core::operations::scheduler::process_due;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

impl Play {
    /// Everybody does what they do at times of their own.
    pub(super) async fn mill_about(self: &Arc<Self>) {
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
    pub(super) async fn duel(self: &Arc<Self>) {
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
    pub(super) async fn put_server(&self, name: &str, at: Option<&Arc<Process>>) -> Option<Answer> {
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

    pub(super) fn ended(&self, end: usize, answer: Option<&Answer>) {
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
    pub(super) async fn call(
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
    pub(super) async fn look(
        &self,
        server: &str,
        id: &str,
        subject: &str,
        at: Option<&Arc<Process>>,
    ) {
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

    pub(super) async fn think(&self) {
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

    /// What a worker does when it is called.
    pub(super) async fn work(&self, process: &Arc<Process>) {
        let app = process.app();
        let working = async {
            let until = Instant::now() + Duration::from_secs(600);
            drop(process_due(&app, until).await);
            drop(audit_log::chain_all(&app, until).await);
        };
        process.host(None, working).await;
    }
}

/// Whether a server is one of Kambrium's connections, which have one host and one life each.
fn is_connection(name: &str) -> bool {
    name.starts_with('k')
}
