//! Lists of tools in their server's partition, kept for a while.

use super::{Condition, Found, Key, Table, Write, encode, keys};
use crate::Result;
use crate::domain::id::{ServerId, TenantId};
use crate::domain::subject::Subject;
use crate::domain::tool::CachedToolList;
use crate::table::guard;

/// Key of the list of one subject, or of all who bring nothing of their own.
pub fn key(tenant: &TenantId, server: ServerId, owner: Option<&Subject>) -> Key {
    keys::tools(tenant, server, owner)
}

impl Found {
    /// The list under this key, if it was read and exists.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when the item is corrupt.
    pub fn tools(&self, key: &Key) -> Result<Option<CachedToolList>> {
        self.get(key)
    }
}

impl Table {
    /// Keeps a list in place of the last one, as long as its server stands under this auth revision.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn cache_tools(
        &self,
        tenant: &TenantId,
        (server, auth_revision): (ServerId, u64),
        key: &Key,
        tools: &CachedToolList,
    ) -> Result<bool> {
        let writes = vec![
            Write::Put(encode(key, "tools", tools)?, Condition::Any),
            guard::require_server(tenant, server, Some(auth_revision)),
        ];
        self.write_if(writes).await
    }
}
