//! LangSmith's providers: permission for one subject to connect to one server. A provider holds no secret; its tokens
//! are the subject's grant. It ends when a change of the server voids grants of its auth revision.

use super::consent::{self, StartedConsent};
use super::grants::{self, GrantAccess, TokenRequirement};
use super::{Permitted, Unchecked, retry_on_contention};
use crate::auth::credentials::Presented;
use crate::domain::caller::Caller;
use crate::domain::credential::Grant;
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
use std::time::Duration;
use uuid::Uuid;

/// How long a token must still be good to be reused, in seconds.
const MIN_LIFETIME_SECONDS: i64 = 60;
/// How long a refresh by another caller is waited for. This wait, a refresh of our own and the requests to the issuer together
/// take less time than the clients wait.
const MAX_REFRESH_WAIT: Duration = Duration::from_secs(4);
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

impl AsRef<Server> for ServerAndProvider {
    fn as_ref(&self) -> &Server {
        &self.server
    }
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
        Presented::ActingKey(_, user) => Some(user.clone()),
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

/// The id of a subject's provider at a server. `read` finds the server for a caller who may have one, and says for whom. If
/// there is none, its issuer is asked whether it serves us, and one is made; of several made at once the first stays.
/// `base` is our public base URL.
///
/// # Errors
/// Those of `read`; [`Error::Oauth`], [`Error::UpstreamUnavailable`], [`Error::ServerNotFound`]; [`Error::Contended`] when
/// the server keeps changing; [`Error::Unavailable`], [`Error::Internal`].
pub async fn ensure<E, F>(app: &App, read: impl FnMut() -> F, base: &str) -> Result<Uuid, E>
where
    E: From<Error>,
    F: Future<Output = Result<(Permitted<Server>, Subject), E>>,
{
    retry_on_contention(read, async |(server, subject)| {
        find_or_make(app, &server.caller.tenant, &server.found, &subject, base).await
    })
    .await
}

async fn find_or_make(
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

/// What connects a subject to the server of its provider.
#[derive(Debug)]
pub enum Connection {
    /// The grant that is there already.
    Grant(Provider, Box<Grant>),
    /// A consent that was started.
    Consent(Box<StartedConsent>),
}

/// Says whether a stored grant is what was asked for.
pub type Reusable<'a> = &'a (dyn Fn(&Provider, &Grant) -> bool + Sync);

/// Connects a subject to the server of its provider: by the stored grant, if `reusable` accepts it and its token is good for
/// a minute, else by a consent for these scopes. `read` finds the provider for a caller who may use it.
///
/// # Errors
/// Those of `read`; [`Error::ServerNotFound`], [`Error::TooManyConsents`]; [`Error::Contended`] when the server keeps
/// changing; [`Error::Unavailable`], [`Error::Internal`].
pub async fn connect<E, F>(
    app: &App,
    read: impl FnMut() -> F,
    base: &str,
    scopes: &[String],
    reusable: Option<Reusable<'_>>,
) -> Result<Connection, E>
where
    E: From<Error>,
    F: Future<Output = Result<Permitted<(Server, Provider)>, E>>,
{
    retry_on_contention(read, async |Permitted { caller, found }| {
        let (server, provider) = found;
        if let Some(reusable) = reusable
            && let Some(grant) = usable_grant(app, &caller, &provider).await?
            && reusable(&provider, &grant)
        {
            return Ok(Connection::Grant(provider, grant));
        }
        let subject = &provider.subject;
        consent::start_provider_consent(app, &caller, &server, subject, provider.id, base, scopes)
            .await
            .map(|begun| Connection::Consent(Box::new(begun)))
    })
    .await
}

/// The grant of a provider's subject, if its token is good for a while.
async fn usable_grant(
    app: &App,
    caller: &Caller,
    provider: &Provider,
) -> Result<Option<Box<Grant>>> {
    let (tenant, who) = (&caller.tenant, caller.into());
    let (server, subject) = (provider.server, &provider.subject);
    let requirement = TokenRequirement::ValidFor(MIN_LIFETIME_SECONDS);
    let wait = MAX_REFRESH_WAIT;
    match grants::access(app, tenant, &who, server, subject, requirement, wait).await? {
        GrantAccess::Token { grant, .. } => Ok(Some(grant)),
        GrantAccess::Unavailable(_) => Ok(None),
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
