//! Conditions under which a write is right that more than one kind of item shares.

use super::{Condition, Write, keys};
use crate::domain::id::{ServerId, TenantId};
use aws_sdk_dynamodb::types::AttributeValue;

/// The condition check that a server exists, at this auth revision if one is given.
pub(crate) fn require_server(tenant: &TenantId, id: ServerId, auth_revision: Option<u64>) -> Write {
    let condition = auth_revision.map_or(Condition::Exists, |revision| {
        Condition::Has(vec![(
            "auth_revision",
            AttributeValue::N(revision.to_string()),
        )])
    });
    Write::Check(keys::server(tenant, id), condition)
}
