//! `GET /oauth/callback`: an issuer sends the browser back.

use super::consent::{Refusal, cookie, once, plain, reference, way_back};
use crate::http::{Request, Response, query};
use crate::page::page;
use hawser_core::domain::session::{Origin, Session};
use hawser_core::operations::consent::{self, Callback, ConsentOutcome};
use hawser_core::{App, Error};
use lambda_http::Body;

/// Returns 200 with a page that says how the consent ended, or 303 to the application that began it.
///
/// # Errors
/// [`Refusal`]: a response that belongs to no open consent is 400, and nothing changes.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Refusal> {
    let parameters = query(request);
    let callback = Callback {
        state: once(&parameters, "state")?.ok_or(Refusal::Spent)?,
        code: once(&parameters, "code")?.map(Into::into),
        error: once(&parameters, "error")?,
        iss: once(&parameters, "iss")?,
    };
    let bound = |session: &Session| cookie(request, session);
    // A Kambrium consent is answered at its own path.
    let fits = |origin: &Origin| !matches!(origin, Origin::Kambrium { .. });
    let finished = consent::finish(app, callback, bound, fits).await?;
    let connected = finished.ended == ConsentOutcome::Connected;
    match way_back(app, &finished.session, connected).await {
        Ok(Some(back)) => return Ok(back),
        Ok(None) => {}
        // The page below says it as well.
        Err(Refusal::Domain(Error::Unavailable(_))) => {}
        Err(refusal) => return Err(refusal),
    }
    let name = &finished.server.name;
    let subject = finished.session.subject.id();
    let (heading, sentence) = match &finished.ended {
        ConsentOutcome::Connected => (
            "Connected",
            // Whoever was lured here sees whom their account now serves.
            format!("{name} is connected for {subject}. You can close this window."),
        ),
        ConsentOutcome::Refused(code) if code == "access_denied" => (
            "Not connected",
            format!("Access to {name} was declined. You can close this window."),
        ),
        ConsentOutcome::Refused(_) | ConsentOutcome::Failed(_) => {
            let why = finished.ended.failure().map_or("", plain);
            let sentence = format!(
                "The sign-in for {name} did not succeed: {why}. Start again from where you came."
            );
            ("Not connected", sentence)
        }
        ConsentOutcome::Void => (
            "Not connected",
            format!(
                "{name} was changed or disconnected meanwhile. Start again from where you came."
            ),
        ),
    };
    let reference = finished
        .ended
        .failure()
        .and_then(|_| reference(&finished.session));
    Ok(page(200, heading, &sentence, reference.as_deref(), None)?)
}
