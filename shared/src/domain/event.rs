//! The audit log: one event for every change of a server, a credential, an API key, a session, a login or an integration,
//! written in the transaction that makes the change. No field of an event can hold a secret: each is an id, a subject, or a word of a
//! closed list.
//!
//! The events of a tenant and month are chained afterwards, in the order in which the worker meets them: the link of each is
//! `SHA-256(link before it, newline, line)`, in lower-case hexadecimal, where the line is the event as [`Event::line`] writes
//! it, and before the first stands [`Month::root`]. So an event that is changed, removed or slipped in shows.

use super::consent_failure::ConsentFailure;
use super::credential::Source;
use super::id::{ServerId, Sortable, TenantId, hash};
use super::login::LoginEnd;
use super::revocation::RevocationOutcome;
use super::session::Session;
use super::subject::Subject;
use super::time::Timestamp;
use crate::domain::sealed::Mac;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// One event of the audit log: one change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its own id; the milliseconds in it are its time.
    pub id: Sortable,
    /// The tenant.
    pub tenant: TenantId,
    /// Who made the change.
    pub actor: Who,
    /// What was changed, and how.
    pub action: Action,
    /// What came of the change.
    pub outcome: EventOutcome,
    /// The server that the change concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerId>,
    /// The subject whose credential, consent or session the change concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    /// Which of the subject's credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// The API key that the change concerns, by its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Sortable>,
    /// The consent that the change concerns, by its session's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Sortable>,
    /// The login that the change concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Sortable>,
    /// The application of that login, by its `client_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<String>,
    /// Why that login ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<LoginEnd>,
    /// The receipt of the change, by its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Sortable>,
    /// Why a consent ended without a grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<ConsentFailure>,
    /// The integration that the change concerns, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integration: Option<String>,
    /// The event's place in the chain; `None` until it is chained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<Link>,
}

/// Who made a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Who {
    /// A user or a virtual account.
    Subject {
        /// The subject.
        subject: Subject,
        /// The API key that the subject used, if it used one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<Sortable>,
        /// The login whose token the subject used, if it used one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        login: Option<Sortable>,
        /// Whether the OAuth client of the subject's connection acted.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        client: bool,
    },
    /// Whoever opened the address of a consent. That may be another person than its subject.
    Browser,
    /// Background work that goes on after the call that asked for it.
    Worker {
        /// The worker.
        worker: Worker,
    },
    /// Whoever runs `hawser` with access to the table itself.
    Operator,
}

impl From<Worker> for Who {
    fn from(worker: Worker) -> Self {
        Self::Worker { worker }
    }
}

/// Background work that makes changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Worker {
    /// Empties a deleted server's partition.
    Purge,
    /// Removes credentials that a change has voided.
    Sweep,
    /// Removes all that an offboarded subject has.
    Offboarding,
    /// Tells issuers that grants have ended.
    Revocation,
    /// Tries the API keys of connections.
    Verification,
    /// Repairs what the integrity check finds.
    #[serde(rename = "auditor")]
    IntegrityCheck,
}

impl Worker {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Purge => "purge",
            Self::Sweep => "sweep",
            Self::Offboarding => "offboarding",
            Self::Revocation => "revocation",
            Self::Verification => "verification",
            Self::IntegrityCheck => "auditor",
        }
    }
}

