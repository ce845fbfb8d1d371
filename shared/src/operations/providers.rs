//! LangSmith's providers: permission for one subject to connect to one server. A provider holds no secret; its tokens
//! are the subject's grant. It ends when a change of the server voids grants of its auth revision.

use super::{Unchecked, consent};
use crate::auth::credentials::Presented;
use crate::domain::error::OauthSetup;
use crate::domain::id::{ServerId, TenantId, random};
use crate::domain::issuance::Provider;
use crate::domain::server::Server;
use crate::domain::subject::Subject;
use crate::state::app::App;
use crate::table::clients::{pointer_key, provider_key};
use crate::table::servers;
use crate::{Error, Result};
use std::collections::HashMap;
use uuid::Uuid;

/// The most keys of one read.
const AT_ONCE: usize = 100;

/// A server, and the caller's own provider there, valid or not.
#[derive(Debug)]
pub struct ServerAndProvider {
    /// The server.
    pub server: Server,
    /// The provider.
    pub provider: Option<Provider>,
}

/// Reads a server together with the caller's own provider there.
///
/// # Errors
/// [`Error::Unauthenticated`], [`Error::Unavailable`], [`Error::Internal`].
pub async fn find(
    app: &App,
    who: Presented,
    id: ServerId,
) -> Result<Unchecked<Option<ServerAndProvider>>> {
    let tenant = who.tenant().clone();
    // Whom an API key speaks for is known only once its item has been read.
    let known = match &who {
        Presented::Caller(caller) => Some(caller.subject().clone()),
        Presented::Login(token) => Some(token.subject().clone()),
        Presented::Key(_) | Presented::Client(_) => None,
    };
    let own = known.iter().map(|known| provider_key(&tenant, id, known));
    let keys = own.chain([servers::key(&tenant, id)]).collect();
    let (caller, found) = app.read_as(who, keys).await?;
    let Some(server) = found.server(&tenant, id)? else {
        return Ok(Unchecked::new(caller, None));
    };
    let provider = match known {
        Some(known) => found.provider(&tenant, id, &known)?,
        None if server.subjects_consent() => of(app, &tenant, id, caller.subject()).await?,
        None => None,
    };
    Ok(Unchecked::new(
        caller,
        Some(ServerAndProvider { server, provider }),
    ))
}

/// A subject's providers at servers whose subjects consent.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn all(
    app: &App,
    tenant: &TenantId,
    subject: &Subject,
    among: &[Server],
) -> Result<HashMap<ServerId, Provider>> {
    let consenting: Vec<_> = among.iter().filter(|s| s.subjects_consent()).collect();
    let mut all = HashMap::new();
    for some in consenting.chunks(AT_ONCE) {
        let keys = some
            .iter()
            .map(|server| provider_key(tenant, server.id, subject));
        let found = app.table.read(keys.collect()).await?;
        for server in some {
            let provider = found.provider(tenant, server.id, subject)?;
            all.extend(provider.map(|provider| (server.id, provider)));
        }
    }
    Ok(all)
}

/// The provider with this id and its server, if it is valid under the server's auth revision.
///
/// # Errors
/// [`Error::Unauthenticated`], [`Error::Unavailable`], [`Error::Internal`].
pub async fn find_by_id(
    app: &App,
    who: Presented,
    id: Option<Uuid>,
) -> Result<Unchecked<Option<(Server, Provider)>>> {
    let tenant = who.tenant().clone();
    let keys = id.into_iter().map(|id| pointer_key(&tenant, id)).collect();
    let (caller, found) = app.read_as(who, keys).await?;
    let pointer = id
        .map(|id| found.provider_pointer(&tenant, id))
        .transpose()?
        .flatten();
    let Some(pointer) = pointer else {
        return Ok(Unchecked::new(caller, None));
    };
    let keys = vec![
        servers::key(&tenant, pointer.server),
        provider_key(&tenant, pointer.server, &pointer.subject),
    ];
    let found = app.table.read(keys).await?;
    let server = found.server(&tenant, pointer.server)?;
    let provider = found.provider(&tenant, pointer.server, &pointer.subject)?;
    let both = server
        .zip(provider)
        .filter(|(server, provider)| Some(provider.id) == id && provider.is_valid_under(server));
    Ok(Unchecked::new(caller, both))
}

/// The id of a subject's provider at a server. If there is none, its issuer is asked whether it serves us, and one is made;
/// of several made at once the first stays. `base` is our public base URL.
///
/// # Errors
/// [`Error::Oauth`], [`Error::UpstreamUnavailable`], [`Error::ServerNotFound`]; [`Error::Contended`] when the server has
/// just changed; [`Error::Unavailable`], [`Error::Internal`].
pub async fn ensure(
    app: &App,
    tenant: &TenantId,
    server: &Server,
    subject: &Subject,
    base: &str,
) -> Result<Uuid> {
    if !server.subjects_consent() {
        return Err(Error::Oauth(OauthSetup::NotEnabled));
    }
    let stored = of(app, tenant, server.id, subject).await?;
    if let Some(known) = stored.as_ref().filter(|known| known.is_valid_under(server)) {
        return Ok(known.id);
    }
    consent::prepare(app, tenant, server, subject, base).await?;
    let provider = Provider {
        id: uuid::Builder::from_random_bytes(random()?).into_uuid(),
        server: server.id,
        subject: subject.clone(),
        auth_revision: server.auth_revision,
    };
    let added = app
        .table
        .add_provider(tenant, &provider, stored.as_ref())
        .await?;
    if added {
        return Ok(provider.id);
    }
    match of(app, tenant, server.id, subject).await? {
        Some(first) if first.is_valid_under(server) => Ok(first.id),
        _ => Err(Error::Contended),
    }
}

async fn of(
    app: &App,
    tenant: &TenantId,
    server: ServerId,
    subject: &Subject,
) -> Result<Option<Provider>> {
    let keys = vec![provider_key(tenant, server, subject)];
    app.table
        .read(keys)
        .await?
        .provider(tenant, server, subject)
}
