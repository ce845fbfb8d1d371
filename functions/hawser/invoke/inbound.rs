//! A request to forward, read by the rules of its client's protocol revision. Since 2026-07-28 requests are stateless. Those of
//! earlier revisions belong to sessions, which get ids of ours.

use super::headers;
use super::message::{Content, Message, Params, params};
use super::problem::{Problem, Refused};
use crate::http::{self, Request};
use hawser_core::auth::credentials::Presented;
use hawser_core::domain::caller::Caller;
use hawser_core::operations::Unchecked;
use hawser_core::operations::proxy::{self, AtCall, Call, Target, Upstream};
use hawser_core::{App, mcp};
use lambda_http::http::header::CONTENT_TYPE;
use lambda_http::http::{HeaderValue, Method};
use std::sync::OnceLock;

/// Methods whose answer may wait for a person.
const MAY_WAIT: [&str; 3] = ["prompts/get", "resources/read", "tools/call"];

/// A request to forward.
pub struct Inbound<'a> {
    pub request: &'a Request,
    pub who: Presented,
    pub target: Target,
    pub message: Message,
    /// Whether the request is of a revision without sessions.
    pub modern: bool,
    params: OnceLock<Params>,
}

/// Whether a request is of a revision without sessions.
pub fn is_modern(request: &Request) -> bool {
    http::header(request, "mcp-protocol-version").is_some_and(|one| mcp::is_stateless(&one))
}

impl<'a> Inbound<'a> {
    pub fn new(request: &'a Request, who: Presented, target: Target) -> Self {
        Self {
            request,
            who,
            target,
            message: Message::read(http::body(request)),
            modern: is_modern(request),
            params: OnceLock::new(),
        }
    }

    /// Whether it is sent by this method of HTTP.
    pub fn is_sent_by(&self, method: &Method) -> bool {
        self.request.method() == method
    }

    /// The method of a message that wants an answer.
    pub fn asks(&self) -> Option<&str> {
        let method = self.message.method.as_deref();
        method.filter(|_| self.is_sent_by(&Method::POST) && !self.message.id.is_null())
    }

    /// Whether it is a notification, or an answer to a request of the server's: one message that wants no answer.
    pub fn is_notice(&self) -> bool {
        self.is_sent_by(&Method::POST) && self.asks().is_none() && self.message.is_one
    }

    /// Whether it opens a session.
    pub fn initializes(&self) -> bool {
        !self.modern
            && self.is_sent_by(&Method::POST)
            && self.message.method.as_deref() == Some("initialize")
    }

    /// Whether its answer may wait for a person.
    pub fn may_wait(&self) -> bool {
        self.asks().is_some_and(|method| MAY_WAIT.contains(&method))
    }

    /// What Hawser reads of its parameters, once that is needed.
    pub fn params(&self) -> &Params {
        self.params.get_or_init(|| params(self.body()))
    }

    /// Whether it is a subscription that wants to be told of other tools.
    pub fn subscribes_to_tools(&self) -> bool {
        self.modern
            && self.asks() == Some("subscriptions/listen")
            && self.params().notifications["toolsListChanged"] == true
    }

    /// Our id of the session that it names.
    pub fn session_id(&self) -> Option<String> {
        http::header(self.request, mcp::SESSION_HEADER.as_str())
            .filter(|_| !self.modern && !self.initializes())
    }

    /// The body of a POST; the body of any other request is ignored.
    pub fn body(&self) -> &'a [u8] {
        if self.is_sent_by(&Method::POST) {
            http::body(self.request)
        } else {
            &[]
        }
    }

    /// Reads all that it needs.
    pub async fn find(&self, app: &App) -> Result<Unchecked<Option<AtCall>>, Problem> {
        let session = self.session_id();
        let (who, target) = (self.who.clone(), &self.target);
        Ok(proxy::find(app, who, target, session.as_deref()).await?)
    }

    /// Parses the body and rejects mismatched MCP headers.
    pub fn content(&self) -> Content {
        let content = if self.is_sent_by(&Method::POST) {
            Content::read(self.body())
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
    pub fn call(
        &self,
        caller: &Caller,
        session: Option<&Upstream>,
        body: Vec<u8>,
        inspected: bool,
    ) -> Call {
        let mut headers = headers::of_request(self.request);
        if inspected && self.is_sent_by(&Method::POST) {
            // In no other encoding than the one in which it was read.
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let version = session.and_then(|session| session.version.as_deref());
        if let Some(Ok(version)) = version.map(HeaderValue::from_str) {
            headers.insert(mcp::VERSION_HEADER, version);
        }
        Call {
            who: caller.into(),
            method: self.request.method().clone(),
            headers,
            body,
            session: session.and_then(|session| session.id.clone()),
            hops: headers::hops(self.request),
            probes: false,
            end: None,
        }
    }

    /// Its refusal. `in_body`: the caller may be told in the body of a 200.
    pub fn refused(&self, problem: Problem, in_body: bool) -> Refused {
        Refused {
            problem,
            id: self.message.id.clone(),
            in_body,
            metadata: None,
        }
    }
}
