//! What a connection keeps back, from everyone: calls of tools that it does not offer are refused, and lists of tools leave
//! them out (Kambrium 8, 15). Where it keeps nothing back, nothing is looked at and nothing changed.

use super::message::Content;
use super::permission::Reach;
use super::problem::Problem;
use super::relay::Relay;
use bytes::Bytes;
use hawser_core::App;
use hawser_core::domain::json::Members;
use hawser_core::domain::server::Connection;
use hawser_core::domain::tool::{self, Tool};
use hawser_core::operations::Permitted;
use hawser_core::operations::credentials::AtServer;
use hawser_core::operations::invoke::Refusal;
use hawser_core::operations::tools::{self, Failure, Reading, Tools};
use hawser_core::sse::{Event, Events};
use http_body_util::{BodyExt, Limited};
use lambda_http::http::StatusCode;
use serde_json::value::{RawValue, to_raw_value};

/// The most bytes of a list, and of an event, that is looked into.
const LOOKED_INTO: usize = 4 << 20;

/// Why a call is not passed on.
pub enum Denied {
    /// For this.
    Problem(Problem),
    /// Its server does not even list its tools.
    Refusal(Refusal),
}

impl From<Problem> for Denied {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// Refuses a call of a tool that the connection does not offer, or that is out of its caller's reach, and whatever may be
/// one.
pub async fn refuse(
    app: &App,
    at: &Permitted<AtServer>,
    reach: Reach,
    content: &Content,
) -> Result<(), Denied> {
    let connection = &at.found.server.connection;
    let name = match content {
        Content::Tools | Content::Other(_) => return Ok(()),
        Content::Call(name) => name,
        Content::Unclear if connection.offers_everything() => return Err(Reach::exceeded().into()),
        Content::Unclear => return Err(not_offered("", &[], connection).into()),
    };
    let tools = match knowing(app, at, name).await {
        Ok(tools) => tools.all,
        // That much is known without its list.
        Err(_) if connection.disabled_tools.contains(&tool::id_of(name)) => {
            return Err(not_offered(name, &[], connection).into());
        }
        Err(Failure::Refused(refusal)) => return Err(Denied::Refusal(refusal)),
        Err(Failure::BadAnswer) => return Err(Problem::ToolsUnreadable.into()),
        Err(Failure::OldTransport) => return Err(Problem::OldTransport.into()),
        Err(Failure::Failed(error)) => return Err(Problem::from(error).into()),
    };
    // A server may list two tools of one name; which of them it will call is not known.
    let called: Vec<_> = tools.iter().filter(|tool| tool.name == *name).collect();
    let none = called.is_empty();
    if !connection.offers_everything()
        && (none || called.iter().any(|tool| !connection.offers(tool)))
    {
        Err(not_offered(name, &tools, connection).into())
    } else if reach == Reach::Reading && (none || called.iter().any(|tool| !tool.only_reads())) {
        Err(Reach::exceeded().into())
    } else {
        Ok(())
    }
}

fn not_offered(name: &str, tools: &[Tool], connection: &Connection) -> Problem {
    let offered = tools.iter().filter(|tool| connection.offers(tool));
    Problem::ToolNotOffered {
        name: name.to_owned(),
        offered: offered.map(|tool| tool.name.clone()).collect(),
    }
}

/// The tools of a server, asked for anew if the one in question is not among those that are known.
async fn knowing(app: &App, at: &Permitted<AtServer>, name: &str) -> Result<Tools, Failure> {
    let (caller, found) = (&at.caller, &at.found);
    let tools = tools::list(app, &caller.tenant, found, caller, Reading::Kept).await?;
    let is_known = tools.all.iter().any(|tool| tool.name == name);
    if is_known || !tools.cached {
        return Ok(tools);
    }
    tools::list(app, &caller.tenant, found, caller, Reading::Anew).await
}

/// Something that may be a list cannot be read.
#[derive(Debug)]
pub struct Unreadable;

/// The answer to a request for the list, without what the connection does not offer.
pub async fn rewritten(
    status: StatusCode,
    body: Relay,
    connection: &Connection,
) -> Result<Bytes, Problem> {
    let body = Limited::new(body, LOOKED_INTO).collect().await;
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

/// An event stream without what the connection does not offer, event by event. A list may come on any of them: a server
/// repeats what a caller has missed.
pub struct Filter {
    events: Events,
    connection: Connection,
}

impl Filter {
    /// For the streams of a connection.
    pub fn new(connection: &Connection) -> Self {
        Self {
            events: Events::new(LOOKED_INTO),
            connection: connection.clone(),
        }
    }

    /// Takes a piece of the stream; what may go on of it.
    ///
    /// # Errors
    /// [`Unreadable`]: an event is too long to be looked into.
    pub fn push(&mut self, piece: &[u8]) -> Result<Vec<u8>, Unreadable> {
        let events = self.events.push(piece).map_err(|_| Unreadable)?;
        Ok(events.into_iter().flat_map(|one| self.shown(one)).collect())
    }

    /// What may go on of the rest, once the stream has ended.
    pub fn finish(&mut self) -> Vec<u8> {
        let last = self.events.take();
        last.map_or_else(Vec::new, |last| self.shown(last))
    }

    fn shown(&self, event: Event) -> Vec<u8> {
        let data = event.data().filter(|data| !data.is_empty());
        let shown = match data.map(|data| without_hidden(&data, &self.connection)) {
            None | Some(Ok(None)) => event,
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

/// The tools of a list that are offered. What is no tool is none of them.
fn offered(list: &RawValue, connection: &Connection) -> Rewritten {
    if !list.get().starts_with('[') {
        return Ok(None);
    }
    let mut tools: Vec<Box<RawValue>> = parsed(list.get())?;
    let before = tools.len();
    tools.retain(|tool| {
        let object = serde_json::from_str(tool.get()).ok();
        let tool = object.as_ref().and_then(Tool::read);
        tool.is_some_and(|tool| connection.offers(&tool))
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
