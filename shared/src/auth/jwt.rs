//! Bearer tokens of one OIDC issuer. The signature is checked with the issuer's key set, by the algorithm of the key
//! and never that of the token. `iss`, `aud`, `exp` and `nbf` are checked with 60 s of leeway.

use crate::domain::caller::{Caller, LEEWAY};
use crate::domain::error::Unauthenticated;
use crate::domain::id::TenantId;
use crate::domain::subject::{Actor, Subject, SubjectType};
use crate::domain::time::Timestamp;
use crate::{Error, Result, trust_anchors};
use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tracing::warn;
use url::{Host, Url};

/// How long a fetched key set is used before it is fetched again.
const KEYS_LIFETIME: Duration = Duration::from_secs(600);
/// How long a key set is used at most if it cannot be fetched again.
const KEYS_LAST: Duration = Duration::from_secs(3600);
/// The shortest time between fetches because of an unknown key id, or after a failed fetch.
const REFETCH_PAUSE: Duration = Duration::from_secs(5);
/// The largest key set that is read, in bytes.
const KEYS_LIMIT: usize = 1 << 20;

/// Names of the claims that tokens are read by. A name with dots that is no claim itself is a path into objects, such
/// as `realm_access.roles`.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each names the claim it is called after")]
pub struct ClaimNames {
    pub tenant: String,
    pub subject: String,
    pub subject_type: String,
    pub roles: String,
    pub teams: String,
    pub permissions: String,
    pub scopes: String,
    pub email: String,
    pub username: String,
    pub name: String,
}

impl ClaimNames {
    /// The place of a claim's name, by its name in settings, in lower case; `None` if settings have no such name.
    pub fn named(&mut self, name: &str) -> Option<&mut String> {
        Some(match name {
            "tenant" => &mut self.tenant,
            "subject" => &mut self.subject,
            "subject_type" => &mut self.subject_type,
            "roles" => &mut self.roles,
            "teams" => &mut self.teams,
            "permissions" => &mut self.permissions,
            "scopes" => &mut self.scopes,
            "email" => &mut self.email,
            "username" => &mut self.username,
            "name" => &mut self.name,
            _ => return None,
        })
    }
}

/// Whose tokens are accepted.
#[derive(Clone, Debug)]
pub struct TokenConfig {
    /// The `iss` that every token must have.
    pub issuer: String,
    /// The accepted values of `aud`: `HAWSER_JWT_AUDIENCE`, separated by commas.
    pub audiences: Vec<String>,
    /// `HAWSER_AUDIENCE_BY_CLIENT_ID` (`yes`): the `client_id` of a token without `aud` counts as its audience.
    pub audience_by_client_id: bool,
    /// The key set.
    pub keys: KeySet,
    /// `HAWSER_CLAIM_TENANT` (`tenantName`), `_SUBJECT` (`sub`), `_SUBJECT_TYPE` (`subjectType`), `_ROLES` (`roles`),
    /// `_TEAMS` (`teams`), `_PERMISSIONS` (`permissions`), `_SCOPES` (`scope`), `_EMAIL` (`email`), `_USERNAME`
    /// (`username`), `_NAME` (`name`).
    pub claims: ClaimNames,
    /// `HAWSER_DEFAULT_TENANT`: the tenant of tokens that name none (default: they are refused).
    pub default_tenant: Option<TenantId>,
}

/// Where the key set is.
#[derive(Clone, Debug)]
pub enum KeySet {
    /// At an https URL.
    Url(String),
    /// In the configuration itself.
    Inline(JwkSet),
    /// Where the issuer's metadata says.
    Discovered,
}

/// Verifies the tokens of one issuer.
pub struct Verifier {
    config: TokenConfig,
    /// `None` if the key set is part of the configuration.
    remote: Option<Remote>,
}

struct Remote {
    client: reqwest::Client,
    fetched: Mutex<Fetched>,
}

/// The key set, when it was received, and when it was last requested.
#[derive(Default)]
struct Fetched {
    set: Option<JwkSet>,
    came: Option<Instant>,
    tried: Option<Instant>,
}

impl Default for ClaimNames {
    fn default() -> Self {
        Self {
            tenant: "tenantName".to_owned(),
            subject: "sub".to_owned(),
            subject_type: "subjectType".to_owned(),
            roles: "roles".to_owned(),
            teams: "teams".to_owned(),
            permissions: "permissions".to_owned(),
            scopes: "scope".to_owned(),
            email: "email".to_owned(),
            username: "username".to_owned(),
            name: "name".to_owned(),
        }
    }
}

