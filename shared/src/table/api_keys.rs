//! API keys: what each may do, and the hash of its secret.

use super::{Condition, Found, Key, Table, Write, encode, keys, trail};
use crate::Result;
use crate::domain::event::Event;
use crate::domain::id::TenantId;
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// An API key as the table holds it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ApiKey {
    /// The public part of the key.
    pub id: String,
    /// SHA-256 of the secret part, lower-case hex.
    pub secret_hash: String,
    /// Whom it acts as; a service key without an owner acts as itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Subject>,
    /// The owner's e-mail address, for collaborators of that form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// TrueFoundry tenant roles.
    #[serde(default)]
    pub roles: BTreeSet<String>,
    /// TrueFoundry teams.
    #[serde(default)]
    pub teams: BTreeSet<String>,
    /// LangSmith permissions.
    #[serde(default)]
    pub permissions: BTreeSet<String>,
    /// Kambrium scopes.
    #[serde(default)]
    pub scopes: BTreeSet<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

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
        if self
            .write_if(vec![
                Write::Put(item, Condition::Absent),
                trail::put(event)?,
            ])
            .await?
        {
            Ok(())
        } else {
            Err(crate::Error::internal("a fresh key id was in use"))
        }
    }

    /// All keys of a tenant, oldest first.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn api_keys(&self, tenant: &TenantId) -> Result<Vec<ApiKey>> {
        self.query(keys::tenant_partition(tenant), keys::API_KEYS)
            .await
    }

    /// Ends a key at once. Answers `false` when there is none of that id.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn remove_api_key(&self, tenant: &TenantId, id: &str, event: &Event) -> Result<bool> {
        let bury = Write::Delete(key(tenant, id), Condition::Exists);
        self.write_if(vec![bury, trail::put(event)?]).await
    }
}
