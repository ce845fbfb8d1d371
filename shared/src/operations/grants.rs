//! Access tokens of grants. A token is refreshed before it expires, by one caller at a time in all processes
//! (MCP authorization 6).
//!
//! A caller that finds a token near its end takes the lease on the grant, by a conditional write on the version that was
//! read. Other callers use the token while it is valid, or wait for the new one. The new token is stored only over the version
//! that was read and under the lease, so a late refresh can neither overwrite a newer grant nor bring back one that has ended.
//! Tokens that were obtained and may not be stored are revoked; the transaction that creates the revocation checks that they
//! are not stored. A refresh runs on a task of its own, which ends even if no caller waits for it any more.

use super::clients::Settings;
use super::credentials::ServerAndRecords;
use super::{Tries, clients, revocations, servers};
use crate::domain::address::host;
use crate::domain::consent_failure::ConsentFailure;
use crate::domain::credential::{Grant, LEASE, RefreshOutcome, Source, Tokens, new_version};
use crate::domain::event::{Action, Event, EventOutcome, Who, Worker};
use crate::domain::id::{ServerId, TenantId, random};
use crate::domain::reason::Reason;
use crate::domain::revocation::{LateTokens, Presentation, Revocation};
use crate::domain::sealed::Sealed;
use crate::domain::server::Server;
use crate::domain::session::Session;
use crate::domain::status::{Status, status};
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;
use crate::oauth::token::{self, Class, Endpoint, Received, TokenFailure};
use crate::operations::sealed_tokens;
use crate::seal::DataKey;
use crate::state::app::App;
use crate::table::revocations::{Discarded, keys_of_lease};
use crate::{Error, Result};
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

/// How much of a lease may have passed when an issuer is asked, so that its answer arrives within the rest.
const LATEST_START: Duration = Duration::from_secs(8);
/// How long a caller without a deadline waits for a refresh by another caller.
pub const MAX_REFRESH_WAIT: Duration = Duration::from_secs(25);
/// How long no refresh of a grant is attempted after one has failed, in seconds.
const PAUSE: i64 = 30;

/// The result of a request for an access token.
#[derive(Debug)]
pub enum GrantAccess {
    /// An access token.
    Token {
        /// The token.
        token: SecretString,
        /// The grant that it belongs to.
        grant: Box<Grant>,
    },
    /// There is no usable token, for this reason.
    Unavailable(Reason),
}

/// The requirement on an access token.
#[derive(Clone, Copy, Debug)]
pub enum TokenRequirement<'a> {
    /// Valid now.
    Valid,
    /// Valid for so many seconds more.
    ValidFor(i64),
    /// Not the token of this version, which the server has refused.
    OtherThan(&'a str),
}

impl TokenRequirement<'_> {
    /// Whether a grant's token serves without a refresh.
    fn is_met(self, grant: &Grant, now: Timestamp) -> bool {
        match self {
            Self::Valid => !grant.is_expired(now),
            Self::ValidFor(seconds) => !grant.is_expired(now.plus_seconds(seconds)),
            Self::OtherThan(version) => grant.version != version && !grant.is_expired(now),
        }
    }
}

