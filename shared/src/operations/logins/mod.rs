//! Logins: what a person has allowed an application to do in their name, from the authorization code to the end.
//!
//! [`authorize`] gives out a code, [`redeem`] makes a login of it, [`refresh`] keeps it going, and whatever ends it deletes
//! its item, which every request with one of its tokens reads.

mod ending;
mod refresh;
mod tokens;

pub(super) use ending::{Ending, counts_of, end_as_stored};
pub use refresh::{Refresh, refresh};
pub use tokens::{Redemption, Refusal, Revocation, Tokens, redeem, revoke};

use super::{DeletionPreview, Permitted, Unchecked, authorization, idempotency};
use crate::auth::credentials::Presented;
use crate::domain::caller::Caller;
use crate::domain::event::{Action, Event, Who};
use crate::domain::id::{Sortable, TenantId, hash, random};
use crate::domain::idempotency::Keyed;
use crate::domain::login::{
    AllowedApplication, Approval, AuthorizationCode, CODE_LIFETIME, CodeChallenge, Identity, Login,
    LoginEnd,
};
use crate::domain::receipt::{Outcomes, Receipt, Removed};
use crate::domain::sealed::TokenKey;
use crate::domain::subject::{Actor, Subject};
use crate::domain::time::Timestamp;
use crate::state::app::App;
use crate::table::logins::{Ended, Reported, key};
use crate::{Error, Result};
use data_encoding::BASE64URL_NOPAD;
use secrecy::SecretString;
use std::collections::BTreeSet;
use std::fmt;

/// What a person has allowed an application, with all that its authorization request had asked for.
pub struct Allowed {
    /// The tenant that the person has signed in to.
    pub tenant: TenantId,
    /// The person, as the identity provider has vouched for them ([`Caller::identity`] of a verified token).
    pub identity: Identity,
    /// When it has.
    pub vouched_at: Timestamp,
    /// How often the person had been offboarded by then ([`crate::table::Found::offboardings`]).
    pub offboardings: u64,
    /// The refresh token that the provider gave, if it gave one.
    pub provider_token: Option<SecretString>,
    /// The application, as the person saw it.
    pub application: AllowedApplication,
    /// Where the code is sent, exactly as the application asked for it.
    pub redirect_uri: String,
    /// The PKCE challenge.
    pub code_challenge: CodeChallenge,
    /// The base under which this deployment was reached: `iss` of the tokens.
    pub issuer: String,
    /// What the tokens are for: resources of this deployment, at least one.
    pub resources: Vec<String>,
    /// The scopes.
    pub scopes: BTreeSet<String>,
}

impl fmt::Debug for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Allowed")
            .field("tenant", &self.tenant)
            .field("application", &self.application)
            .finish_non_exhaustive()
    }
}

/// The authorization code for what was allowed; `None` if the person was offboarded since they signed in.
///
/// # Errors
/// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
pub async fn authorize(app: &App, allowed: Allowed) -> Result<Option<SecretString>> {
    let now = app.now();
    let (tenant, login) = (allowed.tenant, Sortable::new(now)?);
    let provider_token = match &allowed.provider_token {
        Some(token) => {
            let key = app.current_tenant_key(&tenant).await?;
            Some(key.seal_for_login(&tenant, login, token)?)
        }
        None => None,
    };
    let text = BASE64URL_NOPAD.encode(&random::<32>()?);
    let ends_at = now.plus_seconds(CODE_LIFETIME);
    let event = Event::new(
        now,
        &tenant,
        of_person(&allowed.identity.subject, None),
        Action::LoginAllowed,
    )?
    .of(&allowed.identity.subject)
    .of_login(login, &allowed.application.client_id);
    let code = AuthorizationCode {
        hash: hash(&text),
        login,
        approval: Approval {
            identity: allowed.identity,
            application: allowed.application,
            issuer: allowed.issuer,
            resources: allowed.resources,
            scopes: allowed.scopes,
            vouched_at: allowed.vouched_at,
            offboardings: allowed.offboardings,
            provider: provider_token
                .as_ref()
                .and(app.sign_in.issuer())
                .map(str::to_owned),
            provider_token,
        },
        redirect_uri: allowed.redirect_uri,
        code_challenge: allowed.code_challenge,
        ends_at,
        used_at: None,
        ttl: ends_at.seconds(),
        tenant,
    };
    let added = app.table.add_authorization_code(&code, &event).await?;
    Ok(added.then(|| text.into()))
}

/// The person, or the application of this login in their name.
fn of_person(subject: &Subject, login: Option<Sortable>) -> Who {
    Who::Subject {
        subject: subject.clone(),
        key: None,
        login,
        client: false,
    }
}

