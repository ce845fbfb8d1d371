//! Shared by the pages of a consent: refusals, the cookie that binds a browser, and the address to which the browser returns.

use super::browser::cookie_of;
use super::refusal;
use crate::http::{Code, Request, Response, with_header};
use crate::page::{page, redirect};
use hawser_core::domain::consent_failure::ConsentFailure;
use hawser_core::domain::credential::Source;
use hawser_core::domain::id::{Sortable, hash};
use hawser_core::domain::server::Server;
use hawser_core::domain::session::{Origin, Session};
use hawser_core::domain::status::Status;
use hawser_core::domain::subject::SubjectType;
use hawser_core::operations::consent;
use hawser_core::operations::sign_in::{BrowserSession, read_browser_session};
use hawser_core::{App, Error};
use lambda_http::Body;
use tracing::{error, warn};
use url::Url;

/// The cookie of a browser in which somebody has signed in.
pub const SESSION_COOKIE: &str = "signed-in";

/// Why a page of a consent refuses a request.
#[derive(Debug)]
pub enum Refusal {
    /// The address is unknown, was used before, or has expired.
    Spent,
    /// The request does not come from the button of our own page in this browser.
    Foreign,
    /// The consent belongs to another person than the one who has signed in; with both.
    AnotherPersons(String, String),
    /// Nobody has signed in, and the sign-in did not begin.
    SignIn(refusal::Refusal),
    /// Too many consents were started.
    TooMany,
    /// The operation failed.
    Domain(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::SessionNotFound | Error::ServerNotFound => Self::Spent,
            error => Self::Domain(error),
        }
    }
}

impl From<Refusal> for Response<Body> {
    fn from(refusal: Refusal) -> Self {
        let refusal = match refusal {
            Refusal::SignIn(refusal) => return refusal.into(),
            Refusal::AnotherPersons(whose, who) => return another_persons(&whose, &who),
            refusal => refusal,
        };
        let (status, code, sentence) = match &refusal {
            Refusal::SignIn(_) | Refusal::AnotherPersons(..) | Refusal::Spent => (
                400,
                "spent",
                "This address was used before, is too old, or was not made here. Start again from where you came.",
            ),
            Refusal::Foreign => (
                403,
                "foreign",
                "This did not come from the button of the page in this browser. Allow cookies, open the address again, and press the button there.",
            ),
            Refusal::TooMany => (
                429,
                "too_many_consents",
                "Too many sign-ins were started here within a short time. Wait ten minutes, then start again from where you came.",
            ),
            Refusal::Domain(Error::Unavailable(_)) => (
                503,
                "unavailable",
                "Something is not available at the moment. Start again from where you came.",
            ),
            Refusal::Domain(_) => (
                500,
                "internal_error",
                "Something went wrong. Start again from where you came.",
            ),
        };
        if let Refusal::Domain(cause) = &refusal {
            error!(%cause, "the request failed");
        }
        let shown = page(status, "Not connected", sentence, None, None);
        let mut response = shown.unwrap_or_else(|_| crate::http::empty(500));
        response.extensions_mut().insert(Code(code));
        match status {
            429 => with_header(response, "retry-after", "600"),
            _ => response,
        }
    }
}

/// The page for a person who opens the consent of another person.
fn another_persons(whose: &str, who: &str) -> Response<Body> {
    let sentence = format!(
        "This address is for {whose}, and you have signed in as {who}. Whoever sent it to you would have had your account \
         connected to theirs. Close this window."
    );
    let shown = page(403, "This is not yours", &sentence, None, None);
    let mut response = shown.unwrap_or_else(|_| crate::http::empty(500));
    response.extensions_mut().insert(Code("another_persons"));
    response
}

/// The person who has signed in in a browser; `None` where nobody has, or where people do not sign in.
///
/// # Errors
/// Wraps the error of an operation.
pub async fn signed_in(
    app: &App,
    request: &Request,
    base: &str,
) -> Result<Option<BrowserSession>, Error> {
    match cookie_of(request, base, SESSION_COOKIE) {
        Some(cookie) if app.sign_in.is_offered() => read_browser_session(app, &cookie).await,
        _ => Ok(None),
    }
}

/// Whether somebody who has signed in may give a consent: the subject may, and for a virtual account those who manage the
/// tenant (Inbound 4.3).
pub fn may_give(who: &BrowserSession, session: &Session) -> bool {
    let manages = session.subject.kind() == SubjectType::VirtualAccount && who.manages;
    who.tenant == session.tenant && (who.subject == session.subject || manages)
}

/// Refuses whoever may not give a consent.
///
/// # Errors
/// [`Refusal::AnotherPersons`].
pub fn refuse_another(who: &BrowserSession, session: &Session) -> Result<(), Refusal> {
    if may_give(who, session) {
        return Ok(());
    }
    let (whose, who) = (session.subject.id(), who.subject.id());
    Err(Refusal::AnotherPersons(whose.to_owned(), who.to_owned()))
}

