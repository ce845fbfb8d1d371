//! The callback of a consent: it is accepted once, its code exchanged once, and the tokens stored or revoked.

use super::super::clients::{self, Settings};
use super::super::credentials::ServerAndRecords;
use super::super::servers::{data_key, open_with};
use super::super::{Tries, grants};
use super::ticket::Ticket;
use super::{end, find_ticket, log_end, record_client_use, record_outcome};
use crate::domain::address::host;
use crate::domain::consent_failure::ConsentFailure;
use crate::domain::credential::{Grant, Source, Tokens, new_version};
use crate::domain::event::{Action, Event, EventOutcome, Who};
use crate::domain::id::hash;
use crate::domain::integration::RevocationScope;
use crate::domain::reason::Reason;
use crate::domain::revocation::{Presentation, Revocation};
use crate::domain::server::Server;
use crate::domain::session::{Consent, ConsentSecrets, Origin, Phase, Session};
use crate::domain::status::{Status, status};
use crate::oauth::token::{self, Class, Endpoint, TokenFailure};
use crate::operations::sealed_tokens;
use crate::seal::{DataKey, Kind};
use crate::state::app::App;
use crate::table::credentials::{Granting, WriteOutcome};
use crate::table::reasons::StoredReason;
use crate::table::{sessions, subjects};
use crate::{Error, Result};
use secrecy::{ExposeSecret, SecretString};
use tracing::{error, info, warn};

/// How long the exchange of a code may keep a session busy, in seconds: longer than the call and the write together.
const EXCHANGE: i64 = 60;
/// Attempts at storing an answer while others write the same items.
const ATTEMPTS: usize = 10;

/// The parameters with which an issuer sent the browser back.
pub struct Callback {
    /// `state`.
    pub state: String,
    /// `code`.
    pub code: Option<SecretString>,
    /// `error`.
    pub error: Option<String>,
    /// `iss` (RFC 9207).
    pub iss: Option<String>,
}

/// How a consent ended.
#[derive(Debug, PartialEq, Eq)]
pub enum ConsentOutcome {
    /// A grant is stored.
    Connected,
    /// The subject, or the issuer, said no with this code. Foreign text, not to be shown as it is.
    Refused(String),
    /// The answer cannot be trusted, or the code was not exchanged.
    Failed(ConsentFailure),
    /// The server changed or the subject was disconnected meanwhile: the new tokens are being revoked.
    Void,
}

impl ConsentOutcome {
    /// Why there is no grant, unless there is one.
    pub fn failure(&self) -> Option<ConsentFailure> {
        match self {
            Self::Connected => None,
            Self::Refused(code) if code == "access_denied" => Some(ConsentFailure::AccessDenied),
            Self::Refused(_) => Some(ConsentFailure::IssuerError),
            Self::Failed(failure) => Some(*failure),
            Self::Void => Some(ConsentFailure::Void),
        }
    }
}

/// A consent that is over.
#[derive(Debug)]
pub struct Finished {
    /// Its session.
    pub session: Session,
    /// How it ended.
    pub ended: ConsentOutcome,
    /// The server, as it was when the browser came back.
    pub server: Server,
}

/// Takes an issuer's answer. `cookie` is asked for the value of the cookie of a session; `fits` says whether the answer came
/// the way that the session's origin expects.
///
/// # Errors
/// [`Error::SessionNotFound`] for an answer to nothing that was asked, or that was answered before; nothing has happened
/// then. [`Error::Unavailable`], [`Error::Internal`].
pub async fn finish(
    app: &App,
    callback: Callback,
    cookie: impl Fn(&Session) -> Option<String>,
    fits: impl Fn(&Origin) -> bool,
) -> Result<Finished> {
    let ticket = Ticket::parse(&callback.state).ok_or(Error::SessionNotFound)?;
    let (server, session, _) = find_ticket(app, &ticket, Phase::Pending).await?;
    let bound = session
        .browser
        .as_ref()
        .is_none_or(|expected| cookie(&session).is_some_and(|sent| hash(&sent) == *expected));
    if !bound || !fits(&session.origin) {
        return Err(Error::SessionNotFound);
    }
    app.to_its_end(|app| async move { Box::pin(take(&app, server, session, callback)).await })
        .await
}