impl Verifier {
    /// A verifier. A key set that is not part of the configuration is fetched when first needed and every ten minutes,
    /// without redirects, over https only, or also over http on loopback where that is allowed.
    ///
    /// # Errors
    /// [`Error::Internal`] when no HTTP client can be made.
    pub fn new(config: TokenConfig, allow_loopback_http: bool) -> Result<Self> {
        let remote = match &config.keys {
            KeySet::Inline(_) => None,
            KeySet::Url(_) | KeySet::Discovered => Some(Remote {
                client: trust_anchors::http_client(allow_loopback_http)?
                    .https_only(!allow_loopback_http)
                    .redirect(reqwest::redirect::Policy::none())
                    .no_proxy()
                    .timeout(Duration::from_secs(5))
                    .build()
                    .map_err(Error::internal)?,
                fetched: Mutex::default(),
            }),
        };
        Ok(Self { config, remote })
    }

    /// The verifier of the issuer that a token names; `None` if no issuer is configured by that name.
    pub fn of<'a>(all: &'a [Self], token: &str) -> Option<&'a Self> {
        let payload = token.split('.').nth(1)?;
        let payload = BASE64URL_NOPAD.decode(payload.as_bytes()).ok()?;
        let claims: Value = serde_json::from_slice(&payload).ok()?;
        all.iter().find(|one| {
            claims
                .get("iss")
                .is_some_and(|iss| *iss == one.config.issuer)
        })
    }

    /// Verifies a token and returns its caller.
    ///
    /// # Errors
    /// [`Unauthenticated::InvalidToken`], [`Unauthenticated::Expired`], [`Unauthenticated::NoTenant`];
    /// [`Error::Unavailable`] when the key set cannot be fetched.
    pub async fn verify(&self, token: &str, now: Timestamp) -> Result<Caller> {
        self.verify_for(token, &[], now).await
    }

    /// [`Self::verify`] for a token whose audience may also be one of these resources (Inbound 1).
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub async fn verify_for(
        &self,
        token: &str,
        resources: &[String],
        now: Timestamp,
    ) -> Result<Caller> {
        let claims = self.claims(token).await?;
        if !self.config.is_meant(&claims, resources) {
            return Err(Unauthenticated::InvalidToken.into());
        }
        let caller = caller(&self.config, &claims, "access")?;
        caller.check_end(now)?;
        Ok(caller)
    }

    /// Verifies the ID token that answers a request with this nonce, and returns the person (OpenID Connect Core 1.0,
    /// 3.1.3.7). The configured audiences must be the client that made the request.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub async fn verify_id_token(
        &self,
        token: &str,
        nonce: Option<&str>,
        now: Timestamp,
    ) -> Result<Caller> {
        let claims = self.claims(token).await?;
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let is_ours = |id: &str| self.config.audiences.iter().any(|one| one == id);
        // A token that was issued to another client (`azp`) is not accepted from this one.
        let presented = text("azp").is_none_or(is_ours);
        let answers = nonce.is_none_or(|nonce| text("nonce") == Some(nonce));
        if !(self.config.is_meant(&claims, &[]) && presented && answers) {
            return Err(Unauthenticated::InvalidToken.into());
        }
        let caller = caller(&self.config, &claims, "id")?;
        caller.check_end(now)?;
        Ok(caller)
    }

    /// The claims of a token with a valid signature, issuer and `nbf`. Audience and `exp` are not checked yet.
    async fn claims(&self, token: &str) -> Result<Map<String, Value>> {
        let header = decode_header(token).map_err(|_| Unauthenticated::InvalidToken)?;
        if !is_plain_token(&header) {
            return Err(Unauthenticated::InvalidToken.into());
        }
        let kid = header.kid.as_deref().ok_or(Unauthenticated::InvalidToken)?;
        let key = self.key(kid).await?.ok_or(Unauthenticated::InvalidToken)?;
        let algorithm = algorithm(&key).ok_or(Unauthenticated::InvalidToken)?;
        let mut rules = Validation::new(algorithm);
        rules.leeway = LEEWAY.unsigned_abs();
        rules.validate_nbf = true;
        // Checked later by [`Caller::check_end`], so that the holder of a token that was valid is told when it expired.
        rules.validate_exp = false;
        rules.set_issuer(&[&self.config.issuer]);
        // Checked by [`TokenConfig::is_meant`]: not every issuer sets an audience.
        rules.validate_aud = false;
        rules.set_required_spec_claims(&["exp", "iss"]);
        let decoding = DecodingKey::from_jwk(&key).map_err(|_| Unauthenticated::InvalidToken)?;
        let decoded = decode::<Map<String, Value>>(token, &decoding, &rules);
        let decoded = decoded.map_err(|_| Unauthenticated::InvalidToken)?;
        Ok(decoded.claims)
    }

    async fn key(&self, kid: &str) -> Result<Option<Jwk>> {
        let (keys, remote) = match (&self.config.keys, &self.remote) {
            (KeySet::Inline(set), _) => return Ok(set.find(kid).cloned()),
            (_, None) => return Err(Error::internal("there is no client for the key set")),
            (keys, Some(remote)) => (keys, remote),
        };
        let Remote { client, fetched } = remote;
        let mut fetched = fetched.lock().await;
        let known = fetched
            .set
            .as_ref()
            .is_some_and(|set| set.find(kid).is_some());
        let fresh = fetched.came.is_some_and(|at| at.elapsed() < KEYS_LIFETIME);
        let tried = fetched.tried.is_some_and(|at| at.elapsed() < REFETCH_PAUSE);
        if !(known && fresh || tried) {
            fetched.tried = Some(Instant::now());
            let set = match keys {
                KeySet::Url(url) => fetch(client, url).await,
                _ => discover(client, &self.config.issuer).await,
            };
            match set {
                Ok(set) => {
                    fetched.set = Some(set);
                    fetched.came = fetched.tried;
                }
                Err(cause) => warn!(%cause, "using the cached key set"),
            }
        }
        // An old key set is better than none while the issuer does not answer, but not for ever.
        if fetched.came.is_none_or(|at| at.elapsed() > KEYS_LAST) {
            fetched.set = None;
        }
        let unfetched =
            || Error::Unavailable("the issuer's key set could not be fetched".to_owned());
        let set = fetched.set.as_ref().ok_or_else(unfetched)?;
        Ok(set.find(kid).cloned())
    }
}