/// What was changed, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// A server was registered.
    #[serde(rename = "server.created")]
    ServerCreated,
    /// A server was changed; the credentials at it stand.
    #[serde(rename = "server.changed")]
    ServerChanged,
    /// A server was changed in a way that voids the credentials at it.
    #[serde(rename = "server.moved")]
    ServerMoved,
    /// The API key of a connection was tried.
    #[serde(rename = "server.verified")]
    ServerVerified,
    /// All credentials at a server were removed; the server stays.
    #[serde(rename = "server.disconnected")]
    ServerDisconnected,
    /// A server was deleted, with everything under it.
    #[serde(rename = "server.deleted")]
    ServerDeleted,
    /// Nothing of a deleted server is left.
    #[serde(rename = "server.purged")]
    ServerPurged,
    /// An override was stored.
    #[serde(rename = "credential.installed")]
    CredentialInstalled,
    /// A consent was completed and its grant stored.
    #[serde(rename = "credential.granted")]
    CredentialGranted,
    /// A refresh of a grant succeeded or failed.
    #[serde(rename = "credential.refreshed")]
    CredentialRefreshed,
    /// A credential was removed.
    #[serde(rename = "credential.removed")]
    CredentialRemoved,
    /// Tokens came too late to be stored, and go to revocation.
    #[serde(rename = "credential.discarded")]
    CredentialDiscarded,
    /// The revocation of a grant has its outcome.
    #[serde(rename = "revocation.settled")]
    RevocationSettled,
    /// The removal of all that a subject has was begun.
    #[serde(rename = "subject.offboarded")]
    SubjectOffboarded,
    /// An API key was made.
    #[serde(rename = "key.created")]
    KeyCreated,
    /// An API key was removed.
    #[serde(rename = "key.removed")]
    KeyRemoved,
    /// A consent was begun.
    #[serde(rename = "session.begun")]
    SessionBegun,
    /// A consent's URL was opened.
    #[serde(rename = "session.opened")]
    SessionOpened,
    /// The issuer has answered.
    #[serde(rename = "session.answered")]
    SessionAnswered,
    /// A consent ended without a grant.
    #[serde(rename = "session.ended")]
    SessionEnded,
    /// A session with an MCP server was opened.
    #[serde(rename = "mcp-session.opened")]
    McpSessionOpened,
    /// A session with an MCP server was closed by its client.
    #[serde(rename = "mcp-session.closed")]
    McpSessionClosed,
    /// A person has allowed an application to act for them.
    #[serde(rename = "login.allowed")]
    LoginAllowed,
    /// An application got its first tokens.
    #[serde(rename = "login.created")]
    LoginCreated,
    /// An application got new tokens.
    #[serde(rename = "login.refreshed")]
    LoginRefreshed,
    /// The identity provider has vouched again for the subject of a login.
    #[serde(rename = "login.vouched")]
    LoginVouched,
    /// A login has ended.
    #[serde(rename = "login.ended")]
    LoginEnded,
    /// An integration was added to the catalogue.
    #[serde(rename = "integration.added")]
    IntegrationAdded,
    /// An integration of the catalogue was changed.
    #[serde(rename = "integration.changed")]
    IntegrationChanged,
    /// An integration was removed from the catalogue.
    #[serde(rename = "integration.removed")]
    IntegrationRemoved,
}

/// What came of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EventOutcome {
    /// The change was made.
    Succeeded,
    /// The change was tried and not made.
    Failed,
    /// The subject, or its issuer, refused.
    Refused,
    /// The issuer confirmed a revocation.
    Revoked,
    /// The issuer had ended the grant before, or its tokens have expired.
    AlreadyInvalid,
    /// The issuer cannot revoke the tokens.
    Unsupported,
    /// All known tokens were presented, and the issuer may have given out more.
    Unknown,
}

impl From<RevocationOutcome> for EventOutcome {
    fn from(outcome: RevocationOutcome) -> Self {
        match outcome {
            RevocationOutcome::Revoked => Self::Revoked,
            RevocationOutcome::AlreadyInvalid => Self::AlreadyInvalid,
            RevocationOutcome::Unsupported => Self::Unsupported,
            RevocationOutcome::Failed => Self::Failed,
            RevocationOutcome::Unknown => Self::Unknown,
        }
    }
}

/// An event's place in the chain of its month.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The position in the month, counted from 1.
    pub seq: u64,
    /// The link: SHA-256, lower-case hexadecimal.
    pub link: String,
}

impl Link {
    /// The link of the event with this line, after `before`; `None` stands for the start of the month.
    pub fn after(before: Option<&Self>, tenant: &TenantId, month: &Month, line: &str) -> Self {
        let (seq, root) = (before.map_or(0, |link| link.seq), month.root(tenant));
        let before = before.map_or(&root, |link| &link.link);
        Self {
            seq: seq + 1,
            link: hash(&format!("{before}\n{line}")),
        }
    }
}

/// A month of a tenant's audit log: `2026-01`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Month(String);

impl Month {
    /// The month that an instant lies in.
    pub fn of(instant: Timestamp) -> Self {
        Self(instant.month())
    }

    /// Reads `2026-01`.
    pub fn parse(text: &str) -> Option<Self> {
        let is_month = text.len() == 7
            && text.bytes().enumerate().all(|(i, b)| match i {
                4 => b == b'-',
                _ => b.is_ascii_digit(),
            })
            && (1..=12).contains(&text.get(5..)?.parse::<u8>().ok()?);
        is_month.then(|| Self(text.to_owned()))
    }

    /// The month as text: `2026-01`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The month before.
    #[must_use]
    pub fn before(&self) -> Self {
        let (year, month) = self.0.split_once('-').unwrap_or_default();
        let (year, month): (u32, u32) = (
            year.parse().unwrap_or_default(),
            month.parse().unwrap_or_default(),
        );
        Self(match month {
            0 | 1 => format!("{:04}-12", year.saturating_sub(1)),
            _ => format!("{year:04}-{:02}", month - 1),
        })
    }

