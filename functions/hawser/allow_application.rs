//! `POST /oauth/authorize`: the answer of a person to the page that asks whether an application may act for them (Inbound 2.5).

use super::application_request::read;
use super::resource::bases;
use super::sign_in::{Refusal, attempt_cookie, done, give_code, is_cross_site, once};
use crate::http::{Request, Response};
use hawser_core::App;
use hawser_core::operations::authorization::{open_question, remember};
use hawser_core::operations::sign_in::SignInFailure;
use lambda_http::Body;

/// Returns 303 to the application: with a code, or with `access_denied`. Only the browser in which the person has signed in can
/// answer, by its cookie. The response removes the cookie, so the question is answered once.
///
/// # Errors
/// [`Refusal`].
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Refusal> {
    if !app.sign_in.is_offered() {
        return Err(Refusal::NotOffered);
    }
    let (sealed, state) = (once(request, "question")?, once(request, "state")?);
    let bases = bases(app, request);
    let base = bases.first().ok_or(Refusal::NotOffered)?;
    let cookie = attempt_cookie(request, base, &state).ok_or(SignInFailure::Foreign)?;
    if is_cross_site(app, request) {
        return Err(SignInFailure::Foreign.into());
    }
    let question = open_question(app, &sealed, &cookie).await?;
    let question = question.ok_or(SignInFailure::Foreign)?;
    let asked = match read(app, &bases, &question.query).await? {
        Ok(asked) => asked,
        Err(back) => return Ok(done(back, base, &state)),
    };
    let answer = match once(request, "decision")?.as_str() {
        "allow" => {
            remember(app, &question, asked.wanted()).await?;
            give_code(app, question, &asked).await?
        }
        _ => asked.refusal("access_denied", "The person has declined."),
    };
    Ok(done(answer, base, &state))
}
