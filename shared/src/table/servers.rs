//! Servers in their tenant's partition: the record itself, the items that make its name and number unique, and the
//! counter.

use super::{
    Condition, Found, Key, Table, Write, WriteError, audit_log, clients, decode, encode, keys, n,
    receipts, s, sessions, verifications,
};
use crate::domain::consent_failure::FailedConsent;
use crate::domain::event::Event;
use crate::domain::id::{ServerId, TenantId};
use crate::domain::issuance::ClientRecord;
use crate::domain::job::{Sweep, Tombstone, Verification};
use crate::domain::receipt::Receipt;
use crate::domain::server::{Numbered, Server};
use crate::domain::session::Session;
use crate::{Error, Result};
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

pub(super) const SERVER: &str = "server";

/// The pointer item of a name.
#[derive(Serialize, Deserialize)]
pub(crate) struct Named {
    pub id: ServerId,
}

/// Key of a server.
pub fn key(tenant: &TenantId, id: ServerId) -> Key {
    keys::server(tenant, id)
}

/// Key of the item that makes a name unique.
pub fn name_key(tenant: &TenantId, name: &str) -> Key {
    keys::name(tenant, name)
}

/// Key of the pointer item of a number.
pub fn number_key(tenant: &TenantId, number: u64) -> Key {
    keys::number(tenant, number)
}

impl Found {
    /// The server with this id, if it was read and exists.
    ///
    /// # Errors
    /// [`Error::Internal`] when the item is corrupt.
    pub fn server(&self, tenant: &TenantId, id: ServerId) -> Result<Option<Server>> {
        self.get(&key(tenant, id))
    }

    /// The id behind a name.
    ///
    /// # Errors
    /// As above.
    pub fn named(&self, tenant: &TenantId, name: &str) -> Result<Option<ServerId>> {
        Ok(self
            .get::<Named>(&name_key(tenant, name))?
            .map(|named| named.id))
    }

    /// What is behind a number.
    ///
    /// # Errors
    /// As above.
    pub fn numbered(&self, tenant: &TenantId, number: u64) -> Result<Option<Numbered>> {
        self.get(&number_key(tenant, number))
    }
}

/// What is created together with a server.
#[derive(Debug, Default)]
pub struct Companions<'a> {
    /// A client that was registered for it.
    pub client: Option<&'a ClientRecord>,
    /// The consent that its creator is sent to.
    pub session: Option<&'a Session>,
    /// The try of its api key.
    pub verification: Option<&'a Verification>,
}

/// How an insert ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is there.
    Done,
    /// Another server has the name.
    NameTaken,
}

