//! What a subject has allowed to applications, in one item of the tenant's partition, so that it is not asked again. It goes in
//! the transaction that offboards the subject, and does not count at another number of offboardings.

use super::{Condition, Found, Key, Table, Write, encode, guard, keys};
use crate::Result;
use crate::domain::application::Remembered;
use crate::domain::id::TenantId;
use crate::domain::subject::Subject;

/// Key of what a subject has allowed.
pub fn key(tenant: &TenantId, subject: &Subject) -> Key {
    keys::remembered_applications(tenant, subject)
}

impl Found {
    /// What a subject has allowed, if its item was read and exists.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when the item is corrupt.
    pub fn remembered(&self, tenant: &TenantId, subject: &Subject) -> Result<Option<Remembered>> {
        self.get(&key(tenant, subject))
    }
}

impl Table {
    /// Keeps what a subject has allowed in place of what was read, if that still stands and the subject has not been offboarded
    /// since. Returns `false` if not.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn put_remembered(
        &self,
        tenant: &TenantId,
        remembered: &Remembered,
        read: Option<&str>,
    ) -> Result<bool> {
        let own = key(tenant, &remembered.subject);
        let condition = read.map_or(Condition::Absent, Condition::version);
        let item = encode(&own, "remembered-applications", remembered)?;
        self.write_if(vec![
            Write::Put(item, condition),
            guard::require_subject(tenant, &remembered.subject, remembered.offboardings),
        ])
        .await
    }
}

impl Table {
    /// Replaces what a subject has allowed by less, if it still is as it was read. Returns whether.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn replace_remembered(
        &self,
        tenant: &TenantId,
        remembered: &Remembered,
        read: &str,
    ) -> Result<bool> {
        let own = key(tenant, &remembered.subject);
        let item = encode(&own, "remembered-applications", remembered)?;
        let unchanged = Condition::version(read);
        self.write_if(vec![Write::Put(item, unchanged)]).await
    }
}

/// For the transaction that offboards a subject.
pub(crate) fn forget(tenant: &TenantId, subject: &Subject) -> Write {
    Write::Delete(key(tenant, subject), Condition::Any)
}
