//! Authentication of callers. A token is verified at once; an API key, or a token of our own, is verified against its
//! item, which is part of the first read of the request, so that authentication costs no round trip of its own.

use crate::client_token::ClientToken;
use crate::domain::error::Unauthenticated;
use crate::domain::event::Who;
use crate::domain::id::{Sortable, TenantId, hash, random};
use crate::domain::login::Identity;
use crate::domain::subject::{Actor, Subject, SubjectType};
use crate::domain::time::Timestamp;
use crate::jwt::LEEWAY;
use crate::login_token::LoginToken;
use crate::table::api_keys::{self, ApiKey, PersonalTokenPointer};
use crate::table::{Found, Key, logins, servers};
use crate::{Error, Result};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
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
    /// The id of the API key that it came with, if it came with one.
    pub key: Option<Sortable>,
    /// The login whose token it came with, if it came with one.
    pub login: Option<Sortable>,
    /// Whether it came with a token of its connection's own client.
    pub is_client: bool,
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

    /// The person, as logins keep them.
    pub fn identity(&self) -> Identity {
        Identity {
            subject: self.actor.subject.clone(),
            email: self.email.clone(),
            username: self.username.clone(),
            display_name: self.actor.display_name.clone(),
            roles: self.roles.clone(),
            teams: self.teams.clone(),
            permissions: self.permissions.clone(),
            scopes: self.scopes.clone(),
        }
    }

    /// Refuses a caller whose token has ended.
    pub(crate) fn check_end(&self, now: Timestamp) -> Result<(), Unauthenticated> {
        match self.token_ends {
            Some(end) if end.plus_seconds(LEEWAY) <= now => Err(Unauthenticated::Expired(end)),
            _ => Ok(()),
        }
    }
}

impl From<&Caller> for Who {
    fn from(caller: &Caller) -> Self {
        Self::Subject {
            subject: caller.subject().clone(),
            key: caller.key,
            login: caller.login,
            client: caller.is_client,
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
    /// A token of a connection's own client, whose server has not been read yet.
    Client(ClientToken),
    /// A token of ours whose login has not been read yet.
    Login(Box<LoginToken>),
}

/// The parts of an API key: `hwk_<tenant>_<id>_<secret>`, tenant and secret in lower-case base32.
#[derive(Clone, Debug)]
pub struct PresentedKey {
    tenant: TenantId,
    id: String,
    secret_hash: String,
    /// Whether it is a personal access token, and the connection that such a one is bound to.
    personal: bool,
    bound_to: Option<u64>,
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
        let tenant = unbase32(tenant)
            .and_then(|tenant| TenantId::parse(&tenant))
            .ok_or(Unauthenticated::InvalidKey)?;
        let id = Sortable::parse_ulid(id)
            .ok_or(Unauthenticated::InvalidKey)?
            .ulid();
        Ok(Self::Key(PresentedKey {
            tenant,
            id,
            secret_hash: hash(secret),
            personal: false,
            bound_to: None,
        }))
    }

    /// A personal access token of this hash, by what it leads to.
    pub(crate) fn personal(hash: String, pointer: PersonalTokenPointer) -> Self {
        Self::Key(PresentedKey {
            tenant: pointer.tenant,
            id: pointer.id,
            secret_hash: hash,
            personal: true,
            bound_to: pointer.bound_to,
        })
    }

    /// Whether they are for one connection alone (Kambrium 13).
    pub fn is_bound(&self) -> bool {
        matches!(self, Self::Client(_)) || self.bound_to().is_some()
    }

    /// The number of the one connection that they are for, where it is known before anything is read.
    pub(crate) fn bound_to(&self) -> Option<u64> {
        match self {
            Self::Caller(caller) => caller.bound_to,
            Self::Key(key) => key.bound_to,
            Self::Client(_) | Self::Login(_) => None,
        }
    }

    /// The tenant that these credentials claim; not to be trusted before they are authenticated.
    pub fn tenant(&self) -> &TenantId {
        match self {
            Self::Caller(caller) => &caller.tenant,
            Self::Key(key) => &key.tenant,
            Self::Client(token) => &token.tenant,
            Self::Login(token) => token.tenant(),
        }
    }

    /// The subject of a token, or the public part of what only its item says the subject of.
    pub(crate) fn subject(&self) -> Result<&Subject, &str> {
        match self {
            Self::Caller(caller) => Ok(caller.subject()),
            Self::Key(key) => Err(&key.id),
            Self::Client(token) => Err(&token.client),
            Self::Login(token) => Ok(token.subject()),
        }
    }

    /// Adds the keys of the items that authenticate them to `keys`, without duplicates.
    pub fn required_keys(&self, keys: &mut Vec<Key>) {
        let needed: Vec<Key> = match self {
            Self::Caller(_) => Vec::new(),
            Self::Key(key) => {
                let bound_to = key.bound_to.iter();
                let connection = bound_to.map(|number| servers::number_key(&key.tenant, *number));
                let own = api_keys::key(&key.tenant, &key.id);
                connection.chain([own]).collect()
            }
            Self::Client(token) => vec![servers::key(&token.tenant, token.server)],
            Self::Login(token) => vec![logins::key(token.tenant(), token.login())],
        };
        for key in needed {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }

    /// Authenticates the caller with the items that [`Self::required_keys`] named.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] when it is unknown, revoked, expired, or has another secret; [`Error::Internal`].
    pub fn authenticate(self, found: &Found, now: Timestamp) -> Result<Caller> {
        match self {
            Self::Caller(caller) => {
                caller.check_end(now)?;
                Ok(*caller)
            }
            Self::Key(key) => key.authenticate(found, now),
            Self::Client(token) => token.authenticate(found, now),
            Self::Login(token) => token.authenticate(found, now),
        }
    }
}

impl PresentedKey {
    fn authenticate(self, found: &Found, now: Timestamp) -> Result<Caller> {
        let invalid = match self.personal {
            true => Unauthenticated::InvalidToken,
            false => Unauthenticated::InvalidKey,
        };
        let stored = found.api_key(&self.tenant, &self.id)?.ok_or(invalid)?;
        verify_slices_are_equal(stored.secret_hash.as_bytes(), self.secret_hash.as_bytes())
            .map_err(|_| invalid)?;
        match stored.expires_at {
            Some(end) if end <= now && self.personal => {
                return Err(Unauthenticated::Expired(end).into());
            }
            Some(end) if end <= now => return Err(invalid.into()),
            _ => {}
        }
        // A bound key ends with its connection at once, before the purge removes it.
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

/// A new personal access token's id, its text (shown once, stored nowhere) and the hash of that: `pat_` and 43 characters of
/// base64url (Kambrium 13).
///
/// # Errors
/// As above.
pub fn mint_personal(now: Timestamp) -> Result<(String, SecretString, String)> {
    let text = format!("pat_{}", BASE64URL_NOPAD.encode(&random::<32>()?));
    let hash = hash(&text);
    Ok((Sortable::new(now)?.ulid(), text.into(), hash))
}

/// Whether a bearer token is meant to be an API key: no token begins like one.
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

/// In lower case, without padding.
pub(crate) fn base32(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

/// The text that [`base32`] has encoded.
pub(crate) fn unbase32(text: &str) -> Option<String> {
    let bytes = BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes());
    String::from_utf8(bytes.ok()?).ok()
}