impl Table {
    /// All servers of a tenant, oldest first.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn servers(&self, tenant: &TenantId) -> Result<Vec<Server>> {
        self.query(keys::tenant_partition(tenant), keys::SERVERS)
            .await
    }

    /// Some of the servers of a tenant, oldest first, from those created after `after` on, as far as they can be read; and the
    /// last of them, if there is any.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn servers_after(
        &self,
        tenant: &TenantId,
        after: Option<ServerId>,
        limit: i32,
    ) -> Result<(Vec<Option<Server>>, Option<ServerId>)> {
        let after = after.map(|id| key(tenant, id));
        let (items, _) = self
            .query_page(keys::tenant_partition(tenant), keys::SERVERS, after, limit)
            .await?;
        let last = items.last().and_then(super::key_of);
        let last = last.and_then(|key| ServerId::parse_ulid(key.sk.strip_prefix(keys::SERVERS)?));
        Ok((items.iter().map(super::readable).collect(), last))
    }

    /// The next number of a tenant. Taken before a server is written, so one may be skipped, and never given out again.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn next_number(&self, tenant: &TenantId) -> Result<u64> {
        let counter = keys::counter(tenant);
        let answer = self
            .client
            .update_item()
            .table_name(&self.name)
            .set_key(Some(super::primary(&counter)))
            .update_expression("SET #entity = :entity ADD #last :one")
            .expression_attribute_names("#entity", super::ENTITY)
            .expression_attribute_names("#last", "last")
            .expression_attribute_values(":entity", s("counter"))
            .expression_attribute_values(":one", n(1))
            .return_values(ReturnValue::AllNew)
            .send()
            .await
            .map_err(super::failed)?;
        #[derive(Deserialize)]
        struct Counter {
            last: u64,
        }
        Ok(decode::<Counter>(&answer.attributes.unwrap_or_default())?.last)
    }

    /// Notes how a consent ended, if the server still exists: for Kambrium whether its owner's failed, and why the last one
    /// failed. The version rises, so that no update that was read before overwrites it.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn record_consent_outcome(
        &self,
        tenant: &TenantId,
        id: ServerId,
        of_owner: Option<bool>,
        failed: Option<&FailedConsent>,
    ) -> Result<()> {
        let mut set = Vec::new();
        let mut names = HashMap::from([("#version".to_owned(), "version".to_owned())]);
        let mut values = HashMap::from([(":one".to_owned(), n(1))]);
        let mut assign = |name: &str, field: &str, value| {
            set.push(format!("#{name} = :{name}"));
            names.insert(format!("#{name}"), field.to_owned());
            values.insert(format!(":{name}"), value);
        };
        if let Some(failed) = of_owner {
            assign("owner", "consent_failed", AttributeValue::Bool(failed));
        }
        if let Some(failed) = failed {
            let value = serde_dynamo::to_attribute_value(failed).map_err(Error::internal)?;
            assign("failed", "last_failed_consent", value);
        }
        if set.is_empty() {
            return Ok(());
        }
        let sent = self
            .client
            .update_item()
            .table_name(&self.name)
            .set_key(Some(super::primary(&key(tenant, id))))
            .condition_expression("attribute_exists(PK)")
            .update_expression(format!("SET {} ADD #version :one", set.join(", ")))
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(Some(values))
            .send()
            .await;
        match sent {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("ConditionalCheckFailedException") => Ok(()),
            Err(error) => Err(super::failed(error)),
        }
    }

    /// Writes a new server with its name, its number and its companions.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn insert_server(
        &self,
        tenant: &TenantId,
        server: &Server,
        companions: &Companions<'_>,
        events: &[Event],
    ) -> Result<Inserted> {
        let mut writes = vec![
            Write::Put(
                encode(&key(tenant, server.id), SERVER, server)?,
                Condition::Absent,
            ),
            Write::Put(
                encode(
                    &name_key(tenant, &server.name),
                    "name",
                    &Named { id: server.id },
                )?,
                Condition::Absent,
            ),
            Write::Put(
                encode(
                    &number_key(tenant, server.number),
                    "number",
                    &Numbered::from(server),
                )?,
                Condition::Absent,
            ),
        ];
        if let Some(client) = companions.client {
            writes.push(clients::put_client(tenant, client)?);
        }
        if let Some(session) = companions.session {
            writes.push(sessions::put(session)?);
        }
        if let Some(verification) = companions.verification {
            writes.push(verifications::put(verification)?);
        }
        for event in events {
            writes.push(audit_log::put(event)?);
        }
        match self.write(writes).await {
            Ok(()) => Ok(Inserted::Done),
            Err(WriteError::Refused(at)) if at.contains(&1) => Ok(Inserted::NameTaken),
            Err(WriteError::Refused(_)) => Err(Error::internal("a fresh id or number was in use")),
            Err(WriteError::Failed(error)) => Err(error),
        }
    }

    /// Replaces a server that still has the version that was read; with a sweep, if credentials were voided by the change,
    /// the receipt of that, if the call has one, and the try of a new api key. Returns `false` when it was changed or deleted
    /// since.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn replace_server(
        &self,
        tenant: &TenantId,
        (read, server): (u64, &Server),
        sweep: Option<&Sweep>,
        receipt: Option<&Receipt>,
        verification: Option<&Verification>,
        event: &Event,
    ) -> Result<bool> {
        let item = encode(&key(tenant, server.id), SERVER, server)?;
        let unchanged = Condition::Has(vec![("version", n(read))]);
        let mut writes = vec![Write::Put(item, unchanged), audit_log::put(event)?];
        if let Some(sweep) = sweep {
            writes.push(sweep.put(tenant)?);
        }
        if let Some(verification) = verification {
            writes.push(verifications::put(verification)?);
        }
        if let Some(receipt) = receipt {
            writes.insert(0, receipts::put(tenant, receipt)?);
        }
        self.write_if(writes).await
    }

    /// Deletes a server, its name and its number, and writes the tombstone and the receipt. Returns `false` if it no
    /// longer exists.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn delete_server(
        &self,
        tenant: &TenantId,
        server: &Numbered,
        tombstone: &Tombstone,
        receipt: &Receipt,
        event: &Event,
    ) -> Result<bool> {
        let writes = vec![
            receipts::put(tenant, receipt)?,
            Write::Delete(key(tenant, server.id), Condition::Exists),
            Write::Delete(name_key(tenant, &server.name), Condition::Any),
            Write::Delete(number_key(tenant, server.number), Condition::Any),
            tombstone.put(tenant)?,
            audit_log::put(event)?,
        ];
        self.write_if(writes).await
    }
}
