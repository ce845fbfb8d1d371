//! Grants in use: the access token of one, refreshed early, by one caller at a time, over all processes (checklist 6).
//!
//! Who finds a token near its end takes the lease on the grant by a conditional write on the version that was read; the
//! others use what is still valid, or wait for what the holder stores. The result is stored only over that version under
//! that lease: a late one can neither overwrite a newer grant nor bring back one that has ended. Tokens that were obtained
//! and may not be stored are handed to revocation.

use super::clients::Settings;
use super::credentials::AtServer;
use super::{clients, revocations, servers};
use crate::app::App;
use crate::domain::credential::{Grant, RefreshOutcome, Source, Tokens, new_version};
use crate::domain::event::{self, Action, Event, Who, Worker};
use crate::domain::id::{ServerId, TenantId, random};
use crate::domain::issuance::Issuance;
use crate::domain::revocation::{Presentation, Revocation};
use crate::domain::server::{Server, host};
use crate::domain::status::{Reason, Status, status};
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;
use crate::oauth::token::{self, Class, Endpoint, TokenFailure};
use crate::seal::{DataKey, Kind, Sealed};
use crate::table::credentials::record_keys;
use crate::{Error, Result};
use secrecy::SecretString;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

/// How long a lease is held at most, in seconds: longer than the call to the issuer and the write together.
const LEASE: i64 = 20;
/// How long a caller waits for someone else's refresh who has all the time that it takes.
pub const PATIENCE: Duration = Duration::from_secs(25);
/// How long a grant whose refresh failed is left alone, in seconds.
const PAUSE: i64 = 30;

/// What a caller may use.
#[derive(Debug)]
pub enum Usable {
    /// This access token.
    Token {
        /// The token.
        token: SecretString,
        /// The grant that it belongs to.
        grant: Box<Grant>,
    },
    /// Nothing, for this reason.
    Not(Reason),
}

/// How good a token has to be.
#[derive(Clone, Copy, Debug)]
pub enum Need<'a> {
    /// Valid now.
    Valid,
    /// Valid for so many seconds more.
    For(i64),
    /// Another one than that of this version, which was refused.
    Other(&'a str),
}

impl Need<'_> {
    /// Whether a grant's token serves without a refresh.
    fn is_met(self, grant: &Grant, now: Timestamp) -> bool {
        match self {
            Self::Valid => !grant.is_expired(now),
            Self::For(seconds) => !grant.is_expired(now.plus_seconds(seconds)),
            Self::Other(version) => grant.version != version && !grant.is_expired(now),
        }
    }
}

