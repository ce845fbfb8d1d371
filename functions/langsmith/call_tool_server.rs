//! `POST|DELETE /v1/managed-tools/servers/{mcp_server_id}/mcp`: a call to a server, for clients of the tool gateway
//! (LangSmith 7.8). It is the call that `/mcp/{server}` serves; its answer is held until it is whole, because it comes
//! through the API that streams nothing.

use super::problem::Problem;
use super::tool_server::{Kind, acting, find_own, lacks_credential};
use super::{Permission, admit, base, server_id};
use crate::hawser::invoke::{self, Refused};
use crate::http::{self, Request, Response, Streamed, json};
use hawser_core::App;
use hawser_core::auth::credentials::Presented;
use hawser_core::domain::server::Server;
use hawser_core::operations::consent;
use http_body_util::BodyExt;
use lambda_http::Body;
use lambda_http::http::HeaderValue;
use lambda_http::http::header::ACCEPT;
use secrecy::ExposeSecret;
use serde_json::json;
use std::time::Duration;
use tokio::time::timeout;

/// Less than the 30 seconds of the gateway, than the function has, and than what clients wait. A call that is given up
/// leaves what a process that dies leaves.
const ANSWER_WITHIN: Duration = Duration::from_secs(25);
/// What a function may answer, less what its envelope takes.
const ANSWER_LIMIT: usize = 4 << 20;

/// Returns the server's response. A caller who has to connect first is told where by a 428.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let (who, id) = admit(app, request, Permission::Invoke, server_id(request)).await?;
    let who = acting(app, request, who, Permission::Invoke).await?;
    let at = find_own(app, who.clone(), id, Permission::Invoke)
        .await?
        .found;
    if lacks_credential(app, &at.server, &at.records)
        && let Some(answer) = connection_required(app, request, &who, &at.server).await?
    {
        return Ok(answer);
    }
    let request = accepting_both(request);
    let whole = async { whole(invoke::call(app, &request, who, id).await).await };
    timeout(ANSWER_WITHIN, whole)
        .await
        .map_err(|_| Problem::UpstreamUnreachable)?
}

/// The request with an `Accept` of both kinds of answer. The client of the package says JSON alone and reads both, and servers
/// insist on both.
fn accepting_both(request: &Request) -> Request {
    let mut copy = Request::new(Body::from(http::body(request).to_vec()));
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    let both = HeaderValue::from_static("application/json, text/event-stream");
    copy.headers_mut().insert(ACCEPT, both);
    copy.extensions_mut().clone_from(request.extensions());
    copy
}

/// Where the caller connects, unless the caller has just done so. Nobody is contacted for that; who asks again gets the
/// same address.
async fn connection_required(
    app: &App,
    request: &Request,
    who: &Presented,
    server: &Server,
) -> Result<Option<Response<Body>>, Problem> {
    let name = &server.name;
    let mut answer = json!({
        "code": "credential_required",
        "detail": format!("Connect to this server first: {name} has no usable credential of the caller"),
        "slug": name,
        "display_name": name,
        "status": 428,
    });
    if Kind::of(server) == Kind::Oauth {
        let find = || find_own(app, who.clone(), server.id, Permission::Invoke);
        let base = base(app, request)?;
        let (_, begun) = consent::start_required_consent(app, find, Some(&base), None)
            .await
            .map_err(Problem::without_409_and_422)?;
        let Some(begun) = begun else {
            return Ok(None);
        };
        answer["kind"] = "oauth2".into();
        answer["auth_id"] = consent::session_id(&begun.session).into();
        answer["verification_url"] = begun.url.expose_secret().into();
    } else {
        answer["kind"] = "secret".into();
    }
    Ok(Some(json(428, &answer)))
}

/// The answer, once all of it is there.
async fn whole(answer: Result<Response<Streamed>, Refused>) -> Result<Response<Body>, Problem> {
    let (parts, body) = answer.unwrap_or_else(Into::into).into_parts();
    let bytes = collected(body).await?;
    let body = match String::from_utf8(bytes) {
        Ok(text) if text.is_empty() => Body::Empty,
        Ok(text) => Body::Text(text),
        Err(other) => Body::Binary(other.into_bytes()),
    };
    Ok(Response::from_parts(parts, body))
}

async fn collected(mut body: Streamed) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Err(Problem::UpstreamUnreachable);
        };
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > ANSWER_LIMIT {
                return Err(Problem::BadUpstreamAnswer);
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}
