//! Reasons that are kept for subjects whose credentials have ended, and what is counted beside them.

use super::{Condition, ENTITY, Update, Write, keys, n, s};
use crate::domain::id::{ServerId, TenantId};
use crate::domain::reason::Reason;
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;
use crate::{Error, Result};

/// The number of removals in a kept reason.
pub(crate) const REMOVALS: &str = "removals";

/// The number of offboardings in a subject's item.
pub(crate) const OFFBOARDINGS: &str = "offboardings";

/// The server's auth revision under which a reason was kept.
pub(super) const AUTH_REVISION: &str = "auth_revision";

/// A reason to be kept. What is counted beside it only grows.
#[derive(Debug)]
pub struct StoredReason<'a> {
    /// Whose.
    pub subject: &'a Subject,
    /// Why.
    pub reason: Reason,
    /// Since when.
    pub at: Timestamp,
    /// The server's auth revision then.
    pub auth_revision: u64,
}

impl StoredReason<'_> {
    pub(crate) fn write(
        &self,
        tenant: &TenantId,
        server: ServerId,
        next: &[&'static str],
        condition: Condition,
    ) -> Result<Write> {
        let reason = serde_dynamo::to_attribute_value(self.reason).map_err(Error::internal)?;
        let kind = s(self.subject.kind().as_str());
        Ok(Write::Update(Update {
            key: keys::kept_reason(tenant, server, self.subject),
            set: vec![
                (ENTITY, s("reason")),
                ("subject_type", kind),
                ("subject_id", s(self.subject.id())),
                ("reason", reason),
                ("at", n(self.at.micros())),
                (AUTH_REVISION, n(self.auth_revision)),
            ],
            count: Vec::new(),
            next: next.to_vec(),
            condition,
        }))
    }
}
