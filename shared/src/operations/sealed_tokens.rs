//! The tokens of a subject as grants and revocations keep them.

use crate::domain::credential::{Grant, Tokens};
use crate::domain::id::{ServerId, TenantId};
use crate::domain::issuance::Issuance;
use crate::domain::sealed::Sealed;
use crate::domain::subject::Subject;
use crate::seal::{DataKey, Kind};
use crate::{Error, Result};

/// Seals the tokens of a subject for their place.
pub(super) fn seal(
    key: &DataKey,
    tenant: &TenantId,
    server: ServerId,
    subject: &Subject,
    issuance: &Issuance,
    tokens: &Tokens,
) -> Result<Sealed> {
    let json = tokens
        .to_json()
        .ok_or_else(|| Error::internal("tokens do not encode"))?;
    key.seal(tenant, server, Kind::Tokens(subject, issuance), &json)
}

/// Opens tokens that [`seal`] has sealed.
pub(super) fn open(
    key: &DataKey,
    tenant: &TenantId,
    server: ServerId,
    subject: &Subject,
    issuance: &Issuance,
    sealed: &Sealed,
) -> Result<Tokens> {
    let json = key.open(tenant, server, Kind::Tokens(subject, issuance), sealed)?;
    Tokens::from_json(&json).ok_or_else(|| Error::internal("tokens do not decode"))
}

/// The tokens of a grant.
pub(super) fn open_grant(key: &DataKey, tenant: &TenantId, grant: &Grant) -> Result<Tokens> {
    let (subject, issuance) = (&grant.subject, &grant.issuance);
    open(key, tenant, grant.server, subject, issuance, &grant.sealed)
}
