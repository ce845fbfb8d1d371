//! The authorization request that the browser is sent away with (MCP authorization 5), and its PKCE (RFC 7636; MCP
//! authorization row 15).

use crate::Result;
use crate::domain::address::origin;
use crate::domain::id::random;
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::BASE64URL_NOPAD;
use secrecy::SecretString;
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

/// Parameters of the authorization request that operators cannot set, whether Hawser sends them or not.
const RESERVED: [&str; 11] = [
    "response_type",
    "response_mode",
    "client_id",
    "redirect_uri",
    "state",
    "scope",
    "code_challenge",
    "code_challenge_method",
    "resource",
    "request",
    "request_uri",
];

/// Parameters for Google: without the first it gives no refresh token, without the second none when a user consents
/// again.
const GOOGLE: [(&str, &str); 2] = [("access_type", "offline"), ("prompt", "consent")];

/// Whether a parameter of the authorization request belongs to the protocol, so that operators cannot set it.
pub fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

/// Parameters that an issuer needs beyond the protocol. The operator's values of the same parameters take precedence.
pub fn customary(
    issuer: &str,
    authorization_endpoint: &str,
) -> &'static [(&'static str, &'static str)] {
    let is_google = |url: &str| origin(url) == "https://accounts.google.com";
    if is_google(issuer) || is_google(authorization_endpoint) {
        &GOOGLE
    } else {
        &[]
    }
}

/// A verifier and its S256 challenge.
#[derive(Clone, Debug)]
pub struct Pkce {
    /// `code_verifier`, sent with the code.
    pub verifier: SecretString,
    /// `code_challenge`, sent with the authorization request.
    pub challenge: String,
}

impl Pkce {
    /// A new random pair.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when the random generator fails.
    pub fn new() -> Result<Self> {
        let bytes = Zeroizing::new(random::<32>()?);
        let verifier = BASE64URL_NOPAD.encode(bytes.as_slice());
        let challenge = BASE64URL_NOPAD.encode(digest(&SHA256, verifier.as_bytes()).as_ref());
        Ok(Self {
            verifier: verifier.into(),
            challenge,
        })
    }
}

/// The URL of an authorization request: the endpoint with its own query, in which `parameters` replace those of the
/// same name. `None` if the endpoint is no URL. [`Egress::check`](crate::egress::Egress::check) decides whether it may
/// be used at all.
pub fn authorization_url(endpoint: &str, parameters: &[(&str, &str)]) -> Option<String> {
    let mut url = Url::parse(endpoint).ok()?;
    let is_own = |piece: &&str| {
        form_urlencoded::parse(piece.as_bytes())
            .all(|(name, _)| parameters.iter().all(|(ours, _)| *ours != name))
    };
    let kept = url.query().unwrap_or_default().split('&');
    let mut pieces: Vec<&str> = kept
        .filter(|piece| !piece.is_empty())
        .filter(is_own)
        .collect();
    let ours = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(parameters)
        .finish();
    pieces.push(&ours);
    let query = pieces.join("&");
    url.set_query(Some(&query));
    url.set_fragment(None);
    Some(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn the_challenge_is_the_hash_of_the_verifier() {
        let (one, two) = (Pkce::new().unwrap(), Pkce::new().unwrap());
        let verifier = one.verifier.expose_secret();
        assert_eq!(verifier.len(), 43);
        assert_ne!(verifier, two.verifier.expose_secret());
        let hash = digest(&SHA256, verifier.as_bytes());
        assert_eq!(one.challenge, BASE64URL_NOPAD.encode(hash.as_ref()));
        assert!(!format!("{one:?}").contains(verifier));
    }

    #[test]
    fn google_is_asked_for_refresh_tokens() {
        let google = "https://accounts.google.com";
        let endpoint = "https://accounts.google.com/o/oauth2/v2/auth";
        for (issuer, endpoint, is_google) in [
            (google, endpoint, true),
            (
                "https://accounts.google.com/",
                "https://elsewhere.example/",
                true,
            ),
            ("https://oauth2.googleapis.com/token", endpoint, true),
            ("https://as.example", "https://as.example/a", false),
            (
                "https://accounts.google.com.as.example",
                "https://as.example/a",
                false,
            ),
            ("http://accounts.google.com", "https://as.example/a", false),
        ] {
            let asked = customary(issuer, endpoint);
            assert_eq!(asked.len(), if is_google { 2 } else { 0 }, "{issuer}");
        }
        assert!(is_reserved("state") && is_reserved("request_uri") && !is_reserved("prompt"));
    }

    #[test]
    fn keeps_the_query_of_the_endpoint_but_not_what_we_set() {
        let ours = [
            ("resource", "https://h"),
            ("scope", "a b"),
            ("state", "x&y"),
        ];
        let tail = "resource=https%3A%2F%2Fh&scope=a+b&state=x%26y";
        for (endpoint, start) in [
            ("https://as.example/a", "https://as.example/a?"),
            ("https://as.example?", "https://as.example/?"),
            (
                "https://as.example/a?p=%20x&q&resource=no#f",
                "https://as.example/a?p=%20x&q&",
            ),
            (
                "https://as.example/a?%73cope=no&state&&p=1",
                "https://as.example/a?p=1&",
            ),
        ] {
            assert_eq!(
                authorization_url(endpoint, &ours),
                Some(format!("{start}{tail}"))
            );
        }
        assert_eq!(authorization_url("/relative", &ours), None);
    }
}
