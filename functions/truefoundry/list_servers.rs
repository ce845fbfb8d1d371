//! `GET /mcp`: the servers that the caller may read (TrueFoundry 3.2).

use super::manifest::Registration;
use super::permission::{Permission, has};
use super::problem::Problem;
use super::{Window, admit, query};
use crate::http::{Request, Response, json};
use hawser_core::App;
use hawser_core::domain::id::ServerId;
use hawser_core::domain::server::Server;
use hawser_core::operations::servers;
use lambda_http::Body;
use serde_json::{Map, Value};

/// Returns 200 with a page; servers that the caller may not read are neither shown nor counted.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let (who, (window, parameters)) = admit(app, request, parse(request)).await?;
    let mut listed = servers::list(app, who)
        .await?
        .permit(|_, _| Ok::<_, Problem>(()))?;
    let tenant = &listed.caller.tenant;
    let wanted = |name: &str| parameters.get(name).and_then(Value::as_str);
    let matches = |server: &Server| {
        wanted("id").is_none_or(|id| ServerId::parse_prefixed(id) == Some(server.id))
            && wanted("name").is_none_or(|name| name == server.name)
            && wanted("fqn")
                .is_none_or(|fqn| fqn == format!("{}:mcp-server:{}", tenant.as_str(), server.name))
    };
    listed
        .found
        .retain(|server| has(&listed.caller, Some(server), Permission::Read) && matches(server));
    listed.found.sort_by_key(|server| server.id);
    let present =
        |server: &Server| Registration::from(server).mcp_server(tenant, app.gateway_url.as_deref());
    Ok(json(200, &window.page(&listed.found, present)))
}

fn parse(request: &Request) -> Result<(Window, Map<String, Value>), Problem> {
    let parameters = query(request)?;
    Ok((Window::read(&parameters)?, parameters))
}
