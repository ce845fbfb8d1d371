//! The token endpoint (RFC 6749 4.1.3, 4.4 and 6, RFC 8707): sections 5 and 6.

use super::members::Members;
use super::{is_outage, known, retry_after};
use crate::domain::issuance::{Client, ClientAuth, Issuance};
use crate::egress::{self, Egress, Fetched, Outgoing};
use data_encoding::BASE64;
use reqwest::Method;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use std::time::Duration;
use url::form_urlencoded::{self, byte_serialize};
use zeroize::Zeroizing;

/// A token that claims to last longer is held to this: ten years in seconds.
const LONGEST_LIFETIME: i64 = 10 * 365 * 86_400;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'a> {
    /// The client.
    pub client: &'a Client,
    /// Its secret; one that is missing counts as empty (RFC 6749 2.3.1).
    pub secret: Option<&'a SecretString>,
}

/// A token endpoint and what is said there whatever is asked.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint<'a> {
    /// Its URL.
    pub url: &'a str,
    /// Who asks.
    pub credentials: Credentials<'a>,
    /// The resource indicator, verbatim (row 16).
    pub resource: Option<&'a str>,
    /// What the operator adds; it replaces nothing that the protocol defines.
    pub extra: &'a [(String, SecretString)],
}

impl<'a> Endpoint<'a> {
    /// That of what was issued, with the client's secret and what the operator adds.
    pub fn of(
        issuance: &'a Issuance,
        secret: Option<&'a SecretString>,
        extra: &'a [(String, SecretString)],
    ) -> Self {
        Self {
            url: &issuance.token_endpoint,
            credentials: Credentials {
                client: &issuance.client,
                secret,
            },
            resource: issuance.resource.as_deref(),
            extra,
        }
    }
}

/// A good answer.
#[derive(Debug)]
pub struct Tokens {
    /// `access_token`.
    pub access: SecretString,
    /// `refresh_token`; `None` in a refresh means that the old one stays (section 6 point 8).
    pub refresh: Option<SecretString>,
    /// Seconds until the access token ends, at most ten years; zero if it has ended already.
    pub expires_in: Option<i64>,
    /// The scopes granted; `None` means as asked.
    pub scopes: Option<Vec<String>>,
}

impl Tokens {
    /// Whether the access token can be sent: it consists of what RFC 6749 makes tokens of (A.12), so that no line break or
    /// other byte in it can end a header or begin another.
    pub fn can_be_sent(&self) -> bool {
        let token = self.access.expose_secret();
        token.bytes().all(|b| matches!(b, b' '..=b'~')) && token.trim() == token
    }
}

/// An answer without tokens, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenFailure {
    /// What follows from it.
    pub class: Class,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// The `error` if it is a known code, else empty.
    pub word: &'static str,
    /// How long the server asks to be left alone, five minutes at most.
    pub retry_after: Option<Duration>,
}

impl TokenFailure {
    /// A good answer with tokens that cannot be used.
    pub const UNUSABLE: Self = Self {
        class: Class::Unusable,
        status: Some(200),
        word: "",
        retry_after: None,
    };
}

/// The classes of the table in section 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The grant is over, once the store still holds what was sent.
    InvalidGrant,
    /// The client is not accepted; the tokens are not at fault.
    InvalidClient,
    /// What was asked is wrong.
    Configuration,
    /// An outage.
    Transient,
    /// An answer that means nothing, or an address that is not allowed.
    Unusable,
}

