//! Who a credential is for and who acts.

use super::id::is_plain_text;
use serde::{Deserialize, Serialize};

/// The kinds of subject; the order is that of listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SubjectType {
    /// A person.
    #[serde(rename = "user")]
    User,
    /// A service account.
    #[serde(rename = "virtualaccount")]
    VirtualAccount,
    /// A person known to an external identity provider only; never has a record of its own.
    #[serde(rename = "external-identity")]
    ExternalIdentity,
}

impl SubjectType {
    /// The wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::VirtualAccount => "virtualaccount",
            Self::ExternalIdentity => "external-identity",
        }
    }

    /// Reads the wire name, exactly.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::User, Self::VirtualAccount, Self::ExternalIdentity]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

/// A user or a virtual account of a tenant. Sorted as listings are: by type, then by id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Subject {
    #[serde(rename = "subject_type")]
    kind: SubjectType,
    #[serde(rename = "subject_id")]
    id: String,
}

impl Subject {
    /// A subject whose id has 1 to 255 characters and no control character.
    pub fn new(kind: SubjectType, id: &str) -> Option<Self> {
        is_plain_text(id, 255).then(|| Self {
            kind,
            id: id.to_owned(),
        })
    }

    /// `user:alice`, the form of the command line.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, id) = text.split_once(':')?;
        Self::new(SubjectType::parse(kind)?, id)
    }

    /// User, virtual account or external identity.
    pub const fn kind(&self) -> SubjectType {
        self.kind
    }

    /// The id, byte for byte as the identity provider gave it.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// A subject as answers name it, with what was known of it when it acted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The subject.
    #[serde(flatten)]
    pub subject: Subject,
    /// E-mail address, else username.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
    /// Name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Label of the API key that was used, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_label: Option<String>,
}
