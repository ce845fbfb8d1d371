//! The integrity check: finds orphaned items in the table and changes to audit logs, and repairs what can be repaired.

use super::audit_log::{self, Flaw};
use crate::Result;
use crate::domain::event::Month;
use crate::domain::id::TenantId;
use crate::domain::time::Timestamp;
use crate::state::app::App;
use crate::table::Table;
use crate::table::integrity::{Kind, Orphan};
use std::collections::BTreeMap;
use tracing::{error, info, warn};

/// The report of one integrity check.
#[derive(Debug)]
pub struct Report {
    /// Items of each kind.
    pub items: BTreeMap<String, u64>,
    /// The inconsistencies, each with whether it was repaired.
    pub orphans: Vec<(Orphan, bool)>,
    /// The flaws of the audit logs; `None` if they could not be verified.
    pub flaws: Option<Vec<(TenantId, Month, Flaw)>>,
}

impl Report {
    /// Whether every inconsistency was repaired and no audit log has a flaw.
    pub fn is_sound(&self) -> bool {
        let mended = self.orphans.iter().all(|(_, repaired)| *repaired);
        mended && self.flaws.iter().flatten().next().is_none()
    }
}

/// Checks the table, with `repair` repairs what it finds, with `app`, which can open keys, verifies the audit logs, and
/// logs one line for each kind of inconsistency and each flaw, or that there is none.
///
/// # Errors
/// [`crate::Error::Unavailable`], [`crate::Error::Internal`]; what was repaired stays so.
pub async fn examine(
    table: &Table,
    app: Option<&App>,
    now: Timestamp,
    repair: bool,
) -> Result<Report> {
    let findings = table.examine(now).await?;
    let mut orphans = Vec::new();
    for orphan in findings.orphans {
        let repaired = repair && table.repair(&orphan, now).await?;
        orphans.push((orphan, repaired));
    }
    let mut flaws = app.map(|_| Vec::new());
    if let (Some(app), Some(flaws)) = (app, &mut flaws) {
        for (tenant, month) in findings.audit_logs {
            for flaw in audit_log::verify(app, &tenant, &month).await? {
                let (tenant_name, month_name) = (tenant.as_str(), month.as_str());
                error!(
                    tenant = tenant_name,
                    month = month_name,
                    ?flaw,
                    "audit log verification failed"
                );
                flaws.push((tenant.clone(), month.clone(), flaw));
            }
        }
    }
    let mut kinds: BTreeMap<Kind, (usize, usize)> = BTreeMap::new();
    for (orphan, repaired) in &orphans {
        let (found, mended) = kinds.entry(orphan.kind).or_default();
        *found += 1;
        *mended += usize::from(*repaired);
    }
    for (kind, (found, repaired)) in &kinds {
        let orphan = kind.as_str();
        if found > repaired {
            error!(
                orphan,
                found, repaired, "integrity check found orphaned items"
            );
        } else {
            warn!(
                orphan,
                found, repaired, "integrity check repaired orphaned items"
            );
        }
    }
    if kinds.is_empty() {
        let items: u64 = findings.items.values().sum();
        info!(items, "integrity check found no orphaned items");
    }
    Ok(Report {
        items: findings.items,
        orphans,
        flaws,
    })
}
