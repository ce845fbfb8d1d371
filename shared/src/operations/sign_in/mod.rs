//! Signing in: who is in front of a browser, as the operator's OpenID provider says, or under the local server as the person
//! says (Inbound 2). Nothing is stored: what has to come back with the browser is sealed into cookies.

mod browser_session;
mod provider;

pub use browser_session::{
    BROWSER_SESSION_LIFETIME, BrowserSession, browser_session, read_browser_session,
};

use crate::domain::caller::Caller;
use crate::domain::id::{TenantId, is_same_secret, random};
use crate::domain::login::Identity;
use crate::domain::revocation::Unsupported;
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;
use crate::oauth::revocation::{self, Verdict};
use crate::oauth::token;
use crate::state::app::App;
use crate::state::sign_in::{Place, Provider};
use crate::{Error, Result};
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::BASE64URL_NOPAD;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tracing::warn;

/// The path that the provider answers to.
pub const SIGNED_IN_PATH: &str = "/oauth/signed-in";
/// The path of the local server's page for development.
pub const DEVELOPMENT_PATH: &str = "/oauth/development-sign-in";
/// How long a sign-in may take, and the page after it may stand, in seconds.
pub const SIGN_IN_LIFETIME: i64 = 600;
/// The purpose of what is sealed.
const ATTEMPT: &str = "sign-in";

/// What somebody signs in for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// An application asks for it, with this query.
    Application(String),
    /// The page of a consent asks for it, with this ticket.
    Consent(String),
}

/// A sign-in that has begun.
#[derive(Debug)]
pub struct Begun {
    /// Where the browser goes.
    pub url: String,
    /// What names this sign-in in the answer.
    pub state: String,
    /// What the browser keeps meanwhile.
    pub cookie: SecretString,
}

/// What the browser keeps.
#[derive(Serialize, Deserialize)]
struct Attempt {
    seed: String,
    goal: Goal,
    began: Timestamp,
}

impl Attempt {
    /// State, nonce and verifier follow from one random value, so that the cookie stays small.
    fn part(&self, name: &str) -> String {
        let text = format!("hawser sign-in {name}\n{}", self.seed);
        BASE64URL_NOPAD.encode(digest(&SHA256, text.as_bytes()).as_ref())
    }

    fn state(&self) -> String {
        self.part("state")
    }
}

