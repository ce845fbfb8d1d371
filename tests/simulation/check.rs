//! What must be true after every history, whatever happened in it.

use crate::internet::Internet;
use crate::play::{Consent, End, Log, NEWER, Play};
use crate::store;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Everything that can be said once all is quiet.
pub fn all(play: &Play) {
    let items = store::items(&play.world.store);
    nothing_ended_serves(play);
    tokens_are_accounted_for(play, &items);
    receipts_are_complete(play, &items);
    nothing_is_left(play, &items);
    nothing_void_is_left(play, &items);
    consents_lead_somewhere(play, &items);
    clients_are_on_record(play, &items);
    the_log_tells(play, &items);
}

/// The name of a server, of its host's.
fn server_of(host: &str) -> &str {
    host.split('-').next().unwrap_or_default()
}

/// Whether a consent was begun for sure before an end was asked for.
fn precedes(consent: &Consent, end: &End) -> bool {
    consent.begun.is_some_and(|begun| begun < end.sent)
}

/// What a 2xx ended serves nobody who asks later.
fn nothing_ended_serves(play: &Play) {
    let served = play.world.internet.lock().unwrap().served.clone();
    let families = play.world.internet.lock().unwrap().families.clone();
    let mut found = Vec::new();
    let log = play.log.lock().unwrap();
    for one in &served {
        let call = &log.calls[one.call as usize];
        let server = server_of(&one.host);
        for end in &log.ends {
            let Some(ended) = end.ended.filter(|ended| *ended < call.sent) else {
                continue;
            };
            if let Some(family) = one.family {
                let consent = &log.consents[families[family].consent];
                if end.covers(server, &call.subject, "oauth") && precedes(consent, end) {
                    found.push(format!(
                        "{} of {} at {server}, ended at {ended} us, served call {} at {} us by family {family}",
                        end.what, call.subject, one.call, one.at
                    ));
                }
            }
            if let Some(own) = &one.own {
                let number: usize = own.trim_start_matches("own-").parse().unwrap();
                let install = &log.installs[number];
                let before = install.installed.is_some_and(|at| at < end.sent);
                if end.covers(server, &call.subject, "auth-override") && before {
                    found.push(format!(
                        "{} of {} at {server}, ended at {ended} us, served call {} by override {number}",
                        end.what, call.subject, one.call
                    ));
                }
            }
        }
        let whose = one.family.map(|family| families[family].subject.clone());
        if whose.is_some_and(|whose| whose != call.subject) {
            found.push(format!(
                "call {} was served with another's tokens",
                one.call
            ));
        }
    }
    for look in &log.looks {
        let Some(source) = look.method.as_deref() else {
            continue;
        };
        for end in &log.ends {
            let over = end.ended.is_some_and(|ended| ended < look.sent);
            if over
                && end.covers(&look.server, &look.subject, source)
                && !may_be_back(&log, end, source, &look.server, &look.subject)
            {
                found.push(format!(
                    "{} of {} at {} is shown as {source} at {} us",
                    end.what, look.subject, look.server, look.sent
                ));
            }
        }
    }
    drop(log);
    found.into_iter().for_each(|what| play.complain(what));
}

/// Whether anything that need not lie before an end could have connected a subject again.
fn may_be_back(log: &Log, end: &End, source: &str, server: &str, subject: &str) -> bool {
    if source == "oauth" {
        let mut own = log
            .consents
            .iter()
            .filter(|one| one.server == server && one.subject == subject);
        own.any(|one| one.family.is_some() && !precedes(one, end))
    } else {
        let mut own = log
            .installs
            .iter()
            .filter(|one| one.server == server && one.subject == subject);
        own.any(|one| one.installed.is_none_or(|at| at >= end.sent))
    }
}