/// Processes a valid callback to its end, even if the browser disconnects before the code is exchanged.
async fn take(app: &App, server: Server, session: Session, callback: Callback) -> Result<Finished> {
    // All that the exchange needs is at hand before the answer is taken: what fails here leaves it to be taken again.
    let context = ExchangeContext::of(app, &server, &session).await?;
    let until = app.now().plus_seconds(EXCHANGE);
    let answered = Event::of_session(app.now(), Who::Browser, &session, Action::SessionAnswered)?;
    let table = &app.table;
    if !table.claim_session(&session, until, &answered).await? {
        return Err(Error::SessionNotFound);
    }
    let ended = answer(app, context, &session, callback).await;
    // Whatever came of it, this state is used up.
    let failure = match &ended {
        Ok(ended) => ended.failure(),
        Err(_) => Some(ConsentFailure::Internal),
    };
    let marked = match failure {
        None => Ok(()),
        // What came back was given up together with the session.
        Some(ConsentFailure::Void) => {
            log_end(&session, ConsentFailure::Void);
            Ok(())
        }
        Some(ConsentFailure::AccessDenied) => deny(app, &session).await,
        Some(failure) => end(app, &session, Phase::Exchanging, failure).await,
    };
    record_outcome(app, &session, failure).await;
    if failure.is_none() {
        record_client_use(app, &session, true, app.now()).await;
    }
    let ended = ended?;
    marked?;
    let (tenant, id) = (session.tenant.as_str(), session.server);
    info!(tenant, server = ?id, connected = ended == ConsentOutcome::Connected, "a consent ended");
    Ok(Finished {
        session,
        ended,
        server,
    })
}

/// What the subject of a consent needs, now that it is over.
///
/// # Errors
/// [`Error::ServerNotFound`] when the server is gone; [`Error::Unavailable`], [`Error::Internal`].
pub async fn status_after(app: &App, session: &Session) -> Result<Status> {
    let (tenant, id) = (&session.tenant, session.server);
    let at = ServerAndRecords::load(&app.table, tenant, id, &session.subject)
        .await?
        .ok_or(Error::ServerNotFound)?;
    Ok(status(&at.server, &at.records, app.now()))
}

/// The data that an answer is validated and exchanged with.
struct ExchangeContext<'a> {
    consent: &'a Consent,
    key: DataKey,
    secrets: ConsentSecrets,
    settings: Settings,
}

impl<'a> ExchangeContext<'a> {
    async fn of(app: &App, server: &Server, session: &'a Session) -> Result<Self> {
        let consent = session
            .consent
            .as_ref()
            .ok_or_else(|| Error::internal("a pending session without its consent"))?;
        let tenant = &session.tenant;
        let key = data_key(app, tenant, server).await?;
        let kind = Kind::Consent(&session.id, &session.subject, &consent.issuance);
        let json = key.open(tenant, server.id, kind, &consent.sealed)?;
        let secrets = ConsentSecrets::from_json(&json)
            .ok_or_else(|| Error::internal("a consent does not decode"))?;
        // The secret that it began with is its own.
        let own = open_with(&key, tenant, server)?;
        let settings = Settings::without_secret(app, server, &own).await?;
        Ok(Self {
            consent,
            key,
            secrets,
            settings,
        })
    }
}

/// Processes an answer. Unless the outcome is [`ConsentOutcome::Connected`], the caller has to end the session.
async fn answer(
    app: &App,
    context: ExchangeContext<'_>,
    session: &Session,
    callback: Callback,
) -> Result<ConsentOutcome> {
    let ExchangeContext {
        consent,
        key,
        secrets,
        settings,
    } = context;
    // Before the code goes anywhere, and before an error is believed (MCP authorization rows 20 and 21).
    if !consent.is_answered_by(callback.iss.as_deref()) {
        return Ok(ConsentOutcome::Failed(ConsentFailure::WrongIssuer));
    }
    if let Some(code) = callback.error {
        return Ok(ConsentOutcome::Refused(code));
    }
    let Some(code) = callback.code else {
        return Ok(ConsentOutcome::Failed(ConsentFailure::NoCode));
    };
    let issuer = &consent.issuance.issuer;
    if settings
        .require_allowed(app, &session.tenant, issuer)
        .is_err()
    {
        return Ok(ConsentOutcome::Failed(ConsentFailure::IssuerNotAllowed));
    }
    let (tenant, id) = (&session.tenant, session.server);
    let secret = secrets.client_secret.as_ref();
    let at = Endpoint::of(&consent.issuance, secret, &settings.token_params);
    let exchanged = token::exchange(
        &app.egress,
        &at,
        &code,
        &secrets.verifier,
        &consent.redirect_uri,
    )
    .await;
    let tokens = match exchanged {
        Ok(tokens) => tokens,
        Err(failure) => {
            let client_secret = secrets.client_secret;
            return not_exchanged(app, &key, session, consent, client_secret, failure).await;
        }
    };
    let secret = Tokens {
        access: tokens.access,
        refresh: tokens.refresh,
        client_secret: secrets.client_secret,
    };
    let client = consent.issuance.client.served_by(tokens.auth);
    let mut grant = new_grant(app, &key, session, consent, &secret)?;
    grant.issuance.client = client.clone();
    grant.scopes.extend(tokens.scopes.into_iter().flatten());
    grant.lifetime = tokens.expires_in;
    let end = |life| grant.obtained_at.plus_seconds(life);
    grant.expires_at = tokens.expires_in.map(end);
    let used = match settings.revocation_scope {
        RevocationScope::Token => Use::RevokingOlder,
        RevocationScope::Grant => Use::LeavingOlder,
    };
    let ended = store(app, &key, session, grant, &secret, used).await?;
    if let Some(record) = &consent.client_record
        && client != consent.issuance.client
    {
        clients::remember(app, tenant, id, &session.subject, record, &client).await;
    }
    Ok(ended)
}