impl Credentials<'_> {
    /// Posts a form, authenticated as the client was registered.
    pub(super) async fn post(
        &self,
        egress: &Egress,
        url: &str,
        form: &[(&str, &str)],
    ) -> Result<Fetched, egress::Failure> {
        let (headers, body) = self.form(form)?;
        let request = Outgoing {
            method: Method::POST,
            url,
            headers,
            body,
        };
        egress.send(request).await
    }

    /// Headers and body of a form with the client's own credentials. Apart, because its writer may not be held while waiting.
    fn form(&self, form: &[(&str, &str)]) -> Result<(HeaderMap, Vec<u8>), egress::Failure> {
        let mut headers = HeaderMap::from_iter([
            (
                CONTENT_TYPE,
                HeaderValue::from_static("application/x-www-form-urlencoded"),
            ),
            (ACCEPT, HeaderValue::from_static("application/json")),
        ]);
        let id = self.client.id.as_str();
        let secret = self.secret.map(ExposeSecret::expose_secret);
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(form);
        match self.client.auth {
            ClientAuth::Basic => {
                headers.insert(AUTHORIZATION, basic(id, secret.unwrap_or_default())?);
            }
            ClientAuth::Post => {
                body.append_pair("client_id", id);
                if let Some(secret) = secret {
                    body.append_pair("client_secret", secret);
                }
            }
            ClientAuth::None => {
                body.append_pair("client_id", id);
            }
        }
        Ok((headers, body.finish().into_bytes()))
    }
}

/// HTTP Basic with both parts form-encoded first (RFC 6749 2.3.1).
fn basic(id: &str, secret: &str) -> Result<HeaderValue, egress::Failure> {
    let mut pair = Zeroizing::new(String::new());
    pair.extend(byte_serialize(id.as_bytes()));
    pair.push(':');
    pair.extend(byte_serialize(secret.as_bytes()));
    let text = Zeroizing::new(format!("Basic {}", BASE64.encode(pair.as_bytes())));
    let mut value = HeaderValue::from_str(&text).map_err(|_| egress::Failure::Refused)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Exchanges a code. Never to be repeated once it was sent (section 5, callback point 4).
///
/// # Errors
/// [`TokenFailure`].
pub async fn exchange(
    egress: &Egress,
    at: &Endpoint<'_>,
    code: &SecretString,
    verifier: &SecretString,
    redirect_uri: &str,
) -> Result<Tokens, TokenFailure> {
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code.expose_secret()),
        ("redirect_uri", redirect_uri),
        ("code_verifier", verifier.expose_secret()),
    ];
    at.ask(egress, &form).await
}

/// Refreshes, for the same scopes (section 6 point 5).
///
/// # Errors
/// [`TokenFailure`].
pub async fn refresh(
    egress: &Egress,
    at: &Endpoint<'_>,
    refresh_token: &SecretString,
) -> Result<Tokens, TokenFailure> {
    let form = [
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh_token.expose_secret()),
    ];
    at.ask(egress, &form).await
}

/// Asks for a token of the client's own (RFC 6749 4.4).
///
/// # Errors
/// [`TokenFailure`].
pub async fn client_credentials(
    egress: &Egress,
    at: &Endpoint<'_>,
    scopes: &[String],
) -> Result<Tokens, TokenFailure> {
    let scope = scopes.join(" ");
    let mut form = vec![("grant_type", "client_credentials")];
    if !scope.is_empty() {
        form.push(("scope", &scope));
    }
    at.ask(egress, &form).await
}

impl Endpoint<'_> {
    async fn ask(&self, egress: &Egress, asked: &[(&str, &str)]) -> Result<Tokens, TokenFailure> {
        let mut form = asked.to_vec();
        form.extend(self.resource.map(|resource| ("resource", resource)));
        for (name, value) in self.extra {
            let is_taken = form.iter().any(|(taken, _)| taken == name);
            if !is_taken && !matches!(name.as_str(), "client_id" | "client_secret") {
                form.push((name, value.expose_secret()));
            }
        }
        match self.credentials.post(egress, self.url, &form).await {
            Ok(fetched) => read(&fetched),
            Err(failure) => Err(TokenFailure {
                class: match failure {
                    egress::Failure::Unreachable => Class::Transient,
                    egress::Failure::Refused | egress::Failure::TooLarge => Class::Unusable,
                },
                status: None,
                word: "",
                retry_after: None,
            }),
        }
    }
}

