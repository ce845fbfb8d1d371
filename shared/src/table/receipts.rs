//! Receipts: the lasting, secret-free record of what was taken away. They outlive the server.

use super::{Condition, Table, Update, Write, encode, keys, n, readable};
use crate::domain::id::TenantId;
use crate::domain::receipt::{Counts, PresentedToken, Receipt};
use crate::domain::revocation::RevocationOutcome;
use crate::domain::time::Timestamp;
use crate::{Error, Result};
use aws_sdk_dynamodb::types::AttributeValue;

pub(crate) fn put(tenant: &TenantId, receipt: &Receipt) -> Result<Write> {
    let item = encode(&keys::receipt(tenant, &receipt.id), "receipt", receipt)?;
    Ok(Write::Put(item, Condition::Absent))
}

/// Counts more credentials on a receipt.
pub(crate) fn count(tenant: &TenantId, receipt: &str, more: Counts) -> Write {
    let fields = [
        ("oauth", more.oauth),
        ("overrides", more.overrides),
        ("logins", more.logins),
        ("provider_tokens", more.provider_tokens),
    ];
    let fields = fields.into_iter().filter(|(_, more)| *more > 0);
    Write::Update(Update {
        key: keys::receipt(tenant, receipt),
        set: Vec::new(),
        count: fields
            .map(|(field, more)| ("counts", field, more))
            .collect(),
        next: Vec::new(),
        condition: Condition::Has(vec![("closed", AttributeValue::Bool(false))]),
    })
}

/// Records on a receipt how a revocation ended.
pub(crate) fn record_outcome(
    tenant: &TenantId,
    receipt: &str,
    outcome: RevocationOutcome,
    presented: Option<&[PresentedToken]>,
    now: Timestamp,
) -> Result<Write> {
    let mut set = vec![("changed_at", n(now.micros()))];
    if let Some(presented) = presented {
        let list = serde_dynamo::to_attribute_value(presented).map_err(Error::internal)?;
        set.push(("presented", list));
    }
    Ok(Write::Update(Update {
        key: keys::receipt(tenant, receipt),
        set,
        count: vec![("outcomes", outcome.as_str(), 1)],
        next: Vec::new(),
        condition: Condition::Exists,
    }))
}

/// Closes a receipt: nothing more is removed under it.
pub(crate) fn close(
    tenant: &TenantId,
    receipt: &str,
    counts: Option<Counts>,
    now: Timestamp,
) -> Result<Write> {
    let mut set = vec![
        ("closed", AttributeValue::Bool(true)),
        ("changed_at", n(now.micros())),
    ];
    if let Some(counts) = counts {
        let counts = serde_dynamo::to_item(counts).map_err(Error::internal)?;
        set.push(("counts", AttributeValue::M(counts)));
    }
    Ok(Update::set(
        keys::receipt(tenant, receipt),
        set,
        Condition::Exists,
    ))
}

/// Replaces a receipt that has not changed since it was read.
pub(crate) fn mend(tenant: &TenantId, read: &Receipt, mended: &Receipt) -> Result<Write> {
    let item = encode(&keys::receipt(tenant, &read.id), "receipt", mended)?;
    let closed = ("closed", AttributeValue::Bool(read.closed));
    let unchanged = match read.changed_at {
        Some(at) => Condition::Has(vec![closed, ("changed_at", n(at.micros()))]),
        None => Condition::Lacks("changed_at"),
    };
    Ok(Write::Put(item, unchanged))
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
        let partition = keys::tenant_partition(tenant);
        let limit = usize::try_from(limit).unwrap_or(0);
        let page = self.query_newest(partition, keys::RECEIPTS, before, limit);
        let (items, _) = page.await?;
        Ok(items.iter().filter_map(readable).collect())
    }
}
