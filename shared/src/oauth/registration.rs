//! Dynamic client registration (RFC 7591) and its end (RFC 7592; MCP authorization 3.3 and 7.6).

use super::discovery::Issuer;
use super::is_outage;
use super::members::Members;
use crate::domain::endpoint_method::ClientAuth;
use crate::egress::{self, Egress, Outgoing, is_loopback};
use reqwest::Method;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use url::Url;
use zeroize::Zeroizing;

/// The methods that Hawser supports, in order of preference. More token endpoints read a secret in the form than in the
/// header, whatever they list.
const METHODS: [ClientAuth; 3] = [ClientAuth::Post, ClientAuth::Basic, ClientAuth::None];

/// A new client, as the authorization server describes it.
#[derive(Debug)]
pub struct Registered {
    /// `client_id`.
    pub client_id: String,
    /// The method that it authenticates by.
    pub auth: ClientAuth,
    /// The method to try where the server refuses the first: some servers register one method and accept another.
    pub other: Option<ClientAuth>,
    /// Its secret, unless it is a public client.
    pub secret: Option<SecretString>,
    /// When the secret expires, in seconds since the epoch; `None` for never.
    pub secret_expires_at: Option<i64>,
    /// How to remove the client.
    pub management: Option<Management>,
}

/// How a client is managed (RFC 7592).
#[derive(Debug)]
pub struct Management {
    /// `registration_client_uri`.
    pub uri: String,
    /// `registration_access_token`.
    pub token: SecretString,
}

/// Why no client was registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server registers no client of a kind that Hawser can be.
    Refused,
    /// The server did not answer. A later try may succeed.
    TryLater,
}

/// How the removal of a client ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deregistered {
    /// The client does not exist, or does not exist any more.
    Gone,
    /// A definite refusal, or an address that is not allowed.
    Refused,
    /// The server did not answer. A later try may succeed.
    TryLater,
}

impl From<egress::Failure> for Failure {
    fn from(failure: egress::Failure) -> Self {
        match failure {
            egress::Failure::Unreachable => Self::TryLater,
            egress::Failure::Refused | egress::Failure::TooLarge => Self::Refused,
        }
    }
}

/// Registers a client. The answer decides what the client is, not the request. A client that Hawser cannot use is
/// removed again, if the server supports that.
///
/// # Errors
/// [`Failure`].
pub async fn register(
    egress: &Egress,
    issuer: &Issuer,
    redirect_uri: &str,
    scopes: &[String],
) -> Result<Registered, Failure> {
    let url = issuer
        .registration_endpoint
        .as_deref()
        .ok_or(Failure::Refused)?;
    let asked = method(issuer.token_auth_methods.as_deref()).ok_or(Failure::Refused)?;
    let is_native = Url::parse(redirect_uri).is_ok_and(|url| is_loopback(&url));
    let mut body = json!({
        "client_name": "Hawser",
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": asked.as_str(),
        "application_type": if is_native { "native" } else { "web" },
    });
    if !scopes.is_empty() {
        body["scope"] = scopes.join(" ").into();
    }
    let request = Outgoing {
        method: Method::POST,
        url,
        headers: HeaderMap::from_iter([
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (ACCEPT, HeaderValue::from_static("application/json")),
        ]),
        body: body.to_string().into_bytes(),
    };
    let fetched = egress.send(request).await?;
    match fetched.status {
        200..=299 => {}
        status if is_outage(status) => return Err(Failure::TryLater),
        _ => return Err(Failure::Refused),
    }
    let document = fetched.text();
    let answer = Members::parse(&document).ok_or(Failure::Refused)?;
    let uri = answer.text("registration_client_uri");
    let management = uri
        .filter(|uri| egress.check(uri).is_ok())
        .zip(answer.secret("registration_access_token"))
        .map(|(uri, token)| Management { uri, token });
    match accept(&answer, asked, redirect_uri) {
        Some(client) => {
            let ways = ClientAuth::ways(issuer.token_auth_methods.as_deref());
            let mut others = ways.into_iter().filter(|way| *way != client.auth);
            Ok(Registered {
                management,
                other: others.next().filter(|_| client.secret.is_some()),
                ..client
            })
        }
        None => {
            if let Some(Management { uri, token }) = &management {
                deregister(egress, uri, token).await;
            }
            Err(Failure::Refused)
        }
    }
}

