//! `POST|GET|DELETE /mcp/{server}` and `/mcp/v1/{name}/mcp`: a call to an MCP server, passed on with the caller's stored
//! credential. The body goes through untouched in both directions; the answer is passed on as it comes. `/mcp` and
//! `/{integration}/mcp` are for credentials that are bound to one connection (Kambrium 13.1).
//!
//! Requests from 2026-07-28 on stand alone. Those of earlier revisions have sessions, which get ids of ours.

#[cfg(feature = "fuzzing")]
mod fuzzing;
mod headers;
mod message;
mod permission;
mod problem;
mod relay;
mod tool_filter;

#[cfg(feature = "fuzzing")]
pub use fuzzing::{Looked, filtered, look_into};
pub use problem::Refused;

use super::resource::metadata_url;
use crate::http::{self, Request, Response, Streamed};
use crate::route::capture;
use futures_util::future::{Either, select};
use hawser_core::App;
use hawser_core::auth::credentials::Presented;
use hawser_core::domain::caller::Caller;
use hawser_core::domain::error::Error;
use hawser_core::domain::mcp_session::McpSession;
use hawser_core::domain::reason::Reason;
use hawser_core::domain::server::{Auth, Connection, GrantType, Server};
use hawser_core::egress::coding::Decoder;
use hawser_core::mcp;
use hawser_core::operations::credentials::AtServer;
use hawser_core::operations::proxy::{self, Call, Refusal, Target, Watch};
use hawser_core::operations::{Permitted, consent, tools};
use hawser_core::sse::is_event_stream;
use lambda_http::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use lambda_http::http::{HeaderValue, Method, StatusCode};
use message::{Content, Message};
use permission::Reach;
use problem::Problem;
use relay::{Over, Relay};
use secrecy::{ExposeSecret, SecretString};
use std::pin::pin;
use tool_filter::{Denied, Filter};

/// The largest body that is passed on, in bytes.
const BODY_LIMIT: usize = 4 << 20;

/// Returns the MCP server's response, whatever its status, or a JSON-RPC error that says why the server was not called.
///
/// # Errors
/// [`Refused`].
pub async fn handle(app: &App, request: &Request) -> Result<Response<Streamed>, Refused> {
    let answered = answer(app, request).await;
    answered.map_err(|refused| refused.from_resource(metadata_url(app, request)))
}

async fn answer(app: &App, request: &Request) -> Result<Response<Streamed>, Refused> {
    let (who, target) = admit(app, request).await?;
    let body = http::body(request);
    if body.len() > BODY_LIMIT {
        app.identify(who).await.map_err(Problem::from)?;
        return Err(Problem::TooLarge.into());
    }
    let message = Message::read(body);
    pass_on(app, &Inbound::new(request, &message), who, &target)
        .await
        .map_err(|problem| Refused {
            problem,
            id: message.id,
            metadata: None,
        })
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
    Ok((http::present_any(app, request).await?, target))
}

/// What a path names.
fn target(path: &str) -> Option<Target> {
    if let Some(found) = capture("/mcp/{server}", path) {
        Some(Target::parse(&found["server"]))
    } else if let Some(found) = capture("/mcp/v1/{name}/mcp", path) {
        Some(Target::Name(found["name"].clone()))
    } else {
        (path == "/mcp" || integration(path).is_some()).then_some(Target::Bound)
    }
}

/// The integration that a path names.
fn integration(path: &str) -> Option<String> {
    let of_host = || capture("/{integration}/mcp", path).filter(|_| !path.starts_with("/mcp/"));
    let mut found = capture("/mcp/{integration}/mcp", path).or_else(of_host)?;
    found.remove("integration")
}

/// Whether a path names the integration of a connection, or none.
fn names(path: &str, connection: &Connection) -> bool {
    integration(path).is_none_or(|named| connection.integration == Some(named))
}

/// Whether a request is of a revision without sessions.
fn is_modern(request: &Request) -> bool {
    http::header(request, "mcp-protocol-version").is_some_and(|one| mcp::is_stateless(&one))
}

/// A request to forward, and what its revision makes of it.
struct Inbound<'a> {
    request: &'a Request,
    message: &'a Message,
    /// Of a revision without sessions.
    modern: bool,
}