/// The key set that an issuer's metadata names (OpenID Connect Discovery 1.0, section 4).
async fn discover(client: &reqwest::Client, issuer: &str) -> Result<JwkSet> {
    #[derive(Deserialize)]
    struct Metadata {
        issuer: String,
        jwks_uri: String,
    }
    let base = issuer.trim_end_matches('/');
    let url = format!("{base}/.well-known/openid-configuration");
    let metadata: Metadata = fetch(client, &url).await?;
    // OpenID Connect Discovery 4.3: metadata of another issuer says nothing about this one.
    if metadata.issuer != issuer {
        let cause = "the issuer's metadata names another issuer";
        return Err(Error::Unavailable(cause.to_owned()));
    }
    fetch(client, &metadata.jwks_uri).await
}

async fn fetch<T: DeserializeOwned>(client: &reqwest::Client, url: &str) -> Result<T> {
    let failed = |what: &str| Error::Unavailable(format!("the issuer's key set {what}"));
    let parsed = Url::parse(url).map_err(|_| failed("has no address"))?;
    let is_loopback = match parsed.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    // The HTTP client refuses http as well, where loopback is not allowed.
    if parsed.scheme() != "https" && !is_loopback {
        return Err(failed("is not at an https address"));
    }
    let unusable = |_| failed("cannot be fetched");
    let mut answer = client
        .get(parsed)
        .send()
        .await
        .and_then(reqwest::Response::error_for_status)
        .map_err(unusable)?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(unusable)? {
        body.extend_from_slice(&chunk);
        if body.len() > KEYS_LIMIT {
            return Err(failed("is too large"));
        }
    }
    serde_json::from_slice(&body).map_err(|_| failed("cannot be parsed"))
}

