//! Revoking tokens: by RFC 7009 (MCP authorization 7), and by the documented APIs of providers that do not support it.

use super::members::Members;
use super::token::Credentials;
use super::{is_outage, known, retry_after};
use crate::domain::endpoint_method::RevocationMethod;
use crate::egress::{Egress, Failure, Fetched, Outgoing};
use reqwest::Method;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::time::Duration;
use url::Url;
use zeroize::Zeroizing;

/// `token_type_hint`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// A refresh token.
    Refresh,
    /// An access token.
    Access,
}

/// What one attempt came to. What follows from it is a [`RevocationOutcome`](crate::domain::revocation::RevocationOutcome),
/// one of MCP authorization 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The endpoint confirmed it, and nothing in its answer contradicts that.
    Revoked,
    /// The endpoint does not know the token, or does not know it any more.
    AlreadyInvalid,
    /// The endpoint does not revoke tokens of this kind.
    Unsupported,
    /// The endpoint refused the client. Two more tries are worth it.
    InvalidClient,
    /// Any other definite refusal, or an address that is not allowed.
    Refused,
    /// The endpoint did not answer. A later try may succeed.
    TryLater,
}

/// The answer to one attempt, for the receipt.
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

/// Where tokens are revoked, and how.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint<'a> {
    /// The URL. For a provider's own method, without the client's id or the token at its end.
    pub url: &'a str,
    /// The revocation method.
    pub method: RevocationMethod,
    /// The client that the tokens were issued to, with its authentication at this endpoint.
    pub credentials: Credentials<'a>,
}

/// The body of an answer. Only the members that decide the verdict are read, and none is logged.
#[derive(Default)]
struct Said<'a>(Members<'a>);

impl Said<'_> {
    fn text(&self, name: &str) -> Option<String> {
        self.0.text(name)
    }

    fn is(&self, name: &str, value: bool) -> bool {
        self.0.value(name) == Some(Value::Bool(value))
    }

    /// Whether the body contradicts a 2xx: some APIs answer 200 to everything and report failures in the body.
    fn is_denial(&self) -> bool {
        let is_error = match self.0.value("error") {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Array(list)) => !list.is_empty(),
            Some(Value::Number(_) | Value::Bool(true) | Value::Object(_)) => true,
        };
        is_error
            || ["ok", "success", "revoked"]
                .iter()
                .any(|name| self.is(name, false))
    }
}

