//! Changing a server. A [`Change`] is what a contract asks for; [`plan`] decides alone what it does, and for whom; the plan
//! is shown by a dry run, and written by a real one.

use super::create::{Draft, create, require_creatable};
use super::end::preview_deletion;
use super::{data_key, fits, open_with, require_usable, seal, verification};
use crate::domain::caller::Caller;
use crate::domain::credential::new_version;
use crate::domain::event::{Action, Event};
use crate::domain::job::{Sweep, Verification};
use crate::domain::reason::Reason;
use crate::domain::receipt::Counts;
use crate::domain::server::{KeyCheck, Place, Secrets, Server};
use crate::operations::{DeletionPreview, Permitted, retry_on_contention};
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

/// A change of a server that was read, as a contract asks for it.
#[derive(Debug)]
pub struct Change<T> {
    /// The server, with what else was read.
    pub at: Permitted<T>,
    /// The server as it is to be, with its whole address.
    pub after: Server,
    /// Its secrets as they are to be, where they may change; they have to be given for another address.
    pub secrets: Option<Secrets>,
    /// Whether credentials may be voided.
    pub voiding: Voiding,
}

/// What a change does.
#[derive(Debug)]
pub struct ChangePlan<T> {
    /// The server before the change, with what else was read.
    pub at: Permitted<T>,
    /// The server after the change.
    pub after: Server,
    /// Its secrets after the change, where they were given.
    pub secrets: Option<Secrets>,
    sweep: Option<Sweep>,
    verification: Option<Verification>,
}

/// Changes a server. `read` finds it for a caller who may do this, and says what it is to become. If nothing differs nothing
/// is written. A change of the outbound authentication raises the auth revision; with [`Voiding`] agreed, the credentials
/// stored until then are gone in the same step. Returns what was done, or in a dry run what would be.
///
/// # Errors
/// Those of `read`; [`Error::Contended`] when the server keeps changing; [`Error::WouldVoidCredentials`],
/// [`Error::UnusableAddress`], [`Error::TooLarge`], [`Error::Unavailable`], [`Error::Internal`].
pub async fn change<T, E, F>(
    app: &App,
    read: impl FnMut() -> F,
    dry_run: bool,
) -> Result<ChangePlan<T>, E>
where
    T: AsRef<Server>,
    E: From<Error>,
    F: Future<Output = Result<Change<T>, E>>,
{
    retry_on_contention(read, async |change| run(app, change, dry_run).await).await
}

async fn run<T: AsRef<Server>>(
    app: &App,
    change: Change<T>,
    dry_run: bool,
) -> Result<ChangePlan<T>> {
    let plan = plan(app, change).await?;
    if !dry_run {
        plan.apply(app).await?;
    }
    Ok(plan)
}

/// What a contract asks for under a name.
#[derive(Debug)]
pub enum Put {
    /// A new server, for nothing has that name.
    Create(Box<Caller>, Box<Draft>),
    /// A change of the server that has it.
    Change(Box<Change<Server>>),
}

/// What came of a [`Put`].
#[derive(Debug)]
pub enum PutOutcome {
    /// The new server; none in a dry run.
    Created(Box<Caller>, Option<Box<Server>>),
    /// What the change did, or in a dry run would do.
    Changed(Box<ChangePlan<Server>>),
}

/// Creates or changes the server of a name. `read` looks the name up for a caller who may do this.
///
/// # Errors
/// Those of [`change`] and [`create`].
pub async fn put<E, F>(app: &App, read: impl FnMut() -> F, dry_run: bool) -> Result<PutOutcome, E>
where
    E: From<Error>,
    F: Future<Output = Result<Put, E>>,
{
    retry_on_contention(read, async |put| match put {
        Put::Create(caller, draft) if dry_run => {
            require_creatable(app, &draft)?;
            Ok(PutOutcome::Created(caller, None))
        }
        Put::Create(caller, draft) => {
            let server = create(app, &caller, *draft).await?;
            Ok(PutOutcome::Created(caller, Some(Box::new(server))))
        }
        Put::Change(change) => {
            let plan = run(app, *change, dry_run).await?;
            Ok(PutOutcome::Changed(Box::new(plan)))
        }
    })
    .await
}

