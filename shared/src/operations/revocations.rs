//! Revocation of ended grants at their issuers (RFC 7009), with retries: each token on its own, the refresh token
//! first, authenticated as the client that it was issued to. Requests are sent at least once, since revocation is
//! idempotent; the receipt counts each grant exactly once, in the transaction that deletes its tokens.
//!
//! A grant that ended while it was refreshed, or after the answer to a refresh was lost, is in doubt: its issuer may have given
//! out tokens that are not in the revocation. It waits for them as long as a refresh may take. Then the refresh is tried
//! once more: what it brings is revoked, too. Where the issuer refuses, the outcome is `unknown`.

use super::clients::Settings;
use super::{Tries, purge, servers};
use crate::domain::address::{host, origin};
use crate::domain::credential::{Source, Tokens, new_version};
use crate::domain::endpoint_method::{ClientAuth, RevocationMethod};
use crate::domain::event::{Action, Event, Worker};
use crate::domain::id::random;
use crate::domain::issuance::{Client, ClientSource};
use crate::domain::job::Work;
use crate::domain::receipt::PresentedToken;
use crate::domain::revocation::{
    LateTokens, Presentation, Revocation, RevocationOutcome, Unsupported,
};
use crate::domain::server::{Auth, Server};
use crate::domain::time::Timestamp;
use crate::oauth::owner::{self, IssuerHints, Outage};
use crate::oauth::revocation::{self, Answer, Hint, Verdict};
use crate::oauth::token::{self, Class, Credentials, Endpoint};
use crate::operations::sealed_tokens;
use crate::seal::DataKey;
use crate::state::app::App;
use crate::table::revocations::{Discarded, keys_of};
use crate::{Error, Result};
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{error, info, warn};

/// How often an issuer has to refuse the client before the revocation fails.
const MAX_CLIENT_REFUSALS: u32 = 3;
/// The time limit of one lookup of an issuer.
const ISSUER_LOOKUP_TIMEOUT: Duration = Duration::from_secs(25);
/// The longest pause between two attempts, in seconds.
const MAX_BACKOFF_SECONDS: i64 = 3600;
/// Attempts at repeating a refresh whose answer was lost.
const MAX_RECOVERY_ATTEMPTS: u32 = 5;

