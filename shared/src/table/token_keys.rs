//! The keys that access tokens are signed with, in the operator's partition.

use super::{Condition, Table, Write, encode, keys};
use crate::Result;
use crate::domain::id::TenantId;
use crate::domain::sealed::TokenKey;

impl Table {
    /// The key of this number.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn token_key(&self, number: u32) -> Result<Option<TokenKey>> {
        let key = keys::token_key(number);
        self.read(vec![key.clone()]).await?.get(&key)
    }

    /// All keys, in the order of their numbers.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn token_keys(&self) -> Result<Vec<TokenKey>> {
        let partition = keys::tenant_partition(&TenantId::operator());
        self.query(partition, keys::TOKEN_KEYS).await
    }

    /// Adds a key. Returns `false` when there is one of that number already.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn add_token_key(&self, key: &TokenKey) -> Result<bool> {
        let item = encode(&keys::token_key(key.number), "token-key", key)?;
        self.write_if(vec![Write::Put(item, Condition::Absent)])
            .await
    }
}
