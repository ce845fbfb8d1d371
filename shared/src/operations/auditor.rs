//! The auditor: says whether anything dangles in the table, and puts right what can be.

use crate::Result;
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
}

impl Report {
    /// Whether anything dangles that was not put right.
    pub fn has_orphans(&self) -> bool {
        self.orphans.iter().any(|(_, repaired)| !repaired)
    }
}

/// Examines the table, repairs what it finds if it is to, and logs one line for each kind of orphan, or that there is none.
///
/// # Errors
/// [`crate::Error::Unavailable`], [`crate::Error::Internal`]; what was repaired stays so.
pub async fn examine(table: &Table, now: Timestamp, repair: bool) -> Result<Report> {
    let findings = table.examine(now).await?;
    let mut orphans = Vec::new();
    for orphan in findings.orphans {
        let repaired = repair && table.repair(&orphan, now).await?;
        orphans.push((orphan, repaired));
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
    })
}