/// Sends the due revocation requests of a revocation and records their results. After the last revocation of a deleted
/// server, its purge continues.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub(super) async fn present(app: &App, found: &Revocation, until: Instant) -> Result<()> {
    let read = app.table.read(keys_of(found)).await?;
    let Some(mut one) = read.revocation(found)? else {
        return Ok(());
    };
    let server = read.server(&one.tenant, one.server)?;
    let tombstone = read.tombstone(&one.tenant, one.server)?;
    let wrapped = server
        .as_ref()
        .map(|server| &server.data_key)
        .or(tombstone.as_ref().map(|tombstone| &tombstone.data_key))
        .ok_or_else(|| Error::internal("a revocation outlived its data key"))?;
    let key = app.data_key(&one.tenant, one.server, wrapped).await?;
    if let Some(at) = one.not_before.filter(|at| app.now() < *at) {
        // A refresh may be under way that brings more to present.
        let waiting = Work::Revocation(Box::new(one));
        return app.table.defer(&waiting, at).await.map(drop);
    }
    let before = one.version.clone();
    one.attempts += 1;
    one.version = new_version(app.now())?;
    let wait = match TokenSets::open(&key, &one) {
        // The retry window is over and the circuit of the issuer is open: another request would only delay other work.
        Ok(_)
            if one.attempts > 1
                && one.is_over(app.now())
                && !app.circuit_breaker.allow(&one.asks(), app.now()) =>
        {
            one.attempts -= 1;
            None
        }
        Ok(sets) => {
            let current = CurrentSettings::of(app, &one, server.as_ref(), &key, &sets.own).await?;
            match find_endpoint(app, &mut one, &current).await {
                Err(Outage { .. }) => None,
                Ok(missing) => match lost(&one, &sets.own) {
                    Some(refresh) => {
                        let recovery = Recovery {
                            before: before.clone(),
                            one: one.clone(),
                            refresh,
                            current: current.clone(),
                            key,
                        };
                        match app.to_its_end(|app| recovery.run(app)).await? {
                            Recovered::Moved => return Ok(()),
                            Recovered::TryLater(wait) => wait,
                            Recovered::Nothing => {
                                attempt(app, &mut one, &sets, &current, missing).await
                            }
                        }
                    }
                    None => attempt(app, &mut one, &sets, &current, missing).await,
                },
            }
        }
        // The tokens cannot be opened.
        Err(_) => {
            end_due(&mut one, RevocationOutcome::Failed, None, app.now());
            None
        }
    };
    let now = app.now();
    if one.is_over(now) {
        end_due(&mut one, RevocationOutcome::Failed, None, now);
    }
    let Some(outcome) = one.outcome() else {
        let due = now.plus_seconds(pause(one.attempts, wait));
        app.table.continue_revocation(&before, &one, due).await?;
        return Ok(());
    };
    log(&one, outcome);
    let presented = one.itemised.then(|| presented(&one));
    let event = Event::new(
        now,
        &one.tenant,
        Worker::Revocation,
        Action::RevocationSettled,
    )?
    .at(one.server)
    .of(&one.subject)
    .from(Source::Oauth)
    .under(one.receipt.as_deref())
    .with(outcome);
    app.table
        .finish_revocation(&before, &one, outcome, presented.as_deref(), &event)
        .await?;
    match tombstone {
        Some(tombstone) if !app.table.has_revocations(&one.tenant, one.server).await? => {
            purge::purge(app, &tombstone, until).await
        }
        _ => Ok(()),
    }
}

/// Revokes tokens that can no longer be stored, with a few immediate attempts: the last resort for a server that was
/// deleted and purged while its issuer was answering.
pub(super) async fn present_now(
    app: &App,
    mut one: Revocation,
    tokens: &Tokens,
) -> RevocationOutcome {
    const TRIES: u32 = 3;
    let sets = TokenSets {
        own: tokens.clone(),
        late: None,
    };
    let current = CurrentSettings::of_tokens(tokens);
    for _ in 0..TRIES {
        one.attempts += 1;
        if let Ok(missing) = find_endpoint(app, &mut one, &current).await {
            attempt(app, &mut one, &sets, &current, missing).await;
        }
        if let Some(outcome) = one.outcome() {
            log(&one, outcome);
            return outcome;
        }
    }
    log(&one, RevocationOutcome::Failed);
    RevocationOutcome::Failed
}

/// The tokens of a revocation.
struct TokenSets {
    own: Tokens,
    /// Tokens that were issued after the grant had ended.
    late: Option<Tokens>,
}

impl TokenSets {
    fn open(key: &DataKey, one: &Revocation) -> Result<Self> {
        let open = |sealed| {
            let (subject, issuance) = (&one.subject, &one.issuance);
            sealed_tokens::open(key, &one.tenant, one.server, subject, issuance, sealed)
        };
        let late = one.late.as_ref().map(|late| open(&late.sealed));
        Ok(Self {
            own: open(&one.sealed)?,
            late: late.transpose()?,
        })
    }
}

/// The refresh token to repeat a lost refresh with; `None` where nothing was lost or nothing could be revoked.
fn lost(one: &Revocation, own: &Tokens) -> Option<SecretString> {
    let worth_it = one.in_doubt
        && one.late.is_none()
        && one.refresh == Presentation::Due
        && one.issuance.revocation_endpoint.is_some()
        && one.attempts <= MAX_RECOVERY_ATTEMPTS;
    own.refresh.clone().filter(|_| worth_it)
}

