//! What is left of a login that has ended, until the identity provider has been told (RFC 7009, Inbound 2.33).

use super::address::origin;
use super::id::{Sortable, TenantId};
use super::login::Login;
use super::revocation::RETRY_WINDOW_SECONDS;
use super::sealed::SealedSecret;
use super::subject::Subject;
use super::time::Timestamp;
use crate::Result;
use serde::{Deserialize, Serialize};

/// The identity provider's refresh token of a login that has ended, to be presented at the provider's revocation endpoint.
/// Written in the transaction that ends the login, erased in the one that records its outcome.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LoginRevocation {
    /// The id.
    pub id: Sortable,
    /// The tenant, for the worker that finds this item in the index.
    pub tenant: TenantId,
    /// The login that the token was for.
    pub login: Sortable,
    /// The `client_id` of the login's application.
    pub client_id: String,
    /// The subject whose login it was.
    #[serde(flatten)]
    pub subject: Subject,
    /// The provider that gave the token, by its issuer; `None` in logins of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The receipt that reports the outcome, if the login ended by a call that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
    /// Whether that receipt is for this login alone, and lists what was presented.
    #[serde(default)]
    pub itemised: bool,
    /// Whether the provider may have given out a token that is not stored: the login ended while it was asked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_doubt: bool,
    /// When the login ended.
    pub at: Timestamp,
    /// How often the provider was asked.
    pub attempts: u32,
    /// How often the provider refused our client.
    pub refused_clients: u32,
    /// Replaced at every write.
    pub version: String,
    /// The token, sealed as it was in the login.
    pub token: SealedSecret,
}

impl LoginRevocation {
    /// The revocation for a login that ends now; `None` where the provider gave no token for it.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when the random generator fails.
    pub fn of(login: &Login, now: Timestamp) -> Result<Option<Self>> {
        let Some(token) = login.approval.provider_token.clone() else {
            return Ok(None);
        };
        let id = Sortable::new(now)?;
        Ok(Some(Self {
            id,
            tenant: login.tenant.clone(),
            login: login.id,
            client_id: login.approval.application.client_id.clone(),
            subject: login.subject().clone(),
            provider: login.approval.provider.clone(),
            receipt: None,
            itemised: false,
            in_doubt: login.lease.is_some(),
            at: now,
            attempts: 0,
            refused_clients: 0,
            version: id.ulid(),
            token,
        }))
    }

    /// Who has to answer, as the scheduler tells them apart.
    pub fn asks(&self) -> String {
        let provider = self.provider.as_deref();
        provider.map_or_else(|| "identity provider".to_owned(), origin)
    }

    /// Whether the time for asking the provider is over.
    pub fn is_over(&self, now: Timestamp) -> bool {
        now >= self.at.plus_seconds(RETRY_WINDOW_SECONDS)
    }
}
