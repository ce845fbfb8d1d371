//! Hawser's own API, beside the three contracts: receipts, logins, offboarding and the audit log, under `/v1`, tokens, and the response
//! for unknown routes.

pub mod allow_application;
mod application_request;
pub mod authorization_server;
pub mod authorize;
pub(crate) mod browser;
pub mod client_metadata;
pub(crate) mod consent;
pub mod end_login;
pub mod finish_consent;
pub mod finish_sign_in;
pub mod get_receipt;
pub mod invoke;
pub mod issue_token;
pub mod list_events;
pub mod list_logins;
pub mod list_receipts;
pub mod list_token_keys;
mod oauth_client;
pub mod offboard_subject;
pub mod openapi;
mod problem;
pub mod protected_resource;
mod refusal;
pub mod register_application;
mod resource;
pub mod revoke_token;
pub mod show_consent;
pub mod sign_in;
pub mod start_consent;
pub mod unrouted;

pub use consent::Refusal;
pub use oauth_client::OauthProblem;
pub use problem::Problem;

use crate::http::{self, Request};
use hawser_core::App;
use hawser_core::auth::credentials::Presented;
use hawser_core::domain::id::{ServerId, Sortable};
use hawser_core::domain::receipt::{PresentedToken, Receipt, Removed};
use hawser_core::domain::revocation::RevocationOutcome;
use hawser_core::domain::subject::{Subject, SubjectType};
use serde_json::{Map, Value, json};

/// Authenticates the caller before bad input is reported.
async fn admit<T>(
    app: &App,
    request: &Request,
    parsed: Result<T, Problem>,
) -> Result<(Presented, T), Problem> {
    let who = http::present(app, request).await?;
    match parsed {
        Ok(parsed) => Ok((who, parsed)),
        Err(problem) => {
            app.identify(who).await?;
            Err(problem)
        }
    }
}

/// The key by which a client names a request that is to be carried out once: visible characters, in quotes or without.
fn idempotency_key(request: &Request) -> Result<Option<String>, Problem> {
    let name = "Idempotency-Key";
    let mut sent = request.headers().get_all(name).iter();
    let (Some(value), more) = (sent.next(), sent.next()) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default().trim();
    let quoted = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    let key = quoted.unwrap_or(text);
    let is_visible = key.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
    if more.is_some() || !is_visible || !(1..=255).contains(&key.len()) {
        return Err(Problem::Invalid(name));
    }
    Ok(Some(key.to_owned()))
}

/// The value of a query parameter; an empty value counts as absent.
fn parameter(request: &Request, name: &'static str) -> Result<Option<String>, Problem> {
    let mut values = http::query(request)
        .into_iter()
        .filter(|(n, _)| n == name)
        .map(|(_, value)| value);
    match (values.next(), values.next()) {
        (value, None) => Ok(value.filter(|value| !value.is_empty())),
        _ => Err(Problem::Invalid(name)),
    }
}

/// A query parameter that is an integer from `least` to `most`.
fn number(
    request: &Request,
    name: &'static str,
    least: u64,
    most: u64,
    default: u64,
) -> Result<u64, Problem> {
    let Some(text) = parameter(request, name)? else {
        return Ok(default);
    };
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let number = text
        .parse()
        .ok()
        .filter(|n| digits && (least..=most).contains(n));
    number.ok_or(Problem::Invalid(name))
}

/// The server to which a list is limited, if the request names one.
fn server(request: &Request) -> Result<Option<ServerId>, Problem> {
    parameter(request, "serverId")?
        .map(|id| ServerId::parse_prefixed(&id).ok_or(Problem::Invalid("serverId")))
        .transpose()
}

/// The subject to which a list is limited, if the request names one.
fn subject(request: &Request) -> Result<Option<Subject>, Problem> {
    let (kind, id) = (
        parameter(request, "subjectType")?,
        parameter(request, "subjectId")?,
    );
    if kind.is_none() && id.is_none() {
        return Ok(None);
    }
    let kind = kind
        .and_then(|kind| SubjectType::parse(&kind))
        .ok_or(Problem::Invalid("subjectType"))?;
    Subject::new(kind, &id.unwrap_or_default())
        .map(Some)
        .ok_or(Problem::Invalid("subjectId"))
}

