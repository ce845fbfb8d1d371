//! A login: what a person has allowed an application to do in their name, from the day on which they allowed it until it
//! ends. Its item stands behind every token that was issued for it, so a login that has ended ends them all.

use super::id::{Sortable, TenantId, is_same_secret};
use super::sealed::SealedSecret;
use super::subject::{Actor, Subject};
use super::time::Timestamp;
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How long an authorization code serves, in seconds (Inbound 2.21).
pub const CODE_LIFETIME: i64 = 60;
/// How long a login stands that is not refreshed, in seconds (Inbound 2.28).
pub const IDLE_LIFETIME: i64 = 30 * 24 * 3600;
/// How long roles count after the identity provider last vouched for them, in seconds (Inbound 2.27).
pub const ROLES_LIFETIME: i64 = 24 * 3600;
/// How long the previous refresh token gets the same answer again, in seconds
/// (docs/decisions/0033-a-refresh-is-answered-again-for-a-minute.md).
pub const REPEAT_WINDOW: i64 = 60;
/// How long the item of a code or a login stays in the table after its end, in seconds, unless it is removed before.
pub const KEPT_AFTER_END: i64 = 24 * 3600;

/// A person, as the identity provider has vouched for them: the same claims that API tokens carry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The person's subject.
    pub subject: Subject,
    /// E-mail address, if the provider vouches for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Username.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// TrueFoundry tenant roles.
    #[serde(default)]
    pub roles: BTreeSet<String>,
    /// TrueFoundry teams.
    #[serde(default)]
    pub teams: BTreeSet<String>,
    /// LangSmith permissions.
    #[serde(default)]
    pub permissions: BTreeSet<String>,
    /// Kambrium scopes.
    #[serde(default)]
    pub scopes: BTreeSet<String>,
}

impl Identity {
    /// The person as records name them.
    pub fn actor(&self) -> Actor {
        Actor {
            subject: self.subject.clone(),
            slug: self.email.clone().or_else(|| self.username.clone()),
            display_name: self.display_name.clone(),
            key_label: None,
        }
    }

    /// The same person without any role, team, permission or scope.
    #[must_use]
    pub fn without_roles(self) -> Self {
        Self {
            roles: BTreeSet::new(),
            teams: BTreeSet::new(),
            permissions: BTreeSet::new(),
            scopes: BTreeSet::new(),
            ..self
        }
    }
}

/// An application as it was shown to the person who allowed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowedApplication {
    /// Its `client_id`.
    pub client_id: String,
    /// The name that the application gives itself, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The host that the browser was sent back to.
    pub redirect_host: String,
}

/// What was allowed: to whom, by whom, for what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// The person.
    pub identity: Identity,
    /// The application.
    pub application: AllowedApplication,
    /// The base URL of the deployment where it was allowed: `iss` of the tokens.
    pub issuer: String,
    /// The resources that the tokens may be for (RFC 8707), at least one.
    pub resources: Vec<String>,
    /// The scopes that were allowed.
    #[serde(default)]
    pub scopes: BTreeSet<String>,
    /// When the identity provider has last vouched for the person.
    pub vouched_at: Timestamp,
    /// How often the person had been offboarded when they signed in: an offboarding since then voids the approval.
    pub offboardings: u64,
    /// The provider's refresh token, with which Hawser asks again about the person; `None` if the provider gave none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_token: Option<SealedSecret>,
    /// The provider that gave it, by its issuer. It is shown to no other; `None` in logins of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
}

/// The PKCE challenge of an authorization request, by the method `S256`. No other is accepted (RFC 7636 4.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CodeChallenge(String);

impl CodeChallenge {
    /// Reads a challenge: the base64url of 32 bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
        (bytes.len() == 32).then(|| Self(text.to_owned()))
    }

    /// Whether it was made from this verifier, which has 43 to 128 unreserved characters (RFC 7636 4.1).
    pub fn is_met_by(&self, verifier: &str) -> bool {
        let is_unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
        let is_verifier =
            (43..=128).contains(&verifier.len()) && verifier.bytes().all(is_unreserved);
        let made = BASE64URL_NOPAD.encode(digest(&SHA256, verifier.as_bytes()).as_ref());
        is_verifier && is_same_secret(&made, &self.0)
    }
}

