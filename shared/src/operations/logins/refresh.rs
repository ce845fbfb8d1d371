//! The next tokens of a login (RFC 6749 6): its refresh token is replaced, and the identity provider is asked who the person is
//! now.

use super::super::{ATTEMPTS, Tries};
use super::ending::{Ending, current, end_as_read};
use super::tokens::{Refusal, Tokens, login_of_token, narrowed, sign};
use super::{end_because, of_login, of_person};
use crate::auth::login_token::RefreshToken;
use crate::domain::event::Action;
use crate::domain::id::{Sortable, is_same_secret};
use crate::domain::login::{Identity, Login, LoginEnd, PreviousToken, REPEAT_WINDOW};
use crate::domain::login_revocation::LoginRevocation;
use crate::domain::time::Timestamp;
use crate::operations::sign_in::{self, Renewed, Vouched};
use crate::state::app::App;
use crate::table::logins::{Ended, Reported};
use crate::{Error, Result};
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tracing::warn;

/// How often, and for how long, what the provider says is tried to be stored while the store does not answer.
const LOST_ANSWERS: u32 = 5;
const STORING: Duration = Duration::from_secs(8);
/// How old a lease is, in seconds, that is taken over by its age alone: its process has died, and nobody has looked since.
const LEFT: i64 = 600;

/// A refresh token that an application presents. The application has been authenticated.
#[derive(Debug)]
pub struct Refresh {
    /// The application.
    pub client_id: String,
    /// The refresh token.
    pub token: SecretString,
    /// What the access token is to be for; all that was allowed if there are none.
    pub resources: Vec<String>,
    /// The scopes that it is to have; all that were allowed if there are none.
    pub scopes: BTreeSet<String>,
}

/// What a refresh token is to its login.
enum Standing {
    /// The current one.
    Current,
    /// The one before, so shortly after it was replaced that the answer may have been lost; with the number of the key that
    /// the current one is derived by.
    Repeated(u32),
    /// One of its older ones.
    Reused,
}

fn standing(app: &App, login: &Login, token: &RefreshToken) -> Standing {
    let presented = token.hash();
    if is_same_secret(&presented, &login.refresh_hash) {
        return Standing::Current;
    }
    match &login.previous {
        Some(previous)
            if is_same_secret(&presented, &previous.hash)
                && app.now() < previous.replaced_at.plus_seconds(REPEAT_WINDOW) =>
        {
            Standing::Repeated(previous.tenant_key)
        }
        _ => Standing::Reused,
    }
}

/// The next tokens of a login. The refresh token is replaced; the one before gets the same answer for a minute, and any use of
/// an older one ends the login (docs/decisions/0033-a-refresh-is-answered-again-for-a-minute.md). The identity provider is
/// asked who the person is now, where it gave a way to ask.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Contended`], [`Error::Internal`].
pub async fn refresh(app: &App, asked: Refresh) -> Result<Result<Tokens, Refusal>> {
    // Once it is begun it is finished: what the provider gives must not be lost because the application has gone.
    app.to_its_end(|app| async move { refresh_to_its_end(app, asked).await })
        .await
}

