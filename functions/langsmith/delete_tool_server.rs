//! `DELETE /v1/managed-tools/servers/{mcp_server_id}`: a server and everything under it, for good (LangSmith 7.6).

use super::delete_server;
use super::problem::Problem;
use crate::http::{Request, Response};
use hawser_core::App;
use lambda_http::Body;

/// Returns 204, as the other route for the same server does (LangSmith 2.5).
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    delete_server::handle(app, request).await
}
