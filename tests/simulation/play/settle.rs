//! The end of a history: all that is due is done, and everybody looks once more.

use super::{AT, MCP, Play, SUBJECTS};
use crate::world::{BEGINNING, Process, Weather};
use crate::{check, store};
use hawser_core::operations::integrity::examine;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

impl Play {
    /// The weather clears, every process is a new one, and all that is due is done. Then everybody looks once more.
    pub(super) async fn settle(&self) {
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
