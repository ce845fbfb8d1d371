//! Jobs: work that outlives its request. Each is an item until it is done.

use crate::domain::credential::{Credential, Grant, Override};
use crate::domain::id::{ServerId, TenantId};
use crate::domain::issuance::Provider;
use crate::domain::login::Login;
use crate::domain::reason::Reason;
use crate::domain::receipt::Counts;
use crate::domain::revocation::Revocation;
use crate::domain::sealed::WrappedKey;
use crate::domain::server::Server;
use crate::domain::session::Session;
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// A work item.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "entity", rename_all = "kebab-case")]
pub enum Work {
    /// Empty the partition.
    Tombstone(Tombstone),
    /// Clear away what is void.
    Sweep(Sweep),
    /// Take a subject's credentials away.
    Offboarding(Offboarding),
    /// Tell an issuer that a grant is over.
    Revocation(Box<Revocation>),
    /// Try an api key.
    Verification(Verification),
}

/// The item that stays in a deleted server's partition until the purge has removed everything else.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tombstone {
    /// The tenant, for the worker that finds this item in the index.
    pub tenant: TenantId,
    /// The server that was.
    pub server: ServerId,
    /// The number that it had.
    pub number: u64,
    /// The receipt to complete.
    pub receipt: String,
    /// When the server was deleted.
    pub at: Timestamp,
    /// What its secrets were sealed with; goes at the very end.
    pub data_key: WrappedKey,
    /// How many credentials it had; counted before the first of them is removed, so that the receipt is right however
    /// often the purge is interrupted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<Count>,
    /// Another one whenever a revocation is added to the partition after the server's deletion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub touched: Option<String>,
}

/// How far the credentials of a deleted server have been counted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Count {
    /// How many so far.
    pub found: Counts,
    /// The sort key after which it goes on; `None` once it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

impl Tombstone {
    /// How many credentials the server had, once they are counted.
    pub fn counts(&self) -> Option<Counts> {
        let count = self.count.as_ref().filter(|count| count.after.is_none());
        count.map(|count| count.found)
    }
}

/// Credentials of a living server that a change of its outbound authentication voided, to be cleared away.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sweep {
    /// The tenant.
    pub tenant: TenantId,
    /// The server.
    pub server: ServerId,
    /// The server's auth revision after the change.
    pub auth_revision: u64,
    /// Auth revisions of the overrides that the change voided. What was void before is another sweep's to take away and
    /// to count, and so is what was stored since.
    pub overrides: Range<u64>,
    /// Auth revisions of the grants that it voided.
    pub grants: Range<u64>,
    /// What subjects are told.
    pub reason: Reason,
    /// The receipt that counts what goes, if the call has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
    /// When the change happened.
    pub at: Timestamp,
    /// The sort key up to which it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

impl Sweep {
    /// The sweep after a change of a server.
    pub fn of(tenant: &TenantId, before: &Server, after: &Server, at: Timestamp) -> Self {
        Self {
            tenant: tenant.clone(),
            server: after.id,
            auth_revision: after.auth_revision,
            overrides: before.auth_revision..after.auth_revision,
            grants: before.void_before..after.void_before,
            reason: after.void_reason,
            receipt: None,
            at,
            after: None,
        }
    }

    /// Whether this sweep removes a credential.
    pub fn takes(&self, credential: &Credential) -> bool {
        match credential {
            Credential::Override(own) => self.overrides.contains(&own.auth_revision),
            Credential::Grant(grant) => self.grants.contains(&grant.auth_revision),
        }
    }
}

/// A subject whose credentials are being taken away on every server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Offboarding {
    /// The tenant.
    pub tenant: TenantId,
    /// Whose credentials go.
    #[serde(flatten)]
    pub subject: Subject,
    /// The receipt that counts them.
    pub receipt: String,
    /// Which of the subject's offboardings it is, counted from 1; 0 if an older version did not count. What comes of a
    /// consent that was begun after it is none of its business.
    #[serde(default)]
    pub number: u64,
    /// When it was asked for.
    pub at: Timestamp,
    /// The last server of those that are done; they are taken in the order of their creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<ServerId>,
}

impl Offboarding {
    /// Whether this offboarding removes a credential. It does not remove a grant whose consent was begun after it.
    pub fn takes(&self, credential: &Credential) -> bool {
        match credential {
            Credential::Override(_) => true,
            Credential::Grant(grant) => self.number == 0 || grant.offboardings < self.number,
        }
    }

    /// Whether this offboarding ends a login. It does not end one whose sign-in came after it.
    pub const fn ends(&self, login: &Login) -> bool {
        login.approval.offboardings < self.number
    }

    /// Whether this offboarding ends a consent. It does not end one that was begun after it.
    pub const fn ends_consent(&self, session: &Session) -> bool {
        self.number == 0 || session.offboardings < self.number
    }
}

/// An api key whose connection is to be told whether it serves (Kambrium 3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// The server's record names it for as long as it has that key.
    pub id: String,
    /// The tenant, for the worker that finds this item in the index.
    pub tenant: TenantId,
    /// The server.
    pub server: ServerId,
    /// When the key was stored.
    pub at: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
}

/// What an item in a dead server's partition is, as far as that matters to its end.
#[derive(Debug, Deserialize)]
#[serde(tag = "entity", rename_all = "kebab-case")]
pub enum Remaining {
    /// To become a revocation.
    Grant(Box<Grant>),
    /// To go, with an event of its own.
    Override(Box<Override>),
    /// To go, unless an issuer's answer is on its way.
    Session {
        /// How far it is, in whatever words.
        #[serde(default)]
        phase: String,
        /// Until when one may be.
        #[serde(default)]
        busy_until: Option<Timestamp>,
    },
    /// To go, with its receipt closed.
    Sweep(Sweep),
    /// To go with the item that leads to it.
    Provider(Provider),
    /// To stay until it can be read: something would be owed to it.
    #[serde(skip)]
    Unreadable,
    /// To go last.
    Tombstone,
    /// To go.
    #[serde(other)]
    Other,
}
