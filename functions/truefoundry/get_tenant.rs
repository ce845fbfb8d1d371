//! `GET /tenant-id`: what the command line asks before it uses a token (TrueFoundry 3.15).

use super::problem::Problem;
use super::query;
use crate::http::{Request, Response, json, public_base};
use hawser_core::domain::id::is_plain_text;
use hawser_core::{App, Error};
use lambda_http::Body;
use serde_json::{Value, json};

const HOST_NAME: &str = "hostName";

/// Returns 200, to anyone. Nothing is looked up: which tenant a caller is in is said by its token alone.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let query = query(request)?;
    let host = match query.get(HOST_NAME).and_then(Value::as_str) {
        None => return Err(Problem::fault(HOST_NAME, "is required")),
        Some(host) if !is_plain_text(host, 255) => {
            return Err(Problem::fault(HOST_NAME, "is no name of a host"));
        }
        Some(host) => host,
    };
    let tenant = app.default_tenant.as_ref().map_or(host, |one| one.as_str());
    let unknown = || Error::internal("the public base URL is neither configured nor in the event");
    let base = public_base(app, request).ok_or_else(unknown)?;
    Ok(json(
        200,
        &json!({"tenantName": tenant, "auth_server_url": base}),
    ))
}
