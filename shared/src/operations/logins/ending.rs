//! The end of a login: its item goes, and what the identity provider gave for it goes to revocation in the same transaction.

use super::super::ATTEMPTS;
use super::of_login;
use crate::domain::event::{Action, Who};
use crate::domain::login::{Login, LoginEnd};
use crate::domain::login_revocation::LoginRevocation;
use crate::domain::receipt::Counts;
use crate::state::app::App;
use crate::table::logins::{Ended, Reported, key};
use crate::{Error, Result};

/// Who ends a login, why, and what it is reported on.
pub struct Ending<'a> {
    /// Who ends it.
    pub who: Who,
    /// Why.
    pub cause: LoginEnd,
    /// What it is reported on.
    pub report: Reported<'a>,
}

/// The login as it is stored now.
pub(super) async fn current(app: &App, login: &Login) -> Result<Option<Login>> {
    let found = app.table.read(vec![key(&login.tenant, login.id)]).await?;
    found.login(&login.tenant, login.id)
}

/// What the end of one login takes away. It does not change while the login stands: a refresh replaces the provider's token,
/// and never adds or drops one.
pub fn counts_of(login: &Login) -> Counts {
    Counts {
        logins: 1,
        provider_tokens: u64::from(login.approval.provider_token.is_some()),
        ..Counts::default()
    }
}

/// Ends a login as it was read. With [`Ended::Moved`] nothing has happened: it was refreshed since, or had ended before.
pub(super) async fn end_as_read(app: &App, login: &Login, ending: &Ending<'_>) -> Result<Ended> {
    let now = app.now();
    let receipt = ending.report.receipt();
    let event = of_login(login, now, ending.who.clone(), Action::LoginEnded)?
        .caused_by(ending.cause)
        .under(receipt);
    let mut revocation = LoginRevocation::of(login, now)?;
    if let Some(revocation) = &mut revocation {
        revocation.receipt = receipt.map(str::to_owned);
        revocation.itemised = matches!(ending.report, Reported::New(..));
        // Whoever asked the provider knows what it gave.
        revocation.in_doubt &= ending.cause != LoginEnd::NotVouched;
    }
    let (revoked, counts) = (revocation.as_ref(), counts_of(login));
    let table = &app.table;
    let ended = table
        .end_login(login, revoked, ending.report, counts, &event)
        .await?;
    if ended == Ended::Now && revocation.is_some() {
        app.work_appeared.notify_one();
    }
    Ok(ended)
}

/// Ends a login, however often it is refreshed meanwhile.
///
/// # Errors
/// [`Error::Contended`], [`Error::Unavailable`], [`Error::Internal`].
pub async fn end_as_stored(app: &App, login: &Login, ending: &Ending<'_>) -> Result<Ended> {
    let mut login = login.clone();
    for _ in 0..ATTEMPTS {
        match end_as_read(app, &login, ending).await? {
            Ended::Moved => {}
            ended => return Ok(ended),
        }
        match current(app, &login).await? {
            Some(now) => login = now,
            None => return Ok(Ended::Moved),
        }
    }
    Err(Error::Contended)
}
