//! Revocations: what is left of a grant that has ended, until its issuer has been told (RFC 7009).

use super::credential::{Grant, RefreshOutcome};
use super::id::{ServerId, Sortable, TenantId};
use super::issuance::Issuance;
use super::server::origin;
use super::subject::Subject;
use super::time::Timestamp;
use crate::Result;
use crate::seal::Sealed;
use serde::{Deserialize, Serialize};

/// How long an issuer that does not answer is asked again, in seconds.
pub const PATIENCE: i64 = 24 * 3600;

/// One ended grant whose tokens are to be presented at the issuer's revocation endpoint. Written in the transaction that
/// ends the grant, erased in the one that records its outcome.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Revocation {
    /// Sorts by time.
    pub id: String,
    /// The tenant, for the worker that finds this item in the index.
    pub tenant: TenantId,
    /// The server that the grant was for.
    pub server: ServerId,
    /// Whose it was.
    #[serde(flatten)]
    pub subject: Subject,
    /// The receipt that reports the outcome, if the grant ended by a call that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
    /// Whether that receipt is for this grant alone, and lists what was presented.
    #[serde(default)]
    pub itemised: bool,
    /// The server's auth revision at consent.
    pub auth_revision: u64,
    /// Who issued the tokens, to which client.
    pub issuance: Issuance,
    /// The refresh token; presented first.
    pub refresh: Presentation,
    /// The access token.
    pub access: Presentation,
    /// When the access token is over by itself.
    pub access_expires_at: Option<Timestamp>,
    /// When the grant ended.
    pub at: Timestamp,
    /// How often the issuer was asked.
    pub attempts: u32,
    /// How often it refused the client.
    pub refused_clients: u32,
    /// Another one after every write.
    pub version: String,
    /// [`super::credential::Tokens`], sealed as they were in the grant.
    pub sealed: Sealed,
}

/// Where one token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presentation {
    /// There is none, or it is not this revocation's.
    None,
    /// Still to be presented.
    Due,
    /// Settled.
    Ended {
        /// How.
        outcome: Outcome,
        /// What the issuer answered, if it was asked.
        status: Option<u16>,
        /// When.
        at: Timestamp,
    },
}

/// How a revocation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The issuer confirmed it.
    Revoked,
    /// The issuer had ended it before, or it is over by itself.
    AlreadyInvalid,
    /// The issuer cannot revoke it.
    Unsupported,
    /// The issuer refused for good, or did not answer for a day.
    Failed,
}

impl Outcome {
    /// The name in receipts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::AlreadyInvalid => "already_invalid",
            Self::Unsupported => "unsupported",
            Self::Failed => "failed",
        }
    }
}

impl Revocation {
    /// Whoever has to answer: the origin of the revocation endpoint, or where it is looked for. Never the issuer's name alone,
    /// which anybody's registration may bear.
    pub fn asks(&self) -> String {
        let issuance = &self.issuance;
        origin(
            issuance
                .revocation_endpoint
                .as_ref()
                .unwrap_or(&issuance.issuer),
        )
    }

    /// What is to be revoked of a grant that ends now.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when the random generator fails.
    pub fn of(
        tenant: &TenantId,
        grant: &Grant,
        receipt: Option<&str>,
        now: Timestamp,
    ) -> Result<Self> {
        let id = Sortable::new(now)?.ulid();
        Ok(Self {
            version: id.clone(),
            id,
            tenant: tenant.clone(),
            server: grant.server,
            subject: grant.subject.clone(),
            receipt: receipt.map(str::to_owned),
            itemised: false,
            auth_revision: grant.auth_revision,
            issuance: grant.issuance.clone(),
            refresh: if grant.refreshable {
                Presentation::Due
            } else if grant.last_refresh == Some(RefreshOutcome::InvalidGrant) {
                // Presented by a revocation of its own when the issuer said so.
                Presentation::Ended {
                    outcome: Outcome::AlreadyInvalid,
                    status: None,
                    at: now,
                }
            } else {
                Presentation::None
            },
            access: Presentation::Due,
            access_expires_at: grant.expires_at,
            at: now,
            attempts: 0,
            refused_clients: 0,
            sealed: grant.sealed.clone(),
        })
    }

    /// Whether its issuer has been given all the time it gets.
    pub fn is_over(&self, now: Timestamp) -> bool {
        now >= self.at.plus_seconds(PATIENCE)
    }

    /// How it ended as a whole, once nothing is due: as its refresh token did if there was one, else as its access token.
    pub fn outcome(&self) -> Option<Outcome> {
        match (self.refresh, self.access) {
            (Presentation::Due, _) | (_, Presentation::Due) => None,
            (Presentation::Ended { outcome, .. }, _)
            | (Presentation::None, Presentation::Ended { outcome, .. }) => Some(outcome),
            (Presentation::None, Presentation::None) => Some(Outcome::AlreadyInvalid),
        }
    }
}