/// The end of a consent whose code brought no usable tokens. What came all the same is revoked.
async fn not_exchanged(
    app: &App,
    key: &DataKey,
    session: &Session,
    consent: &Consent,
    client_secret: Option<SecretString>,
    failure: TokenFailure,
) -> Result<ConsentOutcome> {
    let (tenant, id) = (&session.tenant, session.server);
    warn!(
        tenant = tenant.as_str(),
        server = ?id,
        issuer = host(&consent.issuance.issuer),
        status = failure.status,
        error = failure.word,
        "a code was not exchanged"
    );
    if failure.class == Class::InvalidClient {
        clients::reject(app, tenant, id, &session.subject, &consent.issuance).await?;
    }
    let reason = match failure.class {
        Class::InvalidClient => ConsentFailure::ClientRefused,
        Class::Transient => ConsentFailure::IssuerUnreachable,
        Class::Unusable => ConsentFailure::TokenUnusable,
        Class::InvalidGrant | Class::Configuration => ConsentFailure::CodeRefused,
    };
    let Some(received) = failure.received else {
        return Ok(ConsentOutcome::Failed(reason));
    };
    let secret = Tokens {
        access: received.access.unwrap_or_else(grants::no_token),
        refresh: received.refresh,
        client_secret,
    };
    let grant = new_grant(app, key, session, consent, &secret)?;
    store(app, key, session, grant, &secret, Use::Unusable(reason)).await
}

/// How exchanged tokens are to be used.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// They are stored, and a grant that they replace is revoked.
    RevokingOlder,
    /// They are stored.
    LeavingOlder,
    /// They cannot be used, for this reason, and are revoked.
    Unusable(ConsentFailure),
}

/// The subject refused. A record that is stored stays as it is (TrueFoundry 7.3).
async fn deny(app: &App, session: &Session) -> Result<()> {
    let (tenant, id) = (&session.tenant, session.server);
    for _ in 0..ATTEMPTS {
        let mut keys = ServerAndRecords::keys(tenant, id, &session.subject);
        keys.push(subjects::key(tenant, &session.subject));
        let found = match app.table.read(keys).await {
            Ok(found) => found,
            Err(Error::Unavailable(_)) => continue,
            Err(error) => return Err(error),
        };
        let at = ServerAndRecords::from_found(&found, tenant, id, &session.subject)?;
        let Some(ServerAndRecords {
            server, records, ..
        }) = at
        else {
            break;
        };
        let offboardings = found.offboardings(tenant, &session.subject)?;
        let void = session.is_void(&server, &records.stored, offboardings);
        if records.grant.is_some() || void {
            break;
        }
        let kept = StoredReason {
            subject: &session.subject,
            reason: Reason::ConsentDenied,
            at: app.now(),
            auth_revision: server.auth_revision,
        };
        let ended = Event::of_session(kept.at, Who::Browser, session, Action::SessionEnded)?;
        let ended = ended
            .with(EventOutcome::Refused)
            .because(ConsentFailure::AccessDenied);
        let table = &app.table;
        if table.deny_session(session, &kept, &ended).await? {
            log_end(session, ConsentFailure::AccessDenied);
            return Ok(());
        }
    }
    let denied = ConsentFailure::AccessDenied;
    end(app, session, Phase::Exchanging, denied).await
}

