//! `POST|GET|DELETE /mcp/{server}` and `/mcp/v1/{name}/mcp`: a call to an MCP server, forwarded with the caller's stored
//! credential. Bodies are forwarded unchanged in both directions, and the response is streamed. `/mcp` and
//! `/{integration}/mcp` are for credentials that are bound to one connection (Kambrium 13.1). A subject without a usable
//! credential gets the handshake from Hawser itself, and is told how to connect.

mod address;
mod connect;
#[cfg(feature = "fuzzing")]
mod fuzzing;
mod handshake;
mod headers;
mod inbound;
mod message;
mod permission;
mod problem;
mod relay;
mod rpc;
mod tool_filter;

#[cfg(feature = "fuzzing")]
pub use fuzzing::{Looked, filtered, look_into};
pub use problem::Refused;

use super::resource::metadata_url;
use crate::http::{self, Request, Response, Streamed};
use address::{names, target};
use futures_util::future::{Either, select};
use handshake::Farewell;
use hawser_core::auth::credentials::Presented;
use hawser_core::domain::caller::Caller;
use hawser_core::domain::error::Error;
use hawser_core::domain::id::ServerId;
use hawser_core::domain::mcp_session::{McpPhase, McpSession};
use hawser_core::domain::server::{Connection, Server};
use hawser_core::domain::time::Timestamp;
use hawser_core::egress::coding::Decoder;
use hawser_core::operations::credentials::ServerAndRecords;
use hawser_core::operations::proxy::{
    self, AtCall, Call, PermissionWatcher, Refusal, Target, Upstream,
};
use hawser_core::operations::{Permitted, Unchecked, tools, upstream_sessions};
use hawser_core::sse::is_event_stream;
use hawser_core::{App, mcp};
use inbound::{Inbound, is_modern};
use lambda_http::http::header::CONTENT_ENCODING;
use lambda_http::http::{Method, StatusCode};
use message::{Content, params};
use permission::Reach;
use problem::Problem;
use relay::{EndSignal, Relay};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use std::pin::pin;
use tool_filter::{Denied, Filter};

/// The largest body that is forwarded, in bytes.
pub(crate) const BODY_LIMIT: usize = 4 << 20;
/// The header by which a client asks for the events after the last one that it got.
const LAST_EVENT_ID: &str = "last-event-id";

/// Returns the MCP server's response, whatever its status, or a JSON-RPC answer of our own that says why the server was not
/// called.
///
/// # Errors
/// [`Refused`].
pub async fn handle(app: &App, request: &Request) -> Result<Response<Streamed>, Refused> {
    let answered = answer(app, request).await;
    answered.map_err(|refused| refused.of_resource(metadata_url(app, request)))
}

/// The same call by a caller whom another contract has authenticated, to a server that it names by its id.
///
/// # Errors
/// [`Refused`].
pub(crate) async fn call(
    app: &App,
    request: &Request,
    who: Presented,
    server: ServerId,
) -> Result<Response<Streamed>, Refused> {
    check(app, request)?;
    answer_to(app, request, who, Target::Id(server)).await
}

async fn answer(app: &App, request: &Request) -> Result<Response<Streamed>, Refused> {
    let (who, target) = admit(app, request).await?;
    answer_to(app, request, who, target).await
}

async fn answer_to(
    app: &App,
    request: &Request,
    who: Presented,
    target: Target,
) -> Result<Response<Streamed>, Refused> {
    if http::body(request).len() > BODY_LIMIT {
        app.identify(who).await.map_err(Problem::from)?;
        return Err(Problem::TooLarge.into());
    }
    let inbound = Inbound::new(request, who, target);
    let found = inbound.find(app).await;
    let found = found.map_err(|problem| inbound.refused(problem, false))?;
    let in_body = !permission::is_kambrium(found.caller());
    let answer = pass_on(app, &inbound, found).await;
    answer.map_err(|problem| inbound.refused(problem, in_body))
}

