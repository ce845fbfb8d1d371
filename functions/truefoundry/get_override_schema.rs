//! `GET /mcp/{mcpServerId}/auth-override/uischema`: what an override of a server has to supply (TrueFoundry 3.11).

use super::problem::Problem;
use super::{Data, admit, server_id};
use crate::http::{Request, Response, json};
use hawser_core::App;
use hawser_core::domain::server::{Auth, Server};
use hawser_core::operations::servers;
use lambda_http::Body;
use serde_json::json;

/// Returns 200 with names for a form, to every caller of the tenant. No value is in it.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let (who, ()) = admit(app, request, Ok(())).await?;
    let server = servers::find(app, who, server_id(request))
        .await?
        .existing()?;
    let server = server.permit(|_, _| Ok::<(), Problem>(()))?.found;
    let parameters: Vec<_> = server
        .parameters()
        .into_iter()
        .map(|name| json!({"name": name, "required": true}))
        .collect();
    let data = json!({"overrideTypes": accepted_types(&server), "parameters": parameters});
    Ok(json(200, &Data { data }))
}

/// The types of override that a server accepts (TrueFoundry 6.2).
fn accepted_types(server: &Server) -> &'static [&'static str] {
    match (&server.auth, server.parameters().len()) {
        (Auth::None | Auth::Passthrough | Auth::LegacyProvider { .. }, _) => &[],
        (Auth::Oauth(_), _) | (Auth::Headers { .. }, 0) => &["header"],
        (Auth::Headers { .. }, 1) => &["header", "key_value"],
        (Auth::Headers { .. }, _) => &["key_value"],
    }
}
