//! Authentication of callers: what a request presents, and whom it speaks for.

pub mod api_key;
pub mod client_token;
pub mod credentials;
pub mod jwt;
pub mod login_token;
