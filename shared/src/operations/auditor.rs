//! The auditor: says whether anything dangles in the table or was changed in an audit trail, and puts right what can be.

use super::trail::{self, Flaw};
use crate::Result;
use crate::app::App;
use crate::domain::event::Month;
use crate::domain::id::TenantId;
use crate::domain::time::Timestamp;
use crate::table::Table;
use crate::table::auditor::{Kind, Orphan};
use std::collections::BTreeMap;
use tracing::{error, info, warn};

/// What one look at the whole table came to.
#[derive(Debug)]
pub struct Report {
    /// Items of each kind.
    pub items: BTreeMap<String, u64>,
    /// What dangles, and whether it was put right.
    pub orphans: Vec<(Orphan, bool)>,
    /// What is wrong with audit trails; `None` where nobody could verify them.
    pub flaws: Option<Vec<(TenantId, Month, Flaw)>>,
}

impl Report {
    /// Whether nothing dangles that was not put right, and no trail was tampered with.
    pub fn is_sound(&self) -> bool {
        let mended = self.orphans.iter().all(|(_, repaired)| *repaired);
        mended && self.flaws.iter().flatten().next().is_none()
    }
}

/// Examines the table, repairs what it finds if it is to, verifies the audit trails if there is an application that can open
/// keys, and logs one line for each kind of orphan and each flaw, or that there is none.
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
        for (tenant, month) in findings.trails {
            for flaw in trail::verify(app, &tenant, &month).await? {
                let (tenant_name, month_name) = (tenant.as_str(), month.as_str());
                error!(
                    tenant = tenant_name,
                    month = month_name,
                    ?flaw,
                    "an audit trail is not sound"
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
            error!(orphan, found, repaired, "something dangles");
        } else {
            warn!(orphan, found, repaired, "something dangled");
        }
    }
    if kinds.is_empty() {
        let items: u64 = findings.items.values().sum();
        info!(items, "nothing dangles");
    }
    Ok(Report {
        items: findings.items,
        orphans,
        flaws,
    })
}
