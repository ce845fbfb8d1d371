//! The one error of the domain. Its names know no HTTP; each contract maps it to its own bodies in one place.

use super::time::Timestamp;
use std::fmt;

/// What every operation returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a caller is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unauthenticated {
    /// No credentials were sent.
    Missing,
    /// A token that is unreadable, or not from the configured issuer for the configured audience.
    InvalidToken,
    /// A token that was good until this instant.
    Expired(Timestamp),
    /// A valid token that names no tenant.
    NoTenant,
    /// An API key that is malformed, unknown, revoked or expired.
    InvalidKey,
}

/// Why a server's subjects cannot be asked for consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OauthSetup {
    /// The server is not one whose subjects consent.
    NotEnabled,
    /// No authorization server was found.
    NoAuthorizationServer,
    /// Its metadata must not be used.
    MetadataUnusable,
    /// The resource metadata is about another resource than the server.
    ResourceMismatch,
    /// The authorization server's metadata is about another one.
    IssuerMismatch,
    /// It does not say that it supports PKCE with S256.
    NoS256,
    /// It refused to register a client.
    RegistrationRefused,
    /// It takes no client that could be had without the operator, and the operator gave none.
    NoClient,
    /// It is another one than the operator's client belongs to.
    OtherIssuer,
    /// It is none of those that the operator allows the tenant's servers.
    IssuerNotAllowed,
}

/// Why a server cannot be registered at an address: no call would ever reach it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnusableAddress {
    /// It is no URL, or holds user information.
    Malformed,
    /// It is neither https nor http where the operator allows that.
    Scheme,
    /// Its host is no public one, and the operator has not opened it.
    Host,
    /// It leads back to this deployment.
    Own,
}

/// Everything an operation can refuse or fail with.
#[derive(Debug)]
pub enum Error {
    /// The caller could not be authenticated.
    Unauthenticated(Unauthenticated),
    /// The token is that of an application that may call MCP servers and nothing else.
    ForCallsOnly,
    /// No such server in the caller's tenant.
    ServerNotFound,
    /// The subject has begun too many consents at the server within a short time.
    TooManyConsents,
    /// No such consent is in progress for whoever asks.
    SessionNotFound,
    /// The subject has no such record at the server.
    CredentialNotFound,
    /// Another server of the tenant has the name.
    NameTaken,
    /// Calls could never reach the address.
    UnusableAddress(UnusableAddress),
    /// The server was changed at the same time, again and again.
    Contended,
    /// The update would void stored credentials and was not forced (TrueFoundry 9).
    WouldVoidCredentials {
        /// OAuth records it would void.
        oauth: u64,
        /// Overrides it would void.
        overrides: u64,
    },
    /// The owner has as many connections as one may have.
    LimitReached,
    /// Consent cannot be asked for.
    Oauth(OauthSetup),
    /// The MCP server or its authorization server did not answer; it may later.
    UpstreamUnavailable,
    /// What was asked to be stored does not fit into one record.
    TooLarge,
    /// The store, the key service or the issuer's key set did not answer in time; nothing is known to be wrong.
    Unavailable(String),
    /// A defect or a corrupt record. The text is for the log alone.
    Internal(String),
}

impl Error {
    /// An [`Error::Internal`] from anything that can be shown.
    pub fn internal(cause: impl fmt::Display) -> Self {
        Self::Internal(cause.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Error {}

impl From<Unauthenticated> for Error {
    fn from(why: Unauthenticated) -> Self {
        Self::Unauthenticated(why)
    }
}
