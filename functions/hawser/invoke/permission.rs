//! Who may call a server. Each contract has its word for it: TrueFoundry `USE_MCP_SERVER`, LangSmith
//! `mcp-servers:invoke`, Kambrium the `mcp.*` scopes on one's own connections. One of them is enough.

use super::Message;
use super::problem::Problem;
use crate::http::Request;
use crate::{kambrium, langsmith, truefoundry};
use hawser_core::caller::Caller;
use hawser_core::domain::error::Error;
use hawser_core::domain::server::Server;
use lambda_http::http::Method;

const READ: &str = "mcp.read";
/// Each lets its holder call any tool.
const CALL: [&str; 2] = ["mcp.write", "mcp.tools.execute"];

/// Refuses a caller who may not make this call.
pub fn may_invoke(
    caller: &Caller,
    server: &Server,
    request: &Request,
    message: &Message,
) -> Result<(), Problem> {
    let bound = match caller.bound_to {
        Some(number) if number != server.number => return Err(Error::ServerNotFound.into()),
        bound => bound.is_some(),
    };
    if !bound
        && (truefoundry::may_use(caller, server) || langsmith::Permission::Invoke.is_of(caller))
    {
        return Ok(());
    }
    let has = |scope: &str| caller.scopes.contains(scope);
    let calls = CALL.into_iter().any(has);
    if !calls && !has(READ) {
        return Err(if bound {
            Problem::ScopeMissing(READ)
        } else {
            Problem::PermissionMissing
        });
    }
    let own = server.created_by.subject == *caller.subject() || has(kambrium::ADMIN);
    if !bound && !own {
        return Err(Error::ServerNotFound.into());
    }
    // Which tools only read is not known here, so a scope for reading calls none (Kambrium 11). What cannot be read as one
    // message may be a call.
    let harmless = *request.method() != Method::POST
        || message
            .method
            .as_deref()
            .is_some_and(|method| method != "tools/call");
    if calls || harmless {
        Ok(())
    } else {
        Err(Problem::ScopeMissing(CALL[0]))
    }
}
