//! `POST /oauth/start`: the button of a consent's page was pressed. Now the issuer is looked for, and the browser goes there.

use super::browser::{is_cross_site, set_cookie};
use super::consent::{
    Refusal, cookie, form_token, once, plain, reference, refuse_another, shown_name, signed_in,
    way_back,
};
use super::show_consent::question;
use super::sign_in::begin;
use crate::http::{BODY_LIMIT, Request, Response, body, form, public_base, with_header};
use crate::kambrium::finish_consent::failed_consent_page;
use crate::page::{page, redirect};
use hawser_core::App;
use hawser_core::domain::consent_failure::ConsentFailure;
use hawser_core::domain::server::Server;
use hawser_core::domain::session::{Origin, Session};
use hawser_core::operations::consent::{self, OpenOutcome};
use hawser_core::operations::sign_in::Goal;
use lambda_http::Body;
use secrecy::ExposeSecret;
use std::sync::OnceLock;

/// Returns 303 to the issuer. The issuer's response is bound to the same cookie as the form. A consent is started once. If the
/// server now uses another sign-in than the page named, returns 200 with a page that names the new one.
///
/// # Errors
/// [`Refusal`].
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Refusal> {
    if body(request).len() > BODY_LIMIT {
        return Err(Refusal::Spent);
    }
    let sent = form(request);
    let ticket = once(&sent, "session")?.ok_or(Refusal::Spent)?;
    let token = once(&sent, "token")?.unwrap_or_default();
    let named = once(&sent, "sign_in")?.unwrap_or_default();
    // Everybody comes back to our own base from a sign-in, and has its cookie there.
    let base = public_base(app, request).unwrap_or_default();
    let who = signed_in(app, request, &base).await?;
    if app.sign_in.is_offered() && who.is_none() {
        let goal = Goal::Consent(ticket);
        return begin(app, request, goal).await.map_err(Refusal::SignIn);
    }
    let another = OnceLock::new();
    let browser = |session: &Session| {
        if let Some(Err(refusal)) = who.as_ref().map(|who| refuse_another(who, session)) {
            // It is called once.
            let _ = another.set(refusal);
            return None;
        }
        let base = session.origin.base();
        cookie(request, session)
            .filter(|cookie| form_token(session, cookie, &named) == token)
            .filter(|_| !is_cross_site(app, request, base))
    };
    let named = Some(named.as_str()).filter(|named| !named.is_empty());
    match consent::open(app, &ticket, named, browser).await? {
        OpenOutcome::Redirect(opened) => {
            let session = &opened.session;
            let response = redirect(opened.url.expose_secret());
            // From now on it has to last as long as the consent.
            let bound = cookie(request, session).unwrap_or_default();
            let cookie = set_cookie(session.origin.base(), &session.id, &bound);
            Ok(with_header(response, "set-cookie", &cookie))
        }
        OpenOutcome::SignInChanged(preview) => {
            let cookie = cookie(request, &preview.session).unwrap_or_default();
            question(&preview, &ticket, &cookie, false)
        }
        OpenOutcome::UnboundBrowser => Err(another.into_inner().unwrap_or(Refusal::Foreign)),
        OpenOutcome::TooMany => Err(Refusal::TooMany),
        OpenOutcome::Refused(session, server, failure) => {
            not_connected(app, &session, &server, failure).await
        }
    }
}

/// The end of a consent that could not start at the issuer.
async fn not_connected(
    app: &App,
    session: &Session,
    server: &Server,
    failure: ConsentFailure,
) -> Result<Response<Body>, Refusal> {
    if let Some(back) = way_back(app, session, false).await? {
        return Ok(back);
    }
    let name = shown_name(session, server);
    let why = plain(failure);
    let (status, advice) = match failure {
        ConsentFailure::IssuerUnreachable => (503, "Try again later."),
        _ => (502, "Whoever set the server up can find out more."),
    };
    let sentence = format!("{name} cannot be connected: {why}. {advice}");
    let reference = reference(session);
    let reference = reference.as_deref();
    Ok(if matches!(session.origin, Origin::Kambrium { .. }) {
        failed_consent_page(app, status, &sentence, reference)?
    } else {
        page(status, "Not connected", &sentence, reference, None)?
    })
}