/// Repeats a refresh whose answer was lost, so that the tokens that the issuer may have issued can be revoked.
struct Recovery {
    before: String,
    one: Revocation,
    refresh: SecretString,
    current: CurrentSettings,
    key: DataKey,
}

/// The outcome of a recovery.
enum Recovered {
    /// The recovered tokens are stored, in this revocation or in another one; the worker finds it in the index of due work.
    Moved,
    /// The issuer refuses the refresh. The tokens that are known are revoked.
    Nothing,
    /// The issuer does not answer; with its `Retry-After` in seconds, if it sent one.
    TryLater(Option<i64>),
}

impl Recovery {
    async fn run(self, app: Arc<App>) -> Result<Recovered> {
        let Self { one, key, .. } = &self;
        let at = Endpoint::of(
            &one.issuance,
            self.current.secret.as_ref(),
            &self.current.parameters,
        );
        let new = match token::refresh(&app.egress, &at, &self.refresh).await {
            Ok(new) => new,
            Err(failure) => {
                return Ok(match failure.class {
                    Class::Transient if one.attempts < MAX_RECOVERY_ATTEMPTS => {
                        let wait = failure.retry_after;
                        Recovered::TryLater(wait.map(|wait| wait.as_secs() as i64))
                    }
                    _ => Recovered::Nothing,
                });
            }
        };
        let is_other = |one: &SecretString| one.expose_secret() != self.refresh.expose_secret();
        let tokens = Tokens {
            access: new.access,
            refresh: new.refresh.filter(is_other),
            client_secret: self.current.secret.clone(),
        };
        let (tenant, subject) = (&one.tenant, &one.subject);
        let sealed = sealed_tokens::seal(key, tenant, one.server, subject, &one.issuance, &tokens)?;
        let now = app.now();
        let late = LateTokens {
            refresh: match tokens.refresh {
                Some(_) => Presentation::Due,
                None => Presentation::None,
            },
            access: Presentation::Due,
            access_expires_at: new.expires_in.map(|life| now.plus_seconds(life)),
            sealed,
        };
        let mut tries = Tries::lasting(app.keeping_limit);
        loop {
            let kept = self.keep(&app, late.clone(), &tokens).await;
            app.work_appeared.notify_one();
            match kept {
                Err(Error::Unavailable(_)) if tries.wait().await => {}
                kept => return kept.map(|()| Recovered::Moved),
            }
        }
    }

    /// Stores the recovered tokens: in the revocation itself, or as another one if it has changed.
    async fn keep(&self, app: &App, late: LateTokens, tokens: &Tokens) -> Result<()> {
        let (one, now) = (&self.one, app.now());
        let more = Revocation {
            in_doubt: false,
            not_before: None,
            late: Some(late.clone()),
            ..one.clone()
        };
        if app
            .table
            .continue_revocation(&self.before, &more, now)
            .await?
        {
            return Ok(());
        }
        let version = new_version(now)?;
        let beside = Revocation {
            id: version.clone(),
            version,
            receipt: None,
            itemised: false,
            in_doubt: false,
            not_before: None,
            late: None,
            refresh: late.refresh,
            access: late.access,
            access_expires_at: late.access_expires_at,
            sealed: late.sealed,
            at: now,
            attempts: 0,
            ..one.clone()
        };
        let event = Event::new(
            now,
            &one.tenant,
            Worker::Revocation,
            Action::CredentialDiscarded,
        )?;
        let event = event.at(one.server).of(&one.subject).from(Source::Oauth);
        match app.table.discard_recovered(&beside, &event).await? {
            Discarded::Done | Discarded::Moved => {}
            Discarded::NoKey => {
                warn!("tokens were recovered of a server of which nothing is left");
                present_now(app, beside, tokens).await;
            }
        }
        Ok(())
    }
}

