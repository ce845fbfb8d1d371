//! One way to read the JSON that servers and issuers answer with: resource and issuer metadata, registrations, tokens,
//! errors. Each member is read separately, so that a malformed one affects nothing but itself.

use secrecy::SecretString;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::HashMap;

/// The members of a JSON object that somebody else wrote. A member of the wrong type, nested too deep or out of range
/// counts as absent. Of a repeated member the last counts.
#[derive(Default)]
pub(super) struct Members<'a>(HashMap<String, &'a RawValue>);

impl<'a> Members<'a> {
    /// The members of a document; `None` if it is no JSON object. A byte order mark before it is ignored.
    pub fn parse(document: &'a str) -> Option<Self> {
        serde_json::from_str(document.trim_start_matches('\u{feff}'))
            .ok()
            .map(Self)
    }

    /// A text that is not empty. A list of one text counts as that text.
    pub fn text(&self, name: &str) -> Option<String> {
        match self.value(name)? {
            Value::String(text) => Some(text),
            Value::Array(items) => match <[Value; 1]>::try_from(items) {
                Ok([Value::String(text)]) => Some(text),
                _ => None,
            },
            _ => None,
        }
        .filter(|text| !text.trim().is_empty())
    }

    /// The texts of a list, if it has any; other values in it are left out. A text counts as a list of its words.
    pub fn list(&self, name: &str) -> Option<Vec<String>> {
        let all: Vec<String> = match self.value(name)? {
            Value::String(text) => text.split_whitespace().map(str::to_owned).collect(),
            Value::Array(items) => items
                .into_iter()
                .filter_map(|item| match item {
                    Value::String(text) if !text.trim().is_empty() => Some(text),
                    _ => None,
                })
                .collect(),
            _ => return None,
        };
        (!all.is_empty()).then_some(all)
    }

    /// Whether a flag is set: `true`, or that word as a text.
    pub fn flag(&self, name: &str) -> bool {
        match self.value(name) {
            Some(Value::Bool(flag)) => flag,
            Some(Value::String(text)) => text.trim().eq_ignore_ascii_case("true"),
            _ => false,
        }
    }

    /// A whole number. It may be a text, and may have a fraction, which is cut off.
    pub fn integer(&self, name: &str) -> Option<i64> {
        match self.value(name)? {
            Value::Number(number) => number.as_i64().or(number.as_f64().map(|n| n as i64)),
            Value::String(text) => {
                let text = text.trim();
                let with_fraction = || text.parse::<f64>().ok().filter(|n| n.is_finite());
                text.parse()
                    .ok()
                    .or_else(|| with_fraction().map(|n| n as i64))
            }
            _ => None,
        }
    }

    /// A secret: a text that is not empty.
    pub fn secret(&self, name: &str) -> Option<SecretString> {
        let text: String = self.read(name)?;
        (!text.is_empty()).then(|| text.into())
    }

