//! The caller of a request, once it is authenticated.

use crate::domain::error::Unauthenticated;
use crate::domain::event::Who;
use crate::domain::id::{Sortable, TenantId};
use crate::domain::login::Identity;
use crate::domain::subject::{Actor, Subject};
use crate::domain::time::Timestamp;
use std::collections::BTreeSet;

/// How far the clock of a token's issuer may be off, in seconds.
pub(crate) const LEEWAY: i64 = 60;

/// The authenticated subject of a request, with what it may do under each contract.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The caller's tenant. Nothing outside the tenant exists for the caller.
    pub tenant: TenantId,
    /// The caller's subject, as records name it.
    pub actor: Actor,
    /// E-mail address, for collaborators that are listed by e-mail address.
    pub email: Option<String>,
    /// Username, for collaborators that are listed by username.
    pub username: Option<String>,
    /// TrueFoundry tenant roles.
    pub roles: BTreeSet<String>,
    /// TrueFoundry teams.
    pub teams: BTreeSet<String>,
    /// LangSmith permissions.
    pub permissions: BTreeSet<String>,
    /// Kambrium scopes.
    pub scopes: BTreeSet<String>,
    /// The number of the one connection that the credential is bound to, if it is bound (Kambrium 13).
    pub bound_to: Option<u64>,
    /// Whether the request came with a service key, an API key without an owner (LangSmith 1.1).
    pub is_service_key: bool,
    /// The id of the API key that the request came with, if it came with one.
    pub key: Option<Sortable>,
    /// The login whose token the request came with, if it came with one.
    pub login: Option<Sortable>,
    /// Whether the request came with a token of a connection's own client.
    pub is_client: bool,
    /// The `exp` of the token that the request came with, if it came with one.
    pub token_ends: Option<Timestamp>,
}

impl Caller {
    /// The caller that a person is, by an identity that an identity provider or a login gives.
    pub fn person(tenant: TenantId, identity: Identity) -> Self {
        Self {
            tenant,
            actor: identity.actor(),
            email: identity.email,
            username: identity.username,
            roles: identity.roles,
            teams: identity.teams,
            permissions: identity.permissions,
            scopes: identity.scopes,
            bound_to: None,
            is_service_key: false,
            key: None,
            login: None,
            is_client: false,
            token_ends: None,
        }
    }

    /// Whether the caller administers the tenant (TrueFoundry 2.1).
    pub fn is_tenant_admin(&self) -> bool {
        self.roles.contains("admin")
    }

    /// Whether the caller administers the tenant or manages all its servers.
    pub fn manages_tenant(&self) -> bool {
        self.is_tenant_admin() || self.roles.contains("mcp-server-manager")
    }

    /// The same credential in the place of a subject for whom it may act. Records name the subject, and events the key.
    #[must_use]
    pub(crate) fn acting_as(self, subject: Subject) -> Self {
        Self {
            actor: Actor {
                subject,
                slug: None,
                display_name: None,
                key_label: self.actor.key_label,
            },
            email: None,
            username: None,
            teams: BTreeSet::new(),
            is_service_key: false,
            ..self
        }
    }

    /// The caller's subject.
    pub fn subject(&self) -> &Subject {
        &self.actor.subject
    }

    /// The caller's identity, as logins store it.
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

    /// Refuses a caller whose token has expired.
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
