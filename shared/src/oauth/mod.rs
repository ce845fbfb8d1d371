//! Requests to MCP servers and authorization servers that find, get, refresh and revoke tokens, and how their answers
//! are read. What is stored is decided elsewhere. Cited as "MCP authorization": docs/contracts/mcp-authorization.md.

pub mod challenge;
pub mod discovery;
mod members;
pub mod owner;
pub mod registration;
pub mod request;
pub mod revocation;
pub mod token;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use std::time::Duration;

const RETRY_AFTER_LIMIT: u64 = 300;

/// The error codes that may be logged (MCP authorization 9). Any other is text that a stranger wrote.
const WORDS: [&str; 12] = [
    "access_denied",
    "invalid_client",
    "invalid_grant",
    "invalid_request",
    "invalid_scope",
    "invalid_target",
    "invalid_token",
    "server_error",
    "temporarily_unavailable",
    "unauthorized_client",
    "unsupported_grant_type",
    "unsupported_token_type",
];

/// The `error` of an answer, if its code is known; otherwise the empty string.
pub(crate) fn known(error: Option<&str>) -> &'static str {
    let said = error.unwrap_or_default();
    WORDS.into_iter().find(|word| *word == said).unwrap_or("")
}

/// Whether a status means an outage and answers nothing that was asked (MCP authorization 2.2 and 6).
fn is_outage(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..)
}

/// `Retry-After` as a duration, five minutes at most (MCP authorization 6.12).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    let seconds: u64 = text.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(RETRY_AFTER_LIMIT)))
}

/// The words of a space-separated list, if there are any.
fn words(text: &str) -> Option<Vec<String>> {
    let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    (!words.is_empty()).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_servers_say_besides() {
        let after = |text: &'static str| {
            retry_after(&HeaderMap::from_iter([(
                RETRY_AFTER,
                text.parse().unwrap(),
            )]))
        };
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("86400"), Some(Duration::from_secs(300)));
        assert_eq!(after("Fri, 31 Dec 1999 23:59:59 GMT"), None);
        assert_eq!(after("-1"), None);
        assert_eq!(known(Some("invalid_grant")), "invalid_grant");
        assert_eq!(known(Some("<script>")), "");
        assert_eq!(known(None), "");
    }
}
