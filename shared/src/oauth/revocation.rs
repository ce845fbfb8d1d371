//! The revocation endpoint (RFC 7009): section 7.

use super::members::Members;
use super::token::Credentials;
use super::{is_outage, known, retry_after};
use crate::egress::{Egress, Failure};
use secrecy::{ExposeSecret, SecretString};
use std::time::Duration;

/// `token_type_hint`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// A refresh token.
    Refresh,
    /// An access token.
    Access,
}

/// What one attempt came to (outcome table of section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The endpoint said so, with a 2xx.
    Revoked,
    /// The endpoint says that the token is none (any more).
    AlreadyInvalid,
    /// The endpoint does not revoke such tokens.
    Unsupported,
    /// The client is not accepted: worth two more tries.
    InvalidClient,
    /// Any other definite refusal, or an address that is not allowed.
    Refused,
    /// An outage.
    TryLater,
}

/// What one attempt came to, for the receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The verdict.
    pub verdict: Verdict,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// How long the server asks to be left alone, five minutes at most.
    pub retry_after: Option<Duration>,
}

impl Hint {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Refresh => "refresh_token",
            Self::Access => "access_token",
        }
    }
}

/// Presents one token once. Of the answer's body only a known `error` counts.
pub async fn revoke(
    egress: &Egress,
    url: &str,
    credentials: &Credentials<'_>,
    token: &SecretString,
    hint: Hint,
) -> Answer {
    let form = [
        ("token", token.expose_secret()),
        ("token_type_hint", hint.as_str()),
    ];
    match credentials.post(egress, url, &form).await {
        Ok(fetched) => {
            let document = fetched.text();
            let error = Members::parse(&document).unwrap_or_default().text("error");
            Answer {
                verdict: verdict(fetched.status, known(error.as_deref())),
                status: Some(fetched.status),
                retry_after: retry_after(&fetched.headers),
            }
        }
        Err(failure) => Answer {
            verdict: match failure {
                Failure::Unreachable => Verdict::TryLater,
                Failure::Refused | Failure::TooLarge => Verdict::Refused,
            },
            status: None,
            retry_after: None,
        },
    }
}

