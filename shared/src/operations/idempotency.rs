//! Repeats of requests that are to be carried out once.

use crate::domain::id::TenantId;
use crate::domain::idempotency::Keyed;
use crate::domain::receipt::Receipt;
use crate::state::app::App;
use crate::table::{idempotency, receipts};
use crate::{Error, Result};

/// The receipt of a request, as it stands now, if the request has been carried out before.
///
/// # Errors
/// [`Error::KeyReused`] if it was another request that had this key; [`Error::Unavailable`], [`Error::Internal`].
pub async fn earlier(
    app: &App,
    tenant: &TenantId,
    request: Option<&Keyed>,
) -> Result<Option<Receipt>> {
    let Some(request) = request else {
        return Ok(None);
    };
    let keys = vec![idempotency::key(tenant, request)];
    let found = app.table.read(keys).await?;
    let Some(led_to) = found.carried_out(tenant, request)? else {
        return Ok(None);
    };
    if led_to.request != request.request {
        return Err(Error::KeyReused);
    }
    let keys = vec![receipts::key(tenant, &led_to.receipt)];
    let receipt = app.table.read(keys).await?;
    let receipt = receipt.receipt(tenant, &led_to.receipt)?;
    let receipt = receipt.ok_or_else(|| Error::internal("a receipt is missing"))?;
    Ok(Some(receipt))
}
