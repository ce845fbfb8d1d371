//! `POST /mcp-servers`: register a server (LangSmith 2.1).

use super::auth::{AuthFields, AuthType, SentAuth};
use super::fields::Fields;
use super::mcp_server::McpServer;
use super::problem::Problem;
use super::{Permission, admit, restored};
use crate::http::{Request, Response, body, json};
use hawser_core::auth::credentials::Presented;
use hawser_core::domain::caller::Caller;
use hawser_core::domain::server::{LangsmithFields, Secrets, Server};
use hawser_core::operations::servers::{self, Draft, DraftConnection, DraftName};
use hawser_core::{App, Error};
use lambda_http::Body;

/// Returns 201 with the server. Nothing can fail after the one write, because the CLI repeats a POST after any 5xx.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let (who, new) = admit(app, request, Permission::Create, parse(app, request)).await?;
    let (caller, server, secrets) = register(app, who, new).await?;
    // Nobody has a provider at a server that has just been made.
    Ok(json(201, &McpServer::new(&caller, &server, &secrets, None)))
}

/// Registers a server, if the caller may.
pub(super) async fn register(
    app: &App,
    who: Presented,
    new: New,
) -> Result<(Caller, Server, Secrets), Problem> {
    let caller = app.identify(who).await?;
    Permission::Create.require(&caller)?;
    let url = restored(&new.url, None)?;
    let mut secrets = new.auth.secrets();
    secrets.keep_address(&url);
    let draft = Draft {
        name: DraftName::Given(new.name.clone()),
        url,
        description: None,
        auth: new.auth.to_auth(),
        additional_headers: None,
        manifest: serde_json::Map::new(),
        tags: None,
        langsmith: LangsmithFields {
            says_headers: new.auth.says_headers(),
            vendor_id: new.vendor_id,
            external_system_id: new.external_system_id,
        },
        connection: DraftConnection::default(),
        secrets: secrets.clone(),
    };
    let server = servers::create(app, &caller, draft)
        .await
        .map_err(|error| match error {
            Error::NameTaken => Problem::NameConflict(new.name),
            other => other.into(),
        })?;
    Ok((caller, server, secrets))
}

/// A server to be registered.
pub(super) struct New {
    name: String,
    url: String,
    auth: AuthFields,
    vendor_id: Option<String>,
    external_system_id: Option<String>,
}

impl New {
    /// With no more than this.
    pub(super) fn bare(name: String, url: String, auth_type: AuthType) -> Result<Self, Problem> {
        let sent = SentAuth {
            auth_type: Some(auth_type),
            ..SentAuth::default()
        };
        Ok(Self {
            name,
            url,
            auth: AuthFields::default().with(sent)?,
            vendor_id: None,
            external_system_id: None,
        })
    }
}

fn parse(app: &App, request: &Request) -> Result<New, Problem> {
    let mut fields = Fields::read(body(request))?;
    fields.required("name");
    let name = fields.name();
    fields.required("url");
    let url = fields.url(app);
    let auth = fields.auth();
    let vendor_id = fields.foreign_id("vendor_id");
    let external_system_id = fields.foreign_id("external_system_id");
    let (name, url) = fields.into_result(name.zip(url))?;
    Ok(New {
        name,
        url,
        auth: AuthFields::default().with(auth)?,
        vendor_id,
        external_system_id,
    })
}
