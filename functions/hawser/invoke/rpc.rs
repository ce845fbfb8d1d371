//! JSON-RPC responses that Hawser itself sends.

use crate::http::{Code, Response, json};
use lambda_http::Body;
use serde::Serialize;
use serde_json::{Value, json};

#[derive(Serialize)]
struct Answer<'a, T> {
    jsonrpc: &'static str,
    id: &'a Value,
    result: T,
}

/// A result for the request of this id. `word` is how the log names it.
pub fn result(id: &Value, result: &impl Serialize, word: &'static str) -> Response<Body> {
    let answer = Answer {
        jsonrpc: "2.0",
        id,
        result,
    };
    let mut response = json(200, &answer);
    response.extensions_mut().insert(Code(word));
    response
}

/// An error for the request of this id, which is null if that is not known.
pub fn error(status: u16, id: &Value, code: i32, message: &str, data: Value) -> Response<Body> {
    let mut error = json!({"code": code, "message": message});
    if !data.is_null() {
        error["data"] = data;
    }
    json(status, &json!({"jsonrpc": "2.0", "id": id, "error": error}))
}
