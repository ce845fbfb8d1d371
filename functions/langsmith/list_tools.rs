//! `GET /mcp/tools`: the tools of the server at a URL, listed with the acting user's credential (LangSmith 2.7).

use super::problem::Problem;
use super::{Permission, acting_user, admit};
use crate::http::{Request, Response, json, query};
use hawser_core::domain::address::redacted;
use hawser_core::domain::caller::Caller;
use hawser_core::domain::id::parse_hyphenated;
use hawser_core::domain::server::{Auth, Secrets, Server};
use hawser_core::domain::subject::Subject;
use hawser_core::domain::tool::{self, Object, Tool};
use hawser_core::operations::proxy::Refusal;
use hawser_core::operations::tools::{self, CachePolicy, Failure, Tools};
use hawser_core::operations::{credentials, providers, servers};
use hawser_core::{App, Error};
use lambda_http::Body;
use serde::Serialize;

/// The most tools in an answer.
const LIMIT: usize = 1000;

/// Returns 200 with the tools in the server's order.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let (who, asked) = admit(app, request, Permission::Read, parse(request)).await?;
    let listed = servers::list(app, who)
        .await?
        .permit(|caller, _| Permission::Read.require(caller))?;
    let tenant = &listed.caller.tenant;
    let subject = acting_user(&listed.caller, asked.user.as_deref())
        .ok_or(Problem::InvalidQuery("ls_user_id", "the id of a user"))?;
    let server = chosen(app, &listed.caller, &subject, &asked, listed.found).await?;
    let at = credentials::load(app, tenant, server.id, &subject).await?;
    let tools = tools::list(app, tenant, &at, &listed.caller, asked.cache_policy)
        .await
        .map_err(|failure| refused(&at.server, failure))?;
    if tools.all.len() > LIMIT {
        return Err(Problem::BadUpstreamAnswer);
    }
    Ok(json(200, &Listed::new(&at.server, &tools)))
}

struct Asked {
    url: String,
    provider: Option<String>,
    cache_policy: CachePolicy,
    /// The user that a service key acts for, if the request names one.
    user: Option<String>,
}

fn parse(request: &Request) -> Result<Asked, Problem> {
    let query = query(request);
    // The contract says nothing about repeated parameters: the last one counts.
    let sent = |name: &str| {
        let mut all = query.iter().rev().filter(|(sent, _)| sent == name);
        all.next().map(|(_, value)| value.clone())
    };
    let given = |name: &str| sent(name).filter(|value| !value.trim().is_empty());
    let url = given("url").ok_or(Problem::FieldMissing {
        field: "url".to_owned(),
        expected: "a non-empty string",
    })?;
    let refresh = given("force_refresh").unwrap_or_default();
    let cache_policy = match refresh.to_ascii_lowercase().as_str() {
        "true" | "1" => CachePolicy::Fresh,
        "false" | "0" | "" => CachePolicy::Cached,
        _ => return Err(Problem::InvalidQuery("force_refresh", "true or false")),
    };
    Ok(Asked {
        url,
        provider: given("oauth_provider_id"),
        cache_policy,
        user: given("ls_user_id"),
    })
}

/// The server that is meant, out of a tenant's servers at that URL: the provider's, or else those spelt the same, or
/// else all; of these the newest.
async fn chosen(
    app: &App,
    caller: &Caller,
    subject: &Subject,
    asked: &Asked,
    servers: Vec<Server>,
) -> Result<Server, Problem> {
    let tenant = &caller.tenant;
    let mut servers = at_url(app, caller, &asked.url, servers).await?;
    if servers.is_empty() {
        return Err(Error::ServerNotFound.into());
    }
    if let Some(provider) = &asked.provider {
        let id = parse_hyphenated(provider).ok_or(Problem::ProviderNotFound)?;
        let own = providers::all(app, tenant, subject, &servers).await?;
        servers.retain(|server| {
            let own = own.get(&server.id);
            let stored = matches!(&server.auth, Auth::LegacyProvider { provider_id } if *provider_id == Some(id));
            stored || own.is_some_and(|own| own.id == id && own.is_valid_under(server))
        });
    }
    let shown = redacted(&asked.url);
    let is_same = |server: &Server| server.shown_url() == shown;
    let same = servers.iter().any(is_same);
    servers
        .into_iter()
        .filter(|server| !same || is_same(server))
        .max_by_key(|server| (server.created_at, server.id))
        .ok_or(Problem::ProviderNotFound)
}

/// The servers at a URL. Values in its query are compared only for callers who are shown them; others could guess them
/// here.
async fn at_url(
    app: &App,
    caller: &Caller,
    url: &str,
    mut servers: Vec<Server>,
) -> Result<Vec<Server>, Problem> {
    let (wanted, shown) = (plain(url), plain(&redacted(url)));
    servers.retain(|server| plain(&server.shown_url()) == shown);
    if wanted == shown || !Permission::Invoke.is_of(caller) {
        return Ok(servers);
    }
    let mut there = Vec::new();
    for server in servers {
        let secrets = if server.hides_values() {
            servers::open(app, &caller.tenant, &server).await?
        } else {
            Secrets::default()
        };
        if plain(secrets.address(&server)) == wanted {
            there.push(server);
        }
    }
    Ok(there)
}

/// A URL in the form that clients compare.
fn plain(url: &str) -> String {
    url.trim().trim_end_matches('/').to_lowercase()
}

fn refused(server: &Server, failure: Failure) -> Problem {
    let refusal = match failure {
        Failure::Refused(refusal) => refusal,
        Failure::BadAnswer => return Problem::BadUpstreamAnswer,
        Failure::LegacySseTransport => return Problem::LegacySseTransport,
        Failure::Failed(error) => return error.into(),
    };
    match refusal {
        // The server's own client was refused, so there is nothing for a user to connect.
        Refusal::NoCredential(_)
            if matches!(server.auth, Auth::Oauth(_)) && !server.subjects_consent() =>
        {
            Problem::UpstreamAuthFailed
        }
        Refusal::NoCredential(_) | Refusal::Passthrough => Problem::ConnectionRequired,
        Refusal::NotAccepted { .. } | Refusal::ScopeInsufficient { .. } => {
            Problem::UpstreamAuthFailed
        }
        Refusal::Unreachable => Problem::UpstreamUnreachable,
        Refusal::Redirected(_) | Refusal::WantsSession => Problem::BadUpstreamAnswer,
    }
}

#[derive(Serialize)]
struct Listed<'a> {
    tools: Vec<Shown<'a>>,
    cached: bool,
    fetched_at: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    name: &'a str,
    description: &'a str,
    input_schema: tool::Shown<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<&'a Object>,
}

impl<'a> Listed<'a> {
    /// Tools that a connection does not offer can be called by nobody, so they are shown to nobody.
    fn new(server: &Server, tools: &'a Tools) -> Self {
        let offered = tools.all.iter();
        let offered = offered.filter(|tool| server.connection.allows_tool(tool));
        Self {
            tools: offered.map(Shown::of).collect(),
            cached: tools.cached,
            fetched_at: tools.fetched_at.seconds_z(),
        }
    }
}

impl<'a> Shown<'a> {
    fn of(tool: &'a Tool) -> Self {
        Self {
            name: &tool.name,
            description: tool.description.as_deref().unwrap_or_default(),
            input_schema: tool.schema(),
            annotations: tool.annotations.as_ref(),
        }
    }
}
