//! What the path of a call names.

use crate::route::capture;
use hawser_core::domain::server::Connection;
use hawser_core::operations::proxy::Target;

/// The server that a path names.
pub fn target(path: &str) -> Option<Target> {
    if let Some(found) = capture("/mcp/{server}", path) {
        Some(Target::parse(&found["server"]))
    } else if let Some(found) = capture("/mcp/v1/{name}/mcp", path) {
        Some(Target::Name(found["name"].clone()))
    } else {
        (path == "/mcp" || integration(path).is_some()).then_some(Target::Bound)
    }
}

/// The integration in a path.
fn integration(path: &str) -> Option<String> {
    let of_host = || capture("/{integration}/mcp", path).filter(|_| !path.starts_with("/mcp/"));
    let mut found = capture("/mcp/{integration}/mcp", path).or_else(of_host)?;
    found.remove("integration")
}

/// Whether a path names the integration of a connection, or none.
pub fn names(path: &str, connection: &Connection) -> bool {
    integration(path).is_none_or(|named| connection.integration == Some(named))
}
