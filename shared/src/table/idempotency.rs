//! What requests with a key of their client have led to, each in the tenant's partition. An item is written in the transaction
//! that carries the request out, so that there is one exactly where that has happened, and it is never changed.

use super::{Condition, Found, Key, Write, encode, keys};
use crate::Result;
use crate::domain::id::TenantId;
use crate::domain::idempotency::{CarriedOut, Keyed};
use crate::domain::receipt::Receipt;

/// Key of what a request has led to.
pub fn key(tenant: &TenantId, request: &Keyed) -> Key {
    keys::carried_out(tenant, &request.id)
}

impl Found {
    /// What a request has led to, if its item was read and exists.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when the item is corrupt.
    pub fn carried_out(&self, tenant: &TenantId, request: &Keyed) -> Result<Option<CarriedOut>> {
        self.get(&key(tenant, request))
    }
}

/// For the transaction that opens the receipt of a request.
pub(crate) fn put(tenant: &TenantId, request: &Keyed, receipt: &Receipt) -> Result<Write> {
    let led_to = request.carried_out(&receipt.id, receipt.at);
    let item = encode(&key(tenant, request), "carried-out", &led_to)?;
    Ok(Write::Put(item, Condition::Absent))
}
