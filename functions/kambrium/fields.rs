//! Reads the path and the body field by field, and collects every fault for the list of the 422 (Kambrium 1.2, 1.3). A
//! fault never repeats an API key, a long value, or a field that the contract does not know.

use super::fault::Fault;
use super::number::{Number, SERVER_ID};
use super::problem::Refusal;
use crate::http::{Request, dry_run, field, path_parameter, query};
use secrecy::SecretString;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// The largest tool id: the largest integer that a double holds exactly.
const TOOL_ID_LIMIT: u64 = (1 << 53) - 1;
/// The most tools that can be switched off one by one.
const TOOLS_LIMIT: usize = 2000;
/// The longest API key, in bytes.
const API_KEY_LIMIT: usize = 4096;
/// The longest string that a fault repeats, in characters.
const SHOWN_LIMIT: usize = 16;

const API_KEY: &str = "api_key";
const DISABLED_TOOLS: &str = "disabled_tools";

/// The faults found so far.
#[derive(Debug, Default)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// The connection that the path names: an integer in its plain spelling.
    pub fn number(&mut self, request: &Request) -> Option<Number> {
        let text = path_parameter(request, SERVER_ID);
        let number = Number::parse(&text);
        if number.is_none() {
            self.note(
                "int_parsing",
                json!(["path", SERVER_ID]),
                "Input should be a valid integer, unable to parse string as an integer",
                shown(&text.into()),
            );
        }
        number
    }

    /// An integer of the query, within bounds. Of repeated parameters the last one counts.
    pub fn integer(
        &mut self,
        request: &Request,
        name: &'static str,
        default: u64,
        bounds: RangeInclusive<u64>,
    ) -> Option<u64> {
        let query = query(request);
        let Some((_, text)) = query.iter().rev().find(|(sent, _)| sent == name) else {
            return Some(default);
        };
        let (least, most) = (*bounds.start(), *bounds.end());
        let (kind, msg) = match Number::parse(text).map(|number| number.registered()) {
            None => (
                "int_parsing",
                "Input should be a valid integer, unable to parse string as an integer".to_owned(),
            ),
            Some(Some(number)) if bounds.contains(&number) => return Some(number),
            Some(Some(number)) if number > most => (
                "less_than_equal",
                format!("Input should be less than or equal to {most}"),
            ),
            Some(_) => (
                "greater_than_equal",
                format!("Input should be greater than or equal to {least}"),
            ),
        };
        let input = shown(&text.clone().into());
        self.note(kind, json!(["query", name]), msg, input);
        None
    }

    /// Whether a destructive call is a dry run. An extension of the contract.
    pub fn dry_run(&mut self, request: &Request) -> Option<bool> {
        let dry_run = dry_run(request);
        if dry_run.is_none() {
            let msg = "Input should be a valid boolean, unable to interpret input";
            self.note("bool_parsing", json!(["query", "dryRun"]), msg, redacted());
        }
        dry_run
    }

    /// The value, if there is no fault.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] with all faults.
    pub fn into_result<T>(self, value: Option<T>) -> Result<T, Refusal> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(Refusal::Malformed(self.0)),
        }
    }

    fn note(&mut self, kind: &'static str, loc: Value, msg: impl Into<String>, input: Value) {
        self.0.push(Fault {
            kind,
            loc,
            msg: msg.into(),
            input,
        });
    }
}

/// The fields of a body. `null` counts as absent.
pub struct Fields<'a> {
    known: &'static [&'static str],
    object: Map<String, Value>,
    faults: &'a mut Faults,
}

