//! Conditions under which a write is right that more than one kind of item shares.

use super::reasons::OFFBOARDINGS;
use super::{Condition, Write, keys, n};
use crate::domain::id::{ServerId, TenantId};
use crate::domain::subject::Subject;

/// The condition check that a server exists, at this auth revision if one is given.
pub(crate) fn require_server(tenant: &TenantId, id: ServerId, auth_revision: Option<u64>) -> Write {
    let condition = auth_revision.map_or(Condition::Exists, |revision| {
        Condition::Has(vec![("auth_revision", n(revision))])
    });
    Write::Check(keys::server(tenant, id), condition)
}

/// The condition check that a subject has been offboarded so often, and not again since then.
pub(crate) fn require_subject(tenant: &TenantId, subject: &Subject, offboardings: u64) -> Write {
    let unchanged = Condition::Counts(OFFBOARDINGS, offboardings);
    Write::Check(keys::subject(tenant, subject), unchanged)
}
