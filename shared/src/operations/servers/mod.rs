//! Registering, finding, changing and deleting servers.

mod change;
mod create;
mod end;

pub use change::{Change, ChangePlan, Put, PutOutcome, Voiding, change, put};
pub use create::{Draft, DraftConnection, DraftName, create};
pub(super) use create::{insert, prepare};
pub use end::{delete, preview_deletion, revoke_all};

use super::{Permitted, Unchecked};
use crate::auth::credentials::Presented;
use crate::domain::error::UnusableAddress;
use crate::domain::id::{ServerId, TenantId};
use crate::domain::job::Verification;
use crate::domain::server::{Numbered, Secrets, Server};
use crate::domain::time::Timestamp;
use crate::egress::{NotAllowed, is_loopback};
use crate::seal::{DataKey, Kind};
use crate::state::app::App;
use crate::table::servers;
use crate::{Error, Result};
use url::Url;

/// The most bytes that the secrets of one server may have together.
pub const SECRETS_LIMIT: usize = 256 * 1024;

/// The most bytes of a stored record; DynamoDB's own limit is 400 KiB with all attribute names.
const RECORD_LIMIT: usize = 380 * 1024;

/// The server with this id.
///
/// # Errors
/// [`Error::Unauthenticated`], [`Error::Unavailable`], [`Error::Internal`].
pub async fn find(
    app: &App,
    who: Presented,
    id: Option<ServerId>,
) -> Result<Unchecked<Option<Server>>> {
    let tenant = who.tenant().clone();
    let (caller, found) = app
        .read_as(
            who,
            id.map(|id| servers::key(&tenant, id)).into_iter().collect(),
        )
        .await?;
    let server = id
        .map(|id| found.server(&tenant, id))
        .transpose()?
        .flatten();
    Ok(Unchecked::new(caller, server))
}

/// The server with this name.
///
/// # Errors
/// As [`find`].
pub async fn find_named(
    app: &App,
    who: Presented,
    name: &str,
) -> Result<Unchecked<Option<Server>>> {
    let tenant = who.tenant().clone();
    let (caller, found) = app
        .read_as(who, vec![servers::name_key(&tenant, name)])
        .await?;
    let server = match found.named(&tenant, name)? {
        None => None,
        Some(id) => app
            .table
            .read(vec![servers::key(&tenant, id)])
            .await?
            .server(&tenant, id)?,
    };
    Ok(Unchecked::new(caller, server))
}

/// The pointer item of a number, without the server itself.
///
/// # Errors
/// As [`find`].
pub async fn find_number(
    app: &App,
    who: Presented,
    number: Option<u64>,
) -> Result<Unchecked<Option<Numbered>>> {
    let tenant = who.tenant().clone();
    let (caller, found) = app
        .read_as(
            who,
            number
                .map(|number| servers::number_key(&tenant, number))
                .into_iter()
                .collect(),
        )
        .await?;
    let numbered = number
        .map(|number| found.numbered(&tenant, number))
        .transpose()?
        .flatten();
    Ok(Unchecked::new(caller, numbered))
}

/// The whole server behind a number that its caller may use.
///
/// # Errors
/// [`Error::ServerNotFound`] when it has just been deleted; [`Error::Unavailable`], [`Error::Internal`].
pub async fn load(app: &App, numbered: &Permitted<Numbered>) -> Result<Server> {
    let tenant = &numbered.caller.tenant;
    let found = app
        .table
        .read(vec![servers::key(tenant, numbered.found.id)])
        .await?;
    found
        .server(tenant, numbered.found.id)?
        .ok_or(Error::ServerNotFound)
}

/// All servers of the caller's tenant, oldest first. The caller is authenticated before anything is listed: a made-up API key
/// must not make anyone's whole partition be read.
///
/// # Errors
/// As [`find`].
pub async fn list(app: &App, who: Presented) -> Result<Unchecked<Vec<Server>>> {
    let caller = app.identify(who).await?;
    let mut servers = app.table.servers(&caller.tenant).await?;
    servers.sort_by_key(|server| (server.created_at, server.id));
    Ok(Unchecked::new(caller, servers))
}

/// Refuses an address that no call may reach. Names are not resolved, since that would reveal internal names to those
/// who register servers.
///
/// # Errors
/// [`Error::UnusableAddress`].
fn require_usable(app: &App, address: &str) -> Result<()> {
    let why = match app.egress.judge(address) {
        Ok(url) if !leads_here(app, &url) => return Ok(()),
        Ok(_) => UnusableAddress::Own,
        Err(NotAllowed::Malformed) => UnusableAddress::Malformed,
        Err(NotAllowed::Scheme) => UnusableAddress::Scheme,
        Err(NotAllowed::Host) => UnusableAddress::Host,
    };
    Err(Error::UnusableAddress(why))
}

/// Whether an address is one of this deployment's own. On one machine all names of loopback are the same.
fn leads_here(app: &App, url: &Url) -> bool {
    let bases = app.public_urls.iter().chain(&app.gateway_url);
    bases.filter_map(|base| Url::parse(base).ok()).any(|base| {
        let here = is_loopback(&base) && is_loopback(url);
        base.origin() == url.origin()
            || here && base.port_or_known_default() == url.port_or_known_default()
    })
}

/// The verification that a server's record names.
fn verification(tenant: &TenantId, server: &Server, now: Timestamp) -> Option<Verification> {
    Some(Verification {
        id: server.connection.verification.clone()?,
        tenant: tenant.clone(),
        server: server.id,
        at: now,
        attempts: 0,
    })
}

/// The secret values of a server.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn open(app: &App, tenant: &TenantId, server: &Server) -> Result<Secrets> {
    open_with(&data_key(app, tenant, server).await?, tenant, server)
}

/// The data key of a server.
pub(super) async fn data_key(app: &App, tenant: &TenantId, server: &Server) -> Result<DataKey> {
    app.data_key(tenant, server.id, &server.data_key).await
}

pub(super) fn open_with(key: &DataKey, tenant: &TenantId, server: &Server) -> Result<Secrets> {
    let json = key.open(tenant, server.id, Kind::ServerSecrets, &server.secrets)?;
    Secrets::from_json(&json).map_err(|_| Error::internal("a server's secrets do not decode"))
}

fn seal(
    key: &DataKey,
    tenant: &TenantId,
    id: ServerId,
    secrets: &Secrets,
) -> Result<crate::domain::sealed::Sealed> {
    if secrets.len_bytes() > SECRETS_LIMIT {
        return Err(Error::TooLarge);
    }
    let json = secrets
        .to_json()
        .map_err(|_| Error::internal("a server's secrets do not encode"))?;
    key.seal(tenant, id, Kind::ServerSecrets, &json)
}

/// Whether the record fits into one item: bad input may not turn into a refusal of the store.
fn fits(server: &Server) -> Result<()> {
    let json =
        serde_json::to_vec(server).map_err(|_| Error::internal("a server does not encode"))?;
    if json.len() > RECORD_LIMIT {
        Err(Error::TooLarge)
    } else {
        Ok(())
    }
}