    /// The value, of whatever type.
    pub fn value(&self, name: &str) -> Option<Value> {
        self.read(name)
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_str(self.0.get(name)?.get()).ok()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use secrecy::ExposeSecret;
    use serde_json::json;

    /// JSON of any kind, as text: some of it cannot be represented in any other way.
    pub(in crate::oauth) fn anything() -> impl Strategy<Value = String> {
        let plain = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            r"\PC{0,12}".prop_map(Value::from),
        ];
        let nested = plain.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z_]{0,8}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        });
        prop_oneof![
            6 => nested.prop_map(|value| value.to_string()),
            1 => Just("1e999".to_owned()),
            1 => Just(r#""\ud800""#.to_owned()),
            1 => Just(format!("{}{}", "[".repeat(500), "]".repeat(500))),
        ]
    }

    #[test]
    fn reads_what_servers_write() {
        let of = |value: &str| format!(r#"{{"it":{value}}}"#);
        let texts: [(&str, Option<&str>); 10] = [
            (r#""a b""#, Some("a b")),
            (r#"["https://h/mcp"]"#, Some("https://h/mcp")),
            (r#""""#, None),
            (r#"" ""#, None),
            (r#"[""]"#, None),
            (r#"["a","b"]"#, None),
            ("[1]", None),
            ("7", None),
            ("null", None),
            ("{}", None),
        ];
        for (value, text) in texts {
            let document = of(value);
            let members = Members::parse(&document).unwrap();
            assert_eq!(members.text("it").as_deref(), text, "{value}");
        }
        let lists: [(&str, Option<&[&str]>); 9] = [
            (r#"["a","b c"]"#, Some(&["a", "b c"])),
            (r#""a  b""#, Some(&["a", "b"])),
            (r#"["a",1,null,"",["x"]]"#, Some(&["a"])),
            ("[]", None),
            (r#""""#, None),
            ("[1]", None),
            ("null", None),
            ("true", None),
            (r#"{"a":"b"}"#, None),
        ];
        for (value, list) in lists {
            let document = of(value);
            let read = Members::parse(&document).unwrap().list("it");
            let list = list.map(|list| list.iter().map(ToString::to_string).collect::<Vec<_>>());
            assert_eq!(read, list, "{value}");
        }
        for (value, flag) in [
            ("true", true),
            (r#""true""#, true),
            (r#"" TRUE ""#, true),
            ("false", false),
            (r#""false""#, false),
            ("1", false),
            ("null", false),
            ("[true]", false),
        ] {
            let document = of(value);
            assert_eq!(
                Members::parse(&document).unwrap().flag("it"),
                flag,
                "{value}"
            );
        }
        for (value, number) in [
            ("60", Some(60)),
            (r#""60""#, Some(60)),
            ("59.9", Some(59)),
            (r#"" 59.9 ""#, Some(59)),
            ("-1", Some(-1)),
            ("1e300", Some(i64::MAX)),
            ("18446744073709551615", Some(i64::MAX)),
            (r#""soon""#, None),
            (r#""inf""#, None),
            (r#""nan""#, None),
            ("1e999", None),
            ("null", None),
            ("[60]", None),
            (r#"{"seconds":60}"#, None),
        ] {
            let document = of(value);
            assert_eq!(
                Members::parse(&document).unwrap().integer("it"),
                number,
                "{value}"
            );
        }
        for (value, secret) in [
            (r#""s 1""#, Some("s 1")),
            (r#""""#, None),
            ("1", None),
            (r#"["s"]"#, None),
        ] {
            let document = of(value);
            let read = Members::parse(&document).unwrap().secret("it");
            assert_eq!(
                read.as_ref().map(ExposeSecret::expose_secret),
                secret,
                "{value}"
            );
        }
    }

    #[test]
    fn only_an_object_is_a_document() {
        for document in ["", "<html>", "[]", "null", r#""{}""#, "{", r#"{"a":1} x"#] {
            assert!(Members::parse(document).is_none(), "{document}");
        }
        let marked = "\u{feff} {\"a\":\"no\",\"a\":\"last\"}";
        assert_eq!(
            Members::parse(marked).unwrap().text("a").as_deref(),
            Some("last")
        );
    }

    proptest! {
        #[test]
        fn an_odd_member_costs_nothing_but_itself(odd in anything(), place in 0..2usize) {
            let mut members = vec![
                format!(r#""before":{}"#, json!("b")),
                format!(r#""after":{}"#, json!(["c"])),
            ];
            members.insert(place, format!(r#""odd":{odd}"#));
            let document = format!("{{{}}}", members.join(","));
            let members = Members::parse(&document).unwrap();
            prop_assert_eq!(members.text("before"), Some("b".to_owned()));
            prop_assert_eq!(members.list("after"), Some(vec!["c".to_owned()]));
            members.text("odd");
            members.list("odd");
            members.flag("odd");
            members.integer("odd");
            members.secret("odd");
        }
    }
}
