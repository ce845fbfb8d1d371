//! Receipts: the lasting, secret-free record of what was taken away. They outlive the server.

use super::{Condition, Write, encode, keys};
use crate::Result;
use crate::domain::credential::Source;
use crate::domain::id::{ServerId, TenantId};
use crate::domain::subject::{Actor, Subject};
use crate::domain::time::Timestamp;
use serde::{Deserialize, Serialize};

/// One removal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Receipt {
    /// Opaque to clients.
    pub id: String,
    /// What was removed.
    pub removed: Removed,
    /// From which server.
    pub server: ServerId,
    /// By whom.
    pub actor: Actor,
    /// When the removal took effect.
    pub at: Timestamp,
    /// Whether all of it is settled; a deleted server's is once its partition is empty.
    pub complete: bool,
}

/// What a receipt is for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Removed {
    /// One credential of one subject.
    Credential {
        /// Whose.
        #[serde(flatten)]
        subject: Subject,
        /// Which.
        source: Source,
    },
    /// A server and everything under it.
    Server {
        /// The name it had.
        name: String,
        /// The number it had.
        number: u64,
    },
}

pub(crate) fn put(tenant: &TenantId, receipt: &Receipt) -> Result<Write> {
    Ok(Write::Put(
        encode(&keys::receipt(tenant, &receipt.id), "receipt", receipt)?,
        Condition::Absent,
    ))
}
