//! Revocations: what is left of a grant that has ended, until its issuer has been told (RFC 7009).

use super::credential::{Grant, LEASE, RefreshOutcome};
use super::id::{ServerId, Sortable, TenantId};
use super::issuance::Issuance;
use super::subject::Subject;
use super::time::Timestamp;
use crate::Result;
use crate::domain::address::origin;
use crate::domain::sealed::Sealed;
use serde::{Deserialize, Serialize};

/// How long an issuer that does not answer is asked again, in seconds.
pub const RETRY_WINDOW_SECONDS: i64 = 24 * 3600;

/// One ended grant whose tokens are to be presented at the issuer's revocation endpoint. Written in the transaction that
/// ends the grant, erased in the one that records its outcome.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Revocation {
    /// The id; sorts by time.
    pub id: String,
    /// The tenant, for the worker that finds this item in the index.
    pub tenant: TenantId,
    /// The server that the grant was for.
    pub server: ServerId,
    /// The subject whose grant it was.
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
    /// Who issued the tokens, to which client, and for which resource.
    pub issuance: Issuance,
    /// How far the refresh token is, which is presented first.
    pub refresh: Presentation,
    /// How far the access token is.
    pub access: Presentation,
    /// When the access token expires.
    pub access_expires_at: Option<Timestamp>,
    /// Whether the issuer may have given out tokens that are not stored here: the grant ended during a refresh, or
    /// after the answer to one was lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_doubt: bool,
    /// Nothing is presented before this: a refresh may be under way, and its tokens belong here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// Tokens that a refresh got after the grant had ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<LateTokens>,
    /// When the grant ended.
    pub at: Timestamp,
    /// How often the issuer was asked.
    pub attempts: u32,
    /// How often the issuer refused the client.
    pub refused_clients: u32,
    /// Replaced at every write.
    pub version: String,
    /// [`super::credential::Tokens`], sealed as they were in the grant.
    pub sealed: Sealed,
}

/// Tokens that a refresh got after the grant had ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LateTokens {
    /// The refresh token, if the issuer gave another one.
    pub refresh: Presentation,
    /// The access token.
    pub access: Presentation,
    /// When the access token expires.
    pub access_expires_at: Option<Timestamp>,
    /// [`super::credential::Tokens`], sealed like those of the grant.
    pub sealed: Sealed,
}

/// How far the presentation of one token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presentation {
    /// There is no such token, or another revocation presents it.
    None,
    /// Still to be presented.
    Due,
    /// The presentation has ended.
    Ended {
        /// How it ended.
        outcome: RevocationOutcome,
        /// The HTTP status that the issuer answered, if it was asked.
        status: Option<u16>,
        /// When it ended.
        at: Timestamp,
        /// Why the token could not be revoked, where the outcome is [`RevocationOutcome::Unsupported`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<Unsupported>,
    },
}

/// How the revocation of a token or a grant ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevocationOutcome {
    /// The issuer confirmed it.
    Revoked,
    /// The issuer had ended it before, or it has expired.
    AlreadyInvalid,
    /// The issuer cannot revoke it.
    Unsupported,
    /// The issuer refused for good, or did not answer for a day.
    Failed,
    /// All known tokens were presented, but the answer to a refresh was lost: the issuer may have given out others.
    Unknown,
}

/// Why an issuer cannot revoke a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unsupported {
    /// It is not known whose the token endpoint is, so the token may be shown to nobody.
    IssuerUnknown,
    /// The issuer is known, and has no revocation endpoint.
    NoEndpoint,
    /// Metadata names a revocation endpoint at another host, and nothing but that metadata says that it may be trusted.
    EndpointElsewhere,
    /// The issuer does not revoke tokens of this kind.
    TokenKind,
}

impl Unsupported {
    /// In the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::IssuerUnknown => "issuerUnknown",
            Self::NoEndpoint => "noEndpoint",
            Self::EndpointElsewhere => "endpointElsewhere",
            Self::TokenKind => "tokenKind",
        }
    }
}

