//! Credentials in their server's partition: overrides, grants, and the kept reason why there is none.

use super::receipts::{self, Receipt};
use super::{
    Condition, Found, Item, Key, SUBJECT_INDEX, Table, Write, WriteError, encode, keys, s, servers,
};
use crate::Result;
use crate::domain::credential::{Grant, KeptReason, Override, Records, Source};
use crate::domain::id::{ServerId, TenantId};
use crate::domain::server::Server;
use crate::domain::subject::Subject;
use serde::Deserialize;
use serde::Serialize;

/// The keys of all that may be stored for a subject at a server.
pub fn record_keys(tenant: &TenantId, server: ServerId, subject: &Subject) -> [Key; 3] {
    [
        keys::credential(tenant, server, subject, Source::Override),
        keys::credential(tenant, server, subject, Source::Oauth),
        keys::kept_reason(tenant, server, subject),
    ]
}

impl Found {
    /// The records of a subject, as far as `server` stands behind them.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when an item is corrupt.
    pub fn records(
        &self,
        tenant: &TenantId,
        server: &Server,
        subject: &Subject,
    ) -> Result<Records> {
        let [own, grant, kept] = record_keys(tenant, server.id, subject);
        Ok(Records::under(
            server,
            self.get::<Override>(&own)?,
            self.get::<Grant>(&grant)?,
            self.get::<KeptReason>(&kept)?,
        ))
    }
}

/// One stored credential of any kind, for counting and for sweeping.
#[derive(Clone, Debug, Deserialize)]
pub struct Stored {
    #[serde(rename = "SK")]
    sk: String,
    /// Whose it is.
    #[serde(flatten)]
    pub subject: Subject,
    /// Present on credentials, absent on kept reasons.
    pub auth_revision: Option<u64>,
    /// The fence, likewise.
    pub version: Option<String>,
}

impl Stored {
    /// Which kind of credential it is; `None` for a kept reason.
    pub fn source(&self) -> Option<Source> {
        keys::credential_source(&self.sk)
    }

    /// Whether a server no longer stands behind it.
    pub fn is_void_under(&self, server: &Server) -> bool {
        match (self.source(), self.auth_revision) {
            (Some(Source::Override), Some(revision)) => !server.stands_behind_override(revision),
            (Some(Source::Oauth), Some(revision)) => !server.stands_behind_grant(revision),
            _ => false,
        }
    }
}

/// What a write on a credential ran into.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Done,
    /// The server is gone or has another auth revision.
    ServerMoved,
    /// The record is not the one that was read.
    RecordMoved,
    /// The receipt that should count it is complete, or gone.
    ReceiptClosed,
}