impl<'a> Fields<'a> {
    /// The fields of a body. If the body is no object, records the fault and returns `None`.
    pub fn read(
        bytes: &[u8],
        known: &'static [&'static str],
        faults: &'a mut Faults,
    ) -> Option<Self> {
        let (kind, msg, input) = match serde_json::from_slice(bytes) {
            Ok(Value::Object(object)) => {
                return Some(Self {
                    known,
                    object,
                    faults,
                });
            }
            _ if bytes.is_empty() => ("missing", "Field required", Value::Null),
            Ok(other) => (
                "model_attributes_type",
                "Input should be a valid dictionary or object to extract fields from",
                shown(&other),
            ),
            Err(_) => ("json_invalid", "JSON decode error", json!({})),
        };
        faults.note(kind, json!(["body"]), msg, input);
        None
    }

    /// Whether no fault has been found so far, in this body or before it.
    pub fn is_sound(&self) -> bool {
        self.faults.0.is_empty()
    }

    /// Records a fault of a field.
    pub fn fault(&mut self, kind: &'static str, name: &str, msg: impl Into<String>) {
        let input = self.object.get(name).map_or(Value::Null, shown);
        let input = if name == API_KEY { redacted() } else { input };
        self.faults.note(kind, json!(["body", name]), msg, input);
    }

    /// Records that a field is missing. The fault repeats the whole body, as far as its fields are known.
    pub fn missing(&mut self, name: &str, msg: &str) {
        let shown = self.known.iter().filter_map(|&known| {
            let value = self.object.get(known)?;
            let value = if known == API_KEY {
                redacted()
            } else {
                shown(value)
            };
            Some((known.to_owned(), value))
        });
        let input = Value::Object(shown.collect());
        self.faults
            .note("missing", json!(["body", name]), msg, input);
    }

    /// A string.
    pub fn text(&mut self, name: &str) -> Option<String> {
        let text = self.get(name)?.as_str().map(str::to_owned);
        if text.is_none() {
            self.fault("string_type", name, "Input should be a valid string");
        }
        text
    }

    /// A string that must be present.
    pub fn required_text(&mut self, name: &str) -> Option<String> {
        if self.get(name).is_none() {
            self.missing(name, "Field required");
        }
        self.text(name)
    }

    /// One of two words.
    pub fn choice(&mut self, name: &str, words: [&'static str; 2]) -> Option<&'static str> {
        let text = self.text(name)?;
        let word = words.into_iter().find(|word| *word == text);
        if word.is_none() {
            let [one, other] = words;
            let msg = format!("Input should be '{one}' or '{other}'");
            self.fault("literal_error", name, msg);
        }
        word
    }

    /// A boolean.
    pub fn boolean(&mut self, name: &str) -> Option<bool> {
        let value = self.get(name)?.as_bool();
        if value.is_none() {
            self.fault("bool_type", name, "Input should be a valid boolean");
        }
        value
    }

    /// `api_key`: a text that can stand in a header as it is.
    pub fn api_key(&mut self) -> Option<SecretString> {
        let key = self.text(API_KEY)?;
        let (kind, msg) = match key.len() {
            0 => (
                "string_too_short",
                "String should have at least 1 character",
            ),
            length if length > API_KEY_LIMIT => (
                "string_too_long",
                "String should have at most 4096 characters",
            ),
            _ if !key.bytes().all(|byte| byte.is_ascii_graphic()) => (
                "string_pattern_mismatch",
                "String should contain visible ASCII characters only",
            ),
            _ => return Some(key.into()),
        };
        self.fault(kind, API_KEY, msg);
        None
    }

    /// `disabled_tools`, without duplicates.
    pub fn disabled_tools(&mut self) -> Option<BTreeSet<u64>> {
        let Self { object, faults, .. } = self;
        let value = field(object, DISABLED_TOOLS)?;
        let Some(items) = value.as_array() else {
            self.fault("list_type", DISABLED_TOOLS, "Input should be a valid list");
            return None;
        };
        if items.len() > TOOLS_LIMIT {
            let msg = format!("List should have at most {TOOLS_LIMIT} items");
            self.fault("too_long", DISABLED_TOOLS, msg);
            return None;
        }
        let mut tools = BTreeSet::new();
        for (index, item) in items.iter().enumerate() {
            match tool_id(item) {
                Ok(id) => drop(tools.insert(id)),
                Err((kind, msg)) => {
                    let loc = json!(["body", DISABLED_TOOLS, index]);
                    faults.note(kind, loc, msg, shown(item));
                }
            }
        }
        Some(tools)
    }

    fn get(&self, name: &str) -> Option<&Value> {
        field(&self.object, name)
    }
}

/// A tool id, or what is wrong with the value.
fn tool_id(item: &Value) -> Result<u64, (&'static str, String)> {
    let too_small = || {
        let msg = "Input should be greater than or equal to 1";
        ("greater_than_equal", msg.to_owned())
    };
    let too_big = || {
        let msg = format!("Input should be less than or equal to {TOOL_ID_LIMIT}");
        ("less_than_equal", msg)
    };
    // The parser gives integers beyond 64 bits as floating-point numbers, all of which are at least this large.
    const BEYOND: f64 = 18_446_744_073_709_551_616.0;
    match (item.as_u64(), item.as_i64(), item.as_f64()) {
        (Some(0), ..) | (None, Some(_), _) => Err(too_small()),
        (Some(id), ..) if id > TOOL_ID_LIMIT => Err(too_big()),
        (Some(id), ..) => Ok(id),
        (.., Some(number)) if number >= BEYOND => Err(too_big()),
        (.., Some(number)) if number <= -BEYOND / 2.0 => Err(too_small()),
        _ => Err(("int_type", "Input should be a valid integer".to_owned())),
    }
}

/// A value, as a fault may repeat it.
fn shown(value: &Value) -> Value {
    match value {
        Value::Array(_) | Value::Object(_) => redacted(),
        Value::String(text) if text.chars().count() > SHOWN_LIMIT => redacted(),
        other => other.clone(),
    }
}

fn redacted() -> Value {
    "[redacted]".into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The faults of a body, as they are answered.
    fn faults_of(bytes: &[u8]) -> String {
        let mut faults = Faults::default();
        if let Some(mut fields) = Fields::read(bytes, &[API_KEY, DISABLED_TOOLS], &mut faults) {
            fields.required_text("name");
            fields.choice(API_KEY, ["one", "other"]);
            fields.api_key();
            fields.boolean(API_KEY);
            fields.disabled_tools();
        }
        json!(faults.0).to_string()
    }

    proptest! {
        #[test]
        fn a_number_has_one_spelling(number: i64, other in "[+-]?0?[0-9]{1,20}|\\PC{0,8}") {
            prop_assert_eq!(Number::parse(&number.to_string()), Some(Number(number)));
            if let Some(read) = Number::parse(&other) {
                prop_assert_eq!(read.0.to_string(), other);
            }
        }

        #[test]
        fn reading_never_panics(bytes: Vec<u8>, id: f64) {
            faults_of(&bytes);
            faults_of(json!({DISABLED_TOOLS: [id]}).to_string().as_bytes());
        }

        #[test]
        fn no_fault_repeats_a_key_or_an_unknown_field(secret in "[^\"\\\\]{4,20}") {
            let secret = format!("s3cret-{secret}");
            let body = json!({API_KEY: secret, "api_kye": secret, DISABLED_TOOLS: [[secret]]});
            prop_assert!(!faults_of(body.to_string().as_bytes()).contains("s3cret-"));
        }
    }
}