/// The access token of a subject at a server, for a call of `who`, refreshed if it is due. Waits at most `max_wait` for
/// a refresh by another caller. The caller's own refresh is never cancelled, which would lose the new tokens; with
/// `max_wait` of zero none is started.
///
/// # Errors
/// [`Error::ServerNotFound`] when the server is gone; [`Error::Unavailable`], [`Error::Internal`].
pub async fn access(
    app: &App,
    tenant: &TenantId,
    who: &Who,
    server: ServerId,
    subject: &Subject,
    requirement: TokenRequirement<'_>,
    max_wait: Duration,
) -> Result<GrantAccess> {
    let end = Instant::now() + max_wait;
    let mut first = None;
    loop {
        let (server, grant) = match read(app, tenant, server, subject).await? {
            (_, Err(reason)) => return Ok(GrantAccess::Unavailable(reason)),
            (server, Ok(grant)) => (server, grant),
        };
        let now = app.now();
        // What someone else has fetched since is as new as can be had.
        let newer = *first.get_or_insert_with(|| grant.version.clone()) != grant.version;
        let met = requirement.is_met(&grant, now) || (newer && !grant.is_expired(now));
        let paused = grant.retry_at.is_some_and(|at| now < at);
        let due = !met || grant.due_for_refresh(now);
        let left_alone = paused || max_wait.is_zero();
        let lease = grant.lease_id.as_deref();
        let free = app.leases.is_free(lease, app.clock.elapsed());
        if !due || !grant.refreshable || left_alone || (met && !free) {
            return match met {
                true => token_of(app, tenant, &server, grant).await,
                false if !grant.refreshable => Ok(GrantAccess::Unavailable(Reason::Expired)),
                false => Ok(GrantAccess::Unavailable(reason(grant.last_refresh))),
            };
        }
        if free {
            // A failed refresh gives the grant a new version, but no other token.
            let serves = requirement.is_met(&grant, now);
            let (tenant, who) = (tenant.clone(), who.clone());
            let begun =
                |app| async move { Box::pin(refresh(app, tenant, who, server, grant)).await };
            match app.to_its_end(begun).await? {
                Refreshed::Stored(token, grant) => return Ok(GrantAccess::Token { token, grant }),
                // A refresh that was early never fails a call.
                Refreshed::Failed(token, grant) if serves && !grant.is_expired(app.now()) => {
                    return Ok(GrantAccess::Token { token, grant });
                }
                Refreshed::Failed(_, grant) => {
                    return Ok(GrantAccess::Unavailable(reason(grant.last_refresh)));
                }
                Refreshed::Moved => {}
            }
        }
        if Instant::now() >= end {
            return Ok(GrantAccess::Unavailable(Reason::RefreshFailed));
        }
        sleep(Duration::from_millis(
            25 + random::<8>().map_or(50, u64::from_be_bytes) % 100,
        ))
        .await;
    }
}

/// The server and the subject's grant, or why it cannot serve, not even refreshed.
async fn read(
    app: &App,
    tenant: &TenantId,
    id: ServerId,
    subject: &Subject,
) -> Result<(Server, Result<Box<Grant>, Reason>)> {
    let ServerAndRecords {
        server,
        mut records,
        ..
    } = ServerAndRecords::load(&app.table, tenant, id, subject)
        .await?
        .ok_or(Error::ServerNotFound)?;
    // An override comes first where there is one, but says nothing of the grant.
    records.header_override = None;
    let passing = |reason| matches!(reason, Reason::RefreshFailed | Reason::InvalidClient);
    let judged = match status(&server, &records, app.now()) {
        Status::Required { reason, .. } if !passing(reason) => Err(reason),
        Status::NotRequired(_) => Err(Reason::NeverConnected),
        _ => records.grant.map(Box::new).ok_or(Reason::NeverConnected),
    };
    Ok((server, judged))
}

/// The access token of a grant that was just read and is good for now.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub(super) async fn token_of(
    app: &App,
    tenant: &TenantId,
    server: &Server,
    grant: Box<Grant>,
) -> Result<GrantAccess> {
    let key = servers::data_key(app, tenant, server).await?;
    let token = sealed_tokens::open_grant(&key, tenant, &grant)?.access;
    Ok(GrantAccess::Token { token, grant })
}

/// What came of a refresh.
enum Refreshed {
    /// The grant has this access token now.
    Stored(SecretString, Box<Grant>),
    /// The grant has the access token that it had, and why it has no other.
    Failed(SecretString, Box<Grant>),
    /// What is stored has changed meanwhile and should be looked at again.
    Moved,
}

