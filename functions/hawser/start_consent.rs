//! `GET /oauth/start`: a consent URL of ours is opened. Now the issuer is looked for, and the browser goes there.

use super::consent::{Refusal, once, set_cookie, way_back};
use crate::http::{Request, Response, query, with_header};
use crate::page::{page, redirect};
use hawser_core::App;
use hawser_core::Error;
use hawser_core::domain::session::Origin;
use hawser_core::operations::consent::{self, Opening};
use lambda_http::Body;
use secrecy::ExposeSecret;

/// Answers 303 to the issuer, with the cookie that its answer is bound to. An address serves once.
///
/// # Errors
/// [`Refusal`].
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Refusal> {
    let ticket = once(&query(request), "session")?.ok_or(Refusal::Spent)?;
    match consent::open(app, &ticket).await? {
        Opening::Go(opened) => {
            let cookie = set_cookie(&opened.base, &opened.session, opened.cookie.expose_secret());
            let response = redirect(opened.url.expose_secret());
            Ok(with_header(response, "set-cookie", &cookie))
        }
        Opening::Refused(session, why) => {
            debug_assert!(matches!(session.origin, Origin::Truefoundry { .. }));
            if let Some(back) = way_back(app, &session, false).await? {
                return Ok(back);
            }
            let (status, sentence) = match why {
                Error::UpstreamUnavailable => (
                    503,
                    "The server, or where it has its users sign in, does not answer at the moment. Try again later.",
                ),
                _ => (
                    502,
                    "The server's sign-in cannot be used. Whoever set the server up can find out why.",
                ),
            };
            Ok(page(status, "Not connected", sentence, None)?)
        }
    }
}
