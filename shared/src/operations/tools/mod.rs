//! The tool list of a server for one subject: fetched with the subject's credential and cached (LangSmith 2.7, Kambrium
//! 8).
//!
//! A list is cached under a fingerprint of its source and credential, so it needs no invalidation: a change of the
//! server, a disconnect or a new consent changes the fingerprint. It is sealed, since it decides which tools may be
//! called, and what a server shows to one subject is not for others. A list that does not fit into one item,
//! compressed, is fetched each time.

pub(super) mod mcp_client;

use super::credentials::ServerAndRecords;
use super::proxy::{self, Refusal};
use super::servers::data_key;
use crate::domain::address::origin;
use crate::domain::credential::Records;
use crate::domain::event::Who;
use crate::domain::id::{TenantId, hash};
use crate::domain::server::Auth;
use crate::domain::status::{Status, status};
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;
use crate::domain::tool::{CachedToolList, Tool};
use crate::seal::Kind;
use crate::state::app::App;
use crate::state::cache::locked;
use crate::table::tools::key;
use crate::{Error, Result};
use mcp_client::McpClient;
use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::decompress_to_vec_with_limit;
use tracing::warn;

/// The most tools that a server may list.
pub const TOOLS_LIMIT: usize = 2000;
/// The most bytes of all pages of a list together.
const BYTES_LIMIT: usize = 4 << 20;
/// How long a list may be returned from the cache, in seconds.
const LIFETIME: i64 = 300;
/// How long it is kept, in seconds: the last one that is shared is shown to whoever is not connected yet.
const KEPT_LIFETIME: i64 = 24 * 3600;
/// The most bytes of a list that is kept, compressed: DynamoDB's own limit is 400 KiB with all attribute names.
const KEPT_LIMIT: usize = 380 * 1024;
/// The compression level: fast enough for a request.
const COMPRESSION: u8 = 6;

/// The tool list of a server.
#[derive(Debug)]
pub struct Tools {
    /// In the server's order.
    pub all: Vec<Tool>,
    /// When the server was asked.
    pub fetched_at: Timestamp,
    /// Whether the list is from the cache.
    pub cached: bool,
}

/// Whether a cached list may be returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CachePolicy {
    /// A cached list may be returned.
    Cached,
    /// The server is asked.
    Fresh,
}

/// Why there is no list.
#[derive(Debug)]
pub enum Failure {
    /// The request was refused, as a call may be.
    Refused(Refusal),
    /// What the server answers is no list of tools, or a longer one than may be.
    BadAnswer,
    /// The server speaks the transport that was HTTP with SSE until 2024-11-05, and no later one.
    LegacySseTransport,
    /// The operation failed.
    Failed(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The tools that a subject finds at a server, for a call of `who`.
///
/// # Errors
/// [`Failure`]; in [`Failure::Failed`] [`Error::ServerNotFound`] when the server has just gone, [`Error::Unavailable`],
/// [`Error::Internal`].
pub async fn list(
    app: &App,
    tenant: &TenantId,
    at: &ServerAndRecords,
    who: impl Into<Who>,
    cache_policy: CachePolicy,
) -> Result<Tools, Failure> {
    let place = Place::of(at)?;
    if cache_policy == CachePolicy::Cached
        && may_call(app, at)
        && let Some(kept) = place.kept(app, tenant, at).await?
    {
        return Ok(kept);
    }
    let tools = Tools {
        fetched_at: app.now(),
        all: McpClient::new(app, tenant, at, who.into()).tools().await?,
        cached: false,
    };
    place.keep(app, tenant, at, &tools).await;
    Ok(tools)
}

/// The tools that a server last listed to anyone, where it lists the same to all subjects. What is listed with a subject's own
/// credential is for that subject alone.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn last_shared(
    app: &App,
    tenant: &TenantId,
    at: &ServerAndRecords,
) -> Result<Option<Vec<Tool>>> {
    let place = Place::of(at)?;
    if place.owner.is_some() {
        return Ok(None);
    }
    let kept = place.stored(app, tenant, at).await?;
    Ok(kept.map(|tools| tools.all))
}

/// Whether a server is known to want sessions. Only what this process has seen.
pub fn wants_sessions(app: &App, at: &ServerAndRecords) -> bool {
    let origin = origin(&at.server.url);
    locked(&app.process_cache.with_sessions).contains_key(&origin)
}

/// Whether a server that refused a call speaks the unsupported HTTP+SSE transport of 2024-11-05. Asks it once more.
pub async fn uses_legacy_sse_transport(
    app: &App,
    tenant: &TenantId,
    at: &ServerAndRecords,
    who: impl Into<Who>,
) -> bool {
    let mut client = McpClient::new(app, tenant, at, who.into());
    client.uses_legacy_sse_transport().await
}

/// Whether a subject could call the server with what it has: what it could not ask for is not shown to it either.
fn may_call(app: &App, at: &ServerAndRecords) -> bool {
    let lacks = matches!(
        status(&at.server, &at.records, app.now()),
        Status::Required { .. }
    );
    !lacks && at.server.auth != Auth::Passthrough
}

/// Where a list is cached, and the fingerprint of what it depends on.
struct Place<'a> {
    /// The subject that the list is for; `None` for all subjects without a credential of their own.
    owner: Option<&'a Subject>,
    fingerprint: String,
}

