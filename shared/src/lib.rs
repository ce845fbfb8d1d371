//! The crate that every Hawser function shares: what Hawser does, in no contract's words.
//!
//! # Where to begin
//!
//! 1. [`domain`] has the entities. [`domain::server::Server`] is a registered MCP server,
//!    [`domain::credential::Records`] is what one subject has at it, and [`domain::status`] decides from both what the subject
//!    needs. [`domain::revocation::Revocation`] and [`domain::receipt::Receipt`] are what is left when a credential has ended.
//! 2. [`operations`] has one function for each thing that Hawser does. A call is [`operations::proxy`], a disconnect is
//!    [`operations::credentials`], a consent is [`operations::consent`]. What was read for a caller is
//!    [`operations::Unchecked`] until the contract's rule has made it [`operations::Permitted`].
//! 3. [`table`] is the one DynamoDB table. Only it knows keys, attributes and conditions.
//!
//! # Layers
//!
//! A file imports from its own layer and those below it:
//!
//! | Layer | What is in it |
//! | --- | --- |
//! | [`operations`] | Decisions |
//! | [`state`] | What a process builds once, such as [`App`] |
//! | [`auth`] | Who is calling |
//! | [`oauth`], [`table`] | Requests to issuers; the table |
//! | [`egress`], [`seal`], [`catalogue`], [`secret_store`], [`mcp`], [`sse`], [`logs`], `trust_anchors` | The way out, encryption, the operator's file, protocols |
//! | [`domain`] | Entities, free of HTTP and of DynamoDB |
//!
//! URLs that were learned from outside are called through [`egress`] alone, and only [`seal`] sees a key.

pub mod auth;
pub mod catalogue;
pub mod domain;
pub mod egress;
pub mod logs;
pub mod mcp;
pub mod oauth;
pub mod operations;
pub mod seal;
pub mod secret_store;
pub mod sse;
pub mod state;
pub mod table;
mod trust_anchors;

pub use domain::error::{Error, Result};
pub use state::app::App;
