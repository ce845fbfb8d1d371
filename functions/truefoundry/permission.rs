//! Who may do what: tenant roles, and roles as a collaborator of one server (TrueFoundry 2.1).

use super::problem::Problem;
use hawser_core::domain::caller::Caller;
use hawser_core::domain::server::Server;
use hawser_core::domain::subject::{Subject, SubjectType};
use serde_json::Value;

/// The permissions that endpoints check, by the contract's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    Create,
    Read,
    Use,
    Manage,
    Delete,
}

impl Permission {
    const fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE_MCP_SERVER",
            Self::Read => "READ_MCP_SERVER",
            Self::Use => "USE_MCP_SERVER",
            Self::Manage => "MANAGE_MCP_SERVER",
            Self::Delete => "DELETE_MCP_SERVER",
        }
    }
}

/// The roles a collaborator may have.
pub const COLLABORATOR_ROLES: [&str; 3] = [MANAGER, USER, VIEWER];

const MANAGER: &str = "mcp-server-manager";
const USER: &str = "mcp-server-user";
const VIEWER: &str = "mcp-server-viewer";

/// Whether the caller has a permission on a server, or, without one, in the tenant.
pub fn has(caller: &Caller, server: Option<&Server>, permission: Permission) -> bool {
    let in_tenant = |role: &str| caller.roles.contains(role);
    let on_server = |role: &str| server.is_some_and(|server| collaborates(caller, server, role));
    let either = |role: &str| in_tenant(role) || on_server(role);
    match permission {
        _ if caller.is_tenant_admin() => true,
        Permission::Create => in_tenant(MANAGER),
        Permission::Read => either(MANAGER) || either(USER) || either(VIEWER),
        Permission::Use => either(MANAGER) || either(USER),
        Permission::Manage | Permission::Delete => either(MANAGER),
    }
}

/// Refuses a caller without the permission.
///
/// # Errors
/// [`Problem::PermissionDenied`].
pub fn require(
    caller: &Caller,
    server: Option<&Server>,
    permission: Permission,
) -> Result<(), Problem> {
    if has(caller, server, permission) {
        Ok(())
    } else {
        Err(Problem::PermissionDenied(permission.name()))
    }
}

/// Refuses a caller who names another subject without managing the server.
///
/// # Errors
/// [`Problem::NotManager`].
pub fn require_self_or_manager(
    caller: &Caller,
    server: &Server,
    subject: &Subject,
) -> Result<(), Problem> {
    if caller.subject() == subject || has(caller, Some(server), Permission::Manage) {
        Ok(())
    } else {
        Err(Problem::NotManager)
    }
}

/// Refuses whoever is no admin of the tenant.
///
/// # Errors
/// [`Problem::TenantAdminRequired`].
pub fn require_tenant_admin(caller: &Caller) -> Result<(), Problem> {
    if caller.is_tenant_admin() {
        Ok(())
    } else {
        Err(Problem::TenantAdminRequired)
    }
}

fn collaborates(caller: &Caller, server: &Server, role: &str) -> bool {
    let listed = server
        .manifest
        .get("collaborators")
        .and_then(Value::as_array);
    listed.into_iter().flatten().any(|one| {
        one.get("role_id").and_then(Value::as_str) == Some(role)
            && one
                .get("subject")
                .and_then(Value::as_str)
                .is_some_and(|subject| is_named(caller, subject))
    })
}

fn is_named(caller: &Caller, collaborator: &str) -> bool {
    let Some((kind, name)) = collaborator.split_once(':') else {
        return false;
    };
    let is_user = caller.subject().kind() == SubjectType::User;
    match kind {
        "user" => {
            let slug = caller.email.as_deref().or(caller.username.as_deref());
            is_user && slug.is_some_and(|slug| slug.eq_ignore_ascii_case(name))
        }
        "team" if name == "everyone" => is_user,
        "team" => caller.teams.contains(name),
        "virtualaccount" | "serviceaccount" => {
            caller.subject().kind() == SubjectType::VirtualAccount
                && caller
                    .username
                    .as_deref()
                    .unwrap_or_else(|| caller.subject().id())
                    == name
        }
        _ => false,
    }
}
