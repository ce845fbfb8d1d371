//! `tfy-secret://TENANT:GROUP:NAME` in the place of a secret (TrueFoundry 5.6).

use super::permission::{Permission, require};
use super::problem::{Fault, Problem};
use hawser_core::App;
use hawser_core::domain::caller::Caller;
use hawser_core::operations::secret_references::{NamedSecret, Unresolved, look_up};
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;

const SCHEME: &str = "tfy-secret://";

/// What a secret that is read has to comply with, as one that is sent.
pub type Rule = fn(&str) -> Result<(), &'static str>;

/// A reference, and what stands before it in the value.
#[derive(Clone, Debug)]
pub struct Reference {
    prefix: String,
    named: NamedSecret,
    rule: Rule,
}

impl Reference {
    /// Reads a value that is a reference, or words such as `Bearer` and a reference. `None` where it holds none.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(value: &str, rule: Rule) -> Option<Result<Self, &'static str>> {
        let (prefix, reference) = value.split_once(SCHEME)?;
        if !prefix.is_empty() && !prefix.ends_with(' ') {
            return None;
        }
        // A tenant's name may hold colons.
        let mut parts = reference.rsplitn(3, ':');
        let (name, group, tenant) = (parts.next(), parts.next(), parts.next());
        let parts = [tenant, group, name].map(|part| part.filter(|part| !part.is_empty()));
        let [Some(tenant), Some(group), Some(name)] = parts else {
            return Some(Err("must be tfy-secret://TENANT:GROUP:NAME"));
        };
        Some(Ok(Self {
            prefix: prefix.to_owned(),
            named: NamedSecret {
                tenant: tenant.to_owned(),
                group: group.to_owned(),
                name: name.to_owned(),
            },
            rule,
        }))
    }

    /// Whether a text begins with a reference, whatever is wrong with that.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// The value that a secret makes here.
    fn fill(&self, secret: &SecretString) -> Result<SecretString, &'static str> {
        let value = SecretString::from(format!("{}{}", self.prefix, secret.expose_secret()));
        match (self.rule)(value.expose_secret()) {
            Ok(()) => Ok(value),
            Err(_) => Err("leads to a secret that cannot stand here"),
        }
    }
}

/// A value as it was sent to a secret place.
#[derive(Clone, Debug)]
pub enum Sent {
    /// `<REDACTED>`: what is stored stays.
    Kept,
    /// The value itself.
    Value(SecretString),
    /// Where the value is.
    Reference(Reference),
}

impl Sent {
    /// Whether the marker was sent.
    pub const fn is_kept(&self) -> bool {
        matches!(self, Self::Kept)
    }
}

/// What references lead to, by path of the place.
#[derive(Debug, Default)]
pub struct Resolved(BTreeMap<String, SecretString>);

impl Resolved {
    /// Reads the secrets that are referred to, each once. A secret that is named in a manifest can be had by whoever runs the
    /// server, so this takes a role in the whole tenant.
    ///
    /// # Errors
    /// [`Problem::PermissionDenied`], [`Problem::SecretReference`].
    pub async fn read<'a>(
        app: &App,
        caller: &Caller,
        sent: impl Iterator<Item = (&'a str, &'a Sent)>,
    ) -> Result<Self, Problem> {
        let mut resolved = Self::default();
        let mut known: BTreeMap<NamedSecret, Result<SecretString, Unresolved>> = BTreeMap::new();
        let mut faults = Vec::new();
        for (path, sent) in sent {
            let Sent::Reference(reference) = sent else {
                continue;
            };
            require(caller, None, Permission::Create)?;
            let found = match known.get(&reference.named) {
                Some(found) => found.clone(),
                None => {
                    let found = look_up(app, caller, &reference.named).await?;
                    known.insert(reference.named.clone(), found.clone());
                    found
                }
            };
            match found
                .map_err(why)
                .and_then(|secret| reference.fill(&secret))
            {
                Ok(value) => {
                    resolved.0.insert(path.to_owned(), value);
                }
                Err(message) => faults.push(Fault {
                    path: path.to_owned(),
                    message,
                }),
            }
        }
        if faults.is_empty() {
            Ok(resolved)
        } else {
            Err(Problem::SecretReference(faults))
        }
    }

    /// The value for a place; `None` to keep what is stored.
    pub fn value<'a>(&'a self, path: &str, sent: &'a Sent) -> Option<&'a SecretString> {
        match sent {
            Sent::Kept => None,
            Sent::Value(value) => Some(value),
            Sent::Reference(_) => self.0.get(path),
        }
    }
}

/// What a client is told. Nothing in it depends on which secrets there are elsewhere.
pub const fn why(unresolved: Unresolved) -> &'static str {
    match unresolved {
        Unresolved::NotMapped => {
            "refers to a secret, but the operator has not set where secrets are"
        }
        Unresolved::OtherTenant => "refers to a secret of another tenant",
        Unresolved::Unknown => "refers to a secret that cannot be read",
    }
}
