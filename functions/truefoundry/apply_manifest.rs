//! `PUT /apply`: create or update by name, as the SDK and `tfy apply` do it (TrueFoundry 3.12).

use super::problem::Problem;
use super::put_server::{self, Applied};
use crate::http::{Request, Response, json};
use hawser_core::App;
use lambda_http::Body;
use serde::Serialize;
use serde_json::value::RawValue;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    existing_manifest: Option<Box<RawValue>>,
    action: &'static str,
    data: Box<RawValue>,
}

/// Returns 200 with the manifest from before, what was done, and the server. It is `PUT /mcp` in every other respect.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let Applied { existing, data } = put_server::apply(app, request).await?;
    let action = if existing.is_some() {
        "UPDATE"
    } else {
        "CREATE"
    };
    let answer = Answer {
        existing_manifest: existing,
        action,
        data,
    };
    Ok(json(200, &answer))
}
