//! Changing a server, and what a change would end.

use super::end::preview_deletion;
use super::{data_key, fits, open_with, require_usable, seal, verification};
use crate::domain::caller::Caller;
use crate::domain::credential::new_version;
use crate::domain::event::{Action, Event};
use crate::domain::id::TenantId;
use crate::domain::job::Sweep;
use crate::domain::reason::Reason;
use crate::domain::receipt::Counts;
use crate::domain::server::{KeyCheck, Place, Secrets, Server};
use crate::operations::DeletionPreview;
use crate::state::app::App;
use crate::{Error, Result};

/// Whether a change may void credentials that subjects have stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voiding {
    /// Refuse the change if there are any.
    Refused,
    /// They go.
    Agreed,
    /// They go, and so they do if the address changes by a byte (LangSmith 2.4).
    AgreedForAnyAddress,
}

/// Replaces `before` by `after`, and its secrets by `secrets` where they are given, as they have to be for another address. If
/// nothing differs nothing is written. A change of the outbound authentication raises the auth revision; with `voiding` agreed, the credentials
/// stored until then are gone in the same step.
///
/// # Errors
/// [`Error::Contended`] when `before` is no longer what is stored; [`Error::WouldVoidCredentials`],
/// [`Error::UnusableAddress`], [`Error::TooLarge`], [`Error::Unavailable`], [`Error::Internal`].
pub async fn change(
    app: &App,
    caller: &Caller,
    before: &Server,
    mut after: Server,
    secrets: Option<&Secrets>,
    voiding: Voiding,
) -> Result<Server> {
    let (tenant, now) = (&caller.tenant, app.now());
    let mut moved_to = None;
    if let Some(secrets) = secrets {
        let key = data_key(app, tenant, before).await?;
        let stored = open_with(&key, tenant, before)?;
        let address = address_of(before, &stored, &after).to_owned();
        let mut secrets = secrets.clone();
        after.url = secrets.keep_address(&address);
        moved_to = Some(address).filter(|address| address != stored.address(before));
        if stored != secrets {
            after.secrets = seal(&key, tenant, before.id, &secrets)?;
        }
        if api_key(&after, &secrets) != api_key(before, &stored) {
            after.connection.key_check = KeyCheck::Pending;
            after.connection.verification = None;
        }
    }
    // A new api key, or the same one once more, is tried anew.
    if after.connection.verification.is_none()
        && after.connection.api_key.is_some()
        && after.connection.key_check == KeyCheck::Pending
    {
        after.connection.verification = Some(new_version(now)?);
    }
    if after == *before {
        return Ok(after);
    }
    let verification = verification(tenant, &after, now)
        .filter(|one| before.connection.verification.as_ref() != Some(&one.id));
    after.version = before.version + 1;
    after.updated_at = now;
    let mut sweep = None;
    let moved = moved_to.is_some();
    if after.outbound_auth_differs(before, moved) {
        // From now on it goes by its own settings: the integration's client and secret are for the integration's server.
        after.connection.integration = None;
    }
    let voids = voids_credentials(before, &after, moved, voiding);
    if voids {
        reject_voiding_change(app, tenant, before, voiding).await?;
    }
    if let Some(address) = &moved_to {
        require_usable(app, address)?;
    }
    if voids {
        after.auth_revision = before.auth_revision + 1;
        if voiding != Voiding::Refused {
            after.void_before = after.auth_revision;
            after.void_reason = Reason::ServerChanged;
        }
        // Even where none is to be voided, one may be stored between the count and the write.
        sweep = Some(Sweep {
            reason: Reason::ServerChanged,
            ..Sweep::of(tenant, before, &after, after.updated_at)
        });
    }
    fits(&after)?;
    let action = match sweep {
        Some(_) => Action::ServerMoved,
        None => Action::ServerChanged,
    };
    let event = Event::new(after.updated_at, tenant, caller, action)?.at(after.id);
    let change = (before.version, &after);
    if !app
        .table
        .replace_server(
            tenant,
            change,
            sweep.as_ref(),
            None,
            verification.as_ref(),
            &event,
        )
        .await?
    {
        return Err(Error::Contended);
    }
    if sweep.is_some() || verification.is_some() {
        app.work_appeared.notify_one();
    }
    Ok(after)
}

/// The address of `after`, which is the stored one if it reads the same.
fn address_of<'a>(before: &'a Server, stored: &'a Secrets, after: &'a Server) -> &'a str {
    if after.url == before.url {
        stored.address(before)
    } else {
        &after.url
    }
}

/// Whether a change voids the stored credentials; `moved` says whether the whole address differs.
fn voids_credentials(before: &Server, after: &Server, moved: bool, voiding: Voiding) -> bool {
    (moved && voiding == Voiding::AgreedForAnyAddress) || after.outbound_auth_differs(before, moved)
}

/// Validates a change without making it. Returns whether the address differs.
///
/// # Errors
/// [`Error::UnusableAddress`], [`Error::TooLarge`], [`Error::Internal`].
fn validate_change(
    app: &App,
    (before, stored): (&Server, &Secrets),
    after: &Server,
) -> Result<bool> {
    let address = address_of(before, stored, after);
    let moved = address != stored.address(before);
    if moved {
        require_usable(app, address)?;
    }
    fits(after)?;
    Ok(moved)
}

/// The credentials that a change would void; for a dry run.
///
/// # Errors
/// [`Error::UnusableAddress`], [`Error::TooLarge`], [`Error::Unavailable`], [`Error::Internal`].
pub async fn preview_voided_credentials(
    app: &App,
    tenant: &TenantId,
    before: (&Server, &Secrets),
    after: &Server,
    voiding: Voiding,
) -> Result<DeletionPreview> {
    let moved = validate_change(app, before, after)?;
    if voids_credentials(before.0, after, moved, voiding) {
        preview_deletion(app, tenant, before.0).await
    } else {
        Ok(DeletionPreview::default())
    }
}

/// Checks whether a change would be refused; for a dry run.
///
/// # Errors
/// [`Error::WouldVoidCredentials`], [`Error::UnusableAddress`], [`Error::TooLarge`], [`Error::Unavailable`],
/// [`Error::Internal`].
pub async fn preview_change(
    app: &App,
    tenant: &TenantId,
    before: (&Server, &Secrets),
    after: &Server,
    voiding: Voiding,
) -> Result<()> {
    let moved = address_of(before.0, before.1, after) != before.1.address(before.0);
    if after.outbound_auth_differs(before.0, moved) {
        reject_voiding_change(app, tenant, before.0, voiding).await?;
    }
    validate_change(app, before, after).map(drop)
}

async fn reject_voiding_change(
    app: &App,
    tenant: &TenantId,
    before: &Server,
    voiding: Voiding,
) -> Result<()> {
    if voiding != Voiding::Refused {
        return Ok(());
    }
    match preview_deletion(app, tenant, before).await?.counts {
        Counts {
            oauth: 0,
            overrides: 0,
            ..
        } => Ok(()),
        Counts {
            oauth, overrides, ..
        } => Err(Error::WouldVoidCredentials { oauth, overrides }),
    }
}

/// The header that carries the api key of a connection.
fn api_key<'a>(server: &Server, secrets: &'a Secrets) -> Option<&'a str> {
    let place = server.connection.api_key.as_ref()?;
    secrets.get(Place::Header(&place.header))
}
