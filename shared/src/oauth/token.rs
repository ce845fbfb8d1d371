//! The token endpoint (RFC 6749 4.1.3, 4.4 and 6, RFC 8707; MCP authorization 5 and 6).

use super::members::Members;
use super::{is_outage, known, retry_after};
use crate::domain::endpoint_method::ClientAuth;
use crate::domain::issuance::{Client, Issuance};
use crate::egress::{self, Egress, Fetched, Outgoing};
use data_encoding::BASE64;
use reqwest::Method;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use std::time::{Duration, Instant};
use url::form_urlencoded::{self, byte_serialize};
use zeroize::Zeroizing;

/// After a refusal of the client, other authentication methods are tried within this time of the first request. A
/// refusal comes at once or not at all, and a lease on a grant outlasts one slow answer, not two.
const PROBING: Duration = Duration::from_secs(3);
/// The longest lifetime of a token that is believed, in seconds: ten years.
const LONGEST_LIFETIME: i64 = 10 * 365 * 86_400;

/// The client that asks, with its secret.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'a> {
    /// The client.
    pub client: &'a Client,
    /// The client's secret; a missing one counts as empty (RFC 6749 2.3.1).
    pub secret: Option<&'a SecretString>,
}

/// A token endpoint, and what every request to it contains.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint<'a> {
    /// Its URL.
    pub url: &'a str,
    /// The client that asks.
    pub credentials: Credentials<'a>,
    /// The resource indicator, verbatim (MCP authorization row 16).
    pub resource: Option<&'a str>,
    /// Parameters that the operator adds. They replace nothing that the protocol defines.
    pub extra: &'a [(String, SecretString)],
}

impl<'a> Endpoint<'a> {
    /// The endpoint that issued a grant, with the client's secret and the operator's parameters.
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

/// A successful answer.
#[derive(Debug)]
pub struct Tokens {
    /// `access_token`.
    pub access: SecretString,
    /// `refresh_token`. `None` in the answer to a refresh means that the old one stays (MCP authorization 6.8).
    pub refresh: Option<SecretString>,
    /// `id_token` (OpenID Connect Core 1.0), which says who has signed in. Not verified here.
    pub id_token: Option<SecretString>,
    /// Seconds until the access token expires, at most ten years; zero if it has expired already.
    pub expires_in: Option<i64>,
    /// The scopes granted; `None` means those that were asked for.
    pub scopes: Option<Vec<String>>,
    /// The method by which the client authenticated.
    pub auth: ClientAuth,
}

/// Tokens in an answer that is otherwise unusable. They were issued all the same, so they must be stored or revoked.
#[derive(Debug)]
pub struct Received {
    /// `access_token`.
    pub access: Option<SecretString>,
    /// `refresh_token`.
    pub refresh: Option<SecretString>,
    /// Whether the status is 2xx and the body reports no error, so that the refresh token is valid.
    pub is_good: bool,
}

/// Why there are no usable tokens.
#[derive(Debug)]
pub struct TokenFailure {
    /// The class of the failure, which decides what follows.
    pub class: Class,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// The `error` code if it is known, otherwise empty.
    pub word: &'static str,
    /// How long the server asks to be left alone, five minutes at most.
    pub retry_after: Option<Duration>,
    /// The tokens in the answer, to be stored or revoked.
    pub received: Option<Received>,
}

impl TokenFailure {
    /// The tenant's servers may not use the issuer, so it was not asked.
    pub const NOT_ASKED: Self = Self {
        class: Class::Configuration,
        status: None,
        word: "",
        retry_after: None,
        received: None,
    };
}

/// The classes of failures at the token endpoint (MCP authorization 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The grant has ended, provided that the store still holds the refresh token that was sent.
    InvalidGrant,
    /// The issuer refused the client. The tokens are not at fault.
    InvalidClient,
    /// The request itself is wrong, so the configuration is.
    Configuration,
    /// The issuer did not answer. A later try may succeed.
    Transient,
    /// The answer is not understood, or the address is not allowed.
    Unusable,
}

