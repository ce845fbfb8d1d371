//! What the pages of a consent share: their refusals, the cookie that binds a browser, and where a browser goes at the end.

use crate::http::{Code, Request, Response, header};
use crate::page::{page, redirect};
use hawser_core::App;
use hawser_core::Error;
use hawser_core::domain::credential::Source;
use hawser_core::domain::session::{CONSENT_LIFETIME, Origin, Session};
use hawser_core::domain::status::Status;
use hawser_core::operations::consent;
use lambda_http::Body;
use tracing::{error, warn};
use url::Url;

/// Why a page cannot do its work.
#[derive(Debug)]
pub enum Refusal {
    /// The address was made by nobody, was used before, or is too old.
    Spent,
    /// Whatever the operation said.
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
        let (status, code, sentence) = match &refusal {
            Refusal::Spent => (
                400,
                "spent",
                "This address was used before, is too old, or was not made here. Start again from where you came.",
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
        let shown = page(status, "Not connected", sentence, None);
        let mut response = shown.unwrap_or_else(|_| crate::http::empty(500));
        response.extensions_mut().insert(Code(code));
        response
    }
}

/// The one value of a parameter; a parameter that is there twice refuses the whole request.
pub fn once(parameters: &[(String, String)], name: &str) -> Result<Option<String>, Refusal> {
    let mut values = parameters.iter().filter(|(n, _)| n == name);
    match (values.next(), values.next()) {
        (value, None) => Ok(value.map(|(_, value)| value.clone())),
        _ => Err(Refusal::Spent),
    }
}

/// Name of a session's cookie: only our own host over https can set it, where we are reached so.
fn cookie_name(base: &str, session: &str) -> String {
    let prefix = if base.starts_with("https://") {
        "__Host-"
    } else {
        ""
    };
    format!("{prefix}hawser-{session}")
}

/// The header that sets a session's cookie.
pub fn set_cookie(base: &str, session: &str, value: &str) -> String {
    let secure = if base.starts_with("https://") {
        "; Secure"
    } else {
        ""
    };
    let name = cookie_name(base, session);
    format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={CONSENT_LIFETIME}{secure}")
}

/// The value of a session's cookie, by the one name that its base gives it.
pub fn cookie(request: &Request, session: &Session) -> Option<String> {
    let Origin::Truefoundry { base, .. } = &session.origin else {
        return None;
    };
    let name = cookie_name(base, &session.id);
    header(request, "cookie")?.split(';').find_map(|pair| {
        let (n, value) = pair.trim().split_once('=')?;
        (n == name).then(|| value.to_owned())
    })
}

/// Where a browser goes when a consent is over: back to the application that sent it, with what came of it (TrueFoundry
/// 3.10), or nowhere. That a grant was stored is known without another look, so a store that does not answer one does not
/// hide it.
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
