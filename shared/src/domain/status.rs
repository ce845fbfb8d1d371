//! The effective status of a subject at a server: one table, decided without asking anyone (TrueFoundry 7).

use super::credential::{Grant, Records, RefreshOutcome, Source};
use super::server::{Auth, AuthLevel, GrantType, OauthConfig, Server};
use super::time::Timestamp;
use crate::domain::reason::Reason;

/// What a subject needs to use a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nothing more: this source serves.
    Authenticated(Source),
    /// A credential, for this reason.
    Required {
        /// The source of the record that no longer serves; `None` if nothing is stored.
        source: Option<Source>,
        /// Why a credential is required.
        reason: Reason,
    },
    /// Nothing: the server asks its subjects for no credential.
    NotRequired(NotRequired),
}

/// Why no credential is required.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum NotRequired {
    NoAuthentication,
    Passthrough,
    SharedHeader,
    ClientCredentials,
}

/// The status at `now` of the subject whose records these are: the first row of the table that matches.
pub fn status(server: &Server, records: &Records, now: Timestamp) -> Status {
    let per_user_oauth = match &server.auth {
        Auth::None | Auth::LegacyProvider { .. } => {
            return Status::NotRequired(NotRequired::NoAuthentication);
        }
        Auth::Passthrough => return Status::NotRequired(NotRequired::Passthrough),
        Auth::Headers { .. } | Auth::Oauth(_) if records.header_override.is_some() => {
            return Status::Authenticated(Source::Override);
        }
        Auth::Headers {
            level: AuthLevel::Global,
            ..
        } => return Status::NotRequired(NotRequired::SharedHeader),
        Auth::Headers {
            level: AuthLevel::PerUser,
            ..
        } => None,
        Auth::Oauth(oauth) if oauth.grant_type == GrantType::ClientCredentials => {
            return Status::NotRequired(NotRequired::ClientCredentials);
        }
        Auth::Oauth(oauth) => Some(oauth),
    };
    match per_user_oauth.zip(records.grant.as_ref()) {
        None => Status::Required {
            source: None,
            reason: records.kept_reason.unwrap_or(Reason::NeverConnected),
        },
        Some((oauth, grant)) => match dead(server, oauth, grant, now) {
            Some(reason) => Status::Required {
                source: Some(Source::Oauth),
                reason,
            },
            None => Status::Authenticated(Source::Oauth),
        },
    }
}

/// Why a grant no longer serves; `None` if it does.
fn dead(server: &Server, oauth: &OauthConfig, grant: &Grant, now: Timestamp) -> Option<Reason> {
    if grant.auth_revision < server.auth_revision {
        return Some(Reason::ServerChanged);
    }
    if grant.last_refresh == Some(RefreshOutcome::InvalidGrant) {
        return Some(Reason::InvalidGrant);
    }
    // An integration's consents ask for the catalogue's scopes; the server's are a copy for display.
    let own = server.connection.integration.is_none();
    let mut scopes = oauth.scopes.iter().flatten();
    if own && scopes.any(|scope| !grant.scopes.contains(scope)) {
        return Some(Reason::ScopeInsufficient);
    }
    if grant.expires_at.is_none_or(|end| now < end) {
        return None;
    }
    match (grant.refreshable, grant.last_refresh) {
        (false, _) => Some(Reason::Expired),
        (true, Some(RefreshOutcome::InvalidClient)) => Some(Reason::InvalidClient),
        (true, Some(RefreshOutcome::Failed)) => Some(Reason::RefreshFailed),
        (true, _) => None,
    }
}
