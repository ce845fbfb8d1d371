//! Tries of api keys in their server's partition, and in the index of due work until it is known whether the key serves.

use super::due::due_item;
use super::{Condition, Found, Key, Table, Write, audit_log, encode, keys, n};
use crate::Result;
use crate::domain::event::Event;
use crate::domain::job::Verification;
use crate::domain::server::Server;
use crate::domain::time::Timestamp;

const VERIFICATION: &str = "verification";

/// Keys of a verification and of its server.
pub fn keys_of(one: &Verification) -> Vec<Key> {
    vec![key_of(one), keys::server(&one.tenant, one.server)]
}

pub(super) fn key_of(one: &Verification) -> Key {
    keys::verification(&one.tenant, one.server, &one.id)
}

impl Found {
    /// A verification that was read, if it still is to be done.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when the item is corrupt.
    pub fn verification(&self, one: &Verification) -> Result<Option<Verification>> {
        self.get(&key_of(one))
    }
}

/// For a transaction that stores a key.
pub(crate) fn put(one: &Verification) -> Result<Write> {
    let item = due_item(&key_of(one), VERIFICATION, one, one.at)?;
    Ok(Write::Put(item, Condition::Absent))
}

impl Table {
    /// Notes one more attempt on a verification that still is as it was read, due again at `due`.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn continue_verification(&self, read: &Verification, due: Timestamp) -> Result<bool> {
        let next = Verification {
            attempts: read.attempts + 1,
            ..read.clone()
        };
        let item = due_item(&key_of(read), VERIFICATION, &next, due)?;
        let unchanged = Condition::Has(vec![("attempts", n(read.attempts))]);
        self.write_if(vec![Write::Put(item, unchanged)]).await
    }

    /// Ends a verification: it goes, and its server, which still has the version that was read, says how it ended. Returns
    /// `false` if either has moved.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn finish_verification(
        &self,
        one: &Verification,
        (read, server): (u64, &Server),
        event: &Event,
    ) -> Result<bool> {
        let item = encode(&keys::server(&one.tenant, server.id), "server", server)?;
        let writes = vec![
            Write::Put(item, Condition::Has(vec![("version", n(read))])),
            Write::Delete(key_of(one), Condition::Exists),
            audit_log::put(event)?,
        ];
        self.write_if(writes).await
    }

    /// Forgets a verification of a key that is there no more.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn drop_verification(&self, one: &Verification) -> Result<()> {
        let delete = Write::Delete(key_of(one), Condition::Any);
        self.write_if(vec![delete]).await.map(drop)
    }
}
