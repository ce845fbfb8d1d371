//! The tools of an MCP server, as far as Hawser knows them, and which of them a connection offers (Kambrium 8).

use super::server::{AccessType, Connection};
use crate::domain::sealed::Sealed;
use crate::domain::time::Timestamp;
use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// One tool, as its server describes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tool {
    /// The name that calls use.
    pub name: String,
    /// Text for models and people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// JSON Schema of its arguments, byte for byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_schema: Option<Object>,
    /// Hints of its behaviour, byte for byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Object>,
}

/// A JSON object, byte for byte.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Object(Box<RawValue>);

/// A JSON object of a tool, or a default where the server gave none.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Shown<'a> {
    /// The server's own.
    Given(&'a Object),
    /// The default.
    Instead(Map<String, Value>),
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        if raw.get().starts_with('{') {
            Ok(Self(raw))
        } else {
            Err(serde::de::Error::custom("not an object"))
        }
    }
}

impl Object {
    /// The JSON text.
    pub fn get(&self) -> &str {
        self.0.get()
    }
}

impl Tool {
    /// Reads a tool; `None` if it has no name, or if a part of it has another type than it should.
    pub fn read(object: &Object) -> Option<Self> {
        serde_json::from_str(object.get()).ok()
    }

    /// The id by which Kambrium switches the tool off. It is derived from the name alone.
    pub fn id(&self) -> u64 {
        id_of(&self.name)
    }

    /// The schema of the arguments; by default one that allows any object.
    pub fn schema(&self) -> Shown<'_> {
        let any = || Map::from_iter([("type".to_owned(), "object".into())]);
        let given = self.input_schema.as_ref().map(Shown::Given);
        given.unwrap_or_else(|| Shown::Instead(any()))
    }

    /// The hints of its behaviour; by default an empty object.
    pub fn hints(&self) -> Shown<'_> {
        let given = self.annotations.as_ref().map(Shown::Given);
        given.unwrap_or_else(|| Shown::Instead(Map::new()))
    }

    /// Whether the server says that the tool only reads. A tool that does not say so may write.
    pub fn only_reads(&self) -> bool {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Hints {
            read_only_hint: Option<bool>,
        }
        let hints = self.annotations.as_ref();
        let hints = hints.and_then(|hints| serde_json::from_str::<Hints>(hints.get()).ok());
        hints.is_some_and(|hints| hints.read_only_hint == Some(true))
    }
}

/// The id of the tool of this name: the first 53 bits of its SHA-256, and never 0.
pub fn id_of(name: &str) -> u64 {
    let digest = digest(&SHA256, name.as_bytes());
    let first = digest.as_ref().iter().take(8);
    let first = first.fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
    (first >> 11).max(1)
}

impl Connection {
    /// Whether the tool may be listed and called through the connection, by anyone.
    pub fn allows_tool(&self, tool: &Tool) -> bool {
        !self.disabled_tools.contains(&tool.id())
            && (self.access_type != AccessType::Read || tool.only_reads())
    }

    /// Whether every tool may be listed and called through the connection.
    pub fn allows_all_tools(&self) -> bool {
        self.disabled_tools.is_empty() && self.access_type != AccessType::Read
    }
}

/// A tool list as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CachedToolList {
    /// The fingerprint of what the list depends on. Under another fingerprint the list is void.
    #[serde(rename = "fence")]
    pub fingerprint: String,
    /// When the server was asked.
    pub at: Timestamp,
    /// The list, compressed and sealed.
    pub sealed: Sealed,
    /// DynamoDB removes the item some time after this second. Nothing depends on when.
    pub ttl: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(json: &str) -> Option<Tool> {
        Tool::read(&serde_json::from_str(json).ok()?)
    }

    #[test]
    fn tools_have_the_ids_of_the_contract() {
        assert_eq!(id_of("search"), 1_270_100_515_418_183);
        assert_eq!(id_of("get_deals"), 3_815_743_325_853_446);
    }

    #[test]
    fn a_tool_reads_only_where_its_server_says_so_once_and_clearly() {
        let hinted = |hints: &str| {
            let json = format!(r#"{{"name":"a","annotations":{hints}}}"#);
            tool(&json).is_some_and(|tool| tool.only_reads())
        };
        assert!(hinted(r#"{"readOnlyHint":true,"title":"t"}"#));
        for hints in [
            "{}",
            "null",
            "[true]",
            r#"{"readOnlyHint":false}"#,
            r#"{"readOnlyHint":"true"}"#,
            r#"{"readOnlyHint":1}"#,
            r#"{"readOnlyHint":null}"#,
            r#"{"readonlyhint":true}"#,
            r#"{"readOnlyHint":true,"readOnlyHint":false}"#,
            r#"{"readOnlyHint":false,"readOnlyHint":true}"#,
        ] {
            assert!(!hinted(hints), "{hints}");
        }
    }

    #[test]
    fn objects_stay_as_they_were_written() {
        let json = r#"{"name":"a","inputSchema":{ "b" : 1e400, "a":12345678901234567890123 }}"#;
        let kept = serde_json::to_string(&tool(json).unwrap()).unwrap();
        assert_eq!(kept, json);
        for other in [
            r#"{"name":"a","inputSchema":true}"#,
            r#"{"name":"a","annotations":[]}"#,
            r#"{"name":7}"#,
            r#"{"name":"a","name":"b"}"#,
            "{}",
            r#""a""#,
            r#"["a"]"#,
        ] {
            assert!(tool(other).is_none(), "{other}");
        }
    }
}
