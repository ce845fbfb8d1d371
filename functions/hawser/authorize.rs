//! `GET /oauth/authorize`: an application sends a browser here to be let in. It changes nothing: what is asked is checked, and the
//! browser goes on to where people sign in (Inbound 2.3).

use super::application_request::read;
use super::resource::bases;
use super::sign_in::{Refusal, begin};
use crate::http::{Request, Response};
use hawser_core::App;
use hawser_core::operations::sign_in::Goal;
use lambda_http::Body;

/// Returns 303: to the sign-in, with a cookie that its answer is bound to, or back to the application with what is wrong.
///
/// # Errors
/// [`Refusal`] where there is no application to go back to.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Refusal> {
    if !app.sign_in.is_offered() {
        return Err(Refusal::NotOffered);
    }
    let query = request.uri().query().unwrap_or_default();
    match read(app, &bases(app, request), query).await? {
        Ok(_) => begin(app, request, Goal::Application(query.to_owned())).await,
        Err(back) => Ok(back),
    }
}