impl<'a> Place<'a> {
    fn of(at: &'a ServerAndRecords) -> Result<Self> {
        let (server, records) = (&at.server, &at.records);
        let brings = records.header_override.is_some() || server.subjects_consent();
        let shared = Records::default();
        let call = proxy::outbound_fingerprint(server, if brings { records } else { &shared })?;
        // Every PATCH drops the list (LangSmith 2.4), also one that changes no more than these.
        let shown = serde_json::to_string(&server.langsmith)
            .map_err(|_| Error::internal("a server could not be serialized"))?;
        Ok(Self {
            owner: brings.then_some(&at.subject),
            fingerprint: hash(&(call + &shown)),
        })
    }

    fn kind(&self) -> Kind<'_> {
        Kind::Tools(self.owner, &self.fingerprint)
    }

    /// The cached list, if it is still valid.
    async fn kept(
        &self,
        app: &App,
        tenant: &TenantId,
        at: &ServerAndRecords,
    ) -> Result<Option<Tools>> {
        let stored = self.stored(app, tenant, at).await?;
        Ok(stored.filter(|tools| app.now() < tools.fetched_at.plus_seconds(LIFETIME)))
    }

    /// The cached list, however old it is.
    async fn stored(
        &self,
        app: &App,
        tenant: &TenantId,
        at: &ServerAndRecords,
    ) -> Result<Option<Tools>> {
        let id = at.server.id;
        let key = key(tenant, id, self.owner);
        let Some(kept) = app.table.read(vec![key.clone()]).await?.tools(&key)? else {
            return Ok(None);
        };
        if kept.fingerprint != self.fingerprint {
            return Ok(None);
        }
        let opener = data_key(app, tenant, &at.server).await?;
        let packed = opener.open(tenant, id, self.kind(), &kept.sealed)?;
        let unreadable = || Error::internal("a list of tools does not decode");
        let json = decompress_to_vec_with_limit(&packed, BYTES_LIMIT).map_err(|_| unreadable())?;
        Ok(Some(Tools {
            all: serde_json::from_slice(&json).map_err(|_| unreadable())?,
            fetched_at: kept.at,
            cached: true,
        }))
    }

    /// Caches a list, if it fits and the server has not changed. A failure is only logged.
    async fn keep(&self, app: &App, tenant: &TenantId, at: &ServerAndRecords, tools: &Tools) {
        if let Err(cause) = self.try_to_keep(app, tenant, at, tools).await {
            warn!(%cause, "a tool list could not be cached");
        }
    }

    async fn try_to_keep(
        &self,
        app: &App,
        tenant: &TenantId,
        at: &ServerAndRecords,
        tools: &Tools,
    ) -> Result<()> {
        let server = &at.server;
        let json = serde_json::to_vec(&tools.all)
            .map_err(|_| Error::internal("a list of tools does not encode"))?;
        let packed = compress_to_vec(&json, COMPRESSION);
        if packed.len() > KEPT_LIMIT || json.len() > BYTES_LIMIT {
            return Ok(());
        }
        let sealer = data_key(app, tenant, server).await?;
        let kept = CachedToolList {
            fingerprint: self.fingerprint.clone(),
            at: tools.fetched_at,
            sealed: sealer.seal(tenant, server.id, self.kind(), &packed)?,
            ttl: tools.fetched_at.plus_seconds(KEPT_LIFETIME).seconds(),
        };
        let key = key(tenant, server.id, self.owner);
        let expected_server = (server.id, server.auth_revision);
        app.table
            .cache_tools(tenant, expected_server, &key, &kept)
            .await?;
        Ok(())
    }
}
