//! The one error of the domain. Its names are free of HTTP; each contract maps it to its own bodies in one place.

use super::time::Timestamp;
use std::fmt;

/// The result of every operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a caller could not be authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unauthenticated {
    /// No credentials were sent.
    Missing,
    /// The token is unreadable, or not from the configured issuer for the configured audience.
    InvalidToken,
    /// The token expired at this instant.
    Expired(Timestamp),
    /// The token is valid and names no tenant.
    NoTenant,
    /// The API key is malformed, unknown, revoked or expired.
    InvalidKey,
}

/// Why no consent can be asked for at a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OauthSetup {
    /// The server's subjects do not connect by consent.
    NotEnabled,
    /// No authorization server was found.
    NoAuthorizationServer,
    /// The authorization server's metadata must not be used.
    MetadataUnusable,
    /// The resource metadata is about another resource than the server.
    ResourceMismatch,
    /// The authorization server's metadata is about another issuer.
    IssuerMismatch,
    /// The authorization server does not say that it supports PKCE with S256.
    NoS256,
    /// The authorization server refused to register a client.
    RegistrationRefused,
    /// The authorization server takes no client that Hawser can get by itself, and the operator configured none.
    NoClient,
    /// The authorization server is not the one that the operator's client belongs to.
    OtherIssuer,
    /// The operator does not allow the tenant's servers to use this authorization server.
    IssuerNotAllowed,
}

/// Why a server cannot be registered at an address: calls could never reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnusableAddress {
    /// The address is not a URL, or holds user information.
    Malformed,
    /// The scheme is not https, nor http where the operator allows it.
    Scheme,
    /// The host is not public, and the operator has not opened it.
    Host,
    /// The address leads back to this deployment.
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
    /// The caller has no such consent in progress.
    SessionNotFound,
    /// The subject has no such record at the server.
    CredentialNotFound,
    /// Another server of the tenant has the name.
    NameTaken,
    /// Calls could never reach the address.
    UnusableAddress(UnusableAddress),
    /// The server was changed at the same time, in every attempt.
    Contended,
    /// The update would void stored credentials and was not forced (TrueFoundry 9).
    WouldVoidCredentials {
        /// OAuth records it would void.
        oauth: u64,
        /// Overrides it would void.
        overrides: u64,
    },
    /// The owner has the largest number of connections that is allowed.
    LimitReached,
    /// Consent cannot be asked for.
    Oauth(OauthSetup),
    /// The MCP server or its authorization server did not answer. A later try may succeed.
    UpstreamUnavailable,
    /// The key of the request was another request's.
    KeyReused,
    /// What was to be stored does not fit into one item.
    TooLarge,
    /// The store, the key service or the issuer's key set did not answer in time; nothing is known to be wrong.
    Unavailable(String),
    /// A defect or a corrupt record. The text is for the log alone.
    Internal(String),
}

impl Error {
    /// An [`Error::Internal`] with this text.
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
