//! Secrets that a manifest refers to instead of holding them.

use crate::Result;
use crate::domain::caller::Caller;
use crate::state::app::App;
use secrecy::SecretString;

/// What a reference names, as its author wrote it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedSecret {
    /// The tenant it claims to be of.
    pub tenant: String,
    /// The group of secrets.
    pub group: String,
    /// Its name in the group.
    pub name: String,
}

/// Why a reference is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// The operator has not said where secrets are.
    NotMapped,
    /// It names a tenant that is not the caller's.
    OtherTenant,
    /// There is no such secret, or none that the operator lets Hawser read.
    Unknown,
}

/// The secret that a reference leads to, in the caller's own tenant. It is read anew each time. Whether the caller may use
/// secrets of the tenant is for its contract to say.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) when the store does not answer;
/// [`Error::Internal`](crate::Error::Internal).
pub async fn look_up(
    app: &App,
    caller: &Caller,
    named: &NamedSecret,
) -> Result<std::result::Result<SecretString, Unresolved>> {
    let Some(mapping) = &app.secret_mapping else {
        return Ok(Err(Unresolved::NotMapped));
    };
    if named.tenant != caller.tenant.as_str() {
        return Ok(Err(Unresolved::OtherTenant));
    }
    let Some(reference) = mapping.lead(&caller.tenant, &named.group, &named.name) else {
        return Ok(Err(Unresolved::Unknown));
    };
    let found = app.secret_stores.find(&reference).await?;
    Ok(found.ok_or(Unresolved::Unknown))
}