impl Endpoint<'_> {
    /// Presents one token once.
    pub async fn revoke(&self, egress: &Egress, token: &SecretString, hint: Hint) -> Answer {
        let sent = match (self.method, hint) {
            (RevocationMethod::Rfc7009, _) => {
                let form = [
                    ("token", token.expose_secret()),
                    ("token_type_hint", hint.as_str()),
                ];
                self.credentials.post(egress, self.url, &form).await
            }
            (RevocationMethod::Github, Hint::Access) => self.delete_at_github(egress, token).await,
            (RevocationMethod::Hubspot, Hint::Refresh) => {
                self.delete_at_hubspot(egress, token).await
            }
            (RevocationMethod::Slack, Hint::Access) => self.revoke_at_slack(egress, token).await,
            // GitHub and Slack do not document it for refresh tokens.
            (RevocationMethod::Github | RevocationMethod::Slack, Hint::Refresh)
            | (RevocationMethod::Hubspot, Hint::Access) => {
                return Answer::unasked(Verdict::Unsupported);
            }
        };
        match sent {
            Ok(fetched) => Answer {
                verdict: self.verdict(&fetched),
                status: Some(fetched.status),
                retry_after: retry_after(&fetched.headers),
            },
            Err(failure) => Answer::unasked(match failure {
                Failure::Unreachable => Verdict::TryLater,
                Failure::Refused | Failure::TooLarge => Verdict::Refused,
            }),
        }
    }

    fn verdict(&self, fetched: &Fetched) -> Verdict {
        let document = fetched.text();
        let said = Said(Members::parse(&document).unwrap_or_default());
        match self.method {
            RevocationMethod::Rfc7009 => standard(fetched.status, &said),
            RevocationMethod::Github => github(fetched, &said),
            RevocationMethod::Hubspot => hubspot(fetched.status, &said),
            RevocationMethod::Slack => slack(fetched.status, &said),
        }
    }

    /// GitHub's "Delete an app token": HTTP Basic of the OAuth app, the token in the body.
    async fn delete_at_github(
        &self,
        egress: &Egress,
        token: &SecretString,
    ) -> Result<Fetched, Failure> {
        let url = self.below([self.credentials.client.id.as_str(), "token"])?;
        let accept = HeaderValue::from_static("application/vnd.github+json");
        let json = HeaderValue::from_static("application/json");
        let request = Outgoing {
            method: Method::DELETE,
            url: &url,
            headers: HeaderMap::from_iter([
                (AUTHORIZATION, self.credentials.basic()?),
                (ACCEPT, accept),
                (CONTENT_TYPE, json),
            ]),
            body: serde_json::to_vec(&json!({"access_token": token.expose_secret()}))
                .map_err(|_| Failure::Refused)?,
        };
        egress.send(request).await
    }

    /// HubSpot's "Delete a refresh token": the token authenticates the request.
    async fn delete_at_hubspot(
        &self,
        egress: &Egress,
        token: &SecretString,
    ) -> Result<Fetched, Failure> {
        let url = Zeroizing::new(self.below([token.expose_secret()])?);
        let request = Outgoing {
            method: Method::DELETE,
            url: &url,
            headers: HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]),
            body: Vec::new(),
        };
        egress.send(request).await
    }

    /// Slack's `auth.revoke`: the token authenticates the request.
    async fn revoke_at_slack(
        &self,
        egress: &Egress,
        token: &SecretString,
    ) -> Result<Fetched, Failure> {
        let bearer = Zeroizing::new(format!("Bearer {}", token.expose_secret()));
        let mut bearer = HeaderValue::from_str(&bearer).map_err(|_| Failure::Refused)?;
        bearer.set_sensitive(true);
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        let request = Outgoing {
            method: Method::POST,
            url: self.url,
            headers: HeaderMap::from_iter([(AUTHORIZATION, bearer), (CONTENT_TYPE, form)]),
            body: Vec::new(),
        };
        egress.send(request).await
    }

    /// The URL with further path segments, each escaped.
    fn below<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Result<String, Failure> {
        let mut url = Url::parse(self.url).map_err(|_| Failure::Refused)?;
        url.path_segments_mut()
            .map_err(|()| Failure::Refused)?
            .pop_if_empty()
            .extend(segments);
        Ok(url.into())
    }
}

impl Answer {
    /// A verdict without an answer: nothing was sent, or nothing came back.
    pub const fn unasked(verdict: Verdict) -> Self {
        Self {
            verdict,
            status: None,
            retry_after: None,
        }
    }
}

/// The verdict by RFC 7009. An error in the body counts before the status: a 200 with an error has revoked nothing.
fn standard(status: u16, said: &Said<'_>) -> Verdict {
    match (status, known(said.text("error").as_deref())) {
        (_, "invalid_token" | "invalid_grant") => Verdict::AlreadyInvalid,
        (_, "unsupported_token_type") => Verdict::Unsupported,
        (_, "invalid_client" | "unauthorized_client") => Verdict::InvalidClient,
        (_, "temporarily_unavailable" | "server_error") => Verdict::TryLater,
        (200..=299, _) if said.is_denial() => Verdict::Refused,
        (200..=299, _) => Verdict::Revoked,
        (status, _) if is_outage(status) => Verdict::TryLater,
        (401, "") => Verdict::InvalidClient,
        _ => Verdict::Refused,
    }
}

