//! Receipts: the lasting, secret-free record of what was taken away.

use crate::domain::credential::Source;
use crate::domain::id::{ServerId, Sortable};
use crate::domain::revocation::{RevocationOutcome, Unsupported};
use crate::domain::subject::{Actor, Subject};
use crate::domain::time::Timestamp;
use serde::{Deserialize, Serialize};

/// The record of one removal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Receipt {
    /// Opaque to clients; sorts by time.
    pub id: String,
    /// What was removed.
    pub removed: Removed,
    /// The server that it was removed from; `None` for all servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerId>,
    /// Who removed it.
    pub actor: Actor,
    /// When the removal took effect.
    pub at: Timestamp,
    /// Whether everything has been removed. For a deleted server, that its partition is empty.
    pub closed: bool,
    /// When the receipt last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<Timestamp>,
    /// How many credentials were removed. Those of a deleted server are counted before the first of them is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
    /// How the revocations have ended so far.
    #[serde(default)]
    pub outcomes: Outcomes,
    /// The tokens that were presented at the issuer, for a receipt of a single grant or login.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub presented: Vec<PresentedToken>,
}

impl Receipt {
    /// A receipt of a removal at all servers that is still to be carried out, with nothing counted yet.
    pub fn open(id: String, removed: Removed, actor: Actor, at: Timestamp) -> Self {
        Self {
            id,
            removed,
            server: None,
            actor,
            at,
            closed: false,
            changed_at: None,
            counts: Some(Counts::default()),
            outcomes: Outcomes::default(),
            presented: Vec::new(),
        }
    }

    /// How many revocations have no outcome yet; `None` if there are more outcomes than revocations.
    pub fn unsettled(&self) -> Option<u64> {
        let owed = self.counts.unwrap_or_default().revocations();
        owed.checked_sub(self.outcomes.total())
    }

    /// Whether what is removed may still be readable. After a deletion or a revoke-all nothing is, from before the
    /// receipt exists.
    pub const fn is_removing(&self) -> bool {
        matches!(self.removed, Removed::Subject { .. }) && !self.closed
    }

    /// Whether nothing is left to do: everything is removed, and every revocation has ended.
    pub fn is_complete(&self) -> bool {
        self.closed && self.unsettled() == Some(0)
    }
}

/// How many revocations have ended in each way.
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
    /// How many revocations have ended in this way.
    pub const fn of(self, outcome: RevocationOutcome) -> u64 {
        match outcome {
            RevocationOutcome::Revoked => self.revoked,
            RevocationOutcome::AlreadyInvalid => self.already_invalid,
            RevocationOutcome::Unsupported => self.unsupported,
            RevocationOutcome::Failed => self.failed,
            RevocationOutcome::Unknown => self.unknown,
        }
    }

    /// How many revocations have ended.
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
    /// The HTTP status of the endpoint's last answer; `None` if it was not asked.
    pub status: Option<u16>,
    /// How the presentation ended.
    pub outcome: RevocationOutcome,
    /// Why the token could not be revoked, where the outcome is [`RevocationOutcome::Unsupported`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Unsupported>,
    /// When the presentation ended.
    pub at: Timestamp,
    /// How often the issuer was asked.
    pub attempts: u32,
}

/// How many credentials of each source, and how many logins, were removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Counts {
    pub oauth: u64,
    pub overrides: u64,
    #[serde(default, skip_serializing_if = "is_none")]
    pub logins: u64,
    /// Refresh tokens of the identity provider that were kept for these logins.
    #[serde(default, skip_serializing_if = "is_none")]
    pub provider_tokens: u64,
}

/// Whether the count is zero. Receipts of older versions have no such count.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_none(count: &u64) -> bool {
    *count == 0
}

impl Counts {
    /// How many revocations are owed to what was removed: one for each grant, and one for each token of the provider.
    pub const fn revocations(&self) -> u64 {
        self.oauth + self.provider_tokens
    }

    /// One credential of this source.
    pub fn one(source: Source) -> Self {
        let mut counts = Self::default();
        counts.add(source);
        counts
    }

    /// Counts one more credential of this source.
    pub fn add(&mut self, source: Source) {
        match source {
            Source::Oauth => self.oauth += 1,
            Source::Override => self.overrides += 1,
        }
    }
}

/// What a receipt is about.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Removed {
    /// One credential of one subject.
    Credential {
        /// The subject.
        #[serde(flatten)]
        subject: Subject,
        /// Which of the subject's credentials.
        source: Source,
    },
    /// All credentials and logins of one subject.
    Subject {
        /// The subject.
        #[serde(flatten)]
        subject: Subject,
    },
    /// One login.
    Login {
        /// The subject.
        #[serde(flatten)]
        subject: Subject,
        /// The login, by its id.
        login: Sortable,
        /// The `client_id` of the application.
        client_id: String,
    },
    /// Every credential at a server that stays.
    All {
        /// The server's name.
        name: String,
    },
    /// A server and everything under it.
    Server {
        /// The server's name.
        name: String,
        /// The server's number.
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
