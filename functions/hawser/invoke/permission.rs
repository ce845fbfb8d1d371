//! Who may call a server. Each contract has its word for it: TrueFoundry `USE_MCP_SERVER`, LangSmith
//! `mcp-servers:invoke`, Kambrium the `mcp.*` scopes on one's own connections. One of them is enough.

use super::Message;
use super::problem::Problem;
use crate::http::Request;
use crate::{kambrium, langsmith, truefoundry};
use hawser_core::caller::Caller;
use hawser_core::domain::error::Error;
use hawser_core::domain::server::{AccessType, Connection, Server};
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
    // A token keeps no scope that its connection has lost (Kambrium 6); the right to call is in both words or in none.
    let writes = server.connection.access_type.scopes().contains(&CALL[0]);
    let has = |scope: &str| {
        let kept = writes || !CALL.contains(&scope);
        kept && caller.scopes.contains(scope)
    };
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
    if calls || only_reads(request, message) {
        Ok(())
    } else {
        Err(Problem::ScopeMissing(CALL[0]))
    }
}

/// Whether a message calls no tool, as far as it can be read.
fn only_reads(request: &Request, message: &Message) -> bool {
    const METHODS: [&str; 15] = [
        "completion/complete",
        "initialize",
        "logging/setLevel",
        "ping",
        "prompts/get",
        "prompts/list",
        "resources/list",
        "resources/read",
        "resources/subscribe",
        "resources/templates/list",
        "resources/unsubscribe",
        "roots/list",
        "server/discover",
        "subscriptions/listen",
        "tools/list",
    ];
    *request.method() != Method::POST
        || message
            .method
            .as_deref()
            .is_some_and(|method| METHODS.contains(&method) || method.starts_with("notifications/"))
}

/// Refuses what a connection does not offer to anyone: tools that are switched off, and under `read` all of them, for which
/// of them only read is not known here (Kambrium 8 and 15).
pub fn refuse_tools(
    connection: &Connection,
    request: &Request,
    message: &Message,
) -> Result<(), Problem> {
    let open = connection.access_type != AccessType::Read && connection.disabled_tools.is_empty();
    if open || only_reads(request, message) {
        return Ok(());
    }
    let name = message.params["name"].as_str();
    let called = message.method.as_deref() == Some("tools/call");
    match name {
        Some(name)
            if called
                && connection.access_type != AccessType::Read
                && !connection.disabled_tools.contains(&tool_id(name)) =>
        {
            Ok(())
        }
        // An answer to the server, or what cannot be told from a call, has no name.
        name => Err(Problem::ToolDisabled(name.unwrap_or_default().to_owned())),
    }
}

/// The id of a tool, from its name alone (Kambrium 8).
fn tool_id(name: &str) -> u64 {
    let digest = hawser_core::caller::hash(name);
    let first = u64::from_str_radix(&digest[..16], 16).unwrap_or_default();
    (first >> 11).max(1)
}

#[cfg(test)]
mod tests {
    use super::tool_id;

    #[test]
    fn tools_have_the_ids_of_the_contract() {
        assert_eq!(tool_id("search"), 1_270_100_515_418_183);
        assert_eq!(tool_id("get_deals"), 3_815_743_325_853_446);
    }
}