/// The method to ask for; `None` if the server supports none of ours. A server that lists none does HTTP Basic (RFC
/// 8414 2).
fn method(supported: Option<&[String]>) -> Option<ClientAuth> {
    let Some(supported) = supported else {
        return Some(ClientAuth::Basic);
    };
    METHODS
        .into_iter()
        .find(|method| supported.iter().any(|name| name == method.as_str()))
}

/// The client that an answer describes; `None` if Hawser cannot be that client. Without a secret it is a public client,
/// whatever method the answer names.
fn accept(answer: &Members<'_>, asked: ClientAuth, redirect_uri: &str) -> Option<Registered> {
    let said = match answer.text("token_endpoint_auth_method") {
        Some(name) => METHODS.into_iter().find(|method| method.as_str() == name)?,
        // The default of RFC 7591 2, if the server gives a secret without having been asked for one.
        None if asked == ClientAuth::None => ClientAuth::Basic,
        None => asked,
    };
    let takes_redirect = answer
        .list("redirect_uris")
        .is_none_or(|uris| uris.iter().any(|uri| uri == redirect_uri));
    if !takes_redirect {
        return None;
    }
    let secret = answer.secret("client_secret");
    let secret = secret.filter(|_| said != ClientAuth::None);
    let expires_at = answer.integer("client_secret_expires_at");
    Some(Registered {
        client_id: answer.text("client_id")?,
        auth: secret.as_ref().map_or(ClientAuth::None, |_| said),
        other: None,
        secret_expires_at: expires_at.filter(|at| *at > 0 && secret.is_some()),
        secret,
        management: None,
    })
}

