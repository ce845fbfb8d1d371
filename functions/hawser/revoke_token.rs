//! `POST /oauth/revoke`: an application says that a token is over, and ends its login with it (RFC 7009).

use super::oauth_client::{Form, OauthProblem};
use crate::http::{Request, Response, empty};
use hawser_core::App;
use hawser_core::operations::logins::{self, Revocation};
use lambda_http::Body;

/// Returns 200 once no token of the login is accepted any more, also where the token says nothing or is over already.
///
/// # Errors
/// [`OauthProblem`].
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, OauthProblem> {
    let form = Form::read(request)?;
    let client_id = form.client(app, request).await?;
    let token = form.required("token", "token is missing.")?.into();
    let revoked = logins::revoke(app, Revocation { client_id, token }).await?;
    revoked.map_err(OauthProblem::Refused)?;
    Ok(empty(200))
}