impl Credentials<'_> {
    /// Posts a form, authenticated as the client was registered. If the endpoint calls the request invalid, posts it
    /// once more with id and secret in the form as well. Some endpoints require both there, however the client
    /// authenticates, and also the secret of a public client, which is empty (RFC 6749 2.3.1).
    pub(super) async fn post(
        &self,
        egress: &Egress,
        url: &str,
        form: &[(&str, &str)],
    ) -> Result<Fetched, egress::Failure> {
        let auth = self.client.auth;
        let fetched = self.post_as(auth, egress, url, form).await?;
        if auth == ClientAuth::Post || !is_called_invalid(&fetched) {
            return Ok(fetched);
        }
        let mut complete = form.to_vec();
        if auth == ClientAuth::Basic {
            complete.push(("client_id", &self.client.id));
        }
        let secret = self.secret.filter(|_| auth != ClientAuth::None);
        complete.push((
            "client_secret",
            secret.map(ExposeSecret::expose_secret).unwrap_or_default(),
        ));
        match self.post_as(auth, egress, url, &complete).await {
            Ok(second) if matches!(second.status, 200..=299) || is_outage(second.status) => {
                Ok(second)
            }
            Err(egress::Failure::Unreachable) => Err(egress::Failure::Unreachable),
            _ => Ok(fetched),
        }
    }

    async fn post_as(
        &self,
        auth: ClientAuth,
        egress: &Egress,
        url: &str,
        form: &[(&str, &str)],
    ) -> Result<Fetched, egress::Failure> {
        let (headers, body) = self.form(auth, form)?;
        let request = Outgoing {
            method: Method::POST,
            url,
            headers,
            body,
        };
        egress.send(request).await
    }

    /// The client's id and secret as HTTP Basic.
    pub(super) fn basic(&self) -> Result<HeaderValue, egress::Failure> {
        let secret = self.secret.map(ExposeSecret::expose_secret);
        basic(&self.client.id, secret.unwrap_or_default())
    }

    /// Headers and body of a form with the client's credentials. A function of its own, because its serializer must not
    /// be held across an await.
    fn form(
        &self,
        auth: ClientAuth,
        form: &[(&str, &str)],
    ) -> Result<(HeaderMap, Vec<u8>), egress::Failure> {
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
        if matches!(auth, ClientAuth::Basic | ClientAuth::BasicWithId) {
            headers.insert(AUTHORIZATION, basic(id, secret.unwrap_or_default())?);
        }
        if auth != ClientAuth::Basic {
            body.append_pair("client_id", id);
        }
        if auth == ClientAuth::Post
            && let Some(secret) = secret
        {
            body.append_pair("client_secret", secret);
        }
        Ok((headers, body.finish().into_bytes()))
    }
}

fn is_called_invalid(fetched: &Fetched) -> bool {
    let document = fetched.text();
    let error = Members::parse(&document).and_then(|answer| answer.text("error"));
    error.is_some_and(|error| error == "invalid_request")
}

/// HTTP Basic. Both parts are form-encoded first (RFC 6749 2.3.1).
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

/// Exchanges a code. Must not be repeated after it was sent, unless the client was refused (MCP authorization 5.4).
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

/// Refreshes a grant, for the same scopes (MCP authorization 6.5).
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

/// Asks for a token for the client itself (RFC 6749 4.4).
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
    /// Where the client is refused, tries the other authentication methods that the issuer offers, each once. Issuers
    /// check the client first, so what a refused client presents is not used up. Unless another method succeeds, the
    /// first refusal counts: what an issuer says to a client that it does not recognise says nothing about the code or
    /// token.
    async fn ask(&self, egress: &Egress, asked: &[(&str, &str)]) -> Result<Tokens, TokenFailure> {
        let begun = Instant::now();
        let client = self.credentials.client;
        let refused = match self.ask_as(client.auth, egress, asked).await {
            Err(failure) if failure.class == Class::InvalidClient && failure.received.is_none() => {
                failure
            }
            answer => return answer,
        };
        for other in &client.others {
            if begun.elapsed() > PROBING {
                break;
            }
            match self.ask_as(*other, egress, asked).await {
                Err(failure) if failure.received.is_none() => {
                    if failure.class != Class::InvalidClient {
                        break;
                    }
                }
                answer => return answer,
            }
        }
        Err(refused)
    }

    async fn ask_as(
        &self,
        auth: ClientAuth,
        egress: &Egress,
        asked: &[(&str, &str)],
    ) -> Result<Tokens, TokenFailure> {
        let mut form = asked.to_vec();
        form.extend(self.resource.map(|resource| ("resource", resource)));
        for (name, value) in self.extra {
            let is_taken = form.iter().any(|(taken, _)| taken == name);
            if !is_taken && !matches!(name.as_str(), "client_id" | "client_secret") {
                form.push((name, value.expose_secret()));
            }
        }
        let sent = self.credentials.post_as(auth, egress, self.url, &form);
        match sent.await {
            Ok(fetched) => read(&fetched, auth),
            Err(failure) => Err(TokenFailure {
                class: match failure {
                    egress::Failure::Unreachable => Class::Transient,
                    egress::Failure::Refused | egress::Failure::TooLarge => Class::Unusable,
                },
                status: None,
                word: "",
                retry_after: None,
                received: None,
            }),
        }
    }
}