/// GitHub's verdict. 204 is documented for a deleted token. 404 with a body of GitHub's API means that the token does
/// not exist. A rate limit is a 403 or 429.
fn github(fetched: &Fetched, said: &Said<'_>) -> Verdict {
    let is_limited = fetched.headers.contains_key(RETRY_AFTER)
        || fetched
            .headers
            .get("x-ratelimit-remaining")
            .is_some_and(|left| left == "0");
    match fetched.status {
        204 => Verdict::Revoked,
        404 if said.text("message").as_deref() == Some("Not Found") => Verdict::AlreadyInvalid,
        401 => Verdict::InvalidClient,
        403 if is_limited => Verdict::TryLater,
        status if is_outage(status) => Verdict::TryLater,
        _ => Verdict::Refused,
    }
}

/// HubSpot's verdict. 204 is documented. A token that does not exist has an error of its own, or a 404 with HubSpot's
/// body.
fn hubspot(status: u16, said: &Said<'_>) -> Verdict {
    match (status, said.text("status").as_deref()) {
        (_, Some("BAD_REFRESH_TOKEN")) | (404, Some(_)) => Verdict::AlreadyInvalid,
        (200..=299, None) if !said.is_denial() => Verdict::Revoked,
        (status, _) if is_outage(status) => Verdict::TryLater,
        _ => Verdict::Refused,
    }
}

