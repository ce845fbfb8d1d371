//! The tokens of logins (Inbound 2.20 to 2.26): access tokens, which are JWTs (RFC 9068), and refresh tokens, whose
//! content only Hawser reads.
//!
//! The signature of an access token is verified before anything is read. The token names its login, whose item is part
//! of the first read of the request, like the item of an API key. That item says what the token may do. Without it the
//! token is invalid.

use crate::auth::Use;
use crate::auth::jwt::is_plain_token;
use crate::domain::application::MANAGE;
use crate::domain::caller::Caller;
use crate::domain::error::Unauthenticated;
use crate::domain::id::{Sortable, TenantId, base32, hash, random, unbase32};
use crate::domain::login::Login;
use crate::domain::subject::{Subject, SubjectType};
use crate::domain::time::Timestamp;
use crate::table::Found;
use crate::{Error, Result};
use data_encoding::BASE32_NOPAD;
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How long an access token is valid, in seconds.
pub const LIFETIME: i64 = 3600;

/// The `aud` claim: one audience, or a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    All(Vec<String>),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    client_id: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    scope: String,
    jti: Sortable,
    iat: i64,
    exp: i64,
    /// The login, by its id.
    sid: Sortable,
    tenant: TenantId,
    subject_type: SubjectType,
}

/// What an access token contains besides its login, and the key that signs it.
#[derive(Debug)]
pub struct Issuing<'a> {
    /// The private key that signs.
    pub key: &'a EncodingKey,
    /// The `kid` of the key.
    pub kid: &'a str,
    /// The resources that the token is for: some or all of those of its login.
    pub resources: &'a [String],
    /// The scopes of the token: some or all of those of its login.
    pub scopes: &'a BTreeSet<String>,
}

/// Makes an access token for a login.
///
/// # Errors
/// [`Error::Internal`] when it cannot be signed.
pub fn issue(login: &Login, issuing: &Issuing<'_>, now: Timestamp) -> Result<SecretString> {
    let header = Header {
        typ: Some("at+jwt".to_owned()),
        kid: Some(issuing.kid.to_owned()),
        ..Header::new(Algorithm::ES256)
    };
    let approval = &login.approval;
    let scopes: Vec<&str> = issuing.scopes.iter().map(String::as_str).collect();
    let claims = Claims {
        iss: approval.issuer.clone(),
        sub: login.subject().id().to_owned(),
        aud: match issuing.resources {
            [one] => Audience::One(one.clone()),
            all => Audience::All(all.to_vec()),
        },
        client_id: approval.application.client_id.clone(),
        scope: scopes.join(" "),
        jti: Sortable::new(now)?,
        iat: now.seconds(),
        exp: now.plus_seconds(LIFETIME).seconds(),
        sid: login.id,
        tenant: login.tenant.clone(),
        subject_type: login.subject().kind(),
    };
    encode(&header, &claims, issuing.key)
        .map(SecretString::from)
        .map_err(|_| Error::internal("a token could not be signed"))
}

/// The `kid` of a token; `None` if it has none, or if its header is not that of a plain access token.
pub(crate) fn kid(text: &str) -> Option<String> {
    let header = decode_header(text).ok()?;
    is_plain_token(&header).then_some(header.kid)?
}

/// An access token of a login, with a valid signature. Its login has not been read yet.
#[derive(Clone, Debug)]
pub struct LoginToken {
    claims: Claims,
    subject: Subject,
    /// Whether the request needs the scope to manage, and the token lacks it.
    lacks_manage: bool,
}

impl LoginToken {
    /// Verifies a token with the key that its `kid` names.
    ///
    /// # Errors
    /// [`Unauthenticated::InvalidToken`], [`Unauthenticated::Expired`].
    pub fn verify(text: &str, key: &DecodingKey, now: Timestamp) -> Result<Self, Unauthenticated> {
        let mut rules = Validation::new(Algorithm::ES256);
        // `exp` is checked below by our own clock, and `aud` against what the request is for.
        rules.validate_exp = false;
        rules.validate_aud = false;
        let claims = decode::<Claims>(text, key, &rules)
            .map_err(|_| Unauthenticated::InvalidToken)?
            .claims;
        let subject = Subject::new(claims.subject_type, &claims.sub);
        let token = Self {
            subject: subject.ok_or(Unauthenticated::InvalidToken)?,
            claims,
            lacks_manage: false,
        };
        token.check_end(now)?;
        Ok(token)
    }

    /// The token's tenant.
    pub const fn tenant(&self) -> &TenantId {
        &self.claims.tenant
    }

    /// The token's subject.
    pub const fn subject(&self) -> &Subject {
        &self.subject
    }

    /// The token's login, by its id.
    pub const fn login(&self) -> Sortable {
        self.claims.sid
    }

    /// The token, used for this. A call needs its address, or the base that has issued the token, in `aud`; everything else
    /// needs that base, and the scope to manage (Inbound 2.24). [`Self::authenticate`] refuses a token without that scope,
    /// once it is known that its login stands: a login that has ended is told so first.
    ///
    /// # Errors
    /// [`Unauthenticated::InvalidToken`].
    pub fn used_for(mut self, used_for: Use<'_>) -> Result<Self, Unauthenticated> {
        let is_for_deployment = self.is_for(std::slice::from_ref(&self.claims.iss));
        match used_for {
            Use::Call(addresses) if is_for_deployment || self.is_for(addresses) => {}
            Use::Management if is_for_deployment => {
                let mut scopes = self.claims.scope.split(' ');
                self.lacks_manage = !scopes.any(|scope| scope == MANAGE);
            }
            _ => return Err(Unauthenticated::InvalidToken),
        }
        Ok(self)
    }