/// The most bytes of an answer with tokens: what is stored of it has to fit into one item, and so has its revocation.
const LARGEST_ANSWER: usize = 64 * 1024;

fn read(fetched: &Fetched) -> Result<Tokens, TokenFailure> {
    let document = fetched.text();
    let answer = Members::parse(&document).unwrap_or_default();
    let error = answer.text("error");
    let word = known(error.as_deref());
    let is_bearer = answer
        .text("token_type")
        .is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"));
    match answer.secret("access_token") {
        Some(access)
            if fetched.status == 200
                && error.is_none()
                && is_bearer
                && fetched.body.len() <= LARGEST_ANSWER =>
        {
            Ok(Tokens {
                access,
                refresh: answer.secret("refresh_token"),
                expires_in: answer
                    .integer("expires_in")
                    .map(|n| n.clamp(0, LONGEST_LIFETIME)),
                scopes: answer.list("scope"),
            })
        }
        _ => Err(TokenFailure {
            class: class(word, fetched.status),
            status: Some(fetched.status),
            word,
            retry_after: retry_after(&fetched.headers),
        }),
    }
}

/// By the `error`, whatever the status; by the status if the error says nothing (table of section 6).
fn class(word: &str, status: u16) -> Class {
    match (word, status) {
        ("invalid_grant", _) => Class::InvalidGrant,
        ("invalid_client" | "unauthorized_client", _) => Class::InvalidClient,
        ("temporarily_unavailable" | "server_error", _) => Class::Transient,
        ("", status) if is_outage(status) => Class::Transient,
        ("", status) if !(400..500).contains(&status) => Class::Unusable,
        _ => Class::Configuration,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::domain::issuance::ClientSource;
    use crate::egress::testing::{Server, body, header, reply};

    pub(in crate::oauth) fn client(auth: ClientAuth) -> Client {
        Client {
            id: "id with:odd/é".to_owned(),
            auth,
            source: ClientSource::PreRegistered,
        }
    }

    const GOOD: &str = r#"{"access_token":"at","token_type":"bEARER","expires_in":3600,"refresh_token":"rt","scope":"a b"}"#;

    async fn ask(answer: String, auth: ClientAuth) -> (Result<Tokens, TokenFailure>, String) {
        let server = Server::start(move |_, _| answer.clone());
        let url = format!("{}/token", server.url);
        let (client, secret) = (client(auth), "s+cret %&".into());
        let at = Endpoint {
            url: &url,
            credentials: Credentials {
                client: &client,
                secret: Some(&secret),
            },
            resource: Some("https://h"),
            extra: &[
                ("audience".to_owned(), "x y".into()),
                ("grant_type".to_owned(), "no".into()),
                ("client_id".to_owned(), "no".into()),
            ],
        };
        let egress = Egress::new(true).unwrap();
        let got = match auth {
            ClientAuth::None => {
                let (code, verifier) = ("c&de".into(), "v".into());
                exchange(&egress, &at, &code, &verifier, "https://hawser.example/cb").await
            }
            ClientAuth::Basic => refresh(&egress, &at, &"r/t".into()).await,
            ClientAuth::Post => {
                let scopes = ["a".to_owned(), "b".to_owned()];
                client_credentials(&egress, &at, &scopes).await
            }
        };
        let requests = server.requests();
        assert_eq!(requests.len(), 1);
        (got, requests[0].clone())
    }

    #[tokio::test]
    async fn a_public_client_exchanges_a_code() {
        let (got, request) = ask(reply(200, "", GOOD), ClientAuth::None).await;
        assert!(request.starts_with("POST /token HTTP/1.1\r\n"));
        assert_eq!(header(&request, "authorization"), None);
        assert_eq!(
            header(&request, "content-type"),
            Some("application/x-www-form-urlencoded")
        );
        assert_eq!(header(&request, "accept"), Some("application/json"));
        assert_eq!(
            body(&request),
            "grant_type=authorization_code&code=c%26de&redirect_uri=https%3A%2F%2Fhawser.example%2Fcb&code_verifier=v\
             &resource=https%3A%2F%2Fh&audience=x+y&client_id=id+with%3Aodd%2F%C3%A9"
        );
        let tokens = got.unwrap();
        assert_eq!(tokens.access.expose_secret(), "at");
        assert_eq!(tokens.refresh.as_ref().unwrap().expose_secret(), "rt");
        assert_eq!(tokens.expires_in, Some(3600));
        assert_eq!(tokens.scopes, Some(vec!["a".to_owned(), "b".to_owned()]));
        assert!(!format!("{tokens:?}").contains("\"at\""));
    }

    #[tokio::test]
    async fn a_client_with_http_basic_refreshes() {
        let (got, request) = ask(reply(200, "", GOOD), ClientAuth::Basic).await;
        let pair = BASE64.encode(b"id+with%3Aodd%2F%C3%A9:s%2Bcret+%25%26");
        assert_eq!(
            header(&request, "authorization"),
            Some(&*format!("Basic {pair}"))
        );
        assert_eq!(
            body(&request),
            "grant_type=refresh_token&refresh_token=r%2Ft&resource=https%3A%2F%2Fh&audience=x+y"
        );
        assert!(got.is_ok());
    }

    #[tokio::test]
    async fn a_client_asks_for_its_own_token() {
        let (got, request) = ask(reply(200, "", GOOD), ClientAuth::Post).await;
        assert_eq!(header(&request, "authorization"), None);
        assert_eq!(
            body(&request),
            "grant_type=client_credentials&scope=a+b&resource=https%3A%2F%2Fh&audience=x+y\
             &client_id=id+with%3Aodd%2F%C3%A9&client_secret=s%2Bcret+%25%26"
        );
        assert!(got.is_ok());
    }

    fn judge(status: u16, text: &str) -> Result<Tokens, TokenFailure> {
        read(&Fetched {
            status,
            headers: HeaderMap::new(),
            body: Zeroizing::new(text.into()),
        })
    }

    #[test]
    fn every_answer_has_its_class() {
        let error = |word: &str| format!(r#"{{"error":"{word}","error_description":"s3cret"}}"#);
        for (status, text, class, word) in [
            (
                400,
                error("invalid_grant"),
                Class::InvalidGrant,
                "invalid_grant",
            ),
            (
                200,
                error("invalid_grant"),
                Class::InvalidGrant,
                "invalid_grant",
            ),
            (
                500,
                error("invalid_grant"),
                Class::InvalidGrant,
                "invalid_grant",
            ),
            (
                401,
                error("invalid_client"),
                Class::InvalidClient,
                "invalid_client",
            ),
            (
                400,
                error("unauthorized_client"),
                Class::InvalidClient,
                "unauthorized_client",
            ),
            (
                400,
                error("invalid_scope"),
                Class::Configuration,
                "invalid_scope",
            ),
            (
                400,
                error("invalid_target"),
                Class::Configuration,
                "invalid_target",
            ),
            (
                400,
                error("invalid_request"),
                Class::Configuration,
                "invalid_request",
            ),
            (
                400,
                error("unsupported_grant_type"),
                Class::Configuration,
                "unsupported_grant_type",
            ),
            (400, error("s3cret"), Class::Configuration, ""),
            (403, "<html>".to_owned(), Class::Configuration, ""),
            (
                400,
                error("temporarily_unavailable"),
                Class::Transient,
                "temporarily_unavailable",
            ),
            (400, error("server_error"), Class::Transient, "server_error"),
            (408, String::new(), Class::Transient, ""),
            (429, error("slow_down"), Class::Transient, ""),
            (503, "<html>".to_owned(), Class::Transient, ""),
            (200, error("bad_refresh_token"), Class::Unusable, ""),
            (200, "<html>".to_owned(), Class::Unusable, ""),
            (200, "[]".to_owned(), Class::Unusable, ""),
            (302, GOOD.to_owned(), Class::Unusable, ""),
            (204, String::new(), Class::Unusable, ""),
            (
                200,
                r#"{"token_type":"bearer"}"#.to_owned(),
                Class::Unusable,
                "",
            ),
            (
                200,
                r#"{"access_token":"","token_type":"bearer"}"#.to_owned(),
                Class::Unusable,
                "",
            ),
            (
                200,
                r#"{"access_token":1,"token_type":"bearer"}"#.to_owned(),
                Class::Unusable,
                "",
            ),
            (
                200,
                r#"{"access_token":"at"}"#.to_owned(),
                Class::Unusable,
                "",
            ),
            (
                200,
                r#"{"access_token":"at","token_type":"mac"}"#.to_owned(),
                Class::Unusable,
                "",
            ),
            (
                200,
                r#"{"access_token":"at","token_type":"bearer","error":"x"}"#.to_owned(),
                Class::Unusable,
                "",
            ),
            (
                200,
                r#"{"access_token":"at","token_type":"bearer""#.to_owned(),
                Class::Unusable,
                "",
            ),
        ] {
            let failure = judge(status, &text).unwrap_err();
            let expected = TokenFailure {
                class,
                status: Some(status),
                word,
                retry_after: None,
            };
            assert_eq!(failure, expected, "{status} {text}");
            assert!(!format!("{failure:?}").contains("s3cret"));
        }
    }

    #[test]
    fn odd_optional_fields_do_not_cost_the_token() {
        let with = |rest: &str| {
            judge(
                200,
                &format!(r#"{{"access_token":"at","token_type":"Bearer",{rest}}}"#),
            )
            .unwrap()
        };
        for (text, seconds) in [
            ("3600", Some(3600)),
            ("\"3600\"", Some(3600)),
            ("0", Some(0)),
            ("-5", Some(0)),
            ("1e99", Some(LONGEST_LIFETIME)),
            ("null", None),
            ("\"soon\"", None),
        ] {
            assert_eq!(
                with(&format!(r#""expires_in":{text}"#)).expires_in,
                seconds,
                "{text}"
            );
        }
        let odd = with(r#""refresh_token":null,"scope":["a"],"error":1"#);
        assert!(odd.refresh.is_none() && odd.expires_in.is_none());
        assert_eq!(odd.scopes, Some(vec!["a".to_owned()]));
        let empty = with(r#""refresh_token":"","scope":"""#);
        assert!(empty.refresh.is_none() && empty.scopes.is_none());
    }

    #[tokio::test]
    async fn what_never_arrives_has_its_class_too() {
        let (client, egress) = (client(ClientAuth::None), Egress::new(true).unwrap());
        let server = Server::start(|_, _| reply(503, "Retry-After: 7\r\n", ""));
        let large = Server::start(|_, _| reply(200, "", &" ".repeat((1 << 20) + 1)));
        let silent = Server::start(|_, _| String::new());
        for (url, class, pause) in [
            (&*server.url, Class::Transient, Some(Duration::from_secs(7))),
            (&*silent.url, Class::Transient, None),
            (&*large.url, Class::Unusable, None),
            ("https://10.0.0.1/token", Class::Unusable, None),
            ("http://as.example/token", Class::Unusable, None),
        ] {
            let credentials = Credentials {
                client: &client,
                secret: None,
            };
            let at = Endpoint {
                url,
                credentials,
                resource: None,
                extra: &[],
            };
            let failure = refresh(&egress, &at, &"rt".into()).await.unwrap_err();
            assert_eq!(
                (failure.class, failure.retry_after),
                (class, pause),
                "{url}"
            );
        }
        assert_eq!(
            body(&server.requests()[0]),
            "grant_type=refresh_token&refresh_token=rt&client_id=id+with%3Aodd%2F%C3%A9"
        );
    }
}