/// Decides what a change does.
async fn plan<T: AsRef<Server>>(app: &App, change: Change<T>) -> Result<ChangePlan<T>> {
    let Change {
        at,
        mut after,
        mut secrets,
        voiding,
    } = change;
    let (caller, before, now) = (&at.caller, at.found.as_ref(), app.now());
    let moved_to = match &mut secrets {
        Some(secrets) => put_secrets(app, caller, before, &mut after, secrets).await?,
        None => None,
    };
    // A new api key, or the same one once more, is tried anew.
    if after.connection.verification.is_none()
        && after.connection.api_key.is_some()
        && after.connection.key_check == KeyCheck::Pending
    {
        after.connection.verification = Some(new_version(now)?);
    }
    let (mut sweep, mut new_verification) = (None, None);
    if after != *before {
        new_verification = verification(&caller.tenant, &after, now)
            .filter(|one| before.connection.verification.as_ref() != Some(&one.id));
        after.version = before.version + 1;
        after.updated_at = now;
        sweep = void(
            app,
            caller,
            before,
            &mut after,
            moved_to.as_deref(),
            voiding,
        )
        .await?;
        fits(&after)?;
    }
    Ok(ChangePlan {
        at,
        after,
        secrets,
        sweep,
        verification: new_verification,
    })
}

/// Puts the secrets into `after`, and its address among them. Returns the address if it is another one.
async fn put_secrets(
    app: &App,
    caller: &Caller,
    before: &Server,
    after: &mut Server,
    secrets: &mut Secrets,
) -> Result<Option<String>> {
    let tenant = &caller.tenant;
    let key = data_key(app, tenant, before).await?;
    let stored = open_with(&key, tenant, before)?;
    let address = address_of(before, &stored, after).to_owned();
    after.url = secrets.keep_address(&address);
    if stored != *secrets {
        after.secrets = seal(&key, tenant, before.id, secrets)?;
    }
    if api_key(after, secrets) != api_key(before, &stored) {
        after.connection.key_check = KeyCheck::Pending;
        after.connection.verification = None;
    }
    Ok(Some(address).filter(|address| address != stored.address(before)))
}

/// Raises the auth revision if `after` must not use the credentials that were stored for `before`. Returns the sweep that
/// clears them away.
async fn void(
    app: &App,
    caller: &Caller,
    before: &Server,
    after: &mut Server,
    moved_to: Option<&str>,
    voiding: Voiding,
) -> Result<Option<Sweep>> {
    let moved = moved_to.is_some();
    let differs = after.outbound_auth_differs(before, moved);
    if differs {
        // From now on it goes by its own settings: the integration's client and secret are for the integration's server.
        after.connection.integration = None;
    }
    let voids = differs || moved && voiding == Voiding::AgreedForAnyAddress;
    if voids && voiding == Voiding::Refused {
        reject_stored_credentials(app, caller, before).await?;
    }
    if let Some(address) = moved_to {
        require_usable(app, address)?;
    }
    if !voids {
        return Ok(None);
    }
    after.auth_revision = before.auth_revision + 1;
    if voiding != Voiding::Refused {
        after.void_before = after.auth_revision;
        after.void_reason = Reason::ServerChanged;
    }
    // Even where none is to be voided, one may be stored between the count and the write.
    Ok(Some(Sweep {
        reason: Reason::ServerChanged,
        ..Sweep::of(&caller.tenant, before, after, after.updated_at)
    }))
}

impl<T: AsRef<Server>> ChangePlan<T> {
    /// Counts the credentials that the change would void; for a dry run.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn count_voided(&self, app: &App) -> Result<DeletionPreview> {
        if self.sweep.is_some() {
            preview_deletion(app, &self.at.caller.tenant, self.at.found.as_ref()).await
        } else {
            Ok(DeletionPreview::default())
        }
    }

    /// Writes the change, if it is one.
    async fn apply(&self, app: &App) -> Result<()> {
        let (caller, before, after) = (&self.at.caller, self.at.found.as_ref(), &self.after);
        if after == before {
            return Ok(());
        }
        let action = match self.sweep {
            Some(_) => Action::ServerMoved,
            None => Action::ServerChanged,
        };
        let event = Event::new(after.updated_at, &caller.tenant, caller, action)?.at(after.id);
        let replaced = app.table.replace_server(
            &caller.tenant,
            (before.version, after),
            self.sweep.as_ref(),
            None,
            self.verification.as_ref(),
            &event,
        );
        if !replaced.await? {
            return Err(Error::Contended);
        }
        if self.sweep.is_some() || self.verification.is_some() {
            app.work_appeared.notify_one();
        }
        Ok(())
    }
}

/// The address of `after`, which is the stored one if it reads the same.
fn address_of<'a>(before: &'a Server, stored: &'a Secrets, after: &'a Server) -> &'a str {
    if after.url == before.url {
        stored.address(before)
    } else {
        &after.url
    }
}

/// Refuses a change that voids what is stored, if anything is.
async fn reject_stored_credentials(app: &App, caller: &Caller, before: &Server) -> Result<()> {
    let preview = preview_deletion(app, &caller.tenant, before).await?;
    match preview.counts {
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
