//! Revocations of the identity provider's refresh tokens, in the tenant's partition and in the index of due work until they
//! are settled.

use super::due::due_item;
use super::{Condition, Found, Key, Table, Write, audit_log, keys, receipts};
use crate::Result;
use crate::domain::event::Event;
use crate::domain::login_revocation::LoginRevocation;
use crate::domain::receipt::PresentedToken;
use crate::domain::revocation::RevocationOutcome;
use crate::domain::time::Timestamp;

/// Key of a revocation.
pub fn key(one: &LoginRevocation) -> Key {
    keys::login_revocation(&one.tenant, one.id)
}

impl Found {
    /// A revocation that was read, if it still stands.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when the item is corrupt.
    pub fn login_revocation(&self, one: &LoginRevocation) -> Result<Option<LoginRevocation>> {
        self.get(&key(one))
    }
}

fn put(one: &LoginRevocation, due: Timestamp, condition: Condition) -> Result<Write> {
    let item = due_item(&key(one), "login-revocation", one, due)?;
    Ok(Write::Put(item, condition))
}

/// For a transaction that ends a login.
pub(super) fn put_new(one: &LoginRevocation) -> Result<Write> {
    put(one, one.at, Condition::Absent)
}

impl Table {
    /// Writes down the revocation of a token that came too late for its login. Done twice, it is written once.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn discard_provider_token(&self, one: &LoginRevocation, event: &Event) -> Result<()> {
        let writes = vec![put_new(one)?, audit_log::put(event)?];
        self.write_if(writes).await.map(drop)
    }

    /// Replaces a revocation that still has version `read`, due again at `due`. Returns `false` if it was moved.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn continue_login_revocation(
        &self,
        read: &str,
        one: &LoginRevocation,
        due: Timestamp,
    ) -> Result<bool> {
        let put = put(one, due, Condition::version(read))?;
        self.write_if(vec![put]).await
    }

    /// Ends a revocation: it goes, with the sealed token, and its receipt counts the outcome, exactly once.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn finish_login_revocation(
        &self,
        read: &str,
        one: &LoginRevocation,
        outcome: RevocationOutcome,
        presented: &PresentedToken,
        event: &Event,
    ) -> Result<()> {
        let delete = Write::Delete(key(one), Condition::version(read));
        let presented = one.itemised.then(|| std::slice::from_ref(presented));
        let note = one.receipt.as_ref().map(|receipt| {
            receipts::record_outcome(&one.tenant, receipt, outcome, presented, event.id.at())
        });
        self.end(delete, Some(event), note.transpose()?).await
    }
}
