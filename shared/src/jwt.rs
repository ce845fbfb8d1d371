//! Bearer tokens of one OIDC issuer: signature against its key set, the algorithm given by the key and never by the
//! token, `iss`, `aud`, `exp` and `nbf` checked with 60 s of leeway.

use crate::caller::Caller;
use crate::domain::error::Unauthenticated;
use crate::domain::id::TenantId;
use crate::domain::subject::{Actor, Subject, SubjectType};
use crate::{Error, Result};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tracing::warn;

const LEEWAY_SECONDS: u64 = 60;
/// How long a fetched key set serves before it is fetched again.
const KEYS_LIFETIME: Duration = Duration::from_secs(600);
/// How soon an unknown key id may cause another fetch.
const REFETCH_PAUSE: Duration = Duration::from_secs(30);
/// The largest key set that is read.
const KEYS_LIMIT: usize = 1 << 20;

/// Names of the claims that an operator may rename.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each names the claim it is called after")]
pub struct ClaimNames {
    pub tenant: String,
    pub subject_type: String,
    pub roles: String,
    pub teams: String,
    pub permissions: String,
}

/// Verifies the tokens of one issuer.
pub struct Verifier {
    issuer: String,
    audience: String,
    claims: ClaimNames,
    keys: Keys,
}

enum Keys {
    Fixed(JwkSet),
    Remote {
        url: String,
        client: reqwest::Client,
        fetched: Mutex<Fetched>,
    },
}

/// The key set, and when it was last asked for, whether it came or not.
#[derive(Default)]
struct Fetched {
    set: Option<JwkSet>,
    tried: Option<Instant>,
}

impl Default for ClaimNames {
    fn default() -> Self {
        Self {
            tenant: "tenantName".to_owned(),
            subject_type: "subjectType".to_owned(),
            roles: "roles".to_owned(),
            teams: "teams".to_owned(),
            permissions: "permissions".to_owned(),
        }
    }
}

impl Verifier {
    /// With a key set that is part of the configuration.
    pub fn fixed(issuer: String, audience: String, claims: ClaimNames, keys: JwkSet) -> Self {
        Self {
            issuer,
            audience,
            claims,
            keys: Keys::Fixed(keys),
        }
    }

    /// With the issuer's published key set: https only, no redirects, fetched when first needed and every ten minutes.
    ///
    /// # Errors
    /// [`Error::Internal`] when no HTTP client can be made.
    pub fn remote(
        issuer: String,
        audience: String,
        claims: ClaimNames,
        url: String,
    ) -> Result<Self> {
        let client = reqwest::Client::builder()
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(Duration::from_secs(5))
            .build()
            .map_err(Error::internal)?;
        Ok(Self {
            issuer,
            audience,
            claims,
            keys: Keys::Remote {
                url,
                client,
                fetched: Mutex::default(),
            },
        })
    }

    /// The caller that a token speaks for.
    ///
    /// # Errors
    /// [`Unauthenticated::InvalidToken`], [`Unauthenticated::NoTenant`]; [`Error::Unavailable`] when the key set cannot
    /// be fetched.
    pub async fn verify(&self, token: &str) -> Result<Caller> {
        let header = decode_header(token).map_err(|_| Unauthenticated::InvalidToken)?;
        let kid = header.kid.as_deref().ok_or(Unauthenticated::InvalidToken)?;
        let key = self.key(kid).await?.ok_or(Unauthenticated::InvalidToken)?;
        let algorithm = algorithm(&key).ok_or(Unauthenticated::InvalidToken)?;
        let mut rules = Validation::new(algorithm);
        rules.leeway = LEEWAY_SECONDS;
        rules.validate_nbf = true;
        rules.set_issuer(&[&self.issuer]);
        rules.set_audience(&[&self.audience]);
        rules.set_required_spec_claims(&["exp", "iss", "aud"]);
        let decoding = DecodingKey::from_jwk(&key).map_err(|_| Unauthenticated::InvalidToken)?;
        let claims = decode::<Map<String, Value>>(token, &decoding, &rules)
            .map_err(|_| Unauthenticated::InvalidToken)?
            .claims;
        Ok(caller(&self.claims, &claims)?)
    }