/// Removes a client (RFC 7592 2.3). A registration token that is refused means that its client is gone.
pub async fn deregister(egress: &Egress, uri: &str, token: &SecretString) -> Deregistered {
    let bearer = Zeroizing::new(format!("Bearer {}", token.expose_secret()));
    let Ok(mut bearer) = HeaderValue::from_str(&bearer) else {
        return Deregistered::Refused;
    };
    bearer.set_sensitive(true);
    let request = Outgoing {
        method: Method::DELETE,
        url: uri,
        headers: HeaderMap::from_iter([(AUTHORIZATION, bearer)]),
        body: Vec::new(),
    };
    match egress.send(request).await.map(|fetched| fetched.status) {
        Ok(200..=299 | 401 | 404 | 410) => Deregistered::Gone,
        Ok(status) if is_outage(status) => Deregistered::TryLater,
        Err(egress::Failure::Unreachable) => Deregistered::TryLater,
        Ok(_) | Err(egress::Failure::Refused | egress::Failure::TooLarge) => Deregistered::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::testing::{Server, body, header, reply};
    use crate::oauth::members::tests::anything;
    use proptest::prelude::*;
    use serde_json::Value;

    const REDIRECT: &str = "https://hawser.example/cb";

    fn issuer(endpoint: Option<String>, methods: Option<&[&str]>) -> Issuer {
        Issuer {
            issuer: "https://as.example".to_owned(),
            authorization_endpoint: String::new(),
            token_endpoint: String::new(),
            registration_endpoint: endpoint,
            revocation_endpoint: None,
            scopes_supported: None,
            token_auth_methods: methods
                .map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
            revocation_auth_methods: None,
            supports_s256: true,
            iss_advertised: false,
            takes_metadata_documents: false,
        }
    }

    async fn ask(status: u16, answer: &str) -> (Result<Registered, Failure>, Vec<String>) {
        let answer = answer.to_owned();
        let server = Server::start(move |base, request| match request.starts_with("POST") {
            true => reply(status, "", &answer.replace("BASE", base)),
            false => reply(204, "", ""),
        });
        let issuer = issuer(
            Some(format!("{}/register", server.url)),
            Some(&["client_secret_post"]),
        );
        let egress = Egress::new(true).unwrap();
        let got = register(
            &egress,
            &issuer,
            REDIRECT,
            &["a".to_owned(), "b".to_owned()],
        )
        .await;
        (got, server.requests())
    }

    #[tokio::test]
    async fn sends_all_that_servers_need_to_know() {
        let answer = r#"{"client_id":"c","client_secret":"s3cret","client_secret_expires_at":1893456000,
            "token_endpoint_auth_method":"client_secret_basic","redirect_uris":["https://hawser.example/cb"],
            "registration_client_uri":"BASE/c","registration_access_token":"m3nage"}"#;
        let (got, requests) = ask(201, answer).await;
        assert!(requests[0].starts_with("POST /register HTTP/1.1\r\n"));
        assert_eq!(
            header(&requests[0], "content-type"),
            Some("application/json")
        );
        assert_eq!(
            body(&requests[0]),
            r#"{"client_name":"Hawser","redirect_uris":["https://hawser.example/cb"],"#.to_owned()
                + r#""grant_types":["authorization_code","refresh_token"],"response_types":["code"],"#
                + r#""token_endpoint_auth_method":"client_secret_post","application_type":"web","scope":"a b"}"#
        );
        let client = got.unwrap();
        assert_eq!((&*client.client_id, client.auth), ("c", ClientAuth::Basic));
        assert_eq!(client.secret.as_ref().unwrap().expose_secret(), "s3cret");
        assert_eq!(client.secret_expires_at, Some(1_893_456_000));
        let management = client.management.as_ref().unwrap();
        assert!(management.uri.ends_with("/c"));
        assert_eq!(management.token.expose_secret(), "m3nage");
        let shown = format!("{client:?}");
        assert!(!shown.contains("s3cret") && !shown.contains("m3nage"));
    }

    #[tokio::test]
    async fn a_loopback_redirect_makes_a_native_client() {
        let server = Server::start(|_, _| reply(201, "", r#"{"client_id":"c"}"#));
        let egress = Egress::new(true).unwrap();
        for (redirect, kind) in [
            ("http://127.0.0.1:9/cb", "native"),
            ("http://localhost/cb", "native"),
            (REDIRECT, "web"),
        ] {
            let client = register(
                &egress,
                &issuer(Some(server.url.clone()), None),
                redirect,
                &[],
            )
            .await;
            assert!(client.is_ok());
            let sent: Value =
                serde_json::from_str(body(server.requests().last().unwrap())).unwrap();
            assert_eq!(sent["application_type"], kind);
            assert_eq!(sent.get("scope"), None);
        }
    }

    #[tokio::test]
    async fn an_unusable_client_is_removed_again() {
        let managed = r#""registration_client_uri":"BASE/c","registration_access_token":"m""#;
        for odd in [
            r#""token_endpoint_auth_method":"private_key_jwt""#,
            r#""redirect_uris":["https://other.example/"]"#,
        ] {
            let (got, requests) =
                ask(201, &format!(r#"{{"client_id":"c",{odd},{managed}}}"#)).await;
            assert_eq!(got.unwrap_err(), Failure::Refused);
            assert!(requests[1].starts_with("DELETE /c HTTP/1.1\r\n"));
            assert_eq!(header(&requests[1], "authorization"), Some("Bearer m"));
        }
        let inside = r#"{"client_id":"c","registration_client_uri":"http://0.0.0.0/","registration_access_token":"m"}"#;
        let (got, _) = ask(201, inside).await;
        assert!(got.unwrap().management.is_none());
    }

    #[tokio::test]
    async fn refusals_and_outages() {
        for (status, answer, expected) in [
            (400, r#"{"error":"invalid_redirect_uri"}"#, Failure::Refused),
            (403, "", Failure::Refused),
            (302, "", Failure::Refused),
            (200, "<html>", Failure::Refused),
            (201, "{}", Failure::Refused),
            (201, r#"{"client_id":""}"#, Failure::Refused),
            (429, "", Failure::TryLater),
            (503, "", Failure::TryLater),
        ] {
            let (got, requests) = ask(status, answer).await;
            assert_eq!(got.unwrap_err(), expected, "{status} {answer}");
            assert_eq!(requests.len(), 1);
        }
        let egress = Egress::new(true).unwrap();
        for (endpoint, methods) in [
            (None, None),
            (Some("https://10.0.0.1/"), None),
            (Some("https://as.example/"), Some(&["private_key_jwt"][..])),
        ] {
            let issuer = issuer(endpoint.map(str::to_owned), methods);
            let got = register(&egress, &issuer, REDIRECT, &[]).await;
            assert_eq!(got.unwrap_err(), Failure::Refused);
        }
    }

    #[test]
    fn asks_for_a_method_that_the_server_does() {
        let of = |names: &[&str]| method(issuer(None, Some(names)).token_auth_methods.as_deref());
        assert_eq!(method(None), Some(ClientAuth::Basic));
        assert_eq!(
            of(&["none", "client_secret_post", "client_secret_basic"]),
            Some(ClientAuth::Post)
        );
        assert_eq!(
            of(&["client_secret_basic", "none"]),
            Some(ClientAuth::Basic)
        );
        assert_eq!(of(&["none", "client_secret_post"]), Some(ClientAuth::Post));
        assert_eq!(of(&["private_key_jwt", "none"]), Some(ClientAuth::None));
        assert_eq!(of(&["private_key_jwt"]), None);
    }

    #[test]
    fn the_answer_counts() {
        let of = |asked, text: &str| {
            let document = format!(r#"{{"client_id":"c"{text}}}"#);
            let answer = Members::parse(&document).unwrap();
            let client = accept(&answer, asked, REDIRECT)?;
            Some((
                client.auth,
                client.secret.is_some(),
                client.secret_expires_at,
            ))
        };
        let said = |method: &str| {
            format!(r#","client_secret":"s","token_endpoint_auth_method":"{method}""#)
        };
        use ClientAuth::{Basic, None as Public, Post};
        assert_eq!(
            of(Basic, &said("client_secret_post")),
            Some((Post, true, None))
        );
        assert_eq!(
            of(Post, &said("client_secret_basic")),
            Some((Basic, true, None))
        );
        assert_eq!(of(Post, &said("none")), Some((Public, false, None)));
        assert_eq!(of(Post, &said("tls_client_auth")), None);
        assert_eq!(
            of(Post, r#","client_secret":"s""#),
            Some((Post, true, None))
        );
        assert_eq!(
            of(
                Public,
                r#","client_secret":"s","client_secret_expires_at":0"#
            ),
            Some((Basic, true, None))
        );
        assert_eq!(
            of(
                Basic,
                r#","client_secret":"s","client_secret_expires_at":"9""#
            ),
            Some((Basic, true, Some(9)))
        );
        let empty = r#","client_secret":"","token_endpoint_auth_method":"client_secret_basic","client_secret_expires_at":9"#;
        assert_eq!(of(Basic, empty), Some((Public, false, None)));
        assert_eq!(of(Basic, ""), Some((Public, false, None)));
        let method_in_a_list =
            r#","client_secret":"s","token_endpoint_auth_method":["client_secret_post"]"#;
        assert_eq!(of(Basic, method_in_a_list), Some((Post, true, None)));
    }

    proptest! {
        #[test]
        fn no_optional_member_costs_the_client(odd in anything(), which in 0..6usize) {
            let field = [
                "client_secret_expires_at",
                "client_id_issued_at",
                "scope",
                "grant_types",
                "registration_client_uri",
                "registration_access_token",
            ][which];
            let document = format!(r#"{{"client_id":"c","client_secret":"s","{field}":{odd}}}"#);
            let answer = Members::parse(&document).unwrap();
            let client = accept(&answer, ClientAuth::Post, REDIRECT).unwrap();
            prop_assert_eq!((&*client.client_id, client.auth), ("c", ClientAuth::Post));
            prop_assert!(client.secret.is_some());
        }
    }

    #[tokio::test]
    async fn a_client_that_is_not_there_is_gone() {
        let egress = Egress::new(true).unwrap();
        for (status, expected) in [
            (204, Deregistered::Gone),
            (200, Deregistered::Gone),
            (401, Deregistered::Gone),
            (404, Deregistered::Gone),
            (403, Deregistered::Refused),
            (405, Deregistered::Refused),
            (307, Deregistered::Refused),
            (408, Deregistered::TryLater),
            (429, Deregistered::TryLater),
            (500, Deregistered::TryLater),
        ] {
            let server = Server::start(move |_, _| reply(status, "Location: /x\r\n", ""));
            let got = deregister(&egress, &format!("{}/c?x=1", server.url), &"m".into()).await;
            assert_eq!(got, expected, "{status}");
            let requests = server.requests();
            assert!(requests[0].starts_with("DELETE /c?x=1 HTTP/1.1\r\n"));
            assert_eq!(
                (requests.len(), header(&requests[0], "authorization")),
                (1, Some("Bearer m"))
            );
        }
        let silent = Server::start(|_, _| String::new());
        assert_eq!(
            deregister(&egress, &silent.url, &"m".into()).await,
            Deregistered::TryLater
        );
        let inside = deregister(&egress, "https://10.0.0.1/", &"m".into()).await;
        assert_eq!(inside, Deregistered::Refused);
    }
}
