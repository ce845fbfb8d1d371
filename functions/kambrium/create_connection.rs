//! `POST /mcp-servers`: a connection of the caller's own, made from an integration (Kambrium 3).

use super::connection::Connection;
use super::fields::{Faults, Fields};
use super::problem::{Problem, Refusal};
use super::{Call, WRITE, admit, filled, success};
use crate::http::{Request, Response, body, public_base};
use hawser_core::App;
use hawser_core::auth::credentials::Presented;
use hawser_core::domain::caller::Caller;
use hawser_core::domain::credential::Records;
use hawser_core::domain::error::Error;
use hawser_core::domain::id::{hash, random};
use hawser_core::domain::integration::IntegrationOauth;
use hawser_core::domain::server::{
    AccessType, ApiKeyHeader, Auth, AuthLevel, HeaderSpec, LangsmithFields, OauthConfig, Place,
    Secrets,
};
use hawser_core::operations::servers::{self, Draft, DraftConnection, DraftName};
use hawser_core::operations::{consent, integrations};
use lambda_http::Body;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::Map;
use std::collections::BTreeSet;

const CALL: Call = Call {
    scope: WRITE,
    bound: false,
    purpose: "create connections",
    failure: "create connection",
};

const FIELDS: &[&str] = &[
    "mcp_server",
    "access_type",
    "auth_method",
    "api_key",
    "agent_enabled",
    "disabled_tools",
];

/// The most connections one owner may have.
const CONNECTIONS_LIMIT: usize = 1000;

/// A request whose fields are valid and fit together.
struct Create {
    mcp_server: String,
    access_type: String,
    /// `None` if and only if the method is `oauth`.
    api_key: Option<SecretString>,
    agent_enabled: bool,
    disabled_tools: BTreeSet<u64>,
}

#[derive(Serialize)]
struct Created<'a> {
    #[serde(flatten)]
    connection: Connection<'a>,
    oauth2_credentials: Credentials<'a>,
    #[serde(flatten)]
    consent: Option<Consent<'a>>,
}

/// What the caller does next for an OAuth connection (Kambrium 14).
#[derive(Serialize)]
struct Consent<'a> {
    authorization_url: &'a str,
    message: &'static str,
}

#[derive(Serialize)]
struct Credentials<'a> {
    client_id: &'a str,
    client_secret: &'a str,
}

/// Returns 201 with the connection and the secret of its OAuth client, which is shown this once. For an OAuth
/// connection it also returns, this once, the address where the owner consents; its authorization server may be asked
/// before anything is stored.
///
/// # Errors
/// [`Problem`], in the contract's order.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    create(app, request)
        .await
        .map_err(|refusal| refusal.of(&CALL, request))
}

async fn create(app: &App, request: &Request) -> Result<Response<Body>, Refusal> {
    let (who, create) = admit(app, request, &CALL, parse(request)).await?;
    let caller = app.identify(who).await?;
    CALL.permit(&caller)?;
    let client_secret = new_client_secret()?;
    let integration = create.mcp_server.clone();
    let draft = draft(app, create, &client_secret).await?;
    require_room(app, &caller).await?;
    let (server, begun) = if matches!(draft.auth, Auth::Oauth(_)) {
        let base = public_base(app, request)
            .ok_or_else(|| Error::internal("no public base URL is known"))?;
        let (server, begun) =
            consent::create_server(app, &caller, draft, &integration, &base).await?;
        (server, Some(begun))
    } else {
        (servers::create(app, &caller, draft).await?, None)
    };
    let data = Created {
        connection: Connection::of(&server, &Records::default(), app.now()),
        oauth2_credentials: Credentials {
            client_id: &server.connection.client_id,
            client_secret: client_secret.expose_secret(),
        },
        consent: begun.as_ref().map(|begun| Consent {
            authorization_url: begun.url.expose_secret(),
            message: "Open authorization_url in a browser to connect",
        }),
    };
    Ok(success(
        201,
        data,
        "MCP server connection created successfully",
    ))
}

fn parse(request: &Request) -> Result<Create, Refusal> {
    let mut faults = Faults::default();
    let create = Fields::read(body(request), FIELDS, &mut faults).and_then(read);
    faults.into_result(create)
}

