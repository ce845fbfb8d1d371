//! The wrapped keys of a tenant.

use super::{Condition, Table, Write, encode, keys};
use crate::Result;
use crate::domain::id::TenantId;
use crate::domain::sealed::WrappedTenantKey;

impl Table {
    /// One wrapped key of a tenant.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn tenant_key(
        &self,
        tenant: &TenantId,
        number: u32,
    ) -> Result<Option<WrappedTenantKey>> {
        let key = keys::tenant_key(tenant, number);
        self.read(vec![key.clone()]).await?.get(&key)
    }

    /// Adds a key. Returns `false` when there is one of that number already.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn add_tenant_key(&self, tenant: &TenantId, key: &WrappedTenantKey) -> Result<bool> {
        let item = encode(&keys::tenant_key(tenant, key.number), "tenant-key", key)?;
        self.write_if(vec![Write::Put(item, Condition::Absent)])
            .await
    }
}
