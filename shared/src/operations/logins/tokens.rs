//! The first tokens of a login, by its authorization code (RFC 6749 4.1.3), and the end of one by its application (RFC 7009).

use super::{end_because, end_by, of_login, of_person};
use crate::Result;
use crate::auth::login_token::{Issuing, LIFETIME, LoginToken, RefreshToken, issue, kid};
use crate::domain::event::Action;
use crate::domain::id::{hash, is_same_secret};
use crate::domain::login::{Approval, AuthorizationCode, KEPT_AFTER_END, Login, LoginEnd};
use crate::state::app::App;
use crate::table::logins::{code_key, key};
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeSet;

/// Why there are no tokens (RFC 6749 5.2, RFC 8707 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The code or the refresh token is not good, or not for this application.
    InvalidGrant,
    /// A resource is none that was allowed.
    InvalidTarget,
    /// A scope is none that was allowed.
    InvalidScope,
}

/// Tokens that were issued.
#[derive(Debug)]
pub struct Tokens {
    /// The access token.
    pub access: SecretString,
    /// How long it serves, in seconds.
    pub expires_in: i64,
    /// The refresh token.
    pub refresh: SecretString,
    /// The scopes of the access token.
    pub scopes: BTreeSet<String>,
}

/// A code that an application presents. The application has been authenticated.
#[derive(Debug)]
pub struct Redemption {
    /// The application.
    pub client_id: String,
    /// The code.
    pub code: SecretString,
    /// Where the code was sent, if the application says so: OAuth 2.1 no longer asks for it.
    pub redirect_uri: Option<String>,
    /// The PKCE verifier.
    pub code_verifier: Option<SecretString>,
    /// What the access token is to be for; all that was allowed if there are none.
    pub resources: Vec<String>,
}

/// A token that an application wants to be over. The application has been authenticated.
#[derive(Debug)]
pub struct Revocation {
    /// The application.
    pub client_id: String,
    /// An access token or a refresh token.
    pub token: SecretString,
}

/// The resources and the scopes of an access token: those that are asked for, if they were allowed.
pub(super) fn narrowed(
    approval: &Approval,
    resources: Vec<String>,
    scopes: BTreeSet<String>,
) -> Result<(Vec<String>, BTreeSet<String>), Refusal> {
    // A final slash says nothing (Inbound 2.24); the token names what was allowed as it was allowed.
    let bare = |one: &str| one.trim_end_matches('/').to_owned();
    let allowed = |asked: &String| {
        let mut allowed = approval.resources.iter();
        allowed.find(|one| bare(one) == bare(asked)).cloned()
    };
    let asked: Option<Vec<String>> = resources.iter().map(allowed).collect();
    let resources = asked.ok_or(Refusal::InvalidTarget)?;
    if !scopes.is_subset(&approval.scopes) {
        return Err(Refusal::InvalidScope);
    }
    let resources = match resources.is_empty() {
        true => approval.resources.clone(),
        false => resources,
    };
    let scopes = match scopes.is_empty() {
        true => approval.scopes.clone(),
        false => scopes,
    };
    Ok((resources, scopes))
}

