//! Sessions with MCP servers in their server's partition.

use super::{Condition, Found, Key, Table, Write, audit_log, encode, keys};
use crate::Result;
use crate::domain::event::Event;
use crate::domain::id::{ServerId, TenantId};
use crate::domain::mcp_session::McpSession;
use crate::table::guard;

/// Key of a session.
pub fn key(tenant: &TenantId, server: ServerId, id_hash: &str) -> Key {
    keys::mcp_session(tenant, server, id_hash)
}

impl Found {
    /// The session with this hash of its id, if it was read and exists.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when the item is corrupt.
    pub fn mcp_session(
        &self,
        tenant: &TenantId,
        server: ServerId,
        id_hash: &str,
    ) -> Result<Option<McpSession>> {
        self.get(&key(tenant, server, id_hash))
    }
}

impl Table {
    /// Keeps a session, as long as its server stands as it was read. Returns `false` if it does not.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn add_mcp_session(&self, session: &McpSession, event: &Event) -> Result<bool> {
        let (tenant, server) = (&session.tenant, session.server);
        let item = encode(
            &key(tenant, server, &session.id_hash),
            "mcp-session",
            session,
        )?;
        let writes = vec![
            Write::Put(item, Condition::Absent),
            guard::require_server(tenant, server, Some(session.auth_revision)),
            audit_log::put(event)?,
        ];
        self.write_if(writes).await
    }

    /// Forgets a session.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn remove_mcp_session(&self, session: &McpSession, event: &Event) -> Result<()> {
        let key = key(&session.tenant, session.server, &session.id_hash);
        let delete = Write::Delete(key, Condition::Exists);
        self.write_if(vec![delete, audit_log::put(event)?])
            .await
            .map(drop)
    }
}
