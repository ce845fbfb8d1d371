//! The crate every Hawser function shares: the domain, the one table behind it, the keys that seal its secrets, and
//! the operations that the three wire contracts present.
//!
//! A request goes one way only: contract (parse) -> [`operations`] (decide) -> [`table`] (write) -> contract (present).
//! The domain knows neither HTTP nor DynamoDB, the table knows no contract, and only [`seal`] sees a key.
//! URLs that were learned from anywhere are called through [`egress`] alone; [`oauth`] speaks to what is behind them.

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

pub use domain::error::{Error, Result};
pub use state::app::App;