fn read(mut fields: Fields<'_>) -> Option<Create> {
    let mcp_server = fields.required_text("mcp_server");
    let access_type = fields.required_text("access_type");
    let auth_method = fields.choice("auth_method", ["api_key", "oauth"]);
    let api_key = fields.api_key();
    let agent_enabled = fields.boolean("agent_enabled");
    let disabled_tools = fields.disabled_tools();
    if fields.is_sound() {
        match (auth_method, &api_key) {
            (Some("oauth"), Some(_)) => fields.fault(
                "value_error",
                "api_key",
                "api_key not allowed when auth_method is oauth",
            ),
            (None | Some("api_key"), None) => {
                fields.missing("api_key", "Field required when auth_method is api_key");
            }
            _ => {}
        }
    }
    Some(Create {
        mcp_server: mcp_server?,
        access_type: access_type?,
        api_key,
        agent_enabled: agent_enabled.unwrap_or(true),
        disabled_tools: disabled_tools.unwrap_or_default(),
    })
}

/// The connection that the integration and the request make together. Name, address and header are copied, so that
/// later changes of the catalogue affect new connections only (Kambrium 10).
async fn draft(app: &App, create: Create, client_secret: &SecretString) -> Result<Draft, Refusal> {
    let offered = integrations::find(app, &create.mcp_server).await?;
    let offered = offered.filter(|offered| offered.integration.active);
    let access_type = AccessType::parse(&create.access_type);
    let (Some(offered), Some(access_type)) = (offered, access_type) else {
        return Err(Refusal::InvalidServerOrAccessType);
    };
    let integration = &offered.integration;
    let mut secrets = Secrets::default();
    let auth = match (create.api_key, &integration.api_key, &integration.oauth) {
        (Some(api_key), Some(place), _) => {
            secrets.set(Place::Header(&place.header), filled(place, &api_key));
            by_header(place)
        }
        (None, _, Some(oauth)) => by_consent(oauth),
        _ => return Err(Refusal::AuthMethodNotSupported),
    };
    if access_type != AccessType::Individual && !create.disabled_tools.is_empty() {
        return Err(Refusal::ToolsNeedIndividual);
    }
    let by_key = matches!(auth, Auth::Headers { .. });
    Ok(Draft {
        name: DraftName::After(create.mcp_server.clone()),
        url: offered.address(app).await?.expose_secret().to_owned(),
        description: integration.description.clone(),
        auth,
        additional_headers: None,
        manifest: Map::new(),
        tags: None,
        langsmith: LangsmithFields::default(),
        connection: DraftConnection {
            display_name: Some(integration.display_name.clone()),
            integration: Some(create.mcp_server.clone()),
            api_key: integration.api_key.clone().filter(|_| by_key),
            access_type,
            disabled_tools: create.disabled_tools,
            agent_enabled: create.agent_enabled,
            client_secret_hash: Some(hash(client_secret.expose_secret())),
        },
        secrets,
    })
}

fn by_header(place: &ApiKeyHeader) -> Auth {
    Auth::Headers {
        level: AuthLevel::Global,
        headers: vec![HeaderSpec {
            name: place.header.clone(),
            template: None,
        }],
    }
}

/// A copy of the OAuth settings, without the secret, for sibling contracts to show. Consents read the catalogue
/// instead.
fn by_consent(oauth: &IntegrationOauth) -> Auth {
    Auth::Oauth(Box::new(OauthConfig {
        authorization_url: oauth.authorization_endpoint.clone(),
        token_url: oauth.token_endpoint.clone(),
        issuer: oauth.issuer.clone(),
        revocation_url: oauth.revocation_endpoint.clone(),
        client_id: oauth.client_id.clone(),
        scopes: Some(oauth.scopes.clone()).filter(|scopes| !scopes.is_empty()),
        ..OauthConfig::discovered()
    }))
}

async fn require_room(app: &App, caller: &Caller) -> Result<(), Refusal> {
    let who = Presented::Caller(Box::new(caller.clone()));
    let servers = servers::list(app, who)
        .await?
        .permit(|_, _| Ok::<_, Refusal>(()))?;
    let owned = servers
        .found
        .iter()
        .filter(|server| server.created_by.subject == *caller.subject());
    if owned.count() < CONNECTIONS_LIMIT {
        Ok(())
    } else {
        Err(Error::LimitReached.into())
    }
}

/// 256 random bits in hexadecimal.
fn new_client_secret() -> hawser_core::Result<SecretString> {
    let digits = random::<32>()?.map(|byte| format!("{byte:02x}"));
    Ok(digits.concat().into())
}
