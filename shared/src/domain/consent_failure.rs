//! Why a consent could not begin, or ended without a grant: one closed list for the log, the audit log, the status that
//! managers see, and the pages.

use super::error::{Error, OauthSetup};
use super::id::Sortable;
use super::subject::Subject;
use super::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Why a consent could not begin, or ended without a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsentFailure {
    /// The server's subjects do not connect by consent.
    OauthNotEnabled,
    /// No authorization server was found.
    NoMetadata,
    /// The metadata must not be used, for a reason other than the next three.
    MetadataUnusable,
    /// The resource metadata is about another resource than the server.
    ResourceMismatch,
    /// The issuer's metadata is about another issuer.
    IssuerMismatch,
    /// The issuer does not say that it supports PKCE with S256.
    NoS256,
    /// There is no way to get a client: the issuer registers none, and the operator gave none.
    NoClient,
    /// The issuer refused to register a client.
    RegistrationRefused,
    /// The issuer is another one than the operator's client belongs to.
    ClientOfOtherIssuer,
    /// The operator does not allow the tenant's servers to use the issuer.
    IssuerNotAllowed,
    /// The server or its issuer did not answer.
    IssuerUnreachable,
    /// The person at the issuer declined (`access_denied`).
    AccessDenied,
    /// The issuer sent the browser back with another error.
    IssuerError,
    /// The answer does not come from the issuer that was asked (RFC 9207).
    WrongIssuer,
    /// The answer has no code.
    NoCode,
    /// The issuer does not know the client, or does not accept its authentication (`invalid_client`).
    ClientRefused,
    /// The issuer refused the code.
    CodeRefused,
    /// The issuer's answer to the code holds no token that can be used.
    TokenUnusable,
    /// Meanwhile the server was changed, or its subject disconnected or offboarded ([`super::session::Session::is_void`]).
    Void,
    /// An error within Hawser.
    Internal,
}

impl ConsentFailure {
    /// The name in logs, events and the status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OauthNotEnabled => "oauth_not_enabled",
            Self::NoMetadata => "no_metadata",
            Self::MetadataUnusable => "metadata_unusable",
            Self::ResourceMismatch => "resource_mismatch",
            Self::IssuerMismatch => "issuer_mismatch",
            Self::NoS256 => "no_s256",
            Self::NoClient => "no_client",
            Self::RegistrationRefused => "registration_refused",
            Self::ClientOfOtherIssuer => "client_of_other_issuer",
            Self::IssuerNotAllowed => "issuer_not_allowed",
            Self::IssuerUnreachable => "issuer_unreachable",
            Self::AccessDenied => "access_denied",
            Self::IssuerError => "issuer_error",
            Self::WrongIssuer => "wrong_issuer",
            Self::NoCode => "no_code",
            Self::ClientRefused => "client_refused",
            Self::CodeRefused => "code_refused",
            Self::TokenUnusable => "token_unusable",
            Self::Void => "void",
            Self::Internal => "internal",
        }
    }

    /// The consent failure that an error during preparation stands for; `None` for an error within Hawser.
    pub const fn of_setup(error: &Error) -> Option<Self> {
        Some(match error {
            Error::UpstreamUnavailable => Self::IssuerUnreachable,
            Error::Oauth(setup) => match setup {
                OauthSetup::NotEnabled => Self::OauthNotEnabled,
                OauthSetup::NoAuthorizationServer => Self::NoMetadata,
                OauthSetup::MetadataUnusable => Self::MetadataUnusable,
                OauthSetup::ResourceMismatch => Self::ResourceMismatch,
                OauthSetup::IssuerMismatch => Self::IssuerMismatch,
                OauthSetup::NoS256 => Self::NoS256,
                OauthSetup::NoClient => Self::NoClient,
                OauthSetup::RegistrationRefused => Self::RegistrationRefused,
                OauthSetup::OtherIssuer => Self::ClientOfOtherIssuer,
                OauthSetup::IssuerNotAllowed => Self::IssuerNotAllowed,
            },
            _ => return None,
        })
    }
}

/// The last consent at a server that failed, for those who manage it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedConsent {
    /// Why the consent failed.
    pub reason: ConsentFailure,
    /// The consent's reference: the same on the page, in the log (`session`) and in the audit log (`sessionId`).
    pub reference: Sortable,
    /// When it failed.
    pub at: Timestamp,
    /// The subject whose consent failed.
    #[serde(flatten)]
    pub subject: Subject,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_stored_under_the_word_that_is_shown() {
        for failure in [
            ConsentFailure::OauthNotEnabled,
            ConsentFailure::NoS256,
            ConsentFailure::ClientOfOtherIssuer,
            ConsentFailure::Void,
        ] {
            let stored = serde_json::to_value(failure).unwrap();
            assert_eq!(stored, failure.as_str());
        }
    }
}