/// Refreshes a grant under a lease that it takes.
async fn refresh(
    app: Arc<App>,
    tenant: TenantId,
    who: Who,
    server: Server,
    grant: Box<Grant>,
) -> Result<Refreshed> {
    let (app, tenant, who) = (&*app, &tenant, &who);
    let key = servers::data_key(app, tenant, &server).await?;
    let mut tokens = sealed_tokens::open_grant(&key, tenant, &grant)?;
    let secrets = servers::open_with(&key, tenant, &server)?;
    let settings = Settings::of(app, &server, &secrets).await?;
    if let Some(secret) = settings.secret_for(&grant.issuance, grant.auth_revision, &server) {
        tokens.client_secret = Some(secret.clone());
    }
    let Some(presented) = tokens.refresh.clone() else {
        return Err(Error::internal(
            "a refreshable grant without a refresh token",
        ));
    };
    let began = app.clock.elapsed();
    let (lease, until) = (new_version(app.now())?, app.now().plus_seconds(LEASE));
    if !app.table.lease_grant(tenant, &grant, &lease, until).await? {
        return Ok(Refreshed::Moved);
    }
    if app.clock.elapsed().saturating_sub(began) > LATEST_START {
        // Another process may take the lease over before an answer is here. Nobody was asked anything yet.
        return Ok(Refreshed::Moved);
    }
    let leased = Grant {
        lease_id: Some(lease),
        lease_until: Some(until),
        ..(*grant).clone()
    };
    let secret = tokens.client_secret.as_ref();
    let at = Endpoint::of(&grant.issuance, secret, &settings.token_params);
    let allowed = settings.require_allowed(app, tenant, &grant.issuance.issuer);
    let answer = match allowed {
        Ok(()) => token::refresh(&app.egress, &at, &presented).await,
        Err(_) => Err(TokenFailure::NOT_ASKED),
    };
    let now = app.now();
    let next = Grant {
        version: new_version(now)?,
        in_doubt: false,
        lease_id: None,
        lease_until: None,
        retry_at: None,
        ..(*grant).clone()
    };
    let leased = Leased {
        app,
        tenant,
        who,
        server: &server,
        key: &key,
        grant: &grant,
        leased: &leased,
        tokens: &tokens,
        presented: &presented,
        now,
    };
    match answer {
        Ok(new) => leased.store(next, new).await,
        Err(failure) => leased.settle_failure(next, failure).await,
    }
}

/// A grant under a lease whose issuer has answered, or has not.
struct Leased<'a> {
    app: &'a App,
    tenant: &'a TenantId,
    who: &'a Who,
    server: &'a Server,
    key: &'a DataKey,
    /// The grant without the lease.
    grant: &'a Grant,
    /// The grant with the lease.
    leased: &'a Grant,
    /// The tokens of the grant, with the client's secret of now.
    tokens: &'a Tokens,
    /// The refresh token that was presented.
    presented: &'a SecretString,
    now: Timestamp,
}