/// A call that its caller may make.
struct Allowed {
    at: Permitted<AtServer>,
    reach: Reach,
    /// The session that it names, by our id.
    session: Option<(String, McpSession)>,
}

impl<'a> Inbound<'a> {
    fn new(request: &'a Request, message: &'a Message) -> Self {
        Self {
            request,
            message,
            modern: is_modern(request),
        }
    }

    fn posts(&self) -> bool {
        *self.request.method() == Method::POST
    }

    fn initializes(&self) -> bool {
        !self.modern && self.posts() && self.message.method.as_deref() == Some("initialize")
    }

    fn session_id(&self) -> Option<String> {
        http::header(self.request, mcp::SESSION_HEADER.as_str())
            .filter(|_| !self.modern && !self.initializes())
    }

    /// Parses the body and rejects mismatched MCP headers.
    fn content(&self) -> Content {
        let content = if self.posts() {
            Content::read(http::body(self.request))
        } else {
            Content::nothing()
        };
        if headers::contradict(self.request, content.mirrored()) {
            Content::Unclear
        } else {
            content
        }
    }

    /// The call to forward. `inspected`: its body was parsed.
    fn call(&self, caller: &Caller, session: Option<SecretString>, inspected: bool) -> Call {
        let mut headers = headers::of_request(self.request);
        let mut body = Vec::new();
        if self.posts() {
            body = http::body(self.request).to_vec();
            if inspected {
                // In no other encoding than the one in which it was read.
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            }
        }
        Call {
            who: caller.into(),
            method: self.request.method().clone(),
            headers,
            body,
            session,
            hops: headers::hops(self.request),
            probes: false,
            end: None,
        }
    }
}

async fn pass_on(
    app: &App,
    inbound: &Inbound<'_>,
    who: Presented,
    target: &Target,
) -> Result<Response<Streamed>, Problem> {
    let allowed = allow(app, inbound, who.clone(), target).await?;
    let at = &allowed.at;
    let hides = !at.found.server.connection.allows_all_tools();
    // The body is parsed only if there is something to filter.
    let content = (hides || allowed.reach != Reach::All).then(|| inbound.content());
    let watch = Watch::new(app, who, &at.found)?;
    if let Some(content) = &content {
        match filter(app, &allowed, content, &watch).await {
            Ok(()) => {}
            Err(Denied::Problem(problem)) => return Err(problem),
            Err(Denied::Refusal(refusal)) => return Err(refused(app, allowed.at, refusal).await?),
        }
    }
    let upstream_session = match &allowed.session {
        Some((_, session)) => Some(proxy::upstream_session(app, at, session).await?),
        None => None,
    };
    let call = inbound.call(&at.caller, upstream_session.clone(), content.is_some());
    let mut over: Over = Box::pin(watch.until_revoked());
    let answer = match forward(app, at, call, &mut over).await? {
        Ok(answer) => answer,
        Err(refusal) => return Err(refused(app, allowed.at, refusal).await?),
    };
    require_usable(app, inbound, at, answer.status()).await?;
    let ours = follow_session(app, inbound, &allowed, upstream_session.as_ref(), &answer).await?;
    let connection = hides.then_some(&at.found.server.connection);
    relayed(answer, over, ours.as_ref(), connection, content.as_ref()).await
}

