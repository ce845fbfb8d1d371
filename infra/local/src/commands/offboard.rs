//! `hawser offboard`: ends all that one subject has.

use super::Outcome;
use super::at::{At, record_holder, tenant_id};
use hawser_core::operations::{Removal, subjects};
use std::io::Write;

/// Ends the subject's credentials and logins, and prints the receipt. Workers, on AWS or in the next local server, then
/// revoke the grants at their issuers.
pub(crate) async fn offboard(at: &At, tenant: &str, subject: &str, dry_run: bool) -> Outcome {
    let (tenant, subject) = (tenant_id(tenant)?, record_holder(subject)?);
    let (_, store) = at.open().await?;
    // Sealed values are moved without being opened, so the KMS key is not used and any name will do.
    let app = at.app(Some("none"), store.as_ref()).await?;
    let app = app.ok_or("there is no store")?;
    let printed = match subjects::offboard_by_operator(&app, &tenant, &subject, dry_run).await? {
        Removal::Planned(preview) => hawser_functions::dry_run_response(&preview),
        Removal::Done(receipt) => hawser_functions::hawser::present(&receipt),
    };
    writeln!(std::io::stdout(), "{printed}")?;
    Ok(())
}