/// The largest token that is stored, in bytes with its refresh token: both have to fit into one item, and so has their
/// revocation.
const LARGEST: usize = 64 * 1024;
/// The largest list of scopes that is taken from an answer, in bytes.
const LARGEST_SCOPES: usize = 16 * 1024;
/// Types of token that cannot be used as bearer tokens (RFC 8693 3, RFC 9449). Other unknown names stand for bearer
/// tokens.
const UNUSABLE_TYPES: [&str; 4] = ["mac", "pop", "dpop", "n_a"];

/// Reads an answer. An access token counts, whatever is odd beside it. `token_type` may be missing, as in refreshes.
fn read(fetched: &Fetched, auth: ClientAuth) -> Result<Tokens, TokenFailure> {
    let document = fetched.text();
    let members = Members::parse(&document);
    let (access, refresh) = match &members {
        Some(members) => (
            members.secret("access_token"),
            members.secret("refresh_token"),
        ),
        None => (
            in_form(&document, "access_token"),
            in_form(&document, "refresh_token"),
        ),
    };
    let is_json = members.is_some();
    let members = members.unwrap_or_default();
    let error = members.text("error");
    let word = known(error.as_deref());
    let is_good = matches!(fetched.status, 200..=299) && error.is_none();
    let is_bearer = members.text("token_type").is_none_or(|kind| {
        let is = |unusable: &&str| kind.trim().eq_ignore_ascii_case(unusable);
        !UNUSABLE_TYPES.iter().any(is)
    });
    match access {
        Some(access)
            if is_good && is_json && is_bearer && can_be_kept(&access, refresh.as_ref()) =>
        {
            let lifetime = members.integer("expires_in");
            let scopes = members.list("scope");
            let length = |scopes: &Vec<String>| scopes.iter().map(String::len).sum::<usize>();
            Ok(Tokens {
                access,
                refresh,
                id_token: members.secret("id_token"),
                expires_in: lifetime.map(|n| n.clamp(0, LONGEST_LIFETIME)),
                scopes: scopes.filter(|scopes| length(scopes) <= LARGEST_SCOPES),
                auth,
            })
        }
        access => Err(TokenFailure {
            class: class(word, fetched.status),
            status: Some(fetched.status),
            word,
            retry_after: retry_after(&fetched.headers),
            received: (access.is_some() || refresh.is_some()).then_some(Received {
                access,
                refresh,
                is_good,
            }),
        }),
    }
}

/// Whether an access token can be sent, and fits into an item with its refresh token. It may only have the characters
/// of RFC 6749 A.12, so that no line break or other byte in it can end a header or begin another.
fn can_be_kept(access: &SecretString, refresh: Option<&SecretString>) -> bool {
    let access = access.expose_secret();
    let refresh = refresh.map_or(0, |token| token.expose_secret().len());
    access.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && access.trim() == access
        && access.len() + refresh <= LARGEST
}

/// A token in a form-encoded answer. Such answers are not supported, but their tokens are revoked.
fn in_form(document: &str, name: &str) -> Option<SecretString> {
    let mut pairs = form_urlencoded::parse(document.trim().as_bytes());
    let (_, token) = pairs.find(|(key, token)| key == name && !token.is_empty())?;
    Some(token.into_owned().into())
}

