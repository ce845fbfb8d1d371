//! `DELETE /mcp/{mcpServerId}/auth`: disconnect one subject (TrueFoundry 3.7).

use super::permission::require_self_or_manager;
use super::problem::Problem;
use super::reader::{Faults, Reader};
use super::{RECORD_HOLDERS, admit, dry_run, read_subject, server_id};
use crate::http::{Request, Response, body, dry_run_response, json};
use hawser_core::App;
use hawser_core::auth::credentials::Presented;
use hawser_core::domain::credential::Source;
use hawser_core::domain::id::ServerId;
use hawser_core::domain::subject::Subject;
use hawser_core::operations::credentials::{self, ServerAndRecords};
use hawser_core::operations::{Permitted, Removal};
use lambda_http::Body;
use serde_json::json;

/// Returns 200 with the receipt's id once the record is out of every read path; a second call is 404. With `dryRun=true`
/// nothing changes and the answer counts what would go.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let parsed = parse(request).and_then(|parsed| Ok((parsed, dry_run(request)?)));
    let (who, (asked, dry_run)) = admit(app, request, parsed).await?;
    let id = server_id(request);
    let (source, subject) = asked;
    let find = || find(app, who.clone(), id, &subject);
    let data = match credentials::disconnect(app, find, source, dry_run).await? {
        Removal::Planned(preview) => dry_run_response(&preview),
        Removal::Done(receipt) => json!({"receiptId": receipt}),
    };
    Ok(json(200, &json!({"data": data})))
}

/// The subject's records, for a caller who may end them.
async fn find(
    app: &App,
    who: Presented,
    id: Option<ServerId>,
    subject: &Subject,
) -> Result<Permitted<ServerAndRecords>, Problem> {
    credentials::find(app, who, id, subject.clone())
        .await?
        .existing()?
        .permit(|caller, at| require_self_or_manager(caller, &at.server, subject))
}

/// A body is required, and every field in it: nothing that is left out ever widens what is deleted.
fn parse(request: &Request) -> Result<(Source, Subject), Problem> {
    let mut faults = Faults::default();
    let parsed = Reader::body(body(request), &mut faults).and_then(|object| {
        let mut reader = Reader::new(&object, "", &mut faults);
        let source = reader.required_text("authSource", |text| match text {
            "oauth" | "auth-override" => Ok(()),
            _ => Err("is not one of the accepted values"),
        });
        let subject = read_subject(&mut reader, &RECORD_HOLDERS);
        let source = if source? == "oauth" {
            Source::Oauth
        } else {
            Source::Override
        };
        Some((source, subject?))
    });
    faults.into_result(parsed)
}
