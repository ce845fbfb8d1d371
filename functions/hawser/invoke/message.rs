//! Parses the JSON-RPC bodies that pass. Without a tool filter, only id and method are read; with one, ambiguous bodies
//! are refused.

use super::headers::Mirrored;
use hawser_core::domain::id::hash;
use hawser_core::domain::json::{Exact, Members, raw};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The envelope of a JSON-RPC message.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Message {
    /// The id; null if the message has no valid one.
    pub id: Value,
    /// Its method, if it is a request or a notification.
    pub method: Option<String>,
    /// Whether the body is one JSON-RPC message.
    #[serde(skip)]
    pub is_one: bool,
}

/// What a message asks for, if it is unambiguous.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The list of tools.
    Tools,
    /// A call of the tool of this name.
    Call(String),
    /// Something that reaches no tool.
    Other(Other),
    /// The body is ambiguous.
    Unclear,
}

/// A message that reaches no tool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Other {
    /// Its method; an answer has none.
    method: Option<String>,
    /// The prompt or the resource that it is about.
    name: Option<String>,
}

/// Methods that reach no tool.
const OTHER: [&str; 14] = [
    "completion/complete",
    "initialize",
    "logging/setLevel",
    "ping",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/subscribe",
    "resources/templates/list",
    "resources/unsubscribe",
    "roots/list",
    "server/discover",
    "subscriptions/listen",
];

impl Message {
    /// Reads a body; what is no single message has neither id nor method.
    pub fn read(body: &[u8]) -> Self {
        // A sequence would be read field by field.
        let is_object = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
        let body = if is_object { body } else { b"{}" };
        let mut message: Self = serde_json::from_slice(body).unwrap_or_default();
        if !message.id.is_string() && !message.id.is_number() {
            message.id = Value::Null;
        }
        message.is_one = message.method.is_some() || !message.id.is_null();
        message
    }
}

/// What Hawser reads of a request's parameters where it answers itself; what has another form is as good as absent.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Params {
    /// `_meta` of a stateless request.
    #[serde(rename = "_meta")]
    pub meta: Value,
    /// The tool or prompt.
    pub name: Value,
    /// The request state of an earlier response, which the client sends back.
    pub request_state: Value,
    /// The answers of the user to the questions of an earlier response.
    pub input_responses: Value,
    /// What a client subscribes to.
    pub notifications: Value,
}

/// The members of a request's parameters that change when it is repeated.
const OF_ONE_TRY: [&str; 3] = ["_meta", "inputResponses", "requestState"];

/// The parameters of a body that was read as a [`Message`].
pub fn params<T: DeserializeOwned + Default>(body: &[u8]) -> T {
    #[derive(Deserialize)]
    struct Request<T> {
        params: T,
    }
    serde_json::from_slice(body).map_or_else(|_| T::default(), |request: Request<T>| request.params)
}

/// A digest of what a request asks for, the same each time that it is repeated.
pub fn digest(method: &str, body: &[u8]) -> String {
    let mut members = params::<Members>(body).0;
    members.retain(|(name, _)| !OF_ONE_TRY.contains(&name.as_str()));
    members.sort_by(|(one, _), (other, _)| one.cmp(other));
    let exact = members
        .into_iter()
        .map(|(name, value)| (name, Exact::of(&value)));
    let asked: Vec<(String, Exact)> = exact.collect();
    hash(&json!([method, asked]).to_string())
}

/// The same body without a request state and without the answer to the question of this key. `None` if it is no request.
pub fn without_answer(body: &[u8], key: &str) -> Option<Vec<u8>> {
    let mut message: Members = serde_json::from_slice(body).ok()?;
    for (name, params) in &mut message.0 {
        if name == "params" {
            let mut members: Members = serde_json::from_str(params.get()).ok()?;
            members.0.retain(|(name, _)| name != "requestState");
            for (name, answers) in &mut members.0 {
                if name == "inputResponses" {
                    let mut left: Members = serde_json::from_str(answers.get()).ok()?;
                    left.0.retain(|(name, _)| name != key);
                    *answers = raw(&left);
                }
            }
            let is_empty = |value: &RawValue| value.get() == "{}";
            members
                .0
                .retain(|(name, value)| name != "inputResponses" || !is_empty(value));
            *params = raw(&members);
        }
    }
    serde_json::to_vec(&message).ok()
}

impl Content {
    /// Reads a body. Of two members of one name some servers take the first, some the last, and some do not look at the
    /// case. So each may be there once, and none that JSON-RPC does not have.
    pub fn read(body: &[u8]) -> Self {
        Self::read_clear(body).unwrap_or(Self::Unclear)
    }