impl TokenConfig {
    /// Whether a token is meant for this deployment: by its audience, or, without one and if the operator allows it, by
    /// its client.
    fn is_meant(&self, claims: &Map<String, Value>, resources: &[String]) -> bool {
        let is_one_of = |all: &[String], value: &Value| {
            let text = value.as_str();
            text.is_some_and(|text| all.iter().any(|one| one == text))
        };
        let is_configured = |value: &Value| is_one_of(&self.audiences, value);
        let is_ours = |value: &Value| is_configured(value) || is_one_of(resources, value);
        match claims.get("aud") {
            Some(Value::Array(all)) => all.iter().any(is_ours),
            Some(one) => is_ours(one),
            None => {
                self.audience_by_client_id && claims.get("client_id").is_some_and(is_configured)
            }
        }
    }
}

/// The value of the claim with this name, or at this path.
fn claim<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    claims.get(name).or_else(|| {
        let (first, rest) = name.split_once('.')?;
        rest.split('.')
            .try_fold(claims.get(first)?, |value, part| value.get(part))
    })
}

/// Whether a token's header is that of a plain access token. An extension that must be understood is refused, as none
/// is implemented (RFC 7515 4.1.11). So is any other type of token, such as a logout token: it was not issued to
/// authenticate calls (RFC 8725 3.11, RFC 9068 2.1).
pub(crate) fn is_plain_token(header: &Header) -> bool {
    let kind = header.typ.as_deref().unwrap_or("JWT").to_ascii_lowercase();
    let kind = kind.strip_prefix("application/").unwrap_or(&kind);
    header.crit.is_none() && matches!(kind, "jwt" | "at+jwt")
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
fn caller(
    config: &TokenConfig,
    claims: &Map<String, Value>,
    token_use: &str,
) -> Result<Caller, Unauthenticated> {
    use Unauthenticated::InvalidToken;
    if claims.get("token_use").is_some_and(|v| v != token_use) {
        return Err(InvalidToken);
    }
    let names = &config.claims;
    let text = |name: &str| {
        claim(claims, name)
            .and_then(Value::as_str)
            .filter(|s| !s.is_empty())
    };
    let list = |name: &str| -> BTreeSet<String> {
        claim(claims, name)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    };
    let kind = match claim(claims, &names.subject_type).map(Value::as_str) {
        None => SubjectType::User,
        Some(Some("user")) => SubjectType::User,
        Some(Some("virtualaccount" | "serviceaccount")) => SubjectType::VirtualAccount,
        Some(_) => return Err(InvalidToken),
    };
    let bound_to = match claims.get("mcp_server_id") {
        None => None,
        Some(id) => Some(id.as_u64().ok_or(InvalidToken)?),
    };
    let ends = claims.get("exp").and_then(Value::as_f64);
    let ends = Timestamp::from_micros(0).plus_seconds(ends.ok_or(InvalidToken)? as i64);
    let stated = text(&names.tenant).map(TenantId::parse);
    let tenant = stated
        .unwrap_or_else(|| config.default_tenant.clone())
        .ok_or(Unauthenticated::NoTenant)?;
    // An e-mail address that the issuer has not verified makes nobody a collaborator, nor does a username.
    let vouched = match claims.get("email_verified") {
        None => true,
        // Some issuers write it as text.
        Some(said) => *said == true || said == "true",
    };
    let vouched_for = |name: &str| {
        let is_address = *name == names.email || *name == names.username;
        text(name).filter(|_| vouched || !is_address)
    };
    let client = text("client_id").filter(|_| names.subject == "sub");
    let subject = vouched_for(&names.subject)
        .or(client)
        .and_then(|id| Subject::new(kind, id))
        .ok_or(InvalidToken)?;
    let (email, username) = (
        vouched_for(&names.email).map(str::to_owned),
        vouched_for(&names.username).map(str::to_owned),
    );
    let scopes = text(&names.scopes)
        .into_iter()
        .flat_map(str::split_whitespace)
        .map(str::to_owned)
        .chain(list(&names.scopes))
        .chain(list("scopes"));
    Ok(Caller {
        tenant,
        actor: Actor {
            subject,
            slug: email.clone().or_else(|| username.clone()),
            display_name: text(&names.name).map(str::to_owned),
            key_label: None,
        },
        email,
        username,
        roles: list(&names.roles),
        teams: list(&names.teams),
        permissions: list(&names.permissions),
        // Some issuers prefix scopes with the resource server. Only what follows the last slash counts.
        scopes: scopes
            .map(|scope| scope.rsplit('/').next().unwrap_or_default().to_owned())
            .collect(),
        bound_to,
        is_service_key: false,
        key: None,
        login: None,
        is_client: false,
        token_ends: Some(ends),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Clock;
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair,
    };
    use jsonwebtoken::{EncodingKey, encode};
    use serde_json::json;

    /// A signing key for each accepted algorithm.
    fn keys() -> Vec<(Algorithm, EncodingKey)> {
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048)
            .unwrap()
            .as_der()
            .unwrap();
        let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .unwrap()
            .to_pkcs8v1()
            .unwrap();
        let ed = Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap();
        vec![
            // The RSA key itself begins behind the 26 bytes that PKCS #8 puts before a key of this size.
            (
                Algorithm::RS256,
                EncodingKey::from_rsa_der(&rsa.as_ref()[26..]),
            ),
            (Algorithm::ES256, EncodingKey::from_ec_der(ec.as_ref())),
            (Algorithm::EdDSA, EncodingKey::from_ed_der(ed.as_ref())),
        ]
    }

    fn published(key: &EncodingKey, alg: Algorithm, states_algorithm: bool) -> Jwk {
        let mut jwk = Jwk::from_encoding_key(key, alg).unwrap();
        jwk.common.key_id = Some(format!("{alg:?}"));
        if !states_algorithm {
            jwk.common.key_algorithm = None;
        }
        jwk
    }

    fn verifier(keys: Vec<Jwk>) -> Verifier {
        let config = TokenConfig {
            issuer: "https://issuer.example".to_owned(),
            audiences: vec!["hawser".to_owned()],
            audience_by_client_id: false,
            keys: KeySet::Inline(JwkSet { keys }),
            claims: ClaimNames::default(),
            default_tenant: None,
        };
        Verifier::new(config, false).unwrap()
    }

    fn claims() -> Value {
        let end = jsonwebtoken::get_current_timestamp() + 600;
        json!({"iss": "https://issuer.example", "aud": "hawser", "exp": end, "sub": "ada", "tenantName": "acme"})
    }

    fn token(alg: Algorithm, kid: &str, key: &EncodingKey, claims: &Value) -> String {
        encode(
            &Header {
                kid: Some(kid.to_owned()),
                ..Header::new(alg)
            },
            claims,
            key,
        )
        .unwrap()
    }

    #[tokio::test]
    async fn each_algorithm_is_accepted_from_a_key_of_its_kind_and_from_no_other() {
        let keys = keys();
        for states_algorithm in [true, false] {
            let set = keys
                .iter()
                .map(|(alg, key)| published(key, *alg, states_algorithm))
                .collect();
            let verifier = verifier(set);
            for (alg, key) in &keys {
                for (named, _) in &keys {
                    let text = token(*alg, &format!("{named:?}"), key, &claims());
                    let verified = verifier.verify(&text, Clock::System.now()).await;
                    assert_eq!(
                        verified.is_ok(),
                        alg == named,
                        "{alg:?} under the key id of {named:?}"
                    );
                }
            }
        }
    }

    #[tokio::test]
    async fn a_token_cannot_choose_its_algorithm() {
        let keys = keys();
        let (alg, key) = &keys[0];
        let jwk = published(key, *alg, true);
        let verifier = verifier(vec![jwk.clone()]);
        // The public key, used as the secret of a symmetric signature.
        let AlgorithmParameters::RSA(rsa) = &jwk.algorithm else {
            panic!("not RSA")
        };
        let public = EncodingKey::from_secret(rsa.n.as_bytes());
        let forged = token(Algorithm::HS256, "RS256", &public, &claims());
        assert!(verifier.verify(&forged, Clock::System.now()).await.is_err());
        let other_hash = token(Algorithm::RS512, "RS256", key, &claims());
        assert!(
            verifier
                .verify(&other_hash, Clock::System.now())
                .await
                .is_err()
        );
        let genuine = token(*alg, "RS256", key, &claims());
        let (_, rest) = genuine.split_once('.').unwrap();
        let unsigned = BASE64URL_NOPAD.encode(br#"{"alg":"none","kid":"RS256"}"#);
        assert!(
            verifier
                .verify(&format!("{unsigned}.{rest}"), Clock::System.now())
                .await
                .is_err()
        );
        assert!(
            verifier
                .verify(&genuine[..genuine.len() - 4], Clock::System.now())
                .await
                .is_err()
        );
        assert!(verifier.verify(&genuine, Clock::System.now()).await.is_ok());
    }

    #[tokio::test]
    async fn every_claim_that_is_required_is_checked() {
        let keys = keys();
        let (alg, key) = &keys[1];
        let verifier = verifier(vec![published(key, *alg, true)]);
        let now = jsonwebtoken::get_current_timestamp();
        let cases = [
            ("iss", json!("https://other.example"), false),
            ("iss", Value::Null, false),
            ("aud", json!("other"), false),
            ("aud", json!(["other", "hawser"]), true),
            ("aud", Value::Null, false),
            ("exp", json!(now - 30), true),
            ("exp", json!(now - 90), false),
            ("exp", Value::Null, false),
            ("exp", json!("9999999999"), false),
            ("exp", json!(1e12), true),
            ("exp", json!(-1e300), false),
            ("nbf", json!(now + 30), true),
            ("nbf", json!(now + 90), false),
            ("token_use", json!("id"), false),
            ("token_use", json!("access"), true),
            ("sub", Value::Null, false),
            ("sub", json!("a\u{0}b"), false),
            ("tenantName", json!(["acme"]), false),
            ("mcp_server_id", json!("1"), false),
        ];
        for (name, value, accepted) in cases {
            let mut claims = claims();
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value.clone();
            }
            let verified = verifier
                .verify(&token(*alg, "ES256", key, &claims), Clock::System.now())
                .await;
            assert_eq!(verified.is_ok(), accepted, "{name} = {value}");
        }
        assert!(
            verifier
                .verify(&token(*alg, "unknown", key, &claims()), Clock::System.now())
                .await
                .is_err()
        );
        let without_id = encode(&Header::new(*alg), &claims(), key).unwrap();
        assert!(
            verifier
                .verify(&without_id, Clock::System.now())
                .await
                .is_err()
        );
    }

    #[tokio::test]
    async fn a_header_that_asks_for_more_or_is_of_another_type_is_refused() {
        let keys = keys();
        let (alg, key) = &keys[1];
        let verifier = verifier(vec![published(key, *alg, true)]);
        let cases = [
            (json!({}), true),
            (json!({"typ": "JWT"}), true),
            (json!({"typ": "jwt"}), true),
            (json!({"typ": "at+jwt"}), true),
            (json!({"typ": "application/at+JWT"}), true),
            (json!({"typ": "logout+jwt"}), false),
            (json!({"typ": "dpop+jwt"}), false),
            (json!({"typ": "application/secevent+jwt"}), false),
            (json!({"typ": ""}), false),
            (json!({"typ": 1}), false),
            (json!({"crit": ["b64"], "b64": false}), false),
            (json!({"crit": ["exp"]}), false),
            (json!({"crit": []}), false),
            (json!({"crit": "exp"}), false),
            (json!({"b64": true, "x": [1]}), true),
        ];
        for (more, accepted) in cases {
            let mut header = json!({"alg": "ES256", "kid": "ES256"});
            for (name, value) in more.as_object().unwrap() {
                header[name] = value.clone();
            }
            let part = |json: &Value| BASE64URL_NOPAD.encode(json.to_string().as_bytes());
            let signed = format!("{}.{}", part(&header), part(&claims()));
            let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), key, *alg).unwrap();
            let verified = verifier
                .verify(&format!("{signed}.{signature}"), Clock::System.now())
                .await;
            assert_eq!(verified.is_ok(), accepted, "{header}");
        }
    }

    #[tokio::test]
    async fn an_address_counts_where_its_issuer_vouches_and_nothing_else_does() {
        let keys = keys();
        let (alg, key) = &keys[1];
        let verifier = verifier(vec![published(key, *alg, true)]);
        let cases = [
            (None, true),
            (Some(json!(true)), true),
            (Some(json!("true")), true),
            (Some(json!(false)), false),
            (Some(json!("false")), false),
            (Some(json!("False")), false),
            (Some(json!("TRUE")), false),
            (Some(json!("yes")), false),
            (Some(json!("")), false),
            (Some(json!(1)), false),
            (Some(json!(null)), false),
            (Some(json!([true])), false),
            (Some(json!({"true": true})), false),
        ];
        for (said, counts) in cases {
            let mut claims = claims();
            claims["email"] = json!("ada@acme.example");
            claims["username"] = json!("ada@acme.example");
            if let Some(said) = &said {
                claims["email_verified"] = said.clone();
            }
            let caller = verifier
                .verify(&token(*alg, "ES256", key, &claims), Clock::System.now())
                .await
                .unwrap();
            assert_eq!(caller.email.is_some(), counts, "{said:?}");
            assert_eq!(caller.username.is_some(), counts, "{said:?}");
        }
    }

    #[tokio::test]
    async fn claims_that_come_as_text_grant_nothing() {
        let keys = keys();
        let (alg, key) = &keys[1];
        let verifier = verifier(vec![published(key, *alg, true)]);
        let verify = async |more: Value| {
            let mut claims = claims();
            for (name, value) in more.as_object().unwrap() {
                claims[name] = value.clone();
            }
            let text = token(*alg, "ES256", key, &claims);
            verifier.verify(&text, Clock::System.now()).await
        };
        let texts = json!({"roles": "admin", "teams": "core", "permissions": "mcp-servers:create",
                           "scopes": "mgmt.admin"});
        let caller = verify(texts).await.unwrap();
        assert!(caller.roles.is_empty() && caller.teams.is_empty());
        assert!(caller.permissions.is_empty() && caller.scopes.is_empty());
        for refused in [
            json!({"nbf": "1"}),
            json!({"exp": "99999999999"}),
            json!({"mcp_server_id": "1"}),
            json!({"mcp_server_id": true}),
            json!({"token_use": true}),
            json!({"token_use": ["access"]}),
            json!({"subjectType": ["user"]}),
            json!({"subjectType": true}),
        ] {
            assert!(verify(refused.clone()).await.is_err(), "{refused}");
        }
    }

    #[tokio::test]
    async fn scopes_come_from_both_claims_and_lose_their_prefix() {
        let keys = keys();
        let (alg, key) = &keys[2];
        let verifier = verifier(vec![published(key, *alg, true)]);
        let mut claims = claims();
        claims["scope"] = json!("default-m2m-resource-server-x/mgmt.read openid");
        claims["scopes"] = json!(["mgmt.write"]);
        let caller = verifier
            .verify(&token(*alg, "EdDSA", key, &claims), Clock::System.now())
            .await
            .unwrap();
        assert_eq!(
            caller.scopes.into_iter().collect::<Vec<_>>(),
            ["mgmt.read", "mgmt.write", "openid"]
        );
    }

    /// Tokens as providers issue them, with the settings of docs/IDENTITY.md.
    #[tokio::test]
    async fn tokens_of_common_providers_are_read_by_their_settings() {
        let keys = keys();
        let (alg, key) = &keys[0];
        let entra_app = "11111111-2222-3333-4444-555555555555";
        let cases = [
            (
                "Cognito",
                json!({"iss": "https://issuer.example", "client_id": "1example23456789", "sub": "aaaa-bbbb", "token_use": "access",
                       "cognito:groups": ["admin", "mcp-server-manager"], "scope": "openid hawser/mgmt.read", "username": "ada"}),
                "1example23456789",
                vec![("roles", "cognito:groups")],
            ),
            (
                "Entra",
                json!({"iss": "https://issuer.example", "aud": entra_app, "sub": "pairwise", "oid": "aaaa-bbbb", "tid": "t", "ver": "2.0",
                       "roles": ["admin", "mcp-server-manager"], "scp": "mgmt.read", "preferred_username": "ada", "azp": "app"}),
                entra_app,
                vec![
                    ("subject", "oid"),
                    ("scopes", "scp"),
                    ("username", "preferred_username"),
                ],
            ),
            (
                "Okta",
                json!({"iss": "https://issuer.example", "aud": "api://hawser", "sub": "ada", "uid": "aaaa-bbbb", "cid": "app",
                       "groups": ["admin", "mcp-server-manager"], "scp": ["mgmt.read"]}),
                "api://hawser",
                vec![
                    ("subject", "uid"),
                    ("roles", "groups"),
                    ("scopes", "scp"),
                    ("username", "sub"),
                ],
            ),
            (
                "Auth0",
                json!({"iss": "https://issuer.example", "aud": ["https://hawser.example/", "https://acme.auth0.com/userinfo"],
                       "sub": "aaaa-bbbb", "azp": "app", "scope": "openid mgmt.read", "permissions": [],
                       "https://acme.example/roles": ["admin", "mcp-server-manager"], "https://acme.example/username": "ada"}),
                "https://hawser.example/",
                vec![
                    ("roles", "https://acme.example/roles"),
                    ("username", "https://acme.example/username"),
                ],
            ),
            (
                "Keycloak",
                json!({"iss": "https://issuer.example", "aud": ["hawser", "account"], "sub": "aaaa-bbbb", "typ": "Bearer", "azp": "app",
                       "realm_access": {"roles": ["admin", "mcp-server-manager"]}, "scope": "profile mgmt.read",
                       "preferred_username": "ada", "email_verified": true}),
                "hawser",
                vec![
                    ("roles", "realm_access.roles"),
                    ("username", "preferred_username"),
                ],
            ),
        ];
        for (provider, mut claims, audience, renamed) in cases {
            let mut verifier = verifier(vec![published(key, *alg, true)]);
            claims["exp"] = (jsonwebtoken::get_current_timestamp() + 600).into();
            let text = token(*alg, "RS256", key, &claims);
            let verify =
                async |verifier: &Verifier| verifier.verify(&text, Clock::System.now()).await;
            for (name, claim) in renamed {
                *verifier.config.claims.named(name).unwrap() = claim.to_owned();
            }
            assert!(
                verify(&verifier).await.is_err(),
                "{provider}: another audience"
            );
            verifier.config.audiences = vec!["other".to_owned(), audience.to_owned()];
            verifier.config.default_tenant = TenantId::parse("acme");
            let without_aud = claims.get("aud").is_none();
            assert_eq!(verify(&verifier).await.is_err(), without_aud, "{provider}");
            verifier.config.audience_by_client_id = true;
            let caller = verify(&verifier).await.unwrap();
            let roles: Vec<_> = caller.roles.iter().map(String::as_str).collect();
            assert_eq!(
                (
                    caller.tenant.as_str(),
                    caller.subject().id(),
                    roles.as_slice(),
                    caller.username.as_deref()
                ),
                (
                    "acme",
                    "aaaa-bbbb",
                    &["admin", "mcp-server-manager"][..],
                    Some("ada")
                ),
                "{provider}"
            );
            assert!(
                caller.scopes.contains("mgmt.read"),
                "{provider}: {:?}",
                caller.scopes
            );
            verifier.config.default_tenant = None;
            assert!(verify(&verifier).await.is_err(), "{provider}: no tenant");
        }
    }

    #[tokio::test]
    async fn a_client_stands_for_an_audience_only_where_there_is_none() {
        let keys = keys();
        let (alg, key) = &keys[0];
        let mut verifier = verifier(vec![published(key, *alg, true)]);
        verifier.config.audience_by_client_id = true;
        for (aud, client, accepted) in [
            (None, Some("hawser"), true),
            (None, Some("other"), false),
            (None, None, false),
            (Some(json!("other")), Some("hawser"), false),
            (Some(json!([])), Some("hawser"), false),
            (Some(Value::Null), Some("hawser"), false),
            (Some(json!({"hawser": true})), Some("hawser"), false),
            (Some(json!(["other", "hawser"])), None, true),
        ] {
            let mut claims = claims();
            let map = claims.as_object_mut().unwrap();
            map.remove("aud");
            map.extend(aud.clone().map(|aud| ("aud".to_owned(), aud)));
            map.extend(client.map(|id| ("client_id".to_owned(), id.into())));
            let text = token(*alg, "RS256", key, &claims);
            let verified = verifier.verify(&text, Clock::System.now()).await;
            assert_eq!(verified.is_ok(), accepted, "{aud:?} {client:?}");
        }
    }

    #[tokio::test]
    async fn an_address_that_is_not_vouched_for_is_nobodys_id() {
        let keys = keys();
        let (alg, key) = &keys[0];
        let mut verifier = verifier(vec![published(key, *alg, true)]);
        verifier.config.claims.subject = "email".to_owned();
        for (verified, accepted) in [
            (json!(true), true),
            (json!(false), false),
            (json!("no"), false),
        ] {
            let mut claims = claims();
            claims["email"] = "ada@example.com".into();
            claims["client_id"] = "app".into();
            claims["email_verified"] = verified.clone();
            let text = token(*alg, "RS256", key, &claims);
            let said = verifier.verify(&text, Clock::System.now()).await;
            assert_eq!(said.is_ok(), accepted, "{verified}");
        }
    }
}
