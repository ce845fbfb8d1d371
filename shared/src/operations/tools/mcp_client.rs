//! An MCP client that lists the tools of a server, in both revisions of the protocol (MCP authorization 8).
//!
//! A stateless request comes first. Servers with sessions refuse it in different ways, so after any refusal that is not
//! specific to stateless servers the client opens a session, once.

use super::{BYTES_LIMIT, Failure, TOOLS_LIMIT};
use crate::domain::address::origin;
use crate::domain::event::Who;
use crate::domain::id::TenantId;
use crate::domain::tool::{Object, Tool};
use crate::egress::coding::Decoder;
use crate::mcp::{self, SESSION_HEADER};
use crate::operations::credentials::ServerAndRecords;
use crate::operations::proxy::{self, Call, Refusal};
use crate::sse::{Events, is_event_stream};
use crate::state::app::App;
use crate::state::cache::locked;
use bytes::Bytes;
use reqwest::header::HeaderMap;
use reqwest::{Method, Response};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// The time limit for closing a session.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// The time limit for detecting the HTTP+SSE transport.
const SSE_DETECTION_TIMEOUT: Duration = Duration::from_secs(3);
/// The maximum size of the first event of that transport.
const MAX_FIRST_EVENT_BYTES: usize = 16 << 10;

const LIST: &str = "tools/list";
const INITIALIZE: &str = "initialize";
const INITIALIZED: &str = "notifications/initialized";

/// Codes of errors that only a server of the stateless era gives.
const HEADER_MISMATCH: i64 = -32020;
const MISSING_CAPABILITY: i64 = -32021;
const UNSUPPORTED_VERSION: i64 = -32022;

/// A client of one server, for one list of its tools or the handshake of one session.
pub struct McpClient<'a> {
    app: &'a App,
    tenant: &'a TenantId,
    at: &'a ServerAndRecords,
    who: Who,
    end: Instant,
    /// Bytes that its answers may still have.
    left: usize,
    requests: u64,
}

/// What the handshake of a session agreed on; empty for stateless requests.
pub struct Session {
    /// The revision.
    pub version: String,
    /// Its id, if the server gave one.
    pub id: Option<SecretString>,
}

/// The response to a request.
enum Sent {
    Answer(Response),
    /// A refusal for want of a session, whatever its status.
    WantsSession,
}

/// The outcome of a request.
enum Reply {
    Result(Box<RawValue>),
    /// No result, and whether a server of the other era might say so.
    Refused {
        other_era: bool,
    },
}

/// The members of a JSON-RPC message that are read.
#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    id: Value,
    result: Option<Box<RawValue>>,
    error: Option<RpcError>,
}

#[derive(Deserialize)]
struct RpcError {
    code: i64,
    #[serde(default)]
    data: Value,
}

/// One page of the list.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    tools: Vec<Object>,
    next_cursor: Option<String>,
    /// Of the stateless era: anything but `complete` asks for something first.
    result_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Initialized {
    protocol_version: String,
}

impl<'a> McpClient<'a> {
    pub fn new(app: &'a App, tenant: &'a TenantId, at: &'a ServerAndRecords, who: Who) -> Self {
        Self {
            app,
            tenant,
            at,
            who,
            end: Instant::now() + app.listing_limit,
            left: BYTES_LIMIT,
            requests: 0,
        }
    }

    /// All tools. Servers are taken to be of the stateless era until they answer otherwise; that is remembered for as long as
    /// it serves (MCP authorization row 43).
    pub async fn tools(mut self) -> Result<Vec<Tool>, Failure> {
        let app = self.app;
        let origin = origin(&self.at.server.url);
        let with_sessions = || locked(&app.process_cache.with_sessions);
        let known = with_sessions().contains_key(&origin);
        if known {
            match self.list_in_session().await {
                Err(Failure::BadAnswer) => drop(with_sessions().remove(&origin)),
                answered => return answered,
            }
        }
        if let Some(tools) = self.pages(None).await? {
            return Ok(tools);
        }
        if known {
            // It has just refused a session.
            return Err(Failure::BadAnswer);
        }
        match self.list_in_session().await {
            Ok(tools) => {
                with_sessions().insert(origin, ());
                Ok(tools)
            }
            Err(Failure::BadAnswer) if self.uses_legacy_sse_transport().await => {
                Err(Failure::LegacySseTransport)
            }
            failed => failed,
        }
    }

