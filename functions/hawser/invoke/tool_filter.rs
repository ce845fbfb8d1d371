//! The tool filter of a connection: refuses calls of tools that the connection does not allow, and removes them from
//! tool lists (Kambrium 8, 15). Without a filter, messages are neither parsed nor changed.

use super::message::Content;
use super::permission::Reach;
use super::problem::Problem;
use bytes::Bytes;
use hawser_core::App;
use hawser_core::domain::json::Members;
use hawser_core::domain::server::Connection;
use hawser_core::domain::tool::{self, Tool};
use hawser_core::operations::Permitted;
use hawser_core::operations::credentials::ServerAndRecords;
use hawser_core::operations::proxy::Refusal;
use hawser_core::operations::tools::{self, CachePolicy, Failure, Tools};
use hawser_core::sse::{Event, Events};
use http_body_util::{BodyExt, Limited};
use hyper::body::Body;
use lambda_http::Error;
use lambda_http::http::StatusCode;
use serde_json::value::{RawValue, to_raw_value};

/// The maximum size of a list, and of an event, that is parsed.
const MAX_INSPECTED_BYTES: usize = 4 << 20;

/// Why a call is not forwarded.
pub enum Denied {
    /// For this problem.
    Problem(Problem),
    /// It was not sent, or the server has refused its credential.
    Refusal(Refusal),
}

impl Denied {
    /// Of a request of our own that failed. `bad_answer` says what the server should have answered.
    pub fn of(failure: Failure, bad_answer: Problem) -> Self {
        match failure {
            Failure::Refused(refusal) => Self::Refusal(refusal),
            Failure::BadAnswer => Self::Problem(bad_answer),
            Failure::LegacySseTransport => Self::Problem(Problem::LegacySseTransport),
            Failure::Failed(error) => Self::Problem(error.into()),
        }
    }
}

impl From<Problem> for Denied {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// Refuses a call of a tool that the connection or the caller's permissions do not allow, and whatever may be such a
/// call.
pub async fn refuse(
    app: &App,
    at: &Permitted<ServerAndRecords>,
    reach: Reach,
    content: &Content,
) -> Result<(), Denied> {
    let connection = &at.found.server.connection;
    let name = match content {
        Content::Tools | Content::Other(_) => return Ok(()),
        Content::Call(name) => name,
        Content::Unclear if connection.allows_all_tools() => return Err(Reach::exceeded().into()),
        Content::Unclear => return Err(not_offered("", &[], connection).into()),
    };
    let tools = match tools_including(app, at, name).await {
        Ok(tools) => tools.all,
        // That much is known without its list.
        Err(_) if connection.disabled_tools.contains(&tool::id_of(name)) => {
            return Err(not_offered(name, &[], connection).into());
        }
        Err(failure) => return Err(Denied::of(failure, Problem::ToolsUnreadable)),
    };
    // A server may list two tools of one name; which of them it will call is not known.
    let called: Vec<_> = tools.iter().filter(|tool| tool.name == *name).collect();
    let none = called.is_empty();
    if !connection.allows_all_tools()
        && (none || called.iter().any(|tool| !connection.allows_tool(tool)))
    {
        Err(not_offered(name, &tools, connection).into())
    } else if reach == Reach::ReadOnly && (none || called.iter().any(|tool| !tool.only_reads())) {
        Err(Reach::exceeded().into())
    } else {
        Ok(())
    }
}

fn not_offered(name: &str, tools: &[Tool], connection: &Connection) -> Problem {
    let offered = tools.iter().filter(|tool| connection.allows_tool(tool));
    Problem::ToolNotOffered {
        name: name.to_owned(),
        offered: offered.map(|tool| tool.name.clone()).collect(),
    }
}

/// The tools of a server, fetched again if the tool in question is not in the cached list.
async fn tools_including(
    app: &App,
    at: &Permitted<ServerAndRecords>,
    name: &str,
) -> Result<Tools, Failure> {
    let (caller, found) = (&at.caller, &at.found);
    let tools = tools::list(app, &caller.tenant, found, caller, CachePolicy::Cached).await?;
    let is_known = tools.all.iter().any(|tool| tool.name == name);
    if is_known || !tools.cached {
        return Ok(tools);
    }
    tools::list(app, &caller.tenant, found, caller, CachePolicy::Fresh).await
}

/// A message that may be a tool list could not be parsed.
#[derive(Debug)]
pub struct Unreadable;

/// The response to a request for the tool list, without the tools that the connection does not allow.
pub async fn rewritten(
    status: StatusCode,
    body: impl Body<Data = Bytes, Error = Error>,
    connection: &Connection,
) -> Result<Bytes, Problem> {
    let body = Limited::new(body, MAX_INSPECTED_BYTES).collect().await;
    let body = body.map_err(|_| Problem::ToolsUnreadable)?.to_bytes();
    let text = str::from_utf8(&body).map_err(|_| Unreadable);
    match text.and_then(|text| without_hidden(text, connection)) {
        Ok(Some(rewritten)) => Ok(rewritten.into()),
        Ok(None) => Ok(body),
        Err(Unreadable) if status.is_success() && !body.is_empty() => Err(Problem::ToolsUnreadable),
        // What went wrong is said in words that are no list.
        Err(Unreadable) => Ok(body),
    }
}

/// Filters an event stream, event by event. A list may come on any stream, since a server replays events that a caller
/// has missed.
pub struct Filter {
    events: Events,
    connection: Connection,
}

impl Filter {
    /// For the streams of a connection.
    pub fn new(connection: &Connection) -> Self {
        Self {
            events: Events::new(MAX_INSPECTED_BYTES),
            connection: connection.clone(),
        }
    }

