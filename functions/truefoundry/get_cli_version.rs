//! `GET /min-cli-version`: what the command line asks before anything else (TrueFoundry 3.14).

use super::problem::Problem;
use crate::http::{Request, Response, json};
use hawser_core::App;
use lambda_http::Body;
use serde_json::json;

/// No version of the command line is too old for what is served here.
const ANY_VERSION: &str = "0.0.0";

/// Returns 200, to anyone. The command line is told to renew its tokens under this same host.
pub async fn handle(_app: &App, _request: &Request) -> Result<Response<Body>, Problem> {
    let answer = json!({
        "minVersion": ANY_VERSION,
        "truefoundryCliMinVersion": ANY_VERSION,
        "useSFYServerAuthAPIs": true,
    });
    Ok(json(200, &answer))
}