impl Leased<'_> {
    fn seal(&self, tokens: &Tokens) -> Result<Sealed> {
        let (server, subject) = (self.server.id, &self.grant.subject);
        let issuance = &self.grant.issuance;
        sealed_tokens::seal(self.key, self.tenant, server, subject, issuance, tokens)
    }

    /// A refresh token other than the one that was presented. None, or the same again, means that the old one goes on serving.
    fn other_refresh(&self, received: Option<SecretString>) -> Option<SecretString> {
        let presented = self.presented.expose_secret();
        received.filter(|one| one.expose_secret() != presented)
    }

    /// Stores new tokens.
    async fn store(&self, mut next: Grant, new: token::Tokens) -> Result<Refreshed> {
        let late = Tokens {
            access: new.access,
            refresh: self.other_refresh(new.refresh),
            client_secret: self.tokens.client_secret.clone(),
        };
        let stored = Tokens {
            refresh: late.refresh.clone().or_else(|| self.tokens.refresh.clone()),
            ..late.clone()
        };
        next.scopes.extend(new.scopes.into_iter().flatten());
        next.lifetime = new.expires_in.or(self.grant.lifetime);
        next.obtained_at = self.now;
        next.expires_at = next.lifetime.map(|life| self.now.plus_seconds(life));
        next.last_refresh = Some(RefreshOutcome::Succeeded);
        next.issuance.client = next.issuance.client.served_by(new.auth);
        next.sealed = self.seal(&stored)?;
        log(self.tenant, self.grant, None);
        Ok(match self.keep(&next, &late).await? {
            true => Refreshed::Stored(late.access, Box::new(next)),
            false => Refreshed::Moved,
        })
    }

    async fn keep(&self, next: &Grant, tokens: &Tokens) -> Result<bool> {
        let obtained = Obtained {
            tokens,
            sealed: self.seal(tokens)?,
        };
        let Self { app, tenant, .. } = *self;
        keep(app, tenant, self.who, self.leased, next, &obtained).await
    }

    /// Keeps what came with a failure, and records the failure.
    async fn settle_failure(
        &self,
        mut next: Grant,
        mut failure: TokenFailure,
    ) -> Result<Refreshed> {
        let mut disposed = false;
        if let Some(received) = failure.received.take() {
            let (renewed, unusable) = self.sort(received);
            // It serves from now on, whatever was odd beside it, and is kept before anything else is done.
            let kept = match renewed {
                Some(renewed) => Some(self.keep_renewed(&mut next, &failure, renewed).await?),
                None => None,
            };
            if let Some(unusable) = unusable {
                self.dispose(&next, &unusable).await?;
                disposed = true;
            }
            match kept {
                Some(true) => {
                    let access = self.tokens.access.clone();
                    return Ok(Refreshed::Failed(access, Box::new(next)));
                }
                Some(false) => return Ok(Refreshed::Moved),
                None => {}
            }
        }
        self.record_failure(next, &failure, disposed).await
    }

    /// Sorts the tokens of an answer that cannot be used as it is: the refresh token that serves from now on, and what is to be
    /// revoked.
    fn sort(&self, received: Received) -> (Option<SecretString>, Option<Tokens>) {
        let held = self.tokens.access.expose_secret();
        let access = received.access.filter(|one| one.expose_secret() != held);
        let refresh = self.other_refresh(received.refresh);
        let (renewed, stray) = match received.is_good {
            true => (refresh, None),
            false => (None, refresh),
        };
        let is_any = access.is_some() || stray.is_some();
        let unusable = is_any.then(|| Tokens {
            access: access.unwrap_or_else(no_token),
            refresh: stray,
            client_secret: self.tokens.client_secret.clone(),
        });
        (renewed, unusable)
    }

    /// Stores a refresh token that came without an access token. Returns whether it is stored.
    async fn keep_renewed(
        &self,
        next: &mut Grant,
        failure: &TokenFailure,
        renewed: SecretString,
    ) -> Result<bool> {
        log(self.tenant, self.grant, Some(failure));
        note(next, failure, self.now)?;
        let late = Tokens {
            access: no_token(),
            refresh: Some(renewed),
            client_secret: self.tokens.client_secret.clone(),
        };
        next.sealed = self.seal(&Tokens {
            access: self.tokens.access.clone(),
            ..late.clone()
        })?;
        self.keep(next, &late).await
    }

    /// Creates a revocation of tokens that cannot be used.
    async fn dispose(&self, next: &Grant, unusable: &Tokens) -> Result<()> {
        let obtained = Obtained {
            sealed: self.seal(unusable)?,
            tokens: unusable,
        };
        let never = Grant {
            version: new_version(self.now)?,
            expires_at: None,
            ..next.clone()
        };
        let Self { app, tenant, .. } = *self;
        dispose(app, tenant, self.who, self.leased, &never, &obtained).await
    }

    /// Records a failure, which may have ended the refresh token for good.
    async fn record_failure(
        &self,
        mut next: Grant,
        failure: &TokenFailure,
        disposed: bool,
    ) -> Result<Refreshed> {
        let Self {
            app, tenant, grant, ..
        } = *self;
        log(tenant, grant, Some(failure));
        let dropped = note(&mut next, failure, self.now)?;
        next.in_doubt = grant.is_in_doubt() || (!disposed && may_have_happened(failure));
        let mut revocation = None;
        if dropped {
            next.sealed = self.seal(&Tokens {
                refresh: None,
                ..self.tokens.clone()
            })?;
            // Some issuers end the whole family when a token is presented that was rotated away
            // (MCP authorization 6.11).
            let settled = Grant {
                in_doubt: false,
                lease_id: None,
                ..grant.clone()
            };
            revocation = Some(Revocation {
                access: Presentation::None,
                ..Revocation::of(tenant, &settled, None, self.now)?
            });
        }
        let event = refreshed(&next, tenant, self.who, self.now)?;
        let stored = app
            .table
            .continue_grant(tenant, self.leased, &next, revocation.as_ref(), &event)
            .await?;
        if !stored {
            return Ok(Refreshed::Moved);
        }
        app.work_appeared.notify_one();
        if failure.class == Class::InvalidClient
            && grant.last_refresh == Some(RefreshOutcome::InvalidClient)
        {
            let issuance = &grant.issuance;
            clients::reject(app, tenant, self.server.id, &grant.subject, issuance).await?;
        }
        Ok(Refreshed::Failed(
            self.tokens.access.clone(),
            Box::new(next),
        ))
    }
}