/// A page of at most `limit` logins of a tenant, or of one subject, that are older than `before`, newest first, and where the next
/// one goes on, if there is one. Those that are over and still in the table are left out.
///
/// # Errors
/// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
pub async fn list(
    app: &App,
    tenant: &TenantId,
    subject: Option<&Subject>,
    before: Option<Sortable>,
    limit: usize,
) -> Result<(Vec<Login>, Option<Sortable>)> {
    let table = &app.table;
    let (mut logins, next) = match subject {
        Some(subject) => {
            let page = table.logins_of_before(tenant, subject, before, limit);
            page.await?
        }
        None => table.logins_before(tenant, before, limit).await?,
    };
    let now = app.now();
    logins.retain(|login| !login.is_over(now));
    Ok((logins, next))
}

/// The login with this id.
///
/// # Errors
/// [`crate::Error::Unauthenticated`], [`crate::Error::Unavailable`], [`crate::Error::Internal`].
pub async fn find(app: &App, who: Presented, id: Sortable) -> Result<Unchecked<Option<Login>>> {
    let tenant = who.tenant().clone();
    let (caller, found) = app.read_as(who, vec![key(&tenant, id)]).await?;
    let login = found.login(&tenant, id)?;
    let now = app.now();
    Ok(Unchecked::new(
        caller,
        login.filter(|one| !one.is_over(now)),
    ))
}

/// Whether a caller may see and end a login: its subject, and whoever manages the tenant.
pub fn may_end(caller: &Caller, login: &Login) -> bool {
    caller.manages_tenant() || caller.subject() == login.subject()
}

/// What ending a login would take away.
pub fn preview_end(login: &Login) -> DeletionPreview {
    DeletionPreview {
        counts: counts_of(login),
        subjects: 1,
        ..DeletionPreview::default()
    }
}

/// Ends a login: none of its tokens is accepted from the next request on. `None` if it had ended before, and not by this request.
///
/// # Errors
/// [`crate::Error::KeyReused`], [`crate::Error::Unavailable`], [`crate::Error::Internal`].
pub async fn end(
    app: &App,
    login: &Permitted<Login>,
    request: Option<&Keyed>,
) -> Result<Option<Receipt>> {
    let caller = &login.caller;
    let actor = caller.actor.clone();
    // First, so that the application is asked about again whatever happens next.
    authorization::forget(app, &login.found).await?;
    let (who, cause) = (caller.into(), LoginEnd::Removed);
    let ended = end_by(app, &login.found, actor, who, cause, request).await;
    if matches!(ended, Ok(None) | Err(Error::Contended)) {
        // By the same request, or another has its key.
        let earlier = idempotency::earlier(app, &caller.tenant, request).await?;
        return earlier.map_or(ended, |receipt| Ok(Some(receipt)));
    }
    ended
}

/// The same for whoever has asked, with a receipt.
async fn end_by(
    app: &App,
    login: &Login,
    actor: Actor,
    who: Who,
    cause: LoginEnd,
    request: Option<&Keyed>,
) -> Result<Option<Receipt>> {
    let now = app.now();
    let receipt = Receipt {
        id: Sortable::new(now)?.ulid(),
        removed: Removed::Login {
            subject: login.subject().clone(),
            login: login.id,
            client_id: login.approval.application.client_id.clone(),
        },
        server: None,
        actor,
        at: now,
        closed: true,
        changed_at: Some(now),
        counts: Some(counts_of(login)),
        outcomes: Outcomes::default(),
        presented: Vec::new(),
    };
    let ending = Ending {
        who,
        cause,
        report: Reported::New(&receipt, request),
    };
    let ended = end_as_stored(app, login, &ending).await?;
    Ok((ended == Ended::Now).then_some(receipt))
}

/// Ends a login that nobody has asked to end, and of which something says that it must.
async fn end_because(app: &App, login: &Login, cause: LoginEnd) -> Result<()> {
    let ending = Ending {
        who: of_person(login.subject(), Some(login.id)),
        cause,
        report: Reported::Nowhere,
    };
    end_as_stored(app, login, &ending).await.map(drop)
}

/// The keys that access tokens may be signed with; none before the first token.
///
/// # Errors
/// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
pub async fn token_keys(app: &App) -> Result<Vec<TokenKey>> {
    app.table.token_keys().await
}

/// An event of a login.
pub(super) fn of_login(
    login: &Login,
    now: Timestamp,
    who: impl Into<Who>,
    action: Action,
) -> Result<Event> {
    let event = Event::new(now, &login.tenant, who, action)?.of(login.subject());
    Ok(event.of_login(login.id, &login.approval.application.client_id))
}
