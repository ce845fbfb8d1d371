//! `GET /v1/audit`: the audit log of the tenant, newest first, of one server or one subject if asked; as JSON, or as JSON
//! lines for export.

use super::problem::Problem;
use super::{admit, before, number, server, subject};
use crate::http::{Request, Response, header, json, json_lines, with_header};
use hawser_core::App;
use hawser_core::domain::event::Event;
use hawser_core::domain::id::{ServerId, Sortable};
use hawser_core::domain::subject::Subject;
use hawser_core::operations::audit_log;
use lambda_http::Body;
use serde_json::{Value, json};

struct Asked {
    server: Option<ServerId>,
    subject: Option<Subject>,
    limit: u64,
    before: Option<Sortable>,
}

/// Returns 200 with a page of at most `limit` (1 to 1000, default 100), and in `next` what to send as `before` for the next
/// one: null when there are no more, else there may be, also behind a short page. With `Accept: application/x-ndjson` each
/// event is a line, and `next` is in the header `Hawser-Next`.
///
/// # Errors
/// [`Problem`].
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let (who, asked) = admit(app, request, parse(request)).await?;
    let caller = app.identify(who).await?;
    if !caller.is_tenant_admin() {
        return Err(Problem::NotAdmin);
    }
    let wanted = |event: &Event| {
        let of_server = asked.server.is_none_or(|id| event.server == Some(id));
        let whose = asked.subject.as_ref();
        of_server && whose.is_none_or(|subject| event.subject.as_ref() == Some(subject))
    };
    let limit = usize::try_from(asked.limit).unwrap_or(usize::MAX);
    let (page, next) = audit_log::list(app, &caller.tenant, asked.before, limit, wanted).await?;
    let lines = page
        .iter()
        .map(Event::chained_line)
        .collect::<Result<Vec<_>, _>>()?;
    let as_lines = header(request, "accept")
        .is_some_and(|accept| accept.to_ascii_lowercase().contains("application/x-ndjson"));
    if as_lines {
        let response = json_lines(&lines);
        return Ok(match next {
            Some(next) => with_header(response, "hawser-next", &next.ulid()),
            None => response,
        });
    }
    let data = lines
        .iter()
        .map(|line| serde_json::from_str(line))
        .collect::<Result<Vec<Value>, _>>()
        .map_err(hawser_core::Error::internal)?;
    Ok(json(200, &json!({"data": data, "next": next})))
}

fn parse(request: &Request) -> Result<Asked, Problem> {
    Ok(Asked {
        server: server(request)?,
        subject: subject(request)?,
        limit: number(request, "limit", 1, 1000, 100)?,
        before: before(request)?,
    })
}
