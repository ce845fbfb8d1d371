//! What a process builds once and lends to every request: its configuration, clients, limits and caches.

pub mod app;
pub(crate) mod cache;
pub mod call_limits;
pub(crate) mod catalogue;
pub(crate) mod circuit_breaker;
pub mod config;
mod keys;
pub(crate) mod leases;
pub mod sign_in;
pub(crate) mod slot;
pub mod tasks;
pub(crate) mod token_keys;