/// The access token of a subject at a server, for a call of `who`, refreshed if it should be. Someone else's refresh is waited for no longer than
/// `patience`. One of the caller's own is never broken off: that would lose the tokens that are on their way; so without any
/// patience none is begun.
///
/// # Errors
/// [`Error::ServerNotFound`] when the server is gone; [`Error::Unavailable`], [`Error::Internal`].
pub async fn access(
    app: &App,
    tenant: &TenantId,
    who: &Who,
    server: ServerId,
    subject: &Subject,
    need: Need<'_>,
    patience: Duration,
) -> Result<Usable> {
    let end = Instant::now() + patience;
    let mut first = None;
    loop {
        let (server, grant) = match read(app, tenant, server, subject).await? {
            (_, Err(reason)) => return Ok(Usable::Not(reason)),
            (server, Ok(grant)) => (server, grant),
        };
        let now = app.now();
        // What someone else has fetched since is as new as can be had.
        let newer = *first.get_or_insert_with(|| grant.version.clone()) != grant.version;
        let met = need.is_met(&grant, now) || (newer && !grant.is_expired(now));
        let paused = grant.retry_at.is_some_and(|at| now < at);
        let due = !met || grant.due_for_refresh(now);
        let left_alone = paused || patience.is_zero();
        if !due || !grant.refreshable || left_alone || (met && grant.is_leased(now)) {
            return match met {
                true => token_of(app, tenant, &server, grant).await,
                false if !grant.refreshable => Ok(Usable::Not(Reason::Expired)),
                false => Ok(Usable::Not(reason(grant.last_refresh))),
            };
        }
        if !grant.is_leased(now) {
            let lease = new_version(now)?;
            let until = now.plus_seconds(LEASE);
            if app
                .table
                .lease_grant(tenant, &grant, &lease, now, until)
                .await?
                && let Some(usable) =
                    refresh(app, tenant, who, &server, grant, &lease, need).await?
            {
                return Ok(usable);
            }
        }
        if Instant::now() >= end {
            return Ok(Usable::Not(Reason::RefreshFailed));
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
    let AtServer {
        server,
        mut records,
        ..
    } = AtServer::load(&app.table, tenant, id, subject)
        .await?
        .ok_or(Error::ServerNotFound)?;
    // An override comes first where there is one, but says nothing of the grant.
    records.own = None;
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
) -> Result<Usable> {
    let key = servers::data_key(app, tenant, server).await?;
    let token = open_grant(&key, tenant, &grant)?.access;
    Ok(Usable::Token { token, grant })
}

/// Refreshes a grant under a lease. `None` when what is stored has changed meanwhile and should be looked at again.
async fn refresh(
    app: &App,
    tenant: &TenantId,
    who: &Who,
    server: &Server,
    grant: Box<Grant>,
    lease: &str,
    need: Need<'_>,
) -> Result<Option<Usable>> {
    let key = servers::data_key(app, tenant, server).await?;
    let mut tokens = open_grant(&key, tenant, &grant)?;
    let settings = Settings::of(app, server, &servers::open_with(&key, tenant, server)?)?;
    if let Some(secret) = settings.secret_for(&grant.issuance, grant.auth_revision, server) {
        tokens.client_secret = Some(secret.clone());
    }
    let Some(presented) = tokens.refresh.clone() else {
        return Err(Error::internal(
            "a refreshable grant without a refresh token",
        ));
    };
    let secret = tokens.client_secret.as_ref();
    let at = Endpoint::of(&grant.issuance, secret, &settings.token_params);
    let mut answer = token::refresh(&app.egress, &at, &presented).await;
    let now = app.now();
    if let Ok(new) = &answer
        && !new.can_be_sent()
    {
        let unusable = Tokens {
            access: new.access.clone(),
            refresh: new.refresh.clone(),
            client_secret: tokens.client_secret.clone(),
        };
        let (id, subject) = (server.id, &grant.subject);
        let discarded = Grant {
            sealed: seal(&key, tenant, id, subject, &grant.issuance, &unusable)?,
            refreshable: unusable.refresh.is_some(),
            last_refresh: None,
            expires_at: new.expires_in.map(|life| now.plus_seconds(life)),
            ..(*grant).clone()
        };
        give_up(app, tenant, who, &discarded, &unusable).await;
        answer = Err(TokenFailure::UNUSABLE);
    }
    let mut next = Grant {
        version: new_version(now)?,
        lease_id: None,
        lease_until: None,
        retry_at: None,
        ..(*grant).clone()
    };
    match answer {
        Ok(new) => {
            tokens.access = new.access;
            // None means that the old one goes on serving.
            tokens.refresh = new.refresh.or(tokens.refresh);
            next.scopes.extend(new.scopes.into_iter().flatten());
            next.lifetime = new.expires_in.or(grant.lifetime);
            next.obtained_at = now;
            next.expires_at = next.lifetime.map(|life| now.plus_seconds(life));
            next.last_refresh = Some(RefreshOutcome::Succeeded);
            let (id, subject) = (server.id, &grant.subject);
            next.sealed = seal(&key, tenant, id, subject, &grant.issuance, &tokens)?;
            log(tenant, &grant, None);
            match store(app, tenant, who, &grant, lease, &next).await {
                Ok(true) => {
                    let token = tokens.access;
                    let grant = Box::new(next);
                    Ok(Some(Usable::Token { token, grant }))
                }
                // It may be stored after all, so it is not given up.
                Err(error @ Error::Unavailable(_)) => Err(error),
                refused => {
                    give_up(app, tenant, who, &next, &tokens).await;
                    refused.map(|_| None)
                }
            }
        }
        Err(failure) => {
            log(tenant, &grant, Some(&failure));
            let dropped = note(&mut next, &failure, now)?;
            let revocation = if dropped {
                tokens.refresh = None;
                let (id, subject) = (server.id, &grant.subject);
                next.sealed = seal(&key, tenant, id, subject, &grant.issuance, &tokens)?;
                // Some issuers end the whole family when a token is presented that was rotated away (checklist 6.11).
                Some(Revocation {
                    access: Presentation::None,
                    ..Revocation::of(tenant, &grant, None, now)?
                })
            } else {
                None
            };
            let event = refreshed(&next, tenant, who, now)?;
            let stored = app
                .table
                .continue_grant(tenant, &grant, lease, &next, revocation.as_ref(), &event)
                .await?;
            if !stored {
                return Ok(None);
            }
            app.work_appeared.notify_one();
            if failure.class == Class::InvalidClient
                && grant.last_refresh == Some(RefreshOutcome::InvalidClient)
            {
                let issuance = &grant.issuance;
                clients::reject(app, tenant, server.id, &grant.subject, issuance).await?;
            }
            // A refresh that was early never fails a call.
            Ok(Some(if need.is_met(&grant, now) {
                Usable::Token {
                    token: tokens.access,
                    grant: Box::new(next),
                }
            } else {
                Usable::Not(reason(next.last_refresh))
            }))
        }
    }
}

/// Notes a failure on a grant; answers whether its refresh token is over for good.
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

/// That a grant was refreshed, or was not, for the sake of a call of theirs.
fn refreshed(next: &Grant, tenant: &TenantId, who: &Who, now: Timestamp) -> Result<Event> {
    let event = Event::new(now, tenant, who.clone(), Action::CredentialRefreshed)?
        .at(next.server)
        .of(&next.subject)
        .from(Source::Oauth);
    Ok(event.with(match next.last_refresh {
        Some(RefreshOutcome::Succeeded) => event::Outcome::Succeeded,
        Some(RefreshOutcome::InvalidGrant) => event::Outcome::Refused,
        _ => event::Outcome::Failed,
    }))
}

/// Stores a refreshed grant, through outages of the store as long as the lease holds. Answers `false` when the grant is
/// another one by now, or gone.
async fn store(
    app: &App,
    tenant: &TenantId,
    who: &Who,
    read: &Grant,
    lease: &str,
    next: &Grant,
) -> Result<bool> {
    const TRIES: usize = 5;
    let event = refreshed(next, tenant, who, app.now())?;
    for _ in 0..TRIES {
        match app
            .table
            .continue_grant(tenant, read, lease, next, None, &event)
            .await
        {
            Ok(true) => return Ok(true),
            Ok(false) => break,
            Err(Error::Unavailable(_)) => sleep(Duration::from_millis(100)).await,
            Err(error) => return Err(error),
        }
    }
    // The answer to our own write may have been lost.
    let keys = Vec::from(record_keys(tenant, next.server, &next.subject));
    let found = app.table.read(keys).await?;
    let stored = found.grant(tenant, next.server, &next.subject)?;
    Ok(stored.is_some_and(|stored| stored.version == next.version))
}

/// Hands tokens that belong to no stored grant to revocation.
pub(super) async fn give_up(
    app: &App,
    tenant: &TenantId,
    who: &Who,
    grant: &Grant,
    tokens: &Tokens,
) {
    const TRIES: usize = 5;
    let now = app.now();
    let event = |who: Who, action| {
        let event = Event::new(app.now(), tenant, who, action)?;
        let event = event.at(grant.server).of(&grant.subject);
        Ok::<_, Error>(event.from(Source::Oauth))
    };
    let made = Revocation::of(tenant, grant, None, now);
    let (Ok(revocation), Ok(discarded)) = (made, event(who.clone(), Action::CredentialDiscarded))
    else {
        error!("tokens could not be handed to revocation");
        return;
    };
    for _ in 0..TRIES {
        match app.table.add_revocation(&revocation, &discarded).await {
            Ok(true) => {
                app.work_appeared.notify_one();
                return;
            }
            // Not even the tombstone is left: nothing durable could ever open them.
            Ok(false) => break,
            Err(cause) => {
                warn!(%cause, "a revocation could not be written down yet");
                sleep(Duration::from_millis(200)).await;
            }
        }
    }
    let outcome = revocations::present_now(app, revocation, tokens).await;
    let settled = event(Worker::Revocation.into(), Action::RevocationSettled);
    for event in [Ok(discarded), settled.map(|event| event.with(outcome))] {
        let told = match event {
            Ok(event) => app.table.tell(&event).await,
            Err(error) => Err(error),
        };
        if let Err(cause) = told {
            warn!(%cause, "a change could not be told");
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

/// Opens what [`seal`] has sealed.
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

fn open_grant(key: &DataKey, tenant: &TenantId, grant: &Grant) -> Result<Tokens> {
    let (subject, issuance) = (&grant.subject, &grant.issuance);
    open(key, tenant, grant.server, subject, issuance, &grant.sealed)
}