    fn read_clear(body: &[u8]) -> Option<Self> {
        const MEMBERS: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];
        let message: Members = serde_json::from_slice(body).ok()?;
        let mut seen = BTreeSet::new();
        let mut names = message.0.iter().map(|(name, _)| name.as_str());
        if !names.all(|name| MEMBERS.contains(&name) && seen.insert(name)) {
            return None;
        }
        let has = |name| seen.contains(name);
        if !has("method") {
            // An answer to something that the server has asked: it has one outcome, and asks for nothing.
            let is_answer = has("id") && has("result") != has("error") && !has("params");
            return is_answer.then(|| Self::Other(Other::default()));
        }
        if has("result") || has("error") {
            return None;
        }
        let method: String = message.only("method")?;
        let mut about = None;
        match method.as_str() {
            "tools/list" => return Some(Self::Tools),
            "tools/call" => {
                let params: Members = message.only("params")?;
                return Some(Self::Call(params.only("name")?));
            }
            "prompts/get" => about = Some("name"),
            "resources/read" => about = Some("uri"),
            other if OTHER.contains(&other) => {}
            // What is answered is no notification, whatever it is called.
            other if is_notification(other) && !has("id") => {}
            _ => return None,
        }
        let name = about.and_then(|about| message.only::<Members>("params")?.only(about));
        Some(Self::Other(Other {
            method: Some(method),
            name,
        }))
    }

    /// What headers may mirror of it.
    pub fn mirrored(&self) -> Mirrored<'_> {
        let method = |method| Mirrored {
            method: Some(method),
            ..Mirrored::default()
        };
        match self {
            Self::Tools => method("tools/list"),
            Self::Call(name) => Mirrored {
                name: Some(name),
                takes_arguments: true,
                ..method("tools/call")
            },
            Self::Other(other) => Mirrored {
                method: other.method.as_deref(),
                name: other.name.as_deref(),
                takes_arguments: false,
            },
            Self::Unclear => Mirrored::default(),
        }
    }

    /// An empty message: a request without a body.
    pub fn nothing() -> Self {
        Self::Other(Other::default())
    }
}

