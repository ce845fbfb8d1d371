//! The Kambrium contract, "Management API", under `/api/v1`. One file per endpoint; here is what they share: credentials,
//! the order of checks, who may use which connection, and the envelope of success.

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

/// What sets one call of this contract apart before it does its work: its scope, and its own two sentences.
#[derive(Debug)]
struct Call {
    scope: &'static str,
    /// Whether a credential that is bound to one connection may make it.
    bound: bool,
    /// Completes "You do not have permission to".
    purpose: &'static str,
    /// Completes "Failed to".
    failure: &'static str,
}

/// The scope of calls that change nothing.
const READ: &str = "mgmt.read";
/// The scope of calls that do; it does not imply [`READ`].
const WRITE: &str = "mgmt.write";
/// Both, on every connection of the tenant.
pub(crate) const ADMIN: &str = "mgmt.admin";

impl Call {
    /// Refuses a caller without the scope, or with a credential that is for something else (Kambrium 11, 13).
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

/// Credentials, then the scope, then the body's size, then what was found wrong in the request (Kambrium 1.1). The caller of
/// a sound request is settled by its first read, and [`Call::permit`] is asked then.
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

/// An `Authorization` header of another scheme counts as absent here, and so does an empty key (Kambrium 1).
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

/// What a number leads to, for a caller who may use it. To anyone else it leads nowhere, after the same lookup.
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

/// Whether a connection is the caller's own, or its to administer, and not outside what its credential is bound to
/// (Kambrium 11, 13).
fn reaches(caller: &Caller, connection: &Numbered) -> bool {
    let owned = connection.owner == *caller.subject() || caller.scopes.contains(ADMIN);
    owned && is_within_binding(caller, connection.number)
}

/// The value of the header that carries an api key.
fn filled(place: &ApiKeyHeader, api_key: &SecretString) -> SecretString {
    place
        .template
        .replace("{api_key}", api_key.expose_secret())
        .into()
}

fn is_within_binding(caller: &Caller, number: u64) -> bool {
    caller.bound_to.is_none_or(|bound| bound == number)
}

/// The envelope of every success; `data` is there even when it is null.
fn success(status: u16, data: impl Serialize, message: &str) -> Response<Body> {
    json(
        status,
        &json!({"success": true, "data": data, "message": message}),
    )
}