/// A call that is made when all is quiet: whoever connected and was never touched is served.
pub fn last_call(play: &Play, server: &str, subject: &str, call: u64, status: Option<u16>) {
    let served = {
        let internet = play.world.internet.lock().unwrap();
        internet.served.iter().find(|one| one.call == call).cloned()
    };
    if let Some(family) = served.as_ref().and_then(|one| one.family) {
        play.world
            .explain(|| format!("{subject} is served at {server} by family {family}"));
    }
    if served.is_some() {
        return;
    }
    let log = play.log.lock().unwrap();
    let touched = log
        .ends
        .iter()
        .any(|end| end.covers(server, subject, "oauth"));
    let mut own = log
        .consents
        .iter()
        .filter(|one| one.server == server && one.subject == subject);
    let (first, second) = (own.next(), own.next());
    let consent = match (first, second) {
        (Some(consent), None) if consent.connected.is_some() && !touched => consent.clone(),
        _ => return,
    };
    drop(log);
    let disturbed = {
        let internet = play.world.internet.lock().unwrap();
        consent
            .family
            .is_some_and(|family| internet.families[family].is_disturbed())
    };
    if !disturbed {
        play.complain(format!(
            "{subject} connected {server} by family {:?}, nobody ended it, and a call is answered {status:?}",
            consent.family
        ));
    }
}

/// Outcomes of a revocation that admit that tokens may live on, in the words of the audit log.
const ADMITTED: [&str; 3] = ["unsupported", "failed", "unknown"];

/// Every token that ever reached a process is of the living grant, or works no more, or somebody is told.
fn tokens_are_accounted_for(play: &Play, items: &[Value]) {
    let now = play.world.now();
    // By subject and server: how revocations ended, in the words of the audit log.
    let mut told: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    let names = server_names(items);
    let servers = living_servers(items);
    for event in items.iter().filter(|item| item["entity"] == "event") {
        if event["action"] == "revocation.settled" {
            let server = names.get(event["server"].as_str().unwrap_or_default());
            let subject = event["subject"]["subject_id"].as_str().unwrap_or_default();
            let key = (subject.to_owned(), server.cloned().unwrap_or_default());
            let outcome = event["outcome"].as_str().unwrap_or_default().to_owned();
            told.entry(key).or_default().insert(outcome);
        }
    }
    let internet = play.world.internet.lock().unwrap();
    let log = play.log.lock().unwrap();
    // The family of the living grant is the one that serves the last call.
    let mut living = BTreeSet::new();
    for one in &internet.served {
        let last = log.calls.iter().rposition(|call| {
            let asked = &log.calls[one.call as usize];
            (&call.subject, &call.server) == (&asked.subject, &asked.server)
        });
        if last == Some(one.call as usize) {
            living.extend(one.family);
        }
    }
    let mut found = Vec::new();
    let grants: BTreeSet<(String, String)> = items
        .iter()
        .filter(|item| item["entity"] == "grant" && !is_void(item, &servers))
        .map(|item| {
            let partition = item["PK"].as_str().unwrap_or_default();
            let ulid = partition.rsplit('#').next().unwrap_or_default();
            let subject = item["subject_id"].as_str().unwrap_or_default();
            (
                subject.to_owned(),
                names.get(ulid).cloned().unwrap_or_default(),
            )
        })
        .collect();
    let granted: BTreeSet<_> = items
        .iter()
        .filter(|item| item["entity"] == "event" && item["action"] == "credential.granted")
        .filter_map(|item| item["session"].as_str())
        .collect();
    for (number, family) in internet.families.iter().enumerate() {
        // A process that dies with a code's answer in its hands takes the tokens with it, and no other has the code.
        let session = log.consents[family.consent]
            .session
            .as_deref()
            .unwrap_or_default();
        let stored = granted.iter().any(|one| session.ends_with(one));
        if !stored && family.asker_died() {
            continue;
        }
        let works = internet
            .tokens
            .iter()
            .filter(|(_, token)| token.family == number && Internet::works(token, now));
        let works: Vec<_> = works.map(|(text, _)| text.as_str()).collect();
        if works.is_empty() || !family.delivered || living.contains(&number) {
            continue;
        }
        let key = (family.subject.clone(), server_of(&family.host).to_owned());
        // A grant that is stored, though an override goes first or its issuer would not refresh it.
        let stored = grants.contains(&key)
            && !living.iter().any(|other| {
                let other = &internet.families[*other];
                (other.subject.as_str(), server_of(&other.host)) == (key.0.as_str(), key.1.as_str())
            });
        let outcomes = told.get(&key).cloned().unwrap_or_default();
        let is_told = ADMITTED.iter().any(|outcome| outcomes.contains(*outcome));
        if !stored && !is_told {
            found.push(format!(
                "{} at {}: {works:?} work though nobody holds them, and all that is told is {outcomes:?}",
                key.0, key.1
            ));
        }
    }
    drop((log, internet));
    found.into_iter().for_each(|what| play.complain(what));
}