/// Whether an issuer may have issued new tokens although the refresh failed.
fn may_have_happened(failure: &TokenFailure) -> bool {
    match failure.class {
        Class::InvalidGrant | Class::InvalidClient | Class::Configuration => false,
        Class::Transient | Class::Unusable => failure.status != Some(429),
    }
}

/// Records a failed refresh on a grant; returns whether its refresh token has ended for good.
fn note(next: &mut Grant, failure: &TokenFailure, now: Timestamp) -> Result<bool> {
    let wait = failure.retry_after.map_or(0, |wait| wait.as_secs() as i64);
    let jitter = (u64::from_be_bytes(random()?) % 10) as i64;
    let outcome = match failure.class {
        Class::InvalidGrant => RefreshOutcome::InvalidGrant,
        Class::InvalidClient => RefreshOutcome::InvalidClient,
        Class::Configuration | Class::Transient | Class::Unusable => RefreshOutcome::Failed,
    };
    next.last_refresh = Some(outcome);
    let dropped = outcome == RefreshOutcome::InvalidGrant;
    next.refreshable = !dropped;
    next.retry_at = (!dropped).then(|| now.plus_seconds(wait.max(PAUSE) + jitter));
    Ok(dropped)
}

const fn reason(outcome: Option<RefreshOutcome>) -> Reason {
    match outcome {
        Some(RefreshOutcome::InvalidGrant) => Reason::InvalidGrant,
        Some(RefreshOutcome::InvalidClient) => Reason::InvalidClient,
        _ => Reason::RefreshFailed,
    }
}

/// The event of a refresh, successful or not, for a call of `who`.
fn refreshed(next: &Grant, tenant: &TenantId, who: &Who, now: Timestamp) -> Result<Event> {
    let event = Event::new(now, tenant, who.clone(), Action::CredentialRefreshed)?
        .at(next.server)
        .of(&next.subject)
        .from(Source::Oauth);
    Ok(event.with(match next.last_refresh {
        Some(RefreshOutcome::Succeeded) => EventOutcome::Succeeded,
        Some(RefreshOutcome::InvalidGrant) => EventOutcome::Refused,
        _ => EventOutcome::Failed,
    }))
}

/// Tokens that an issuer has issued and that are stored nowhere yet.
pub(super) struct Obtained<'a> {
    /// The tokens; without the refresh token if the grant had it before.
    pub tokens: &'a Tokens,
    /// The same, sealed.
    pub sealed: Sealed,
}

