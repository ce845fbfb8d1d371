//! What Hawser is about, free of HTTP and of DynamoDB: servers, subjects, credentials, their status.
//! A type belongs here when all three contracts would recognise it.

pub mod address;
pub mod allowed_issuers;
pub mod api_key;
pub mod application;
pub mod caller;
pub mod consent_failure;
pub mod credential;
pub mod endpoint_method;
pub mod error;
pub mod event;
pub mod header;
pub mod id;
pub mod idempotency;
pub mod integration;
pub mod issuance;
pub mod job;
pub mod json;
pub mod login;
pub mod login_revocation;
pub mod mcp_session;
pub mod reason;
pub mod receipt;
pub mod revocation;
pub mod sealed;
mod secret;
pub mod secret_mapping;
pub mod server;
pub mod session;
pub mod status;
pub mod subject;
pub mod time;
pub mod tool;