    /// The text in place of a link before the first event. It differs by tenant and month, so that no chain passes for
    /// another.
    pub fn root(&self, tenant: &TenantId) -> String {
        hash(&format!("hawser audit\n{}\n{}", tenant.as_str(), self.0))
    }
}

impl Event {
    /// The event of a change that is made now. Its outcome is [`EventOutcome::Succeeded`]: it is written in the transaction
    /// that makes the change.
    ///
    /// # Errors
    /// [`Error::Internal`] when the random generator fails.
    pub fn new(
        now: Timestamp,
        tenant: &TenantId,
        actor: impl Into<Who>,
        action: Action,
    ) -> Result<Self> {
        Ok(Self {
            id: Sortable::new(now)?,
            tenant: tenant.clone(),
            actor: actor.into(),
            action,
            outcome: EventOutcome::Succeeded,
            server: None,
            subject: None,
            source: None,
            key: None,
            session: None,
            login: None,
            application: None,
            cause: None,
            receipt: None,
            reason: None,
            integration: None,
            chain: None,
        })
    }

    /// Sets the server.
    #[must_use]
    pub fn at(mut self, server: ServerId) -> Self {
        self.server = Some(server);
        self
    }

    /// Sets the subject.
    #[must_use]
    pub fn of(mut self, subject: &Subject) -> Self {
        self.subject = Some(subject.clone());
        self
    }

    /// Sets which of the subject's credentials it is.
    #[must_use]
    pub const fn from(mut self, source: Source) -> Self {
        self.source = Some(source);
        self
    }

    /// The event of a step of a consent.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_session(
        now: Timestamp,
        actor: impl Into<Who>,
        session: &Session,
        action: Action,
    ) -> Result<Self> {
        let mut event = Self::new(now, &session.tenant, actor, action)?
            .at(session.server)
            .of(&session.subject);
        event.session = session.ulid();
        Ok(event)
    }

    /// Sets the API key, by its id.
    #[must_use]
    pub fn of_key(mut self, id: &str) -> Self {
        self.key = Sortable::parse_ulid(id);
        self
    }

    /// Sets the login and its application.
    #[must_use]
    pub fn of_login(mut self, login: Sortable, client_id: &str) -> Self {
        self.login = Some(login);
        self.application = Some(client_id.to_owned());
        self
    }

    /// Sets why the login ended.
    #[must_use]
    pub const fn caused_by(mut self, cause: LoginEnd) -> Self {
        self.cause = Some(cause);
        self
    }

    /// Sets the integration, by its name.
    #[must_use]
    pub fn of_integration(mut self, name: &str) -> Self {
        self.integration = Some(name.to_owned());
        self
    }

    /// Sets the receipt, by its id.
    #[must_use]
    pub fn under(mut self, receipt: Option<&str>) -> Self {
        self.receipt = receipt.and_then(Sortable::parse_ulid);
        self
    }

    /// Sets why the consent failed.
    #[must_use]
    pub const fn because(mut self, reason: ConsentFailure) -> Self {
        self.reason = Some(reason);
        self
    }

    /// Sets the outcome.
    #[must_use]
    pub fn with(mut self, outcome: impl Into<EventOutcome>) -> Self {
        self.outcome = outcome.into();
        self
    }

    /// The month of the audit log that the event belongs to.
    pub fn month(&self) -> Month {
        Month::of(self.id.at())
    }

    /// The line of JSON that is published and chained: the event with its members in a fixed order, without its place
    /// in the chain.
    ///
    /// # Errors
    /// [`Error::Internal`] when the event cannot be encoded.
    pub fn line(&self) -> Result<String> {
        serde_json::to_string(&Line::of(self, None)).map_err(Error::internal)
    }

    /// [`Self::line`] with the place in the chain as the last member, once there is one.
    ///
    /// # Errors
    /// As [`Self::line`].
    pub fn chained_line(&self) -> Result<String> {
        serde_json::to_string(&Line::of(self, self.chain.as_ref())).map_err(Error::internal)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    id: Sortable,
    at: String,
    actor: LineActor<'a>,
    action: Action,
    outcome: EventOutcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_source: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<Sortable>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<Sortable>,
    #[serde(skip_serializing_if = "Option::is_none")]
    login_id: Option<Sortable>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<LoginEnd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt_id: Option<Sortable>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<ConsentFailure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    integration: Option<&'a str>,
    #[serde(flatten)]
    chain: Option<&'a Link>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LineActor<'a> {
    r#type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<Sortable>,
    #[serde(skip_serializing_if = "Option::is_none")]
    login_id: Option<Sortable>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    client: bool,
}

impl<'a> LineActor<'a> {
    const fn of_nobody(kind: &'a str) -> Self {
        Self {
            r#type: kind,
            id: None,
            key_id: None,
            login_id: None,
            client: false,
        }
    }
}

impl<'a> Line<'a> {
    fn of(event: &'a Event, chain: Option<&'a Link>) -> Self {
        let actor = match &event.actor {
            Who::Subject {
                subject,
                key,
                login,
                client,
            } => LineActor {
                r#type: subject.kind().as_str(),
                id: Some(subject.id()),
                key_id: *key,
                login_id: *login,
                client: *client,
            },
            Who::Worker { worker } => LineActor {
                id: Some(worker.as_str()),
                ..LineActor::of_nobody("worker")
            },
            Who::Browser => LineActor::of_nobody("browser"),
            Who::Operator => LineActor::of_nobody("operator"),
        };
        let subject = event.subject.as_ref();
        Self {
            id: event.id,
            at: event.id.at().millis_z(),
            actor,
            action: event.action,
            outcome: event.outcome,
            server_id: event.server.map(ServerId::prefixed),
            subject_type: subject.map(|subject| subject.kind().as_str()),
            subject_id: subject.map(Subject::id),
            auth_source: event.source.map(Source::as_str),
            key_id: event.key,
            session_id: event.session,
            login_id: event.login,
            client_id: event.application.as_deref(),
            cause: event.cause,
            receipt_id: event.receipt,
            reason: event.reason,
            integration: event.integration.as_deref(),
            chain,
        }
    }
}

/// The head of a month's hash chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLogHead {
    /// The tenant.
    pub tenant: TenantId,
    /// The month.
    pub month: Month,
    /// How many events are in the chain.
    pub seq: u64,
    /// The link of the last event.
    pub link: String,
    /// The last month before this one that has events, and how many it had when this one began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<(Month, u64)>,
    /// A MAC over the other fields, under the tenant's key. Write access to the table does not suffice to replace the
    /// chain.
    #[serde(rename = "mark")]
    pub mac: Mac,
}