/// Stands for the access token where an issuer returned only a refresh token.
pub(super) fn no_token() -> SecretString {
    String::new().into()
}

/// Whether there is an access token to be revoked.
pub(super) fn due_access(tokens: &Tokens) -> Presentation {
    match tokens.access.expose_secret() {
        "" => Presentation::None,
        _ => Presentation::Due,
    }
}

/// Stores a refreshed grant, or creates a revocation of its tokens if it may not be stored. Returns whether it is
/// stored.
async fn keep(
    app: &App,
    tenant: &TenantId,
    who: &Who,
    leased: &Grant,
    next: &Grant,
    obtained: &Obtained<'_>,
) -> Result<bool> {
    let event = refreshed(next, tenant, who, app.now())?;
    let mut tries = Tries::lasting(app.keeping_limit);
    loop {
        let table = &app.table;
        let stored = table
            .continue_grant(tenant, leased, next, None, &event)
            .await;
        let failure = match stored {
            Ok(true) => return Ok(true),
            Err(error @ Error::Unavailable(_)) => error,
            refused => {
                let no_pending_write = refused.is_err();
                match discard(app, tenant, who, leased, next, obtained, no_pending_write).await {
                    Ok(Some(stored)) => return refused.map(|_| stored),
                    Ok(None) => Error::Contended,
                    Err(error) => error,
                }
            }
        };
        if !tries.wait().await {
            error!(cause = %failure, "refreshed tokens could neither be stored nor handed to revocation");
            return Err(failure);
        }
    }
}

/// Creates a revocation of refreshed tokens that cannot be used.
async fn dispose(
    app: &App,
    tenant: &TenantId,
    who: &Who,
    leased: &Grant,
    never: &Grant,
    obtained: &Obtained<'_>,
) -> Result<()> {
    let mut tries = Tries::lasting(app.keeping_limit);
    loop {
        let failure = match discard(app, tenant, who, leased, never, obtained, true).await {
            Ok(Some(_)) => return Ok(()),
            Ok(None) => Error::Contended,
            Err(error) => error,
        };
        if !tries.wait().await {
            error!(cause = %failure, "refreshed tokens could not be handed to revocation");
            return Err(failure);
        }
    }
}

/// Creates a revocation of refreshed tokens that may not be stored. Returns whether they are stored after all; `None`
/// if the caller has to retry.
async fn discard(
    app: &App,
    tenant: &TenantId,
    who: &Who,
    leased: &Grant,
    next: &Grant,
    obtained: &Obtained<'_>,
    no_pending_write: bool,
) -> Result<Option<bool>> {
    let (server, subject) = (next.server, &next.subject);
    let lease = leased.lease_id.as_deref().unwrap_or_default();
    let keys = keys_of_lease(tenant, server, subject, lease);
    let found = app.table.read(keys).await?;
    let stored = found.grant(tenant, server, subject).ok().flatten();
    if stored
        .as_ref()
        .is_some_and(|one| one.version == next.version)
    {
        return Ok(Some(true));
    }
    let now = app.now();
    let event = discarded(app, tenant, who, next)?;
    let rotated = match obtained.tokens.refresh {
        Some(_) => Presentation::Due,
        None => Presentation::None,
    };
    let waiting = found.revocation_of_lease(tenant, server, lease)?;
    if let Some(waiting) = waiting.as_ref().filter(|one| one.late.is_none()) {
        let joined = Revocation {
            version: new_version(now)?,
            in_doubt: false,
            not_before: None,
            late: Some(LateTokens {
                refresh: rotated,
                access: due_access(obtained.tokens),
                access_expires_at: next.expires_at,
                sealed: obtained.sealed.clone(),
            }),
            ..waiting.clone()
        };
        let event = event.under(joined.receipt.as_deref());
        let table = &app.table;
        let joined = table.join_revocation(&waiting.version, &joined, now, &event);
        if !joined.await? {
            return Ok(None);
        }
        app.work_appeared.notify_one();
        return Ok(Some(false));
    }
    // Of the same consent as the grant that stands. To many issuers the end of an access token is the end of its consent.
    let family_stands = stored.is_some_and(|one| one.session == next.session && one.refreshable);
    let revocation = Revocation {
        refresh: rotated,
        access: match family_stands && rotated == Presentation::None {
            true => Presentation::None,
            false => due_access(obtained.tokens),
        },
        sealed: obtained.sealed.clone(),
        ..Revocation::of(tenant, next, None, now)?
    };
    if !revocation.is_due() {
        app.table.record_event(&event).await?;
        return Ok(Some(false));
    }
    let table = &app.table;
    match table
        .discard_refreshed(
            &revocation,
            next,
            lease,
            waiting.as_ref(),
            no_pending_write,
            &event,
        )
        .await?
    {
        Discarded::Done => app.work_appeared.notify_one(),
        Discarded::Moved => return Ok(None),
        Discarded::NoKey => present_now(app, tenant, &event, revocation, obtained.tokens).await,
    }
    Ok(Some(false))
}

