//! `POST /v1/managed-tools/servers`: register a server with the tool gateway (LangSmith 7.4).

use super::auth::AuthType;
use super::create_server::{New, register};
use super::fields::Fields;
use super::problem::Problem;
use super::tool_server::tool_server;
use super::{Permission, admit};
use crate::http::{Request, Response, body, json};
use hawser_core::App;
use hawser_core::domain::credential::Records;
use lambda_http::Body;

/// Returns 201 with the server. It is the same registration as that of 2.1, in other words.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let (who, new) = admit(app, request, Permission::Create, parse(app, request)).await?;
    let (_, server, _) = register(app, who, new).await?;
    // Nobody has anything at a server that has just been made.
    Ok(json(201, &tool_server(app, &server, &Records::default())))
}

fn parse(app: &App, request: &Request) -> Result<New, Problem> {
    let mut fields = Fields::read(body(request))?;
    fields.required("name");
    let name = fields.name();
    fields.required("upstream_url");
    let url = fields.url_in("upstream_url", app);
    let by_oauth = fields.connects_by_oauth();
    let (name, url) = fields.into_result(name.zip(url))?;
    let auth_type = if by_oauth {
        AuthType::Oauth
    } else {
        AuthType::Unset
    };
    New::bare(name, url, auth_type)
}
