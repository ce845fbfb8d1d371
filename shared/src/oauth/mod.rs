//! What is said to MCP servers and authorization servers to find, get, refresh and revoke tokens: requests and answers,
//! and no decision on what is stored. Section numbers are those of the authorization checklist.

pub mod challenge;
pub mod discovery;
pub mod registration;
pub mod request;
pub mod revocation;
pub mod token;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::time::Duration;

const RETRY_AFTER_LIMIT: u64 = 300;

/// The error codes that may be logged (section 9); others are foreign text.
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

/// The `error` of an answer, if it is a known word; else the empty string.
fn known(error: Option<&Value>) -> &'static str {
    let said = error.and_then(Value::as_str).unwrap_or_default();
    WORDS.into_iter().find(|word| *word == said).unwrap_or("")
}

/// Whether a status speaks of an outage and says nothing about what was asked (section 2 point 2, section 6).
fn is_outage(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..)
}

/// `Retry-After` in seconds, five minutes at most (section 6 point 12).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    let seconds: u64 = text.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(RETRY_AFTER_LIMIT)))
}

/// A whole number as servers write them: also as text or with a fraction.
fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or(number.as_f64().map(|n| n as i64)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A secret that is there: anything but a string, and an empty one, is none.
fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) if !text.is_empty() => Some(text.into()),
        _ => None,
    })
}

/// The words of a space-separated list, if there are any.
fn words(text: &str) -> Option<Vec<String>> {
    let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    (!words.is_empty()).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_what_servers_write() {
        for (value, number) in [
            (json!(60), Some(60)),
            (json!("60"), Some(60)),
            (json!(59.9), Some(59)),
            (json!(-1), Some(-1)),
            (json!(1e300), Some(i64::MAX)),
            (json!(u64::MAX), Some(i64::MAX)),
            (json!("soon"), None),
            (json!(null), None),
            (json!([60]), None),
        ] {
            assert_eq!(integer(&value), number, "{value}");
        }
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
        assert_eq!(known(Some(&json!("invalid_grant"))), "invalid_grant");
        assert_eq!(known(Some(&json!("<script>"))), "");
        assert_eq!(known(None), "");
    }
}