async fn refresh_to_its_end(app: Arc<App>, asked: Refresh) -> Result<Result<Tokens, Refusal>> {
    let Some(token) = RefreshToken::parse(asked.token.expose_secret()) else {
        return Ok(Err(Refusal::InvalidGrant));
    };
    for _ in 0..ATTEMPTS {
        let Some(login) = login_of_token(&app, &token).await? else {
            return Ok(Err(Refusal::InvalidGrant));
        };
        if login.approval.application.client_id != asked.client_id || login.is_over(app.now()) {
            return Ok(Err(Refusal::InvalidGrant));
        }
        let (key, is_current) = match standing(&app, &login, &token) {
            Standing::Current => (app.current_tenant_key(&login.tenant).await?, true),
            Standing::Repeated(number) => (app.tenant_key(&login.tenant, number).await?, false),
            Standing::Reused => {
                end_because(&app, &login, LoginEnd::RefreshTokenReused).await?;
                return Ok(Err(Refusal::InvalidGrant));
            }
        };
        let (resources, scopes) = (asked.resources.clone(), asked.scopes.clone());
        let (resources, scopes) = match narrowed(&login.approval, resources, scopes) {
            Ok(allowed) => allowed,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let secret = key.next_refresh_secret(&login.tenant, login.id, token.text());
        let next = token.followed_by(&secret);
        let tokens = sign(&app, &login, &next, &resources, scopes).await?;
        if !is_current {
            return Ok(Ok(tokens));
        }
        let asks = may_ask(&app, &login);
        if let Some(renewed) = replace_token(&app, &login, &next, key.number(), asks).await? {
            let stands = !asks || ask_provider(&app, renewed).await?;
            return Ok(stands.then_some(tokens).ok_or(Refusal::InvalidGrant));
        }
        // Refreshed or ended at the same time: the next read shows it.
    }
    Err(Error::Contended)
}

/// Whether a refresh of this login may ask the provider. A provider takes a refresh token once, so one refresh asks at a time;
/// another one meanwhile gets its tokens by what is stored.
fn may_ask(app: &App, login: &Login) -> bool {
    // Nobody may look at it again for long. Its age is by another machine's clock, so it has to be far beyond doubt.
    let left = |lease: Sortable| lease.at().plus_seconds(LEFT) <= app.now();
    let lease = login.lease.map(Sortable::ulid);
    let free = || app.leases.is_free(lease.as_deref(), app.clock.elapsed());
    login.approval.provider_token.is_some() && (login.lease.is_some_and(left) || free())
}

/// Stores that this is the refresh token of a login now, and takes the lease for whoever `asks` the provider. `None` if it was
/// refreshed or ended since it was read.
async fn replace_token(
    app: &App,
    read: &Login,
    next: &RefreshToken,
    tenant_key: u32,
    asks: bool,
) -> Result<Option<Login>> {
    let now = app.now();
    let renewed = Login {
        refreshed_at: now,
        refresh_hash: next.hash(),
        previous: Some(PreviousToken {
            hash: read.refresh_hash.clone(),
            replaced_at: now,
            tenant_key,
        }),
        lease: if asks {
            Some(Sortable::new(now)?)
        } else {
            read.lease
        },
        ttl: Login::ttl_from(now),
        ..read.clone()
    };
    let who = of_person(read.subject(), Some(read.id));
    let event = of_login(read, now, who, Action::LoginRefreshed)?;
    let table = &app.table;
    let replaced = table.replace_login(read, &renewed, &event);
    Ok(replaced.await?.then_some(renewed))
}

/// Asks the provider who the person is now, under the lease of the login, and stores what it says. Returns `false` if it vouches
/// for them no longer: the login has ended then. Where nothing can be asked or stored now, what was known before stands.
async fn ask_provider(app: &App, mut login: Login) -> Result<bool> {
    // What it says counts from when it is asked, however long the answer takes.
    let asked_at = app.now();
    let said = match ask(app, &mut login).await {
        Ok(Vouched::For(identity)) => Some(*identity),
        Ok(Vouched::Unknown) => None,
        Ok(Vouched::NoMore) => {
            // An application that asks again meanwhile would be answered by what is stored.
            let mut tries = Tries::some(LOST_ANSWERS, STORING);
            loop {
                match end_unvouched(app, &login).await {
                    Err(cause) if !tries.wait().await => return Err(cause),
                    Err(_) => {}
                    stands => return stands,
                }
            }
        }
        Err(cause) => {
            warn!(%cause, login = ?login.id, "the provider of a login could not be asked");
            None
        }
    };
    let mut tries = Tries::some(LOST_ANSWERS, STORING);
    while let Err(cause) = store(app, &login, said.as_ref(), asked_at).await {
        if !tries.wait().await {
            warn!(%cause, login = ?login.id, "what the provider says of a login is lost");
            break;
        }
    }
    Ok(true)
}

/// Asks the provider. A token that it gives to be asked by next is stored before the ID token is looked at: the one before
/// serves no more.
async fn ask(app: &App, login: &mut Login) -> Result<Vouched> {
    let Some(sealed) = &login.approval.provider_token else {
        return Ok(Vouched::Unknown);
    };
    let key = app.tenant_key(&login.tenant, sealed.tenant_key).await?;
    let token = key.open_for_login(&login.tenant, login.id, &sealed.sealed)?;
    let renewed = sign_in::renew(app, login.approval.provider.as_deref(), &token);
    let (id_token, next) = match renewed.await? {
        Renewed::Given {
            id_token,
            refresh_token,
        } => (id_token, refresh_token),
        Renewed::NoMore => return Ok(Vouched::NoMore),
        Renewed::Unknown => return Ok(Vouched::Unknown),
    };
    if let Some(next) = &next {
        let key = app.current_tenant_key(&login.tenant).await?;
        let mut renewed = login.clone();
        renewed.approval.provider_token =
            Some(key.seal_for_login(&login.tenant, login.id, next)?);
        // Another lease says that the token is another one.
        renewed.lease = Some(Sortable::new(app.now())?);
        let discarded = LoginRevocation {
            in_doubt: false,
            ..LoginRevocation::of(&renewed, app.now())?
                .ok_or_else(|| Error::internal("a token has just been sealed"))?
        };
        let mut tries = Tries::some(LOST_ANSWERS, STORING);
        loop {
            match keep(app, login, &renewed, &discarded).await {
                Err(cause) if !tries.wait().await => return Err(cause),
                Err(_) => {}
                Ok(None) => return Ok(Vouched::Unknown),
                Ok(Some(kept)) => {
                    *login = kept;
                    break;
                }
            }
        }
    }
    let (tenant, subject) = (&login.tenant, login.subject());
    sign_in::identify(app, tenant, subject, id_token.as_ref()).await
}

/// Stores the token and the lease of `renewed`, and nothing else of it: the login may have been refreshed meanwhile. Where it has
/// ended, or somebody else has the lease, the token is revoked.
async fn keep(
    app: &App,
    asked: &Login,
    renewed: &Login,
    discarded: &LoginRevocation,
) -> Result<Option<Login>> {
    let mut read = asked.clone();
    for _ in 0..ATTEMPTS {
        let mut next = read.clone();
        next.lease = renewed.lease;
        let token = &renewed.approval.provider_token;
        next.approval.provider_token.clone_from(token);
        if app.table.renew_login(&read, &next).await? {
            return Ok(Some(next));
        }
        match current(app, asked).await? {
            // An earlier attempt has happened.
            Some(now) if now.lease == renewed.lease => return Ok(Some(now)),
            Some(now) if now.lease == asked.lease => read = now,
            _ => {
                let who = of_person(asked.subject(), Some(asked.id));
                let event = of_login(asked, app.now(), who, Action::CredentialDiscarded)?;
                let table = &app.table;
                table.discard_provider_token(discarded, &event).await?;
                app.work_appeared.notify_one();
                return Ok(None);
            }
        }
    }
    Err(Error::Contended)
}

/// Ends a login whose person the provider does not vouch for any more. Returns whether it stands: another one may have taken the
/// lease over and asked with the same token, which the provider takes once, and then it is theirs to say.
async fn end_unvouched(app: &App, asked: &Login) -> Result<bool> {
    for _ in 0..ATTEMPTS {
        let Some(login) = current(app, asked).await? else {
            return Ok(false);
        };
        if login.lease != asked.lease {
            return Ok(true);
        }
        let ending = Ending {
            who: of_person(login.subject(), Some(login.id)),
            cause: LoginEnd::NotVouched,
            report: Reported::Nowhere,
        };
        if end_as_read(app, &login, &ending).await? == Ended::Now {
            return Ok(false);
        }
    }
    Err(Error::Contended)
}

/// Stores who the person is, if the provider has said so, and gives the lease back. Where the login was refreshed since it was
/// asked, that is kept; where somebody else has the lease, or the login has ended, nothing is stored.
async fn store(
    app: &App,
    asked: &Login,
    identity: Option<&Identity>,
    asked_at: Timestamp,
) -> Result<()> {
    let mut read = asked.clone();
    for _ in 0..ATTEMPTS {
        let mut next = Login {
            lease: None,
            ..read.clone()
        };
        let table = &app.table;
        let stored = match identity {
            None => table.renew_login(&read, &next).await?,
            Some(identity) => {
                next.approval.identity = identity.clone();
                next.approval.vouched_at = asked_at;
                let who = of_person(read.subject(), Some(read.id));
                let event = of_login(&read, app.now(), who, Action::LoginVouched)?;
                table.replace_login(&read, &next, &event).await?
            }
        };
        if stored {
            return Ok(());
        }
        match current(app, asked).await? {
            Some(now) if now.lease == asked.lease => read = now,
            _ => return Ok(()),
        }
    }
    Err(Error::Contended)
}
