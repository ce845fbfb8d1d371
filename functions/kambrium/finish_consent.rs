//! `/api/mcp-servers/saas-oauth/{provider}/callback/`: the issuer of an integration sends the browser back (Kambrium
//! 14). The page that opened this one as a popup learns how the consent ended; no other page does.

use crate::hawser::browser::has_cookie;
use crate::hawser::consent::{cookie, plain, reference};
use crate::http::{BODY_LIMIT, Code, Request, Response, body, form, json, path_parameter, query};
use crate::page::{page, redirect};
use hawser_core::domain::session::{Origin, Session};
use hawser_core::operations::consent::{self, Callback, ConsentOutcome};
use hawser_core::{App, Error, Result};
use lambda_http::Body;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tracing::error;
use url::Url;

/// Why an issuer's answer is refused.
#[derive(Debug)]
pub enum Refused {
    /// The answer belongs to no consent, or to one that is over. Nothing is stored.
    InvalidState,
    /// The error of the operation.
    Failed(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        match error {
            Error::SessionNotFound | Error::ServerNotFound => Self::InvalidState,
            error => Self::Failed(error),
        }
    }
}

/// Returns 200 with a page for people, by GET and POST alike.
///
/// # Errors
/// [`Refused`].
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Refused> {
    let callback = parse(request).ok_or(Refused::InvalidState)?;
    // A browser sends no cookie with an answer that another site posts. It sends the cookie with the GET of a redirect.
    if request.method() == "POST"
        && let Some(session) = consent::session_of(&callback.state)
        && !has_cookie(request, &session)
    {
        return Ok(redirect_to_get(&callback));
    }
    let provider = path_parameter(request, "provider");
    let fits = |origin: &Origin| matches!(origin, Origin::Kambrium { integration, .. } if *integration == provider);
    let bound = |session: &Session| cookie(request, session);
    let finished = consent::finish(app, callback, bound, fits).await?;
    let name = &finished.server.connection.display_name;
    let subject = finished.session.subject.id();
    let code = match &finished.ended {
        ConsentOutcome::Connected => {
            let message = json!({"type": "oauth_success", "providerName": name});
            let sentence = format!("{name} is connected for {subject}. You can close this window.");
            return Ok(popup_page(
                app,
                200,
                "Connected",
                &sentence,
                None,
                &message,
            )?);
        }
        ConsentOutcome::Void => return Err(Refused::InvalidState),
        ConsentOutcome::Refused(code) => shown(code),
        ConsentOutcome::Failed(_) => "server_error",
    };
    let message = json!({"type": "oauth_error", "error": code});
    let sentence = if code == "access_denied" {
        format!("Access to {name} was declined. You can close this window.")
    } else {
        let why = finished.ended.failure().map_or("", plain);
        format!("The sign-in for {name} did not succeed: {why}. Start again from where you came.")
    };
    let reference = reference(&finished.session);
    let reference = reference.as_deref();
    Ok(popup_page(
        app,
        200,
        "Not connected",
        &sentence,
        reference,
        &message,
    )?)
}

/// The page of a consent that could not begin. The page that opened it is notified as of any other failure.
///
/// # Errors
/// [`Error::Internal`] when the random generator fails.
pub(crate) fn failed_consent_page(
    app: &App,
    status: u16,
    sentence: &str,
    reference: Option<&str>,
) -> Result<Response<Body>> {
    let message = json!({"type": "oauth_error", "error": "server_error"});
    popup_page(app, status, "Not connected", sentence, reference, &message)
}