/// The name of each server that ever was, by its id.
fn server_names(items: &[Value]) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for item in items {
        let name = match item["entity"].as_str() {
            Some("server") => item["name"].as_str(),
            Some("receipt") => item["removed"]["server"]["name"].as_str(),
            _ => None,
        };
        let id = item["id"].as_str().filter(|_| item["entity"] == "server");
        let id = id.or(item["server"].as_str());
        if let (Some(id), Some(name)) = (id, name) {
            // Those of connections end with a number.
            names.insert(id.to_owned(), server_of(name).to_owned());
        }
    }
    names
}

/// Once all is quiet every receipt adds up.
fn receipts_are_complete(play: &Play, items: &[Value]) {
    for receipt in items.iter().filter(|item| item["entity"] == "receipt") {
        let outcomes = receipt["outcomes"].as_object().into_iter().flatten();
        let total: u64 = outcomes.filter_map(|(_, count)| count.as_u64()).sum();
        let grants = receipt["counts"]["oauth"].as_u64();
        if receipt["closed"] != true || grants != Some(total) {
            play.complain(format!("a receipt does not add up: {receipt}"));
        }
    }
    let known: BTreeSet<_> = items
        .iter()
        .filter(|item| item["entity"] == "receipt")
        .filter_map(|item| item["id"].as_str())
        .collect();
    let ends = play.log.lock().unwrap().ends.clone();
    for end in ends.iter().filter(|end| end.ended.is_some()) {
        match &end.receipt {
            Some(receipt) if known.contains(receipt.as_str()) => {}
            None if end.what == "move" => {}
            other => play.complain(format!(
                "{} was answered with receipt {other:?}, which is not there",
                end.what
            )),
        }
    }
}

/// Nothing is under way, and nothing is left of servers that are gone.
fn nothing_is_left(play: &Play, items: &[Value]) {
    let alive: BTreeSet<_> = items
        .iter()
        .filter(|item| item["entity"] == "server")
        .filter_map(|item| item["SK"].as_str()?.strip_prefix("S#"))
        .collect();
    for item in items {
        let partition = item["PK"].as_str().unwrap_or_default();
        let dead = partition
            .split_once("#S#")
            .is_some_and(|(_, ulid)| !alive.contains(ulid));
        if dead || !item["GSI2PK"].is_null() {
            play.complain(format!("this is left: {item}"));
        }
    }
}

/// The servers that there are, by their id.
fn living_servers(items: &[Value]) -> BTreeMap<&str, &Value> {
    let servers = items.iter().filter(|item| item["entity"] == "server");
    servers
        .filter_map(|item| Some((item["SK"].as_str()?.strip_prefix("S#")?, item)))
        .collect()
}

/// Whether the server of a credential does not stand behind it.
fn is_void(item: &Value, servers: &BTreeMap<&str, &Value>) -> bool {
    let partition = item["PK"].as_str().unwrap_or_default();
    let ulid = partition.rsplit('#').next().unwrap_or_default();
    let Some(server) = servers.get(ulid) else {
        return true;
    };
    let least = match item["entity"].as_str() {
        Some("grant") => &server["void_before"],
        _ => &server["auth_revision"],
    };
    item["auth_revision"].as_u64() < Some(least.as_u64().unwrap_or_default())
}