/// Why nobody has signed in.
#[derive(Debug)]
pub enum SignInFailure {
    /// There is nowhere to sign in.
    NotOffered,
    /// The answer belongs to no sign-in that this browser has begun lately.
    Foreign,
    /// The provider says that the person, or it itself, declined.
    Declined,
    /// The provider says that something is wrong, by this word if it is a known one.
    Refused(&'static str),
    /// The provider does not answer.
    Unreachable,
    /// What the provider says of itself, or of the person, cannot be believed.
    Untrusted(&'static str),
    /// The provider names no tenant for the person.
    NoTenant,
    /// Something failed here.
    Failed(Error),
}

impl From<Error> for SignInFailure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Begins a sign-in. Stores nothing. `base` is our own base URL.
///
/// # Errors
/// [`SignInFailure`].
pub async fn begin(app: &App, base: &str, goal: Goal) -> Result<Begun, SignInFailure> {
    let attempt = Attempt {
        seed: BASE64URL_NOPAD.encode(&random::<32>()?),
        goal,
        began: app.now(),
    };
    let state = attempt.state();
    let url = match &app.sign_in.place {
        Place::Nowhere => return Err(SignInFailure::NotOffered),
        Place::Development => format!("{base}{DEVELOPMENT_PATH}?state={state}"),
        Place::Provider(provider) => provider.address(app, base, &attempt).await?,
    };
    let plain = serde_json::to_vec(&attempt).map_err(Error::internal)?;
    let cookie = app.operator_key().await?.seal_token(ATTEMPT, &plain)?;
    Ok(Begun { url, state, cookie })
}

/// What a browser signs in for, if its cookie is that of the sign-in with this state.
///
/// # Errors
/// [`SignInFailure::Foreign`], [`SignInFailure::Failed`].
pub async fn goal(app: &App, state: &str, cookie: &str) -> Result<Goal, SignInFailure> {
    attempt(app, state, cookie)
        .await
        .map(|attempt| attempt.goal)
}

async fn attempt(app: &App, state: &str, cookie: &str) -> Result<Attempt, SignInFailure> {
    let key = app.existing_operator_key().await?;
    let opened = key.and_then(|key| key.open_token(ATTEMPT, cookie));
    let attempt: Option<Attempt> = opened.and_then(|plain| serde_json::from_slice(&plain).ok());
    attempt
        .filter(|one| app.now() < one.began.plus_seconds(SIGN_IN_LIFETIME))
        .filter(|one| is_same_secret(&one.state(), state))
        .ok_or(SignInFailure::Foreign)
}

/// What a provider answers with.
#[derive(Debug)]
pub struct Answer {
    /// `state`.
    pub state: String,
    /// `code`.
    pub code: Option<SecretString>,
    /// `error`.
    pub error: Option<String>,
    /// `iss`.
    pub iss: Option<String>,
}

/// Somebody who has signed in.
#[derive(Debug)]
pub struct SignedIn {
    /// Their tenant.
    pub tenant: TenantId,
    /// Who they are.
    pub identity: Identity,
    /// By which the provider can be asked for them anew, if it gave one.
    pub refresh_token: Option<SecretString>,
    /// When the provider has said so.
    pub at: Timestamp,
    /// When they began to sign in. An offboarding since then voids it.
    pub began: Timestamp,
}

impl SignedIn {
    /// As a verified token says.
    fn of(
        caller: Caller,
        refresh_token: Option<SecretString>,
        at: Timestamp,
        began: Timestamp,
    ) -> Self {
        Self {
            identity: caller.identity(),
            tenant: caller.tenant,
            refresh_token,
            at,
            began,
        }
    }
}

/// Finishes a sign-in at the provider: exchanges its code and verifies the ID token. Only the browser that has begun it can.
///
/// # Errors
/// [`SignInFailure`].
pub async fn finish(
    app: &App,
    base: &str,
    answer: Answer,
    cookie: &str,
) -> Result<(SignedIn, Goal), SignInFailure> {
    let Place::Provider(provider) = &app.sign_in.place else {
        return Err(SignInFailure::NotOffered);
    };
    let attempt = attempt(app, &answer.state, cookie).await?;
    let metadata = provider.metadata(app).await?;
    // RFC 9207: an answer of another issuer must not be taken to this one.
    let is_named = match &answer.iss {
        None => !metadata.iss_advertised,
        Some(iss) => *iss == metadata.issuer,
    };
    if !is_named {
        return Err(SignInFailure::Untrusted("its answer names another issuer"));
    }
    let code = match (answer.error.as_deref(), answer.code) {
        (Some("access_denied"), _) => return Err(SignInFailure::Declined),
        (Some(word), _) => return Err(SignInFailure::Refused(crate::oauth::known(Some(word)))),
        (None, None) => return Err(SignInFailure::Refused("")),
        (None, Some(code)) => code,
    };
    let verifier = SecretString::from(attempt.part("verifier"));
    let redirect_uri = format!("{base}{SIGNED_IN_PATH}");
    let tokens = provider
        .ask(app, &metadata, async |endpoint| {
            token::exchange(&app.egress, endpoint, &code, &verifier, &redirect_uri).await
        })
        .await?;
    let id_token = tokens.id_token.as_ref();
    let id_token = id_token.ok_or(SignInFailure::Untrusted("it gave no ID token"))?;
    let nonce = attempt.part("nonce");
    let caller = provider.verify(app, id_token, Some(&nonce)).await?;
    let signed_in = SignedIn::of(caller, tokens.refresh, app.now(), attempt.began);
    Ok((signed_in, attempt.goal))
}

/// What a provider gives for a refresh token that it gave before.
#[derive(Debug)]
pub enum Renewed {
    /// Tokens.
    Given {
        /// Who the person is; not verified yet.
        id_token: Option<SecretString>,
        /// What the provider is asked by next, if it is another token.
        refresh_token: Option<SecretString>,
    },
    /// It does not let them in any more.
    NoMore,
    /// It says nothing now that could be used.
    Unknown,
}

/// What a provider says of somebody who has signed in before.
#[derive(Debug)]
pub enum Vouched {
    /// Who they are now.
    For(Box<Identity>),
    /// It does not let them in any more.
    NoMore,
    /// It says nothing now that could be used.
    Unknown,
}

/// The provider of this deployment, unless it is another one than a token is of. `None` stands for any.
fn provider_of<'a>(app: &'a App, issuer: Option<&str>) -> Option<&'a Provider> {
    match &app.sign_in.place {
        Place::Provider(provider)
            if issuer.is_none_or(|one| one == provider.config.tokens.issuer) =>
        {
            Some(provider)
        }
        _ => None,
    }
}