/// The grant of tokens that a consent has led to, as far as it follows from what was asked.
fn new_grant(
    app: &App,
    key: &DataKey,
    session: &Session,
    consent: &Consent,
    tokens: &Tokens,
) -> Result<Grant> {
    let (tenant, id, now) = (&session.tenant, session.server, app.now());
    let (subject, issuance) = (&session.subject, &consent.issuance);
    Ok(Grant {
        server: id,
        subject: subject.clone(),
        auth_revision: session.auth_revision,
        version: new_version(now)?,
        session: session.id.clone(),
        issuance: issuance.clone(),
        scopes: consent.scopes.iter().cloned().collect(),
        stepped_up: matches!(
            session.origin,
            Origin::Truefoundry {
                additional_scopes: Some(_),
                ..
            }
        ),
        obtained_at: now,
        lifetime: None,
        expires_at: None,
        refreshable: tokens.refresh.is_some(),
        last_refresh: None,
        retry_at: None,
        offboardings: session.offboardings,
        void_consents_before: None,
        in_doubt: false,
        lease_id: None,
        lease_until: None,
        sealed: sealed_tokens::seal(key, tenant, id, subject, issuance, tokens)?,
    })
}

/// Stores the exchanged tokens, or creates a revocation of them.
async fn store(
    app: &App,
    key: &DataKey,
    session: &Session,
    mut grant: Grant,
    secret: &Tokens,
    used: Use,
) -> Result<ConsentOutcome> {
    let revoking = used == Use::RevokingOlder;
    let mut tries = Tries::lasting(app.keeping_limit);
    loop {
        let stored = match used {
            Use::Unusable(reason) => Ok(StoreOutcome::Unusable(reason)),
            _ => try_store(app, key, session, &mut grant, secret, revoking).await,
        };
        let failure = match stored {
            Ok(StoreOutcome::Stored) => {
                app.work_appeared.notify_one();
                return Ok(ConsentOutcome::Connected);
            }
            Ok(StoreOutcome::Contended) => Error::Contended,
            // Whether it is stored is not known: it is looked at again.
            Err(error @ Error::Unavailable(_)) => error,
            refused => {
                let reason = match &refused {
                    Ok(StoreOutcome::Unusable(reason)) => *reason,
                    Ok(_) => ConsentFailure::Void,
                    Err(_) => ConsentFailure::Internal,
                };
                match discard(app, key, session, &grant, secret, reason).await {
                    Ok(true) => {
                        return refused.map(|stored| match stored {
                            StoreOutcome::Unusable(reason) => ConsentOutcome::Failed(reason),
                            _ => ConsentOutcome::Void,
                        });
                    }
                    Ok(false) => Error::Contended,
                    Err(error) => error,
                }
            }
        };
        if !tries.wait().await {
            error!(cause = %failure, "the tokens of a consent could neither be stored nor handed to revocation");
            return Err(failure);
        }
    }
}

/// The outcome of storing a grant.
enum StoreOutcome {
    /// It is stored.
    Stored,
    /// Its consent is void.
    Void,
    /// It cannot be used, for this reason.
    Unusable(ConsentFailure),
    /// The items have changed since they were read.
    Contended,
}

/// Stores a grant if its consent is still valid.
async fn try_store(
    app: &App,
    key: &DataKey,
    session: &Session,
    grant: &mut Grant,
    tokens: &Tokens,
    revoking: bool,
) -> Result<StoreOutcome> {
    let (tenant, id) = (&session.tenant, session.server);
    let mut keys = ServerAndRecords::keys(tenant, id, &session.subject);
    keys.push(sessions::key(tenant, id, &session.id));
    keys.push(subjects::key(tenant, &session.subject));
    let found = app.table.read(keys).await?;
    let phase = found.session(tenant, id, &session.id)?.map(|s| s.phase);
    if phase == Some(Phase::Completed) {
        // By an earlier try, whose answer was lost: nobody else can complete it.
        return Ok(StoreOutcome::Stored);
    }
    let at = ServerAndRecords::from_found(&found, tenant, id, &session.subject)?;
    let Some(ServerAndRecords {
        server, records, ..
    }) = at
    else {
        return Ok(StoreOutcome::Void);
    };
    let stored = &records.stored;
    let own = stored.grant.as_ref();
    let offboardings = found.offboardings(tenant, &session.subject)?;
    // An offboarding may have ended the session under us.
    if phase != Some(Phase::Exchanging) || session.is_void(&server, stored, offboardings) {
        return Ok(StoreOutcome::Void);
    }
    grant.void_consents_before = stored.void_consents_before();
    let now = app.now();
    let replaced = own.filter(|_| revoking);
    let replaced = replaced.map(|old| {
        let revocation = Revocation::of(tenant, old, None, now)?;
        let used = sealed_tokens::open_grant(key, tenant, old).ok();
        Ok::<_, Error>(without_tokens_in_use(revocation, used.as_ref(), tokens))
    });
    let replaced = replaced.transpose()?;
    let granting = Granting {
        grant,
        replacing: stored,
        revocation: replaced.as_ref().filter(|one| one.is_due()),
        session,
    };
    let granted = Event::of_session(now, Who::Browser, session, Action::CredentialGranted)?;
    let granted = granted.from(Source::Oauth);
    Ok(match app.table.put_grant(&granting, &granted).await? {
        WriteOutcome::Done => StoreOutcome::Stored,
        _ => StoreOutcome::Contended,
    })
}

