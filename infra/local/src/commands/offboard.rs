//! `hawser offboard`: the end of all that one subject has.

use super::Outcome;
use super::at::{At, record_holder, tenant_id};
use hawser_core::operations::{Removal, subjects};
use std::io::Write;

/// What issuers have to be told goes on in the workers, on AWS or in the next local server.
pub(crate) async fn offboard(at: &At, tenant: &str, subject: &str, dry_run: bool) -> Outcome {
    let (tenant, subject) = (tenant_id(tenant)?, record_holder(subject)?);
    let (_, store) = at.open().await?;
    // What is sealed is moved unopened, so that the key's name does not matter.
    let app = at.app(Some("none"), store.as_ref()).await?;
    let app = app.ok_or("there is no store")?;
    let printed = match subjects::offboard_by_operator(&app, &tenant, &subject, dry_run).await? {
        Removal::Planned(preview) => hawser_functions::dry_run_response(&preview),
        Removal::Done(receipt) => hawser_functions::hawser::present(&receipt),
    };
    writeln!(std::io::stdout(), "{printed}")?;
    Ok(())
}
