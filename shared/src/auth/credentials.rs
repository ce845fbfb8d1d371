//! Authentication of callers. A token of an issuer is verified at once. An API key, or a token of Hawser's own, is
//! verified with its item, which is part of the first read of the request, so that authentication needs no round trip
//! of its own.

use crate::Result;
use crate::auth::api_key::PresentedKey;
use crate::auth::client_token::ClientToken;
use crate::auth::login_token::LoginToken;
use crate::domain::caller::Caller;
use crate::domain::error::Unauthenticated;
use crate::domain::id::TenantId;
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;
use crate::table::{Found, Key, api_keys, logins, servers};

/// Credentials as a request presented them.
#[derive(Clone, Debug)]
pub enum Presented {
    /// A verified token of an issuer.
    Caller(Box<Caller>),
    /// An API key whose item has not been read yet.
    Key(PresentedKey),
    /// A service key with the user for whom it acts. Its item is read as often as that of any other key.
    ActingKey(PresentedKey, Subject),
    /// A token of a connection's own client, whose server has not been read yet.
    Client(ClientToken),
    /// A token of a login whose item has not been read yet.
    Login(Box<LoginToken>),
}

impl Presented {
    /// Reads an API key, without verifying it.
    ///
    /// # Errors
    /// [`Unauthenticated::InvalidKey`] when the text has not the form of an API key.
    pub fn api_key(text: &str) -> Result<Self, Unauthenticated> {
        PresentedKey::parse(text).map(Self::Key)
    }

    /// The same API key, acting for a user. Its item has to be that of a service key. Other credentials act for nobody else.
    #[must_use]
    pub fn acting_for(self, user: Subject) -> Self {
        match self {
            Self::Key(key) => Self::ActingKey(key, user),
            other => other,
        }
    }

    /// Whether the credentials are for one connection only (Kambrium 13).
    pub fn is_bound(&self) -> bool {
        matches!(self, Self::Client(_)) || self.bound_to().is_some()
    }

    /// The number of that connection, if it is known before anything is read.
    pub(crate) fn bound_to(&self) -> Option<u64> {
        match self {
            Self::Caller(caller) => caller.bound_to,
            Self::Key(key) | Self::ActingKey(key, _) => key.bound_to,
            Self::Client(_) | Self::Login(_) => None,
        }
    }

    /// The tenant that these credentials claim; not to be trusted before they are authenticated.
    pub fn tenant(&self) -> &TenantId {
        match self {
            Self::Caller(caller) => &caller.tenant,
            Self::Key(key) | Self::ActingKey(key, _) => &key.tenant,
            Self::Client(token) => &token.tenant,
            Self::Login(token) => token.tenant(),
        }
    }

    /// The subject that a token names. `Err` holds the public id of credentials whose subject only their item names.
    pub(crate) fn subject(&self) -> Result<&Subject, &str> {
        match self {
            Self::Caller(caller) => Ok(caller.subject()),
            Self::Key(key) => Err(&key.id),
            Self::ActingKey(_, user) => Ok(user),
            Self::Client(token) => Err(&token.client),
            Self::Login(token) => Ok(token.subject()),
        }
    }

    /// Adds the keys of the items that authenticate them to `keys`, without duplicates.
    pub fn required_keys(&self, keys: &mut Vec<Key>) {
        let needed: Vec<Key> = match self {
            Self::Caller(_) => Vec::new(),
            Self::Key(key) | Self::ActingKey(key, _) => {
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

    /// Authenticates the caller with the items of [`Self::required_keys`].
    ///
    /// # Errors
    /// [`crate::Error::Unauthenticated`] when the credentials are unknown, revoked, expired, or have another secret;
    /// [`crate::Error::Internal`].
    pub fn authenticate(self, found: &Found, now: Timestamp) -> Result<Caller> {
        match self {
            Self::Caller(caller) => {
                caller.check_end(now)?;
                Ok(*caller)
            }
            Self::Key(key) => key.authenticate(found, now),
            Self::ActingKey(key, user) => {
                let caller = key.authenticate(found, now)?;
                if !caller.is_service_key {
                    return Err(Unauthenticated::InvalidKey.into());
                }
                Ok(caller.acting_as(user))
            }
            Self::Client(token) => token.authenticate(found, now),
            Self::Login(token) => token.authenticate(found, now),
        }
    }
}
