//! The TrueFoundry contract, "MCP Servers V2", under `/api/svc/v1`. One file per endpoint; here is what they share:
//! the order of checks, the query rules, and the objects of answers.

pub mod apply_manifest;
pub mod authorize;
pub mod delete_manifest;
pub mod delete_server;
pub mod disconnect_subject;
pub mod get_auth_status;
pub mod get_cli_version;
pub mod get_override_schema;
pub mod get_server;
pub mod get_tenant;
pub mod list_overrides;
pub mod list_servers;
mod manifest;
mod permission;
mod problem;
pub mod put_override;
pub mod put_server;
mod reader;
pub mod revoke_all;
mod secret_reference;

pub use problem::Problem;

use crate::http::{self, BODY_LIMIT, Request};
use hawser_core::App;
use hawser_core::auth::credentials::Presented;
use hawser_core::domain::caller::Caller;
use hawser_core::domain::id::ServerId;
use hawser_core::domain::server::Server;
use hawser_core::domain::status::{NotRequired, Status};
use hawser_core::domain::subject::{Actor, Subject, SubjectType};
use reader::{Faults, Reader};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Credentials, then the body's size, then what was found wrong in the request (TrueFoundry 1.3): bad input from someone
/// unknown is answered as someone unknown.
async fn admit<T>(
    app: &App,
    request: &Request,
    parsed: Result<T, Problem>,
) -> Result<(Presented, T), Problem> {
    let who = http::present(app, request).await?;
    let small = http::body(request).len() <= BODY_LIMIT;
    let parsed = if small {
        parsed
    } else {
        Err(Problem::BodyTooLarge)
    };
    match parsed {
        Ok(parsed) => Ok((who, parsed)),
        Err(problem) => {
            app.identify(who).await?;
            Err(problem)
        }
    }
}

/// Whether the caller may run a server's tools (TrueFoundry 2.1).
pub(crate) fn may_use(caller: &Caller, server: &Server) -> bool {
    permission::has(caller, Some(server), permission::Permission::Use)
}

/// Whether the caller may change the server.
pub(crate) fn may_manage(caller: &Caller, server: &Server) -> bool {
    permission::has(caller, Some(server), permission::Permission::Manage)
}

/// The server a path names; a malformed id names none.
fn server_id(request: &Request) -> Option<ServerId> {
    ServerId::parse_prefixed(&http::path_parameter(request, "mcpServerId"))
}

/// The query of a request: no parameter twice; an empty value or the text `null` counts as absent (TrueFoundry 1.1).
fn query(request: &Request) -> Result<Map<String, Value>, Problem> {
    let mut parameters = Map::new();
    for (name, value) in http::query(request) {
        if parameters.contains_key(&name) {
            return Err(Problem::fault(name, "is there twice"));
        }
        let value = if value.is_empty() || value == "null" {
            Value::Null
        } else {
            value.into()
        };
        parameters.insert(name, value);
    }
    Ok(parameters)
}

/// Whether a destructive call is a dry run; ours, beside the contract.
fn dry_run(request: &Request) -> Result<bool, Problem> {
    http::dry_run(request).ok_or_else(|| Problem::fault("dryRun", "must be true or false"))
}

/// Reads `subjectType` and `subjectId`.
fn read_subject(reader: &mut Reader<'_>, types: &[SubjectType]) -> Option<Subject> {
    let kind = reader.required_text("subjectType", |text| match SubjectType::parse(text) {
        Some(kind) if types.contains(&kind) => Ok(()),
        _ => Err("is not one of the accepted values"),
    });
    let id = reader.required_text("subjectId", |text| {
        match Subject::new(SubjectType::User, text) {
            Some(_) => Ok(()),
            None => Err("must have 1 to 255 characters and no control characters"),
        }
    });
    Subject::new(SubjectType::parse(kind?)?, id?)
}

/// The subject types that may have records.
const RECORD_HOLDERS: [SubjectType; 2] = [SubjectType::User, SubjectType::VirtualAccount];

/// What answers about servers and overrides are wrapped in.
#[derive(Serialize)]
struct Data<T> {
    data: T,
}

/// A page of a list.
#[derive(Serialize)]
struct Page<T> {
    data: Vec<T>,
    pagination: Pagination,
}

/// A window on a list (TrueFoundry 8).
#[derive(Clone, Copy, Debug)]
struct Window {
    limit: usize,
    offset: usize,
}

#[derive(Serialize)]
struct Pagination {
    total: usize,
    offset: usize,
    limit: usize,
}

impl Window {
    fn read(parameters: &Map<String, Value>) -> Result<Self, Problem> {
        let mut faults = Faults::default();
        let mut number = |name: &str, least: usize, most: usize, default: usize| {
            let Some(text) = parameters.get(name).and_then(Value::as_str) else {
                return default;
            };
            let digits = text.bytes().all(|b| b.is_ascii_digit());
            match text
                .parse()
                .ok()
                .filter(|n| digits && (least..=most).contains(n))
            {
                Some(n) => n,
                None => {
                    faults.invalid(name, "is not an integer in range");
                    default
                }
            }
        };
        let window = Self {
            limit: number("limit", 1, 1000, 100),
            offset: number("offset", 0, usize::MAX, 0),
        };
        faults.into_result(Some(window))
    }

    /// `{"data": [...], "pagination": {...}}`.
    fn page<T, S>(self, all: &[T], present: impl Fn(&T) -> S) -> Page<S> {
        let shown = all.iter().skip(self.offset).take(self.limit);
        Page {
            data: shown.map(present).collect(),
            pagination: Pagination {
                total: all.len(),
                offset: self.offset,
                limit: self.limit,
            },
        }
    }
}

/// A `Subject` object (TrueFoundry 4.2).
pub fn subject(actor: &Actor) -> Value {
    let mut object = Map::new();
    object.insert("subjectId".to_owned(), actor.subject.id().into());
    object.insert(
        "subjectType".to_owned(),
        actor.subject.kind().as_str().into(),
    );
    let optional = [
        ("subjectSlug", &actor.slug),
        ("subjectDisplayName", &actor.display_name),
        ("subjectPatName", &actor.key_label),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            object.insert(name.to_owned(), value.as_str().into());
        }
    }
    object.into()
}

/// A status object (TrueFoundry 3.8).
fn auth_status(status: Status) -> Value {
    match status {
        Status::Authenticated(source) => {
            json!({"status": "authenticated", "method": source.as_str()})
        }
        Status::Required { source, reason } => json!({
            "status": "authentication_required",
            "method": source.map(|source| source.as_str()),
            "reason": reason.as_str(),
        }),
        Status::NotRequired(why) => {
            json!({"status": "authentication_not_required", "reason": sentence(why)})
        }
    }
}

/// The exact sentences (TrueFoundry 7.4).
const fn sentence(why: NotRequired) -> &'static str {
    match why {
        NotRequired::NoAuthentication => "This MCP server has no authentication configured.",
        NotRequired::Passthrough => "This MCP server receives the caller's own token.",
        NotRequired::SharedHeader => {
            "This MCP server uses a header credential shared by all callers."
        }
        NotRequired::ClientCredentials => "This MCP server uses its own OAuth2 client credentials.",
    }
}
