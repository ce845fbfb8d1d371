//! `GET /v1/receipts`: the receipts that the caller may read, newest first, of one server or one subject if asked.

use super::problem::Problem;
use super::{admit, before, number, present, server, subject};
use crate::http::{Request, Response, json};
use hawser_core::App;
use hawser_core::domain::id::{ServerId, Sortable};
use hawser_core::domain::receipt::{Receipt, Removed};
use hawser_core::domain::subject::Subject;
use hawser_core::operations::receipts;
use lambda_http::Body;
use serde_json::json;

struct Asked {
    server: Option<ServerId>,
    subject: Option<Subject>,
    limit: u64,
    before: Option<String>,
}

/// Returns 200 with a page of at most `limit` (1 to 1000, default 100), and in `next` what to send as `before` for the next
/// one: null when there are no more, else there may be, also behind a short page.
///
/// # Errors
/// [`Problem`].
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let (who, asked) = admit(app, request, parse(request)).await?;
    let caller = app.identify(who).await?;
    let wanted = |receipt: &Receipt| {
        asked
            .server
            .is_none_or(|server| Some(server) == receipt.server)
            && asked
                .subject
                .as_ref()
                .is_none_or(|asked| match &receipt.removed {
                    Removed::Credential { subject, .. }
                    | Removed::Subject { subject }
                    | Removed::Login { subject, .. } => subject == asked,
                    Removed::Server { .. } | Removed::All { .. } => false,
                })
    };
    let limit = usize::try_from(asked.limit).unwrap_or(usize::MAX);
    let (page, next) = receipts::list(app, &caller, asked.before.as_deref(), limit, wanted).await?;
    let data: Vec<_> = page.iter().map(present).collect();
    Ok(json(200, &json!({"data": data, "next": next})))
}

fn parse(request: &Request) -> Result<Asked, Problem> {
    Ok(Asked {
        server: server(request)?,
        subject: subject(request)?,
        limit: number(request, "limit", 1, 1000, 100)?,
        before: before(request)?.map(Sortable::ulid),
    })
}
