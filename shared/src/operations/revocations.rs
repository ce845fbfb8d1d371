//! Telling an issuer that a grant is over (RFC 7009), until that is settled: each token on its own, the refresh token first,
//! as the client that it was issued to. At least once is fine, for repeating is harmless; the receipt counts each grant
//! exactly once, in the transaction that erases its tokens.

use super::clients::Settings;
use super::{grants, purge, servers};
use crate::app::App;
use crate::domain::credential::{Source, Tokens};
use crate::domain::event::{Action, Event, Worker};
use crate::domain::id::random;
use crate::domain::issuance::{Client, ClientSource};
use crate::domain::revocation::{Outcome, Presentation, Revocation};
use crate::domain::server::{Auth, Server, host};
use crate::domain::time::Timestamp;
use crate::oauth::discovery;
use crate::oauth::revocation::{Answer, Hint, Verdict, revoke};
use crate::oauth::token::Credentials;
use crate::seal::DataKey;
use crate::table::receipts::PresentedToken;
use crate::table::revocations::keys_of;
use crate::{Error, Result};
use secrecy::SecretString;
use tokio::time::Instant;
use tracing::{error, info};

/// How often an issuer may refuse the client before that is believed.
const CLIENT_REFUSALS: u32 = 3;
/// The longest pause between two attempts, in seconds.
const LONGEST_PAUSE: i64 = 3600;

