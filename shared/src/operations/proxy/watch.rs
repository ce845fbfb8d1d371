//! Watches that a call stays permitted while its answer is on its way.

use super::fingerprint::fingerprint;
use crate::auth::credentials::Presented;
use crate::domain::id::ServerId;
use crate::domain::server::Server;
use crate::domain::subject::Subject;
use crate::domain::time::Clock;
use crate::operations::credentials::AtServer;
use crate::state::app::App;
use crate::state::call_limits::Place as CallPlace;
use crate::table::Table;
use crate::{Error, Result};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;

/// Watches that a call stays permitted, from before it is sent until its response has ended.
#[derive(Debug)]
pub struct Watch {
    table: Table,
    clock: Clock,
    every: Duration,
    who: Presented,
    server: ServerId,
    subject: Subject,
    fingerprint: String,
    _turn: OwnedSemaphorePermit,
    _place: CallPlace,
}

impl Watch {
    /// Watches a call that was made with these credentials.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when too many are under way, of this tenant, at this server or in all; [`Error::Internal`].
    pub fn new(app: &App, who: Presented, at: &AtServer) -> Result<Self> {
        let too_many = || Error::Unavailable("too many calls are open".to_owned());
        let place = app.call_limits.take(who.tenant(), at.server.id);
        let turn = app.calls.clone().try_acquire_owned();
        Ok(Self {
            _place: place.ok_or_else(too_many)?,
            _turn: turn.map_err(|_| too_many())?,
            table: app.table.clone(),
            clock: app.clock.clone(),
            every: app.stream_check,
            who,
            server: at.server.id,
            subject: at.subject.clone(),
            fingerprint: fingerprint(&at.server, &at.records)?,
        })
    }

    /// Resolves when the call is no longer permitted.
    pub async fn until_revoked(self) {
        loop {
            sleep(self.every).await;
            // While the store is unavailable, nobody can be disconnected either.
            if let Ok(None) = self.revalidate().await {
                return;
            }
        }
    }

    /// The current server, if the caller, the server and the credential are still valid and unchanged.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn revalidate(&self) -> Result<Option<Server>> {
        let tenant = self.who.tenant();
        let mut keys = AtServer::keys(tenant, self.server, &self.subject);
        self.who.required_keys(&mut keys);
        let found = self.table.read(keys).await?;
        match self.who.clone().authenticate(&found, self.clock.now()) {
            Err(Error::Unauthenticated(_)) => return Ok(None),
            authenticated => authenticated?,
        };
        match AtServer::from_found(&found, tenant, self.server, &self.subject)? {
            Some(at) if fingerprint(&at.server, &at.records)? == self.fingerprint => {
                Ok(Some(at.server))
            }
            _ => Ok(None),
        }
    }
}
