//! `GET /oauth/start`: the page on which every consent starts. It changes nothing, so that link previews, prefetches and reloads
//! are harmless; what its button posts is answered by `hawser-start-consent`.

use super::browser::set_cookie;
use super::consent::{Refusal, cookie, form_token, once, refuse_another, shown_name, signed_in};
use crate::http::{Request, Response, query, with_header};
use crate::page::{Button, Question, anywhere};
use data_encoding::BASE64URL_NOPAD;
use hawser_core::App;
use hawser_core::domain::id::random;
use hawser_core::domain::subject::SubjectType;
use hawser_core::operations::consent::{self, Preview};
use lambda_http::Body;
use url::{Host, Url};

/// Returns 200 with a page that says who would be connected to what, with a cookie that its form is bound to; to HEAD the
/// same without the page.
///
/// # Errors
/// [`Refusal`].
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Refusal> {
    let ticket = once(&query(request), "session")?.ok_or(Refusal::Spent)?;
    let preview = consent::preview(app, &ticket).await?;
    let session = &preview.session;
    // A second tab goes on with the cookie of the first.
    let cookie = match cookie(request, session).filter(|value| value.len() == COOKIE_LENGTH) {
        Some(cookie) => cookie,
        None => BASE64URL_NOPAD.encode(&random::<32>()?),
    };
    let base = session.origin.base();
    let who = signed_in(app, request, base).await?;
    if let Some(who) = &who {
        refuse_another(who, session)?;
    }
    let signs_in = app.sign_in.is_offered() && who.is_none();
    let mut response = question(&preview, &ticket, &cookie, signs_in)?;
    response = with_header(
        response,
        "set-cookie",
        &set_cookie(base, &session.id, &cookie),
    );
    if request.method() == "HEAD" {
        *response.body_mut() = Body::Empty;
    }
    Ok(response)
}

/// 32 bytes in base64url.
const COOKIE_LENGTH: usize = 43;

/// The page, for the browser with this cookie. What it says of the sign-in is in its form, so that the button leads nowhere else.
/// `signs_in`: nobody has signed in there, and the button leads to that first.
pub(super) fn question(
    preview: &Preview,
    ticket: &str,
    cookie: &str,
    signs_in: bool,
) -> Result<Response<Body>, Refusal> {
    let Preview {
        session, server, ..
    } = preview;
    let named = preview.sign_in.as_deref().unwrap_or_default();
    let token = form_token(session, cookie, named);
    let name = shown_name(session, server);
    let subject = session.subject.id();
    let at = place(&server.shown_url());
    let sign_in = preview.sign_in.as_deref().map(place);
    let whose = match session.subject.kind() {
        SubjectType::User => subject.to_owned(),
        kind => format!("{subject} ({})", kind.as_str()),
    };
    let scopes = match preview.scopes.as_slice() {
        [] => "What the server asks for by itself".to_owned(),
        scopes => scopes.join(", "),
    };
    let facts = [
        ("To be connected", whose),
        ("MCP server", format!("{name}, at {at}")),
        (
            "Where you sign in",
            sign_in.clone().unwrap_or_else(|| {
                format!("Wherever {at} says: your browser will show the address")
            }),
        ),
        ("Asked for", scopes),
    ];
    let warnings = warnings(preview, name, &at, sign_in.as_deref(), signs_in);
    let base = session.origin.base();
    let path = Url::parse(base).map(|url| url.path().trim_end_matches('/').to_owned());
    let question = Question {
        heading: &format!("Connect {name}"),
        sentence: &format!("{subject} asks to be connected to the MCP server {name}."),
        facts: &facts,
        warnings: &warnings,
        fields: &[("session", ticket), ("sign_in", named), ("token", &token)],
        action: &format!("{}{}", path.unwrap_or_default(), consent::START_PATH),
        input: None,
        buttons: &[Button {
            text: if signs_in { "Sign in" } else { "Continue" },
            field: None,
        }],
        // The issuer may not be known yet.
        targets: anywhere(base),
    };
    Ok(question.page()?)
}

/// What the subject should know before the button is pressed.
fn warnings(
    preview: &Preview,
    name: &str,
    at: &str,
    sign_in: Option<&str>,
    signs_in: bool,
) -> Vec<String> {
    let Preview {
        session, server, ..
    } = preview;
    let subject = session.subject.id();
    let mut warnings = vec![format!(
        "Whoever signs in next lets {subject} use their account at {name}. If you are not {subject}, or did not ask for this, \
         close this window."
    )];
    if let Some(sign_in) = sign_in
        && !are_related(preview.sign_in.as_deref().unwrap_or_default(), &server.url)
    {
        warnings.push(format!(
            "You will sign in at {sign_in}, which is not part of {at}. Go on only if you expect that."
        ));
    }
    if session.subject.kind() == SubjectType::VirtualAccount {
        warnings.push(format!(
            "{subject} is a virtual account: whoever manages the tenant may connect it, with an account that is meant for it."
        ));
    }
    if signs_in {
        warnings.push(format!(
            "First sign in here, so that it is certain that you are {subject}, or may act for it."
        ));
    }
    warnings
}

/// The host and port of an address.
fn place(url: &str) -> String {
    let Ok(url) = Url::parse(url) else {
        return url.to_owned();
    };
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Whether two addresses have the same host, or one has a host under that of the other. That two hosts share an owner by
/// another name cannot be known without a list of public suffixes, so this errs on the side of a warning.
fn are_related(one: &str, other: &str) -> bool {
    let (Ok(one), Ok(other)) = (Url::parse(one), Url::parse(other)) else {
        return false;
    };
    match (one.host(), other.host()) {
        (Some(Host::Domain(one)), Some(Host::Domain(other))) => {
            let is_under = |low: &str, high: &str| {
                low.strip_suffix(high)
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            };
            is_under(one, other) || is_under(other, one)
        }
        (one, other) => one.is_some() && one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_hosts_belong_together() {
        for (one, other, related) in [
            ("https://a.example", "https://a.example:8443/x", true),
            ("https://a.example", "https://mcp.a.example", true),
            (
                "https://login.mcp.a.example/t",
                "https://mcp.a.example",
                true,
            ),
            ("https://nota.example", "https://a.example", false),
            ("https://auth.a.example", "https://mcp.a.example", false),
            ("https://evil.co.uk", "https://bank.co.uk", false),
            ("http://127.0.0.1:1", "http://127.0.0.1:2", true),
            ("http://127.0.0.1", "http://27.0.0.1", false),
            ("http://[::1]:1", "http://[::1]:2", true),
            ("urn:x", "https://a.example", false),
        ] {
            assert_eq!(are_related(one, other), related, "{one} {other}");
            assert_eq!(are_related(other, one), related, "{one} {other}");
        }
    }
}