/// The one value of a parameter; a parameter that is there twice refuses the whole request.
pub fn once(parameters: &[(String, String)], name: &str) -> Result<Option<String>, Refusal> {
    let mut values = parameters.iter().filter(|(n, _)| n == name);
    match (values.next(), values.next()) {
        (value, None) => Ok(value.map(|(_, value)| value.clone())),
        _ => Err(Refusal::Spent),
    }
}

/// The value of a session's cookie, by the one name that its base gives it.
pub fn cookie(request: &Request, session: &Session) -> Option<String> {
    cookie_of(request, session.origin.base(), &session.id)
}

/// The token in the form of a session's page, which depends on the cookie of the browser and on the sign-in that the page names.
/// Another site that makes the browser post cannot read the cookie, and a token of another browser or sign-in is not accepted.
pub fn form_token(session: &Session, cookie: &str, sign_in: &str) -> String {
    let id = &session.id;
    hash(&format!("hawser consent form\n{id}\n{cookie}\n{sign_in}"))
}

/// The name of a server on pages: in consents of Kambrium its display name, as its owner knows it.
pub fn shown_name<'a>(session: &Session, server: &'a Server) -> &'a str {
    match session.origin {
        Origin::Kambrium { .. } => &server.connection.display_name,
        _ => &server.name,
    }
}

/// The reference of a consent: the same in the log, in the audit log, in the server's status and on the page.
pub fn reference(session: &Session) -> Option<String> {
    session.ulid().map(Sortable::ulid)
}

/// The reason for a failed consent, in words that follow a colon.
pub const fn plain(failure: ConsentFailure) -> &'static str {
    match failure {
        ConsentFailure::OauthNotEnabled => "its users do not sign in to it",
        ConsentFailure::NoMetadata => "it does not say where its users sign in",
        ConsentFailure::MetadataUnusable => "what it says about its sign-in cannot be used",
        ConsentFailure::ResourceMismatch => {
            "what it says about its sign-in is about another server"
        }
        ConsentFailure::IssuerMismatch => "its sign-in goes by another name than the server says",
        ConsentFailure::NoS256 => "its sign-in does not say that it supports PKCE with S256",
        ConsentFailure::NoClient => {
            "its sign-in lets no application register by itself, and no client has been set up"
        }
        ConsentFailure::RegistrationRefused => {
            "its sign-in refused to register this service as an application"
        }
        ConsentFailure::ClientOfOtherIssuer => {
            "it names another sign-in than the one that its client was set up for"
        }
        ConsentFailure::IssuerNotAllowed => "its sign-in is none that this service may use",
        ConsentFailure::IssuerUnreachable => {
            "the server, or where it has its users sign in, does not answer at the moment"
        }
        ConsentFailure::AccessDenied => "access was declined",
        ConsentFailure::IssuerError => "its sign-in answered with an error",
        ConsentFailure::WrongIssuer => "the answer does not come from the sign-in that was asked",
        ConsentFailure::NoCode => "the answer of its sign-in is not complete",
        ConsentFailure::ClientRefused => {
            "its sign-in does not know this service as an application any more; the next try may register it anew"
        }
        ConsentFailure::CodeRefused => "its sign-in did not take back the code that it had given",
        ConsentFailure::TokenUnusable => "what its sign-in gave cannot be used",
        ConsentFailure::Void => "it was changed or disconnected meanwhile",
        ConsentFailure::Internal => "something went wrong here",
    }
}

/// The redirect at the end of a consent: back to the application that sent the browser, with the outcome (TrueFoundry 3.10);
/// `None` if no application did. If a grant was stored, no further read is needed, so a failure of the store does not hide it.
pub async fn way_back(
    app: &App,
    session: &Session,
    connected: bool,
) -> Result<Option<Response<Body>>, Refusal> {
    let Origin::Truefoundry {
        return_to: Some(url),
        ..
    } = &session.origin
    else {
        return Ok(None);
    };
    let mut url = Url::parse(url).map_err(|cause| Refusal::Domain(Error::internal(cause)))?;
    let status = match consent::status_after(app, session).await {
        Err(cause @ Error::Unavailable(_)) if connected => {
            warn!(%cause, "the status after a consent was not read");
            Status::Authenticated(Source::Oauth)
        }
        read => read?,
    };
    let mut query = url.query_pairs_mut();
    query.append_pair("mcpServerId", &session.server.prefixed());
    match status {
        Status::Required { reason, .. } => query
            .append_pair("status", "authentication_required")
            .append_pair("reason", reason.as_str()),
        _ => query.append_pair("status", "authenticated"),
    };
    drop(query);
    Ok(Some(redirect(url.as_str())))
}