impl RevocationOutcome {
    /// All that there are.
    pub const ALL: [Self; 5] = [
        Self::Revoked,
        Self::AlreadyInvalid,
        Self::Unsupported,
        Self::Failed,
        Self::Unknown,
    ];

    /// As stored, and as key of [`super::receipt::Outcomes`].
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::AlreadyInvalid => "already_invalid",
            Self::Unsupported => "unsupported",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

impl Revocation {
    /// The origin that has to answer: that of the revocation endpoint, or of the issuer where the endpoint is looked
    /// for. Never the issuer's name alone, which any registration may claim.
    pub fn asks(&self) -> String {
        let issuance = &self.issuance;
        origin(
            issuance
                .revocation_endpoint
                .as_ref()
                .unwrap_or(&issuance.issuer),
        )
    }

    /// The revocation of a grant that ends now. If a process may be refreshing the grant, the revocation takes the id
    /// of the lease, so that the tokens of that refresh find it, and waits as long as a lease lasts.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when the random generator fails.
    pub fn of(
        tenant: &TenantId,
        grant: &Grant,
        receipt: Option<&str>,
        now: Timestamp,
    ) -> Result<Self> {
        let version = Sortable::new(now)?.ulid();
        let lease = grant.lease_id.as_ref();
        Ok(Self {
            id: lease.unwrap_or(&version).clone(),
            version,
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
                // The revocation that was written when the issuer refused the refresh token presents it.
                Presentation::Ended {
                    outcome: RevocationOutcome::AlreadyInvalid,
                    status: None,
                    at: now,
                    why: None,
                }
            } else {
                Presentation::None
            },
            access: Presentation::Due,
            access_expires_at: grant.expires_at,
            in_doubt: grant.is_in_doubt(),
            not_before: lease.map(|_| now.plus_seconds(LEASE)),
            late: None,
            at: now,
            attempts: 0,
            refused_clients: 0,
            sealed: grant.sealed.clone(),
        })
    }

    /// Whether the time for asking the issuer is over.
    pub fn is_over(&self, now: Timestamp) -> bool {
        now >= self.at.plus_seconds(RETRY_WINDOW_SECONDS)
    }

    /// Whether a token is still to be presented.
    pub fn is_due(&self) -> bool {
        let late = self.late.as_ref().map(|late| [late.refresh, late.access]);
        let all = [self.refresh, self.access].into_iter();
        all.chain(late.into_iter().flatten())
            .any(|one| one == Presentation::Due)
    }

    /// How the revocation as a whole ended, once nothing is due: as the refresh token did, unless the issuer did not
    /// know that token and an access token may live on. Where tokens may be missing, no good outcome is claimed.
    pub fn outcome(&self) -> Option<RevocationOutcome> {
        if self.is_due() {
            return None;
        }
        let late = self.late.as_ref();
        let refresh = late.and_then(|late| late.refresh.ended());
        let refresh = refresh.or(self.refresh.ended());
        let accesses = [
            self.access.ended(),
            late.and_then(|late| late.access.ended()),
        ];
        let has = |outcome| accesses.contains(&Some(outcome));
        let lives_on = [RevocationOutcome::Failed, RevocationOutcome::Unsupported];
        let ended = match refresh {
            Some(outcome) if outcome != RevocationOutcome::AlreadyInvalid => outcome,
            _ => match lives_on.into_iter().find(|outcome| has(*outcome)) {
                Some(outcome) => outcome,
                None if refresh.is_none() && has(RevocationOutcome::Revoked) => {
                    RevocationOutcome::Revoked
                }
                None => RevocationOutcome::AlreadyInvalid,
            },
        };
        let good = matches!(
            ended,
            RevocationOutcome::Revoked | RevocationOutcome::AlreadyInvalid
        );
        Some(if self.in_doubt && good {
            RevocationOutcome::Unknown
        } else {
            ended
        })
    }
}