    /// Takes a chunk of the stream and returns its filtered events.
    ///
    /// # Errors
    /// [`Unreadable`]: an event is too long to be looked into.
    pub fn push(&mut self, piece: &[u8]) -> Result<Vec<u8>, Unreadable> {
        let events = self.events.push(piece).map_err(|_| Unreadable)?;
        Ok(events.into_iter().flat_map(|one| self.shown(one)).collect())
    }

    /// The filtered rest, once the stream has ended.
    pub fn finish(&mut self) -> Vec<u8> {
        let last = self.events.take();
        last.map_or_else(Vec::new, |last| self.shown(last))
    }

    fn shown(&self, event: Event) -> Vec<u8> {
        let data = event.data().filter(|data| !data.is_empty());
        let shown = match data.map(|data| without_hidden(&data, &self.connection)) {
            // A list that this parser does not see must not be one to the caller's.
            None | Some(Ok(None)) => event.with_line_feeds(),
            Some(Ok(Some(data))) => event.with_data(&data),
            Some(Err(Unreadable)) => return Vec::new(),
        };
        shown.into_bytes()
    }
}

/// A JSON-RPC message, or a batch of them, without the tools that a connection does not offer, on one line; `None` if it has
/// none to leave out.
fn without_hidden(text: &str, connection: &Connection) -> Result<Option<String>, Unreadable> {
    let message: Box<RawValue> = parsed(text)?;
    let rewritten = each_of_batch(&message, &|message| {
        each_of_name(message, "result", &|result| {
            each_of_name(result, "tools", &|tools| offered(tools, connection))
        })
    })?;
    // Between the parts of JSON an end of line is a blank, and inside of them there is none.
    Ok(rewritten.map(|message| message.get().replace(['\n', '\r'], " ")))
}

type Rewritten = Result<Option<Box<RawValue>>, Unreadable>;

/// The allowed tools of a list. Elements that are not valid tools are removed.
fn offered(list: &RawValue, connection: &Connection) -> Rewritten {
    if !list.get().starts_with('[') {
        return Ok(None);
    }
    let mut tools: Vec<Box<RawValue>> = parsed(list.get())?;
    let before = tools.len();
    tools.retain(|tool| {
        let object = serde_json::from_str(tool.get()).ok();
        let tool = object.as_ref().and_then(Tool::read);
        tool.is_some_and(|tool| connection.allows_tool(&tool))
    });
    (tools.len() < before).then(|| raw(&tools)).transpose()
}

/// Rewrites each message of a batch, or the one that there is.
fn each_of_batch(message: &RawValue, rewrite: &dyn Fn(&RawValue) -> Rewritten) -> Rewritten {
    if !message.get().starts_with('[') {
        return rewrite(message);
    }
    let mut batch: Vec<Box<RawValue>> = parsed(message.get())?;
    let mut changed = false;
    for message in &mut batch {
        if let Some(rewritten) = rewrite(message)? {
            (*message, changed) = (rewritten, true);
        }
    }
    changed.then(|| raw(&batch)).transpose()
}

/// Rewrites each member of this name, in whatever case, of what is an object.
fn each_of_name(
    object: &RawValue,
    name: &str,
    rewrite: &dyn Fn(&RawValue) -> Rewritten,
) -> Rewritten {
    if !object.get().starts_with('{') {
        return Ok(None);
    }
    let mut members: Members = parsed(object.get())?;
    let mut changed = false;
    for (spelt, value) in &mut members.0 {
        if spelt.eq_ignore_ascii_case(name)
            && let Some(rewritten) = rewrite(value)?
        {
            (*value, changed) = (rewritten, true);
        }
    }
    changed.then(|| raw(&members)).transpose()
}

fn parsed<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Unreadable> {
    serde_json::from_str(text).map_err(|_| Unreadable)
}

fn raw(value: &impl serde::Serialize) -> Result<Box<RawValue>, Unreadable> {
    to_raw_value(value).map_err(|_| Unreadable)
}
