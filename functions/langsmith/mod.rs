//! The LangSmith contract: "Managed Deep Agents", under `/v1/deepagents`, and the tool gateway, under `/v1/managed-tools` and
//! `/v1/agent-auth`. One file per endpoint; here is what they share: the order of checks, and the permissions.

mod auth;
pub mod call_tool_server;
pub mod create_auth_session;
pub mod create_server;
pub mod create_tool_server;
pub mod delete_credential;
pub mod delete_server;
pub mod delete_tool_server;
mod fields;
pub mod get_auth_session;
pub mod get_server;
pub mod get_tool_server;
pub mod list_auth_connections;
pub mod list_servers;
pub mod list_tool_servers;
pub mod list_tools;
mod mcp_server;
mod problem;
pub mod register_provider;
pub mod resolve_principal;
pub mod start_authorization;
mod tool_server;
pub mod update_server;

pub use problem::Problem;

use crate::http::{self, BODY_LIMIT, Request};
use hawser_core::auth::credentials::Presented;
use hawser_core::domain::address;
use hawser_core::domain::caller::Caller;
use hawser_core::domain::id::ServerId;
use hawser_core::domain::subject::{Subject, SubjectType};
use hawser_core::{App, Error};
use lambda_http::http::Method;

/// The permissions, each for the whole tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Register servers.
    Create,
    /// List servers and the tools of a server.
    Read,
    /// Change servers.
    Update,
    /// Delete servers.
    Delete,
    /// Call the tools of servers, and see the headers that this takes.
    Invoke,
}

impl Permission {
    /// The permission's name in the contract.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "mcp-servers:create",
            Self::Read => "mcp-servers:read",
            Self::Update => "mcp-servers:update",
            Self::Delete => "mcp-servers:delete",
            Self::Invoke => "mcp-servers:invoke",
        }
    }

    /// Whether the caller has the permission.
    pub(crate) fn is_of(self, caller: &Caller) -> bool {
        caller.permissions.contains(self.name())
    }

    /// Refuses a caller without the permission.
    ///
    /// # Errors
    /// [`Problem::PermissionMissing`].
    fn require(self, caller: &Caller) -> Result<(), Problem> {
        if self.is_of(caller) {
            Ok(())
        } else {
            Err(Problem::PermissionMissing(self))
        }
    }
}

/// Checks the body's size, then the credentials and their tenant, then reports what is wrong in the request (LangSmith
/// 1.2): bad input is reported only to callers who may make the call.
async fn admit<T>(
    app: &App,
    request: &Request,
    needed: Permission,
    parsed: Result<T, Problem>,
) -> Result<(Presented, T), Problem> {
    let reads_body = *request.method() == Method::POST || *request.method() == Method::PATCH;
    if reads_body && http::body(request).len() > BODY_LIMIT {
        return Err(Problem::BodyTooLarge);
    }
    let who = http::present(app, request).await?;
    if names_other_tenant(request, &who) {
        return Err(Problem::Forbidden);
    }
    match parsed {
        Ok(parsed) => Ok((who, parsed)),
        Err(problem) => {
            needed.require(&app.identify(who).await?)?;
            Err(problem)
        }
    }
}

fn names_other_tenant(request: &Request, who: &Presented) -> bool {
    let tenant = who.tenant().uuid().to_string();
    http::header(request, "x-tenant-id")
        .is_some_and(|named| !named.is_empty() && !named.eq_ignore_ascii_case(&tenant))
}

/// Whether a destructive call is a dry run. An extension of the contract.
fn dry_run(request: &Request) -> Result<bool, Problem> {
    http::dry_run(request).ok_or(Problem::InvalidQuery("dryRun", "true or false"))
}

/// The server's id in the path.
fn server_id(request: &Request) -> Result<ServerId, Problem> {
    ServerId::parse_uuid(&http::path_parameter(request, "mcp_server_id"))
        .ok_or(Problem::InvalidPathParameter)
}

/// The deployment's base URL, which issuers send browsers back to.
fn base(app: &App, request: &Request) -> Result<String, Problem> {
    let unknown = || Error::internal("the public base URL is neither configured nor in the event");
    Ok(http::public_base(app, request).ok_or_else(unknown)?)
}

/// The user that a call acts for: for a service key the user that it names, if that is a valid one; for all others the
/// caller, whomever the request names (LangSmith 1.1).
fn acting_user(caller: &Caller, named: Option<&str>) -> Option<Subject> {
    match named {
        Some(id) if caller.is_service_key => Subject::new(SubjectType::User, id),
        _ => Some(caller.subject().clone()),
    }
}

/// Whether a caller may use what a subject has: it is the subject itself, or a service key of the tenant (LangSmith
/// 1.1).
fn may_use(caller: &Caller, subject: &Subject) -> bool {
    caller.is_service_key || caller.subject() == subject
}

/// A URL whose redacted query values are replaced by the stored ones. Callers without `mcp-servers:invoke` get URLs
/// with redacted values, and send them back.
fn restored(url: &str, stored: Option<&str>) -> Result<String, Problem> {
    address::restored(url, stored)
        .map_err(|_| Problem::InvalidUrl("redacted value that nothing is stored for"))
}
