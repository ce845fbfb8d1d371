//! Authentication of callers: what a request presents, and whom it speaks for.

pub mod api_key;
pub mod client_token;
pub mod credentials;
pub mod jwt;
pub mod login_token;

/// What credentials are used for.
#[derive(Clone, Copy, Debug)]
pub enum Use<'a> {
    /// A call to an MCP server, which has these addresses.
    Call(&'a [String]),
    /// Everything else.
    Management,
}
