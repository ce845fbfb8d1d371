//! The number that a path names a connection by (Kambrium 1.3).

use crate::http::{Request, path_parameter};

/// The parameter of the path.
pub const SERVER_ID: &str = "server_id";

/// The integer in a path. Zero and negative integers are valid, and no connection has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number(pub(super) i64);

impl Number {
    /// Reads a number in its plain spelling.
    pub fn parse(text: &str) -> Option<Self> {
        let number = text.parse::<i64>().ok()?;
        // `parse` accepts a plus sign and leading zeros; the contract does not.
        (number.to_string() == text).then_some(Self(number))
    }

    /// The number as connections have it; `None` for zero and negative integers.
    pub fn registered(self) -> Option<u64> {
        u64::try_from(self.0).ok()
    }
}

/// The number in a request's path, as answers show it; empty if the path has none.
pub fn shown_number(request: &Request) -> String {
    Number::parse(&path_parameter(request, SERVER_ID))
        .map(|number| number.0.to_string())
        .unwrap_or_default()
}