impl Presentation {
    /// How the presentation ended, if it has.
    pub const fn ended(self) -> Option<RevocationOutcome> {
        match self {
            Self::Ended { outcome, .. } => Some(outcome),
            Self::None | Self::Due => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ended(outcome: RevocationOutcome) -> Presentation {
        Presentation::Ended {
            outcome,
            status: None,
            at: Timestamp::from_micros(0),
            why: None,
        }
    }

    fn revocation(refresh: Presentation, access: Presentation) -> Revocation {
        let grant = serde_json::from_value(json!({
            "server": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "subject_type": "user", "subject_id": "ada", "auth_revision": 1,
            "version": "v", "scopes": [], "obtained_at": 0, "lifetime": null, "expires_at": null, "refreshable": true,
            "issuance": {"issuer": "https://as.example", "token_endpoint": "https://as.example/token",
                         "client": {"id": "c", "auth": "none", "source": "metadata_document"}},
            "last_refresh": null, "sealed": [1],
        }));
        let tenant = TenantId::parse("acme").unwrap();
        let now = Timestamp::from_micros(0);
        Revocation {
            refresh,
            access,
            ..Revocation::of(&tenant, &grant.unwrap(), None, now).unwrap()
        }
    }

    #[test]
    fn every_outcome_is_listed_by_the_word_that_is_stored() {
        for outcome in RevocationOutcome::ALL {
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.as_str());
        }
        // Whoever refuses a word names all that there are.
        let refusal = serde_json::from_value::<RevocationOutcome>(json!("other")).unwrap_err();
        let words = RevocationOutcome::ALL.map(|outcome| format!("`{}`", outcome.as_str()));
        let all = format!("expected one of {}", words.join(", "));
        assert!(refusal.to_string().ends_with(&all), "{refusal}");
    }

    #[test]
    fn the_outcome_claims_no_more_than_was_said() {
        use RevocationOutcome::{AlreadyInvalid, Failed, Revoked, Unknown, Unsupported};
        let none = Presentation::None;
        for (refresh, access, outcome, in_doubt) in [
            (ended(Revoked), ended(Failed), Revoked, Unknown),
            (ended(AlreadyInvalid), ended(Failed), Failed, Failed),
            (
                ended(AlreadyInvalid),
                ended(Unsupported),
                Unsupported,
                Unsupported,
            ),
            (
                ended(AlreadyInvalid),
                ended(Revoked),
                AlreadyInvalid,
                Unknown,
            ),
            (ended(Unsupported), ended(Revoked), Unsupported, Unsupported),
            (ended(Failed), ended(Revoked), Failed, Failed),
            (none, ended(Revoked), Revoked, Unknown),
            (none, ended(AlreadyInvalid), AlreadyInvalid, Unknown),
            (none, ended(Failed), Failed, Failed),
        ] {
            let mut one = revocation(refresh, access);
            assert_eq!(one.outcome(), Some(outcome), "{refresh:?} {access:?}");
            one.in_doubt = true;
            assert_eq!(one.outcome(), Some(in_doubt), "{refresh:?} {access:?}");
            one.late = Some(LateTokens {
                refresh: Presentation::Due,
                access: ended(Revoked),
                access_expires_at: None,
                sealed: one.sealed.clone(),
            });
            assert_eq!(one.outcome(), None, "late tokens are due");
        }
    }

    #[test]
    fn one_of_a_leased_grant_waits_under_the_name_of_the_lease() {
        let one = revocation(Presentation::Due, Presentation::Due);
        assert!(!one.in_doubt && one.not_before.is_none());
        let json = serde_json::to_value(&one).unwrap();
        for field in ["in_doubt", "not_before", "late"] {
            assert!(json.get(field).is_none(), "as older versions write it");
        }
    }
}