/// Slack's verdict. Slack answers 200 to everything: `ok` says whether it understood, `revoked` whether the token is
/// revoked. `invalid_auth` does not prove that a token has ended: Slack also sends it to network addresses that may not
/// ask.
fn slack(status: u16, said: &Said<'_>) -> Verdict {
    match said.text("error").unwrap_or_default().as_str() {
        "token_revoked" | "token_expired" | "account_inactive" => return Verdict::AlreadyInvalid,
        "not_allowed_token_type" | "not_bearer_token" => return Verdict::Unsupported,
        "ratelimited"
        | "internal_error"
        | "fatal_error"
        | "service_unavailable"
        | "request_timeout"
        | "team_added_to_org" => return Verdict::TryLater,
        _ => {}
    }
    let is_done = said.is("ok", true) && said.is("revoked", true) && !said.is_denial();
    match status {
        200..=299 if is_done => Verdict::Revoked,
        status if is_outage(status) => Verdict::TryLater,
        _ => Verdict::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::endpoint_method::ClientAuth;
    use crate::egress::testing::{Server, body, header, reply};
    use crate::oauth::token::tests::client;

    async fn ask_by(
        method: RevocationMethod,
        answer: String,
        auth: ClientAuth,
        hint: Hint,
    ) -> (Answer, Vec<String>) {
        let server = Server::start(move |_, _| answer.clone());
        let (client, secret) = (client(auth), "s".into());
        let url = format!("{}/base/", server.url);
        let endpoint = Endpoint {
            url: &url,
            method,
            credentials: Credentials {
                client: &client,
                secret: Some(&secret),
            },
        };
        let egress = Egress::new(true).unwrap();
        let got = endpoint.revoke(&egress, &"t&k".into(), hint).await;
        (got, server.requests())
    }

    async fn ask(answer: String, auth: ClientAuth, hint: Hint) -> (Answer, String) {
        let (got, requests) = ask_by(RevocationMethod::Rfc7009, answer, auth, hint).await;
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
            assert!(request.starts_with("POST /base/ HTTP/1.1\r\n"));
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
                let endpoint = Endpoint {
                    url: &server.url,
                    method: RevocationMethod::Rfc7009,
                    credentials: Credentials {
                        client: &client,
                        secret: Some(&secret),
                    },
                };
                let egress = Egress::new(true).unwrap();
                let hint = Hint::Refresh;
                let got = endpoint.revoke(&egress, &"t".into(), hint).await;
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

    fn fetched(status: u16, body: &str) -> Fetched {
        Fetched {
            status,
            headers: HeaderMap::new(),
            body: Zeroizing::new(body.into()),
        }
    }

    fn judge(method: RevocationMethod, fetched: &Fetched) -> Verdict {
        let client = client(ClientAuth::Basic);
        let endpoint = Endpoint {
            url: "https://as.example/",
            method,
            credentials: Credentials {
                client: &client,
                secret: None,
            },
        };
        endpoint.verdict(fetched)
    }

    #[test]
    fn every_answer_has_its_verdict() {
        for (status, word, expected) in [
            (200, "invalid_client", Verdict::InvalidClient),
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
            let body = json!({"error": word}).to_string();
            let got = judge(RevocationMethod::Rfc7009, &fetched(status, &body));
            assert_eq!(got, expected, "{status} {word}");
        }
    }

    #[test]
    fn a_200_that_says_otherwise_has_revoked_nothing() {
        for (body, expected) in [
            ("", Verdict::Revoked),
            ("{}", Verdict::Revoked),
            ("OK", Verdict::Revoked),
            (r#"{"error":null}"#, Verdict::Revoked),
            (r#"{"error":""}"#, Verdict::Revoked),
            (r#"{"error":false,"ok":true}"#, Verdict::Revoked),
            (r#"{"revoked":true}"#, Verdict::Revoked),
            (r#"{"error":"s3cret"}"#, Verdict::Refused),
            (r#"{"error":{"code":401}}"#, Verdict::Refused),
            (r#"{"error":["x"]}"#, Verdict::Refused),
            (r#"["error"]"#, Verdict::Revoked),
            ("\u{feff}{\"error\":\"x\"}", Verdict::Refused),
            (r#"{"error":"x","at":1e999}"#, Verdict::Refused),
            (r#"{"error":"x","error":"y"}"#, Verdict::Refused),
            (r#"{"error":7}"#, Verdict::Refused),
            (r#"{"ok":false}"#, Verdict::Refused),
            (r#"{"ok":false,"error":"token_revoked"}"#, Verdict::Refused),
            (r#"{"success":false}"#, Verdict::Refused),
            (r#"{"ok":true,"revoked":false}"#, Verdict::Refused),
            (r#"{"error":"invalid_token"}"#, Verdict::AlreadyInvalid),
            (r#"{"error":"server_error"}"#, Verdict::TryLater),
            (
                r#"{"error":"unsupported_token_type"}"#,
                Verdict::Unsupported,
            ),
        ] {
            let got = judge(RevocationMethod::Rfc7009, &fetched(200, body));
            assert_eq!(got, expected, "{body}");
        }
    }

    #[test]
    fn each_provider_has_its_own_verdicts() {
        use RevocationMethod::{Github, Hubspot, Slack};
        let missing =
            r#"{"message":"Not Found","documentation_url":"https://docs.github.com/rest"}"#;
        for (method, status, body, expected) in [
            (Github, 204, "", Verdict::Revoked),
            (Github, 200, "<html>", Verdict::Refused),
            (Github, 404, missing, Verdict::AlreadyInvalid),
            (Github, 404, "<html>", Verdict::Refused),
            (Github, 401, "{}", Verdict::InvalidClient),
            (Github, 403, "{}", Verdict::Refused),
            (Github, 422, "{}", Verdict::Refused),
            (Github, 429, "{}", Verdict::TryLater),
            (Github, 502, "", Verdict::TryLater),
            (Hubspot, 204, "", Verdict::Revoked),
            (Hubspot, 200, r#"{"status":"error"}"#, Verdict::Refused),
            (
                Hubspot,
                400,
                r#"{"status":"BAD_REFRESH_TOKEN"}"#,
                Verdict::AlreadyInvalid,
            ),
            (
                Hubspot,
                404,
                r#"{"status":"error"}"#,
                Verdict::AlreadyInvalid,
            ),
            (Hubspot, 404, "<html>", Verdict::Refused),
            (Hubspot, 401, "{}", Verdict::Refused),
            (Hubspot, 429, r#"{"status":"error"}"#, Verdict::TryLater),
            (Hubspot, 500, "", Verdict::TryLater),
            (
                Slack,
                200,
                r#"{"ok":true,"revoked":true}"#,
                Verdict::Revoked,
            ),
            (
                Slack,
                200,
                r#"{"ok":true,"revoked":false}"#,
                Verdict::Refused,
            ),
            (Slack, 200, r#"{"ok":true}"#, Verdict::Refused),
            (
                Slack,
                200,
                r#"{"ok":"true","revoked":"true"}"#,
                Verdict::Refused,
            ),
            (Slack, 200, "<html>", Verdict::Refused),
            (
                Slack,
                200,
                r#"{"ok":false,"error":"invalid_auth"}"#,
                Verdict::Refused,
            ),
            (
                Slack,
                200,
                r#"{"ok":false,"error":"token_revoked"}"#,
                Verdict::AlreadyInvalid,
            ),
            (
                Slack,
                200,
                r#"{"ok":false,"error":"token_expired"}"#,
                Verdict::AlreadyInvalid,
            ),
            (
                Slack,
                200,
                r#"{"ok":false,"error":"not_allowed_token_type"}"#,
                Verdict::Unsupported,
            ),
            (
                Slack,
                200,
                r#"{"ok":false,"error":"internal_error"}"#,
                Verdict::TryLater,
            ),
            (
                Slack,
                429,
                r#"{"ok":false,"error":"ratelimited"}"#,
                Verdict::TryLater,
            ),
            (Slack, 503, "", Verdict::TryLater),
        ] {
            let got = judge(method, &fetched(status, body));
            assert_eq!(got, expected, "{method:?} {status} {body}");
        }
        let mut limited = fetched(403, "{}");
        let none_left = HeaderValue::from_static("0");
        limited.headers.insert("x-ratelimit-remaining", none_left);
        assert_eq!(judge(Github, &limited), Verdict::TryLater);
    }

    #[tokio::test]
    async fn each_provider_is_asked_in_its_own_way() {
        use RevocationMethod::{Github, Hubspot, Slack};
        let ok = || reply(204, "", "");
        let (answer, requests) = ask_by(Github, ok(), ClientAuth::Post, Hint::Access).await;
        assert_eq!(answer.verdict, Verdict::Revoked);
        let request = &requests[0];
        let line = "DELETE /base/id%20with:odd%2F%C3%A9/token HTTP/1.1\r\n";
        assert!(request.starts_with(line), "{request}");
        assert!(
            header(request, "authorization")
                .unwrap()
                .starts_with("Basic ")
        );
        assert_eq!(body(request), r#"{"access_token":"t&k"}"#);

        let (answer, requests) = ask_by(Hubspot, ok(), ClientAuth::Post, Hint::Refresh).await;
        assert_eq!(answer.verdict, Verdict::Revoked);
        let request = &requests[0];
        assert!(
            request.starts_with("DELETE /base/t&k HTTP/1.1\r\n"),
            "{request}"
        );
        assert_eq!(header(request, "authorization"), None);

        let done = reply(200, "", r#"{"ok":true,"revoked":true}"#);
        let (answer, requests) = ask_by(Slack, done, ClientAuth::Basic, Hint::Access).await;
        assert_eq!(answer.verdict, Verdict::Revoked);
        let request = &requests[0];
        assert!(request.starts_with("POST /base/ HTTP/1.1\r\n"), "{request}");
        assert_eq!(header(request, "authorization"), Some("Bearer t&k"));

        for (method, hint) in [
            (Github, Hint::Refresh),
            (Hubspot, Hint::Access),
            (Slack, Hint::Refresh),
        ] {
            let (answer, requests) = ask_by(method, ok(), ClientAuth::Basic, hint).await;
            assert_eq!(answer, Answer::unasked(Verdict::Unsupported));
            assert!(requests.is_empty(), "{method:?}");
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
        let endpoint = Endpoint {
            url: "https://[::ffff:8.8.8.8]/",
            method: RevocationMethod::Rfc7009,
            credentials: Credentials {
                client: &client,
                secret: None,
            },
        };
        let egress = Egress::new(true).unwrap();
        let answer = endpoint.revoke(&egress, &"t".into(), Hint::Refresh).await;
        assert_eq!((answer.verdict, answer.status), (Verdict::Refused, None));
    }
}