/// The server at this path, if there is one and the caller may call it.
///
/// # Errors
/// What the operation fails with.
pub(super) async fn server_at(
    app: &App,
    who: Presented,
    path: &str,
) -> Result<Option<Server>, Error> {
    let Some(target) = target(path) else {
        return Ok(None);
    };
    let found = proxy::find(app, who, &target, None).await?;
    let permitted = found.permit(|caller, found| match found {
        Some(found) => permission::reach(caller, &found.at.server).map(drop),
        None => Ok(()),
    });
    Ok(permitted
        .ok()
        .and_then(|it| it.found)
        .map(|it| it.at.server))
}

/// Route and method, then the origin, then the credentials.
async fn admit(app: &App, request: &Request) -> Result<(Presented, Target), Problem> {
    let target = target(request.uri().path()).ok_or(Problem::PathNotFound)?;
    check(app, request)?;
    Ok((http::present_any(app, request).await?, target))
}

/// The method, then the origin, then where the request has come through.
fn check(app: &App, request: &Request) -> Result<(), Problem> {
    let method = request.method();
    if *method != Method::POST {
        if is_modern(request) {
            return Err(Problem::MethodNotAllowed("POST"));
        }
        if *method != Method::GET && *method != Method::DELETE {
            return Err(Problem::MethodNotAllowed("DELETE, GET, HEAD, POST"));
        }
    }
    if !headers::comes_from_an_allowed_origin(app, request) {
        return Err(Problem::OriginNotAllowed);
    }
    // One on the way is a Hawser whose server is another.
    if headers::hops(request) > 1 {
        return Err(Problem::LoopDetected);
    }
    Ok(())
}

/// A call that the caller is permitted to make.
struct Allowed {
    at: Permitted<ServerAndRecords>,
    reach: Reach,
    /// The session of the call, with our id of it.
    session: Option<(String, McpSession)>,
}

impl Allowed {
    /// Whether its session is still to be opened at the server.
    fn is_pending(&self) -> bool {
        let session = self.session.as_ref();
        session.is_some_and(|(_, session)| session.phase == McpPhase::Pending)
    }

    /// Whether its session was open at the server before, with another credential.
    fn is_reopened(&self) -> bool {
        let session = self.session.as_ref();
        session.is_some_and(|(_, session)| session.reopened)
    }

    /// The connection, if it hides tools from every caller.
    fn hiding(&self) -> Option<&Connection> {
        let connection = &self.at.found.server.connection;
        (!connection.allows_all_tools()).then_some(connection)
    }
}

async fn pass_on(
    app: &App,
    inbound: &Inbound<'_>,
    found: Unchecked<Option<AtCall>>,
) -> Result<Response<Streamed>, Problem> {
    let mut allowed = allow(app, inbound, found)?;
    let mut body = inbound.body().to_vec();
    if let Some(retry) = connect::Retry::of(inbound) {
        body = retry.settle(app, inbound, &allowed).await?;
        // The person has taken their time.
        allowed = allow(app, inbound, inbound.find(app).await?)?;
    }
    if allowed.is_pending() && inbound.is_sent_by(&Method::DELETE) {
        if let Some(answer) = handshake::closed(app, &allowed).await? {
            return Ok(answer);
        }
        // Another request has opened it at the server, which has to hear of it now.
        allowed = allow(app, inbound, inbound.find(app).await?)?;
    }
    if let Some(answer) = connect::connected(app, inbound, &allowed).await? {
        return Ok(answer);
    }
    if allowed.is_pending() && allowed.is_reopened() && inbound.is_notice() {
        return Ok(handshake::accepted());
    }
    if inbound.is_sent_by(&Method::GET)
        && let Some(answer) = handshake::caught_up(app, &allowed).await?
    {
        return Ok(answer);
    }
    // What is asked for is judged only if there is something to filter.
    let inspects = allowed.hiding().is_some() || allowed.reach != Reach::All;
    let content = inspects.then(|| inbound.content());
    let session = allowed.session.as_ref().map(|(_, session)| session);
    let watch =
        PermissionWatcher::new(app, inbound.who.clone(), &allowed.at.found)?.of_session(session);
    let prepared = prepare(app, &allowed, content.as_ref(), &watch).await;
    let farewell = Farewell::of(inbound);
    let mut over: EndSignal = Box::pin(async move { farewell.said(watch.until_over().await) });
    let upstream = match prepared {
        Ok(upstream) => upstream,
        Err(Denied::Problem(problem)) => return Err(problem),
        Err(Denied::Refusal(refusal)) => {
            return connect::answer(app, inbound, allowed, refusal, over).await;
        }
    };
    let mut call = inbound.call(&allowed.at.caller, upstream.as_ref(), body, inspects);
    if allowed.is_reopened() {
        call.headers.remove(LAST_EVENT_ID);
    }
    let answer = match forward(app, &allowed.at, call, &mut over).await? {
        Ok(answer) => answer,
        Err(refusal) => return connect::answer(app, inbound, allowed, refusal, over).await,
    };
    require_usable(app, inbound, &allowed.at, answer.status()).await?;
    let ours = follow_session(app, inbound, &allowed, upstream.as_ref(), &answer).await?;
    let mut response = Response::new(());
    *response.status_mut() = answer.status();
    *response.headers_mut() = headers::of_answer(answer.headers(), ours.as_ref());
    relayed(response, answer, over, allowed.hiding(), content.as_ref()).await
}