fn verdict(status: u16, word: &str) -> Verdict {
    match (status, word) {
        (200..=299, _) => Verdict::Revoked,
        (_, "invalid_token" | "invalid_grant") => Verdict::AlreadyInvalid,
        (_, "unsupported_token_type") => Verdict::Unsupported,
        (_, "invalid_client" | "unauthorized_client") => Verdict::InvalidClient,
        (_, "temporarily_unavailable" | "server_error") => Verdict::TryLater,
        (status, _) if is_outage(status) => Verdict::TryLater,
        (401, "") => Verdict::InvalidClient,
        _ => Verdict::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::issuance::ClientAuth;
    use crate::egress::testing::{Server, body, header, reply};
    use crate::oauth::token::tests::client;

    async fn ask(answer: String, auth: ClientAuth, hint: Hint) -> (Answer, String) {
        let server = Server::start(move |_, _| answer.clone());
        let (client, secret) = (client(auth), "s".into());
        let credentials = Credentials {
            client: &client,
            secret: Some(&secret),
        };
        let egress = Egress::new(true).unwrap();
        let got = revoke(&egress, &server.url, &credentials, &"t&k".into(), hint).await;
        let requests = server.requests();
        assert_eq!(requests.len(), 1);
        (got, requests[0].clone())
    }

    #[tokio::test]
    async fn presents_the_token_as_the_client_it_was_issued_to() {
        for (auth, hint, form) in [
            (
                ClientAuth::None,
                Hint::Refresh,
                "token=t%26k&token_type_hint=refresh_token&client_id=id+with%3Aodd%2F%C3%A9",
            ),
            (
                ClientAuth::Post,
                Hint::Access,
                "token=t%26k&token_type_hint=access_token&client_id=id+with%3Aodd%2F%C3%A9&client_secret=s",
            ),
            (
                ClientAuth::Basic,
                Hint::Access,
                "token=t%26k&token_type_hint=access_token",
            ),
        ] {
            let (answer, request) = ask(reply(200, "", "ignored"), auth, hint).await;
            assert!(request.starts_with("POST / HTTP/1.1\r\n"));
            assert_eq!(body(&request), form);
            assert_eq!(
                header(&request, "authorization").is_some(),
                auth == ClientAuth::Basic
            );
            let expected = Answer {
                verdict: Verdict::Revoked,
                status: Some(200),
                retry_after: None,
            };
            assert_eq!(answer, expected);
        }
    }

    #[tokio::test]
    async fn an_endpoint_that_misses_the_secret_in_the_form_is_shown_it() {
        for (auth, secret) in [
            (ClientAuth::None, ""),
            (ClientAuth::Basic, "s"),
            (ClientAuth::BasicWithId, "s"),
            (ClientAuth::Post, "s"),
        ] {
            for is_met in [true, false] {
                let server = Server::start(move |_, request| {
                    let complete = format!("client_secret={secret}");
                    match body(request).ends_with(&complete)
                        || body(request).contains(&(complete + "&"))
                    {
                        true if is_met => reply(200, "", ""),
                        _ => reply(400, "", r#"{"error":"invalid_request"}"#),
                    }
                });
                let (client, secret) = (client(auth), "s".into());
                let credentials = Credentials {
                    client: &client,
                    secret: Some(&secret),
                };
                let egress = Egress::new(true).unwrap();
                let hint = Hint::Refresh;
                let got = revoke(&egress, &server.url, &credentials, &"t".into(), hint).await;
                let expected = match is_met {
                    true => (Verdict::Revoked, Some(200)),
                    false => (Verdict::Refused, Some(400)),
                };
                assert_eq!((got.verdict, got.status), expected, "{auth:?}");
                let asked = if auth == ClientAuth::Post { 1 } else { 2 };
                let requests = server.requests();
                assert_eq!(requests.len(), asked);
                assert_eq!(body(&requests[asked - 1]).matches("client_id=").count(), 1);
            }
        }
    }

    #[test]
    fn every_answer_has_its_verdict() {
        for (status, word, expected) in [
            (200, "invalid_client", Verdict::Revoked),
            (204, "", Verdict::Revoked),
            (400, "invalid_token", Verdict::AlreadyInvalid),
            (400, "invalid_grant", Verdict::AlreadyInvalid),
            (400, "unsupported_token_type", Verdict::Unsupported),
            (503, "unsupported_token_type", Verdict::Unsupported),
            (400, "invalid_client", Verdict::InvalidClient),
            (401, "", Verdict::InvalidClient),
            (400, "unauthorized_client", Verdict::InvalidClient),
            (400, "", Verdict::Refused),
            (400, "invalid_request", Verdict::Refused),
            (403, "", Verdict::Refused),
            (404, "", Verdict::Refused),
            (302, "", Verdict::Refused),
            (408, "", Verdict::TryLater),
            (429, "", Verdict::TryLater),
            (500, "", Verdict::TryLater),
            (503, "", Verdict::TryLater),
            (400, "temporarily_unavailable", Verdict::TryLater),
        ] {
            assert_eq!(verdict(status, word), expected, "{status} {word}");
        }
    }

    #[tokio::test]
    async fn faults_are_tried_again_and_refused_addresses_are_not() {
        let busy = reply(429, "Retry-After: 9999\r\n", r#"{"error":"s3cret"}"#);
        let (answer, _) = ask(busy, ClientAuth::None, Hint::Access).await;
        let pause = Some(Duration::from_secs(300));
        assert_eq!(
            answer,
            Answer {
                verdict: Verdict::TryLater,
                status: Some(429),
                retry_after: pause
            }
        );
        let (answer, _) = ask(String::new(), ClientAuth::None, Hint::Access).await;
        assert_eq!((answer.verdict, answer.status), (Verdict::TryLater, None));
        let redirect = reply(307, "Location: /elsewhere\r\n", "");
        let (answer, _) = ask(redirect, ClientAuth::None, Hint::Access).await;
        assert_eq!(answer.verdict, Verdict::Refused);
        let client = client(ClientAuth::None);
        let credentials = Credentials {
            client: &client,
            secret: None,
        };
        let egress = Egress::new(true).unwrap();
        let answer = revoke(
            &egress,
            "https://[::ffff:8.8.8.8]/",
            &credentials,
            &"t".into(),
            Hint::Refresh,
        )
        .await;
        assert_eq!((answer.verdict, answer.status), (Verdict::Refused, None));
    }
}
