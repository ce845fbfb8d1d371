//! An MCP server in process that answers as it is told and remembers everything, and how tests call one through Hawser.

use crate::harness::{Answer, Browser, Caller, Hawser};
use crate::issuer::{Gate, Issuer};
use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;
use hawser_core::domain::id::ServerId;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::Error;
use std::panic::Location;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

pub const MCP: &str = "/api/svc/v1/mcp";
pub const MODERN: (&str, &str) = ("mcp-protocol-version", "2026-07-28");
pub const SESSION: &str = "mcp-session-id";

/// A running MCP server. Without a reply of its own a request gets an empty result.
#[derive(Clone)]
pub struct Upstream {
    pub url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    seen: Vec<Seen>,
    replies: VecDeque<Reply>,
    sessions: usize,
    tools: Option<Value>,
    by: Option<Answering>,
}

type Answering = Box<dyn FnMut(&Seen) -> Reply + Send>;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// What is answered.
pub struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: UnsyncBoxBody<Bytes, Error>,
    hold: Option<Arc<Gate>>,
}

/// A piece of a stream, or that there is none yet, or no more.
pub type Piece = Poll<Option<Result<Bytes, Error>>>;

struct Generated<F>(F);

impl<F: FnMut(&mut Context<'_>) -> Piece + Unpin> Body for Generated<F> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let piece = (self.0)(context);
        piece.map(|piece| piece.map(|bytes| bytes.map(Frame::data)))
    }
}

/// The test's end of a stream.
pub struct Events(mpsc::UnboundedSender<Result<Bytes, Error>>);

impl Events {
    pub fn send(&self, event: impl Into<Bytes>) {
        self.0.send(Ok(event.into())).unwrap();
    }

    /// Breaks the connection off once what was sent has gone out.
    pub fn break_off(self) {
        self.0.send(Err(Error::other("broken off"))).unwrap();
    }