impl AuditLogHead {
    /// The place of the last event.
    pub fn last(&self) -> Link {
        Link {
            seq: self.seq,
            link: self.link.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::subject::SubjectType;

    #[test]
    fn a_line_is_fixed_to_the_byte() {
        let tenant = TenantId::parse("acme").unwrap();
        let ada = Subject::new(SubjectType::User, "ada \"é\"").unwrap();
        let now = Timestamp::from_micros(1_768_469_400_120_456);
        let actor = Who::Subject {
            subject: ada.clone(),
            key: None,
            login: None,
            client: false,
        };
        let mut event = Event::new(now, &tenant, actor, Action::CredentialRemoved)
            .unwrap()
            .at(ServerId::parse_ulid("01KF0FV2HRF8BR7TAB0BC6YCDE").unwrap())
            .of(&ada)
            .from(Source::Oauth)
            .under(Some("01KF0FV2HRF8BR7TAB0BC6YCDF"));
        event.id = Sortable::first_of(now);
        let line = r#"{"id":"01KF0FV2HR0000000000000000","at":"2026-01-15T09:30:00.120Z","actor":{"type":"user","id":"ada \"é\""},"action":"credential.removed","outcome":"succeeded","serverId":"mcp-01KF0FV2HRF8BR7TAB0BC6YCDE","subjectType":"user","subjectId":"ada \"é\"","authSource":"oauth","receiptId":"01KF0FV2HRF8BR7TAB0BC6YCDF"}"#;
        assert_eq!(event.line().unwrap(), line);
        let month = event.month();
        assert_eq!(month, Month::parse("2026-01").unwrap());
        let first = Link::after(None, &tenant, &month, line);
        let root = hash("hawser audit\nacme\n2026-01");
        assert_eq!(
            (first.seq, &first.link),
            (1, &hash(&format!("{root}\n{line}")))
        );
        event.chain = Some(first.clone());
        let ending = format!(",\"seq\":1,\"link\":\"{}\"}}", first.link);
        let bare = line.strip_suffix('}').unwrap();
        assert_eq!(event.chained_line().unwrap(), format!("{bare}{ending}"));
        let second = Link::after(Some(&first), &tenant, &month, line);
        assert_eq!(
            (second.seq, second.link),
            (2, hash(&format!("{}\n{line}", first.link)))
        );
    }

    #[test]
    fn months_are_read_exactly() {
        for text in [
            "2026-00", "2026-13", "2026-1", "26-01", "2026/01", "2026-+1", "2026-01 ",
        ] {
            assert_eq!(Month::parse(text), None, "{text}");
        }
        let before = |text| Month::parse(text).unwrap().before();
        assert_eq!(before("2026-01").as_str(), "2025-12");
        assert_eq!(before("2026-11").as_str(), "2026-10");
    }
}