/// Creates a revocation of the exchanged tokens, except those that the current grant uses. Returns `false` if the
/// consent may be completed after all.
async fn discard(
    app: &App,
    key: &DataKey,
    session: &Session,
    grant: &Grant,
    tokens: &Tokens,
    reason: ConsentFailure,
) -> Result<bool> {
    let tenant = &session.tenant;
    let at = ServerAndRecords::load(&app.table, tenant, session.server, &session.subject).await;
    let at = match at {
        Err(error @ Error::Unavailable(_)) => return Err(error),
        found => found.ok().flatten().and_then(|at| at.records.stored.grant),
    };
    let used = at.and_then(|one| sealed_tokens::open_grant(key, tenant, &one).ok());
    let revocation = Revocation {
        access: grants::due_access(tokens),
        ..Revocation::of(tenant, grant, None, app.now())?
    };
    let revocation = match &used {
        Some(used) => without_tokens_in_use(revocation, Some(tokens), used),
        None => revocation,
    };
    grants::discard_exchanged(app, session, &revocation, grant, tokens, reason).await
}

/// A revocation of `doomed` tokens without those that are `used` elsewhere: an issuer may hand out again what it has handed
/// out before.
fn without_tokens_in_use(
    revocation: Revocation,
    doomed: Option<&Tokens>,
    used: &Tokens,
) -> Revocation {
    let Some(doomed) = doomed else {
        return revocation;
    };
    let text = |one: &SecretString| one.expose_secret().to_owned();
    let remaining = |is_used: bool, place: Presentation| match is_used {
        true => Presentation::None,
        false => place,
    };
    let is_same = doomed.refresh.is_some()
        && doomed.refresh.as_ref().map(text) == used.refresh.as_ref().map(text);
    Revocation {
        refresh: remaining(is_same, revocation.refresh),
        access: remaining(
            text(&doomed.access) == text(&used.access),
            revocation.access,
        ),
        ..revocation
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::TenantId;
    use crate::domain::time::Timestamp;
    use serde_json::json;

    #[test]
    fn what_is_used_elsewhere_is_not_presented() {
        let tokens = |access: &str, refresh: Option<&str>| Tokens {
            access: access.into(),
            refresh: refresh.map(Into::into),
            client_secret: None,
        };
        let grant: Grant = serde_json::from_value(json!({
            "server": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "subject_type": "user", "subject_id": "ada", "auth_revision": 1,
            "version": "v", "scopes": [], "obtained_at": 0, "lifetime": null, "expires_at": null, "refreshable": true,
            "issuance": {"issuer": "https://as.example", "token_endpoint": "https://as.example/token",
                         "client": {"id": "c", "auth": "none", "source": "metadata_document"}},
            "last_refresh": null, "sealed": [1],
        }))
        .unwrap();
        let tenant = TenantId::parse("acme").unwrap();
        let doomed = tokens("a1", Some("r1"));
        let (due, none) = (Presentation::Due, Presentation::None);
        for (used, refresh, access) in [
            (tokens("a2", Some("r2")), due, due),
            (tokens("a2", Some("r1")), none, due),
            (tokens("a1", Some("r1")), none, none),
            (tokens("a1", None), due, none),
        ] {
            let now = Timestamp::from_micros(0);
            let revocation = Revocation::of(&tenant, &grant, None, now).unwrap();
            let remaining = without_tokens_in_use(revocation, Some(&doomed), &used);
            assert_eq!((remaining.refresh, remaining.access), (refresh, access));
        }
    }
}