    async fn key(&self, kid: &str) -> Result<Option<Jwk>> {
        let (url, client, fetched) = match &self.keys {
            Keys::Fixed(set) => return Ok(set.find(kid).cloned()),
            Keys::Remote {
                url,
                client,
                fetched,
            } => (url, client, fetched),
        };
        let mut fetched = fetched.lock().await;
        let known = fetched
            .set
            .as_ref()
            .is_some_and(|set| set.find(kid).is_some());
        let wait = if known { KEYS_LIFETIME } else { REFETCH_PAUSE };
        if fetched.tried.is_none_or(|at| at.elapsed() >= wait) {
            fetched.tried = Some(Instant::now());
            match fetch(client, url).await {
                Ok(set) => fetched.set = Some(set),
                // Keys that were good ten minutes ago are better than none while the issuer is away.
                Err(cause) if known => warn!(%cause, "known keys serve on"),
                Err(cause) => return Err(cause),
            }
        }
        let unfetched =
            || Error::Unavailable("the issuer's key set could not be fetched".to_owned());
        let set = fetched.set.as_ref().ok_or_else(unfetched)?;
        Ok(set.find(kid).cloned())
    }
}

async fn fetch(client: &reqwest::Client, url: &str) -> Result<JwkSet> {
    let unusable = |_| Error::Unavailable("the issuer's key set cannot be fetched".to_owned());
    let mut answer = client
        .get(url)
        .send()
        .await
        .and_then(reqwest::Response::error_for_status)
        .map_err(unusable)?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(unusable)? {
        body.extend_from_slice(&chunk);
        if body.len() > KEYS_LIMIT {
            return Err(Error::Unavailable(
                "the issuer's key set is too large".to_owned(),
            ));
        }
    }
    serde_json::from_slice(&body)
        .map_err(|_| Error::Unavailable("the issuer's key set is not one".to_owned()))
}

/// The one algorithm a key may be used with.
fn algorithm(key: &Jwk) -> Option<Algorithm> {
    let by_kind = match &key.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(p) if p.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(p) if p.curve == EllipticCurve::Ed25519 => {
            Algorithm::EdDSA
        }
        _ => return None,
    };
    let stated = key.common.key_algorithm.map(|alg| alg.to_string());
    stated
        .is_none_or(|alg| alg == format!("{by_kind:?}"))
        .then_some(by_kind)
}

/// Reads the claims of a verified token (TrueFoundry 2.2, Kambrium 11 and 13).
fn caller(names: &ClaimNames, claims: &Map<String, Value>) -> Result<Caller, Unauthenticated> {
    use Unauthenticated::InvalidToken;
    if claims.get("token_use").is_some_and(|v| v != "access") {
        return Err(InvalidToken);
    }
    let text = |name: &str| {
        claims
            .get(name)
            .and_then(Value::as_str)
            .filter(|s| !s.is_empty())
    };
    let list = |name: &str| -> BTreeSet<String> {
        claims
            .get(name)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    };
    let kind = match claims.get(&names.subject_type).map(Value::as_str) {
        None => SubjectType::User,
        Some(Some("user")) => SubjectType::User,
        Some(Some("virtualaccount" | "serviceaccount")) => SubjectType::VirtualAccount,
        Some(_) => return Err(InvalidToken),
    };
    let subject = text("sub")
        .or_else(|| text("client_id"))
        .and_then(|id| Subject::new(kind, id))
        .ok_or(InvalidToken)?;
    let bound_to = match claims.get("mcp_server_id") {
        None => None,
        Some(id) => Some(id.as_u64().ok_or(InvalidToken)?),
    };
    let tenant = text(&names.tenant)
        .and_then(TenantId::parse)
        .ok_or(Unauthenticated::NoTenant)?;
    // An address that its issuer does not vouch for makes nobody a collaborator, nor does a name in its place.
    let vouched = claims.get("email_verified").is_none_or(|v| v != false);
    let text = |name: &str| text(name).filter(|_| vouched || !matches!(name, "email" | "username"));
    let (email, username) = (
        text("email").map(str::to_owned),
        text("username").map(str::to_owned),
    );
    let scopes = text("scope")
        .into_iter()
        .flat_map(str::split_whitespace)
        .map(str::to_owned)
        .chain(list("scopes"));
    Ok(Caller {
        tenant,
        actor: Actor {
            subject,
            slug: email.clone().or_else(|| username.clone()),
            display_name: text("name").map(str::to_owned),
            key_label: None,
        },
        email,
        username,
        roles: list(&names.roles),
        teams: list(&names.teams),
        permissions: list(&names.permissions),
        // Issuers prefix scopes by the resource server: only what follows the last slash counts.
        scopes: scopes
            .map(|scope| scope.rsplit('/').next().unwrap_or_default().to_owned())
            .collect(),
        bound_to,
    })
}
