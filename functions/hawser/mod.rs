//! What is Hawser's own and no contract's.

pub mod unrouted;
