//! What is read of the bodies that pass. Where everything is let through they are looked into for a few words only; where
//! something is kept back, nothing may be read in two ways.

use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeSet;
use std::fmt;

/// What has to be known of a JSON-RPC message.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Message {
    /// Null if it has none that could be one.
    pub id: Value,
    /// Its method, if it is a request or a notification.
    pub method: Option<String>,
}

/// What a message asks for, if there is no doubt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The list of tools.
    Tools,
    /// What the tool of this name does.
    Call(String),
    /// Something that reaches no tool.
    Other,
    /// There is doubt.
    Unclear,
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
        message
    }
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
        if !seen.contains("method") {
            // An answer to something that the server has asked.
            return Some(Self::Other);
        }
        match message.only::<String>("method")?.as_str() {
            "tools/list" => Some(Self::Tools),
            "tools/call" => {
                let params: Members = message.only("params")?;
                Some(Self::Call(params.only("name")?))
            }
            other if OTHER.contains(&other) || other.starts_with("notifications/") => {
                Some(Self::Other)
            }
            _ => None,
        }
    }
}

/// The members of a JSON object, as often and in the order in which they are there.
pub struct Members(pub Vec<(String, Box<RawValue>)>);

impl Members {
    /// The value of the one member of this name, if there is no other that is spelt alike.
    fn only<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let alike = |(spelt, _): &&(String, _)| spelt.eq_ignore_ascii_case(name);
        let mut alike = self.0.iter().filter(alike);
        match (alike.next(), alike.next()) {
            (Some((spelt, value)), None) if spelt == name => serde_json::from_str(value.get()).ok(),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

impl Serialize for Members {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    fn content(body: &str) -> Content {
        Content::read(body.as_bytes())
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
                Content::Other,
            ),
            (r#"{"method":"notifications/whatever"}"#, Content::Other),
            (
                r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}"#,
                Content::Other,
            ),
        ] {
            assert_eq!(content(body), expected, "{body}");
        }
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
        ] {
            assert_eq!(content(body), Content::Unclear, "{body}");
        }
    }
}