/// Presents what is due of a revocation, and records where that leaves it. The last one of a deleted server lets its purge
/// go on.
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
    let before = one.version.clone();
    one.attempts += 1;
    one.version = crate::domain::credential::new_version(app.now())?;
    let (subject, issuance) = (&one.subject, &one.issuance);
    let opened = grants::open(
        &key,
        &one.tenant,
        one.server,
        subject,
        issuance,
        &one.sealed,
    );
    let wait = match opened {
        // Out of patience with an issuer that is known not to answer, and did not when it was asked about this one: once more
        // would only hold back others.
        Ok(_)
            if one.attempts > 1
                && one.is_over(app.now())
                && !app.silence.admits(&one.asks(), app.now()) =>
        {
            one.attempts -= 1;
            None
        }
        Ok(tokens) => {
            let secret = client_secret(app, &one, server.as_ref(), &key, &tokens)?;
            attempt(app, &mut one, &tokens, secret.as_ref()).await
        }
        // Nothing can ever be presented.
        Err(_) => {
            end_due(&mut one, Outcome::Failed, None, app.now());
            None
        }
    };
    let now = app.now();
    if one.is_over(now) {
        end_due(&mut one, Outcome::Failed, None, now);
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

/// Presents tokens that nothing durable can hold any more, a few times at once. The last resort, for a server that was
/// deleted and cleared away while an issuer was answering.
pub(super) async fn present_now(app: &App, mut one: Revocation, tokens: &Tokens) -> Outcome {
    const TRIES: u32 = 3;
    for _ in 0..TRIES {
        one.attempts += 1;
        attempt(app, &mut one, tokens, tokens.client_secret.as_ref()).await;
        if let Some(outcome) = one.outcome() {
            log(&one, outcome);
            return outcome;
        }
    }
    log(&one, Outcome::Failed);
    Outcome::Failed
}

/// Asks the issuer about each token that is due. Answers how long it wants to be left alone, if it says so.
async fn attempt(
    app: &App,
    one: &mut Revocation,
    tokens: &Tokens,
    secret: Option<&SecretString>,
) -> Option<i64> {
    let endpoint = match &one.issuance.revocation_endpoint {
        Some(url) => Ok(Some(url.clone())),
        // Looked for once more before saying that there is none.
        None => match discovery::issuer(&app.egress, &one.issuance.issuer).await {
            Ok(issuer) => Ok(issuer.revocation_endpoint),
            Err(discovery::Failure::TryLater) => Err(()),
            Err(_) => Ok(None),
        },
    };
    let Ok(endpoint) = endpoint else {
        app.silence.note(&one.asks(), false, app.now());
        return None;
    };
    one.issuance.revocation_endpoint = endpoint;
    let now = app.now();
    let mut wait = None;
    let mut refused_client = false;
    let mut answered = true;
    for (hint, token) in [
        (Hint::Refresh, tokens.refresh.as_ref()),
        (Hint::Access, Some(&tokens.access)),
    ] {
        let place = match hint {
            Hint::Refresh => one.refresh,
            Hint::Access => one.access,
        };
        if place != Presentation::Due {
            continue;
        }
        let over = hint == Hint::Access && one.access_expires_at.is_some_and(|end| now >= end);
        let answer = match (token, &one.issuance.revocation_endpoint) {
            (None, _) => unasked(Verdict::AlreadyInvalid),
            (Some(_), _) if over => unasked(Verdict::AlreadyInvalid),
            (Some(_), None) => unasked(Verdict::Unsupported),
            (Some(token), Some(url)) => {
                let credentials = Credentials {
                    client: &one.issuance.client,
                    secret,
                };
                revoke(&app.egress, url, &credentials, token, hint).await
            }
        };
        let outcome = match answer.verdict {
            Verdict::Revoked => Some(Outcome::Revoked),
            Verdict::AlreadyInvalid => Some(Outcome::AlreadyInvalid),
            Verdict::Unsupported => Some(Outcome::Unsupported),
            Verdict::Refused => Some(Outcome::Failed),
            Verdict::InvalidClient => {
                refused_client = true;
                (one.refused_clients + 1 >= CLIENT_REFUSALS).then_some(Outcome::Failed)
            }
            Verdict::TryLater => {
                answered = false;
                None
            }
        };
        wait = wait.max(answer.retry_after.map(|wait| wait.as_secs() as i64));
        if let Some(outcome) = outcome {
            let ended = Presentation::Ended {
                outcome,
                status: answer.status,
                at: now,
            };
            match hint {
                Hint::Refresh => one.refresh = ended,
                Hint::Access => one.access = ended,
            }
        }
    }
    one.refused_clients += u32::from(refused_client);
    app.silence.note(&one.asks(), answered, app.now());
    wait
}

fn unasked(verdict: Verdict) -> Answer {
    Answer {
        verdict,
        status: None,
        retry_after: None,
    }
}

fn end_due(one: &mut Revocation, outcome: Outcome, status: Option<u16>, at: Timestamp) {
    for place in [&mut one.refresh, &mut one.access] {
        if *place == Presentation::Due {
            *place = Presentation::Ended {
                outcome,
                status,
                at,
            };
        }
    }
}

/// Seconds before the next attempt: five, then four times as many each time, an hour at most, and a random part more.
fn pause(attempts: u32, wait: Option<i64>) -> i64 {
    let pause = 5i64.saturating_mul(4i64.saturating_pow(attempts.saturating_sub(1)));
    let pause = pause.max(wait.unwrap_or(0)).min(LONGEST_PAUSE);
    let jitter = random::<8>().map_or(0, u64::from_be_bytes) % (pause as u64 / 4 + 1);
    pause + jitter as i64
}

/// The client's secret: an operator may have changed it since the tokens were obtained.
fn client_secret(
    app: &App,
    one: &Revocation,
    server: Option<&Server>,
    key: &DataKey,
    tokens: &Tokens,
) -> Result<Option<SecretString>> {
    if let Some(server) = server
        && one.issuance.client.source == ClientSource::PreRegistered
        && matches!(server.auth, Auth::Oauth(_))
    {
        let secrets = servers::open_with(key, &one.tenant, server)?;
        if let Ok(settings) = Settings::of(app, server, &secrets)
            && let Some(secret) = settings.secret_for(&one.issuance, one.auth_revision, server)
        {
            return Ok(Some(secret.clone()));
        }
    }
    Ok(tokens.client_secret.clone())
}

fn presented(one: &Revocation) -> Vec<PresentedToken> {
    let host = one.issuance.revocation_endpoint.as_deref().map(host);
    [("refresh_token", one.refresh), ("access_token", one.access)]
        .into_iter()
        .filter_map(|(token, place)| match place {
            Presentation::Ended {
                outcome,
                status,
                at,
            } => Some(PresentedToken {
                token: token.to_owned(),
                host: host.clone(),
                status,
                outcome,
                at,
                attempts: one.attempts,
            }),
            Presentation::None | Presentation::Due => None,
        })
        .collect()
}

fn log(one: &Revocation, outcome: Outcome) {
    let Client { source, .. } = &one.issuance.client;
    let dynamic = matches!(source, ClientSource::Dynamic(_));
    let (tenant, issuer) = (one.tenant.as_str(), host(&one.issuance.issuer));
    let (server, attempts, outcome_word) = (one.server, one.attempts, outcome.as_str());
    if outcome == Outcome::Failed {
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