/// Revokes each due token at the issuer. Returns the issuer's `Retry-After`, if it sent one. `missing` says why the
/// revocation endpoint is unknown.
async fn attempt(
    app: &App,
    one: &mut Revocation,
    sets: &TokenSets,
    current: &CurrentSettings,
    missing: Option<Unsupported>,
) -> Option<i64> {
    let secret = current.secret.as_ref();
    let client = one
        .issuance
        .revocation_client(secret.is_some(), one.refused_clients);
    let now = app.now();
    let mut wait = None;
    let mut refused_client = false;
    let mut answered = true;
    let Revocation {
        issuance,
        refused_clients,
        ..
    } = &*one;
    let issuance = issuance.clone();
    let refusals = *refused_clients;
    let own_end = one.access_expires_at;
    let mut places: Vec<(
        Hint,
        Option<&SecretString>,
        Option<Timestamp>,
        &mut Presentation,
    )> = Vec::new();
    // The latest first: with it, where the issuer ends them together, goes the rest.
    if let (Some(late), Some(tokens)) = (&mut one.late, &sets.late) {
        let end = late.access_expires_at;
        places.push((
            Hint::Refresh,
            tokens.refresh.as_ref(),
            None,
            &mut late.refresh,
        ));
        places.push((Hint::Access, Some(&tokens.access), end, &mut late.access));
    }
    let own = &sets.own;
    places.push((Hint::Refresh, own.refresh.as_ref(), None, &mut one.refresh));
    places.push((Hint::Access, Some(&own.access), own_end, &mut one.access));
    for (hint, token, end, place) in places {
        if *place != Presentation::Due {
            continue;
        }
        let over = end.is_some_and(|end| now >= end);
        let answer = match (token, &issuance.revocation_endpoint) {
            (None, _) => Answer::unasked(Verdict::AlreadyInvalid),
            (Some(_), _) if over => Answer::unasked(Verdict::AlreadyInvalid),
            (Some(_), None) => Answer::unasked(Verdict::Unsupported),
            (Some(token), Some(url)) => {
                let endpoint = revocation::Endpoint {
                    url,
                    method: issuance.revocation_method,
                    credentials: Credentials {
                        client: &client,
                        secret,
                    },
                };
                endpoint.revoke(&app.egress, token, hint).await
            }
        };
        let outcome = settled(answer.verdict, refusals);
        refused_client |= answer.verdict == Verdict::InvalidClient;
        answered &= answer.verdict != Verdict::TryLater;
        wait = wait.max(answer.retry_after.map(|wait| wait.as_secs() as i64));
        if let Some(outcome) = outcome {
            let why = missing.unwrap_or(Unsupported::TokenKind);
            *place = Presentation::Ended {
                outcome,
                status: answer.status,
                at: now,
                why: (outcome == RevocationOutcome::Unsupported).then_some(why),
            };
        }
    }
    one.refused_clients += u32::from(refused_client);
    app.circuit_breaker.record(&one.asks(), answered, app.now());
    wait
}

/// How a presentation has ended by this verdict, if it has; `refusals` says how often the client was refused before.
pub(super) fn settled(verdict: Verdict, refusals: u32) -> Option<RevocationOutcome> {
    match verdict {
        Verdict::Revoked => Some(RevocationOutcome::Revoked),
        Verdict::AlreadyInvalid => Some(RevocationOutcome::AlreadyInvalid),
        Verdict::Unsupported => Some(RevocationOutcome::Unsupported),
        Verdict::Refused => Some(RevocationOutcome::Failed),
        Verdict::InvalidClient => {
            (refusals + 1 >= MAX_CLIENT_REFUSALS).then_some(RevocationOutcome::Failed)
        }
        Verdict::TryLater => None,
    }
}

