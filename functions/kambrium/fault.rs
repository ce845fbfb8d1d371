//! One fault of a request, as an answer lists it (Kambrium 1.2).

use serde::Serialize;
use serde_json::Value;

/// One fault of a request.
#[derive(Debug, Serialize)]
pub struct Fault {
    /// What kind of fault it is.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Where it is.
    pub loc: Value,
    /// What is wrong, for people.
    pub msg: String,
    /// What was sent, as far as it is repeated.
    pub input: Value,
}