    /// Resolves when the server lets go of its answer, because its connection has ended.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

impl Seen {
    /// Its body, if that is JSON.
    pub fn message(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter().filter(|(n, _)| n == name);
        let first = all.next().map(|(_, value)| value.as_str());
        assert!(all.next().is_none(), "{name} came twice: {self:?}");
        first
    }
}

impl Reply {
    pub fn new(status: u16, headers: Vec<(&'static str, String)>, body: impl Into<Bytes>) -> Self {
        let body = Full::new(body.into()).map_err(|never| match never {});
        Self {
            status,
            headers,
            body: body.boxed_unsync(),
            hold: None,
        }
    }

    /// Adds a header.
    pub fn set(&mut self, name: &'static str, value: &str) {
        self.headers.push((name, value.to_owned()));
    }

    /// A stream of events, each piece of which is asked for when there is room for it.
    pub fn events(pieces: impl FnMut(&mut Context<'_>) -> Piece + Send + Unpin + 'static) -> Self {
        Self {
            status: 200,
            headers: vec![(
                "content-type",
                "text/event-stream; charset=utf-8".to_owned(),
            )],
            body: Generated(pieces).boxed_unsync(),
            hold: None,
        }
    }

    /// The same, whose pieces the test sends.
    pub fn stream() -> (Self, Events) {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let pieces = Self::events(move |context| receiver.poll_recv(context));
        (pieces, Events(sender))
    }

    /// The same answer as something else than events.
    pub fn of_type(mut self, kind: &str) -> Self {
        self.headers = vec![("content-type", kind.to_owned())];
        self
    }

    /// The same, once the gate is open.
    pub fn behind(mut self, gate: &Arc<Gate>) -> Self {
        self.hold = Some(gate.clone());
        self
    }
}

impl Upstream {
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1").await
    }

    /// One at another address of this machine.
    pub async fn start_at(ip: &str) -> Self {
        let listener = TcpListener::bind(format!("{ip}:0")).await.unwrap();
        let upstream = Self {
            url: format!("http://{}/mcp", listener.local_addr().unwrap()),
            state: Arc::default(),
        };
        let serving = upstream.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let upstream = serving.clone();
                let service = service_fn(move |request| {
                    let upstream = upstream.clone();
                    async move { Ok::<_, Infallible>(upstream.answer(request).await) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        upstream
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<UnsyncBoxBody<Bytes, Error>> {
        let (parts, body) = request.into_parts();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers = parts.headers.iter();
        let seen = Seen {
            method: parts.method.to_string(),
            path: parts.uri.to_string(),
            headers: headers
                .map(|(name, value)| (name.to_string(), text(value.as_bytes())))
                .collect(),
            body: body.collect().await.unwrap().to_bytes().into(),
        };
        let reply = {
            let mut state = self.state.lock().unwrap();
            state.seen.push(seen.clone());
            match state.replies.pop_front() {
                Some(reply) => reply,
                None => match state.by.take() {
                    Some(mut by) => {
                        let reply = by(&seen);
                        state.by = Some(by);
                        reply
                    }
                    None => state.default(&seen),
                },
            }
        };
        if let Some(gate) = &reply.hold {
            gate.pass().await;
        }
        let mut response = Response::new(reply.body);
        *response.status_mut() = reply.status.try_into().unwrap();
        for (name, value) in reply.headers {
            response.headers_mut().append(name, value.parse().unwrap());
        }
        response
    }

    /// The next request without an answer of its own gets this one.
    pub fn reply(&self, reply: Reply) {
        self.state.lock().unwrap().replies.push_back(reply);
    }

    /// From now on these are its tools.
    pub fn has_tools(&self, tools: Value) {
        self.state.lock().unwrap().tools = Some(tools);
    }

    /// From now on requests without a reply of their own are answered by this.
    pub fn answers(&self, by: impl FnMut(&Seen) -> Reply + Send + 'static) {
        self.state.lock().unwrap().by = Some(Box::new(by));
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    pub fn count(&self) -> usize {
        self.state.lock().unwrap().seen.len()
    }

    pub fn last(&self) -> Seen {
        self.seen().pop().expect("nothing has arrived")
    }
}

impl State {
    fn default(&mut self, seen: &Seen) -> Reply {
        let message = seen.message();
        let mut headers = vec![("content-type", "application/json".to_owned())];
        if message["method"] == "initialize" {
            self.sessions += 1;
            headers.push((SESSION, format!("theirs-{}", self.sessions)));
        } else if let Some(id) = seen.header(SESSION) {
            headers.push((SESSION, id.to_owned()));
        }
        let mut body = json!({"jsonrpc": "2.0", "id": message["id"], "result": {}});
        match &self.tools {
            Some(tools) if message["method"] == "tools/list" => {
                body["result"]["tools"] = tools.clone()
            }
            _ => {}
        }
        Reply::new(200, headers, body.to_string())
    }
}

/// A server that answers its first call with these bytes and closes the connection.
pub async fn raw(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut request, mut read) = (Vec::new(), [0; 4096]);
        while !request.ends_with(b"}") {
            let count = stream.read(&mut read).await.unwrap();
            request.extend_from_slice(&read[..count]);
        }
        stream.write_all(&answer).await.unwrap();
    });
    url
}

pub fn message(method: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": {}})
}

/// A user who may call servers and do nothing else.
pub fn user(hawser: &Hawser, name: &str) -> Caller {
    hawser.caller("acme", name, json!({"permissions": ["mcp-servers:invoke"]}))
}

/// Registers a server of tenant `acme`; its id.
pub async fn register(hawser: &Hawser, name: &str, url: &str, more: Value) -> String {
    let mut manifest =
        json!({"type": "mcp-server/remote", "name": name, "description": "d", "url": url});
    let fields = manifest.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    let body = json!({"manifest": manifest, "force": true});
    let made = hawser.admin("acme").put(MCP, body).await;
    assert_eq!(made.status, 200, "{made:?}");
    made.json()["data"]["id"].as_str().unwrap().to_owned()
}

/// Gives a server of `acme` an address that could not be registered, as if that had been possible once.
pub async fn plant(hawser: &Hawser, mcp: &str, url: &str) {
    let id = ServerId::parse_prefixed(mcp).unwrap();
    let update = hawser.ground().dynamodb().update_item();
    let update = update
        .table_name(hawser_local::TABLE)
        .key("PK", AttributeValue::S("T#acme".to_owned()))
        .key("SK", AttributeValue::S(format!("S#{}", id.ulid())))
        .condition_expression("attribute_exists(PK)")
        .update_expression("SET #u = :u")
        .expression_attribute_names("#u", "url")
        .expression_attribute_values(":u", AttributeValue::S(url.to_owned()));
    update.send().await.unwrap();
}

pub async fn install(hawser: &Hawser, mcp: &str, user: &str, own: Value) {
    let body = json!({"subjectId": user, "subjectType": "user", "authOverride": own});
    let admin = hawser.admin("acme");
    let answer = admin.put(&format!("{MCP}/{mcp}/auth"), body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

pub fn own(value: &str) -> Value {
    json!({"type": "header", "headerValue": value})
}

pub async fn disconnect(hawser: &Hawser, mcp: &str, user: &str, source: &str) {
    let body = json!({"authSource": source, "subjectId": user, "subjectType": "user"});
    let admin = hawser.admin("acme");
    let answer = admin.delete_with(&format!("{MCP}/{mcp}/auth"), body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

pub async fn call(caller: &Caller, server: &str) -> Answer {
    send(caller, server, &[MODERN], message("tools/list")).await
}

/// A request that is no part of a handshake and calls no tool.
pub async fn ask(caller: &Caller, server: &str) -> Answer {
    send(caller, server, &[MODERN], message("resources/list")).await
}

/// Asserts that a request reaches its server and is answered by that: it is none that Hawser answers itself.
#[track_caller]
pub fn is_served(caller: &Caller, server: &str) -> impl Future<Output = ()> {
    let from = Location::caller();
    async move {
        let answer = ask(caller, server).await;
        assert_eq!(answer.status, 200, "{from}: {answer:?}");
        let said = answer.json();
        let is_result = said["result"].is_object() && said.get("error").is_none();
        assert!(is_result, "{from}: {answer:?}");
    }
}

/// The address in the text of a tool's result that tells a caller to connect.
pub fn told(answer: &Answer) -> Option<String> {
    let result = answer.json()["result"].clone();
    assert_eq!(
        (answer.status, &result["isError"]),
        (200, &json!(true)),
        "{answer:?}"
    );
    let text = result["content"][0]["text"].as_str().unwrap();
    let address = text
        .split_whitespace()
        .find(|word| word.contains("/oauth/start?session="));
    address.map(str::to_owned)
}

pub async fn send(caller: &Caller, server: &str, headers: &[(&str, &str)], body: Value) -> Answer {
    let path = format!("/mcp/{server}");
    caller
        .send("POST", &path, headers, body.to_string().into())
        .await
}

/// Opens a session; its id.
pub async fn initialize(caller: &Caller, server: &str) -> String {
    let answer = send(caller, server, &[], message("initialize")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.header(SESSION).expect("no session")
}

pub fn per_user() -> Value {
    json!({"auth_data": {"type": "header", "auth_level": "per_user", "headers": {"X-Key": "Key {{KEY}}"}}})
}

/// Asserts that a call was refused in these words, and with its own id.
#[track_caller]
pub fn is_refused(answer: &Answer, status: u16, code: i64, message: &str, data: Value) {
    let mut error = json!({"code": code, "message": message});
    if !data.is_null() {
        error["data"] = data;
    }
    answer.is(status, json!({"jsonrpc": "2.0", "id": 7, "error": error}));
    for (name, expected) in [
        ("content-type", "application/json"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(answer.header(name).as_deref(), Some(expected));
    }
}

/// Sends a call on a connection of its own and returns with the head of its answer.
pub async fn open(
    hawser: &Hawser,
    caller: &Caller,
    method: &str,
    mcp: &str,
    headers: &[(&str, &str)],
) -> reqwest::Response {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let method = method.parse().unwrap();
    let mut request = http.request(method, format!("{}/mcp/{mcp}", hawser.url));
    for (name, value) in &caller.headers {
        request = request.header(*name, value);
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(message("tools/call").to_string());
    soon(request.send()).await.unwrap()
}

/// What must not take long.
pub async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work)
        .await
        .expect("it takes too long")
}

/// Switches the only connection.
pub async fn switch(hawser: &Hawser, on: bool) {
    let admin = hawser.admin("acme");
    let number = admin.get("/api/v1/mcp-servers").await.json()["data"][0]["id"].to_string();
    let path = format!("/api/v1/mcp-servers/{number}");
    let answer = admin.put(&path, json!({"agent_enabled": on})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

pub fn session_gone(id: &str) -> Value {
    json!({"error": "Invalid session ID", "session_id": id, "reinitialize_required": true})
}

#[track_caller]
pub fn is_session_gone(answer: &Answer, session: &str) {
    is_refused(
        answer,
        404,
        -32000,
        "Authentication failed",
        session_gone(session),
    );
}

pub fn oauth() -> Value {
    json!({"auth_data": {"type": "oauth2"}})
}

/// The address at which a user of `acme` starts a consent.
pub async fn consent_url(hawser: &Hawser, mcp: &str, name: &str) -> String {
    let path = format!("{MCP}/{mcp}/authorize");
    let asked = user(hawser, name).get(&path).await;
    let url = asked.json()["authorization_endpoint"].clone();
    let url = url.as_str().unwrap_or_else(|| panic!("{asked:?}"));
    url.to_owned()
}

/// Connects a user of `acme` by consent.
pub async fn connect(hawser: &Hawser, issuer: &Issuer, mcp: &str, name: &str) {
    consent(issuer, &consent_url(hawser, mcp, name).await).await;
}

pub async fn consent(issuer: &Issuer, url: &str) {
    let mut browser = Browser::new();
    let at_issuer = browser.begin(url).await;
    let page = browser.open(&issuer.approve(&at_issuer).await).await;
    assert_eq!(page.status, 200, "{page:?}");
}
