//! Receipts: the lasting, secret-free record of what was taken away.

use crate::domain::credential::Source;
use crate::domain::id::{ServerId, Sortable};
use crate::domain::revocation::{RevocationOutcome, Unsupported};
use crate::domain::subject::{Actor, Subject};
use crate::domain::time::Timestamp;
use serde::{Deserialize, Serialize};

/// One removal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Receipt {
    /// Opaque to clients; sorts by time.
    pub id: String,
    /// What was removed.
    pub removed: Removed,
    /// From which server; from all of them if none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerId>,
    /// By whom.
    pub actor: Actor,
    /// When the removal took effect.
    pub at: Timestamp,
    /// Whether everything has been removed; a deleted server's is once its partition is empty.
    pub closed: bool,
    /// When it last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<Timestamp>,
    /// How many credentials went with it; a deleted server's are counted before the first of them is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
    /// How the revocations of its grants have ended so far.
    #[serde(default)]
    pub outcomes: Outcomes,
    /// What was presented where, for a receipt of a single grant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub presented: Vec<PresentedToken>,
}

impl Receipt {
    /// How many of the grants that it counts have no outcome yet; `None` if there are more outcomes than grants.
    pub fn unsettled(&self) -> Option<u64> {
        let grants = self.counts.unwrap_or_default().oauth;
        grants.checked_sub(self.outcomes.total())
    }

    /// Whether something that it is for may still be there to be read. A deletion and a revoke-all are over in this respect
    /// before there is a receipt.
    pub const fn is_removing(&self) -> bool {
        matches!(self.removed, Removed::Subject { .. }) && !self.closed
    }

    /// Whether nothing is left to be done: all is removed, and each grant's revocation has ended.
    pub fn is_complete(&self) -> bool {
        self.closed && self.unsettled() == Some(0)
    }
}

/// How revocations have ended: how many in each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "domain::revocation::RevocationOutcome documents each"
)]
pub struct Outcomes {
    pub revoked: u64,
    pub already_invalid: u64,
    pub unsupported: u64,
    pub failed: u64,
    #[serde(default)]
    pub unknown: u64,
}

impl Outcomes {
    /// How many have ended so.
    pub const fn of(self, outcome: RevocationOutcome) -> u64 {
        match outcome {
            RevocationOutcome::Revoked => self.revoked,
            RevocationOutcome::AlreadyInvalid => self.already_invalid,
            RevocationOutcome::Unsupported => self.unsupported,
            RevocationOutcome::Failed => self.failed,
            RevocationOutcome::Unknown => self.unknown,
        }
    }

    /// All together.
    pub fn total(self) -> u64 {
        let all = RevocationOutcome::ALL.into_iter();
        all.map(|outcome| self.of(outcome)).sum()
    }
}

/// One token's presentation at its issuer, without the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresentedToken {
    /// `refresh_token` or `access_token`.
    pub token: String,
    /// Host of the revocation endpoint; `None` if there is none.
    pub host: Option<String>,
    /// What the endpoint answered last; `None` if it was not asked.
    pub status: Option<u16>,
    /// How it ended.
    pub outcome: RevocationOutcome,
    /// Why, where that is [`RevocationOutcome::Unsupported`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Unsupported>,
    /// When.
    pub at: Timestamp,
    /// How often the issuer was asked in all.
    pub attempts: u32,
}

/// How many credentials of each source, and how many logins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Counts {
    pub oauth: u64,
    pub overrides: u64,
    #[serde(default, skip_serializing_if = "is_none")]
    pub logins: u64,
}

/// Whether there is none to be counted. Receipts from before there were logins say nothing of them.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_none(count: &u64) -> bool {
    *count == 0
}

impl Counts {
    /// One credential.
    pub fn one(source: Source) -> Self {
        let mut counts = Self::default();
        counts.add(source);
        counts
    }

    /// Counts one more.
    pub fn add(&mut self, source: Source) {
        match source {
            Source::Oauth => self.oauth += 1,
            Source::Override => self.overrides += 1,
        }
    }
}

/// What a receipt is for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Removed {
    /// One credential of one subject.
    Credential {
        /// Whose.
        #[serde(flatten)]
        subject: Subject,
        /// Which.
        source: Source,
    },
    /// Everything of one subject.
    Subject {
        /// Whose.
        #[serde(flatten)]
        subject: Subject,
    },
    /// One login.
    Login {
        /// Whose.
        #[serde(flatten)]
        subject: Subject,
        /// Which.
        login: Sortable,
        /// The application that it was for.
        client_id: String,
    },
    /// Every credential at a living server.
    All {
        /// The name it has.
        name: String,
    },
    /// A server and everything under it.
    Server {
        /// The name it had.
        name: String,
        /// The number it had.
        number: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_is_counted_under_the_word_that_is_stored() {
        for outcome in RevocationOutcome::ALL {
            let mut stored = serde_json::to_value(Outcomes::default()).unwrap();
            let count = stored.get_mut(outcome.as_str()).unwrap();
            *count = 3.into();
            let read: Outcomes = serde_json::from_value(stored).unwrap();
            assert_eq!((read.of(outcome), read.total()), (3, 3), "{outcome:?}");
        }
    }
}
