//! Reading a JSON object field by field while collecting every fault with its path, never the value.

use super::problem::{Fault, Problem};
use crate::http::field;
use hawser_core::App;
use serde_json::{Map, Value};

/// What was wrong so far: faults, and kinds of configuration that are refused.
#[derive(Debug, Default)]
pub struct Faults {
    invalid: Vec<Fault>,
    unsupported: Vec<Fault>,
    references: Vec<Fault>,
    refuses_references: bool,
}

impl Faults {
    /// None so far. References to secrets are refused where the operator has not said where secrets are.
    pub fn of(app: &App) -> Self {
        Self {
            refuses_references: app.secret_mapping.is_none(),
            ..Self::default()
        }
    }

    /// Whether references to secrets are refused.
    pub const fn refuses_references(&self) -> bool {
        self.refuses_references
    }

    /// Notes a reference to a secret that is refused.
    pub fn reference(&mut self, path: impl Into<String>, message: &'static str) {
        self.references.push(Fault {
            path: path.into(),
            message,
        });
    }

    /// Notes a fault.
    pub fn invalid(&mut self, path: impl Into<String>, message: &'static str) {
        self.invalid.push(Fault {
            path: path.into(),
            message,
        });
    }

    /// Notes a discriminator that is refused.
    pub fn unsupported(&mut self, path: impl Into<String>, message: &'static str) {
        self.unsupported.push(Fault {
            path: path.into(),
            message,
        });
    }

    /// The value, if nothing was wrong.
    ///
    /// # Errors
    /// [`Problem::Unsupported`] before [`Problem::SecretReference`] before [`Problem::Invalid`].
    pub fn into_result<T>(self, value: Option<T>) -> Result<T, Problem> {
        match value {
            _ if !self.unsupported.is_empty() => Err(Problem::Unsupported(self.unsupported)),
            _ if !self.references.is_empty() => Err(Problem::SecretReference(self.references)),
            Some(value) if self.invalid.is_empty() => Ok(value),
            _ => Err(Problem::Invalid(self.invalid)),
        }
    }
}

/// An object at its path. `null` reads as absent.
pub struct Reader<'a> {
    object: &'a Map<String, Value>,
    path: String,
    /// Where faults go.
    pub faults: &'a mut Faults,
}

const REQUIRED: &str = "is required";
const NOT_TEXT: &str = "must be a string";
const NOT_BOOLEAN: &str = "must be a boolean";
const NOT_ARRAY: &str = "must be an array";
const NOT_OBJECT: &str = "must be an object";

impl<'a> Reader<'a> {
    /// The object of a whole body; `None`, with the fault noted, if it is not one.
    pub fn body(bytes: &[u8], faults: &mut Faults) -> Option<Map<String, Value>> {
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(object)) => Some(object),
            Ok(_) => {
                faults.invalid("", NOT_OBJECT);
                None
            }
            Err(_) => {
                faults.invalid("", "must be a JSON object");
                None
            }
        }
    }

    /// Reads `object`, which stands at `path`; the root has an empty one.
    pub fn new(object: &'a Map<String, Value>, path: &str, faults: &'a mut Faults) -> Self {
        Self {
            object,
            path: path.to_owned(),
            faults,
        }
    }

    /// The path of a field.
    pub fn at(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// A reader for the object in a field, if there is one.
    pub fn object(&mut self, name: &str) -> Option<Reader<'_>> {
        let path = self.at(name);
        match self.get(name) {
            None => None,
            Some(Value::Object(object)) => Some(Reader {
                object,
                path,
                faults: self.faults,
            }),
            Some(_) => {
                self.faults.invalid(path, NOT_OBJECT);
                None
            }
        }
    }

    /// The field, unless it is absent or null.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        field(self.object, name)
    }

    /// All fields, null or not.
    pub fn entries(&self) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
        self.object.iter()
    }

    /// Notes a fault of the object itself.
    pub fn fault_of_all(&mut self, message: &'static str) {
        self.faults.invalid(self.path.clone(), message);
    }

    /// Notes a fault of a field.
    pub fn fault(&mut self, name: &str, message: &'static str) {
        let path = self.at(name);
        self.faults.invalid(path, message);
    }

    /// Notes the fault if a required field has no value.
    pub fn required<T>(&mut self, name: &str, value: Option<T>) -> Option<T> {
        if self.get(name).is_none() {
            self.fault(name, REQUIRED);
        }
        value
    }

    /// A string.
    pub fn text(&mut self, name: &str) -> Option<&'a str> {
        let value = self.get(name)?;
        let text = value.as_str();
        if text.is_none() {
            self.fault(name, NOT_TEXT);
        }
        text
    }

    /// A string that passes a rule.
    pub fn checked(
        &mut self,
        name: &str,
        rule: impl FnOnce(&str) -> Result<(), &'static str>,
    ) -> Option<&'a str> {
        let text = self.text(name)?;
        match rule(text) {
            Ok(()) => Some(text),
            Err(message) => {
                self.fault(name, message);
                None
            }
        }
    }

    /// A required string that passes a rule.
    pub fn required_text(
        &mut self,
        name: &str,
        rule: impl FnOnce(&str) -> Result<(), &'static str>,
    ) -> Option<&'a str> {
        let text = self.checked(name, rule);
        self.required(name, text)
    }

    /// A boolean.
    pub fn boolean(&mut self, name: &str) -> Option<bool> {
        let value = self.get(name)?.as_bool();
        if value.is_none() {
            self.fault(name, NOT_BOOLEAN);
        }
        value
    }

    /// An array.
    pub fn array(&mut self, name: &str) -> Option<&'a Vec<Value>> {
        let value = self.get(name)?.as_array();
        if value.is_none() {
            self.fault(name, NOT_ARRAY);
        }
        value
    }

    /// An array of strings that each pass a rule.
    pub fn texts(
        &mut self,
        name: &str,
        rule: impl Fn(&str) -> Result<(), &'static str>,
    ) -> Option<Vec<String>> {
        let items = self.array(name)?;
        let mut texts = Vec::new();
        for (i, item) in items.iter().enumerate() {
            let path = format!("{}[{i}]", self.at(name));
            match item
                .as_str()
                .ok_or(NOT_TEXT)
                .and_then(|text| rule(text).map(|()| text))
            {
                Ok(text) => texts.push(text.to_owned()),
                Err(message) => self.faults.invalid(path, message),
            }
        }
        Some(texts)
    }

    /// An array of objects, each read by `read` at its own path.
    pub fn objects<T>(
        &mut self,
        name: &str,
        mut read: impl FnMut(Reader<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let items = self.array(name)?;
        let mut all = Vec::new();
        for (i, item) in items.iter().enumerate() {
            let path = format!("{}[{i}]", self.at(name));
            match item.as_object() {
                Some(object) => all.extend(read(Reader {
                    object,
                    path,
                    faults: self.faults,
                })),
                None => self.faults.invalid(path, NOT_OBJECT),
            }
        }
        Some(all)
    }
}

/// 1 to `max` characters.
pub fn length(max: usize) -> impl Fn(&str) -> Result<(), &'static str> {
    move |text| match text.chars().count() {
        0 => Err("must not be empty"),
        n if n > max => Err("is too long"),
        _ => Ok(()),
    }
}
