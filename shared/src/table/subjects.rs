//! What concerns a subject at all servers, in the tenant's partition: how often it was offboarded.

use super::reasons::OFFBOARDINGS;
use super::{Condition, ENTITY, Found, Key, Table, Update, Write, keys, n, readable, s};
use crate::Result;
use crate::domain::id::{ServerId, TenantId};
use crate::domain::subject::{Subject, SubjectType};
use crate::domain::time::Timestamp;
use serde::Deserialize;

/// When the last offboarding was asked for.
const OFFBOARDED_AT: &str = "offboarded_at";

#[derive(Deserialize)]
struct Counted {
    offboardings: u64,
    /// None where an older version has counted.
    #[serde(default)]
    offboarded_at: Option<Timestamp>,
}

/// Key of a subject.
pub fn key(tenant: &TenantId, subject: &Subject) -> Key {
    keys::subject(tenant, subject)
}

impl Found {
    /// How often a subject was offboarded, if its item was read.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when the item is corrupt.
    pub fn offboardings(&self, tenant: &TenantId, subject: &Subject) -> Result<u64> {
        let counted: Option<Counted> = self.get(&key(tenant, subject))?;
        Ok(counted.map_or(0, |one| one.offboardings))
    }

    /// When a subject was offboarded last, if its item was read.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when the item is corrupt.
    pub fn offboarded_at(&self, tenant: &TenantId, subject: &Subject) -> Result<Option<Timestamp>> {
        let counted: Option<Counted> = self.get(&key(tenant, subject))?;
        Ok(counted.and_then(|one| one.offboarded_at))
    }
}

impl Table {
    /// Some of the subjects of a type that have something at a server, from `after` on, and where the rest starts.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn subjects_at(
        &self,
        tenant: &TenantId,
        server: ServerId,
        kind: SubjectType,
        after: Option<Key>,
    ) -> Result<(Vec<Subject>, Option<Key>)> {
        const PAGE: i32 = 1000;
        let partition = keys::server_partition(tenant, server);
        let prefix = keys::credentials_of(kind);
        let (items, next) = self.query_page(partition, &prefix, after, PAGE).await?;
        Ok((items.iter().filter_map(readable).collect(), next))
    }
}

/// Counts one more offboarding of a subject, if there have been so many.
pub(crate) fn count(tenant: &TenantId, subject: &Subject, read: u64, at: Timestamp) -> Write {
    Write::Update(Update {
        key: key(tenant, subject),
        set: vec![
            (ENTITY, s("subject")),
            ("subject_type", s(subject.kind().as_str())),
            ("subject_id", s(subject.id())),
            (OFFBOARDED_AT, n(at.micros())),
        ],
        count: Vec::new(),
        next: vec![OFFBOARDINGS],
        condition: Condition::Counts(OFFBOARDINGS, read),
    })
}