/// Begins the login that a code stands for. A presentation that does not prove itself, by the application, its redirect URI
/// and the verifier, changes nothing; one that does and comes a second time ends the login (Inbound 2.22).
///
/// # Errors
/// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
pub async fn redeem(app: &App, asked: Redemption) -> Result<Result<Tokens, Refusal>> {
    let code_hash = hash(asked.code.expose_secret());
    let Some(code) = find_code(app, &code_hash).await? else {
        return Ok(Err(Refusal::InvalidGrant));
    };
    let verifier = asked.code_verifier.as_ref();
    let verifier = verifier.map_or("", ExposeSecret::expose_secret);
    let proven = code.approval.application.client_id == asked.client_id
        && asked
            .redirect_uri
            .is_none_or(|uri| uri == code.redirect_uri)
        && code.code_challenge.is_met_by(verifier);
    if !proven {
        return Ok(Err(Refusal::InvalidGrant));
    }
    if code.used_at.is_some() {
        return end_replayed(app, &code).await;
    }
    let now = app.now();
    if code.ends_at <= now {
        return Ok(Err(Refusal::InvalidGrant));
    }
    let allowed = narrowed(&code.approval, asked.resources, BTreeSet::new());
    let (resources, scopes) = match allowed {
        Ok(allowed) => allowed,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let refresh = RefreshToken::first(&code.tenant, code.login)?;
    let login = Login {
        id: code.login,
        tenant: code.tenant.clone(),
        approval: code.approval.clone(),
        created_at: now,
        refreshed_at: now,
        family_hash: refresh.family_hash(),
        refresh_hash: refresh.hash(),
        previous: None,
        lease: None,
        ttl: Login::ttl_from(now),
    };
    let tokens = sign(app, &login, &refresh, &resources, scopes).await?;
    let mut used = code;
    used.used_at = Some(now);
    // A used one shows when it comes again.
    used.ttl = now.plus_seconds(KEPT_AFTER_END).seconds();
    used.approval.provider_token = None;
    let who = of_person(login.subject(), Some(login.id));
    let event = of_login(&login, now, who, Action::LoginCreated)?;
    if app.table.begin_login(&used, &login, &event).await? {
        return Ok(Ok(tokens));
    }
    // Used by someone else at the same time, or its subject was offboarded.
    match find_code(app, &code_hash).await? {
        Some(code) if code.used_at.is_some() => end_replayed(app, &code).await,
        _ => Ok(Err(Refusal::InvalidGrant)),
    }
}

async fn find_code(app: &App, hash: &str) -> Result<Option<AuthorizationCode>> {
    let found = app.table.read(vec![code_key(hash)]).await?;
    found.authorization_code(hash)
}

/// Ends the login of a code that was used before.
async fn end_replayed(app: &App, code: &AuthorizationCode) -> Result<Result<Tokens, Refusal>> {
    let found = app.table.read(vec![key(&code.tenant, code.login)]).await?;
    if let Some(login) = found.login(&code.tenant, code.login)? {
        end_because(app, &login, LoginEnd::CodeReused).await?;
    }
    Ok(Err(Refusal::InvalidGrant))
}

pub(super) async fn sign(
    app: &App,
    login: &Login,
    refresh: &RefreshToken,
    resources: &[String],
    scopes: BTreeSet<String>,
) -> Result<Tokens> {
    let (kid, key) = app.signing_key().await?;
    let issuing = Issuing {
        key: &key,
        kid: &kid,
        resources,
        scopes: &scopes,
    };
    Ok(Tokens {
        access: issue(login, &issuing, app.now())?,
        expires_in: LIFETIME,
        refresh: refresh.text().clone(),
        scopes,
    })
}

/// The login that a refresh token was issued for, whether the token is still good or not.
pub(super) async fn login_of_token(app: &App, token: &RefreshToken) -> Result<Option<Login>> {
    let found = app
        .table
        .read(vec![key(&token.tenant, token.login)])
        .await?;
    let login = found.login(&token.tenant, token.login)?;
    Ok(login.filter(|login| is_same_secret(&login.family_hash, &token.family_hash())))
}

/// Ends the login of a token, if it is one of ours and of this application. A token that says nothing, or nothing any more,
/// has nothing to be ended.
///
/// # Errors
/// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
pub async fn revoke(app: &App, asked: Revocation) -> Result<Result<(), Refusal>> {
    let text = asked.token.expose_secret();
    let login = match RefreshToken::parse(text) {
        Some(token) => login_of_token(app, &token).await?,
        None => login_of_access_token(app, text).await?,
    };
    let Some(login) = login else {
        return Ok(Ok(()));
    };
    if login.approval.application.client_id != asked.client_id {
        return Ok(Err(Refusal::InvalidGrant));
    }
    let who = of_person(login.subject(), Some(login.id));
    let actor = login.approval.identity.actor();
    end_by(app, &login, actor, who, LoginEnd::Revoked, None).await?;
    Ok(Ok(()))
}

async fn login_of_access_token(app: &App, text: &str) -> Result<Option<Login>> {
    let Some(kid) = kid(text) else {
        return Ok(None);
    };
    let Some(public) = app.verifying_key(&kid).await? else {
        return Ok(None);
    };
    let Ok(token) = LoginToken::verify(text, &public, app.now()) else {
        return Ok(None);
    };
    let found = app
        .table
        .read(vec![key(token.tenant(), token.login())])
        .await?;
    found.login(token.tenant(), token.login())
}
