//! The tools of a server as one subject finds them there: asked for with what the subject's calls carry, and kept for a
//! while (LangSmith 2.7, Kambrium 8).
//!
//! A list is kept under a fence that sums up where it comes from and what was carried there, so nobody has to drop it: a change
//! of the server, a disconnect or a new consent makes it void. It is sealed, since it decides what may be called, and what a server
//! shows to one subject is not for others. What does not fit into one item, compressed, is asked for anew each time.

mod talk;

use super::credentials::AtServer;
use super::invoke::{self, Refusal};
use super::servers::data_key;
use crate::app::App;
use crate::domain::credential::Records;
use crate::domain::event::Who;
use crate::domain::id::TenantId;
use crate::domain::id::hash;
use crate::domain::server::Auth;
use crate::domain::status::{Status, status};
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;
use crate::domain::tool::Tool;
use crate::seal::Kind;
use crate::table::tools::{KeptTools, key};
use crate::{Error, Result};
use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::decompress_to_vec_with_limit;
use talk::Talk;
use tracing::warn;

/// The most tools that a server may list.
pub const TOOLS_LIMIT: usize = 2000;
/// The most bytes that it may take for that, over all pages.
const BYTES_LIMIT: usize = 4 << 20;
/// How long a list serves, in seconds.
const LIFETIME: i64 = 300;
/// The most bytes of a list that is kept, compressed: DynamoDB's own limit is 400 KiB with all attribute names.
const KEPT_LIMIT: usize = 380 * 1024;
/// Fast enough for a request, and names and schemas repeat themselves.
const COMPRESSION: u8 = 6;

/// What a server lists.
#[derive(Debug)]
pub struct Tools {
    /// In the server's order.
    pub all: Vec<Tool>,
    /// When the server was asked.
    pub fetched_at: Timestamp,
    /// Whether that was for an earlier request.
    pub cached: bool,
}

/// Whether a list that was kept will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It will.
    Kept,
    /// The server is to be asked.
    Anew,
}

/// Why there is no list.
#[derive(Debug)]
pub enum Failure {
    /// As with a call.
    Refused(Refusal),
    /// What the server answers is no list of tools, or a longer one than may be.
    BadAnswer,
    /// The server speaks the transport that was HTTP with SSE until 2024-11-05, and no later one.
    OldTransport,
    /// Ours.
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
    at: &AtServer,
    who: impl Into<Who>,
    reading: Reading,
) -> Result<Tools, Failure> {
    let place = Place::of(at)?;
    if reading == Reading::Kept
        && may_call(app, at)
        && let Some(kept) = place.kept(app, tenant, at).await?
    {
        return Ok(kept);
    }
    let tools = Tools {
        fetched_at: app.now(),
        all: Talk::new(app, tenant, at, who.into()).tools().await?,
        cached: false,
    };
    place.keep(app, tenant, at, &tools).await;
    Ok(tools)
}

/// Whether a server that refuses to be called speaks the transport that ended with 2024-11-05 (HTTP with SSE), which is not
/// supported. It is asked once more for that.
pub async fn is_of_old_transport(
    app: &App,
    tenant: &TenantId,
    at: &AtServer,
    who: impl Into<Who>,
) -> bool {
    let mut talk = Talk::new(app, tenant, at, who.into());
    talk.is_of_old_transport().await
}

/// Whether a subject could call the server with what it has: what it could not ask for is not shown to it either.
fn may_call(app: &App, at: &AtServer) -> bool {
    let lacks = matches!(
        status(&at.server, &at.records, app.now()),
        Status::Required { .. }
    );
    !lacks && at.server.auth != Auth::Passthrough
}

/// Where a list is kept, and what it rests on.
struct Place<'a> {
    /// Whose it is; nobody's where the subject brings nothing of its own.
    owner: Option<&'a Subject>,
    fence: String,
}

impl<'a> Place<'a> {
    fn of(at: &'a AtServer) -> Result<Self> {
        let (server, records) = (&at.server, &at.records);
        let brings = records.own.is_some() || server.subjects_consent();
        let shared = Records::default();
        let call = invoke::outbound(server, if brings { records } else { &shared })?;
        // Every PATCH drops the list (LangSmith 2.4), also one that changes no more than these.
        let shown = serde_json::to_string(&server.langsmith)
            .map_err(|_| Error::internal("a server does not encode"))?;
        Ok(Self {
            owner: brings.then_some(&at.subject),
            fence: hash(&(call + &shown)),
        })
    }

    fn kind(&self) -> Kind<'_> {
        Kind::Tools(self.owner, &self.fence)
    }

    /// The list that was kept here, if it still serves.
    async fn kept(&self, app: &App, tenant: &TenantId, at: &AtServer) -> Result<Option<Tools>> {
        let id = at.server.id;
        let key = key(tenant, id, self.owner);
        let Some(kept) = app.table.read(vec![key.clone()]).await?.tools(&key)? else {
            return Ok(None);
        };
        if kept.fence != self.fence || app.now() >= kept.at.plus_seconds(LIFETIME) {
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

    /// Keeps a list, if it fits and the server stands as it was read. Whoever asked has it in any case.
    async fn keep(&self, app: &App, tenant: &TenantId, at: &AtServer, tools: &Tools) {
        if let Err(cause) = self.try_to_keep(app, tenant, at, tools).await {
            warn!(%cause, "a list of tools is not kept");
        }
    }

    async fn try_to_keep(
        &self,
        app: &App,
        tenant: &TenantId,
        at: &AtServer,
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
        let kept = KeptTools {
            fence: self.fence.clone(),
            at: tools.fetched_at,
            sealed: sealer.seal(tenant, server.id, self.kind(), &packed)?,
            ttl: tools.fetched_at.plus_seconds(LIFETIME).seconds(),
        };
        let key = key(tenant, server.id, self.owner);
        let stands = (server.id, server.auth_revision);
        app.table.keep_tools(tenant, stands, &key, &kept).await?;
        Ok(())
    }
}
