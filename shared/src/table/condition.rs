//! The condition of a write, and its expression.

use super::{Item, n, s};
use aws_sdk_dynamodb::types::AttributeValue;
use std::collections::HashMap;

/// What must be true of the item for the whole transaction to happen.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    Any,
    Absent,
    Exists,
    /// It exists without this attribute.
    Lacks(&'static str),
    /// It exists and these attributes have these values.
    Has(Vec<(&'static str, AttributeValue)>),
    /// The same, and it lacks this attribute.
    HasWithout(Vec<(&'static str, AttributeValue)>, &'static str),
    /// This number in it has this value. Where there is none, or no item, it is nothing.
    Counts(&'static str, u64),
    /// This number in it, if there is one, is less.
    Below(&'static str, u64),
    /// It does not exist, or none of these attributes has this value.
    Unless(Vec<(&'static str, AttributeValue)>),
}

impl Condition {
    /// The item still has the version that was read.
    pub fn version(version: &str) -> Self {
        Self::Has(vec![("version", s(version))])
    }
}

pub(super) type Expression = (
    Option<String>,
    Option<HashMap<String, String>>,
    Option<Item>,
);

impl Condition {
    pub(super) fn expression(&self) -> Expression {
        match self {
            Self::Any => (None, None, None),
            Self::Absent => (Some("attribute_not_exists(PK)".to_owned()), None, None),
            Self::Exists => (Some("attribute_exists(PK)".to_owned()), None, None),
            Self::Lacks(name) => (
                Some("attribute_exists(PK) AND attribute_not_exists(#without)".to_owned()),
                Some(HashMap::from([("#without".to_owned(), (*name).to_owned())])),
                None,
            ),
            Self::Has(attributes) => Self::terms(attributes, None),
            Self::HasWithout(attributes, without) => Self::terms(attributes, Some(without)),
            Self::Counts(name, number) => {
                let names = HashMap::from([("#count".to_owned(), (*name).to_owned())]);
                let value = HashMap::from([(":count".to_owned(), n(number))]);
                match number {
                    0 => {
                        let none = "attribute_not_exists(#count) OR #count = :count";
                        (Some(none.to_owned()), Some(names), Some(value))
                    }
                    _ => (Some("#count = :count".to_owned()), Some(names), Some(value)),
                }
            }
            Self::Below(name, limit) => (
                Some("attribute_not_exists(#below) OR #below < :below".to_owned()),
                Some(HashMap::from([("#below".to_owned(), (*name).to_owned())])),
                Some(HashMap::from([(":below".to_owned(), n(limit))])),
            ),
            Self::Unless(attributes) => {
                let mut terms = vec!["attribute_exists(PK)".to_owned()];
                let (mut names, mut values) = (HashMap::new(), HashMap::new());
                let mut any = Vec::new();
                for (i, (name, value)) in attributes.iter().enumerate() {
                    any.push(format!("#c{i} = :c{i}"));
                    names.insert(format!("#c{i}"), (*name).to_owned());
                    values.insert(format!(":c{i}"), value.clone());
                }
                terms.push(format!("({})", any.join(" OR ")));
                let expression = format!("NOT ({})", terms.join(" AND "));
                (Some(expression), Some(names), Some(values))
            }
        }
    }

    fn terms(
        attributes: &[(&'static str, AttributeValue)],
        without: Option<&'static str>,
    ) -> Expression {
        let mut terms = Vec::new();
        let (mut names, mut values) = (HashMap::new(), HashMap::new());
        for (i, (name, value)) in attributes.iter().enumerate() {
            terms.push(format!("#c{i} = :c{i}"));
            names.insert(format!("#c{i}"), (*name).to_owned());
            values.insert(format!(":c{i}"), value.clone());
        }
        if let Some(name) = without {
            terms.push("attribute_not_exists(#without)".to_owned());
            names.insert("#without".to_owned(), name.to_owned());
        }
        (Some(terms.join(" AND ")), Some(names), Some(values))
    }
}
