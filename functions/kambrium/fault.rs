//! One fault of a request, as an answer lists it (Kambrium 1.2).

use serde::Serialize;
use serde_json::Value;

/// One fault of a request.
#[derive(Debug, Serialize)]
pub struct Fault {
    /// The kind of fault, a word of the contract.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The path to the faulty value.
    pub loc: Value,
    /// A sentence for people.
    pub msg: String,
    /// The value that was sent, as far as it is repeated.
    pub input: Value,
}