/// Refuses a caller who may not make a call.
fn allow(
    app: &App,
    inbound: &Inbound<'_>,
    found: Unchecked<Option<AtCall>>,
) -> Result<Allowed, Problem> {
    let named = inbound.session_id();
    let now = app.now();
    let Permitted { caller, found } = found
        .permit(|caller, found| {
            if let Some(id) = &named {
                let live = found.as_ref().map(|found| live_session(found, caller, now));
                if live.transpose()?.flatten().is_none() {
                    return Err(Problem::SessionNotFound(id.clone()));
                }
            }
            match found {
                Some(found)
                    if !names(inbound.request.uri().path(), &found.at.server.connection) =>
                {
                    Err(Error::ServerNotFound.into())
                }
                Some(found) => permission::reach(caller, &found.at.server).map(drop),
                None => Ok(()),
            }
        })?
        .existing()?;
    if !found.at.server.connection.agent_enabled {
        return Err(Problem::Disabled);
    }
    Ok(Allowed {
        reach: permission::reach(&caller, &found.at.server)?,
        session: named.zip(live_session(&found, &caller, now)?),
        at: Permitted {
            caller,
            found: found.at,
        },
    })
}

/// The session that a caller may go on with. To the clients of a Kambrium connection it is over with its credential
/// (Kambrium 15).
fn live_session(
    found: &AtCall,
    caller: &Caller,
    now: Timestamp,
) -> Result<Option<McpSession>, Error> {
    let live = found.live_session(now)?;
    let ends = permission::is_kambrium(caller);
    Ok(live.filter(|session| !ends || session.phase != McpPhase::Pending))
}

/// Refuses what the connection or the caller's permissions do not allow, and opens a pending session at its server. Returns
/// what the session is called there.
async fn prepare(
    app: &App,
    allowed: &Allowed,
    content: Option<&Content>,
    watch: &PermissionWatcher,
) -> Result<Option<Upstream>, Denied> {
    if let Some(content) = content {
        tool_filter::refuse(app, &allowed.at, allowed.reach, content).await?;
    }
    let upstream = match &allowed.session {
        Some((id, session)) => {
            let upstream = upstream_sessions::at_upstream(app, &allowed.at, session).await;
            // The client can start a session anew, which the server may answer otherwise.
            let refused = match session.reopened {
                true => Problem::SessionNotFound(id.clone()),
                false => Problem::SessionRefused,
            };
            Some(upstream.map_err(|failure| Denied::of(failure, refused))?)
        }
        None => None,
    };
    // The server may have taken its time to list its tools, or to open the session.
    if matches!(content, Some(Content::Call(_))) || allowed.is_pending() {
        let before = &allowed.at.found.server.connection;
        let now = watch.revalidate().await.map_err(Problem::from)?;
        let is_same = |now: &Connection| {
            now.access_type == before.access_type && now.disabled_tools == before.disabled_tools
        };
        if !now.is_some_and(|server| is_same(&server.connection)) {
            return Err(Problem::from(Error::Contended).into());
        }
    }
    Ok(upstream)
}

