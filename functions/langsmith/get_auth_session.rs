//! `GET /auth-sessions/{session_id}`: the state of a consent, by long polling (LangSmith 2.9, 4).

use super::problem::Problem;
use super::{Permission, admit, may_use};
use crate::http::{Request, Response, json, path_parameter, query};
use hawser_core::domain::session::{Origin, Session};
use hawser_core::operations::consent::{parse_session_id, session_id};
use hawser_core::operations::sessions::{self, ConsentState};
use hawser_core::{App, Error};
use lambda_http::Body;
use serde_json::json;
use std::time::Duration;

const WAIT: std::ops::RangeInclusive<u64> = 1..=25;

/// Returns 200 with the state. While that is `PENDING` the answer is held for `wait_seconds` (1 to 25, default 1).
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let (who, wait) = admit(app, request, Permission::Invoke, wait(request)).await?;
    let id = parse_session_id(&path_parameter(request, "session_id"));
    let found = sessions::find(app, who, id)
        .await?
        .permit(|caller, _| Permission::Invoke.require(caller))?;
    let caller = found.caller;
    let is_own = |one: &Session| {
        matches!(one.origin, Origin::Langsmith { .. }) && may_use(&caller, &one.subject)
    };
    let session = found.found.filter(is_own).ok_or(Error::SessionNotFound)?;
    let status = match sessions::await_end(app, &session, wait).await? {
        ConsentState::Open => "PENDING",
        ConsentState::Connected => "COMPLETED",
        ConsentState::Expired => "TOKEN_EXPIRED",
        ConsentState::Unconnected => "CONNECTION_REQUIRED",
    };
    Ok(json(
        200,
        &json!({"id": session_id(&session), "status": status}),
    ))
}

fn wait(request: &Request) -> Result<Duration, Problem> {
    let query = query(request);
    let mut sent = query.iter().filter(|(name, _)| name == "wait_seconds");
    let seconds = match (sent.next(), sent.next()) {
        (None, _) => Some(1),
        (Some((_, text)), None) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    };
    seconds
        .filter(|seconds| WAIT.contains(seconds))
        .map(Duration::from_secs)
        .ok_or(Problem::InvalidQuery(
            "wait_seconds",
            "an integer from 1 to 25",
        ))
}
