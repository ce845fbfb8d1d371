//! `GET /mcp/{mcpServerId}/authorize`: what the caller needs, and where its consent starts (TrueFoundry 3.10).

use super::manifest::https_url_rule;
use super::problem::Problem;
use super::reader::{Faults, Reader};
use super::{admit, auth_status, query, server_id};
use crate::http::{Request, Response, json, public_base};
use hawser_core::App;
use hawser_core::auth::credentials::Presented;
use hawser_core::domain::error::Error;
use hawser_core::domain::id::ServerId;
use hawser_core::domain::server::Auth;
use hawser_core::domain::status::{Status, status};
use hawser_core::operations::{Permitted, consent, credentials, retry_on_contention};
use lambda_http::Body;
use secrecy::ExposeSecret;
use serde_json::Value;
use url::Url;

/// Where the consent URL is to lead.
struct Asked {
    base: Option<String>,
    return_to: Option<String>,
}

/// Returns 200 with the caller's status object; with a consent URL beside it if that is what the caller needs. Contacts
/// nobody: the issuer is looked for when the URL is opened.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let (who, asked) = admit(app, request, parse(app, request)).await?;
    let id = server_id(request);
    let status = retry_on_contention(
        || attempt(app, who.clone(), id, &asked),
        Problem::is_contended,
    )
    .await?;
    Ok(json(200, &status))
}

async fn attempt(
    app: &App,
    who: Presented,
    id: Option<ServerId>,
    asked: &Asked,
) -> Result<Value, Problem> {
    let at = credentials::find_own(app, who, id).await?.existing()?;
    // Anyone may ask, always for itself.
    let Permitted { caller, found } = at.permit(|_, _| Ok::<_, Problem>(()))?;
    let now = status(&found.server, &found.records, app.now());
    let mut object = auth_status(now);
    let consents = matches!(found.server.auth, Auth::Oauth(_));
    if consents && matches!(now, Status::Required { .. }) {
        let base = asked
            .base
            .as_deref()
            .ok_or_else(|| Error::internal("no consent can start: HAWSER_PUBLIC_URL is not set"))?;
        let server = Permitted {
            caller,
            found: found.server,
        };
        let begun =
            consent::start_consent(app, &server, base, asked.return_to.clone(), None).await?;
        object["authorization_endpoint"] = begun.url.expose_secret().into();
    }
    Ok(object)
}

fn parse(app: &App, request: &Request) -> Result<Asked, Problem> {
    let parameters = query(request)?;
    let mut faults = Faults::default();
    let mut reader = Reader::new(&parameters, "", &mut faults);
    let gateway = reader.checked("gatewayBaseURL", |sent| {
        match configured(&app.public_urls, sent) {
            Some(_) => Ok(()),
            None => Err("must have the origin of a public base URL of this service"),
        }
    });
    let return_to = reader.checked("redirectURL", |sent| {
        https_url_rule(true)(sent)?;
        match configured(&app.return_origins, sent) {
            Some(_) => Ok(()),
            None => Err("must have an origin that the operator allows"),
        }
    });
    let asked = Asked {
        base: match gateway {
            Some(sent) => configured(&app.public_urls, sent).cloned(),
            None => public_base(app, request),
        },
        return_to: return_to.map(str::to_owned),
    };
    faults.into_result(Some(asked))
}

/// The first of these with the origin of what was sent.
fn configured<'a>(allowed: &'a [String], sent: &str) -> Option<&'a String> {
    let sent = Url::parse(sent).ok()?.origin();
    allowed
        .iter()
        .find(|one| Url::parse(one).is_ok_and(|one| one.origin() == sent))
}
