//! What a client of the stateless era brings back when it repeats a request that had to wait for its subject's consent (MCP
//! multi round-trip requests). It is sealed for one subject, one server and one request, and good for ten minutes, so that
//! nobody else can bring it and it serves for nothing else.

use super::fingerprint::{fingerprint, has_new_credential};
use crate::domain::id::TenantId;
use crate::domain::sealed::Sealed;
use crate::domain::session::Phase;
use crate::domain::time::Timestamp;
use crate::operations::consent::parse_session_id;
use crate::operations::credentials::ServerAndRecords;
use crate::operations::servers::data_key;
use crate::seal::Kind;
use crate::state::app::App;
use crate::table::sessions;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The prefix of each request state of ours; a server's own has none.
pub const REQUEST_STATE_PREFIX: &str = "hawser:";
/// The lifetime of a request state, in seconds.
const LIFETIME: i64 = 600;
/// The pause between two reads of a consent that a request waits for.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What is sealed in a request state.
#[derive(Debug, Serialize, Deserialize)]
pub struct RequestState {
    /// The consent that the client was sent to.
    pub consent: String,
    /// The fingerprint of calls at that time.
    fingerprint: String,
    at: Timestamp,
}

impl RequestState {
    /// The state of a request that waits for this consent.
    ///
    /// # Errors
    /// [`Error::Internal`].
    pub fn new(app: &App, at: &ServerAndRecords, consent: String) -> Result<Self> {
        Ok(Self {
            consent,
            fingerprint: fingerprint(&at.server, &at.records)?,
            at: app.now(),
        })
    }

    /// Seals it for the request of this digest.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn seal(
        &self,
        app: &App,
        tenant: &TenantId,
        at: &ServerAndRecords,
        digest: &str,
    ) -> Result<String> {
        let plain = serde_json::to_vec(self)
            .map_err(|_| Error::internal("a request state does not encode"))?;
        let key = data_key(app, tenant, &at.server).await?;
        let kind = Kind::RequestState(&at.subject, digest);
        let sealed = key.seal(tenant, at.server.id, kind, &plain)?;
        Ok(format!("{REQUEST_STATE_PREFIX}{}", sealed.to_text()))
    }

    /// Opens what a client has brought back with the request of this digest. `None`: it was made for another subject,
    /// server or request, was changed, or is over.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn open(
        app: &App,
        tenant: &TenantId,
        at: &ServerAndRecords,
        digest: &str,
        text: &str,
    ) -> Result<Option<Self>> {
        let sealed = text
            .strip_prefix(REQUEST_STATE_PREFIX)
            .and_then(Sealed::from_text);
        let Some(sealed) = sealed else {
            return Ok(None);
        };
        let key = data_key(app, tenant, &at.server).await?;
        let kind = Kind::RequestState(&at.subject, digest);
        // Whatever does not open is the client's, not a fault of ours.
        let Ok(plain) = key.open(tenant, at.server.id, kind, &sealed) else {
            return Ok(None);
        };
        let state: Option<Self> = serde_json::from_slice(&plain).ok();
        Ok(state.filter(|state| app.now() < state.at.plus_seconds(LIFETIME)))
    }

    /// Waits until the subject has another credential than when the state was made, its consent has failed, or the time for
    /// that is over.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn wait(&self, app: &App, tenant: &TenantId, at: &ServerAndRecords) -> Result<()> {
        let end = Instant::now() + app.consent_wait;
        while !self.is_over(app, tenant, at).await? {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            sleep(LOOK_AGAIN.min(left)).await;
        }
        Ok(())
    }

    async fn is_over(&self, app: &App, tenant: &TenantId, at: &ServerAndRecords) -> Result<bool> {
        let id = at.server.id;
        let consent = parse_session_id(&self.consent).map(|(_, session)| session);
        let mut keys = ServerAndRecords::keys(tenant, id, &at.subject);
        keys.extend(consent.iter().map(|one| sessions::key(tenant, id, one)));
        let found = app.table.read(keys).await?;
        let Some(now) = ServerAndRecords::from_found(&found, tenant, id, &at.subject)? else {
            return Ok(true);
        };
        if has_new_credential(&now, &self.fingerprint, app.now())? {
            return Ok(true);
        }
        Ok(match consent {
            Some(consent) => found
                .session(tenant, id, &consent)?
                .is_none_or(|session| session.phase == Phase::Failed),
            None => true,
        })
    }
}