/// Whether a method is a notification's by its name, and by nothing that a server could take for a path to another one.
fn is_notification(method: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    method
        .strip_prefix("notifications/")
        .is_some_and(|rest| rest.split('/').all(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(body: &str) -> Content {
        Content::read(body.as_bytes())
    }

    fn other(method: &str, name: Option<&str>) -> Content {
        Content::Other(Other {
            method: Some(method.to_owned()),
            name: name.map(str::to_owned),
        })
    }

    #[test]
    fn what_is_asked_for_is_read_where_there_is_no_doubt() {
        let call = Content::Call("search".to_owned());
        for (body, expected) in [
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#,
                Content::Tools,
            ),
            (
                r#" {"method":"tools/call","params":{"name":"search","arguments":{"name":"x"}}}"#,
                call.clone(),
            ),
            (
                r#"{"\u006dethod":"tools\/call","params":{"na\u006de":"se\u0061rch"}}"#,
                call,
            ),
            (
                r#"{"id":1,"method":"resources/read","params":{"name":"a","Name":"b"}}"#,
                other("resources/read", None),
            ),
            (
                r#"{"id":1,"method":"resources/read","params":{"uri":"file:///a"}}"#,
                other("resources/read", Some("file:///a")),
            ),
            (
                r#"{"id":1,"method":"prompts/get","params":{"name":"p"}}"#,
                other("prompts/get", Some("p")),
            ),
            (
                r#"{"method":"notifications/whatever"}"#,
                other("notifications/whatever", None),
            ),
            (
                r#"{"method":"notifications/tools/list_changed","params":{}}"#,
                other("notifications/tools/list_changed", None),
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}"#,
                Content::nothing(),
            ),
            (r#"{"id":null,"error":{"code":1}}"#, Content::nothing()),
        ] {
            assert_eq!(content(body), expected, "{body}");
        }
    }

    #[test]
    fn a_request_has_one_digest_however_often_it_is_repeated() {
        let digest_of = |params: &str| {
            digest(
                "tools/call",
                format!(r#"{{"id":1,"params":{params}}}"#).as_bytes(),
            )
        };
        let first = digest_of(r#"{"name":"a","arguments":{"n":12345678901234567890123}}"#);
        for same in [
            r#"{"arguments":{ "n" : 12345678901234567890123 },"name":"a"}"#,
            r#"{"name":"a","arguments":{"n":12345678901234567890123},"_meta":{"x":1},"requestState":"s","inputResponses":{}}"#,
        ] {
            assert_eq!(digest_of(same), first, "{same}");
        }
        for other in [
            r#"{"name":"a","arguments":{"n":12345678901234567890124}}"#,
            r#"{"name":"b","arguments":{"n":12345678901234567890123}}"#,
            r#"{"name":"a","arguments":{"n":12345678901234567890123},"x":1}"#,
            r#"{"name":"a"}"#,
        ] {
            assert_ne!(digest_of(other), first, "{other}");
        }
        assert_ne!(
            digest("prompts/get", br#"{"params":{"name":"a"}}"#),
            digest_of(r#"{"name":"a"}"#)
        );
    }

    #[test]
    fn an_answer_to_us_is_taken_out_and_nothing_else() {
        let body = |params: &str| {
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#)
        };
        for (sent, left) in [
            (
                r#"{"name":"a","inputResponses":{"ours":{"action":"accept"}},"requestState":"hawser:x"}"#,
                r#"{"name":"a"}"#,
            ),
            (
                r#"{"inputResponses":{"ours":{},"theirs":{"n":12345678901234567890123}},"name":"a"}"#,
                r#"{"inputResponses":{"theirs":{"n":12345678901234567890123}},"name":"a"}"#,
            ),
            (
                r#"{"name":"a","arguments":{"requestState":1}}"#,
                r#"{"name":"a","arguments":{"requestState":1}}"#,
            ),
        ] {
            let stripped = without_answer(body(sent).as_bytes(), "ours").unwrap();
            assert_eq!(String::from_utf8(stripped).unwrap(), body(left));
        }
        assert!(without_answer(b"x", "ours").is_none());
    }

    #[test]
    fn whatever_could_be_read_otherwise_is_in_doubt() {
        let call = r#"{"method":"tools/call","params":{"name":"search"}}"#;
        for body in [
            "",
            "x",
            "null",
            r#""tools/list""#,
            &format!("[{call}]"),
            &format!("{call}{call}"),
            &format!("{call} x"),
            &format!("\u{feff}{call}"),
            r#"["2.0",1,"tools/list"]"#,
            r#"{"method":"tasks/result"}"#,
            r#"{"method":"tools/List"}"#,
            r#"{"method":"tools/list "}"#,
            r#"{"method":7}"#,
            r#"{"method":null}"#,
            r#"{"method":"ping","method":"tools/call"}"#,
            r#"{"method":"tools/call","m\u0065thod":"ping"}"#,
            r#"{"method":"ping","Method":"tools/call"}"#,
            r#"{"method":"ping","paramſ":{}}"#,
            r#"{"METHOD":"tools/call"}"#,
            r#"{"method":"ping","extra":1}"#,
            r#"{"method":"tools/call"}"#,
            r#"{"method":"tools/call","params":null}"#,
            r#"{"method":"tools/call","params":{}}"#,
            r#"{"method":"tools/call","params":["search"]}"#,
            r#"{"method":"tools/call","params":{"name":7}}"#,
            r#"{"method":"tools/call","params":{"Name":"search"}}"#,
            r#"{"method":"tools/call","params":{"name":"a","name":"search"}}"#,
            r#"{"method":"tools/call","params":{"name":"a","NAME":"search"}}"#,
            r#"{"method":"tools/call","params":{"name":"a","n\u0061me":"search"}}"#,
            r#"{"method":"tools/call","params":{"name":"a"},"params":{"name":"search"}}"#,
            r#"{"method":"tools/call","params":{"name":"\ud800"}}"#,
            "{}",
            r#"{"jsonrpc":"2.0","id":1}"#,
            r#"{"result":{}}"#,
            r#"{"id":1,"result":{},"error":{}}"#,
            r#"{"id":1,"result":{},"params":{"name":"search"}}"#,
            r#"{"id":1,"method":"ping","result":{}}"#,
            r#"{"id":1,"method":"tools/call","params":{"name":"search"},"error":{}}"#,
            r#"{"id":1,"method":"notifications/initialized"}"#,
            r#"{"method":"notifications/"}"#,
            r#"{"method":"notifications/../tools/call"}"#,
            r#"{"method":"notifications//call"}"#,
            r#"{"method":"notifications/%2e%2e/tools/call"}"#,
            r#"{"method":"notifications/a\\..\\tools"}"#,
            r#"{"method":"ping/../tools/call"}"#,
            r#"{"method":"/tools/call"}"#,
        ] {
            assert_eq!(content(body), Content::Unclear, "{body}");
        }
    }
}