/// The cursor of a list: `next` of the previous page.
fn before(request: &Request) -> Result<Option<Sortable>, Problem> {
    parameter(request, "before")?
        .map(|id| Sortable::parse_ulid(&id).ok_or(Problem::Invalid("before")))
        .transpose()
}

/// The receipt object. It has the counts of what was removed once they are known.
pub fn present(receipt: &Receipt) -> Value {
    let mut object = Map::new();
    let mut set = |name: &str, value: Value| object.insert(name.to_owned(), value);
    set("id", receipt.id.as_str().into());
    if let Some(server) = receipt.server {
        set("serverId", server.prefixed().into());
    }
    match &receipt.removed {
        Removed::Credential { subject, source } => {
            set("kind", "disconnect".into());
            set("subjectId", subject.id().into());
            set("subjectType", subject.kind().as_str().into());
            set("authSource", source.as_str().into());
        }
        Removed::Subject { subject } => {
            set("kind", "offboard".into());
            set("subjectId", subject.id().into());
            set("subjectType", subject.kind().as_str().into());
        }
        Removed::Login {
            subject,
            login,
            client_id,
        } => {
            set("kind", "end-login".into());
            set("subjectId", subject.id().into());
            set("subjectType", subject.kind().as_str().into());
            set("loginId", login.ulid().into());
            set("clientId", client_id.as_str().into());
        }
        Removed::All { name } => {
            set("kind", "revoke-all".into());
            set("serverName", name.as_str().into());
        }
        Removed::Server { name, number } => {
            set("kind", "delete-server".into());
            set("serverName", name.as_str().into());
            set("serverNumber", (*number).into());
        }
    }
    set("actor", crate::truefoundry::subject(&receipt.actor));
    set(
        "state",
        match receipt {
            done if done.is_complete() => "complete",
            removing if removing.is_removing() => "removing",
            _ => "in_progress",
        }
        .into(),
    );
    set("createdAt", receipt.at.millis_z().into());
    if let Some(at) = receipt.changed_at.filter(|_| receipt.is_complete()) {
        set("completedAt", at.millis_z().into());
    }
    if let Some(counts) = receipt.counts {
        let with_logins = matches!(
            receipt.removed,
            Removed::Subject { .. } | Removed::Login { .. }
        );
        set("removed", http::removed(counts, with_logins));
    }
    // What issuers have said so far, and no word that none has said; a grant that is not counted is still being revoked.
    let said = receipt.outcomes;
    let outcomes: Map<String, Value> = RevocationOutcome::ALL
        .into_iter()
        .map(|outcome| (outcome, said.of(outcome)))
        .filter(|(_, grants)| *grants > 0)
        .map(|(outcome, grants)| (word(outcome).to_owned(), grants.into()))
        .collect();
    if !outcomes.is_empty() {
        set("outcomes", outcomes.into());
    }
    if !receipt.presented.is_empty() {
        set(
            "presented",
            receipt.presented.iter().map(presented).collect(),
        );
    }
    object.into()
}

/// The outcome of a revocation, as these responses spell it.
const fn word(outcome: RevocationOutcome) -> &'static str {
    match outcome {
        RevocationOutcome::Revoked => "revoked",
        RevocationOutcome::AlreadyInvalid => "alreadyInvalid",
        RevocationOutcome::Unsupported => "unsupported",
        RevocationOutcome::Failed => "failed",
        RevocationOutcome::Unknown => "unknown",
    }
}

/// One token's presentation at its issuer.
fn presented(one: &PresentedToken) -> Value {
    let mut object = json!({
        "token": one.token,
        "host": one.host,
        "httpStatus": one.status,
        "outcome": word(one.outcome),
        "attempts": one.attempts,
        "at": one.at.millis_z(),
    });
    if let Some(why) = one.why {
        object["reason"] = why.as_str().into();
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use hawser_core::domain::event::EventOutcome;

    #[test]
    fn receipts_and_the_audit_log_have_the_same_words() {
        for outcome in RevocationOutcome::ALL {
            let logged = serde_json::to_value(EventOutcome::from(outcome)).unwrap();
            assert_eq!(logged, word(outcome));
        }
    }
}
