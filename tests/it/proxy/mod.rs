//! Calls to MCP servers through Hawser.

mod consent;
mod credentials;
mod forwarding;
mod permissions;
mod sessions;