/// Refuses a response of the server that no caller can use.
async fn require_usable(
    app: &App,
    inbound: &Inbound<'_>,
    at: &Permitted<ServerAndRecords>,
    status: StatusCode,
) -> Result<(), Problem> {
    // Statuses that nobody knows mean nothing to the caller, and some break the gateway between us.
    if status.canonical_reason().is_none() || status.is_informational() {
        return Err(Problem::Unreachable);
    }
    if inbound.initializes()
        && matches!(status.as_u16(), 404 | 405)
        && tools::uses_legacy_sse_transport(app, &at.caller.tenant, &at.found, &at.caller).await
    {
        return Err(Problem::LegacySseTransport);
    }
    Ok(())
}

/// Stores a session that the server has opened, or deletes one that it has closed. Returns our id for the answer.
async fn follow_session(
    app: &App,
    inbound: &Inbound<'_>,
    allowed: &Allowed,
    known: Option<&Upstream>,
    answer: &reqwest::Response,
) -> Result<Option<SecretString>, Problem> {
    let status = answer.status();
    if let Some((_, session)) = &allowed.session
        && inbound.is_sent_by(&Method::DELETE)
        && (status.is_success() || status.as_u16() == 404)
    {
        let closed = proxy::close_session(app, &allowed.at.caller, session).await?;
        if !closed {
            return Err(Error::Contended.into());
        }
    }
    let theirs = answer.headers().get(mcp::SESSION_HEADER);
    let theirs = theirs.and_then(|id| id.to_str().ok());
    let Some(theirs) = theirs.filter(|_| !inbound.modern) else {
        return Ok(None);
    };
    if let Some((ours, _)) = &allowed.session {
        // The server repeats the id.
        let known = known.and_then(|known| known.id.as_ref());
        let is_known = known.is_some_and(|known| known.expose_secret() == theirs);
        return Ok(is_known.then(|| ours.clone().into()));
    }
    if !inbound.initializes() || !status.is_success() {
        return Ok(None);
    }
    // To the clients of a Kambrium connection a session is over with its credential.
    let resumes = !permission::is_kambrium(&allowed.at.caller);
    let said: Option<Value> = resumes.then(|| params(inbound.body()));
    let ours = proxy::keep_session(app, &allowed.at, theirs, said.as_ref()).await?;
    Ok(Some(ours))
}

/// The response for the caller. `hiding` is the connection, if it hides tools.
async fn relayed(
    mut response: Response<()>,
    answer: reqwest::Response,
    over: EndSignal,
    hiding: Option<&Connection>,
    content: Option<&Content>,
) -> Result<Response<Streamed>, Problem> {
    let status = answer.status();
    let is_stream = is_event_stream(answer.headers());
    let may_list = is_stream || content == Some(&Content::Tools);
    let Some(connection) = hiding.filter(|_| may_list) else {
        return Ok(response.map(|()| Relay::new(answer, over).boxed()));
    };
    // A response that cannot be decoded might list hidden tools.
    let decoder = Decoder::of(answer.headers()).map_err(|_| Problem::ToolsUnreadable)?;
    response.headers_mut().remove(CONTENT_ENCODING);
    let relay = Relay::new(answer, over).decoded(decoder);
    let body = if is_stream {
        relay.filtered(Filter::new(connection)).boxed()
    } else {
        http::buffered(tool_filter::rewritten(status, relay, connection).await?)
    };
    Ok(response.map(|()| body))
}

/// Forwards a call. It is not cancelled when it is no longer permitted, since a refresh may be under way, but then its
/// response is dropped.
async fn forward(
    app: &App,
    at: &Permitted<ServerAndRecords>,
    call: Call,
    over: &mut EndSignal,
) -> Result<Result<reqwest::Response, Refusal>, Problem> {
    let sent = pin!(proxy::forward(app, &at.caller.tenant, &at.found, call));
    match select(sent, over).await {
        Either::Left((answer, _)) => Ok(answer?),
        Either::Right((_, sent)) => {
            drop(sent.await?);
            Err(Error::Contended.into())
        }
    }
}