fn end_due(one: &mut Revocation, outcome: RevocationOutcome, status: Option<u16>, at: Timestamp) {
    let late = one.late.as_mut();
    let late = late.map(|late| [&mut late.refresh, &mut late.access]);
    let all = [&mut one.refresh, &mut one.access].into_iter();
    for place in all.chain(late.into_iter().flatten()) {
        if *place == Presentation::Due {
            *place = Presentation::Ended {
                outcome,
                status,
                at,
                why: None,
            };
        }
    }
}

/// Seconds before the next attempt: five, then four times as many each time, an hour at most, and a random part more.
pub(super) fn pause(attempts: u32, wait: Option<i64>) -> i64 {
    let pause = 5i64.saturating_mul(4i64.saturating_pow(attempts.saturating_sub(1)));
    let pause = pause.max(wait.unwrap_or(0)).min(MAX_BACKOFF_SECONDS);
    let jitter = random::<8>().map_or(0, u64::from_be_bytes) % (pause as u64 / 4 + 1);
    pause + jitter as i64
}

/// Determines the revocation endpoint, or why there is none: from the grant, else from the operator's current settings,
/// else by looking up the issuer once more.
async fn find_endpoint(
    app: &App,
    one: &mut Revocation,
    current: &CurrentSettings,
) -> std::result::Result<Option<Unsupported>, Outage> {
    if one.issuance.revocation_endpoint.is_some() {
        return Ok(None);
    }
    if let Some((url, method, auth)) = &current.endpoint {
        one.issuance.revocation_endpoint = Some(url.clone());
        one.issuance.revocation_method = *method;
        one.issuance.revocation_auth.extend(*auth);
        return Ok(None);
    }
    let token_endpoint = one.issuance.token_endpoint.clone();
    let mut issuer_hints = IssuerHints {
        token_endpoint: &token_endpoint,
        resource: current
            .resource
            .as_deref()
            .or(one.issuance.resource.as_deref()),
        issuers: current.issuers.clone(),
        trusted: current.trusted.clone(),
    };
    // A grant bears no name that only its bearer's own metadata speaks for.
    if one.issuance.names_issuer() {
        issuer_hints.issuers.insert(0, one.issuance.issuer.clone());
        issuer_hints.trusted.push(one.issuance.issuer.clone());
    }
    issuer_hints.issuers.push(origin(&token_endpoint));
    let owner = owner::find(&app.egress, &issuer_hints, ISSUER_LOOKUP_TIMEOUT).await;
    if let Err(Outage { of_issuer: true }) = owner {
        app.circuit_breaker.record(&one.asks(), false, app.now());
    }
    let Some(owner) = owner? else {
        return Ok(Some(Unsupported::IssuerUnknown));
    };
    let why = match (&owner.issuer.revocation_endpoint, owner.is_elsewhere) {
        (Some(_), _) => None,
        (None, true) => Some(Unsupported::EndpointElsewhere),
        (None, false) => Some(Unsupported::NoEndpoint),
    };
    one.issuance.revocation_endpoint = owner.issuer.revocation_endpoint;
    let names = owner.issuer.revocation_auth_methods.unwrap_or_default();
    if one.issuance.revocation_auth.is_empty() {
        let auths = names.iter().filter_map(|name| ClientAuth::parse(name));
        one.issuance.revocation_auth = auths.collect();
    }
    Ok(why)
}

/// The operator's current settings for the issuer of stored tokens, and the client's current secret.
#[derive(Clone, Default)]
struct CurrentSettings {
    /// The client's secret, which an operator may have changed since the tokens were obtained.
    secret: Option<SecretString>,
    /// Additional parameters of token requests, set by the operator.
    parameters: Vec<(String, SecretString)>,
    /// The revocation endpoint, its method, and the client authentication there.
    endpoint: Option<(String, RevocationMethod, Option<ClientAuth>)>,
    /// Issuers whose metadata may name the revocation endpoint.
    issuers: Vec<String>,
    /// Those of them whose metadata may name a revocation endpoint on another host.
    trusted: Vec<String>,
    /// The server that the tokens were for.
    resource: Option<String>,
}

