//! Sessions with MCP servers in their server's partition.

use super::{Condition, Found, Key, Table, Write, audit_log, encode, keys, s};
use crate::Result;
use crate::domain::event::Event;
use crate::domain::id::{ServerId, TenantId};
use crate::domain::mcp_session::McpSession;
use crate::table::guard;
use aws_sdk_dynamodb::types::AttributeValue;

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

    /// Replaces a session by the same one, opened at the server, as long as the server stands as it was read. Returns `false`
    /// if it does not, or if the session, whose fingerprint was `before`, was opened or closed meanwhile.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn open_mcp_session(
        &self,
        before: &str,
        opened: &McpSession,
        event: &Event,
    ) -> Result<bool> {
        let (tenant, server) = (&opened.tenant, opened.server);
        let key = key(tenant, server, &opened.id_hash);
        let unchanged = Condition::Has(vec![("fence", s(before))]);
        let writes = vec![
            Write::Put(encode(&key, "mcp-session", opened)?, unchanged),
            guard::require_server(tenant, server, Some(opened.auth_revision)),
            audit_log::put(event)?,
        ];
        self.write_if(writes).await
    }

    /// Notes the consent that a session's client was told of. A session that is gone needs no note.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn note_elicitation(&self, session: &McpSession, consent: &str) -> Result<()> {
        let key = key(&session.tenant, session.server, &session.id_hash);
        let told = vec![("elicitation", s(consent))];
        self.update(key, told, Condition::Exists).await.map(drop)
    }

    /// Takes a note back. Returns `false` if it was taken back or replaced before.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn forget_elicitation(&self, session: &McpSession, consent: &str) -> Result<bool> {
        let key = key(&session.tenant, session.server, &session.id_hash);
        let none = vec![("elicitation", AttributeValue::Null(true))];
        let noted = Condition::Has(vec![("elicitation", s(consent))]);
        self.update(key, none, noted).await
    }

    /// Forgets a session. Returns `false` if it was opened or closed since it was read.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn remove_mcp_session(&self, session: &McpSession, event: &Event) -> Result<bool> {
        let key = key(&session.tenant, session.server, &session.id_hash);
        let as_read = Condition::Has(vec![("fence", s(&session.fingerprint))]);
        let delete = Write::Delete(key, as_read);
        self.write_if(vec![delete, audit_log::put(event)?]).await
    }
}