    /// Whether it is for one of these addresses; a final slash says nothing.
    fn is_for(&self, addresses: &[String]) -> bool {
        let audiences = match &self.claims.aud {
            Audience::One(one) => std::slice::from_ref(one),
            Audience::All(all) => all.as_slice(),
        };
        let bare = |address: &String| address.trim_end_matches('/').to_owned();
        let addresses: Vec<String> = addresses.iter().map(bare).collect();
        audiences.iter().any(|one| addresses.contains(&bare(one)))
    }

    fn end(&self) -> Timestamp {
        Timestamp::from_micros(0).plus_seconds(self.claims.exp)
    }

    fn check_end(&self, now: Timestamp) -> Result<(), Unauthenticated> {
        if self.end() <= now {
            return Err(Unauthenticated::Expired(self.end()));
        }
        Ok(())
    }

    /// The caller that the token authenticates, once its login has been read, with what the login may do now.
    ///
    /// # Errors
    /// [`Unauthenticated::InvalidToken`] when the login has ended, [`Unauthenticated::Expired`]; [`Error::ForCallsOnly`] when
    /// the token lacks the scope to manage and needs it; [`Error::Internal`].
    pub fn authenticate(self, found: &Found, now: Timestamp) -> Result<Caller> {
        self.check_end(now)?;
        let (tenant, end) = (self.claims.tenant.clone(), self.end());
        let login = found.login(&tenant, self.claims.sid)?;
        let login = login.ok_or(Unauthenticated::InvalidToken)?;
        let is_its_own = *login.subject() == self.subject
            && login.approval.issuer == self.claims.iss
            && login.approval.application.client_id == self.claims.client_id;
        if !is_its_own || login.is_over(now) {
            return Err(Unauthenticated::InvalidToken.into());
        }
        if self.lacks_manage {
            return Err(Error::ForCallsOnly);
        }
        Ok(Caller {
            login: Some(login.id),
            token_ends: Some(end),
            ..Caller::person(tenant, login.approval.identity_at(now))
        })
    }
}

/// The parts of a refresh token: `hwr_<tenant>_<login>_<family>_<secret>`, all but the login in lower-case base32. The
/// family is the same in all refresh tokens of a login; each has a secret of its own.
#[derive(Clone, Debug)]
pub struct RefreshToken {
    /// The tenant.
    pub tenant: TenantId,
    /// The login, by its id.
    pub login: Sortable,
    family: SecretString,
    text: SecretString,
}

impl RefreshToken {
    /// The first refresh token of a login.
    ///
    /// # Errors
    /// [`Error::Internal`] when the random generator fails.
    pub fn first(tenant: &TenantId, login: Sortable) -> Result<Self> {
        let family = SecretString::from(base32(&random::<16>()?));
        Ok(Self::of(tenant, login, family, &random::<32>()?))
    }

    /// The refresh token that replaces this one, with this secret.
    #[must_use]
    pub fn followed_by(&self, secret: &[u8; 32]) -> Self {
        Self::of(&self.tenant, self.login, self.family.clone(), secret)
    }

    fn of(tenant: &TenantId, login: Sortable, family: SecretString, secret: &[u8; 32]) -> Self {
        let text = format!(
            "hwr_{}_{}_{}_{}",
            base32(tenant.as_str().as_bytes()),
            login.ulid().to_ascii_lowercase(),
            family.expose_secret(),
            base32(secret)
        );
        Self {
            tenant: tenant.clone(),
            login,
            family,
            text: text.into(),
        }
    }

    /// Reads a text that has the form of a refresh token.
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('_').collect();
        let &["hwr", tenant, login, family, secret] = parts.as_slice() else {
            return None;
        };
        let bytes = |text: &str| {
            let upper = text.to_ascii_uppercase();
            BASE32_NOPAD.decode(upper.as_bytes()).ok().map(|b| b.len())
        };
        let well_formed = bytes(family) == Some(16) && bytes(secret) == Some(32);
        well_formed.then_some(())?;
        Some(Self {
            tenant: TenantId::parse(&unbase32(tenant)?)?,
            login: Sortable::parse_ulid(login)?,
            family: family.to_owned().into(),
            text: text.to_owned().into(),
        })
    }

    /// The text that the application gets.
    pub const fn text(&self) -> &SecretString {
        &self.text
    }

    /// The hash by which the table knows this refresh token.
    pub fn hash(&self) -> String {
        hash(self.text.expose_secret())
    }

    /// The hash by which the table knows all refresh tokens of the login.
    pub fn family_hash(&self) -> String {
        hash(self.family.expose_secret())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Clock;

    #[test]
    fn a_refresh_token_is_read_as_it_was_made_and_in_no_other_spelling() {
        let tenant = TenantId::parse("acme_1").unwrap();
        let login = Sortable::new(Clock::System.now()).unwrap();
        let first = RefreshToken::first(&tenant, login).unwrap();
        let next = first.followed_by(&[7; 32]);
        let read = RefreshToken::parse(next.text().expose_secret()).unwrap();
        assert_eq!((&read.tenant, read.login), (&tenant, login));
        assert_eq!(read.family_hash(), first.family_hash());
        assert_eq!(read.hash(), next.hash());
        assert_ne!(read.hash(), first.hash());
        let text = next.text().expose_secret();
        for wrong in [
            &text[..text.len() - 1],
            &text[1..],
            &format!("{text}_"),
            "hwr____",
            "",
        ] {
            assert!(RefreshToken::parse(wrong).is_none(), "{wrong}");
        }
        assert!(!format!("{next:?}").contains(text.rsplit('_').next().unwrap()));
    }
}
