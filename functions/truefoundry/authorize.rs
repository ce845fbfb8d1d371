//! `GET /mcp/{mcpServerId}/authorize`: what the caller needs, and where its consent starts (TrueFoundry 3.10).

use super::manifest::https_url_rule;
use super::problem::Problem;
use super::reader::{Faults, Reader};
use super::{admit, auth_status, query, server_id};
use crate::http::{Request, Response, json, public_base};
use hawser_core::App;
use hawser_core::auth::credentials::Presented;
use hawser_core::domain::id::ServerId;
use hawser_core::operations::credentials::{self, ServerAndRecords};
use hawser_core::operations::{Permitted, consent};
use lambda_http::Body;
use secrecy::ExposeSecret;
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
    let find = || find(app, who.clone(), id);
    let (base, return_to) = (asked.base.as_deref(), asked.return_to.as_deref());
    let (status, begun) = consent::start_required_consent(app, find, base, return_to).await?;
    let mut object = auth_status(status);
    if let Some(begun) = begun {
        object["authorization_endpoint"] = begun.url.expose_secret().into();
    }
    Ok(json(200, &object))
}

/// The caller's own records: anyone may ask, always for itself.
async fn find(
    app: &App,
    who: Presented,
    id: Option<ServerId>,
) -> Result<Permitted<ServerAndRecords>, Problem> {
    let at = credentials::find_own(app, who, id).await?.existing()?;
    at.permit(|_, _| Ok(()))
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