impl Approval {
    /// The person's identity at this instant: without roles where the provider has not vouched for them lately.
    pub fn identity_at(&self, now: Timestamp) -> Identity {
        let identity = self.identity.clone();
        if now < self.vouched_at.plus_seconds(ROLES_LIFETIME) {
            identity
        } else {
            identity.without_roles()
        }
    }
}

/// An authorization code, known by the SHA-256 of its text. It becomes one login.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuthorizationCode {
    /// SHA-256 of the code, lower-case hexadecimal.
    pub hash: String,
    /// The tenant.
    pub tenant: TenantId,
    /// The id of the login that it becomes.
    pub login: Sortable,
    /// What was allowed; without the provider's token once the code is used.
    pub approval: Approval,
    /// The redirect URI, byte for byte as the application sent it.
    pub redirect_uri: String,
    /// The challenge that the application's verifier has to meet.
    pub code_challenge: CodeChallenge,
    /// When the code expires.
    pub ends_at: Timestamp,
    /// When it was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_at: Option<Timestamp>,
    /// When DynamoDB may remove the item, in seconds since the epoch.
    pub ttl: i64,
}

/// The refresh token before the current one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousToken {
    /// SHA-256 of the refresh token.
    pub hash: String,
    /// When the current refresh token replaced it.
    pub replaced_at: Timestamp,
    /// The number of the tenant key that the current refresh token is derived with.
    pub tenant_key: u32,
}

/// A login. It stands as long as its item does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Login {
    /// The login's id.
    pub id: Sortable,
    /// The tenant.
    pub tenant: TenantId,
    /// What was allowed.
    pub approval: Approval,
    /// When the login began.
    pub created_at: Timestamp,
    /// When the application last got tokens for it.
    pub refreshed_at: Timestamp,
    /// SHA-256 of the part that all refresh tokens of the login share. Whoever knows that part has had one of them.
    pub family_hash: String,
    /// SHA-256 of the current refresh token. It changes with every refresh, so it is also the version of the item.
    pub refresh_hash: String,
    /// The refresh token before the current one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousToken>,
    /// The lease of the process that asks the identity provider for this login. It is taken with a refresh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Sortable>,
    /// When DynamoDB may remove the item, in seconds since the epoch.
    pub ttl: i64,
}

impl Login {
    /// The subject whose login it is.
    pub const fn subject(&self) -> &Subject {
        &self.approval.identity.subject
    }

    /// When the login expires unless it is refreshed.
    pub const fn ends_at(&self) -> Timestamp {
        self.refreshed_at.plus_seconds(IDLE_LIFETIME)
    }

    /// Whether the login has expired.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.ends_at() <= now
    }

    /// The [`Self::ttl`] of a login that was refreshed at this instant.
    pub const fn ttl_from(refreshed_at: Timestamp) -> i64 {
        refreshed_at
            .plus_seconds(IDLE_LIFETIME + KEPT_AFTER_END)
            .seconds()
    }
}

/// Why a login ended before it expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoginEnd {
    /// Its subject or an admin ended it.
    Removed,
    /// Its application revoked one of its tokens.
    Revoked,
    /// Its subject was offboarded.
    Offboarded,
    /// A refresh token was used again.
    RefreshTokenReused,
    /// Its authorization code was used again.
    CodeReused,
    /// The identity provider no longer vouches for its subject.
    NotVouched,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_met_by_its_verifier_alone() {
        // RFC 7636, appendix B.
        let challenge =
            CodeChallenge::parse("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM").unwrap();
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert!(challenge.is_met_by(verifier));
        for other in [
            "",
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
            &verifier[1..],
            &format!("{verifier}A"),
        ] {
            assert!(!challenge.is_met_by(other), "{other}");
        }
        // Made from a verifier that is too short.
        let short = BASE64URL_NOPAD.encode(digest(&SHA256, b"short").as_ref());
        assert!(!CodeChallenge::parse(&short).unwrap().is_met_by("short"));
        for text in [
            "",
            "plain",
            verifier.trim_end_matches('k'),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw+cM",
        ] {
            assert_eq!(CodeChallenge::parse(text), None, "{text}");
        }
    }
}
