//! What tests/fuzz reaches of the parsers in here. Never in anything that is deployed.

use super::message::Content;
use super::tool_filter::Filter;
use hawser_core::domain::server::Connection;
use hawser_core::domain::tool::id_of;
use serde_json::json;

/// What a body that is looked into was read as.
#[derive(Debug, PartialEq, Eq)]
pub enum Looked {
    /// A question for tools.
    Tools,
    /// A call of this tool.
    Call(String),
    /// Something that neither lists nor calls tools.
    Other,
    /// Something that could be read in more than one way.
    Unclear,
}

/// Reads a body as a call that is looked into is read.
pub fn look_into(body: &[u8]) -> Looked {
    match Content::read(body) {
        Content::Tools => Looked::Tools,
        Content::Call(tool) => Looked::Call(tool),
        Content::Other(_) => Looked::Other,
        Content::Unclear => Looked::Unclear,
    }
}

/// A stream of events, in pieces, as a caller sees it whose connection hides the tool `hidden-tool`.
pub fn filtered(pieces: &[&[u8]]) -> Vec<u8> {
    let connection = json!({
        "display_name": "x", "api_key": null, "access_type": "write", "disabled_tools": [id_of("hidden-tool")],
        "agent_enabled": true, "key_check": "verified", "client_id": "c", "client_secret_hash": null,
    });
    let Ok(connection) = serde_json::from_value::<Connection>(connection) else {
        unreachable!("a connection of the fuzz targets does not decode");
    };
    let mut filter = Filter::new(&connection);
    let mut shown = Vec::new();
    for piece in pieces {
        match filter.push(piece) {
            Ok(some) => shown.extend(some),
            Err(_) => return shown,
        }
    }
    shown.extend(filter.finish());
    shown
}
