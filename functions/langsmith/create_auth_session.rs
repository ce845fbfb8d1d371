//! `POST /auth-sessions`: connect a user to the server of their provider (LangSmith 2.8).

use super::fields::{Fields, Strategy};
use super::problem::Problem;
use super::{Permission, admit, base, may_use};
use crate::http::{Request, Response, body, json};
use hawser_core::auth::credentials::Presented;
use hawser_core::domain::caller::Caller;
use hawser_core::domain::credential::Grant;
use hawser_core::domain::id::parse_hyphenated;
use hawser_core::domain::issuance::Provider;
use hawser_core::operations::grants::{self, GrantAccess, TokenRequirement};
use hawser_core::operations::{consent, providers, retry_on_contention};
use hawser_core::{App, Error};
use lambda_http::Body;
use secrecy::ExposeSecret;
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

/// How long a token must still be valid to be reused, in seconds.
const MIN_LIFETIME_SECONDS: i64 = 60;
/// How long a refresh by another process is waited for. Together with a refresh of our own and the requests to the
/// issuer this stays below the timeouts of clients.
const MAX_REFRESH_WAIT: Duration = Duration::from_secs(4);

/// Returns 200 if a token can be reused. Otherwise asks the issuer, and returns 201 with the address of the page on
/// which the user starts.
/// then.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let parsed = parse(request);
    let (who, asked) = admit(app, request, Permission::Invoke, parsed).await?;
    let base = base(app, request)?;
    retry_on_contention(
        || attempt(app, who.clone(), &asked, &base),
        Problem::is_contended,
    )
    .await
    .map_err(Problem::without_409_and_422)
}

struct Asked {
    /// The id as it was sent.
    provider_id: String,
    scopes: Vec<String>,
    strategy: Strategy,
    /// The id of the only token that may be reused; `None` for any.
    token_id: Option<String>,
}

fn parse(request: &Request) -> Result<Asked, Problem> {
    let mut fields = Fields::read(body(request))?;
    let provider_id = fields.provider_id();
    let scopes = fields.scopes();
    let strategy = fields.strategy();
    let token_id = fields.id("token_id");
    // Accepted without effect: there is one token per provider, and Hawser serves no agents.
    fields.id("agent_id");
    fields.flag("is_default");
    let required = provider_id.zip(scopes).zip(strategy);
    let asked = required.map(|((provider_id, scopes), strategy)| Asked {
        provider_id,
        scopes,
        strategy,
        token_id,
    });
    fields
        .into_result(asked)
        .map_err(Problem::without_409_and_422)
}

async fn attempt(
    app: &App,
    who: Presented,
    asked: &Asked,
    base: &str,
) -> Result<Response<Body>, Problem> {
    let id = parse_hyphenated(&asked.provider_id);
    let found = providers::find_by_id(app, who, id)
        .await?
        .permit(|caller, _| Permission::Invoke.require(caller))?;
    let (server, provider) = match &found.found {
        Some((server, provider)) if may_use(&found.caller, &provider.subject) => (server, provider),
        _ => return Err(Problem::UnknownProvider),
    };
    if asked.strategy == Strategy::Reuse
        && let Some(token) = reusable(app, &found.caller, provider, asked).await?
    {
        let completed = json!({
            "provider_id": asked.provider_id, "status": "COMPLETED", "token": token, "metadata": {},
        });
        return Ok(json(200, &completed));
    }
    let subject = &provider.subject;
    let begun = consent::start_provider_consent(
        app,
        &found.caller,
        server,
        subject,
        provider.id,
        base,
        &asked.scopes,
    )
    .await
    .map_err(unless_gone)?;
    let pending = json!({
        "id": consent::session_id(&begun.session), "provider_id": asked.provider_id,
        "status": "PENDING", "verification_url": begun.url.expose_secret(), "metadata": {},
    });
    Ok(json(201, &pending))
}

/// The id of the stored token, if it is valid long enough, has the scopes asked for, and is the token named in the
/// request.
async fn reusable(
    app: &App,
    caller: &Caller,
    provider: &Provider,
    asked: &Asked,
) -> Result<Option<Uuid>, Problem> {
    let (server, subject) = (provider.server, &provider.subject);
    let (tenant, who, requirement) = (
        &caller.tenant,
        caller.into(),
        TokenRequirement::ValidFor(MIN_LIFETIME_SECONDS),
    );
    let usable = grants::access(
        app,
        tenant,
        &who,
        server,
        subject,
        requirement,
        MAX_REFRESH_WAIT,
    )
    .await
    .map_err(unless_gone)?;
    let GrantAccess::Token { grant, .. } = usable else {
        return Ok(None);
    };
    let id = token_id(provider, &grant);
    let covers = asked.scopes.iter().all(|one| grant.scopes.contains(one));
    let named = asked.token_id.as_ref();
    let is_named = named.is_none_or(|named| parse_hyphenated(named) == Some(id));
    Ok((covers && is_named).then_some(id))
}

/// The id that clients know a stored token by. It stays the same through every refresh, and each consent has a new one.
fn token_id(provider: &Provider, grant: &Grant) -> Uuid {
    Uuid::new_v5(&provider.id, grant.session.as_bytes())
}

/// A deleted server takes its providers with it, so it is reported as an unknown provider: this route has no 404.
fn unless_gone(error: Error) -> Problem {
    match error {
        Error::ServerNotFound => Problem::UnknownProvider,
        other => other.into(),
    }
}
