//! `hawser audit`: the integrity check of a table.

use super::Outcome;
use super::at::At;
use hawser_core::domain::time::Clock;
use hawser_core::operations::integrity;
use serde_json::json;
use std::io::Write;

pub(crate) async fn audit(at: &At, key: Option<&str>, repair: bool) -> Outcome {
    let (table, _store) = at.open().await?;
    let app = at.app(key, _store.as_ref()).await?;
    let report = integrity::examine(&table, app.as_ref(), Clock::System.now(), repair).await?;
    let mut out = std::io::stdout().lock();
    for (orphan, repaired) in &report.orphans {
        let mut line = serde_json::to_value(orphan)?;
        if repair {
            line["repaired"] = (*repaired).into();
        }
        writeln!(out, "{line}")?;
    }
    for (tenant, month, flaw) in report.flaws.iter().flatten() {
        let mut line = serde_json::to_value(flaw)?;
        line["tenant"] = tenant.as_str().into();
        line["month"] = month.as_str().into();
        writeln!(out, "{line}")?;
    }
    let flaws = report.flaws.as_ref().map(Vec::len);
    let figures = json!({"items": report.items, "orphans": report.orphans.len(), "flaws": flaws});
    writeln!(out, "{figures}")?;
    if report.is_sound() {
        Ok(())
    } else {
        Err("integrity check failed: orphaned items or an invalid audit log".into())
    }
}
