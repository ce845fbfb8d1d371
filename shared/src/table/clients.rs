//! OAuth clients and LangSmith's providers in their server's partition.

use super::{Condition, Found, Key, Table, Update, Write, WriteError, encode, keys, s};
use crate::domain::id::{ServerId, TenantId};
use crate::domain::issuance::{Client, ClientRecord, Provider};
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;
use crate::table::guard;
use crate::{Error, Result};
use aws_sdk_dynamodb::types::AttributeValue;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Who registers a client at present. It names no time: whoever waits measures by their own clock.
#[derive(Serialize, Deserialize)]
struct RegistrationLease {
    lease: String,
}

/// The pointer item of a provider id: its server and subject.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProviderPointer {
    /// The server.
    pub server: ServerId,
    /// Whose provider it is.
    #[serde(flatten)]
    pub subject: Subject,
}

/// Key of a subject's provider at a server.
pub fn provider_key(tenant: &TenantId, server: ServerId, subject: &Subject) -> Key {
    keys::provider(tenant, server, subject)
}

/// Key of the pointer item of a provider id.
pub fn pointer_key(tenant: &TenantId, id: Uuid) -> Key {
    keys::provider_pointer(tenant, id)
}

impl Found {
    /// A subject's provider at a server, if it was read and exists.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when the item is corrupt.
    pub fn provider(
        &self,
        tenant: &TenantId,
        server: ServerId,
        subject: &Subject,
    ) -> Result<Option<Provider>> {
        self.get(&provider_key(tenant, server, subject))
    }

    /// The pointer of a provider id, if it was read and exists.
    ///
    /// # Errors
    /// As above.
    pub fn provider_pointer(&self, tenant: &TenantId, id: Uuid) -> Result<Option<ProviderPointer>> {
        self.get(&pointer_key(tenant, id))
    }
}

impl Table {
    /// The clients of a server that serve `owner`, oldest first.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn clients(
        &self,
        tenant: &TenantId,
        server: ServerId,
        owner: Option<&Subject>,
    ) -> Result<Vec<ClientRecord>> {
        let partition = keys::server_partition(tenant, server);
        self.query(partition, &keys::clients(owner)).await
    }

    /// Keeps a client that was registered. Returns `false` if its server is gone.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn add_client(&self, tenant: &TenantId, record: &ClientRecord) -> Result<bool> {
        let writes = vec![
            put_client(tenant, record)?,
            guard::require_server(tenant, record.server, None),
        ];
        self.write_if(writes).await
    }

    /// Takes the lease of a registration: if nobody has it, or, with `over`, if that is still the one that is held. Returns
    /// `false` if somebody else has it.
    ///
    /// # Errors
    /// [`crate::Error::ServerNotFound`]; [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn lease_registration(
        &self,
        tenant: &TenantId,
        server: ServerId,
        owner: Option<&Subject>,
        lease: &str,
        over: Option<&str>,
    ) -> Result<bool> {
        let free = over.map_or(Condition::Absent, |held| {
            Condition::Has(vec![("lease", s(held))])
        });
        let key = keys::registration(tenant, server, owner);
        let lease = RegistrationLease {
            lease: lease.to_owned(),
        };
        let writes = vec![
            Write::Put(encode(&key, "registration", &lease)?, free),
            guard::require_server(tenant, server, None),
        ];
        match self.write(writes).await {
            Ok(()) => Ok(true),
            Err(WriteError::Refused(at)) if at.contains(&1) => Err(Error::ServerNotFound),
            Err(WriteError::Refused(_)) => Ok(false),
            Err(WriteError::Failed(error)) => Err(error),
        }
    }

    /// The lease of a registration that is under way, or was left behind.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn registration(
        &self,
        tenant: &TenantId,
        server: ServerId,
        owner: Option<&Subject>,
    ) -> Result<Option<String>> {
        let key = keys::registration(tenant, server, owner);
        let found = self.read(vec![key.clone()]).await?;
        let held: Option<RegistrationLease> = found.get(&key)?;
        Ok(held.map(|held| held.lease))
    }

    /// Gives the lease of a registration back, if it is still this one.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn end_registration(
        &self,
        tenant: &TenantId,
        server: ServerId,
        owner: Option<&Subject>,
        lease: &str,
    ) -> Result<()> {
        let held = Condition::Has(vec![("lease", s(lease))]);
        let key = keys::registration(tenant, server, owner);
        self.delete(&key, held).await.map(drop)
    }

    /// Notes that an issuer refuses a client, if its record still exists.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn reject_client(
        &self,
        tenant: &TenantId,
        server: ServerId,
        owner: Option<&Subject>,
        id: &str,
    ) -> Result<()> {
        let note = Update::set(
            keys::client(tenant, server, owner, id),
            vec![("rejected", AttributeValue::Bool(true))],
            Condition::Exists,
        );
        self.write_if(vec![note]).await.map(drop)
    }

    /// Replaces a client's description, if its record still exists.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn change_client(
        &self,
        tenant: &TenantId,
        server: ServerId,
        owner: Option<&Subject>,
        id: &str,
        client: &Client,
    ) -> Result<()> {
        let client = serde_dynamo::to_attribute_value(client).map_err(Error::internal)?;
        let change = Update::set(
            keys::client(tenant, server, owner, id),
            vec![("client", client)],
            Condition::Exists,
        );
        self.write_if(vec![change]).await.map(drop)
    }

    /// Notes that a browser was sent away as this client, or, if `succeeded`, that a consent as it came to a grant.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn record_client_use(
        &self,
        tenant: &TenantId,
        server: ServerId,
        owner: Option<&Subject>,
        id: &str,
        succeeded: bool,
        at: Timestamp,
    ) -> Result<()> {
        let field = if succeeded {
            "succeeded_at"
        } else {
            "waiting_since"
        };
        let key = keys::client(tenant, server, owner, id);
        let set = vec![(field, super::n(at.micros()))];
        self.update(key, set, Condition::Exists).await.map(drop)
    }

    /// Adds a subject's provider, or replaces one that the server no longer stands behind. Returns `false` if another
    /// call was first, or the server has changed.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn add_provider(
        &self,
        tenant: &TenantId,
        provider: &Provider,
        replacing: Option<&Provider>,
    ) -> Result<bool> {
        let pointer = ProviderPointer {
            server: provider.server,
            subject: provider.subject.clone(),
        };
        let key = provider_key(tenant, provider.server, &provider.subject);
        let condition = replacing.map_or(Condition::Absent, |old| {
            Condition::Has(vec![("id", s(old.id.to_string()))])
        });
        let mut writes = vec![
            Write::Put(encode(&key, "provider", provider)?, condition),
            guard::require_server(tenant, provider.server, Some(provider.auth_revision)),
            Write::Put(
                encode(&pointer_key(tenant, provider.id), "provider-lead", &pointer)?,
                Condition::Absent,
            ),
        ];
        if let Some(old) = replacing {
            writes.push(Write::Delete(pointer_key(tenant, old.id), Condition::Any));
        }
        self.write_if(writes).await
    }
}

/// For a transaction that adds a client.
pub(crate) fn put_client(tenant: &TenantId, record: &ClientRecord) -> Result<Write> {
    let key = keys::client(tenant, record.server, record.owner.as_ref(), &record.id);
    Ok(Write::Put(
        encode(&key, "client", record)?,
        Condition::Absent,
    ))
}
