//! `GET /oauth/signed-in`: the operator's OpenID provider sends the browser back (Inbound 2.4).

use super::sign_in::{Refusal, attempt_cookie, once, signed_in};
use crate::http::{Request, Response, public_base, query};
use hawser_core::App;
use hawser_core::operations::sign_in::{Answer, SignInFailure, finish};
use lambda_http::Body;

/// Returns the page that asks whether the application may go on, or 303 where that was asked before, or where the sign-in was
/// for a consent.
///
/// # Errors
/// [`Refusal`].
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Refusal> {
    let state = once(request, "state")?;
    let is_there = |name: &str| query(request).iter().any(|(n, _)| n == name);
    let optional = |name: &str| is_there(name).then(|| once(request, name)).transpose();
    let answer = Answer {
        state: state.clone(),
        code: optional("code")?.map(Into::into),
        error: optional("error")?,
        iss: optional("iss")?,
    };
    let base = public_base(app, request);
    let base = base.ok_or(Refusal::NotOffered)?;
    let cookie = attempt_cookie(request, &base, &state).ok_or(SignInFailure::Foreign)?;
    let (who, goal) = finish(app, &base, answer, &cookie).await?;
    signed_in(app, request, who, goal, &state, &cookie).await
}
