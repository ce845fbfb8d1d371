//! The Kambrium contract, "Management API", under `/api/v1`. One file per endpoint; here is what they share:
//! credentials, the order of checks, who may use which connection, and the envelope of successful answers.

mod connection;
pub mod create_connection;
pub mod delete_connection;
mod fault;
mod fields;
pub mod finish_consent;
pub mod get_connection;
pub mod issue_token;
pub mod list_connections;
pub mod list_integrations;
pub mod list_tools;
mod number;
mod problem;
pub mod update_connection;

pub use problem::Problem;

use crate::http::{self, Authorization, BODY_LIMIT, Request, Response, json};
use fields::Faults;
use hawser_core::App;
use hawser_core::auth::Use;
use hawser_core::auth::credentials::Presented;
use hawser_core::domain::caller::Caller;
use hawser_core::domain::error::{Error, Unauthenticated};
use hawser_core::domain::server::{ApiKeyHeader, Numbered};
use hawser_core::operations::{Permitted, servers};
use lambda_http::Body;
use number::Number;
use problem::Refusal;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::json;

/// What distinguishes one call of this contract: its scope, and the words in its sentences.
#[derive(Debug)]
struct Call {
    scope: &'static str,
    /// Whether the call may be made with a credential that is bound to one connection.
    bound: bool,
    /// Completes "You do not have permission to".
    purpose: &'static str,
    /// Completes "Failed to".
    failure: &'static str,
}

/// The scope of calls that change nothing.
const READ: &str = "mgmt.read";
/// The scope of calls that change something. It does not imply [`READ`].
const WRITE: &str = "mgmt.write";
/// The scope that implies both, on every connection of the tenant.
pub(crate) const ADMIN: &str = "mgmt.admin";

impl Call {
    /// Refuses a caller without the scope, or with a credential bound to something else (Kambrium 11, 13).
    fn permit(&self, caller: &Caller) -> Result<(), Refusal> {
        let scoped = [self.scope, ADMIN]
            .iter()
            .any(|scope| caller.scopes.contains(*scope));
        if scoped && (self.bound || caller.bound_to.is_none()) {
            Ok(())
        } else {
            Err(Refusal::NotPermitted)
        }
    }
}

/// Checks the credentials, then the scope, then the body's size, then reports what is wrong in the request (Kambrium
/// 1.1). The caller of a valid request is authenticated by its first read, after which [`Call::permit`] checks the
/// scope.
async fn admit<T>(
    app: &App,
    request: &Request,
    call: &Call,
    parsed: Result<T, Refusal>,
) -> Result<(Presented, T), Refusal> {
    let who = present(app, request).await?;
    let small = http::body(request).len() <= BODY_LIMIT;
    let parsed = if small {
        parsed
    } else {
        Err(Refusal::BodyTooLarge)
    };
    match parsed {
        Ok(parsed) => Ok((who, parsed)),
        Err(refusal) => {
            call.permit(&app.identify(who).await?)?;
            Err(refusal)
        }
    }
}

/// The credentials of a request. An `Authorization` header of another scheme, and an empty key, count as absent
/// (Kambrium 1).
async fn present(app: &App, request: &Request) -> hawser_core::Result<Presented> {
    let key = || http::header(request, "x-api-key").filter(|key| !key.is_empty());
    if let Some(Authorization::Bearer(token)) = http::authorization(request) {
        app.present_token(&token, Use::Management).await
    } else if let Some(key) = key() {
        Ok(Presented::api_key(&key)?)
    } else {
        Err(Unauthenticated::Missing.into())
    }
}

/// The connection a path names.
fn number(request: &Request) -> Result<Number, Refusal> {
    let mut faults = Faults::default();
    let number = faults.number(request);
    faults.into_result(number)
}

/// The connection with a number, for a caller who may use it. For others it does not exist, after the same lookup.
async fn find(
    app: &App,
    who: Presented,
    call: &Call,
    number: Number,
) -> Result<Permitted<Numbered>, Refusal> {
    let found = servers::find_number(app, who, number.registered()).await?;
    let permitted = found.permit(|caller, found| {
        call.permit(caller)?;
        match found {
            Some(found) if !reaches(caller, found) => Err(Refusal::Domain(Error::ServerNotFound)),
            _ => Ok(()),
        }
    })?;
    Ok(permitted.existing()?)
}

/// Whether a caller may use a connection: it is the caller's own, or the caller administers the tenant, and the
/// credential is not bound to another connection (Kambrium 11, 13).
fn reaches(caller: &Caller, connection: &Numbered) -> bool {
    let owned = connection.owner == *caller.subject() || caller.scopes.contains(ADMIN);
    owned && is_within_binding(caller, connection.number)
}

/// The value of the header that carries an API key.
fn filled(place: &ApiKeyHeader, api_key: &SecretString) -> SecretString {
    place
        .template
        .replace("{api_key}", api_key.expose_secret())
        .into()
}

fn is_within_binding(caller: &Caller, number: u64) -> bool {
    caller.bound_to.is_none_or(|bound| bound == number)
}

/// The envelope of every successful answer. `data` is present even when it is null.
fn success(status: u16, data: impl Serialize, message: &str) -> Response<Body> {
    json(
        status,
        &json!({"success": true, "data": data, "message": message}),
    )
}