/// Creates a revocation of the tokens that were exchanged for a void consent, and ends the consent. Returns `false` if
/// the consent is completed after all, or the caller has to retry.
pub(super) async fn discard_exchanged(
    app: &App,
    session: &Session,
    revocation: &Revocation,
    grant: &Grant,
    tokens: &Tokens,
    reason: ConsentFailure,
) -> Result<bool> {
    let tenant = &session.tenant;
    let event = discarded(app, tenant, &Who::Browser, grant)?;
    let ended = Event::of_session(app.now(), Who::Browser, session, Action::SessionEnded)?;
    let ended = ended.with(EventOutcome::Failed).because(reason);
    let table = &app.table;
    match table
        .discard_exchanged(revocation, session, &event, &ended)
        .await?
    {
        Discarded::Done => app.work_appeared.notify_one(),
        Discarded::Moved => return Ok(false),
        Discarded::NoKey => present_now(app, tenant, &event, revocation.clone(), tokens).await,
    }
    Ok(true)
}

fn discarded(app: &App, tenant: &TenantId, who: &Who, grant: &Grant) -> Result<Event> {
    let event = Event::new(app.now(), tenant, who.clone(), Action::CredentialDiscarded)?;
    let event = event.at(grant.server).of(&grant.subject);
    Ok(event.from(Source::Oauth))
}

/// Revokes tokens of a purged server at once, since no data key is left to store them, and records the events.
async fn present_now(
    app: &App,
    tenant: &TenantId,
    discarded: &Event,
    revocation: Revocation,
    tokens: &Tokens,
) {
    let outcome = revocations::present_now(app, revocation, tokens).await;
    let settled = Event::new(
        app.now(),
        tenant,
        Worker::Revocation,
        Action::RevocationSettled,
    );
    let settled = settled.map(|event| Event {
        server: discarded.server,
        subject: discarded.subject.clone(),
        source: discarded.source,
        ..event.with(outcome)
    });
    for event in [Ok(discarded.clone()), settled] {
        let told = match event {
            Ok(event) => app.table.record_event(&event).await,
            Err(error) => Err(error),
        };
        if let Err(cause) = told {
            warn!(%cause, "an audit event could not be recorded");
        }
    }
}

fn log(tenant: &TenantId, grant: &Grant, failure: Option<&TokenFailure>) {
    let (tenant, server) = (tenant.as_str(), grant.server);
    let issuer = host(&grant.issuance.issuer);
    match failure {
        None => info!(tenant, ?server, issuer, "refreshed a grant"),
        Some(failure) => warn!(
            tenant,
            ?server,
            issuer,
            status = failure.status,
            error = failure.word,
            class = ?failure.class,
            "a grant was not refreshed"
        ),
    }
}
