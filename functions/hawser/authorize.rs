//! `GET /oauth/authorize`: the authorization endpoint, to which applications send a browser. It changes nothing: it validates
//! the request and redirects the browser to the sign-in (Inbound 2.3).

use super::application_request::read;
use super::resource::bases;
use super::sign_in::{Refusal, begin};
use crate::http::{Request, Response};
use hawser_core::App;
use hawser_core::operations::sign_in::Goal;
use lambda_http::Body;

/// Returns 303: to the sign-in, with a cookie that binds its answer to this browser, or back to the application with an error.
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