    /// Whether the server offers its endpoint as an event, as no transport after 2024-11-05 does.
    pub async fn uses_legacy_sse_transport(&mut self) -> bool {
        self.end = self.end.min(Instant::now() + SSE_DETECTION_TIMEOUT);
        let asked = self.send(Method::GET, "", None, None).await;
        let Ok(Sent::Answer(mut answer)) = asked else {
            return false;
        };
        let headers = std::mem::take(answer.headers_mut());
        if !answer.status().is_success() || !is_event_stream(&headers) {
            return false;
        }
        let mut events = Events::new(MAX_FIRST_EVENT_BYTES);
        let mut decoder = Decoder::of(&headers).unwrap_or_default();
        while let Ok(Some(piece)) = self.piece(&mut answer, &mut decoder).await {
            let Ok(complete) = events.push(&piece) else {
                return false;
            };
            // Comments keep a connection open and say nothing.
            if let Some(event) = complete.iter().find(|event| event.data().is_some()) {
                return event.is_of("endpoint");
            }
        }
        false
    }

    async fn list_in_session(&mut self) -> Result<Vec<Tool>, Failure> {
        let params = json!({
            "protocolVersion": mcp::LAST_WITH_SESSIONS, "capabilities": {}, "clientInfo": mcp::client_info(),
        });
        let session = self.open_session(params).await?;
        let tools = self.pages(Some(&session)).await;
        self.close(session).await;
        tools?.ok_or(Failure::BadAnswer)
    }

    /// Opens a session by a handshake with these parameters.
    pub async fn open_session(&mut self, params: Value) -> Result<Session, Failure> {
        let (reply, headers) = self.ask(INITIALIZE, params, None).await?;
        let Reply::Result(result) = reply else {
            return Err(Failure::BadAnswer);
        };
        let agreed: Initialized = read(result.get())?;
        let id = headers.get(SESSION_HEADER);
        let session = Session {
            version: agreed.protocol_version,
            id: id.and_then(|id| id.to_str().ok()).map(SecretString::from),
        };
        let message = json!({"jsonrpc": "2.0", "method": INITIALIZED});
        let told = match mcp::is_revision(&session.version) {
            true => self
                .send(Method::POST, INITIALIZED, Some(&message), Some(&session))
                .await
                .map(drop),
            false => Err(Failure::BadAnswer),
        };
        match told {
            Ok(()) => Ok(session),
            Err(failure) => {
                self.close(session).await;
                Err(failure)
            }
        }
    }

    /// Closes a session. Failures are ignored.
    pub async fn close(&mut self, session: Session) {
        if session.id.is_some() {
            let end = std::mem::replace(&mut self.end, Instant::now() + CLOSE_TIMEOUT);
            let _ = self.send(Method::DELETE, "", None, Some(&session)).await;
            self.end = end;
        }
    }

    /// The list, page by page; `None` if the server seems to be of the other era.
    async fn pages(&mut self, session: Option<&Session>) -> Result<Option<Vec<Tool>>, Failure> {
        let mut tools = Vec::new();
        let mut cursor = None;
        loop {
            let mut params = json!({});
            if let Some(cursor) = &cursor {
                params["cursor"] = json!(cursor);
            }
            if session.is_none() {
                params["_meta"] = mcp::meta();
            }
            let page: Page = match self.ask(LIST, params, session).await? {
                (Reply::Result(result), _) => read(result.get())?,
                (Reply::Refused { other_era: true }, _)
                    if session.is_none() && cursor.is_none() =>
                {
                    return Ok(None);
                }
                (Reply::Refused { .. }, _) => return Err(Failure::BadAnswer),
            };
            for tool in &page.tools {
                tools.push(Tool::read(tool).ok_or(Failure::BadAnswer)?);
            }
            let is_complete = page.result_type.is_none_or(|kind| kind == "complete");
            let next = page.next_cursor.filter(|next| !next.is_empty());
            // A cursor that does not advance would loop for ever.
            if tools.len() > TOOLS_LIMIT || !is_complete || (next.is_some() && next == cursor) {
                return Err(Failure::BadAnswer);
            }
            if next.is_none() {
                return Ok(Some(tools));
            }
            cursor = next;
        }
    }

    /// Sends a request and reads until its answer is there; with that, the answer's headers.
    async fn ask(
        &mut self,
        method: &str,
        params: Value,
        session: Option<&Session>,
    ) -> Result<(Reply, HeaderMap), Failure> {
        self.requests += 1;
        let id = Value::from(self.requests);
        let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let asked = self
            .send(Method::POST, method, Some(&message), session)
            .await?;
        let Sent::Answer(mut answer) = asked else {
            return Ok((Reply::Refused { other_era: true }, HeaderMap::new()));
        };
        let headers = std::mem::take(answer.headers_mut());
        let status = answer.status().as_u16();
        // An outage and a limit are what they are; a server may well fail over a session that is not there.
        if matches!(status, 408 | 429 | 501..) {
            return Err(Failure::BadAnswer);
        }
        let reply = match self.message(answer, &headers, &id).await? {
            Some(Message {
                result: Some(result),
                ..
            }) if status < 300 => Reply::Result(result),
            Some(Message { error, .. }) => Reply::Refused {
                other_era: !error.is_some_and(|error| error.is_stateless()),
            },
            None if status < 300 => return Err(Failure::BadAnswer),
            None => Reply::Refused { other_era: true },
        };
        Ok((reply, headers))
    }

