//! Who is calling. A token is verified at once; an API key is settled by its item, which rides along in the first read
//! of the request, so that authentication costs no round trip of its own.

use crate::domain::error::Unauthenticated;
use crate::domain::id::{Sortable, TenantId, random};
use crate::domain::subject::{Actor, Subject, SubjectType};
use crate::domain::time::Timestamp;
use crate::jwt::LEEWAY;
use crate::table::api_keys::{self, ApiKey};
use crate::table::{Found, Key};
use crate::{Error, Result};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::{BASE32_NOPAD, HEXLOWER};
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeSet;

/// The authenticated subject of a request, with what it may do under each contract.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Its tenant; nothing outside it exists for the caller.
    pub tenant: TenantId,
    /// Who it is, as records name it.
    pub actor: Actor,
    /// E-mail address, for collaborators of that form.
    pub email: Option<String>,
    /// Username, likewise.
    pub username: Option<String>,
    /// TrueFoundry tenant roles.
    pub roles: BTreeSet<String>,
    /// TrueFoundry teams.
    pub teams: BTreeSet<String>,
    /// LangSmith permissions.
    pub permissions: BTreeSet<String>,
    /// Kambrium scopes.
    pub scopes: BTreeSet<String>,
    /// The one connection this credential is for, if it is bound to one (Kambrium 13).
    pub bound_to: Option<u64>,
    /// Whether it came with an API key that nobody owns (LangSmith 1.1).
    pub is_service_key: bool,
    /// The `exp` of the token that it came with, if it came with one.
    pub token_ends: Option<Timestamp>,
}

impl Caller {
    /// Whether the caller administers the tenant (TrueFoundry 2.1).
    pub fn is_tenant_admin(&self) -> bool {
        self.roles.contains("admin")
    }

    /// Whether the caller administers the tenant or manages all its servers.
    pub fn manages_tenant(&self) -> bool {
        self.is_tenant_admin() || self.roles.contains("mcp-server-manager")
    }

    /// Who is calling.
    pub fn subject(&self) -> &Subject {
        &self.actor.subject
    }

    /// Refuses a caller whose token has ended.
    pub(crate) fn check_end(&self, now: Timestamp) -> Result<(), Unauthenticated> {
        match self.token_ends {
            Some(end) if end.plus_seconds(LEEWAY) <= now => Err(Unauthenticated::Expired(end)),
            _ => Ok(()),
        }
    }
}

/// Credentials as a request presented them.
#[derive(Clone, Debug)]
pub enum Presented {
    /// A verified token.
    Caller(Box<Caller>),
    /// An API key whose item has not been read yet.
    Key(PresentedKey),
}

/// The parts of an API key: `hwk_<tenant>_<id>_<secret>`, tenant and secret in lower-case base32.
#[derive(Clone, Debug)]
pub struct PresentedKey {
    tenant: TenantId,
    id: String,
    secret_hash: String,
}

impl Presented {
    /// Takes an API key apart.
    ///
    /// # Errors
    /// [`Unauthenticated::InvalidKey`] when it has not the form of one.
    pub fn api_key(text: &str) -> Result<Self, Unauthenticated> {
        let parts: Vec<&str> = text.split('_').collect();
        let &["hwk", tenant, id, secret] = parts.as_slice() else {
            return Err(Unauthenticated::InvalidKey);
        };
        let tenant = BASE32_NOPAD
            .decode(tenant.to_ascii_uppercase().as_bytes())
            .map_err(|_| Unauthenticated::InvalidKey)?;
        let tenant = std::str::from_utf8(&tenant)
            .ok()
            .and_then(TenantId::parse)
            .ok_or(Unauthenticated::InvalidKey)?;
        let id = Sortable::parse_ulid(id)
            .ok_or(Unauthenticated::InvalidKey)?
            .ulid();
        Ok(Self::Key(PresentedKey {
            tenant,
            id,
            secret_hash: hash(secret),
        }))
    }

    /// The tenant these credentials speak for; not to be believed before they are settled.
    pub fn tenant(&self) -> &TenantId {
        match self {
            Self::Caller(caller) => &caller.tenant,
            Self::Key(key) => &key.tenant,
        }
    }

    /// The subject of a token, or the public part of an API key, whose subject its item names.
    pub(crate) fn subject(&self) -> Result<&Subject, &str> {
        match self {
            Self::Caller(caller) => Ok(caller.subject()),
            Self::Key(key) => Err(&key.id),
        }
    }

    /// The item that settles them, if one is needed.
    pub fn needs(&self) -> Option<Key> {
        match self {
            Self::Caller(_) => None,
            Self::Key(key) => Some(api_keys::key(&key.tenant, &key.id)),
        }
    }

    /// The caller, once what [`Self::needs`] named has been read.
    ///
    /// # Errors
    /// [`Unauthenticated::InvalidKey`] when the key is unknown, revoked, expired, or has another secret;
    /// [`Unauthenticated::Expired`] when the token has ended since.
    pub fn settle(self, found: &Found, now: Timestamp) -> Result<Caller> {
        let presented = match self {
            Self::Caller(caller) => {
                caller.check_end(now)?;
                return Ok(*caller);
            }
            Self::Key(key) => key,
        };
        let stored = found
            .api_key(&presented.tenant, &presented.id)?
            .ok_or(Unauthenticated::InvalidKey)?;
        verify_slices_are_equal(
            stored.secret_hash.as_bytes(),
            presented.secret_hash.as_bytes(),
        )
        .map_err(|_| Unauthenticated::InvalidKey)?;
        if stored.expires_at.is_some_and(|end| end <= now) {
            return Err(Unauthenticated::InvalidKey.into());
        }
        caller_of(presented.tenant, stored)
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
        bound_to: None,
        is_service_key: key.owner.is_none(),
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

/// SHA-256, lower-case hex.
pub fn hash(secret: &str) -> String {
    HEXLOWER.encode(digest(&SHA256, secret.as_bytes()).as_ref())
}

fn base32(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}
