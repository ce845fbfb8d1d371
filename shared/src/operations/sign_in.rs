//! Signing in: who is in front of a browser, as the operator's OpenID provider says, or under the local server as the person
//! says (Inbound 2). Nothing is stored: what has to come back with the browser is sealed into cookies.

use super::applications::Documents;
use crate::app::App;
use crate::caller::Caller;
use crate::config::{ListedApplication, ProviderConfig, ProviderSecret, SignInConfig, SignInPlace};
use crate::domain::id::{TenantId, random};
use crate::domain::issuance::{Client, ClientAuth, ClientSource};
use crate::domain::login::Identity;
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;
use crate::jwt::Verifier;
use crate::oauth::discovery::{self, Issuer};
use crate::oauth::request::authorization_url;
use crate::oauth::token::{self, Class, Credentials, Endpoint, TokenFailure, Tokens};
use crate::table::subjects;
use crate::{Error, Result};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::BASE64URL_NOPAD;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tracing::warn;

/// The path that the provider answers to.
pub const SIGNED_IN_PATH: &str = "/oauth/signed-in";
/// The path of the local server's page for development.
pub const DEVELOPMENT_PATH: &str = "/oauth/development-sign-in";
/// How long a sign-in may take, and the page after it may stand, in seconds.
pub const SIGN_IN_LIFETIME: i64 = 600;
/// How long a browser counts as signed in after it, in seconds.
pub const BROWSER_SESSION_LIFETIME: i64 = 600;
/// How long the provider's metadata and its client's secret serve before they are read again.
const PROVIDER_SERVES: Duration = Duration::from_secs(300);
/// The purposes of what is sealed.
const ATTEMPT: &str = "sign-in";
const SESSION: &str = "browser-session";

/// How people and applications sign in here.
pub struct SignIn {
    /// Where people do.
    pub place: Place,
    /// The authorization server that is named to MCP clients in place of ours.
    pub authorization_server: Option<String>,
    /// Whether applications may register themselves.
    pub registration: bool,
    /// Those that the operator lists.
    pub applications: Vec<ListedApplication>,
    pub(crate) documents: Documents,
}

/// Where people sign in.
pub enum Place {
    /// They cannot.
    Nowhere,
    /// At the operator's OpenID provider.
    Provider(Box<Provider>),
    /// At the local server's page for development.
    Development,
}

/// The operator's OpenID provider.
pub struct Provider {
    config: ProviderConfig,
    verifier: Verifier,
    metadata: Mutex<Option<(Issuer, Instant)>>,
    secret: Mutex<Option<(SecretString, Instant)>>,
}

impl SignIn {
    /// As it is configured.
    ///
    /// # Errors
    /// [`Error::Internal`] when no HTTP client can be made.
    pub fn new(config: SignInConfig, allow_loopback_http: bool) -> Result<Self> {
        Ok(Self {
            place: match config.place {
                SignInPlace::Nowhere => Place::Nowhere,
                SignInPlace::Development => Place::Development,
                SignInPlace::Provider(config) => Place::Provider(Box::new(Provider {
                    verifier: Verifier::new(config.tokens.clone(), allow_loopback_http)?,
                    config: *config,
                    metadata: Mutex::default(),
                    secret: Mutex::default(),
                })),
            },
            authorization_server: config.authorization_server,
            registration: config.registration,
            applications: config.applications,
            documents: Documents::default(),
        })
    }

    /// Whether people can sign in here.
    pub const fn is_offered(&self) -> bool {
        !matches!(self.place, Place::Nowhere)
    }
}

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
    until: i64,
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
        until: app.now().plus_seconds(SIGN_IN_LIFETIME).seconds(),
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
        .filter(|one| app.now().seconds() < one.until)
        .filter(|one| verify_slices_are_equal(one.state().as_bytes(), state.as_bytes()).is_ok())
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
}

