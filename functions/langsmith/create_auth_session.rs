//! `POST /auth-sessions`: connect a user to the server of their provider (LangSmith 2.8).

use super::fields::{Fields, Strategy};
use super::problem::Problem;
use super::{Permission, admit, base, may_use};
use crate::http::{Request, Response, body, json};
use hawser_core::auth::credentials::Presented;
use hawser_core::domain::credential::Grant;
use hawser_core::domain::id::parse_hyphenated;
use hawser_core::domain::issuance::Provider;
use hawser_core::domain::server::Server;
use hawser_core::operations::providers::{self, Connection, Reusable};
use hawser_core::operations::{Permitted, consent};
use hawser_core::{App, Error};
use lambda_http::Body;
use secrecy::ExposeSecret;
use serde_json::json;
use uuid::Uuid;

/// Returns 200 if a token can be reused. Otherwise returns 201 with the address of the page on which the user starts; the issuer
/// is asked only then.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let parsed = parse(request);
    let (who, asked) = admit(app, request, Permission::Invoke, parsed).await?;
    let base = base(app, request)?;
    let id = parse_hyphenated(&asked.provider_id);
    let find = || find(app, who.clone(), id);
    let accept = |provider: &Provider, grant: &Grant| is_reusable(&asked, provider, grant);
    let reusable: Option<Reusable<'_>> = match asked.strategy {
        Strategy::Reuse => Some(&accept),
        Strategy::Create => None,
    };
    let connection = providers::connect(app, find, &base, &asked.scopes, reusable)
        .await
        .map_err(|problem| unless_gone(problem).without_409_and_422())?;
    Ok(match connection {
        Connection::Grant(provider, grant) => json(
            200,
            &json!({
                "provider_id": asked.provider_id, "status": "COMPLETED",
                "token": token_id(&provider, &grant), "metadata": {},
            }),
        ),
        Connection::Consent(begun) => json(
            201,
            &json!({
                "id": consent::session_id(&begun.session), "provider_id": asked.provider_id,
                "status": "PENDING", "verification_url": begun.url.expose_secret(), "metadata": {},
            }),
        ),
    })
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

/// The provider, for a caller who may use it.
async fn find(
    app: &App,
    who: Presented,
    id: Option<Uuid>,
) -> Result<Permitted<(Server, Provider)>, Problem> {
    providers::find_by_id(app, who, id)
        .await?
        .permit(|caller, found| {
            Permission::Invoke.require(caller)?;
            match found {
                Some((_, provider)) if may_use(caller, &provider.subject) => Ok(()),
                _ => Err(Problem::UnknownProvider),
            }
        })?
        .existing()
        .map_err(Problem::from)
}

/// Whether a stored token covers what was asked for, and is the one that was named.
fn is_reusable(asked: &Asked, provider: &Provider, grant: &Grant) -> bool {
    let covers = asked.scopes.iter().all(|one| grant.scopes.contains(one));
    let named = asked.token_id.as_ref();
    let id = token_id(provider, grant);
    covers && named.is_none_or(|named| parse_hyphenated(named) == Some(id))
}

/// The id that clients know a stored token by. It stays the same through every refresh, and each consent has a new one.
fn token_id(provider: &Provider, grant: &Grant) -> Uuid {
    Uuid::new_v5(&provider.id, grant.session.as_bytes())
}

/// A deleted server takes its providers with it, so it is reported as an unknown provider: this route has no 404.
fn unless_gone(problem: Problem) -> Problem {
    match problem {
        Problem::Domain(Error::ServerNotFound) => Problem::UnknownProvider,
        other => other,
    }
}
