//! Receipts: the lasting, secret-free record of what was taken away. They outlive the server.

use super::{Condition, SK, Table, Write, decode, encode, failed, keys, s};
use crate::Result;
use crate::domain::credential::Source;
use crate::domain::id::{ServerId, TenantId};
use crate::domain::subject::{Actor, Subject};
use crate::domain::time::Timestamp;
use serde::{Deserialize, Serialize};

/// One removal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Receipt {
    /// Opaque to clients; sorts by time.
    pub id: String,
    /// What was removed.
    pub removed: Removed,
    /// From which server; from all of them if none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerId>,
    /// By whom.
    pub actor: Actor,
    /// When the removal took effect.
    pub at: Timestamp,
    /// Whether all of it is settled; a deleted server's is once its partition is empty.
    pub complete: bool,
    /// When it was settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Timestamp>,
    /// How many credentials went with it; a deleted server's are counted before the first of them is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
}

/// How many credentials of each source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Counts {
    pub oauth: u64,
    pub overrides: u64,
}

/// What a receipt is for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Removed {
    /// One credential of one subject.
    Credential {
        /// Whose.
        #[serde(flatten)]
        subject: Subject,
        /// Which.
        source: Source,
    },
    /// Everything of one subject.
    Subject {
        /// Whose.
        #[serde(flatten)]
        subject: Subject,
    },
    /// A server and everything under it.
    Server {
        /// The name it had.
        name: String,
        /// The number it had.
        number: u64,
    },
}

impl Counts {
    /// One credential.
    pub fn one(source: Source) -> Self {
        let mut counts = Self::default();
        counts.add(source);
        counts
    }

    /// Counts one more.
    pub fn add(&mut self, source: Source) {
        match source {
            Source::Oauth => self.oauth += 1,
            Source::Override => self.overrides += 1,
        }
    }
}

pub(crate) fn put(tenant: &TenantId, receipt: &Receipt) -> Result<Write> {
    let item = encode(&keys::receipt(tenant, &receipt.id), "receipt", receipt)?;
    Ok(Write::Put(item, Condition::Absent))
}

/// Counts one credential more on a receipt.
pub(crate) fn count(tenant: &TenantId, receipt: &str, source: Source) -> Write {
    let field = match source {
        Source::Oauth => "oauth",
        Source::Override => "overrides",
    };
    Write::Increment(keys::receipt(tenant, receipt), "counts", field)
}

/// Key of a receipt.
pub fn key(tenant: &TenantId, id: &str) -> super::Key {
    keys::receipt(tenant, id)
}

impl super::Found {
    /// The receipt with this id, if it was read and exists.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when the item is corrupt.
    pub fn receipt(&self, tenant: &TenantId, id: &str) -> Result<Option<Receipt>> {
        self.get(&key(tenant, id))
    }
}

impl Table {
    /// Up to `limit` receipts of a tenant that are older than `before`, newest first.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn receipts(
        &self,
        tenant: &TenantId,
        before: Option<&str>,
        limit: i32,
    ) -> Result<Vec<Receipt>> {
        // Ids are ULIDs, so anything after the prefix that is no more than `Z` lies below `R#[`.
        let end = before.map_or_else(|| "R#[".to_owned(), |id| keys::receipt(tenant, id).sk);
        let answer = self
            .client
            .query()
            .table_name(&self.name)
            .consistent_read(true)
            .scan_index_forward(false)
            .key_condition_expression("PK = :pk AND #sk BETWEEN :start AND :end")
            .expression_attribute_names("#sk", SK)
            .expression_attribute_values(":pk", s(keys::tenant_partition(tenant)))
            .expression_attribute_values(":start", s("R#"))
            .expression_attribute_values(":end", s(&end))
            // The one that `before` names is in the range and is left out below.
            .limit(limit.saturating_add(1))
            .send()
            .await
            .map_err(failed)?;
        let older = answer
            .items
            .into_iter()
            .flatten()
            .filter(|item| item.get(SK) != Some(&s(&end)));
        let wanted = usize::try_from(limit).unwrap_or(0);
        older.take(wanted).map(|item| decode(&item)).collect()
    }
}