impl CurrentSettings {
    /// The settings that were stored with the tokens.
    fn of_tokens(tokens: &Tokens) -> Self {
        Self {
            secret: tokens.client_secret.clone(),
            ..Self::default()
        }
    }

    /// What a registration says by now of the issuer counts no further than to where the tokens came from: who may change it
    /// may not read tokens, and could else have them sent elsewhere. The deployment's own catalogue may name any host.
    async fn of(
        app: &App,
        one: &Revocation,
        server: Option<&Server>,
        key: &DataKey,
        tokens: &Tokens,
    ) -> Result<Self> {
        let mut current = Self::of_tokens(tokens);
        let Some(server) = server.filter(|server| matches!(server.auth, Auth::Oauth(_))) else {
            return Ok(current);
        };
        let secrets = servers::open_with(key, &one.tenant, server)?;
        let settings = match Settings::of(app, server, &secrets).await {
            Ok(settings) => settings,
            Err(Error::Oauth(_)) => return Ok(current),
            Err(error @ Error::Unavailable(_)) if !one.is_over(app.now()) => return Err(error),
            // What was kept with the tokens may serve; a reference that leads nowhere is nothing to wait for.
            Err(_) => Settings::without_secret(app, server, &secrets).await?,
        };
        let issuance = &one.issuance;
        if let Some(new) = settings.secret_for(issuance, one.auth_revision, server) {
            current.secret = Some(new.clone());
        }
        if settings.matches_issuance(issuance, one.auth_revision, server) {
            let home = origin(&issuance.token_endpoint);
            let is_trusted = |url: &String| settings.is_deployed || origin(url) == home;
            let endpoint = settings.revocation_endpoint().filter(is_trusted);
            current.endpoint =
                endpoint.map(|url| (url, settings.revocation_method, settings.revocation_auth));
            let issuer_hints = settings.issuer_hints(
                &issuance.token_endpoint,
                Some(settings.address.expose_secret()),
            );
            let named = settings.issuer.as_ref();
            current.trusted = issuer_hints.trusted;
            current
                .trusted
                .retain(|one| settings.is_deployed || named != Some(one));
            current.issuers = issuer_hints.issuers;
            current.resource = issuer_hints.resource.map(str::to_owned);
        }
        current.parameters = settings.token_params;
        Ok(current)
    }
}

fn presented(one: &Revocation) -> Vec<PresentedToken> {
    let host = one.issuance.revocation_endpoint.as_deref().map(host);
    let late = one.late.as_ref();
    let late = late.map(|late| {
        [
            ("refresh_token", late.refresh),
            ("access_token", late.access),
        ]
    });
    let own = [("refresh_token", one.refresh), ("access_token", one.access)];
    late.into_iter()
        .flatten()
        .chain(own)
        .filter_map(|(token, place)| match place {
            Presentation::Ended {
                outcome,
                status,
                at,
                why,
            } => Some(PresentedToken {
                token: token.to_owned(),
                host: host.clone(),
                status,
                outcome,
                why,
                at,
                attempts: one.attempts,
            }),
            Presentation::None | Presentation::Due => None,
        })
        .collect()
}

fn log(one: &Revocation, outcome: RevocationOutcome) {
    let Client { source, .. } = &one.issuance.client;
    let dynamic = matches!(source, ClientSource::Dynamic(_));
    let (tenant, issuer) = (one.tenant.as_str(), host(&one.issuance.issuer));
    let (server, attempts, outcome_word) = (one.server, one.attempts, outcome.as_str());
    if outcome == RevocationOutcome::Failed {
        error!(
            tenant,
            ?server,
            issuer,
            attempts,
            dynamic,
            "a revocation failed"
        );
    } else {
        info!(
            tenant,
            ?server,
            issuer,
            attempts,
            outcome = outcome_word,
            "a revocation is settled"
        );
    }
}