impl SignedIn {
    /// As a verified token says.
    pub fn of(caller: Caller, refresh_token: Option<SecretString>, at: Timestamp) -> Self {
        Self {
            tenant: caller.tenant,
            identity: Identity {
                subject: caller.actor.subject,
                email: caller.email,
                username: caller.username,
                display_name: caller.actor.display_name,
                roles: caller.roles,
                teams: caller.teams,
                permissions: caller.permissions,
                scopes: caller.scopes,
            },
            refresh_token,
            at,
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
    let signed_in = SignedIn::of(caller, tokens.refresh, app.now());
    Ok((signed_in, attempt.goal))
}

/// What a provider says of somebody who has signed in before.
#[derive(Debug)]
pub enum Vouched {
    /// Who they are now.
    For(Box<SignedIn>),
    /// It does not let them in any more.
    NoMore,
    /// It says nothing now: it does not answer, or gave nothing to ask by.
    Unknown,
}

/// Asks the provider anew for a subject, by the refresh token that it gave.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn vouch(
    app: &App,
    tenant: &TenantId,
    subject: &Subject,
    refresh_token: &SecretString,
) -> Result<Vouched> {
    let Place::Provider(provider) = &app.sign_in.place else {
        return Ok(Vouched::Unknown);
    };
    let asked = async {
        let metadata = provider.metadata(app).await?;
        let tokens = provider.ask(app, &metadata, async |endpoint| {
            token::refresh(&app.egress, endpoint, refresh_token).await
        });
        let tokens = tokens.await?;
        let Some(id_token) = &tokens.id_token else {
            return Err(SignInFailure::Untrusted("it gave no ID token"));
        };
        let caller = provider.verify(app, id_token, None).await?;
        Ok(SignedIn::of(caller, tokens.refresh, app.now()))
    };
    Ok(match asked.await {
        Ok(now) if now.tenant == *tenant && now.identity.subject == *subject => {
            Vouched::For(Box::new(now))
        }
        // Whoever that is, it is not the person who allowed this.
        Ok(_) | Err(SignInFailure::Declined) => Vouched::NoMore,
        Err(SignInFailure::Refused("invalid_grant")) => Vouched::NoMore,
        Err(SignInFailure::Failed(error)) => return Err(error),
        Err(why) => {
            warn!(
                ?why,
                "the identity provider was asked for a subject in vain"
            );
            Vouched::Unknown
        }
    })
}

impl Provider {
    /// The address of the sign-in.
    async fn address(
        &self,
        app: &App,
        base: &str,
        attempt: &Attempt,
    ) -> Result<String, SignInFailure> {
        let metadata = self.metadata(app).await?;
        let verifier = attempt.part("verifier");
        let challenge = BASE64URL_NOPAD.encode(digest(&SHA256, verifier.as_bytes()).as_ref());
        let parameters = [
            ("response_type", "code"),
            ("client_id", &self.config.client_id),
            ("redirect_uri", &format!("{base}{SIGNED_IN_PATH}")),
            ("scope", &self.config.scopes),
            ("state", &attempt.state()),
            ("nonce", &attempt.part("nonce")),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        authorization_url(&metadata.authorization_endpoint, &parameters)
            .ok_or(SignInFailure::Untrusted("its metadata cannot be used"))
    }

    /// What the provider says of itself: read anew every few minutes, and while it does not answer as it was.
    async fn metadata(&self, app: &App) -> Result<Issuer, SignInFailure> {
        let mut kept = self.metadata.lock().await;
        if let Some((metadata, at)) = &*kept
            && at.elapsed() < PROVIDER_SERVES
        {
            return Ok(metadata.clone());
        }
        match discovery::issuer(&app.egress, &self.config.tokens.issuer).await {
            Ok(metadata) => {
                *kept = Some((metadata.clone(), Instant::now()));
                Ok(metadata)
            }
            Err(why) => match &*kept {
                Some((metadata, _)) if why == discovery::Failure::TryLater => Ok(metadata.clone()),
                _ if why == discovery::Failure::TryLater => Err(SignInFailure::Unreachable),
                _ => {
                    warn!(?why, "the metadata of the identity provider cannot be used");
                    Err(SignInFailure::Untrusted("its metadata cannot be used"))
                }
            },
        }
    }

    async fn secret(&self, app: &App) -> Result<Option<SecretString>> {
        let reference = match &self.config.secret {
            None => return Ok(None),
            Some(ProviderSecret::Given(secret)) => return Ok(Some(secret.clone())),
            Some(ProviderSecret::Reference(reference)) => reference,
        };
        let mut kept = self.secret.lock().await;
        if let Some((secret, at)) = &*kept
            && at.elapsed() < PROVIDER_SERVES
        {
            return Ok(Some(secret.clone()));
        }
        let secret = app.secret_stores.read(reference).await?;
        *kept = Some((secret.clone(), Instant::now()));
        Ok(Some(secret))
    }

    /// Asks the token endpoint as our client there.
    async fn ask(
        &self,
        app: &App,
        metadata: &Issuer,
        question: impl AsyncFnOnce(&Endpoint<'_>) -> Result<Tokens, TokenFailure>,
    ) -> Result<Tokens, SignInFailure> {
        let secret = self.secret(app).await?;
        let ways = match secret {
            Some(_) => ClientAuth::ways(metadata.token_auth_methods.as_deref()),
            None => vec![ClientAuth::None],
        };
        let client = Client::new(
            self.config.client_id.clone(),
            ways,
            ClientSource::PreRegistered,
        );
        let endpoint = Endpoint {
            url: &metadata.token_endpoint,
            credentials: Credentials {
                client: &client,
                secret: secret.as_ref(),
            },
            resource: None,
            extra: &[],
        };
        let failure = match question(&endpoint).await {
            Ok(tokens) => return Ok(tokens),
            Err(failure) => failure,
        };
        let (class, status, word) = (failure.class, failure.status, failure.word);
        warn!(
            ?class,
            ?status,
            word,
            "the identity provider gave no tokens"
        );
        if class == Class::InvalidClient {
            // The operator may have replaced it.
            *self.secret.lock().await = None;
        }
        Err(match class {
            Class::Transient => SignInFailure::Unreachable,
            Class::InvalidGrant => SignInFailure::Refused("invalid_grant"),
            _ => SignInFailure::Refused(word),
        })
    }

    async fn verify(
        &self,
        app: &App,
        id_token: &SecretString,
        nonce: Option<&str>,
    ) -> Result<Caller, SignInFailure> {
        use crate::domain::error::Unauthenticated;
        let verified = self
            .verifier
            .verify_id_token(id_token.expose_secret(), nonce, app.now());
        verified.await.map_err(|error| match error {
            Error::Unauthenticated(Unauthenticated::NoTenant) => SignInFailure::NoTenant,
            Error::Unauthenticated(_) => SignInFailure::Untrusted("its ID token is not valid"),
            Error::Unavailable(_) => SignInFailure::Unreachable,
            error => SignInFailure::Failed(error),
        })
    }
}

/// Who has signed in in a browser a short while ago. Ends by itself within minutes, and at once when its subject is offboarded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BrowserSession {
    /// Their tenant.
    pub tenant: TenantId,
    /// Who.
    pub subject: Subject,
    /// Whether they may act for the tenant's virtual accounts.
    pub manages: bool,
    /// How often the subject had been offboarded then.
    offboardings: u64,
    until: i64,
}

/// The cookie of a browser in which somebody has signed in.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn browser_session(
    app: &App,
    signed_in: &SignedIn,
    manages: bool,
    offboardings: u64,
) -> Result<SecretString> {
    let session = BrowserSession {
        tenant: signed_in.tenant.clone(),
        subject: signed_in.identity.subject.clone(),
        manages,
        offboardings,
        until: app.now().plus_seconds(BROWSER_SESSION_LIFETIME).seconds(),
    };
    let plain = serde_json::to_vec(&session).map_err(Error::internal)?;
    app.operator_key().await?.seal_token(SESSION, &plain)
}

/// Who has signed in in the browser with this cookie, if the sign-in still counts.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn read_browser_session(app: &App, cookie: &str) -> Result<Option<BrowserSession>> {
    let key = app.existing_operator_key().await?;
    let opened = key.and_then(|key| key.open_token(SESSION, cookie));
    let session: Option<BrowserSession> =
        opened.and_then(|plain| serde_json::from_slice(&plain).ok());
    let Some(session) = session.filter(|one| app.now().seconds() < one.until) else {
        return Ok(None);
    };
    let (tenant, subject) = (&session.tenant, &session.subject);
    let found = app.table.read(vec![subjects::key(tenant, subject)]).await?;
    let stands = found.offboardings(tenant, subject)? == session.offboardings;
    Ok(stands.then_some(session))
}