/// The class of a failure: by the `error` if its code is known, otherwise by the status (MCP authorization 6).
fn class(word: &str, status: u16) -> Class {
    match (word, status) {
        ("invalid_grant", _) => Class::InvalidGrant,
        ("invalid_client" | "unauthorized_client", _) => Class::InvalidClient,
        ("temporarily_unavailable" | "server_error", _) => Class::Transient,
        ("", status) if is_outage(status) => Class::Transient,
        ("", 401) => Class::InvalidClient,
        ("", status) if !(400..500).contains(&status) => Class::Unusable,
        _ => Class::Configuration,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::domain::issuance::ClientSource;
    use crate::egress::testing::{Server, body, header, reply};
    use crate::oauth::members::tests::anything;
    use proptest::prelude::*;

    pub(in crate::oauth) fn client(auth: ClientAuth) -> Client {
        let id = "id with:odd/é".to_owned();
        Client::new(id, vec![auth], ClientSource::PreRegistered)
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
            ClientAuth::Post | ClientAuth::BasicWithId => {
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
        let fetched = Fetched {
            status,
            headers: HeaderMap::new(),
            body: Zeroizing::new(text.into()),
        };
        read(&fetched, ClientAuth::None)
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
            (401, String::new(), Class::InvalidClient, ""),
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
            let got = (failure.class, failure.status, failure.word);
            assert_eq!(got, (class, Some(status), word), "{status} {text}");
            let shown = format!("{failure:?}");
            assert!(!shown.contains("s3cret") && !shown.contains("\"at"));
            assert_eq!(failure.retry_after, None);
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

    #[test]
    fn what_serves_is_taken_whatever_is_beside_it() {
        for status in [200, 201, 202, 203, 206, 226] {
            for text in [
                r#"{"access_token":"at"}"#,
                r#"{"access_token":"at","token_type":null,"error":null}"#,
                r#"{"access_token":"at","token_type":"","error":""}"#,
                r#"{"access_token":"at","token_type":["Bearer"],"error":{}}"#,
                r#"{"access_token":"at","token_type":"user","error":false}"#,
                r#"{"access_token":"no","access_token":"at","scope":1e999,"scope":"a"}"#,
            ] {
                let tokens = judge(status, text).unwrap();
                assert_eq!(tokens.access.expose_secret(), "at", "{status} {text}");
            }
        }
    }

    #[test]
    fn what_cannot_be_used_is_handed_on() {
        let long = "x".repeat(LARGEST);
        let cases = [
            (500, GOOD.to_owned(), Some("at"), Some("rt"), false),
            (302, GOOD.to_owned(), Some("at"), Some("rt"), false),
            (400, GOOD.to_owned(), Some("at"), Some("rt"), false),
            (
                200,
                GOOD.replace('{', r#"{"error":"odd","#),
                Some("at"),
                Some("rt"),
                false,
            ),
            (
                201,
                GOOD.replace("bEARER", "DPoP"),
                Some("at"),
                Some("rt"),
                true,
            ),
            (200, GOOD.replace("\"at\"", "{}"), None, Some("rt"), true),
            (
                200,
                r#"{"refresh_token":"rt"}"#.to_owned(),
                None,
                Some("rt"),
                true,
            ),
            (
                200,
                r#"{"access_token":"a\nt","refresh_token":""}"#.to_owned(),
                Some("a\nt"),
                None,
                true,
            ),
            (
                200,
                format!(r#"{{"access_token":"at","refresh_token":"{long}"}}"#),
                Some("at"),
                Some(&long),
                true,
            ),
            (
                200,
                "access_token=at&expires_in=1&refresh_token=r%2Ft".to_owned(),
                Some("at"),
                Some("r/t"),
                true,
            ),
        ];
        for (status, text, access, refresh, is_good) in cases {
            let received = judge(status, &text).unwrap_err().received.unwrap();
            let shown = |token: Option<SecretString>| token.map(|t| t.expose_secret().to_owned());
            assert_eq!(shown(received.access).as_deref(), access, "{status} {text}");
            assert_eq!(shown(received.refresh).as_deref(), refresh);
            assert_eq!(received.is_good, is_good, "{status} {text}");
        }
        for text in [
            "",
            "<html>",
            "[]",
            r#"{"access_token":1,"refresh_token":""}"#,
            "access_token=",
        ] {
            assert!(judge(200, text).unwrap_err().received.is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_optional_member_costs_the_tokens(odd in anything(), which in 0..5usize) {
            let field = ["token_type", "expires_in", "scope", "id_token", "refresh_token"][which];
            let answer = judge(201, &format!(r#"{{"access_token":"at","{field}":{odd}}}"#)).unwrap();
            prop_assert_eq!(answer.access.expose_secret(), "at");
            prop_assert!(answer.expires_in.is_none_or(|n| (0..=LONGEST_LIFETIME).contains(&n)));
        }

        #[test]
        fn no_member_costs_the_refresh_token(odd in anything(), which in 0..5usize) {
            let field = ["access_token", "token_type", "expires_in", "scope", "error"][which];
            let refresh = match judge(200, &format!(r#"{{"refresh_token":"rt","{field}":{odd}}}"#)) {
                Ok(tokens) => tokens.refresh,
                Err(failure) => failure.received.and_then(|received| received.refresh),
            };
            let refresh = refresh.map(|token| token.expose_secret().to_owned());
            prop_assert_eq!(refresh.as_deref(), Some("rt"));
        }
    }

    /// A server that accepts clients by one method only, and the requests that it got.
    async fn probe(
        takes: ClientAuth,
        others: &[ClientAuth],
        otherwise: &str,
    ) -> (Result<Tokens, TokenFailure>, Vec<String>) {
        let otherwise = otherwise.to_owned();
        let server = Server::start(move |_, request| {
            let has_id = body(request).contains("client_id=");
            let has_secret = body(request).contains("client_secret=");
            let way = match (header(request, "authorization"), has_id, has_secret) {
                (Some(_), true, _) => ClientAuth::BasicWithId,
                (Some(_), false, _) => ClientAuth::Basic,
                (None, _, true) => ClientAuth::Post,
                (None, _, false) => ClientAuth::None,
            };
            match way == takes {
                true => reply(200, "", GOOD),
                false => otherwise.clone(),
            }
        });
        let mut client = client(ClientAuth::Post);
        client.others = others.to_vec();
        let secret = "s".into();
        let at = Endpoint {
            url: &server.url,
            credentials: Credentials {
                client: &client,
                secret: Some(&secret),
            },
            resource: None,
            extra: &[],
        };
        let egress = Egress::new(true).unwrap();
        let got = refresh(&egress, &at, &"rt".into()).await;
        (got, server.requests())
    }

    #[tokio::test]
    async fn a_refused_client_tries_what_else_is_offered() {
        use ClientAuth::{Basic, BasicWithId, None as Public, Post};
        let refusals = [
            reply(401, "", r#"{"error":"invalid_client"}"#),
            reply(400, "", r#"{"error":"invalid_client"}"#),
            reply(401, "", r#"{"error":"unauthorized_client"}"#),
            reply(401, "WWW-Authenticate: Basic\r\n", ""),
        ];
        for refusal in &refusals {
            for (takes, asked) in [(Post, 1), (Basic, 2), (BasicWithId, 3)] {
                let (got, requests) = probe(takes, &[Basic, BasicWithId], refusal).await;
                assert_eq!(got.unwrap().auth, takes);
                assert_eq!(requests.len(), asked);
            }
            let (got, requests) = probe(Public, &[Basic, BasicWithId], refusal).await;
            assert_eq!(got.unwrap_err().class, Class::InvalidClient);
            assert_eq!(requests.len(), 3);
            let (got, requests) = probe(Basic, &[], refusal).await;
            assert_eq!(got.unwrap_err().class, Class::InvalidClient);
            assert_eq!(requests.len(), 1);
        }
        for other in [
            reply(400, "", r#"{"error":"invalid_grant"}"#),
            reply(401, "", r#"{"error":"invalid_grant"}"#),
            reply(400, "", r#"{"error":"invalid_request"}"#),
            reply(503, "", ""),
            reply(200, "", "<html>"),
            String::new(),
        ] {
            let (got, requests) = probe(Basic, &[Basic], &other).await;
            assert_ne!(got.unwrap_err().class, Class::InvalidClient);
            assert_eq!(requests.len(), 1, "{other}");
        }
    }

    /// Whatever else is said to a refused client says nothing about what the client presented.
    #[tokio::test]
    async fn the_first_refusal_counts() {
        for second in [
            reply(400, "", r#"{"error":"invalid_grant"}"#),
            reply(503, "", ""),
            reply(200, "", "<html>"),
        ] {
            let server = Server::start(move |_, request| match header(request, "authorization") {
                Some(_) => second.clone(),
                None => reply(401, "", r#"{"error":"invalid_client"}"#),
            });
            let mut client = client(ClientAuth::Post);
            client.others = vec![ClientAuth::Basic];
            let at = Endpoint {
                url: &server.url,
                credentials: Credentials {
                    client: &client,
                    secret: None,
                },
                resource: None,
                extra: &[],
            };
            let egress = Egress::new(true).unwrap();
            let failure = refresh(&egress, &at, &"rt".into()).await.unwrap_err();
            let got = (failure.class, failure.status, failure.word);
            assert_eq!(got, (Class::InvalidClient, Some(401), "invalid_client"));
            assert_eq!(server.requests().len(), 2);
        }
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