    /// Sends a message with the subject's credential.
    async fn send(
        &self,
        verb: Method,
        method: &str,
        message: Option<&Value>,
        session: Option<&Session>,
    ) -> Result<Sent, Failure> {
        let version = match session {
            Some(session) => Some(session.version.as_str()),
            None => matches!(method, LIST).then_some(mcp::STATELESS),
        };
        let call = Call {
            who: self.who.clone(),
            method: verb,
            headers: mcp::headers(method, version),
            body: message.map_or_else(Vec::new, |message| message.to_string().into_bytes()),
            session: session.and_then(|session| session.id.clone()),
            hops: 0,
            probes: session.is_none() && method == LIST,
            end: Some(self.end),
        };
        match proxy::forward(self.app, self.tenant, self.at, call).await? {
            Ok(answer) if answer.status().as_u16() == 403 => {
                Err(Failure::Refused(Refusal::NotAccepted {
                    consent_helps: false,
                }))
            }
            Ok(answer) => Ok(Sent::Answer(answer)),
            Err(Refusal::WantsSession) => Ok(Sent::WantsSession),
            Err(Refusal::Redirected(_)) => Err(Failure::BadAnswer),
            Err(refusal) => Err(Failure::Refused(refusal)),
        }
    }

    /// The message in an answer that answers the request of this id: the whole body, or an event of it. The rest of a stream
    /// is left.
    async fn message(
        &mut self,
        mut answer: Response,
        headers: &HeaderMap,
        id: &Value,
    ) -> Result<Option<Message>, Failure> {
        let answers = |text: &[u8]| {
            let text = str::from_utf8(text).unwrap_or_default();
            let message: Option<Message> = read(text).ok();
            // An error may come before the id was read.
            message.filter(|one| one.id == *id || (one.id.is_null() && one.error.is_some()))
        };
        let is_stream = is_event_stream(headers);
        let mut decoder = Decoder::of(headers).map_err(|_| Failure::BadAnswer)?;
        let mut events = Events::new(BYTES_LIMIT);
        let mut body = Vec::new();
        while let Some(piece) = self.piece(&mut answer, &mut decoder).await? {
            if !is_stream {
                body.extend_from_slice(&piece);
                continue;
            }
            for event in events.push(&piece).map_err(|_| Failure::BadAnswer)? {
                let message = event.data().and_then(|data| answers(data.as_bytes()));
                if message.is_some() {
                    return Ok(message);
                }
            }
        }
        let last = events.take().and_then(|event| event.data());
        Ok(last.map_or_else(|| answers(&body), |data| answers(data.as_bytes())))
    }

    /// The next piece of a body, decoded.
    async fn piece(
        &mut self,
        answer: &mut Response,
        decoder: &mut Option<Decoder>,
    ) -> Result<Option<Bytes>, Failure> {
        let unreachable = Failure::Refused(Refusal::Unreachable);
        let Ok(Ok(piece)) = timeout_at(self.end, answer.chunk()).await else {
            return Err(unreachable);
        };
        let piece = match (piece, decoder) {
            (Some(piece), Some(decoder)) => {
                let decoded = decoder.push(piece, self.left);
                Some(decoded.map_err(|_| Failure::BadAnswer)?)
            }
            (piece, _) => piece,
        };
        let length = piece.as_ref().map_or(0, Bytes::len);
        self.left = self.left.checked_sub(length).ok_or(Failure::BadAnswer)?;
        Ok(piece)
    }
}

impl RpcError {
    /// Whether only a server of the stateless era says this. One that names the revisions it supports, and all of them have
    /// sessions, is of the other.
    fn is_stateless(&self) -> bool {
        match self.code {
            HEADER_MISMATCH | MISSING_CAPABILITY => true,
            UNSUPPORTED_VERSION => {
                let supported = self.data["supported"].as_array();
                supported.is_none_or(|all| {
                    let mut all = all.iter().filter_map(Value::as_str);
                    all.any(mcp::is_stateless)
                })
            }
            _ => false,
        }
    }
}

/// Reads an object; a sequence would be read field by field.
fn read<T: for<'de> Deserialize<'de>>(json: &str) -> Result<T, Failure> {
    let object: Option<Object> = serde_json::from_str(json).ok();
    let read = object.and_then(|object| serde_json::from_str(object.get()).ok());
    read.ok_or(Failure::BadAnswer)
}
