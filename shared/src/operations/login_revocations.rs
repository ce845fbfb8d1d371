//! Revocation of the identity provider's refresh tokens of logins that have ended (RFC 7009), with retries: the same rules
//! as for the tokens of grants, at one issuer that the operator names.

use super::revocations::{pause, settled};
use super::sign_in;
use crate::domain::address::host;
use crate::domain::credential::new_version;
use crate::domain::event::{Action, Event, Worker};
use crate::domain::login_revocation::LoginRevocation;
use crate::domain::receipt::PresentedToken;
use crate::domain::revocation::{RevocationOutcome, Unsupported};
use crate::oauth::revocation::Verdict;
use crate::state::app::App;
use crate::table::login_revocations::key;
use crate::{Error, Result};
use tracing::{error, info};

/// Presents the token once and records what came of it.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub(super) async fn present(app: &App, found: &LoginRevocation) -> Result<()> {
    let read = app.table.read(vec![key(found)]).await?;
    let Some(mut one) = read.login_revocation(found)? else {
        return Ok(());
    };
    let (before, now) = (one.version.clone(), app.now());
    one.attempts += 1;
    one.version = new_version(now)?;
    let tried = attempt(app, &mut one).await?;
    let now = app.now();
    let outcome = tried.outcome.or_else(|| {
        let over = one.is_over(now);
        over.then_some(RevocationOutcome::Failed)
    });
    let Some(outcome) = outcome else {
        let due = now.plus_seconds(pause(one.attempts, tried.wait));
        let table = &app.table;
        let continued = table.continue_login_revocation(&before, &one, due);
        return continued.await.map(drop);
    };
    let presented = PresentedToken {
        token: "refresh_token".to_owned(),
        host: tried.host,
        status: tried.status,
        outcome,
        why: tried.why,
        at: now,
        attempts: one.attempts,
    };
    // Another one may live on that nobody here knows.
    let outcome = match outcome {
        RevocationOutcome::Revoked | RevocationOutcome::AlreadyInvalid if one.in_doubt => {
            RevocationOutcome::Unknown
        }
        outcome => outcome,
    };
    log(&one, outcome);
    let action = Action::RevocationSettled;
    let event = Event::new(now, &one.tenant, Worker::Revocation, action)?
        .of(&one.subject)
        .of_login(one.login, &one.client_id)
        .under(one.receipt.as_deref())
        .with(outcome);
    app.table
        .finish_login_revocation(&before, &one, outcome, &presented, &event)
        .await
}

/// What one attempt came to.
#[derive(Default)]
struct Tried {
    outcome: Option<RevocationOutcome>,
    why: Option<Unsupported>,
    host: Option<String>,
    status: Option<u16>,
    wait: Option<i64>,
}

async fn attempt(app: &App, one: &mut LoginRevocation) -> Result<Tried> {
    let key = app.tenant_key(&one.tenant, one.token.tenant_key).await?;
    let Ok(token) = key.open_for_login(&one.tenant, one.login, &one.token.sealed) else {
        return Ok(Tried {
            outcome: Some(RevocationOutcome::Failed),
            ..Tried::default()
        });
    };
    let provider = one.provider.as_deref();
    let asked = sign_in::revoke(app, provider, &token, one.refused_clients).await;
    let asked = match asked {
        Ok(asked) => asked,
        // The secret of our client cannot be read now; once the time is over, that is how it ended.
        Err(Error::Unavailable(_)) => return Ok(Tried::default()),
        Err(error) => return Err(error),
    };
    let answered = asked.answer.verdict != Verdict::TryLater;
    app.circuit_breaker.record(&one.asks(), answered, app.now());
    let outcome = settled(asked.answer.verdict, one.refused_clients);
    if asked.answer.verdict == Verdict::InvalidClient {
        one.refused_clients += 1;
    }
    Ok(Tried {
        outcome,
        why: asked.why,
        host: asked.endpoint.as_deref().map(host),
        status: asked.answer.status,
        wait: asked.answer.retry_after.map(|wait| wait.as_secs() as i64),
    })
}

fn log(one: &LoginRevocation, outcome: RevocationOutcome) {
    let (tenant, login, attempts) = (one.tenant.as_str(), one.login, one.attempts);
    if outcome == RevocationOutcome::Failed {
        error!(tenant, ?login, attempts, "a revocation failed");
    } else {
        let outcome = outcome.as_str();
        info!(tenant, ?login, attempts, outcome, "a revocation is settled");
    }
}
