//! `POST|GET|DELETE /mcp/{server}` and `/mcp/v1/{name}/mcp`: a call to an MCP server, passed on with the caller's stored
//! credential. The body goes through untouched in both directions; the answer is passed on as it comes.
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
use hawser_core::caller::Presented;
use hawser_core::domain::error::Error;
use hawser_core::domain::server::{Auth, Connection, GrantType, Server};
use hawser_core::domain::status::Reason;
use hawser_core::egress::coding::Decoder;
use hawser_core::mcp;
use hawser_core::operations::credentials::AtServer;
use hawser_core::operations::invoke::{self, Call, Refusal, Target, Watch};
use hawser_core::operations::{Permitted, consent, tools};
use hawser_core::sse::is_event_stream;
use lambda_http::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use lambda_http::http::{HeaderValue, Method};
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
    pass_on(app, request, who, &target, &message)
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
    let found = invoke::find(app, who, &target, None).await?;
    let permitted = found.permit(|caller, found| match found {
        Some(found) => permission::reach(caller, &found.at.server).map(drop),
        None => Ok(()),
    });
    Ok(permitted
        .ok()
        .and_then(|it| it.found)
        .map(|it| it.at.server))
}

/// Which server a path is that of.
fn target(path: &str) -> Option<Target> {
    if let Some(found) = capture("/mcp/{server}", path) {
        Some(Target::parse(&found["server"]))
    } else {
        let found = capture("/mcp/v1/{name}/mcp", path)?;
        Some(Target::Name(found["name"].clone()))
    }
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
            return Err(Problem::MethodNotAllowed("DELETE, GET, POST"));
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

/// Whether a request is of a revision without sessions.
fn is_modern(request: &Request) -> bool {
    http::header(request, "mcp-protocol-version").is_some_and(|one| mcp::is_stateless(&one))
}

async fn pass_on(
    app: &App,
    request: &Request,
    who: Presented,
    target: &Target,
    message: &Message,
) -> Result<Response<Streamed>, Problem> {
    let modern = is_modern(request);
    let initializes = !modern
        && *request.method() == Method::POST
        && message.method.as_deref() == Some("initialize");
    let named =
        http::header(request, mcp::SESSION_HEADER.as_str()).filter(|_| !modern && !initializes);
    let found = invoke::find(app, who.clone(), target, named.as_deref()).await?;
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
                Some(found) => permission::reach(caller, &found.at.server).map(drop),
                None => Ok(()),
            }
        })?
        .existing()?;
    let session = found.session.filter(|_| named.is_some());
    let at = Permitted {
        caller,
        found: found.at,
    };
    let connection = at.found.server.connection.clone();
    if !connection.agent_enabled {
        return Err(Problem::Disabled);
    }
    let reach = permission::reach(&at.caller, &at.found.server)?;
    let posts = *request.method() == Method::POST;
    let hides = !connection.allows_all_tools();
    // The body is parsed only if there is something to filter.
    let content = (hides || reach != Reach::All).then(|| read(request, posts));
    let watch = Watch::new(app, who, &at.found)?;
    if let Some(content) = &content {
        match tool_filter::refuse(app, &at, reach, content).await {
            Ok(()) => {}
            Err(Denied::Problem(problem)) => return Err(problem),
            Err(Denied::Refusal(refusal)) => return Err(refused(app, at, refusal).await?),
        }
        // The server may have taken its time to list its tools.
        if matches!(content, Content::Call(_)) {
            let now = watch.revalidate().await?.map(|server| server.connection);
            let is_same = |now: &Connection| {
                now.access_type == connection.access_type
                    && now.disabled_tools == connection.disabled_tools
            };
            if !now.as_ref().is_some_and(is_same) {
                return Err(Error::Contended.into());
            }
        }
    }
    let upstream_session = match &session {
        Some(session) => Some(invoke::upstream_session(app, &at, session).await?),
        None => None,
    };
    let mut headers = headers::of_request(request);
    if posts && content.is_some() {
        // In no other encoding than the one in which it was read.
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let call = Call {
        who: (&at.caller).into(),
        method: request.method().clone(),
        headers,
        body: if posts {
            http::body(request).to_vec()
        } else {
            Vec::new()
        },
        session: upstream_session.clone(),
        hops: headers::hops(request),
        probes: false,
        end: None,
    };
    let mut over: Over = Box::pin(watch.until_revoked());
    let answer = forward(app, &at, call, &mut over).await?;
    let answer = match answer {
        Ok(answer) => answer,
        Err(refusal) => return Err(refused(app, at, refusal).await?),
    };
    let status = answer.status();
    // Statuses that nobody knows mean nothing to the caller, and some break the gateway between us.
    if status.canonical_reason().is_none() || status.is_informational() {
        return Err(Problem::Unreachable);
    }
    if initializes
        && matches!(status.as_u16(), 404 | 405)
        && tools::uses_legacy_sse_transport(app, &at.caller.tenant, &at.found, &at.caller).await
    {
        return Err(Problem::LegacySseTransport);
    }
    if let Some(session) = session
        .as_ref()
        .filter(|_| *request.method() == Method::DELETE)
        && (status.is_success() || status.as_u16() == 404)
    {
        invoke::close_session(app, &at.caller, session).await?;
    }
    let theirs = answer.headers().get(mcp::SESSION_HEADER);
    let theirs = theirs.and_then(|id| id.to_str().ok()).filter(|_| !modern);
    let ours = match (theirs, &upstream_session, named) {
        (Some(theirs), None, None) if initializes && status.is_success() => {
            Some(invoke::keep_session(app, &at, theirs).await?)
        }
        // The server repeats the id.
        (Some(theirs), Some(known), Some(ours)) if known.expose_secret() == theirs => {
            Some(SecretString::from(ours))
        }
        _ => None,
    };
    let is_stream = is_event_stream(answer.headers());
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = headers::of_answer(answer.headers(), ours.as_ref());
    if !hides || !is_stream && content != Some(Content::Tools) {
        return Ok(response.map(|()| Relay::new(answer, over).boxed()));
    }
    // A response that cannot be decoded might list hidden tools.
    let decoder = Decoder::of(answer.headers()).map_err(|_| Problem::ToolsUnreadable)?;
    response.headers_mut().remove(CONTENT_ENCODING);
    let relay = Relay::new(answer, over).decoded(decoder);
    let body = if is_stream {
        relay.filtered(Filter::new(&connection)).boxed()
    } else {
        http::buffered(tool_filter::rewritten(status, relay, &connection).await?)
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
    let sent = pin!(invoke::forward(app, &at.caller.tenant, &at.found, call));
    match select(sent, over).await {
        Either::Left((answer, _)) => Ok(answer?),
        Either::Right(((), sent)) => {
            drop(sent.await?);
            Err(Error::Contended.into())
        }
    }
}

/// Parses the body and rejects mismatched MCP headers.
fn read(request: &Request, posts: bool) -> Content {
    let content = if posts {
        Content::read(http::body(request))
    } else {
        Content::nothing()
    };
    if headers::contradict(request, content.mirrored()) {
        Content::Unclear
    } else {
        content
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
