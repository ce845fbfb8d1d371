//! API keys: what each may do, and the hash of its secret. Kambrium's personal access tokens are such keys, whose text
//! names no tenant, so that each has a pointer item.

use super::{Condition, Found, Key, Table, Write, audit_log, encode, keys};
use crate::Result;
use crate::domain::api_key::{ApiKey, PersonalTokenPointer};
use crate::domain::event::Event;
use crate::domain::id::TenantId;

/// Key of an API key's item.
pub fn key(tenant: &TenantId, id: &str) -> Key {
    keys::api_key(tenant, id)
}

impl Found {
    /// The API key with this id, if it was read and exists.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when the item is corrupt.
    pub fn api_key(&self, tenant: &TenantId, id: &str) -> Result<Option<ApiKey>> {
        self.get(&key(tenant, id))
    }
}

/// The write of the pointer item of a personal access token.
pub(crate) fn put_pointer(tenant: &TenantId, api_key: &ApiKey) -> Result<Write> {
    let pointer = PersonalTokenPointer {
        tenant: tenant.clone(),
        id: api_key.id.clone(),
        bound_to: api_key.bound_to,
    };
    let key = keys::personal(&api_key.secret_hash);
    let item = encode(&key, "personal-lead", &pointer)?;
    Ok(Write::Put(item, Condition::Absent))
}

impl Table {
    /// Stores a new key.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn add_api_key(
        &self,
        tenant: &TenantId,
        api_key: &ApiKey,
        event: &Event,
    ) -> Result<()> {
        let item = encode(&key(tenant, &api_key.id), "api-key", api_key)?;
        let mut writes = vec![Write::Put(item, Condition::Absent), audit_log::put(event)?];
        if api_key.personal {
            writes.push(put_pointer(tenant, api_key)?);
        }
        if self.write_if(writes).await? {
            Ok(())
        } else {
            Err(crate::Error::internal("a fresh key id was in use"))
        }
    }

    /// The pointer of the personal access token with this hash, which names its tenant.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn personal(&self, hash: &str) -> Result<Option<PersonalTokenPointer>> {
        let key = keys::personal(hash);
        self.read(vec![key.clone()]).await?.get(&key)
    }

    /// All keys of a tenant, oldest first.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn api_keys(&self, tenant: &TenantId) -> Result<Vec<ApiKey>> {
        self.query(keys::tenant_partition(tenant), keys::API_KEYS)
            .await
    }

    /// Ends a key at once. Returns `false` when there is none of that id.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn remove_api_key(&self, tenant: &TenantId, id: &str, event: &Event) -> Result<bool> {
        let found = self.read(vec![key(tenant, id)]).await?;
        let Some(api_key) = found.api_key(tenant, id)? else {
            return Ok(false);
        };
        let mut writes = vec![
            Write::Delete(key(tenant, id), Condition::Exists),
            audit_log::put(event)?,
        ];
        if api_key.personal {
            let pointer = keys::personal(&api_key.secret_hash);
            writes.push(Write::Delete(pointer, Condition::Any));
        }
        self.write_if(writes).await
    }
}
