//! The handshake of a client whose subject has no usable credential yet. Hawser answers it itself, so that the client keeps the
//! connection and can be told how to connect (Inbound 3.4, 3.5).

use super::inbound::Inbound;
use super::message::params;
use super::problem::Problem;
use super::relay::{EndSignal, Relay};
use super::{Allowed, rpc};
use crate::http::{Response, Streamed, buffered, empty, streamed};
use bytes::Bytes;
use hawser_core::App;
use hawser_core::domain::tool::Tool;
use hawser_core::mcp::{self, SESSION_HEADER};
use hawser_core::operations::proxy::{self, Ending};
use hawser_core::operations::tools;
use hawser_core::sse::event_of;
use lambda_http::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use lambda_http::http::{HeaderValue, Method, StatusCode};
use secrecy::ExposeSecret;
use serde::Serialize;
use serde_json::{Value, json};

/// The name of the one tool that is listed for a server whose tools are not known yet.
pub const CONNECT: &str = "connect";

const LIST_CHANGED: &str = "notifications/tools/list_changed";
const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// The answer to a message of the handshake; `None` for any other.
pub async fn answer(
    app: &App,
    inbound: &Inbound<'_>,
    allowed: &Allowed,
) -> Result<Option<Response<Streamed>>, Problem> {
    let id = &inbound.message.id;
    let answer = match inbound.asks() {
        // A notification, or an answer to something that nobody has asked.
        None if inbound.is_notice() => empty(202),
        None if inbound.is_sent_by(&Method::DELETE) => return closed(app, allowed).await,
        Some("initialize") if !inbound.modern => {
            return initialized(app, inbound, allowed).await.map(Some);
        }
        Some("server/discover") if inbound.modern => {
            rpc::result(id, &discovered(app, allowed), "discovered")
        }
        Some("ping") => rpc::result(id, &of_era(inbound, json!({})), "ping"),
        Some("tools/list") => listed(app, inbound, allowed).await?,
        _ => return Ok(None),
    };
    Ok(Some(streamed(answer)))
}

/// The answer to a notice that no server is told.
pub fn accepted() -> Response<Streamed> {
    streamed(empty(202))
}

/// The answer to a DELETE of a session whose server need not hear of it; `None` if it was opened there meanwhile.
pub async fn closed(app: &App, allowed: &Allowed) -> Result<Option<Response<Streamed>>, Problem> {
    let Some((_, session)) = &allowed.session else {
        return Ok(None);
    };
    let closed = proxy::close_session(app, &allowed.at.caller, session).await?;
    Ok(closed.then(|| streamed(empty(204))))
}

/// What a server says of itself that nobody has asked yet.
fn capabilities() -> Value {
    json!({"tools": {"listChanged": true}})
}

fn server_info(allowed: &Allowed) -> Value {
    json!({"name": allowed.at.found.server.name, "version": env!("CARGO_PKG_VERSION")})
}

fn instructions(allowed: &Allowed) -> String {
    let name = &allowed.at.found.server.name;
    format!("{name} is not connected yet. Call any of its tools to be told how to connect.")
}

/// A result with what the stateless era wants in each.
fn of_era(inbound: &Inbound<'_>, mut result: Value) -> Value {
    if inbound.modern {
        result["resultType"] = "complete".into();
    }
    result
}

async fn initialized(
    app: &App,
    inbound: &Inbound<'_>,
    allowed: &Allowed,
) -> Result<Response<Streamed>, Problem> {
    let said: Value = params(inbound.body());
    let wanted = said["protocolVersion"].as_str();
    let known = mcp::WITH_SESSIONS
        .into_iter()
        .find(|one| Some(*one) == wanted);
    let result = json!({
        "protocolVersion": known.unwrap_or(mcp::LAST_WITH_SESSIONS),
        "capabilities": capabilities(),
        "serverInfo": server_info(allowed),
        "instructions": instructions(allowed),
    });
    let ours = proxy::begin_session(app, &allowed.at, &said).await?;
    let ours = ours.ok_or(Problem::HandshakeTooLong)?;
    let mut response = rpc::result(&inbound.message.id, &result, "initialized");
    if let Ok(mut id) = HeaderValue::from_str(ours.expose_secret()) {
        id.set_sensitive(true);
        response.headers_mut().insert(SESSION_HEADER, id);
    }
    Ok(streamed(response))
}

fn discovered(app: &App, allowed: &Allowed) -> Value {
    // Hawser does not translate between the eras.
    let with_sessions = tools::wants_sessions(app, &allowed.at.found);
    let stateless = (!with_sessions).then_some(mcp::STATELESS);
    let versions: Vec<_> = stateless.into_iter().chain(mcp::WITH_SESSIONS).collect();
    json!({
        "resultType": "complete",
        "supportedVersions": versions,
        "capabilities": capabilities(),
        "instructions": instructions(allowed),
        "ttlMs": 0,
        "cacheScope": "private",
        "_meta": {"io.modelcontextprotocol/serverInfo": server_info(allowed)},
    })
}

