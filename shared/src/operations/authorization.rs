//! The consent of a signed-in person to an application: Hawser asks once, remembers the answer, and issues an authorization
//! code (Inbound 2).

use super::sign_in::{SIGN_IN_LIFETIME, SignedIn};
use crate::domain::application::{Remembered, Wanted};
use crate::domain::id::{Sortable, TenantId, hash};
use crate::domain::login::{Identity, Login};
use crate::domain::time::Timestamp;
use crate::state::app::App;
use crate::table::{remembered_applications, subjects};
use crate::{Error, Result};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Attempts at storing an answer while other answers of the same person are stored.
const ATTEMPTS: usize = 3;
/// The purpose under which questions are sealed.
const QUESTION: &str = "application-question";

/// The question to a signed-in person whether an application may have what it asks for.
#[derive(Debug)]
pub struct Question {
    /// The application's request, as it was received.
    pub query: String,
    /// The person who is asked.
    pub signed_in: SignedIn,
    /// How often they had been offboarded when they signed in; void at any other number.
    pub offboardings: u64,
}

/// The content of the hidden field of the page that asks.
#[derive(Serialize, Deserialize)]
struct SealedQuestion {
    query: String,
    tenant: TenantId,
    identity: Identity,
    refresh_token: Option<String>,
    at: Timestamp,
    offboardings: u64,
    /// SHA-256 of the cookie of the browser that has signed in.
    browser: String,
    until: i64,
}

/// What somebody has allowed before, and how often they have been offboarded; `None` if they were offboarded since they began
/// to sign in.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn remembered(app: &App, who: &SignedIn) -> Result<Option<(Option<Remembered>, u64)>> {
    let (tenant, subject) = (&who.tenant, &who.identity.subject);
    let keys = vec![
        subjects::key(tenant, subject),
        remembered_applications::key(tenant, subject),
    ];
    let found = app.table.read(keys).await?;
    let offboardings = found.offboardings(tenant, subject)?;
    let remembered = found.remembered(tenant, subject)?;
    let offboarded_at = found.offboarded_at(tenant, subject)?;
    Ok(offboarded_at.is_none_or(|at| at < who.began).then_some((
        remembered.filter(|one| one.offboardings == offboardings),
        offboardings,
    )))
}

/// Seals a question for the browser with this cookie, for as long as its page may stand.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn seal_question(app: &App, question: &Question, cookie: &str) -> Result<SecretString> {
    let who = &question.signed_in;
    let refresh_token = who.refresh_token.as_ref();
    let sealed = SealedQuestion {
        query: question.query.clone(),
        tenant: who.tenant.clone(),
        identity: who.identity.clone(),
        refresh_token: refresh_token.map(|token| token.expose_secret().to_owned()),
        at: who.at,
        offboardings: question.offboardings,
        browser: hash(cookie),
        until: app.now().plus_seconds(SIGN_IN_LIFETIME).seconds(),
    };
    let plain = Zeroizing::new(serde_json::to_vec(&sealed).map_err(Error::internal)?);
    app.operator_key().await?.seal_token(QUESTION, &plain)
}

/// Opens a question that was sealed for the browser with this cookie; `None` for anything else.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn open_question(app: &App, sealed: &str, cookie: &str) -> Result<Option<Question>> {
    let key = app.existing_operator_key().await?;
    let opened = key.and_then(|key| key.open_token(QUESTION, sealed));
    let question: Option<SealedQuestion> =
        opened.and_then(|plain| serde_json::from_slice(&plain).ok());
    let now = app.now().seconds();
    let question = question.filter(|one| now < one.until && one.browser == hash(cookie));
    Ok(question.map(|one| Question {
        query: one.query,
        signed_in: SignedIn {
            tenant: one.tenant,
            identity: one.identity,
            refresh_token: one.refresh_token.map(Into::into),
            at: one.at,
            began: one.at,
        },
        offboardings: one.offboardings,
    }))
}

/// Forgets what the application of a login was allowed: whoever ends the login does not want it to come back by itself.
///
/// # Errors
/// [`Error::Contended`], [`Error::Unavailable`], [`Error::Internal`].
pub async fn forget(app: &App, login: &Login) -> Result<()> {
    let (tenant, subject) = (&login.tenant, login.subject());
    let own = remembered_applications::key(tenant, subject);
    for _ in 0..ATTEMPTS {
        let found = app.table.read(vec![own.clone()]).await?;
        let Some(mut remembered) = found.remembered(tenant, subject)? else {
            return Ok(());
        };
        let before = remembered.version.clone();
        if !remembered.remove(&login.approval.application.client_id) {
            return Ok(());
        }
        remembered.version = Sortable::new(app.now())?.ulid();
        let table = &app.table;
        if table
            .replace_remembered(tenant, &remembered, &before)
            .await?
        {
            return Ok(());
        }
    }
    Err(Error::Contended)
}

/// Remembers what was allowed, so that it is not asked again. Where the subject was offboarded meanwhile, nothing is kept.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn remember(app: &App, question: &Question, wanted: Wanted<'_>) -> Result<()> {
    let who = &question.signed_in;
    for _ in 0..ATTEMPTS {
        let Some((read, offboardings)) = remembered(app, who)
            .await?
            .filter(|(_, offboardings)| *offboardings == question.offboardings)
        else {
            return Ok(());
        };
        let before = read.as_ref().map(|one| one.version.clone());
        let subject = who.identity.subject.clone();
        let mut now = read.unwrap_or_else(|| Remembered::nothing(subject, offboardings));
        now.add(wanted, app.now());
        now.version = Sortable::new(app.now())?.ulid();
        let table = &app.table;
        if table
            .put_remembered(&who.tenant, &now, before.as_deref())
            .await?
        {
            return Ok(());
        }
    }
    // It will be asked again, and nothing else.
    Ok(())
}
