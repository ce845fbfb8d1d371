//! Jobs: work that outlives its request. Each is an item until it is done.

use crate::domain::credential::{Credential, Grant, Override};
use crate::domain::id::{ServerId, TenantId};
use crate::domain::issuance::Provider;
use crate::domain::login::Login;
use crate::domain::login_revocation::LoginRevocation;
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
    /// Empty the partition of a deleted server.
    Tombstone(Tombstone),
    /// Remove the credentials that a change has voided.
    Sweep(Sweep),
    /// Remove all that a subject has.
    Offboarding(Offboarding),
    /// Tell an issuer that a grant has ended.
    Revocation(Box<Revocation>),
    /// Tell the identity provider that a login has ended.
    LoginRevocation(Box<LoginRevocation>),
    /// Try an API key.
    Verification(Verification),
}

/// The item that stays in a deleted server's partition until the purge has removed everything else.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tombstone {
    /// The tenant, for the worker that finds this item in the index.
    pub tenant: TenantId,
    /// The deleted server's id.
    pub server: ServerId,
    /// The deleted server's number.
    pub number: u64,
    /// The receipt that the purge closes.
    pub receipt: String,
    /// When the server was deleted.
    pub at: Timestamp,
    /// The server's data key. It is removed last.
    pub data_key: WrappedKey,
    /// How many credentials the server had. They are counted before the first is removed, so that the receipt is right
    /// however often the purge is interrupted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<Count>,
    /// Replaced whenever a revocation is added to the partition after the server's deletion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub touched: Option<String>,
}

/// How far the credentials of a deleted server have been counted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Count {
    /// The credentials counted so far.
    pub found: Counts,
    /// The sort key after which the count goes on; `None` once it is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

impl Tombstone {
    /// How many credentials the server had; `None` until all are counted.
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
    /// Auth revisions of the overrides that the change voided. Those before the range belong to an earlier sweep, which
    /// counts them; those after it are valid.
    pub overrides: Range<u64>,
    /// Auth revisions of the grants that the change voided.
    pub grants: Range<u64>,
    /// The kept reason that subjects see.
    pub reason: Reason,
    /// The receipt that counts the removed credentials, if the call has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
    /// When the change happened.
    pub at: Timestamp,
    /// The sort key up to which the sweep is done.
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

/// The removal of one subject's credentials on every server of a tenant, and of its logins.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Offboarding {
    /// The tenant.
    pub tenant: TenantId,
    /// The subject.
    #[serde(flatten)]
    pub subject: Subject,
    /// The receipt that counts what is removed.
    pub receipt: String,
    /// Which of the subject's offboardings it is, counted from 1; 0 if an older version did not count. It leaves alone
    /// what comes of consents that were begun after it.
    #[serde(default)]
    pub number: u64,
    /// When it was asked for.
    pub at: Timestamp,
    /// The last server that is done; servers are taken in the order of their creation.
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

/// The check of a connection's API key (Kambrium 3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// The id of the verification. The server's record names it as long as the server has that key.
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

/// What the purge has to do with one item of a deleted server.
#[derive(Debug, Deserialize)]
#[serde(tag = "entity", rename_all = "kebab-case")]
pub enum Remaining {
    /// Turn it into a revocation.
    Grant(Box<Grant>),
    /// Remove it, with an event of its own.
    Override(Box<Override>),
    /// Remove it, unless the issuer's answer may be on its way.
    Session {
        /// The session's phase, as stored.
        #[serde(default)]
        phase: String,
        /// Until when the answer may come.
        #[serde(default)]
        busy_until: Option<Timestamp>,
    },
    /// Remove it and close its receipt.
    Sweep(Sweep),
    /// Remove it and its pointer item.
    Provider(Provider),
    /// Leave it until it can be read: it may be a grant that has to be revoked.
    #[serde(skip)]
    Unreadable,
    /// Remove it last.
    Tombstone,
    /// Remove it.
    #[serde(other)]
    Other,
}