/// No credential is left behind by a sweep or a purge, but for what cannot be read.
pub fn nothing_void_is_left(play: &Play, items: &[Value]) {
    let servers = living_servers(items);
    for item in items {
        let is_credential = item["entity"] == "grant" || item["entity"] == "override";
        let is_readable = item["last_refresh"] != NEWER && item["shape"] != NEWER;
        if is_credential && is_readable && is_void(item, &servers) {
            play.complain(format!("this is void, and left: {item}"));
        }
    }
}

/// What names an open consent names one of the same subject.
fn consents_lead_somewhere(play: &Play, items: &[Value]) {
    let named = |item: &Value| {
        let of = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
        (of("PK"), of("SK"))
    };
    let sessions: BTreeMap<_, _> = items
        .iter()
        .filter(|item| item["entity"] == "session")
        .map(|item| (named(item), item["subject_id"].as_str()))
        .collect();
    for open in items.iter().filter(|item| item["entity"] == "open-consent") {
        let (partition, key) = named(open);
        let session = open["session"].as_str().unwrap_or_default();
        let subject = sessions.get(&(partition, format!("A#{session}")));
        let own = key.split('#').nth(2);
        if subject.is_none() || subject.copied().flatten() != own {
            play.complain(format!("an open consent leads to {subject:?}: {open}"));
        }
    }
}

/// A client that a browser has come as is on record as long as the issuer has it: it is deregistered with its server.
fn clients_are_on_record(play: &Play, items: &[Value]) {
    let records: BTreeSet<_> = items
        .iter()
        .filter(|item| item["entity"] == "client")
        .filter_map(|item| item["client"]["id"].as_str())
        .collect();
    let clients = play.world.internet.lock().unwrap().clients.clone();
    for (id, client) in clients {
        if client.is_left() && !records.contains(id.as_str()) {
            play.complain(format!("client {id} is left at the issuer"));
        }
    }
}

/// What a 2xx says is in the audit log, once.
fn the_log_tells(play: &Play, items: &[Value]) {
    let events: Vec<_> = items
        .iter()
        .filter(|item| item["entity"] == "event")
        .collect();
    let count = |action: &str, receipt: &str| {
        let own = events.iter().filter(|event| event["action"] == action);
        own.filter(|event| event["receipt"] == receipt).count() as u64
    };
    for receipt in items.iter().filter(|item| item["entity"] == "receipt") {
        let id = receipt["id"].as_str().unwrap_or_default();
        let counts = &receipt["counts"];
        let removed =
            counts["oauth"].as_u64().unwrap_or(0) + counts["overrides"].as_u64().unwrap_or(0);
        let told = count("credential.removed", id);
        if told != removed {
            play.complain(format!(
                "receipt {id} counts {removed}, the audit log tells of {told}"
            ));
        }
        let settled = count("revocation.settled", id);
        if Some(settled) != counts["oauth"].as_u64() {
            play.complain(format!(
                "receipt {id} has {counts}, the audit log tells of {settled} revocations"
            ));
        }
    }
    let log = play.log.lock().unwrap();
    let connected = log
        .consents
        .iter()
        .filter(|one| one.connected.is_some())
        .count();
    let installed = log
        .installs
        .iter()
        .filter(|one| one.installed.is_some())
        .count();
    let ended = log.ends.clone();
    drop(log);
    for (action, least) in [
        ("credential.granted", connected),
        ("credential.installed", installed),
    ] {
        let told = events
            .iter()
            .filter(|event| event["action"] == action)
            .count();
        if told < least {
            play.complain(format!(
                "{least} were answered with success, the audit log tells of {told} {action}"
            ));
        }
    }
    for end in ended.iter().filter(|end| end.ended.is_some()) {
        let Some(receipt) = &end.receipt else {
            continue;
        };
        let action = match end.what {
            "disconnect" => "credential.removed",
            "revoke-all" => "server.disconnected",
            "delete" => "server.deleted",
            "offboard" => "subject.offboarded",
            _ => continue,
        };
        if count(action, receipt) != 1 {
            play.complain(format!("{} under {receipt} is not told of once", end.what));
        }
    }
}