/// Finds what a call needs, and refuses a caller who may not make it.
async fn allow(
    app: &App,
    inbound: &Inbound<'_>,
    who: Presented,
    target: &Target,
) -> Result<Allowed, Problem> {
    let named = inbound.session_id();
    let found = proxy::find(app, who, target, named.as_deref()).await?;
    let now = app.now();
    let Permitted { caller, found } = found
        .permit(|caller, found| {
            if let Some(id) = &named {
                let live = found.as_ref().map(|found| found.live_session(now));
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
        session: named.zip(found.session),
        at: Permitted {
            caller,
            found: found.at,
        },
    })
}

/// Refuses what the connection or the caller's permissions do not allow.
async fn filter(
    app: &App,
    allowed: &Allowed,
    content: &Content,
    watch: &Watch,
) -> Result<(), Denied> {
    tool_filter::refuse(app, &allowed.at, allowed.reach, content).await?;
    // The server may have taken its time to list its tools.
    if matches!(content, Content::Call(_)) {
        let before = &allowed.at.found.server.connection;
        let now = watch.revalidate().await.map_err(Problem::from)?;
        let is_same = |now: &Connection| {
            now.access_type == before.access_type && now.disabled_tools == before.disabled_tools
        };
        if !now.is_some_and(|server| is_same(&server.connection)) {
            return Err(Problem::from(Error::Contended).into());
        }
    }
    Ok(())
}

/// Refuses an answer that no caller could use.
async fn require_usable(
    app: &App,
    inbound: &Inbound<'_>,
    at: &Permitted<AtServer>,
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
    known: Option<&SecretString>,
    answer: &reqwest::Response,
) -> Result<Option<SecretString>, Problem> {
    let status = answer.status();
    if let Some((_, session)) = &allowed.session
        && *inbound.request.method() == Method::DELETE
        && (status.is_success() || status.as_u16() == 404)
    {
        proxy::close_session(app, &allowed.at.caller, session).await?;
    }
    let theirs = answer.headers().get(mcp::SESSION_HEADER);
    let theirs = theirs.and_then(|id| id.to_str().ok());
    Ok(match (theirs.filter(|_| !inbound.modern), known) {
        (Some(theirs), None) if inbound.initializes() && status.is_success() => {
            Some(proxy::keep_session(app, &allowed.at, theirs).await?)
        }
        // The server repeats the id.
        (Some(theirs), Some(known)) if known.expose_secret() == theirs => allowed
            .session
            .as_ref()
            .map(|(ours, _)| ours.clone().into()),
        _ => None,
    })
}

/// The answer for the caller. `connection` is there if it hides tools.
async fn relayed(
    answer: reqwest::Response,
    over: Over,
    session: Option<&SecretString>,
    connection: Option<&Connection>,
    content: Option<&Content>,
) -> Result<Response<Streamed>, Problem> {
    let status = answer.status();
    let is_stream = is_event_stream(answer.headers());
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = headers::of_answer(answer.headers(), session);
    let may_list = is_stream || content == Some(&Content::Tools);
    let Some(connection) = connection.filter(|_| may_list) else {
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
    at: &Permitted<AtServer>,
    call: Call,
    over: &mut Over,
) -> Result<Result<reqwest::Response, Refusal>, Problem> {
    let sent = pin!(proxy::forward(app, &at.caller.tenant, &at.found, call));
    match select(sent, over).await {
        Either::Left((answer, _)) => Ok(answer?),
        Either::Right(((), sent)) => {
            drop(sent.await?);
            Err(Error::Contended.into())
        }
    }
}

/// The problem to return for a refusal, with the URL that starts a consent if that helps.
async fn refused(app: &App, at: Permitted<AtServer>, refusal: Refusal) -> Result<Problem, Problem> {
    let by_consent = matches!(
        &at.found.server.auth,
        Auth::Oauth(oauth) if oauth.grant_type == GrantType::AuthorizationCode
    );
    let mut wanted = None;
    let (reason, consent_helps) = match refusal {
        Refusal::Unreachable | Refusal::WantsSession => return Ok(Problem::Unreachable),
        Refusal::Redirected(to) => {
            let to = to.filter(|_| permission::manages(&at.caller, &at.found.server));
            return Ok(Problem::Redirected(to));
        }
        Refusal::Passthrough => return Ok(Problem::Passthrough),
        Refusal::NoCredential(reason) => (reason.as_str(), by_consent),
        Refusal::NotAccepted { consent_helps } => ("credential_refused", consent_helps),
        Refusal::ScopeInsufficient { additional_scopes } => {
            wanted = additional_scopes;
            (Reason::ScopeInsufficient.as_str(), wanted.is_some())
        }
    };
    let mut consent_url = None;
    // A function of its own is reached at another address than the pages of a consent. Who has no more than a connection's own
    // credentials is not sent to consent in its owner's place.
    let consents = consent_helps && at.caller.bound_to.is_none();
    if let Some(base) = app.public_urls.first().filter(|_| consents) {
        let server = Permitted {
            caller: at.caller,
            found: at.found.server,
        };
        consent_url = match consent::start_consent(app, &server, base, None, wanted).await {
            Ok(begun) => Some(begun.url),
            // The addresses handed out before go on serving.
            Err(Error::Contended | Error::TooManyConsents) => None,
            Err(error) => return Err(error.into()),
        };
    }
    Ok(Problem::NoCredential {
        reason,
        consent_url,
    })
}
