//! Consents, from the first question to the last page.

use super::request::Answer;
use super::{Consent, LANGSMITH, MCP, Play};
use crate::world::BASE;
use futures_util::future::join_all;
use hawser_core::domain::id::ServerId;
use serde_json::{Value, json};

/// A consent whose subject comes back from the issuer.
pub(super) struct Return {
    pub(super) number: usize,
    pub(super) target: String,
    pub(super) cookie: String,
}

impl Play {
    /// A consent from the first question to the last page, unless its subject loses interest.
    pub(super) async fn consent(&self, server: String, id: &str, subject: String) {
        if let Some(away) = self.leave(server, id, subject).await {
            self.think().await;
            self.come_back(away).await;
        }
    }

    pub(super) fn ask_for_consent(&self, server: &str, subject: &str) -> usize {
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
    pub(super) async fn leave(&self, server: String, id: &str, subject: String) -> Option<Return> {
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
    pub(super) async fn go_away(
        &self,
        number: usize,
        subject: &str,
        address: &str,
    ) -> Option<Return> {
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
    pub(super) async fn come_back(&self, away: Return) {
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