/// Asks the provider with this issuer anew, by the refresh token that it gave. Providers take such a token once: what they give
/// for it has to be stored before anything else.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn renew(app: &App, issuer: Option<&str>, token: &SecretString) -> Result<Renewed> {
    let Some(provider) = provider_of(app, issuer) else {
        return Ok(Renewed::Unknown);
    };
    let asked = async {
        let metadata = provider.metadata(app).await?;
        let tokens = provider.ask(app, &metadata, async |endpoint| {
            token::refresh(&app.egress, endpoint, token).await
        });
        tokens.await
    };
    let is_other = |one: &SecretString| one.expose_secret() != token.expose_secret();
    match asked.await {
        Ok(tokens) => Ok(Renewed::Given {
            id_token: tokens.id_token,
            refresh_token: tokens.refresh.filter(is_other),
        }),
        Err(SignInFailure::Refused("invalid_grant" | "access_denied")) => Ok(Renewed::NoMore),
        Err(SignInFailure::Failed(error)) => Err(error),
        Err(why) => {
            in_vain(&why);
            Ok(Renewed::Unknown)
        }
    }
}

/// Whether what the provider gave anew is for this subject.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn identify(
    app: &App,
    tenant: &TenantId,
    subject: &Subject,
    id_token: Option<&SecretString>,
) -> Result<Vouched> {
    let Some(provider) = provider_of(app, None) else {
        return Ok(Vouched::Unknown);
    };
    let named = match id_token {
        Some(id_token) => provider.verify(app, id_token, None).await,
        None => Err(SignInFailure::Untrusted("it gave no ID token")),
    };
    Ok(match named {
        Ok(now) if now.tenant == *tenant && now.subject() == subject => {
            Vouched::For(Box::new(now.identity()))
        }
        // Whoever that is, it is not the person who allowed this; and one who has lost the tenant is nobody here.
        Ok(_) | Err(SignInFailure::NoTenant) => Vouched::NoMore,
        Err(SignInFailure::Failed(error)) => return Err(error),
        Err(why) => {
            in_vain(&why);
            Vouched::Unknown
        }
    })
}

fn in_vain(why: &SignInFailure) {
    warn!(
        ?why,
        "the identity provider was asked for a subject in vain"
    );
}

/// One presentation of a refresh token at the revocation endpoint of its provider.
#[derive(Debug)]
pub(super) struct Presented {
    /// What came of it.
    pub answer: revocation::Answer,
    /// The revocation endpoint, if it is known.
    pub endpoint: Option<String>,
    /// Why the token cannot be revoked there, if it cannot.
    pub why: Option<Unsupported>,
}

/// Revokes a refresh token at the provider that gave it. `refusals` says how often that has refused our client.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub(super) async fn revoke(
    app: &App,
    issuer: Option<&str>,
    token: &SecretString,
    refusals: u32,
) -> Result<Presented> {
    let unasked = |verdict, why| Presented {
        answer: revocation::Answer::unasked(verdict),
        endpoint: None,
        why,
    };
    let Some(provider) = provider_of(app, issuer) else {
        return Ok(unasked(
            Verdict::Unsupported,
            Some(Unsupported::IssuerUnknown),
        ));
    };
    match provider.revoke(app, token, refusals).await {
        Ok(Some((endpoint, answer))) => Ok(Presented {
            why: (answer.verdict == Verdict::Unsupported).then_some(Unsupported::TokenKind),
            answer,
            endpoint: Some(endpoint),
        }),
        Ok(None) => Ok(unasked(Verdict::Unsupported, Some(Unsupported::NoEndpoint))),
        Err(SignInFailure::Failed(error)) => Err(error),
        Err(_) => Ok(unasked(Verdict::TryLater, None)),
    }
}
