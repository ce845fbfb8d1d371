//! JSON whose values are kept as they were sent. A parser of 64-bit numbers changes longer integers, so JSON that may
//! hold one is kept as text.

use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use std::collections::HashMap;
use std::fmt;

/// A JSON value as text: without blanks, each name of an object once, and integers of any length as they were sent. It is stored as
/// a string.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Exact(String);

impl Exact {
    /// Reads a value.
    pub fn of(raw: &RawValue) -> Self {
        let mut text = String::new();
        write(raw.get(), &mut text);
        Self(text)
    }

    /// The value as JSON.
    pub fn get(&self) -> Box<RawValue> {
        RawValue::from_string(self.0.clone()).unwrap_or_else(|_| raw(&Value::Null))
    }
}

/// A value as text.
pub fn raw(value: &impl Serialize) -> Box<RawValue> {
    to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

fn write(json: &str, text: &mut String) {
    match json.as_bytes().first() {
        Some(b'{') => {
            let members: Members = serde_json::from_str(json).unwrap_or_default();
            text.push('{');
            for (i, (name, value)) in members.last_of_each().into_iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                text.push_str(raw(&name).get());
                text.push(':');
                write(value.get(), text);
            }
            text.push('}');
        }
        Some(b'[') => {
            let items: Vec<Box<RawValue>> = serde_json::from_str(json).unwrap_or_default();
            text.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                write(item.get(), text);
            }
            text.push(']');
        }
        _ if is_long_integer(json) => text.push_str(json),
        _ => {
            let value: Value = serde_json::from_str(json).unwrap_or_default();
            text.push_str(raw(&value).get());
        }
    }
}

/// Whether a JSON value is an integer that does not fit into 64 bits.
fn is_long_integer(json: &str) -> bool {
    let digits = json.strip_prefix('-').unwrap_or(json);
    !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_digit())
        && json.parse::<i64>().is_err()
        && json.parse::<u64>().is_err()
}

/// The members of a JSON object in their order, including repeated names.
#[derive(Debug, Default)]
pub struct Members(pub Vec<(String, Box<RawValue>)>);

impl Members {
    /// The value of the member of this name; `None` if another member has the same name in any case of letters.
    pub fn only<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let alike = |(spelt, _): &&(String, _)| spelt.eq_ignore_ascii_case(name);
        let mut alike = self.0.iter().filter(alike);
        match (alike.next(), alike.next()) {
            (Some((spelt, value)), None) if spelt == name => serde_json::from_str(value.get()).ok(),
            _ => None,
        }
    }

    /// The value of the last member of this name, as parsers into maps take it.
    pub fn last(&self, name: &str) -> Option<&RawValue> {
        let mut from_behind = self.0.iter().rev();
        let found = from_behind.find(|(spelt, _)| spelt == name);
        found.map(|(_, value)| &**value)
    }

    /// Each name with its last value, at the place of its first.
    fn last_of_each(&self) -> Vec<(&str, &RawValue)> {
        let members = self.0.iter();
        let mut last: HashMap<&str, &RawValue> = members
            .map(|(name, value)| (name.as_str(), &**value))
            .collect();
        let mut all = Vec::with_capacity(last.len());
        for (name, _) in &self.0 {
            if let Some(value) = last.remove(name.as_str()) {
                all.push((name.as_str(), value));
            }
        }
        all
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
    use proptest::prelude::*;

    fn exact(json: &str) -> String {
        Exact::of(&serde_json::from_str::<Box<RawValue>>(json).unwrap()).0
    }

    #[test]
    fn integers_of_any_length_stay_and_all_else_is_as_it_is_parsed() {
        for (sent, kept) in [
            (
                "123456789012345678901234567890",
                "123456789012345678901234567890",
            ),
            ("18446744073709551615", "18446744073709551615"),
            ("18446744073709551616", "18446744073709551616"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("-9223372036854775809", "-9223372036854775809"),
            ("1e3", "1000.0"),
            ("0.10", "0.1"),
            (
                r#" { "a" : [ 1 , {"b":99999999999999999999} ] } "#,
                r#"{"a":[1,{"b":99999999999999999999}]}"#,
            ),
            (
                r#"{"a":1,"b":2,"\u0061":36893488147419103232}"#,
                r#"{"a":36893488147419103232,"b":2}"#,
            ),
            (
                r#"["\u00e9","12345678901234567890123",null,true]"#,
                r#"["é","12345678901234567890123",null,true]"#,
            ),
        ] {
            assert_eq!(exact(sent), kept);
            assert_eq!(exact(kept), kept, "again");
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map(".{0,4}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_fits_into_64_bits_is_kept_as_the_parser_has_it(value in values()) {
            let text = value.to_string();
            let parsed: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(exact(&text), parsed.to_string());
        }
    }
}