/// Redirects the browser to the same address by GET.
fn redirect_to_get(callback: &Callback) -> Response<Body> {
    let mut query = url::form_urlencoded::Serializer::new(String::from("?"));
    query.append_pair("state", &callback.state);
    if let Some(code) = &callback.code {
        query.append_pair("code", code.expose_secret());
    }
    let rest = [("error", &callback.error), ("iss", &callback.iss)];
    for (name, value) in rest {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    redirect(&query.finish())
}

/// The issuer's answer; `None` if a parameter is repeated or not readable.
fn parse(request: &Request) -> Option<Callback> {
    let sent = match request.method().as_str() {
        "POST" if body(request).len() > BODY_LIMIT => return None,
        "POST" => form(request),
        _ => query(request),
    };
    let once = |name: &str| {
        let mut values = sent.iter().filter(|(n, _)| n == name);
        match (values.next(), values.next()) {
            (value, None) => Some(value.map(|(_, value)| value.clone())),
            _ => None,
        }
    };
    let is_there = |value: &String| !value.is_empty();
    Some(Callback {
        state: once("state")??,
        code: once("code")?.filter(is_there).map(Into::into),
        error: once("error")?.filter(is_there),
        iss: once("iss")?,
    })
}

/// An issuer's error code as it may be passed on. Anything but one plain word is replaced.
fn shown(code: &str) -> &str {
    let word = code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if word && (1..=64).contains(&code.len()) {
        code
    } else {
        "invalid_request"
    }
}

/// A page that posts `message` to the page that opened it, if that has the operator's origin.
fn popup_page(
    app: &App,
    status: u16,
    heading: &str,
    sentence: &str,
    reference: Option<&str>,
    message: &Value,
) -> Result<Response<Body>> {
    let script = app.ui_origin.as_deref().and_then(target).map(|origin| {
        let (message, origin) = (in_script(message), in_script(&origin.into()));
        format!("if(window.opener)window.opener.postMessage({message},{origin})")
    });
    page(status, heading, sentence, reference, script.as_deref())
}

/// The one origin that may receive the message. Anything else that an operator could have written is ignored, above all
/// `*`.
fn target(ui_origin: &str) -> Option<String> {
    let origin = Url::parse(ui_origin).ok()?.origin();
    origin.is_tuple().then(|| origin.ascii_serialization())
}

/// JSON for a script element. It can neither end the element nor begin a comment in it.
fn in_script(value: &Value) -> String {
    let escape = |c: char| match c {
        '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    value.to_string().chars().map(escape).collect()
}

impl From<Refused> for Response<Body> {
    fn from(refused: Refused) -> Self {
        let (status, code, body) = match &refused {
            Refused::InvalidState => (
                400,
                "invalid_state",
                json!({
                    "success": false,
                    "error": "Invalid state parameter",
                    "message": "OAuth state validation failed. Possible CSRF attack.",
                }),
            ),
            // The words stay the same whatever the cause (Kambrium 1.1).
            Refused::Failed(cause) => {
                error!(%cause, "the request failed");
                let detail = "Failed to complete OAuth connection: database error";
                (500, "failed", json!({"detail": detail}))
            }
        };
        let mut response = json(status, &body);
        response.extensions_mut().insert(Code(code));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_message_leaves_its_script() {
        let name = "</script><!--\u{2028}&\"'\\";
        let message = in_script(&json!({ "providerName": name }));
        assert!(!message.contains(['<', '>', '&', '\u{2028}']), "{message}");
        let read: Value = serde_json::from_str(&message).unwrap();
        assert_eq!(read["providerName"], name);
    }

    #[test]
    fn only_an_origin_is_told() {
        for (ui_origin, told) in [
            ("https://ui.example", Some("https://ui.example")),
            (
                "https://ui.example:8443/app",
                Some("https://ui.example:8443"),
            ),
            ("*", None),
            ("null", None),
            ("data:text/html,x", None),
        ] {
            assert_eq!(target(ui_origin).as_deref(), told, "{ui_origin}");
        }
    }

    #[test]
    fn a_code_is_one_word() {
        let long = "a".repeat(65);
        for (code, expected) in [
            ("access_denied", "access_denied"),
            ("", "invalid_request"),
            ("Access denied", "invalid_request"),
            ("</script>", "invalid_request"),
            (long.as_str(), "invalid_request"),
            (&long[1..], &long[1..]),
        ] {
            assert_eq!(shown(code), expected);
        }
    }
}
