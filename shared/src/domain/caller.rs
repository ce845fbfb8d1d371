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
    /// A person, as an identity provider or a login says who they are.
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
    pub fn acting_as(self, subject: Subject) -> Self {
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
