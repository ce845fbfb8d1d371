//! `POST|GET|DELETE /mcp/{server}` and `/mcp/v1/{name}/mcp`: a call to an MCP server, passed on with the caller's stored
//! credential. The body goes through untouched in both directions; the answer is passed on as it comes.
//!
//! Requests from 2026-07-28 on stand alone. Those of earlier revisions have sessions, which get ids of ours.

mod headers;
mod permission;
mod problem;
mod relay;

pub use problem::Refused;

use crate::http::{self, Request, Response, Streamed};
use crate::route::capture;
use hawser_core::App;
use hawser_core::caller::Presented;
use hawser_core::domain::error::Error;
use hawser_core::domain::server::{Auth, GrantType};
use hawser_core::domain::status::Reason;
use hawser_core::operations::credentials::AtServer;
use hawser_core::operations::invoke::{self, Call, Refusal, Target, Watch};
use hawser_core::operations::{Permitted, consent};
use lambda_http::http::Method;
use problem::Problem;
use relay::Relay;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;

/// The largest body that is passed on, in bytes.
const BODY_LIMIT: usize = 4 << 20;
/// The first revision without sessions.
const MODERN: &str = "2026-07-28";

/// What has to be known of a JSON-RPC message.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message {
    id: Value,
    method: Option<String>,
    params: Value,
}

impl Message {
    /// Reads a body; what is no single message has neither id nor method.
    fn read(body: &[u8]) -> Self {
        // A sequence would be read field by field.
        let is_object = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
        let body = if is_object { body } else { b"{}" };
        let mut message: Self = serde_json::from_slice(body).unwrap_or_default();
        if !message.id.is_string() && !message.id.is_number() {
            message.id = Value::Null;
        }
        message
    }
}

/// Answers what the MCP server answers, whatever its status, or says in JSON-RPC why it was not asked.
///
/// # Errors
/// [`Refused`].
pub async fn handle(app: &App, request: &Request) -> Result<Response<Streamed>, Refused> {
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
        })
}

/// Route and method, then the origin, then the credentials.
async fn admit(app: &App, request: &Request) -> Result<(Presented, Target), Problem> {
    let path = request.uri().path();
    let target = if let Some(found) = capture("/mcp/{server}", path) {
        Target::parse(&found["server"])
    } else if let Some(found) = capture("/mcp/v1/{name}/mcp", path) {
        Target::Name(found["name"].clone())
    } else {
        return Err(Problem::PathNotFound);
    };
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
    Ok((http::present_any(app, request).await?, target))
}

/// Whether a request is of a revision without sessions. Revisions are dates and sort as text.
fn is_modern(request: &Request) -> bool {
    http::header(request, "mcp-protocol-version").is_some_and(|version| {
        let is_date = version.bytes().enumerate().all(|(i, b)| match i {
            4 | 7 => b == b'-',
            _ => b.is_ascii_digit(),
        });
        is_date && version.len() == MODERN.len() && version.as_str() >= MODERN
    })
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
        http::header(request, invoke::SESSION_HEADER.as_str()).filter(|_| !modern && !initializes);
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
                Some(found) => permission::may_invoke(caller, &found.at.server, request, message),
                None => Ok(()),
            }
        })?
        .existing()?;
    let session = found.session.filter(|_| named.is_some());
    let at = Permitted {
        caller,
        found: found.at,
    };
    if !at.found.server.connection.agent_enabled {
        return Err(Problem::Disabled);
    }
    permission::refuse_tools(&at.found.server.connection, request, message)?;
    let upstream_session = match &session {
        Some(session) => Some(invoke::upstream_session(app, &at, session).await?),
        None => None,
    };
    let call = Call {
        method: request.method().clone(),
        headers: headers::of_request(request),
        body: match *request.method() {
            Method::POST => http::body(request).to_vec(),
            _ => Vec::new(),
        },
        session: upstream_session.clone(),
    };
    let watch = Watch::new(app, who, &at.found)?;
    let answer = match invoke::exchange(app, &at, call).await? {
        Ok(answer) => answer,
        Err(refusal) => return Err(refused(app, at, refusal).await?),
    };
    let status = answer.status();
    if let Some(session) = session
        .as_ref()
        .filter(|_| *request.method() == Method::DELETE)
        && (status.is_success() || status.as_u16() == 404)
    {
        app.table.remove_mcp_session(session).await?;
    }
    let theirs = answer.headers().get(invoke::SESSION_HEADER);
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
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = headers::of_answer(answer.headers(), ours.as_ref());
    Ok(response.map(|()| Relay::new(answer, watch).boxed()))
}

/// Our own words for why there is no answer, with the address where a consent starts if that helps.
async fn refused(app: &App, at: Permitted<AtServer>, refusal: Refusal) -> Result<Problem, Problem> {
    let by_consent = matches!(
        &at.found.server.auth,
        Auth::Oauth(oauth) if oauth.grant_type == GrantType::AuthorizationCode
    );
    let mut wanted = None;
    let (reason, consent_helps) = match refusal {
        Refusal::Unreachable => return Ok(Problem::Unreachable),
        Refusal::Passthrough => return Ok(Problem::Passthrough),
        Refusal::NoCredential(reason) => (reason.as_str(), by_consent),
        Refusal::NotAccepted { consent_helps } => ("credential_refused", consent_helps),
        Refusal::ScopeInsufficient { besides } => {
            wanted = besides;
            (Reason::ScopeInsufficient.as_str(), wanted.is_some())
        }
    };
    let mut consent_url = None;
    // A function of its own is reached at another address than the pages of a consent.
    if let Some(base) = app.public_urls.first().filter(|_| consent_helps) {
        let server = Permitted {
            caller: at.caller,
            found: at.found.server,
        };
        consent_url = match consent::offer(app, &server, base, None, wanted).await {
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
