//! Watches that a call stays permitted while its response is streamed.

use super::fingerprint::{fingerprint, has_new_credential, without_credential};
use crate::auth::credentials::Presented;
use crate::domain::id::ServerId;
use crate::domain::mcp_session::McpSession;
use crate::domain::server::Server;
use crate::domain::subject::Subject;
use crate::domain::time::Clock;
use crate::operations::credentials::ServerAndRecords;
use crate::state::app::App;
use crate::state::call_limits::Place as CallPlace;
use crate::table::{Table, mcp_sessions};
use crate::{Error, Result};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;

/// Why a response ends before its server has ended it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The call is no longer permitted.
    Revoked,
    /// Its subject has a new credential, and its session's client was last told of this consent.
    Connected(Option<String>),
}

/// What a look at a call finds.
enum Look {
    Unchanged(Box<Server>),
    Ended(Ending),
}

/// Watches that a call stays permitted, from before it is sent until its response has ended.
#[derive(Debug)]
pub struct PermissionWatcher {
    table: Table,
    clock: Clock,
    every: Duration,
    who: Presented,
    server: ServerId,
    subject: Subject,
    fingerprint: String,
    /// The same without a credential of the subject.
    without_credential: String,
    /// The hash of the id of its session.
    session: Option<String>,
    _turn: OwnedSemaphorePermit,
    _place: CallPlace,
}

impl PermissionWatcher {
    /// Watches a call that was made with these credentials.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when too many are under way, of this tenant, at this server or in all; [`Error::Internal`].
    pub fn new(app: &App, who: Presented, at: &ServerAndRecords) -> Result<Self> {
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
            without_credential: without_credential(&at.server)?,
            session: None,
        })
    }

    /// Also looks at this session of the call.
    #[must_use]
    pub fn of_session(self, session: Option<&McpSession>) -> Self {
        let session = session.map(|session| session.id_hash.clone());
        Self { session, ..self }
    }

    /// Resolves when the call is no longer permitted, or its subject has another credential.
    pub async fn until_over(self) -> Ending {
        loop {
            sleep(self.every).await;
            // While the store is unavailable, nobody can be disconnected either.
            if let Ok(Look::Ended(ending)) = self.look().await {
                return ending;
            }
        }
    }

    /// The current server, if the caller, the server and the credential are still valid and unchanged.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn revalidate(&self) -> Result<Option<Server>> {
        Ok(match self.look().await? {
            Look::Unchanged(server) => Some(*server),
            Look::Ended(_) => None,
        })
    }

    async fn look(&self) -> Result<Look> {
        let tenant = self.who.tenant();
        let mut keys = ServerAndRecords::keys(tenant, self.server, &self.subject);
        let session = self.session.iter();
        keys.extend(session.map(|hash| mcp_sessions::key(tenant, self.server, hash)));
        self.who.required_keys(&mut keys);
        let found = self.table.read(keys).await?;
        match self.who.clone().authenticate(&found, self.clock.now()) {
            Err(Error::Unauthenticated(_)) => return Ok(Look::Ended(Ending::Revoked)),
            authenticated => authenticated?,
        };
        let Some(at) = ServerAndRecords::from_found(&found, tenant, self.server, &self.subject)?
        else {
            return Ok(Look::Ended(Ending::Revoked));
        };
        if fingerprint(&at.server, &at.records)? == self.fingerprint {
            return Ok(Look::Unchanged(at.server.into()));
        }
        let is_same_server = without_credential(&at.server)? == self.without_credential;
        if !is_same_server || !has_new_credential(&at, &self.fingerprint, self.clock.now())? {
            return Ok(Look::Ended(Ending::Revoked));
        }
        let session = self.session.as_ref();
        let session = session.map(|hash| found.mcp_session(tenant, self.server, hash));
        let session = session.transpose()?.flatten();
        let elicitation = session.and_then(|session| session.elicitation);
        Ok(Look::Ended(Ending::Connected(elicitation)))
    }
}
