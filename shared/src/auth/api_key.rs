//! API keys and personal access tokens: how their text is read and made, and the caller that they authenticate.

use crate::domain::api_key::{ApiKey, PersonalTokenPointer};
use crate::domain::caller::Caller;
use crate::domain::error::Unauthenticated;
use crate::domain::id::{Sortable, TenantId, base32, hash, is_same_secret, random, unbase32};
use crate::domain::subject::{Actor, Subject, SubjectType};
use crate::domain::time::Timestamp;
use crate::table::Found;
use crate::{Error, Result};
use data_encoding::BASE64URL_NOPAD;
use secrecy::{ExposeSecret, SecretString};

/// The parts of an API key: `hwk_<tenant>_<id>_<secret>`, tenant and secret in lower-case base32.
#[derive(Clone, Debug)]
pub struct PresentedKey {
    pub(super) tenant: TenantId,
    pub(super) id: String,
    secret_hash: String,
    /// Whether it is a personal access token, and the number of the one connection that it is bound to.
    personal: bool,
    pub(super) bound_to: Option<u64>,
}

impl PresentedKey {
    /// Splits an API key into its parts.
    ///
    /// # Errors
    /// [`Unauthenticated::InvalidKey`] when the text has not the form of an API key.
    pub fn parse(text: &str) -> Result<Self, Unauthenticated> {
        let parts: Vec<&str> = text.split('_').collect();
        let &["hwk", tenant, id, secret] = parts.as_slice() else {
            return Err(Unauthenticated::InvalidKey);
        };
        let tenant = unbase32(tenant)
            .and_then(|tenant| TenantId::parse(&tenant))
            .ok_or(Unauthenticated::InvalidKey)?;
        let id = Sortable::parse_ulid(id)
            .ok_or(Unauthenticated::InvalidKey)?
            .ulid();
        Ok(Self {
            tenant,
            id,
            secret_hash: hash(secret),
            personal: false,
            bound_to: None,
        })
    }

    /// A personal access token with this hash, by its pointer item.
    pub(crate) fn personal(hash: String, pointer: PersonalTokenPointer) -> Self {
        Self {
            tenant: pointer.tenant,
            id: pointer.id,
            secret_hash: hash,
            personal: true,
            bound_to: pointer.bound_to,
        }
    }

    /// Authenticates the caller with the items that were read.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] when the key is unknown, revoked, expired, or has another secret;
    /// [`Error::Internal`].
    pub fn authenticate(self, found: &Found, now: Timestamp) -> Result<Caller> {
        let invalid = match self.personal {
            true => Unauthenticated::InvalidToken,
            false => Unauthenticated::InvalidKey,
        };
        let stored = found.api_key(&self.tenant, &self.id)?.ok_or(invalid)?;
        if !is_same_secret(&stored.secret_hash, &self.secret_hash) {
            return Err(invalid.into());
        }
        match stored.expires_at {
            Some(end) if end <= now && self.personal => {
                return Err(Unauthenticated::Expired(end).into());
            }
            Some(end) if end <= now => return Err(invalid.into()),
            _ => {}
        }
        // A bound key ends with its connection at once, before the purge removes the key's item.
        if let Some(number) = stored.bound_to
            && found.numbered(&self.tenant, number)?.is_none()
        {
            return Err(invalid.into());
        }
        caller_of(self.tenant, stored)
    }
}

fn caller_of(tenant: TenantId, key: ApiKey) -> Result<Caller> {
    let itself = || Subject::new(SubjectType::VirtualAccount, &format!("key-{}", key.id));
    let subject = key
        .owner
        .clone()
        .or_else(itself)
        .ok_or_else(|| Error::internal("an API key has no subject"))?;
    Ok(Caller {
        tenant,
        actor: Actor {
            subject,
            slug: key.email.clone(),
            display_name: None,
            key_label: key.label,
        },
        email: key.email,
        username: None,
        roles: key.roles,
        teams: key.teams,
        permissions: key.permissions,
        scopes: key.scopes,
        bound_to: key.bound_to,
        is_service_key: key.owner.is_none(),
        key: Sortable::parse_ulid(&key.id),
        login: None,
        is_client: false,
        token_ends: None,
    })
}

/// A new API key's id, its text (shown once, stored nowhere) and the hash of its secret.
///
/// # Errors
/// [`Error::Internal`] when the random generator fails.
pub fn mint_api_key(tenant: &TenantId, now: Timestamp) -> Result<(String, SecretString, String)> {
    let id = Sortable::new(now)?.ulid();
    let secret = SecretString::from(base32(&random::<32>()?));
    let text = format!(
        "hwk_{}_{}_{}",
        base32(tenant.as_str().as_bytes()),
        id.to_ascii_lowercase(),
        secret.expose_secret()
    );
    Ok((id, text.into(), hash(secret.expose_secret())))
}

/// A new personal access token's id, its text (shown once, stored nowhere) and the hash of the text: `pat_` and 43
/// characters of base64url (Kambrium 13).
///
/// # Errors
/// [`Error::Internal`] when the random generator fails.
pub fn mint_personal(now: Timestamp) -> Result<(String, SecretString, String)> {
    let text = format!("pat_{}", BASE64URL_NOPAD.encode(&random::<32>()?));
    let hash = hash(&text);
    Ok((Sortable::new(now)?.ulid(), text.into(), hash))
}

/// Whether a bearer token has the form of an API key, which no other token has.
pub(crate) fn is_api_key(token: &str) -> bool {
    token.starts_with("hwk_")
}

/// Whether a bearer token has the form of a personal access token.
pub(crate) fn is_personal(token: &str) -> bool {
    let random = token.strip_prefix("pat_");
    random.is_some_and(|text| {
        BASE64URL_NOPAD
            .decode(text.as_bytes())
            .is_ok_and(|bytes| bytes.len() == 32)
    })
}