impl Table {
    /// The overrides at a server, voided ones too, in no order.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn overrides(&self, tenant: &TenantId, server: ServerId) -> Result<Vec<Override>> {
        #[derive(Deserialize)]
        #[serde(tag = "entity", rename_all = "kebab-case")]
        enum Any {
            Override(Box<Override>),
            #[serde(other)]
            Other,
        }
        let all = self
            .query(keys::server_partition(tenant, server), keys::CREDENTIALS)
            .await?;
        Ok(all
            .into_iter()
            .filter_map(|one| {
                if let Any::Override(own) = one {
                    Some(*own)
                } else {
                    None
                }
            })
            .collect())
    }

    /// Everything stored for subjects at a server, without the values.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn stored(&self, tenant: &TenantId, server: ServerId) -> Result<Vec<Stored>> {
        self.query(keys::server_partition(tenant, server), keys::CREDENTIALS)
            .await
    }

    /// Installs an override, clearing the subject's kept reason. With `replacing`, only over exactly that version.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn put_override(
        &self,
        tenant: &TenantId,
        own: &Override,
        replacing: Option<&str>,
    ) -> Result<Outcome> {
        let condition = replacing.map_or(Condition::Any, |version| {
            Condition::Has(vec![("version", s(version))])
        });
        let item = credential_item(tenant, own.server, &own.subject, Source::Override, own)?;
        self.put_credential(
            tenant,
            own.server,
            &own.subject,
            own.auth_revision,
            item,
            condition,
        )
        .await
    }

    /// Stores a grant, clearing the subject's kept reason.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn put_grant(&self, tenant: &TenantId, grant: &Grant) -> Result<Outcome> {
        let item = credential_item(tenant, grant.server, &grant.subject, Source::Oauth, grant)?;
        self.put_credential(
            tenant,
            grant.server,
            &grant.subject,
            grant.auth_revision,
            item,
            Condition::Any,
        )
        .await
    }

    async fn put_credential(
        &self,
        tenant: &TenantId,
        server: ServerId,
        subject: &Subject,
        auth_revision: u64,
        item: Item,
        condition: Condition,
    ) -> Result<Outcome> {
        let writes = vec![
            Write::Put(item, condition),
            servers::stands(tenant, server, Some(auth_revision)),
            Write::Delete(keys::kept_reason(tenant, server, subject), Condition::Any),
        ];
        settle(self.write(writes).await, 1)
    }

    /// Takes one credential away, if it still has the version that was read, and keeps the reason and the receipt.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn remove_credential(
        &self,
        tenant: &TenantId,
        server: ServerId,
        source: Source,
        version: &str,
        kept: &KeptReason,
        receipt: &Receipt,
    ) -> Result<Outcome> {
        let credential = keys::credential(tenant, server, &kept.subject, source);
        let writes = vec![
            receipts::put(tenant, receipt)?,
            servers::stands(tenant, server, None),
            Write::Delete(credential, Condition::Has(vec![("version", s(version))])),
            put_reason(tenant, server, kept)?,
        ];
        settle(self.write(writes).await, 1)
    }

    /// Takes one credential away, if it still has the version that was read, and counts it on a receipt.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn offboard_credential(
        &self,
        tenant: &TenantId,
        server: ServerId,
        source: Source,
        version: &str,
        kept: &KeptReason,
        receipt: &str,
    ) -> Result<Outcome> {
        let credential = keys::credential(tenant, server, &kept.subject, source);
        let writes = vec![
            servers::stands(tenant, server, None),
            Write::Delete(credential, Condition::Has(vec![("version", s(version))])),
            put_reason(tenant, server, kept)?,
            receipts::count(tenant, receipt, source),
        ];
        match self.write(writes).await {
            Err(WriteError::Refused(at)) if at.contains(&3) => Ok(Outcome::ReceiptClosed),
            done => settle(done, 0),
        }
    }

    /// Replaces a credential that `server` does not stand behind by the reason why it is gone, if server and credential
    /// still are those that were read.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn sweep_credential(
        &self,
        tenant: &TenantId,
        server: &Server,
        stored: &Stored,
        kept: &KeptReason,
    ) -> Result<Outcome> {
        let partition = keys::server_partition(tenant, server.id);
        let version = stored.version.clone().unwrap_or_default();
        let writes = vec![
            servers::stands(tenant, server.id, Some(server.auth_revision)),
            Write::Delete(
                Key {
                    pk: partition,
                    sk: stored.sk.clone(),
                },
                Condition::Has(vec![("version", s(version))]),
            ),
            put_reason(tenant, server.id, kept)?,
        ];
        settle(self.write(writes).await, 0)
    }
}

fn put_reason(tenant: &TenantId, server: ServerId, kept: &KeptReason) -> Result<Write> {
    Ok(Write::Put(
        encode(
            &keys::kept_reason(tenant, server, &kept.subject),
            "reason",
            kept,
        )?,
        Condition::Any,
    ))
}

fn credential_item(
    tenant: &TenantId,
    server: ServerId,
    subject: &Subject,
    source: Source,
    value: &impl Serialize,
) -> Result<Item> {
    let entity = match source {
        Source::Override => "override",
        Source::Oauth => "grant",
    };
    let mut item = encode(
        &keys::credential(tenant, server, subject, source),
        entity,
        value,
    )?;
    item.insert(
        SUBJECT_INDEX.0.to_owned(),
        s(keys::subject_partition(tenant, subject)),
    );
    item.insert(
        SUBJECT_INDEX.1.to_owned(),
        s(format!("{}#{}", server.ulid(), source.as_str())),
    );
    Ok(item)
}

fn settle(written: Result<(), WriteError>, server_check: usize) -> Result<Outcome> {
    match written {
        Ok(()) => Ok(Outcome::Done),
        Err(WriteError::Refused(at)) if at.contains(&server_check) => Ok(Outcome::ServerMoved),
        Err(WriteError::Refused(_)) => Ok(Outcome::RecordMoved),
        Err(WriteError::Failed(error)) => Err(error),
    }
}
