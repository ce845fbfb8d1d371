//! Who may call a server. Each contract has its word for it: TrueFoundry `USE_MCP_SERVER`, LangSmith
//! `mcp-servers:invoke`, Kambrium the `mcp.*` scopes on one's own connections. One of them is enough.

use super::problem::Problem;
use crate::{kambrium, langsmith, truefoundry};
use hawser_core::domain::caller::Caller;
use hawser_core::domain::error::Error;
use hawser_core::domain::server::Server;

const READ: &str = "mcp.read";
/// Each lets its holder call any tool.
const CALL: [&str; 2] = ["mcp.write", "mcp.tools.execute"];

/// Which of a connection's allowed tools a caller may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All of them.
    All,
    /// Those that only read.
    ReadOnly,
}

impl Reach {
    /// The problem of a caller whose permissions do not suffice for a call.
    pub const fn exceeded() -> Problem {
        Problem::ScopeMissing(CALL[0])
    }
}

/// Whether a caller manages a server under any contract, and so may know what is wrong with its address.
pub fn manages(caller: &Caller, server: &Server) -> bool {
    let own = server.created_by.subject == *caller.subject();
    caller.bound_to.is_none()
        && (own
            || truefoundry::may_manage(caller, server)
            || langsmith::Permission::Update.is_of(caller)
            || caller.scopes.contains(kambrium::ADMIN))
}

/// Whether a caller's credential is Kambrium's: one of a connection, or one whose only words are that contract's. Its refusals
/// have the statuses of that contract (Kambrium 15). A person who has signed in for an MCP client has none.
pub fn is_kambrium(caller: &Caller) -> bool {
    let others = !caller.roles.is_empty() || langsmith::Permission::Invoke.is_of(caller);
    let has_scopes = [READ]
        .into_iter()
        .chain(CALL)
        .any(|one| caller.scopes.contains(one));
    caller.bound_to.is_some() || has_scopes && !others && caller.login.is_none()
}

/// The tools that a caller's permissions allow at a server.
///
/// # Errors
/// [`Problem`] for a caller who may not call it at all.
pub fn reach(caller: &Caller, server: &Server) -> Result<Reach, Problem> {
    let bound = match caller.bound_to {
        Some(number) if number != server.number => return Err(Error::ServerNotFound.into()),
        bound => bound.is_some(),
    };
    if !bound
        && (truefoundry::may_use(caller, server) || langsmith::Permission::Invoke.is_of(caller))
    {
        return Ok(Reach::All);
    }
    // A token keeps no scope that its connection has lost (Kambrium 6); the right to call is in both words or in none.
    let writes = server.connection.access_type.scopes().contains(&CALL[0]);
    let calls = writes && CALL.into_iter().any(|scope| caller.scopes.contains(scope));
    if !calls && !caller.scopes.contains(READ) {
        return Err(if bound {
            Problem::ScopeMissing(READ)
        } else {
            Problem::PermissionMissing
        });
    }
    let own =
        server.created_by.subject == *caller.subject() || caller.scopes.contains(kambrium::ADMIN);
    if !bound && !own {
        return Err(Error::ServerNotFound.into());
    }
    Ok(if calls { Reach::All } else { Reach::ReadOnly })
}
