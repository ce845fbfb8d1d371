//! The core under every interleaving that a seed can lead to: several processes over one store, with clocks of their own,
//! on one scheduler whose time stands still while there is something to do. Every request to the store, to the key service
//! and to an issuer is a step that can be late, fail before or after it was carried out, lose its answer, or take its
//! process with it; callers hang up anywhere. What a seed does, it does again.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    reason = "a test"
)]

pub mod check;
pub mod conditions;
pub mod guards;
pub mod internet;
pub mod play;
pub mod store;
pub mod world;

#[cfg(test)]
mod tests;