/// A list of tools as its era wants it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<T> {
    tools: Vec<T>,
    #[serde(flatten)]
    of_era: Option<OfEra>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OfEra {
    result_type: &'static str,
    ttl_ms: u64,
    cache_scope: &'static str,
}

async fn listed(
    app: &App,
    inbound: &Inbound<'_>,
    allowed: &Allowed,
) -> Result<Response<lambda_http::Body>, Problem> {
    let of_era = inbound.modern.then_some(OfEra {
        result_type: "complete",
        ttl_ms: 0,
        cache_scope: "private",
    });
    let id = &inbound.message.id;
    let (tenant, at) = (&allowed.at.caller.tenant, &allowed.at.found);
    let shared = tools::last_shared(app, tenant, at).await?;
    let Some(mut tools) = shared else {
        let tools = vec![connect_tool(allowed)];
        return Ok(rpc::result(id, &List { tools, of_era }, "listed"));
    };
    tools.retain(|tool: &Tool| at.server.connection.allows_tool(tool));
    Ok(rpc::result(id, &List { tools, of_era }, "listed"))
}

fn connect_tool(allowed: &Allowed) -> Value {
    let name = &allowed.at.found.server.name;
    let text = format!(
        "{name} is not connected yet, so its own tools are not known. Call this to be told how to connect it; its tools are \
         listed then."
    );
    json!({
        "name": CONNECT,
        "description": text,
        "inputSchema": {"type": "object", "properties": {}},
        "annotations": {"title": format!("Connect {name}"), "readOnlyHint": true, "openWorldHint": false},
    })
}

/// The first event of a stream of our own, if that is what a request opens.
pub fn opening(inbound: &Inbound<'_>, allowed: &Allowed) -> Option<Bytes> {
    if inbound.is_sent_by(&Method::GET) {
        return allowed
            .session
            .as_ref()
            .map(|_| Bytes::from_static(b":\n\n"));
    }
    let listens = inbound.modern && inbound.asks() == Some("subscriptions/listen");
    listens.then(|| {
        let agreed = if inbound.subscribes_to_tools() {
            json!({"toolsListChanged": true})
        } else {
            json!({})
        };
        let params = json!({"notifications": agreed, "_meta": {SUBSCRIPTION: inbound.message.id}});
        let method = "notifications/subscriptions/acknowledged";
        event_of(&json!({"jsonrpc": "2.0", "method": method, "params": params})).into()
    })
}

/// A stream of our own, which says that the tools have changed when the subject is connected.
pub fn stream(opening: Bytes, over: EndSignal) -> Response<Streamed> {
    events(Relay::stream_of_ours(opening, over).boxed())
}

fn events(body: Streamed) -> Response<Streamed> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The answer to a GET of a session whose client was told of a consent that was done while no stream was open: what an open stream
/// would have said, and its end. The client opens the next one.
pub async fn caught_up(
    app: &App,
    allowed: &Allowed,
) -> Result<Option<Response<Streamed>>, Problem> {
    let Some((_, session)) = &allowed.session else {
        return Ok(None);
    };
    let done = proxy::take_done_elicitation(app, &allowed.at, session).await?;
    Ok(done.map(|consent| {
        let said = Farewell::Session.said(Ending::Connected(Some(consent)));
        events(buffered(said))
    }))
}

/// What an open stream of a client says last when its subject has been connected.
pub enum Farewell {
    /// To a stream of a session.
    Session,
    /// To a subscription of this id that asked for changes of tools.
    Subscription(Value),
    /// To anything else.
    None,
}

impl Farewell {
    /// What is said to this request's stream.
    pub fn of(inbound: &Inbound<'_>) -> Self {
        if inbound.is_sent_by(&Method::GET) {
            return Self::Session;
        }
        if inbound.subscribes_to_tools() {
            Self::Subscription(inbound.message.id.clone())
        } else {
            Self::None
        }
    }

    /// The events.
    pub fn said(self, ending: Ending) -> Bytes {
        let Ending::Connected(consent) = ending else {
            return Bytes::new();
        };
        match self {
            Self::None => Bytes::new(),
            Self::Session => {
                let done = consent.map(|consent| {
                    let params = json!({"elicitationId": consent});
                    event_of(&json!({
                        "jsonrpc": "2.0", "method": "notifications/elicitation/complete", "params": params,
                    }))
                });
                let changed = event_of(&json!({"jsonrpc": "2.0", "method": LIST_CHANGED}));
                (done.unwrap_or_default() + &changed).into()
            }
            Self::Subscription(id) => {
                let meta = json!({SUBSCRIPTION: id});
                let changed = event_of(&json!({
                    "jsonrpc": "2.0", "method": LIST_CHANGED, "params": {"_meta": meta},
                }));
                let result = json!({"resultType": "complete", "_meta": meta});
                let closed = event_of(&json!({"jsonrpc": "2.0", "id": id, "result": result}));
                (changed + &closed).into()
            }
        }
    }
}
