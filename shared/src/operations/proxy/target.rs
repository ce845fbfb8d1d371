//! How a call names its server, and the one read that finds all that the call needs.

use super::fingerprint::{fingerprint, pending_fingerprint};
use crate::auth::credentials::Presented;
use crate::domain::caller::Caller;
use crate::domain::error::Unauthenticated;
use crate::domain::id::{ServerId, hash};
use crate::domain::mcp_session::McpSession;
use crate::domain::server::Server;
use crate::domain::time::Timestamp;
use crate::operations::Unchecked;
use crate::operations::credentials::ServerAndRecords;
use crate::state::app::App;
use crate::state::cache::locked;
use crate::table::{mcp_sessions, servers as server_table};
use crate::{Error, Result};

/// How a call names its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// By its id, in either spelling.
    Id(ServerId),
    /// By its number.
    Number(u64),
    /// By its name.
    Name(String),
    /// By its credential, which is for that server alone (Kambrium 13.1).
    Bound,
    /// By a text that names no server.
    Unknown,
}

impl Target {
    /// Reads `mcp-<ULID>`, a UUID or a number; anything else is a name.
    pub fn parse(text: &str) -> Self {
        let id = ServerId::parse_prefixed(text).or_else(|| ServerId::parse_uuid(text));
        let digits = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
        let number = || text.parse().ok().filter(|_| digits).map(Self::Number);
        let name = || Self::Name(text.to_owned());
        id.map(Self::Id).or_else(number).unwrap_or_else(name)
    }

    /// The server that a credential is bound to.
    fn bound(who: &Presented) -> Self {
        match who {
            Presented::Client(token) => Self::Id(token.server),
            other => other.bound_to().map_or(Self::Unknown, Self::Number),
        }
    }
}

/// A server with what the caller has there, and the session that the call names.
#[derive(Debug)]
pub struct AtCall {
    /// The server and the caller's records.
    pub at: ServerAndRecords,
    /// The session of that id, whoever it belongs to.
    pub session: Option<McpSession>,
}

impl AtCall {
    /// The session as the caller may go on with it, if at all.
    ///
    /// # Errors
    /// [`Error::Internal`].
    pub fn live_session(&self, now: Timestamp) -> Result<Option<McpSession>> {
        let Some(session) = self.session.clone() else {
            return Ok(None);
        };
        let pending = pending_fingerprint(&self.at.server)?;
        let open = fingerprint(&self.at.server, &self.at.records)?;
        Ok(session.resumed(&self.at.subject, &pending, &open, now))
    }
}

/// Reads all that a call needs, in one round trip; a number, a name and an API key that is new here cost one more.
///
/// # Errors
/// [`Error::Unauthenticated`], [`Error::Unavailable`], [`Error::Internal`].
pub async fn find(
    app: &App,
    who: Presented,
    target: &Target,
    session: Option<&str>,
) -> Result<Unchecked<Option<AtCall>>> {
    let tenant = who.tenant().clone();
    let bound = Target::bound(&who);
    let target = match target {
        Target::Bound => &bound,
        other => other,
    };
    let (id, caller) = match target {
        Target::Id(id) => (Some(*id), None),
        Target::Unknown | Target::Bound => (None, None),
        Target::Number(number) => {
            let key = server_table::number_key(&tenant, *number);
            let (caller, found) = app.read_as(who.clone(), vec![key]).await?;
            let numbered = found.numbered(&tenant, *number)?;
            (numbered.map(|one| one.id), Some(caller))
        }
        Target::Name(name) => {
            let key = server_table::name_key(&tenant, name);
            let (caller, found) = app.read_as(who.clone(), vec![key]).await?;
            (found.named(&tenant, name)?, Some(caller))
        }
    };
    let Some(id) = id else {
        let caller = match caller {
            Some(caller) => caller,
            None => app.identify(who).await?,
        };
        refuse_unbound(app, &caller, None).await?;
        return Ok(Unchecked::new(caller, None));
    };
    let known = match (&caller, who.subject()) {
        (Some(caller), _) => Some(caller.subject().clone()),
        (None, Ok(subject)) => Some(subject.clone()),
        (None, Err(key)) => locked(&app.process_cache.keys)
            .get(&(tenant.clone(), key.to_owned()))
            .cloned(),
    };
    let subject = match known {
        Some(subject) => subject,
        None => app.identify(who.clone()).await?.subject().clone(),
    };
    let mut keys = ServerAndRecords::keys(&tenant, id, &subject);
    let session = session.map(hash);
    keys.extend(
        session
            .iter()
            .map(|hash| mcp_sessions::key(&tenant, id, hash)),
    );
    let (caller, found) = app.read_as(who.clone(), keys).await?;
    if *caller.subject() != subject {
        return Err(Error::internal("an API key now has another subject"));
    }
    if let Err(key) = who.subject() {
        locked(&app.process_cache.keys).insert((tenant.clone(), key.to_owned()), subject.clone());
    }
    let at = ServerAndRecords::from_found(&found, &tenant, id, &subject)?;
    refuse_unbound(app, &caller, at.as_ref().map(|at| &at.server)).await?;
    let Some(at) = at else {
        return Ok(Unchecked::new(caller, None));
    };
    let session = session
        .map(|hash| found.mcp_session(&tenant, id, &hash))
        .transpose()?
        .flatten();
    Ok(Unchecked::new(caller, Some(AtCall { at, session })))
}

/// Refuses a credential that is bound to a connection which is gone (Kambrium 15). `server` is what the call names.
async fn refuse_unbound(app: &App, caller: &Caller, server: Option<&Server>) -> Result<()> {
    let elsewhere = |number: &u64| server.is_none_or(|server| server.number != *number);
    let Some(number) = caller.bound_to.filter(elsewhere) else {
        return Ok(());
    };
    let key = server_table::number_key(&caller.tenant, number);
    let found = app.table.read(vec![key]).await?;
    match found.numbered(&caller.tenant, number)? {
        Some(_) => Ok(()),
        None => Err(Unauthenticated::InvalidToken.into()),
    }
}
